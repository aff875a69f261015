//! `just bench`: what seawall does and what it takes, beside yardsticks that anybody can check.
//!
//! Each figure and its yardstick take turns in the same run, or run at the same time, because the machine may be
//! shared. Nothing here is held to a limit.

use std::fs;
use std::path::Path;

mod bare;
mod http;
mod influx;
mod large;
mod process;
mod queries;
mod recorder;
mod resources;
mod sampling;
mod sockets;
mod stops;
#[path = "../tests/support/mod.rs"]
mod support;
mod table;
mod throughput;

type Part = (&'static str, fn(&Path));

const PARTS: [Part; 7] = [
    ("throughput", throughput::measure),
    ("influx", influx::measure),
    ("stops", stops::measure),
    ("sockets", sockets::measure),
    ("http", http::measure),
    ("resources", resources::measure),
    ("sampling", sampling::measure),
];

/// With `--large`: these take many minutes, and gigabytes.
const LARGE_PARTS: [Part; 4] = [
    ("large", large::append),
    ("start", large::start),
    ("recovery", large::recover),
    ("queries", queries::measure),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("bare", rest)) = arguments
        .split_first()
        .map(|(first, rest)| (&**first, rest))
    {
        return bare::main(rest);
    }
    let is_given = |name: &str| arguments.iter().any(|argument| argument == name);
    // `cargo test --benches` only wants to know that this builds and runs.
    if !is_given("--bench") {
        return;
    }
    let parts: &[Part] = if is_given("--large") {
        &LARGE_PARTS
    } else {
        &PARTS
    };
    // `just bench sockets` measures only these.
    let is_one_named = arguments.iter().any(|argument| !argument.starts_with("--"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    table::head();
    for (name, measure) in parts {
        if is_given(name) || !is_one_named {
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).expect("make a folder");
            measure(&folder);
        }
    }
    let _ = fs::remove_dir_all(&folder);
}

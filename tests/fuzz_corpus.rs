//! Guards against a parser that panics, hangs, or gives back another value than it was given. The inputs are
//! those by which the fuzzers of `just fuzz` reached new code, and every one that ever found a fault.

#[path = "fuzz/properties.rs"]
mod properties;
use std::fs;
use std::path::Path;

fn replay(target: &str, property: fn(&[u8])) {
    /// A folder that is not found, or was emptied, tests nothing.
    const INPUTS_MIN: usize = 10;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target);
    let mut inputs: Vec<_> = fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.unwrap().path())
        .collect();
    inputs.sort();
    assert!(inputs.len() >= INPUTS_MIN, "{} inputs", inputs.len());
    for path in inputs {
        let data = fs::read(&path).unwrap();
        // The name of the input that fails stands in the failure.
        let result = std::panic::catch_unwind(|| property(&data));
        assert!(
            result.is_ok(),
            "{}: {}",
            path.display(),
            data.escape_ascii()
        );
    }
}

#[test]
fn lines_come_back_as_they_were_written() {
    replay("line", properties::line);
}

#[test]
fn a_stream_says_the_same_however_it_is_cut() {
    replay("stream", properties::stream);
}

#[test]
fn settings_come_back_as_they_were_written() {
    replay("settings", properties::settings);
}

#[test]
fn numbers_come_back_as_they_were_written() {
    replay("number", properties::number);
}

#[test]
fn requests_are_answered_the_same_however_they_are_cut() {
    replay("http", properties::http);
}

#[test]
fn gzip_inflates_to_the_same_however_it_is_cut() {
    replay("inflate", properties::inflate);
}

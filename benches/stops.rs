//! How long a stop takes at full load, from SIGTERM to the exit, beside a write and sync of one page in turn.

use std::path::Path;

use super::bare::Pages;
use super::recorder::Recorder;
use super::table;

const STOPS: usize = 200;

pub fn measure(folder: &Path) {
    let mut pages = Pages::new(folder);
    let (mut syncs, mut stops, mut checkpoints) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STOPS {
        syncs.push(pages.sync_one());
        let (stop, checkpoint) = stop_at_full_load(folder);
        stops.push(stop);
        checkpoints.push(checkpoint);
    }
    let syncs = ("write and fdatasync of one page", &*syncs);
    let named = format!("SIGTERM to exit at full load, {STOPS} times");
    table::percentiles(&[50, 99], "ms", (&named, &stops), syncs);
    table::percentiles(
        &[50, 99],
        "ms",
        ("of that, the last checkpoint", &checkpoints),
        syncs,
    );
}

/// Milliseconds from SIGTERM to the exit, while readings come as fast as they are taken, and how many of them
/// the last checkpoint took, which is mostly its syncs.
fn stop_at_full_load(folder: &Path) -> (f64, f64) {
    let recorder = Recorder::start(&folder.join("stop.db"), &["--source", "sim:rate=max"]);
    // After two automatic checkpoints it is in full swing.
    recorder.wait_for("autocheckpoint");
    recorder.wait_for("autocheckpoint");
    let stopped = recorder.discard();
    let checkpoint = stopped
        .log
        .iter()
        .find(|line| line.contains("cause=stop"))
        .and_then(|line| line.split("ms=").nth(1)?.split(' ').next()?.parse().ok());
    (stopped.ms, checkpoint.expect("a last checkpoint"))
}

//! What the tests of recording share: recordings that run to their end, and the events of their logs.

use std::collections::BTreeMap;
use std::path::Path;

use super::stop::*;
use super::*;

/// Stops it by SIGTERM, and holds it to everything that a stop with status 0 promises.
pub fn stop(db: &Path, running: Running) -> (Stopped, Ended) {
    let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    (assert_stopped(db, &ended, 0, "SIGTERM"), ended)
}

/// Records until all sources have ended.
pub fn record_all(db: &Path, options: &str) -> Stopped {
    let ended = record_at_once(db, options).wait();
    assert_stopped(db, &ended, 0, "eof")
}

pub fn events(log: &[String], event: &str) -> Vec<BTreeMap<String, String>> {
    let wanted = format!(" event={event} ");
    let lines = log.iter().filter(|line| line.contains(&wanted));
    lines
        .map(|line| fields(line).into_iter().collect())
        .collect()
}

pub fn number(event: &BTreeMap<String, String>, key: &str) -> u64 {
    event[key]
        .parse()
        .unwrap_or_else(|_| panic!("{key} in {event:?}"))
}

pub fn times(db: &Path, sensor: &str) -> Vec<i64> {
    let query =
        format!("SELECT time_ns FROM sensor_readings WHERE sensor = '{sensor}' ORDER BY id");
    sql(db, &query)
        .lines()
        .map(|time| time.parse().unwrap())
        .collect()
}

/// By how much a time may be off its place in the schedule, and still be exact.
pub const EXACT_NS: i64 = 30_000;

pub fn is_exact(pair: &[i64], period_ns: i64) -> bool {
    (pair[1] - pair[0] - period_ns).abs() <= EXACT_NS
}

/// Each reading has the time of its place in the schedule, however late it was taken or committed. The wall
/// clock may be slewed meanwhile, by at most 0.1 %. And the recorder looks at two clocks, one after the
/// other, between which it may have to wait for a processor; that is seen now and then on a busy machine.
pub fn assert_on_schedule(times: &[i64], period_ns: i64) {
    let wrong = times
        .windows(2)
        .filter(|pair| !is_exact(pair, period_ns))
        .count();
    assert!(
        wrong <= 4 + times.len() / 50,
        "{wrong} of {} are not exact",
        times.len()
    );
    let middle = |places: std::ops::Range<usize>| {
        let mut off: Vec<i64> = places.map(|n| times[n] - n as i64 * period_ns).collect();
        off.sort();
        off[off.len() / 2]
    };
    let (begin, end) = (middle(0..15), middle(times.len() - 15..times.len()));
    let span = times.len() as i64 * period_ns;
    assert!(
        (end - begin).abs() < span / 1000 + EXACT_NS,
        "{} ns off after {span} ns",
        end - begin
    );
}

/// Places in the schedule from the first of these readings to the last.
pub fn places(times: &[i64], period_ns: i64) -> u64 {
    // Counted between two that are exact.
    let a = times
        .windows(2)
        .position(|pair| is_exact(pair, period_ns))
        .unwrap();
    let b = times
        .windows(2)
        .rposition(|pair| is_exact(pair, period_ns))
        .unwrap()
        + 1;
    let between = (times[b] - times[a] + period_ns / 2) / period_ns + 1;
    between as u64 + (a + times.len() - 1 - b) as u64
}

/// At most a few lines of one kind in any one second.
pub fn assert_few_a_second(events: &[BTreeMap<String, String>]) {
    const FEW: usize = 10;
    let mut by_second = BTreeMap::new();
    for event in events {
        *by_second.entry(&event["ts"][..19]).or_insert(0) += 1;
    }
    assert!(by_second.values().all(|&n| n <= FEW), "{by_second:?}");
}

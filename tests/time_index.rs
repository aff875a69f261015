//! Guards against a reading that is there and is not found by its time: the sparse index says too little
//! of backfilled readings, of those after its last row, or after a kill.

use std::path::Path;

use crate::support::{Dir, Running, assert_sound, seawall, sql};

/// As docs/database.md has it, for a window of nanoseconds.
fn window(db: &Path, since: i64, until: i64) -> (i64, i64) {
    let found = sql(
        db,
        &format!(
            "SELECT count(*), coalesce(sum(r.id), 0)
             FROM spans_to_now AS s CROSS JOIN readings AS r ON r.id BETWEEN s.first_id AND s.last_id
             WHERE s.newest_ns >= {since} AND s.oldest_ns < {until}
             AND r.time_ns >= {since} AND r.time_ns < {until}"
        ),
    );
    pair(&found)
}

fn scan(db: &Path, since: i64, until: i64) -> (i64, i64) {
    pair(&sql(
        db,
        &format!(
            "SELECT count(*), coalesce(sum(id), 0) FROM readings
             WHERE time_ns >= {since} AND time_ns < {until}"
        ),
    ))
}

/// By the command, whose times have to be seconds.
fn exported(db: &Path, since: i64, until: i64) -> (i64, i64) {
    let time = |ns: i64| {
        let seconds = ns / 1_000_000_000;
        let query = format!("SELECT strftime('%Y-%m-%dT%H:%M:%SZ', {seconds}, 'unixepoch')");
        sql(db, &query)
    };
    let (since, until) = (time(since), time(until));
    let db = db.to_str().unwrap();
    let limits = ["--since", &since, "--until", &until];
    let (code, out, err) = seawall(&[&["export", "--db", db], &limits[..]].concat());
    assert_eq!(code, 0, "{err}");
    let ids = out.lines().skip(1).map(|line| {
        let id = line.split(',').nth(1).unwrap();
        id.parse::<i64>().expect(line)
    });
    ids.fold((0, 0), |(count, sum), id| (count + 1, sum + id))
}

fn pair(found: &str) -> (i64, i64) {
    let (count, sum) = found.split_once('|').unwrap();
    (count.parse().unwrap(), sum.parse().unwrap())
}

/// Readings a second apart, and each hundredth from a day before.
fn lines(from: i64, to: i64) -> String {
    (from..to)
        .map(|n| {
            let late = if n % 100 == 7 { 86_400 } else { 0 };
            format!("m v={n} {}\n", (1_700_000_000 + n - late) * 1_000_000_000)
        })
        .collect()
}

fn record(db: &Path) -> Running {
    Running::start(&[
        "record",
        "--db",
        db.to_str().unwrap(),
        "--source=stdin",
        "--ack",
        "--commit-rows=777",
    ])
}

#[test]
fn every_reading_is_found_by_its_time_also_late_ones_and_after_a_kill() {
    let dir = Dir::new("time-index");
    let db = dir.file("x.db");
    let mut next = 0;
    for n in [3_000, 2_000, 9_000, 1] {
        let mut recorder = record(&db);
        recorder.send(lines(next, next + n).as_bytes());
        next += n;
        crate::support::until("all is acked", || {
            (recorder.acked() == n as u64).then_some(())
        });
        recorder.kill();
    }
    assert_eq!(sql(&db, "SELECT count(*) FROM spans"), "3");
    let at = |n: i64| (1_700_000_000 + n) * 1_000_000_000;
    for (since, until) in [
        (at(0), at(next)),
        (at(4_000), at(4_100)),
        (at(13_900), at(14_001)),
        (at(5_000 - 86_400), at(6_000 - 86_400)),
        (at(next), at(next + 9)),
        (at(-200_000), at(200_000)),
    ] {
        assert_eq!(window(&db, since, until), scan(&db, since, until));
        assert_eq!(exported(&db, since, until), scan(&db, since, until));
    }
    assert_eq!(window(&db, at(0), at(next)).0, next - next / 100);
    assert_sound(&db);
}

#[test]
fn an_index_that_is_not_true_is_found_by_check() {
    let dir = Dir::new("time-index-lies");
    let db = dir.file("x.db");
    let mut recorder = record(&db);
    recorder.send(lines(0, 13_000).as_bytes());
    recorder.close_stdin();
    assert_eq!(recorder.wait().code(), 0);
    for (breaks, told) in [
        (
            "UPDATE spans SET newest_ns = newest_ns - 1 WHERE first_id = 4097",
            "the span of readings 4097 to 8192 does not have their times",
        ),
        (
            "UPDATE spans SET oldest_ns = oldest_ns + 1 WHERE first_id = 8193",
            "the span of readings 8193 to 12288 does not have their times",
        ),
        (
            "DELETE FROM spans WHERE first_id = 4097",
            "the span of readings 8193 to 12288 does not follow the one before it",
        ),
        (
            "DELETE FROM spans WHERE first_id = 1",
            "reading 1 is in no span",
        ),
        (
            "INSERT INTO spans VALUES(20000, 30000, 1, 2, 0, 0)",
            "the span of readings 20000 to 30000",
        ),
    ] {
        let copy = dir.file("broken.db");
        std::fs::copy(&db, &copy).unwrap();
        sql(&copy, breaks);
        let (code, out, _) = seawall(&["check", "--db", copy.to_str().unwrap()]);
        assert_eq!(code, 1, "{breaks}: {out}");
        assert!(out.contains(told), "{breaks}: {out}");
    }
}

#[test]
fn where_spans_were_taken_away_from_the_new_end_recording_goes_on_and_check_reports_it() {
    let dir = Dir::new("time-index-again");
    let db = dir.file("x.db");
    for n in 0..2 {
        let mut recorder = record(&db);
        recorder.send(lines(n * 13_000, (n + 1) * 13_000).as_bytes());
        recorder.close_stdin();
        assert_eq!(recorder.wait().code(), 0);
        if n == 0 {
            sql(&db, "DELETE FROM spans WHERE first_id > 1");
        }
    }
    // One long span took their place, whose fingerprint nobody has any more.
    let spans = "SELECT group_concat(first_id || '-' || last_id) FROM spans WHERE first_id < 13000";
    assert_eq!(sql(&db, spans), "1-4096,4097-13001");
    let (since, until) = (0, i64::MAX);
    assert_eq!(window(&db, since, until), scan(&db, since, until));
    let (code, out, _) = seawall(&["check", "--db", db.to_str().unwrap()]);
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains("a reading of 4097 to 13001 is not as it was recorded"),
        "{out}"
    );
}

//! Guards against a clock that is set, or was never set: readings refused for their time, ids that follow
//! the clock, a ledger that no longer adds up.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::shim::Shim;
use crate::support::{
    BINARY, Dir, Running, assert_sound, count, fields, record_lines, seawall, sql, until,
};

const HOUR_S: i64 = 3600;

fn start(db: &Path, shim: &Shim) -> Running {
    let mut command = Command::new(BINARY);
    command.args(["--db", db.to_str().unwrap(), "--source", "sim:rate=100"]);
    command.args(["--commit-interval", "5ms"]);
    shim.preload(&mut command);
    let run = Running::spawn(&mut command);
    run.wait_for("ready");
    run
}

fn records(db: &Path, more: u64) -> u64 {
    let before = count(db);
    until("it records", || {
        Some(count(db)).filter(|n| *n > before + more)
    })
}

/// The steps of a run, whole seconds of them: what lies between the two looks is real time.
fn steps(db: &Path, run: u64) -> Vec<(u64, i64)> {
    let query =
        format!("SELECT after_id, step_ns FROM clock_steps WHERE run = {run} ORDER BY rowid");
    let rows = sql(db, &query);
    let rows = rows.lines().map(|row| {
        let (after, step) = row.split_once('|').unwrap();
        let step_ns: i64 = step.parse().unwrap();
        (
            after.parse().unwrap(),
            (step_ns + 500_000_000).div_euclid(1_000_000_000),
        )
    });
    rows.collect()
}

/// The seconds from one reading to the next.
fn leap_after(db: &Path, id: u64) -> i64 {
    let query = format!(
        "SELECT (SELECT min(time_ns) FROM readings WHERE id = {id} + 1) - time_ns FROM readings WHERE id = {id}"
    );
    let ns: i64 = sql(db, &query).parse().unwrap();
    (ns + 500_000_000).div_euclid(1_000_000_000)
}

#[test]
fn a_clock_set_forward_and_back_while_recording_is_noted_and_harms_nothing() {
    let dir = Dir::new("clock");
    let db = dir.file("x.db");
    let shim = Shim::make("clock");
    let run = start(&db, &shim);
    let first = records(&db, 20);
    shim.set(HOUR_S);
    until("the step is told", || (told(&run).len() == 1).then_some(()));
    let second = records(&db, 20);
    shim.set(-HOUR_S);
    until("both steps are told", || {
        (told(&run).len() == 2).then_some(())
    });
    let third = records(&db, 20);
    assert_eq!(told(&run), [HOUR_S, -2 * HOUR_S]);
    let ended = run.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    assert_eq!(ended.stopped()["dropped"], "0");

    let noted = steps(&db, 1);
    let seconds: Vec<_> = noted.iter().map(|(_, step)| *step).collect();
    assert_eq!(seconds, [HOUR_S, -2 * HOUR_S]);
    assert!(first <= noted[0].0 && noted[0].0 < second, "{noted:?}");
    assert!(second <= noted[1].0 && noted[1].0 < third, "{noted:?}");
    for (after, step) in noted {
        // The step stands where the readings' times make it.
        assert_eq!(leap_after(&db, after), step);
    }
    assert_sound(&db);
    // And what comes later goes on from there.
    let run = start(&db, &shim);
    records(&db, 10);
    assert_eq!(run.stop(libc::SIGTERM).code(), 0);
    assert_eq!(steps(&db, 2), []);
    assert_sound(&db);
}

fn told(run: &Running) -> Vec<i64> {
    let log = run.log();
    let lines = log.iter().filter(|line| line.contains(" event=clock-set "));
    lines
        .map(|line| fields(line)["seconds"].parse::<f64>().unwrap().round() as i64)
        .collect()
}

/// Many devices start in 1970, and some before.
#[test]
fn a_start_before_1971_records_and_the_clock_may_be_set_later() {
    let now_s = unix_s();
    for (began_s, year) in [(86_400, "1970-01-02T"), (-86_400, "1969-12-31T")] {
        let dir = Dir::new("clock");
        let db = dir.file("x.db");
        let shim = Shim::make("clock");
        shim.set(began_s - now_s);
        let run = start(&db, &shim);
        let before = records(&db, 10);
        let times = sql(
            &db,
            "SELECT timestamp, time_ns FROM sensor_readings WHERE id = 1",
        );
        let (timestamp, time_ns) = times.split_once('|').unwrap();
        assert!(
            timestamp.starts_with(year) && timestamp.ends_with('Z'),
            "{times}"
        );
        assert_eq!(time_ns.parse::<i64>().unwrap() < 0, began_s < 0, "{times}");
        // The log's own time is no worse.
        assert!(
            run.log()[0].starts_with(&format!("ts={year}")),
            "{:?}",
            run.log()
        );
        shim.set(0);
        until("the step is told", || {
            (!told(&run).is_empty()).then_some(())
        });
        records(&db, 10);
        let ended = run.stop(libc::SIGTERM);
        assert_eq!(ended.code(), 0, "{:#?}", ended.log);
        let noted = steps(&db, 1);
        assert_eq!(noted.len(), 1, "{noted:?}");
        assert!(noted[0].0 >= before && (noted[0].1 - (now_s - began_s)).abs() <= 1);
        assert_sound(&db);
    }
}

/// A kill and the next start with the clock behind: the runs stand in order, and their times as they were.
#[test]
fn a_start_with_the_clock_behind_the_run_before_recovers_it() {
    let dir = Dir::new("clock");
    let db = dir.file("x.db");
    let shim = Shim::make("clock");
    let run = start(&db, &shim);
    let readings = records(&db, 20);
    run.kill();
    shim.set(-30 * 365 * 24 * HOUR_S);
    let run = start(&db, &shim);
    assert!(run.wait_for("recovered").contains(" reason=unclean "));
    assert!(records(&db, 20) > readings);
    let ended = run.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    let order = sql(
        &db,
        "SELECT group_concat(id, ' ') FROM runs WHERE started_ns > 0",
    );
    assert_eq!(order, "1 2");
    let (code, out, _) = seawall(&["check", "--full", "--db", db.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains(" runs=2 unclean=1"), "{out}");
}

/// Unix time in whole seconds.
fn unix_s() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs() as i64
}

/// Readings of the last hours, on which recorders have run for two days since.
fn two_days_old(db: &Path) {
    let now_ns = unix_s() * 1_000_000_000;
    let lines: String = (0..5_000)
        .map(|n| format!("m v={n} {}\n", now_ns - n * 1_000_000_000))
        .collect();
    record_lines(db, &lines);
    // A start gives them a span, with the running time of then.
    let path = db.to_str().unwrap();
    let more = ["--db", path, "--retain=30d", "--source=sim:count=1"];
    assert_eq!(Running::start(&more).wait().code(), 0);
    sql(db, "UPDATE runs SET running_s = running_s + 2 * 86400");
}

#[test]
fn a_clock_that_was_set_deletes_nothing_and_readings_go_once_it_is_trusted() {
    const AHEAD_S: i64 = 40 * 86_400;
    let dir = Dir::new("clock-retain");
    let db = dir.file("x.db");
    two_days_old(&db);
    let shim = Shim::make("clock");
    let start = || {
        let mut command = Command::new(BINARY);
        command.args(["--db", db.to_str().unwrap(), "--retain=30d"]);
        command.args(["--source=sim", "--commit-interval=5ms"]);
        shim.preload(&mut command);
        let run = Running::spawn(&mut command);
        run.wait_for("ready");
        run
    };
    let stop = |run: Running| assert_eq!(run.stop(libc::SIGTERM).code(), 0);
    // It is set while recording, then back.
    let run = start();
    shim.set(AHEAD_S);
    run.wait_for("expiry-waiting");
    shim.set(0);
    std::thread::sleep(Duration::from_millis(1_500)); // the pause is the test
    stop(run);
    // It is ahead at a start, and stays so.
    sql(&db, "UPDATE runs SET steady_from_s = 0");
    shim.set(AHEAD_S);
    let run = start();
    let told = run.wait_for("expiry-waiting");
    assert!(
        told.contains("for a day with a clock that is not set"),
        "{told}"
    );
    stop(run);
    assert!(count(&db) >= 5_000);
    assert_sound(&db);
    // A day of it is enough.
    sql(&db, "UPDATE runs SET running_s = running_s + 86400");
    let run = start();
    until("the old ones have gone", || {
        (sql(&db, "SELECT min(id) > 5000 FROM readings") == "1").then_some(())
    });
    stop(run);
    assert_sound(&db);
}

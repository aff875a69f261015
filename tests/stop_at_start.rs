//! A stop that comes while the recorder starts: in time, and the file is whole.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::support::stop::*;
use crate::support::*;

#[test]
fn a_stop_at_any_moment_of_the_start_leaves_a_whole_file() {
    const ROUNDS: u32 = 40;
    let mut rng = fastrand::Rng::with_seed(seed());
    let dir = Dir::new("start");
    let (mut db, mut before_ready) = (dir.file("start-0.db"), 0);
    for round in 0..ROUNDS {
        if round % 4 == 0 {
            db = dir.file(&format!("start-{round}.db"));
        }
        let (signal, name) = SIGNALS[round as usize % SIGNALS.len()];
        let running = record_at_once(&db, "--source stdin");
        running.wait_until_handled(signal);
        thread::sleep(Duration::from_micros(rng.u64(0..15_000))); // the pause is the test
        let ended = running.stop_within(signal, STOP_TIMEOUT);
        before_ready += u32::from(!ended.has(" event=ready "));
        assert_eq!(ended.code(), 0, "{:#?}", ended.log);
        assert_last_line(&ended.log, name);
        assert_one_file(&db);
        if round % 4 == 3 {
            assert_stopped(&db, &ended, 0, name);
            assert_eq!(
                sql(
                    &db,
                    "SELECT count(*) FROM runs WHERE reason NOT LIKE 'SIG%'"
                ),
                "0"
            );
        }
    }
    assert!(before_ready > 0, "every stop came after the start");
}

/// A database with a large `-wal` and an open run, as a kill leaves it; and its readings.
fn killed_with_a_large_wal(dir: &Dir) -> (PathBuf, u64) {
    const WAL_BYTES: u64 = 24 << 20;
    let db = dir.file("killed.db");
    let options = "--source sim:rate=max --wal-autocheckpoint 0 --checkpoint-interval 0";
    let running = record(&db, options);
    until("the -wal is large", || {
        (fs::metadata(beside(&db, "-wal")).ok()?.len() >= WAL_BYTES).then_some(())
    });
    running.signal(libc::SIGKILL);
    running.wait();
    let copy = dir.file("counted.db");
    copy_with_wal(&db, &copy);
    let readings = count(&copy);
    (db, readings)
}

#[test]
fn a_stop_while_a_large_wal_is_recovered_loses_nothing() {
    const ROUNDS: u32 = 6;
    let mut rng = fastrand::Rng::with_seed(seed());
    let dir = Dir::new("recovery");
    let (killed, readings) = killed_with_a_large_wal(&dir);
    let mut before_ready = 0;
    for round in 0..ROUNDS {
        let db = dir.file(&format!("recovery-{round}.db"));
        copy_with_wal(&killed, &db);
        let running = record_at_once(&db, "--source stdin --stop-timeout 60s");
        running.wait_until_handled(libc::SIGTERM);
        thread::sleep(Duration::from_micros(rng.u64(0..60_000))); // the pause is the test
        let ended = running.stop_within(libc::SIGTERM, Duration::from_secs(60));
        before_ready += u32::from(!ended.has(" event=ready "));
        assert_stopped(&db, &ended, 0, "SIGTERM");
        assert!(ended.has(&format!(
            " event=recovered run=1 reason=unclean readings={readings}"
        )));
        assert_eq!(count(&db), readings);
        fs::remove_file(&db).unwrap();
    }
    assert!(before_ready > 0, "every stop came after the start");
}

#[test]
fn a_stop_while_the_start_waits_for_a_lock_is_in_time() {
    for killed in [false, true] {
        let dir = Dir::new("start-lock");
        let db = dir.file("start-lock.db");
        let mut running = record(&db, "--source stdin --ack --commit-interval 10ms");
        running.send(&lines(0..1));
        running.wait_for_ack(1);
        running.stop(if killed { libc::SIGKILL } else { libc::SIGTERM });
        let writer = Holder::start(&db, WRITER);
        let running = record_at_once(&db, "--source stdin --stop-timeout 1s");
        running.wait_until_handled(libc::SIGTERM);
        let ended = running.stop_within(libc::SIGTERM, Duration::from_secs(1));
        // It could not do it; nothing was accepted, and nothing is said of frames that it never saw.
        assert_eq!(ended.code(), 1, "{:#?}", ended.log);
        // The signal came first, or the attempt ended first.
        let error = ended.has(" event=stopped reason=error ");
        let last = assert_last_line(&ended.log, if error { "error" } else { "SIGTERM" });
        assert_eq!((last.committed, last.uncommitted), (0, 0));
        writer.release();
        assert_sound(&db);
        assert_holds_first(&db, 1);
    }
}

#[test]
fn a_stop_before_the_file_could_be_opened_is_no_success() {
    let dir = Dir::new("unopened");
    let db = dir.file("x.db");
    start(&db, &["--source", "sim:count=5"]).wait();
    let writer = Holder::start(&db, "BEGIN EXCLUSIVE");
    // The second signal does not wait for what is not there.
    let run = start(&db, &["--busy-timeout", "1h", "--stop-timeout", "1h"]);
    until("it handles signals", || handles(run.pid()).then_some(()));
    run.signal(libc::SIGTERM);
    until("the first is heard", || {
        run.log()
            .iter()
            .any(|l| l.contains("event=stopping"))
            .then_some(())
    });
    run.signal(libc::SIGTERM);
    let ended = run.wait();
    assert_eq!(ended.code(), 1, "{:#?}", ended.log);
    writer.release();
    assert_sound(&db);
}

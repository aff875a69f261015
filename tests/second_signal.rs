//! A second signal: ends the wait for the checkpoint, and never that for a commit.

use std::thread;
use std::time::Duration;

use crate::support::stop::*;
use crate::support::*;

#[test]
fn a_second_signal_ends_the_wait_for_a_reader() {
    let dir = Dir::new("second");
    let db = dir.file("second.db");
    let (running, reader) = stopping_beside_a_reader(&db);
    let ended = running.stop_within(libc::SIGINT, STOP_TIMEOUT);
    let last = assert_stopped(&db, &ended, 3, "SIGTERM");
    assert_frames_remain(&db, &last);
    assert_eq!(ended.acked(), 200);
    assert_holds_first(&db, 200);
    reader.release();
}

#[test]
fn a_second_signal_does_not_drop_a_commit_that_waits_for_a_lock() {
    let dir = Dir::new("second-commit");
    let db = dir.file("second-commit.db");
    let options = "--stop-timeout 10m --busy-timeout 100ms";
    let mut running = record(&db, &format!("{AWAITED_WITHOUT_COMMITS} {options}"));
    let writer = Holder::start(&db, WRITER);
    running.send(&lines(0..100));
    running.wait_until_read();
    running.signal(libc::SIGTERM);
    running.wait_for("commit-waiting");
    for _ in 0..3 {
        running.signal(libc::SIGTERM);
        running.wait_until_heard(libc::SIGTERM);
    }
    assert!(!running.has_ended());
    writer.release();
    let (ended, _) = running.wait_timed();
    // How far the checkpoint came before the hurry was heard is open, and it may come to its end while the
    // last line is written; that nothing is lost is not.
    let status = ended.code();
    assert!([0, 3].contains(&status), "{status} {:#?}", ended.log);
    if status == 0 {
        assert_stopped(&db, &ended, 0, "SIGTERM");
    }
    let last = assert_last_line(&ended.log, "SIGTERM");
    assert_eq!(
        (last.committed, last.uncommitted, ended.acked()),
        (100, 0, 100)
    );
    assert_sound(&db);
    assert_holds_first(&db, 100);
}

#[test]
fn a_second_signal_at_any_moment_of_the_stop_loses_nothing() {
    const ROUNDS: u64 = 40;
    let mut rng = fastrand::Rng::with_seed(seed());
    let dir = Dir::new("twice");
    let db = dir.file("twice.db");
    let mut hurried = 0;
    for round in 0..ROUNDS {
        let mut running = record(&db, AWAITED_WITHOUT_COMMITS);
        // Beside a reader a stop takes as long as it may.
        let reader = (round % 4 == 0).then(|| Holder::start(&db, READER));
        let most_us = if reader.is_some() { 300_000 } else { 8_000 };
        running.send(&lines(round * 50..(round + 1) * 50));
        running.wait_until_read();
        running.signal(libc::SIGTERM);
        thread::sleep(Duration::from_micros(rng.u64(0..most_us))); // the pause is the test
        running.try_signal(libc::SIGTERM);
        let (ended, took) = running.wait_timed();
        assert!(took <= STOP_TIMEOUT, "{took:?}");
        assert_eq!(ended.acked(), 50);
        let status = ended.code();
        assert!([0, 3].contains(&status), "{status} {:#?}", ended.log);
        let last = assert_last_line(&ended.log, "SIGTERM");
        assert_eq!(
            (last.committed, last.uncommitted),
            (50, 0),
            "{:#?}",
            ended.log
        );
        // The writer may still finish its checkpoint while the last line is written, not the reverse.
        if status == 0 {
            assert_one_file(&db);
        } else if reader.is_some() {
            assert!(last.wal_frames > 0, "{:#?}", ended.log);
        }
        hurried += u32::from(status == 3);
        drop(reader);
    }
    println!("{hurried} of {ROUNDS} left before the end of the checkpoint");
    assert!(hurried > 0);
    // The next start finishes their job.
    let ended = record(&db, "--source stdin").stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_stopped(&db, &ended, 0, "SIGTERM");
    assert_holds_first(&db, ROUNDS * 50);
}

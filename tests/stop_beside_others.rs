//! A stop beside readers and writers of other processes: in time, and nothing that they hold up is hidden.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::stop::*;
use crate::support::*;

/// Stops a recorder while a reader holds a snapshot from before the last of 200 acked lines.
fn stopped_beside_a_reader(db: &Path, timeout: Duration) -> Holder {
    let timeout_ms = timeout.as_millis();
    let options =
        format!("--source stdin --ack --commit-interval 10ms --stop-timeout {timeout_ms}ms");
    let mut running = record(db, &options);
    running.send(&lines(0..100));
    running.wait_for_ack(100);
    let reader = Holder::start(db, READER);
    running.send(&lines(100..200));
    running.wait_for_ack(200);
    let ended = running.stop_within(libc::SIGTERM, timeout);
    let last = assert_stopped(db, &ended, 3, "SIGTERM");
    assert_frames_remain(db, &last);
    reader
}

#[test]
fn a_stop_beside_a_reader_is_in_time_and_both_files_hold_everything() {
    let dir = Dir::new("reader");
    let db = dir.file("reader.db");
    let reader = stopped_beside_a_reader(&db, Duration::from_secs(2));
    let copy = dir.file("copy.db");
    copy_with_wal(&db, &copy);
    assert_holds_first(&copy, 200);
    assert_sound(&copy);
    reader.release();
}

#[test]
fn the_next_start_finishes_the_checkpoint_that_a_reader_blocked() {
    let dir = Dir::new("next-start");
    let db = dir.file("next-start.db");
    stopped_beside_a_reader(&db, Duration::from_secs(1)).kill();
    assert!(fs::metadata(beside(&db, "-wal")).unwrap().len() > 0);
    let ended = record(&db, "--source stdin").stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_stopped(&db, &ended, 0, "SIGTERM");
    // The run before had come to its end.
    assert!(!ended.has(" event=recovered "), "{:#?}", ended.log);
    assert_holds_first(&db, 200);
}

#[test]
fn the_checkpoint_command_finishes_the_checkpoint_that_a_reader_blocked() {
    for mode in ["passive", "full", "restart", "truncate"] {
        let dir = Dir::new("finish");
        let db = dir.file("finish.db");
        let reader = stopped_beside_a_reader(&db, Duration::from_secs(1));
        let options = format!("--mode {mode} --busy-timeout 100ms");
        let (status, blocked) = checkpoint(&db, &options);
        assert_eq!(status, 3, "{blocked:?}");
        assert!(
            blocked.busy == 1 || blocked.checkpointed < blocked.log,
            "{mode} {blocked:?}"
        );
        reader.kill();
        let (status, done) = checkpoint(&db, &options);
        assert_eq!(
            (status, done.busy, done.log),
            (0, 0, done.checkpointed),
            "{mode}"
        );
        assert_one_file(&db);
        assert_opens_read_only(&db, 200);
        assert_sound(&db);
        assert_holds_first(&db, 200);
    }
}

#[test]
fn a_reader_that_goes_during_the_stop_is_waited_for() {
    let dir = Dir::new("goes");
    let db = dir.file("goes.db");
    let (mut running, reader) = stopping_beside_a_reader(&db);
    assert!(!running.has_ended());
    reader.release();
    let (ended, _) = running.wait_timed();
    assert_stopped(&db, &ended, 0, "SIGTERM");
    assert_holds_first(&db, 200);
    // What the reader held back at first counts as copied.
    let line = ended.log.iter().find(|line| line.contains(" cause=stop "));
    let told = fields(line.unwrap());
    assert!(
        told["log"] != "0" && told["log"] == told["checkpointed"],
        "{told:?}"
    );
}

#[test]
fn another_process_that_merely_has_the_file_open_costs_nothing() {
    let dir = Dir::new("open");
    let db = dir.file("open.db");
    let mut running = record(&db, "--source stdin --ack --commit-interval 10ms");
    running.send(&lines(0..100));
    running.wait_for_ack(100);
    let other = Holder::start(&db, "SELECT count(*) FROM readings");
    running.send(&lines(100..200));
    running.wait_until_read();
    let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    let last = assert_last_line(&ended.log, "SIGTERM");
    assert_eq!((last.committed, last.wal_frames), (200, 0));
    let wal = fs::metadata(beside(&db, "-wal")).map_or(0, |m| m.len());
    assert_eq!(wal, 0, "bytes in -wal");
    let file_alone = dir.file("alone.db");
    fs::copy(&db, &file_alone).unwrap();
    assert_holds_first(&file_alone, 200);
    assert_sound(&file_alone);
    other.release();
    assert_sound(&db);
}

#[test]
fn a_lock_held_through_the_stop_is_owned_up_to() {
    let dir = Dir::new("lock");
    let db = dir.file("lock.db");
    let timeout = Duration::from_secs(1);
    let options = "--source stdin --ack --stop-timeout 1s --commit-interval 20ms";
    let mut running = record(&db, options);
    running.send(&lines(0..100));
    running.wait_for_ack(100);
    let writer = Holder::start(&db, WRITER);
    running.send(&lines(100..173));
    running.wait_until_read();
    let ended = running.stop_within(libc::SIGTERM, timeout);
    let last = assert_stopped(&db, &ended, 4, "SIGTERM");
    assert_eq!(
        (last.committed, last.uncommitted, ended.acked()),
        (100, 73, 100)
    );
    assert_holds_first(&db, 100);
    writer.release();
    // What was not committed was not acknowledged either, and the next start says so.
    let ended = record(&db, "--source stdin").stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert!(
        ended.has(" event=recovered run=1 reason=unclean readings=100"),
        "{:#?}",
        ended.log
    );
    assert_stopped(&db, &ended, 0, "SIGTERM");
    assert_holds_first(&db, 100);
}

#[test]
fn a_lock_held_through_the_stop_of_an_idle_recorder_costs_only_the_checkpoint() {
    let dir = Dir::new("idle-lock");
    let db = dir.file("idle-lock.db");
    let mut running = record(
        &db,
        "--source stdin --ack --commit-interval 10ms --stop-timeout 1s",
    );
    running.send(&lines(0..100));
    running.wait_for_ack(100);
    let writer = Holder::start(&db, WRITER);
    let ended = running.stop_within(libc::SIGTERM, Duration::from_secs(1));
    assert_eq!(ended.code(), 3, "{:#?}", ended.log);
    let last = assert_last_line(&ended.log, "SIGTERM");
    assert_eq!((last.committed, last.uncommitted), (100, 0));
    assert!(last.wal_frames > 0, "{last:?}");
    writer.kill();
    let ended = record(&db, "--source stdin").stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_stopped(&db, &ended, 0, "SIGTERM");
    assert_holds_first(&db, 100);
}

/// A recorder whose input has ended while another process has the lock, so that 100 lines wait.
fn ended_input_beside_a_lock(db: &Path) -> (Running, Holder) {
    let mut running = record(
        db,
        &format!("{AWAITED_WITHOUT_COMMITS} --stop-timeout 1s --busy-timeout 50ms"),
    );
    let writer = Holder::start(db, WRITER);
    running.send(&lines(0..100));
    running.close_stdin();
    running.wait_for("commit-waiting");
    (running, writer)
}

#[test]
fn the_end_of_the_input_waits_for_the_lock_that_its_commit_needs() {
    let dir = Dir::new("eof-lock");
    let db = dir.file("eof-lock.db");
    let (mut running, writer) = ended_input_beside_a_lock(&db);
    // Longer than --stop-timeout, which is for those whom somebody is about to kill.
    thread::sleep(Duration::from_millis(1500)); // the pause is the test
    assert!(!running.has_ended());
    writer.release();
    let ended = running.wait();
    assert_stopped(&db, &ended, 0, "eof");
    assert_eq!(ended.acked(), 100);
    assert_holds_first(&db, 100);
}

#[test]
fn a_signal_after_the_end_of_the_input_has_its_deadline() {
    let dir = Dir::new("eof-signal");
    let db = dir.file("eof-signal.db");
    let (running, writer) = ended_input_beside_a_lock(&db);
    let ended = running.stop_within(libc::SIGTERM, Duration::from_secs(1));
    assert_eq!(ended.code(), 4, "{:#?}", ended.log);
    let told = ended.stopped();
    assert_eq!(
        (&*told["committed"], &*told["uncommitted"]),
        ("0", "100"),
        "{told:?}"
    );
    writer.release();
    assert_holds_first(&db, 0);
}

#[test]
fn lines_that_were_read_and_found_no_room_are_counted_as_uncommitted() {
    let dir = Dir::new("no-room");
    let db = dir.file("no-room.db");
    let (input, mut sender) = io::pipe().unwrap();
    let left = input.try_clone().unwrap();
    let options = "--source stdin --stop-timeout 1s --commit-interval 20ms --queue-rows 10";
    let streams = [input.into(), Stdio::piped(), Stdio::piped()];
    let running = Running::on(&db, options, streams);
    running.wait_for("ready");
    let writer = Holder::start(&db, WRITER);
    let line = b"m,k=a v=1.25\n";
    let sent = thread::spawn(move || {
        let mut sent = 0;
        // More than the pipe and the recorder take while nothing is committed.
        while sent < 100_000 && sender.write_all(line).is_ok() {
            sent += 1;
        }
        // Held open, so that the stop is the signal's.
        (sent, sender)
    });
    wait_until_stuck(left.as_raw_fd());
    let ended = running.stop_within(libc::SIGTERM, Duration::from_secs(1));
    let last = assert_stopped(&db, &ended, 4, "SIGTERM");
    writer.release();
    let mut rest = Vec::new();
    let mut left = left;
    let drain = thread::spawn(move || {
        left.read_to_end(&mut rest).unwrap();
        rest.len()
    });
    let (sent, sender) = sent.join().unwrap();
    drop(sender);
    let taken = sent * line.len() - drain.join().unwrap();
    assert_eq!(
        last.committed + last.uncommitted,
        (taken / line.len()) as u64,
        "{last:?}"
    );
}

#[test]
fn a_periodic_checkpoint_that_waits_for_a_reader_does_not_hold_up_the_stop() {
    for mode in ["full", "restart", "truncate"] {
        let dir = Dir::new("periodic");
        let db = dir.file("periodic.db");
        let options = format!(
            "--source stdin --ack --commit-interval 10ms --stop-timeout 2s --busy-timeout 10m \
             --checkpoint-interval 20ms --checkpoint-mode {mode}"
        );
        let mut running = record(&db, &options);
        running.send(&lines(0..100));
        running.wait_for_ack(100);
        let reader = Holder::start(&db, READER);
        // Over several checkpoints; one that waits would hold back the acks, which is seen at the stop.
        for n in 100..120 {
            running.send(&lines(n..n + 1));
            let start = Instant::now();
            while running.acked() <= n && start.elapsed() < Duration::from_millis(50) {
                thread::yield_now();
            }
        }
        running.wait_until_read();
        let ended = running.stop_within(libc::SIGTERM, Duration::from_secs(2));
        let last = assert_stopped(&db, &ended, 3, "SIGTERM");
        assert_eq!((last.committed, ended.acked()), (120, 120), "{mode}");
        reader.release();
    }
}

//! Guards against a stop that costs data or time: readings accepted and not committed, a `-wal` left
//! behind without a word, a recorder that hangs in a read, a lock, a full pipe or somebody's transaction
//! until its supervisor kills it; and against a last line that does not say how it went.

mod support;

use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::stop::*;
use support::*;

const SIGNALS: [(i32, &str); 4] = [
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGQUIT, "SIGQUIT"),
];

const READER: &str = "BEGIN; SELECT count(*) FROM readings";
const WRITER: &str = "BEGIN IMMEDIATE";

/// Commits come only when they are asked for.
const AWAITED_WITHOUT_COMMITS: &str =
    "--source stdin --ack --commit-interval 1h --commit-rows 1000000";

/// The file holds the first `n` of the numbered lines, each once.
fn assert_holds_first(db: &Path, n: u64) {
    let found = sql(
        db,
        "SELECT count(*), count(DISTINCT value), min(value), max(value) FROM sensor_readings
         WHERE sensor = 'm,k=a'",
    );
    let expected = match n.checked_sub(1) {
        Some(last) => format!("{n}|{n}|0|{last}"),
        None => "0|0|None|None".to_owned(),
    };
    assert_eq!(found, expected, "count, distinct, least and greatest value");
}

fn run_has_ended(db: &Path) -> Option<()> {
    ledger(db).last_ended.then_some(())
}

// What is stopped.

#[test]
fn each_signal_stops_an_idle_recorder() {
    for (signal, name) in SIGNALS {
        let dir = Dir::new("idle");
        let db = dir.file("idle.db");
        let ended = record(&db, "--source stdin").stop_within(signal, STOP_TIMEOUT);
        let last = assert_stopped(&db, &ended, 0, name);
        assert_eq!(last.committed, 0);
    }
}

#[test]
fn each_signal_commits_and_acks_what_was_waiting_for_its_commit() {
    for (signal, name) in SIGNALS {
        let dir = Dir::new("waiting");
        let db = dir.file("waiting.db");
        let mut running = record(&db, AWAITED_WITHOUT_COMMITS);
        running.send(&lines(0..500));
        running.send(b"m,k=a v=rejected\nm,k=a v=never_ended");
        running.wait_until_read();
        assert_eq!((count(&db), running.acked()), (0, 0));
        let ended = running.stop_within(signal, STOP_TIMEOUT);
        let last = assert_stopped(&db, &ended, 0, name);
        assert_eq!((last.committed, last.rejected), (500, 1));
        assert_eq!(ended.acked(), 501);
        assert_holds_first(&db, 500);
    }
}

#[test]
fn each_signal_stops_a_recorder_at_full_load() {
    let loads = [
        "",
        "--commit-interval 0",
        "--queue-rows 1000 --commit-rows 10",
        "--commit-rows 100000 --commit-interval 50ms",
    ];
    for ((signal, name), load) in SIGNALS.into_iter().zip(loads) {
        let dir = Dir::new("load");
        let db = dir.file("load.db");
        let options = format!("--source sim:rate=max --source stdin --ack {load}");
        let mut running = record(&db, &options);
        let flood = Flood::start(running.stdin.take().unwrap());
        running.wait_for_ack(3000);
        let ended = running.stop_within(signal, STOP_TIMEOUT);
        let last = assert_stopped(&db, &ended, 0, name);
        assert_eq!(last.dropped, 0);
        // What was taken is what is acknowledged is what is there.
        assert_holds_first(&db, ended.acked());
        assert!(last.committed > ended.acked() && ended.acked() <= flood.end() + 100);
    }
}

#[test]
fn the_end_of_the_input_is_a_stop() {
    let dir = Dir::new("eof");
    let db = dir.file("eof.db");
    let mut running = record(&db, AWAITED_WITHOUT_COMMITS);
    running.send(&lines(0..100));
    running.close_stdin();
    let (ended, took) = running.wait_timed();
    assert!(took <= STOP_TIMEOUT + SCHEDULING, "{took:?}");
    let last = assert_stopped(&db, &ended, 0, "eof");
    assert_eq!((last.committed, ended.acked()), (100, 100));
}

#[test]
fn a_last_line_without_its_newline_is_recorded_at_the_end_of_the_input() {
    let dir = Dir::new("unended");
    let db = dir.file("unended.db");
    let mut running = record(&db, "--source stdin");
    running.send(&lines(0..1));
    running.send(b"m,k=a v=1i");
    running.close_stdin();
    assert_stopped(&db, &running.wait(), 0, "eof");
    assert_holds_first(&db, 2);
}

#[test]
fn recording_ends_with_the_last_of_its_sources() {
    let dir = Dir::new("several");
    let db = dir.file("several.db");
    let sims = "SELECT count(*) FROM sensor_readings WHERE sensor LIKE 'sim,%'";

    // First the simulation ends, then the input.
    let options = "--source stdin --source sim:rate=max,count=1000 --ack --commit-interval 10ms";
    let mut running = record(&db, options);
    until("the simulation has ended", || {
        (sql(&db, sims) == "1000").then_some(())
    });
    running.send(&lines(0..10));
    running.wait_for_ack(10);
    running.close_stdin();
    let last = assert_stopped(&db, &running.wait(), 0, "eof");
    assert_eq!(last.committed, 1010);

    // And the other way round.
    let db = dir.file("several-2.db");
    let sources = "--source stdin --source sim:sensors=2,rate=100,count=100";
    let mut running = record(&db, sources);
    running.close_stdin();
    let last = assert_stopped(&db, &running.wait(), 0, "eof");
    assert_eq!(last.committed, 100);
}

// When it is stopped.

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
    println!("{before_ready} of {ROUNDS} before ready");
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
    println!("{before_ready} of {ROUNDS} before ready");
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

// The second signal.

#[test]
fn a_second_signal_ends_the_wait_for_a_reader() {
    let dir = Dir::new("second");
    let db = dir.file("second.db");
    let mut running = record(
        &db,
        "--source stdin --ack --commit-interval 10ms --stop-timeout 10m",
    );
    running.send(&lines(0..100));
    running.wait_for_ack(100);
    let reader = Holder::start(&db, READER);
    running.send(&lines(100..200));
    running.wait_until_read();
    running.signal(libc::SIGTERM);
    until("the run has ended in the file", || run_has_ended(&db));
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
        // A second signal that seems to be the first, which came twice, is given a moment.
        assert!(took <= STOP_TIMEOUT / 2, "{took:?}");
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

// Other processes on the file.

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
    let mut running = record(
        &db,
        "--source stdin --ack --commit-interval 10ms --stop-timeout 10m",
    );
    running.send(&lines(0..100));
    running.wait_for_ack(100);
    let reader = Holder::start(&db, READER);
    running.send(&lines(100..200));
    running.wait_until_read();
    running.signal(libc::SIGTERM);
    until("the run has ended in the file", || run_has_ended(&db));
    assert!(!running.has_ended());
    reader.release();
    let (ended, _) = running.wait_timed();
    assert_stopped(&db, &ended, 0, "SIGTERM");
    assert_holds_first(&db, 200);
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

// Pipes and terminals.

/// A full pipe that nobody reads.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    // SAFETY: no pointers.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_GETPIPE_SZ) };
    writer.write_all(&vec![b'\n'; size as usize]).unwrap();
    (reader, writer)
}

/// Both ends of a terminal.
fn terminal() -> (File, OwnedFd) {
    let (mut master, mut slave) = (0, 0);
    // SAFETY: openpty fills two descriptors; the other arguments may be null.
    unsafe {
        let null = std::ptr::null_mut();
        assert_eq!(
            libc::openpty(&mut master, &mut slave, null, null as _, null as _),
            0
        );
        for fd in [master, slave] {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    }
}

#[test]
fn full_pipes_that_nobody_reads_stop_neither_the_recording_nor_the_stop() {
    let dir = Dir::new("full");
    let db = dir.file("full.db");
    // One pipe for both, as with `2>&1 |`.
    let (mut pipe, acks_end) = full_pipe();
    let log_end = acks_end.try_clone().unwrap();
    let options = "--source stdin --ack --stop-timeout 2s --commit-interval 10ms";
    let streams = [Stdio::piped(), acks_end.into(), log_end.into()];
    let mut running = Running::on(&db, options, streams);
    running.send(&lines(0..500));
    until("all is committed", || {
        (try_count(&db) == Some(500)).then_some(())
    });
    for _ in 0..20 {
        running.signal(libc::SIGUSR1);
    }
    running.send(b"rejected\n");
    running.send(&lines(500..1000));
    until("the recording goes on", || {
        (count(&db) == 1000).then_some(())
    });
    let ended = running.stop_within(libc::SIGTERM, Duration::from_secs(2));
    assert_eq!(ended.code(), 0);
    assert_one_file(&db);
    let row = ledger(&db);
    assert_eq!(
        (&*row.last_reason, row.last_committed, row.last_rejected),
        ("SIGTERM", 1000, 1)
    );
    assert_holds_first(&db, 1000);
    assert_sound(&db);
    // Nothing was written halfway.
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).unwrap();
    assert!(
        bytes.iter().all(|&b| b == b'\n'),
        "{}",
        String::from_utf8_lossy(&bytes)
    );
}

#[test]
fn an_ack_that_found_no_room_is_sent_once_there_is_some() {
    let dir = Dir::new("late-ack");
    let db = dir.file("late-ack.db");
    let (mut acks, acks_end) = full_pipe();
    let options = "--source stdin --ack --commit-interval 0";
    let streams = [Stdio::piped(), acks_end.into(), Stdio::piped()];
    let mut running = Running::on(&db, options, streams);
    for n in 0..10 {
        running.send(&lines(n * 10..(n + 1) * 10));
        running.wait_until_read();
    }
    until("all is committed", || {
        (try_count(&db) == Some(100)).then_some(())
    });
    let mut fill = vec![0; unread(acks.as_raw_fd())];
    acks.read_exact(&mut fill).unwrap();
    let mut told = Vec::new();
    until("the last ack", || {
        let mut more = vec![0; unread(acks.as_raw_fd())];
        acks.read_exact(&mut more).unwrap();
        told.extend(more);
        told.ends_with(b"ack 100\n").then_some(())
    });
    let told = String::from_utf8(told).unwrap();
    assert!(
        told.lines().all(|line| line.starts_with("ack ")),
        "{told:?}"
    );
    let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_stopped(&db, &ended, 0, "SIGTERM");
}

#[test]
fn a_full_log_that_is_read_again_says_how_many_lines_it_lost() {
    let dir = Dir::new("lost");
    let db = dir.file("lost.db");
    let (mut log, log_end) = full_pipe();
    let streams = [Stdio::piped(), Stdio::piped(), log_end.into()];
    let mut running = Running::on(&db, "--source stdin --ack --commit-interval 10ms", streams);
    running.send(&lines(0..1));
    running.wait_for_ack(1);
    let mut fill = vec![0; unread(log.as_raw_fd())];
    log.read_exact(&mut fill).unwrap();
    let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_eq!(ended.code(), 0);
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    let lost = text
        .lines()
        .find_map(|line| fields(line).remove("log_lines_lost"));
    // It was the one that says ready.
    assert_eq!(lost.as_deref(), Some("1"), "{text}");
    assert_last_line(
        &text.lines().map(str::to_owned).collect::<Vec<_>>(),
        "SIGTERM",
    );
}

#[test]
fn full_pipes_and_a_held_lock_together_do_not_break_the_deadline() {
    let dir = Dir::new("full-lock");
    let db = dir.file("full-lock.db");
    let ((_acks, acks_end), (_log, log_end)) = (full_pipe(), full_pipe());
    let options = "--source stdin --ack --stop-timeout 1s --commit-interval 10ms";
    let streams = [Stdio::piped(), acks_end.into(), log_end.into()];
    let mut running = Running::on(&db, options, streams);
    running.send(&lines(0..100));
    until("all is committed", || {
        (try_count(&db) == Some(100)).then_some(())
    });
    let writer = Holder::start(&db, WRITER);
    running.send(&lines(100..200));
    running.wait_until_read();
    let ended = running.stop_within(libc::SIGTERM, Duration::from_secs(1));
    assert_eq!(ended.code(), 4);
    assert_holds_first(&db, 100);
    writer.release();
}

#[test]
fn a_terminal_that_nobody_reads_does_not_hold_up_the_stop() {
    let dir = Dir::new("stuck-terminal");
    // Log lines that name the file are long.
    let db = dir.file(&format!("{}.db", "x".repeat(200)));
    let timeout = Duration::from_secs(1);
    for freed in [0, 256, 512, 1024] {
        let (mut master, slave) = terminal();
        fill(&slave);
        master.read_exact(&mut vec![0; freed]).unwrap();
        let options = "--source stdin --stop-timeout 1s --log-level debug";
        let stderr = slave.try_clone().unwrap();
        let streams = [Stdio::piped(), Stdio::null(), stderr.into()];
        let running = Running::on(&db, options, streams);
        until("the run has begun", || try_count(&db));
        let ended = running.stop_within(libc::SIGTERM, timeout);
        assert_eq!(ended.code(), 0, "{freed} bytes freed");
        assert_sound(&db);
    }
}

/// Writes to a terminal until it takes no more.
fn fill(slave: &OwnedFd) {
    let (fd, mut file) = (slave.as_raw_fd(), File::from(slave.try_clone().unwrap()));
    // SAFETY: no pointers.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    // SAFETY: as above.
    let set = |flags: i32| unsafe { libc::fcntl(fd, libc::F_SETFL, flags) };
    set(flags | libc::O_NONBLOCK);
    while file.write(&[b'-'; 64]).is_ok_and(|n| n > 0) {}
    set(flags);
}

#[test]
fn a_closed_stdout_ends_the_acks_and_nothing_else() {
    let dir = Dir::new("closed");
    let db = dir.file("closed.db");
    let (acks, acks_end) = io::pipe().unwrap();
    let options = "--source stdin --ack --commit-interval 10ms";
    let streams = [Stdio::piped(), acks_end.into(), Stdio::piped()];
    let mut running = Running::on(&db, options, streams);
    running.send(&lines(0..100));
    until("the first ack", || {
        (unread(acks.as_raw_fd()) > 0).then_some(())
    });
    drop(acks);
    for n in 1..4 {
        running.send(&lines(n * 100..(n + 1) * 100));
        until("the recording goes on", || {
            (count(&db) == (n + 1) * 100).then_some(())
        });
    }
    let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_stopped(&db, &ended, 0, "SIGTERM");
    assert_holds_first(&db, 400);
}

#[test]
fn a_closed_log_ends_the_log_and_nothing_else() {
    let dir = Dir::new("closed-log");
    let db = dir.file("closed-log.db");
    let (log, log_end) = io::pipe().unwrap();
    let streams = [Stdio::piped(), Stdio::piped(), log_end.into()];
    let mut running = Running::on(&db, "--source stdin --ack --commit-interval 10ms", streams);
    drop(log);
    running.send(&lines(0..100));
    running.wait_for_ack(100);
    running.signal(libc::SIGUSR1);
    running.send(&lines(100..200));
    running.wait_for_ack(200);
    let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_eq!((ended.code(), ended.acked()), (0, 200));
    assert_one_file(&db);
    assert_holds_first(&db, 200);
}

#[test]
fn streams_that_are_closed_at_the_start_do_not_become_the_database() {
    let dir = Dir::new("no-streams");
    let db = dir.file("no-streams.db");
    let command = "exec \"$0\" record --db \"$1\" --source stdin --source sim:rate=max,count=100 --ack <&- >&- 2>&-";
    let status = Command::new("sh")
        .args(["-c", command, &BINARY])
        .arg(&db)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert_sound(&db);
    assert_eq!((count(&db), &*ledger(&db).last_reason), (100, "eof"));
}

#[test]
fn a_stop_does_not_wait_for_a_read_or_for_the_next_sample() {
    let dir = Dir::new("blocked");
    let fifo = dir.file("fifo");
    let path = std::ffi::CString::new(text(&fifo)).unwrap();
    // SAFETY: the path ends in NUL.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    // With both of its ends open, it has no end of input.
    let fifo = File::options().read(true).write(true).open(&fifo).unwrap();
    let (_master, slave) = terminal();
    let cases: [(&str, &str, Stdio); 4] = [
        ("fifo", "stdin", fifo.into()),
        ("terminal", "stdin", slave.into()),
        ("pipe", "stdin", Stdio::piped()),
        ("slow", "sim:rate=0.0001", Stdio::null()),
    ];
    for (name, source, stdin) in cases {
        let db = dir.file(&format!("{name}.db"));
        let streams = [stdin, Stdio::piped(), Stdio::piped()];
        let running = Running::on(
            &db,
            &format!("--source {source} --stop-timeout 2s"),
            streams,
        );
        running.wait_for("ready");
        let ended = running.stop_within(libc::SIGTERM, Duration::from_secs(2));
        assert_stopped(&db, &ended, 0, "SIGTERM");
    }
}

// The signal that does not stop.

#[test]
fn sigusr1_runs_a_passive_checkpoint_and_logs_it() {
    let dir = Dir::new("usr1");
    let db = dir.file("usr1.db");
    let mut running = record(
        &db,
        "--source stdin --ack --commit-interval 10ms --checkpoint-interval 0",
    );
    running.send(&lines(0..100));
    running.wait_for_ack(100);
    running.signal(libc::SIGUSR1);
    let line = running.wait_for("checkpoint");
    let told = fields(&line);
    assert_eq!((&*told["mode"], &*told["busy"]), ("passive", "0"), "{line}");
    assert_eq!(told["log"], told["checkpointed"], "{line}");
    assert!(told["log"].parse::<u64>().unwrap() > 0, "{line}");
    assert!(told["ms"].parse::<f64>().unwrap() >= 0.0, "{line}");
    assert!(fs::metadata(&db).unwrap().len() > 0);
    let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_stopped(&db, &ended, 0, "SIGTERM");
}

#[test]
fn a_flood_of_sigusr1_holds_up_neither_the_recording_nor_the_stop() {
    let dir = Dir::new("usr1-flood");
    let db = dir.file("usr1-flood.db");
    let mut running = record(&db, "--source stdin --ack --commit-interval 0");
    // By a descriptor: a number could be another process's by the time that the flood ends.
    // SAFETY: no pointers; the descriptor returned is ours.
    let process = unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, running.pid() as libc::pid_t, 0);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd as i32)
    };
    let over = Arc::new(AtomicBool::new(false));
    let flood = thread::spawn({
        let over = over.clone();
        move || {
            let mut sent = 0u64;
            while !over.load(Ordering::Relaxed) {
                let null = std::ptr::null::<libc::siginfo_t>();
                let (fd, signal) = (process.as_raw_fd(), libc::SIGUSR1);
                // SAFETY: a null siginfo is allowed.
                sent += u64::from(unsafe {
                    libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, null, 0) == 0
                });
            }
            sent
        }
    });
    for n in 0..100 {
        running.send(&lines(n..n + 1));
        running.wait_for_ack(n + 1);
    }
    running.send(&lines(100..200));
    running.wait_until_read();
    let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    over.store(true, Ordering::Relaxed);
    println!("{} signals", flood.join().unwrap());
    assert_stopped(&db, &ended, 0, "SIGTERM");
    assert_holds_first(&db, 200);
    assert_eq!(ended.acked(), 200);
}

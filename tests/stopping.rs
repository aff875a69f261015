//! Stopping: guards against readings that were accepted and not committed, a `-wal` left behind without a word, a
//! stop that hangs in a read, and a last line that does not say how it went.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::stop::*;
use crate::support::terminal::*;
use crate::support::*;

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

/// A script that feeds a file of another format hears of it by the status.
#[test]
fn input_of_which_every_line_is_rejected_ends_with_status_5_and_a_warning() {
    let dir = Dir::new("all-rejected");
    let db = dir.file("x.db");
    for (input, status) in [
        ("time,room,value\n1,kitchen,21.5\n", 5),
        ("time,room,value\nm v=1\n", 0),
        ("# nothing\n\n", 0),
        ("", 0),
    ] {
        let mut running = record(&db, "--source stdin");
        running.send(input.as_bytes());
        running.close_stdin();
        let ended = running.wait();
        assert_stopped(&db, &ended, status, "eof");
        assert_eq!(ended.has(" level=warn event=stopped "), status == 5);
    }
    // Who stops it knows better than its input.
    let mut running = record(&db, "--source stdin --ack");
    running.send(b"{}\n");
    running.wait_for_ack(1);
    assert_stopped(&db, &running.stop(libc::SIGTERM), 0, "SIGTERM");
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

#[test]
fn a_stop_does_not_wait_for_a_read_or_for_the_next_sample() {
    let dir = Dir::new("blocked");
    let fifo = dir.file("fifo");
    let path = std::ffi::CString::new(text(&fifo)).unwrap();
    // SAFETY: the path ends in NUL.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    // With both of its ends open, it has no end of input.
    let fifo = File::options().read(true).write(true).open(&fifo).unwrap();
    let (_master, slave) = terminal(80);
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

/// Runs with `input` as stdin, stops it, and gives the status.
fn stop_with_stdin(db: &Path, input: File) -> i32 {
    let mut child = command(db, &["--source", "stdin", "--log-level", "error"])
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("it records", || {
        (db.exists() && fs::metadata(db).unwrap().len() > 0).then_some(())
    });
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().expect("it was not killed");
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the stop was not heard");
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_stop_is_heard_while_the_input_never_pauses() {
    let dir = Dir::new("busy");
    // Zeros without a newline: always ready, and never a reading.
    let db = dir.file("zero.db");
    assert_eq!(stop_with_stdin(&db, File::open("/dev/zero").unwrap()), 0);
    assert_sound(&db);
}

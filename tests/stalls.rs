//! Stalls: a disk or a lock that takes its time costs no sample and no line, and what finds no room is counted.

use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use crate::support::recording::*;
use crate::support::stop::*;
use crate::support::*;

#[test]
fn a_database_that_stalls_costs_no_sample() {
    let dir = Dir::new("stall");
    let db = dir.file("stall.db");
    let running = record(&db, "--source sim:sensors=1,rate=1000");
    until("it records", || (count(&db) > 0).then_some(()));
    let writer = Holder::start(&db, WRITER);
    let before = count(&db);
    thread::sleep(Duration::from_secs(3)); // the pause is the test
    assert_eq!(count(&db), before);
    writer.release();
    until("it has caught up", || {
        (count(&db) > before + 3000).then_some(())
    });
    let (last, ended) = stop(&db, running);
    assert_eq!(last.dropped, 0);
    assert!(!ended.has(" event=missed "), "{:#?}", ended.log);
    let times = times(&db, "sim,sensor=1");
    assert_eq!(times.len() as u64, last.committed);
    assert_on_schedule(&times, 1_000_000);
    // From the first reading to the stop there is none missing at the end either.
    let stopping = &events(&ended.log, "stopping")[0]["ts"];
    let newest = sql(&db, "SELECT max(timestamp) FROM sensor_readings");
    let ms = |ts: &str| -> i64 {
        let seconds = sql(
            &db,
            &format!("SELECT CAST(strftime('%s', '{ts}') AS INTEGER)"),
        );
        seconds.parse::<i64>().unwrap() * 1000 + ts[20..23].parse::<i64>().unwrap()
    };
    let gap_ms = ms(stopping) - ms(&newest);
    assert!(
        (-100..1000).contains(&gap_ms),
        "newest {newest}, stopping {stopping}"
    );
}

#[test]
fn what_finds_no_room_is_counted_and_nothing_else_is_lost() {
    let dir = Dir::new("dropped");
    let db = dir.file("dropped.db");
    let options = "--source sim:sensors=1,rate=1000 --queue-rows 100 --commit-rows 10";
    let running = record(&db, options);
    until("it records", || (count(&db) > 0).then_some(()));
    let writer = Holder::start(&db, WRITER);
    let told = running.wait_for("dropped");
    writer.release();
    let before = count(&db);
    until("it goes on", || (count(&db) > before + 200).then_some(()));
    let (last, ended) = stop(&db, running);
    assert!(last.dropped > 0);
    assert!(!ended.has(" event=missed "), "{:#?}", ended.log);
    assert!(
        fields(&told)["readings"].parse::<u64>().unwrap() > 0,
        "{told}"
    );
    // The log tells of all of them, though not of each.
    let drops = events(&ended.log, "dropped");
    assert!(number(drops.last().unwrap(), "in_all") <= last.dropped);
    assert_few_a_second(&drops);
    // Each sample of the schedule was recorded or counted.
    let times = times(&db, "sim,sensor=1");
    assert_eq!(places(&times, 1_000_000), last.committed + last.dropped);
}

#[test]
fn a_full_queue_makes_the_sender_wait_and_loses_no_line() {
    const LINES: u64 = 50_000;
    let dir = Dir::new("backpressure");
    let db = dir.file("backpressure.db");
    let options = "--source stdin --ack --queue-rows 100 --commit-rows 10";
    let mut running = record(&db, options);
    let writer = Holder::start(&db, WRITER);
    let mut stdin = running.stdin.take().unwrap();
    let fd = stdin.as_raw_fd();
    let sender = thread::spawn(move || {
        stdin.write_all(&lines(0..LINES)).unwrap();
    });
    wait_until_stuck(fd);
    assert!(!sender.is_finished());
    assert_eq!((running.acked(), count(&db)), (0, 0));
    writer.release();
    sender.join().unwrap();
    let ended = running.wait();
    let last = assert_stopped(&db, &ended, 0, "eof");
    assert_eq!(
        (last.committed, last.dropped, ended.acked()),
        (LINES, 0, LINES)
    );
    let order = "SELECT count(*) FROM sensor_readings WHERE value != id - 1";
    assert_eq!(sql(&db, order), "0");
}

#[test]
fn a_lock_that_outlasts_the_busy_timeout_is_waited_out() {
    let dir = Dir::new("busy");
    let db = dir.file("busy.db");
    let options = "--source stdin --ack --busy-timeout 200ms --commit-interval 0";
    let mut running = record(&db, options);
    running.send(&lines(0..10));
    running.wait_for_ack(10);
    let writer = Holder::start(&db, WRITER);
    running.send(&lines(10..20));
    let waiting = running.wait_for("commit-waiting");
    assert!(
        waiting.contains("level=warn") && waiting.contains("locked"),
        "{waiting}"
    );
    running.send(&lines(20..30));
    running.wait_until_read();
    assert_eq!(running.acked(), 10);
    writer.release();
    running.wait_for_ack(30);
    running.wait_for("commit-resumed");
    let (last, _) = stop(&db, running);
    assert_eq!((last.committed, last.dropped, last.uncommitted), (30, 0, 0));
    assert!(ledger(&db).last_errors > 0);
}

/// Whoever may read the -shm can lock the byte by which SQLite lets one write.
#[test]
fn who_keeps_commits_waiting_is_named_in_the_log_and_in_the_status() {
    let dir = Dir::new("locked");
    let db = dir.file("x.db");
    let options = "--source stdin --ack --busy-timeout 100ms --commit-interval 0";
    let mut running = record(&db, options);
    running.send(&lines(0..10));
    running.wait_for_ack(10);
    let script = "
import fcntl, sys
f = open(sys.argv[1], 'rb')
fcntl.lockf(f, fcntl.LOCK_SH, 1, 120)
print('locked', flush=True)
sys.stdin.read()
";
    let mut reader = hold(script, &beside(&db, "-shm"));
    running.send(&lines(10..20));
    let by = format!("database is locked by process {} (python", reader.id());
    let told = running.wait_for("commit-waiting");
    assert!(told.contains(&by), "{by}: {told}");
    // Before it is unhealthy.
    let (_, out, _) = seawall(&["status", "--db", text(&db)]);
    assert!(out.contains("state=waiting\n"), "{out}");
    let waiting_for = out.lines().find(|line| line.starts_with("waiting_for="));
    assert!(waiting_for.is_some_and(|line| line.contains(&by)), "{out}");
    drop(reader.stdin.take());
    reader.wait().unwrap();
    running.wait_for_ack(20);
    let (_, out, _) = seawall(&["status", "--db", text(&db)]);
    assert!(!out.contains("waiting_for="), "{out}");
    let (last, _) = stop(&db, running);
    assert_eq!((last.committed, last.uncommitted), (20, 0));
}

#[test]
fn samples_find_room_while_the_batch_before_them_is_committed() {
    let dir = Dir::new("room");
    let db = dir.file("x.db");
    let run = start(
        &db,
        &[
            "--source",
            "sim:sensors=2,rate=500,count=8000",
            "--queue-rows",
            "2000",
            "--commit-rows",
            "2000",
            "--commit-interval",
            "1h",
        ],
    );
    let ended = run.wait();
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.stopped()["dropped"], "0");
}

//! Guards against a recorder that takes readings and records something else: a reading lost, doubled,
//! altered or given another time; a drop, a rejected line or a failed commit that is not told; a WAL that
//! grows without an end; and against one that writes into a file that is not its own.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::stop::*;
use support::*;

const READER: &str = "BEGIN; SELECT count(*) FROM readings";
const WRITER: &str = "BEGIN IMMEDIATE";
const NO_CHECKPOINTS: &str = "--checkpoint-interval 0 --wal-autocheckpoint 0";

/// Stops it by SIGTERM, and holds it to everything that a stop with status 0 promises.
fn stop(db: &Path, running: Running) -> (Stopped, Ended) {
    let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    (assert_stopped(db, &ended, 0, "SIGTERM"), ended)
}

/// Records until all sources have ended.
fn record_all(db: &Path, options: &str) -> Stopped {
    let ended = record_at_once(db, options).wait();
    assert_stopped(db, &ended, 0, "eof")
}

fn events(log: &[String], event: &str) -> Vec<BTreeMap<String, String>> {
    let wanted = format!(" event={event} ");
    let lines = log.iter().filter(|line| line.contains(&wanted));
    lines
        .map(|line| fields(line).into_iter().collect())
        .collect()
}

fn number(event: &BTreeMap<String, String>, key: &str) -> u64 {
    event[key]
        .parse()
        .unwrap_or_else(|_| panic!("{key} in {event:?}"))
}

// Readings.

/// A year of two stations, each hour: the real file, or one of its form.
fn weather() -> String {
    let real = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/data/weather-2010.lp"
    );
    if let Ok(text) = fs::read_to_string(real) {
        return text;
    }
    let mut text = String::new();
    for hour in 0..8759 {
        let time_ns = (1_262_304_000 + hour * 3600) * 1_000_000_000u64;
        let season = (hour as f64 / 8760.0 * std::f64::consts::TAU).cos();
        for (station, mean) in [("seattle", 52.0), ("sf", 57.0)] {
            let value = ((mean - 12.0 * season) * 10.0).round() / 10.0;
            writeln!(
                text,
                "weather,station={station} temperature_f={value:.1} {time_ns}"
            )
            .unwrap();
        }
    }
    text
}

#[test]
fn a_year_of_weather_is_recorded_to_the_last_digit() {
    let dir = Dir::new("weather");
    let db = dir.file("weather.db");
    let text = weather();
    assert_eq!(text.lines().count(), 17_518);
    let mut running = record(&db, "--source stdin --ack");
    running.send(text.as_bytes());
    running.close_stdin();
    let ended = running.wait();
    let last = assert_stopped(&db, &ended, 0, "eof");
    assert_eq!(
        (last.committed, last.rejected, ended.acked()),
        (17_518, 0, 17_518)
    );

    let rows = sql(
        &db,
        "SELECT id, sensor, field, value, typeof(value), time_ns, run FROM sensor_readings ORDER BY id",
    );
    let mut expected = String::new();
    let mut sum = 0.0;
    for (line, id) in text.lines().zip(1..) {
        let [sensor, field, time] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let (field, value) = field.split_once('=').unwrap();
        let value: f64 = value.parse().unwrap();
        sum += value;
        writeln!(expected, "{id}|{sensor}|{field}|{value:?}|real|{time}|1").unwrap();
    }
    assert!(rows == expected.trim_end(), "the rows are not the lines");
    let found: f64 = sql(&db, "SELECT sum(value) FROM sensor_readings")
        .parse()
        .unwrap();
    assert!((found - sum).abs() < 1e-6, "{found} {sum}");
    let spot = |id: u32| {
        sql(
            &db,
            &format!("SELECT timestamp, sensor FROM sensor_readings WHERE id = {id}"),
        )
    };
    assert_eq!(spot(1), "2010-01-01T00:00:00.000Z|weather,station=seattle");
    assert_eq!(spot(48), "2010-01-01T23:00:00.000Z|weather,station=sf");
    assert_eq!(sql(&db, "SELECT count(*) FROM series"), "2");
}

#[test]
fn a_simulation_gives_as_many_readings_as_it_was_asked_for() {
    let dir = Dir::new("sim");
    for count in ["1", "7", "1000", "2500"] {
        for rate in ["max", "1000"] {
            let db = dir.file(&format!("sim-{count}-{rate}.db"));
            let source = format!("sim:sensors=3,rate={rate},count={count}");
            let last = record_all(&db, &format!("--source {source}"));
            assert_eq!(
                (last.committed.to_string(), last.dropped),
                (count.to_owned(), 0)
            );
        }
    }
}

#[test]
fn a_simulation_keeps_its_rate() {
    let dir = Dir::new("rate");
    let db = dir.file("rate.db");
    let last = record_all(&db, "--source sim:sensors=4,rate=50,count=200");
    assert_eq!((last.committed, last.dropped), (200, 0));
    let per_sensor = "SELECT count(DISTINCT sensor), min(n), max(n) FROM
        (SELECT sensor, count(*) AS n FROM sensor_readings GROUP BY sensor)";
    assert_eq!(sql(&db, per_sensor), "4|50|50");
    let times = times(&db, "sim,sensor=1");
    assert_on_schedule(&times, 20_000_000);
}

fn times(db: &Path, sensor: &str) -> Vec<i64> {
    let query =
        format!("SELECT time_ns FROM sensor_readings WHERE sensor = '{sensor}' ORDER BY id");
    sql(db, &query)
        .lines()
        .map(|time| time.parse().unwrap())
        .collect()
}

/// By how much a time may be off its place in the schedule, and still be exact.
const EXACT_NS: i64 = 30_000;

fn is_exact(pair: &[i64], period_ns: i64) -> bool {
    (pair[1] - pair[0] - period_ns).abs() <= EXACT_NS
}

/// Each reading has the time of its place in the schedule, however late it was taken or committed. The wall
/// clock may be slewed meanwhile, by at most 0.1 %. And the recorder looks at two clocks, one after the
/// other, between which it may have to wait for a processor; that is seen now and then on a busy machine.
fn assert_on_schedule(times: &[i64], period_ns: i64) {
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
fn places(times: &[i64], period_ns: i64) -> u64 {
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

#[test]
fn the_same_seed_gives_the_same_readings() {
    let dir = Dir::new("seed");
    let rows = |name: &str, source: &str| {
        let db = dir.file(name);
        record_all(&db, &format!("--source {source}"));
        sql(
            &db,
            "SELECT sensor, field, value FROM sensor_readings ORDER BY id",
        )
    };
    let one = rows("one.db", "sim:sensors=3,rate=max,count=999,seed=42");
    let same = rows("same.db", "sim:sensors=3,rate=2000,count=999,seed=42");
    let other = rows("other.db", "sim:sensors=3,rate=max,count=999,seed=43");
    assert_eq!(one.lines().count(), 999);
    assert_eq!(one, same);
    assert_ne!(one, other);
}

#[test]
fn several_sources_are_recorded_side_by_side() {
    let dir = Dir::new("several");
    let db = dir.file("several.db");
    let sources = "--source sim:sensors=2,rate=500,count=500,seed=1 --source stdin \
                   --source sim:sensors=5,rate=max,count=20000,seed=2";
    let mut running = record(&db, sources);
    running.send(&lines(0..5000));
    running.close_stdin();
    let last = assert_stopped(&db, &running.wait(), 0, "eof");
    assert_eq!((last.committed, last.dropped), (25_500, 0));
    let count =
        "SELECT count(*), count(DISTINCT value) FROM sensor_readings WHERE sensor = 'm,k=a'";
    assert_eq!(sql(&db, count), "5000|5000");
}

#[test]
fn the_greatest_rate_drops_nothing() {
    let dir = Dir::new("max");
    for (readings, options) in [
        (100_000, "--source sim:rate=max,count=100000"),
        (
            20_000,
            "--source sim:rate=max,count=20000 --queue-rows 100 --commit-rows 10",
        ),
        (
            500,
            "--source sim:rate=max,count=500 --queue-rows 1 --commit-rows 1",
        ),
        // Two that share the room.
        (
            8_000,
            "--source sim:rate=max,count=5000 --source sim:rate=max,count=3000 --queue-rows 100",
        ),
    ] {
        let db = dir.file(&format!("max-{readings}.db"));
        let last = record_all(&db, options);
        assert_eq!((last.dropped, last.committed), (0, readings), "{options}");
    }
}

// Stalls.

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

/// At most a few lines of one kind in any one second.
fn assert_few_a_second(events: &[BTreeMap<String, String>]) {
    const FEW: usize = 10;
    let mut by_second = BTreeMap::new();
    for event in events {
        *by_second.entry(&event["ts"][..19]).or_insert(0) += 1;
    }
    assert!(by_second.values().all(|&n| n <= FEW), "{by_second:?}");
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

// Lines.

#[test]
fn rejected_lines_are_counted_told_and_settled() {
    const BAD: u64 = 2000;
    let dir = Dir::new("rejected");
    let db = dir.file("rejected.db");
    let mut running = record(&db, "--source stdin --ack");
    let mut sent = String::from("# a comment\nm v=1i\nm v=\nm v=2i\n\n");
    for n in 0..BAD {
        writeln!(sent, "m,n={n}").unwrap();
        writeln!(sent, "m v={n}i").unwrap();
    }
    // Longer than any line may be, then a whole one, and one that goes on after the end of the stream.
    writeln!(sent, "m v=\"{}\"", "x".repeat(70_000)).unwrap();
    sent += "m v=3i\n";
    running.send(sent.as_bytes());
    let all = sent.lines().count() as u64;
    running.wait_for_ack(all);
    assert_eq!(running.acked(), all);
    let (last, ended) = stop(&db, running);
    assert_eq!((last.committed, last.rejected), (BAD + 3, BAD + 2));
    assert_eq!(ledger(&db).last_rejected, BAD + 2);

    let told = events(&ended.log, "rejected");
    assert!(
        told.iter()
            .all(|event| event["level"] == "warn" && event["source"] == "stdin")
    );
    assert_eq!(told[0]["line"], "3", "{told:?}");
    assert_eq!(told[1]["line"], "6", "{told:?}");
    assert!(
        told.iter().all(|event| !event["reason"].is_empty()),
        "{told:?}"
    );
    assert_few_a_second(&told);
}

#[test]
fn a_line_is_committed_whole_or_not_at_all() {
    let dir = Dir::new("whole");
    let db = dir.file("whole.db");
    let options = "--source stdin --ack --commit-rows 10 --queue-rows 100";
    let mut running = record(&db, options);
    let mut line = String::from("m ");
    for n in 0..64 {
        write!(line, "{}f{n}={n}i", if n > 0 { "," } else { "" }).unwrap();
    }
    running.send(format!("{line} 5\n").repeat(500).as_bytes());
    let mut looks = 0;
    while running.acked() < 500 {
        assert_eq!(count(&db) % 64, 0);
        looks += 1;
    }
    println!("{looks} looks");
    // One that no queue of this size can hold is rejected, and the next one is not.
    let mut wide = String::from("wide ");
    for n in 0..101 {
        write!(wide, "{}f{n}={n}i", if n > 0 { "," } else { "" }).unwrap();
    }
    running.send(format!("{wide}\nm v=1i\n").as_bytes());
    running.wait_for_ack(502);
    let (last, _) = stop(&db, running);
    assert_eq!((last.committed, last.rejected), (500 * 64 + 1, 1));
}

// Commits.

#[test]
fn a_commit_comes_once_enough_readings_wait() {
    let dir = Dir::new("commit-rows");
    let db = dir.file("commit-rows.db");
    let options = "--source stdin --ack --commit-interval 1h --commit-rows 10";
    let mut running = record(&db, options);
    running.send(&lines(0..9));
    running.wait_until_read();
    assert_eq!((count(&db), running.acked()), (0, 0));
    running.send(&lines(9..10));
    running.wait_for_ack(10);
    assert_eq!(count(&db), 10);
    running.send(&lines(10..35));
    running.wait_for_ack(30);
    running.send(&lines(35..50));
    let (last, ended) = stop(&db, running);
    assert_eq!(last.committed, ended.acked());
}

#[test]
fn a_commit_comes_once_a_reading_has_waited_for_the_interval() {
    for interval in ["0", "20ms", "300ms"] {
        let dir = Dir::new("commit-interval");
        let db = dir.file("commit-interval.db");
        let options =
            format!("--source stdin --ack --commit-rows 1000000 --commit-interval {interval}");
        let mut running = record(&db, &options);
        for n in 0..5 {
            running.send(&lines(n..n + 1));
            running.wait_for_ack(n + 1);
            assert_eq!(count(&db), n + 1);
        }
        let (last, _) = stop(&db, running);
        assert_eq!(last.committed, 5);
    }
}

#[test]
fn without_ack_stdout_stays_empty() {
    let dir = Dir::new("no-ack");
    let db = dir.file("no-ack.db");
    let mut running = record(&db, "--source stdin");
    running.send(&lines(0..1000));
    running.close_stdin();
    let ended = running.wait();
    assert_stopped(&db, &ended, 0, "eof");
    assert!(ended.out.is_empty(), "{:?}", ended.out);
}

#[test]
fn acks_only_grow_and_end_with_the_last_line() {
    let dir = Dir::new("acks");
    let db = dir.file("acks.db");
    let mut running = record(&db, "--source stdin --ack --commit-interval 0");
    for n in 0..100 {
        running.send(&lines(n * 50..(n + 1) * 50));
    }
    running.close_stdin();
    let ended = running.wait();
    assert_stopped(&db, &ended, 0, "eof");
    let acks: Vec<u64> = ended
        .out
        .iter()
        .map(|line| line.strip_prefix("ack ").unwrap().parse().unwrap())
        .collect();
    assert!(acks.windows(2).all(|pair| pair[0] < pair[1]), "{acks:?}");
    assert_eq!(acks.last(), Some(&5000));
}

// Checkpoints.

fn checkpoints(log: &[String], cause: &str) -> Vec<BTreeMap<String, String>> {
    let mut found = events(log, "checkpoint");
    found.retain(|event| event["cause"] == cause);
    for event in &found {
        assert!(["0", "1"].contains(&&*event["busy"]), "{event:?}");
        assert!(event["ms"].parse::<f64>().unwrap() >= 0.0, "{event:?}");
        assert!(
            number(event, "checkpointed") <= number(event, "log"),
            "{event:?}"
        );
    }
    found
}

#[test]
fn periodic_checkpoints_come_in_the_mode_asked_for() {
    for mode in ["passive", "full", "restart", "truncate"] {
        let dir = Dir::new("periodic");
        let db = dir.file("periodic.db");
        let options = format!(
            "--source stdin --ack --commit-interval 0 --checkpoint-interval 200ms --checkpoint-mode {mode}"
        );
        let mut running = record(&db, &options);
        for n in 0..3 {
            let before = checkpoints(&running.log(), "interval").len();
            running.send(&lines(n * 10..(n + 1) * 10));
            running.wait_for_ack((n + 1) * 10);
            until("a checkpoint follows", || {
                (checkpoints(&running.log(), "interval").len() > before).then_some(())
            });
        }
        let (_, ended) = stop(&db, running);
        for event in checkpoints(&ended.log, "interval") {
            assert_eq!((&*event["mode"], &*event["busy"]), (mode, "0"), "{event:?}");
            assert_eq!(event["log"], event["checkpointed"], "{event:?}");
        }
    }
}

#[test]
fn an_idle_recorder_leaves_the_disk_alone() {
    let dir = Dir::new("at-rest");
    let db = dir.file("at-rest.db");
    let options = "--source stdin --ack --checkpoint-interval 50ms --commit-interval 0";
    let mut running = record(&db, options);
    running.send(&lines(0..10));
    running.wait_for_ack(10);
    let told = |running: &Running| checkpoints(&running.log(), "interval").len();
    let settled = until("it is at rest", || {
        let before = told(&running);
        thread::sleep(Duration::from_millis(200)); // the pause is the test
        (before > 0 && told(&running) == before).then_some(before)
    });
    let stamps =
        || [&db, &beside(&db, "-wal")].map(|path| fs::metadata(path).unwrap().modified().unwrap());
    let before = stamps();
    // Twenty intervals in which nothing is to happen.
    thread::sleep(Duration::from_secs(1)); // the pause is the test
    assert_eq!(told(&running), settled, "{:#?}", running.log());
    assert_eq!(stamps(), before);
    // A reading ends the rest.
    running.send(&lines(10..20));
    until("another checkpoint", || {
        (told(&running) > settled).then_some(())
    });
    let (last, _) = stop(&db, running);
    assert_eq!(last.committed, 20);
}

/// How often any of its threads went to sleep, which is once for each time that it was woken; and what the
/// process has written, to files or to anything else.
fn awake(pid: u32) -> (u64, String) {
    let number = |text: String| -> u64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let written = |line: &&str| line.contains("wchar") || line.contains("write");
    (
        status.map(number).sum(),
        io.lines().filter(written).collect(),
    )
}

#[test]
fn an_idle_recorder_writes_nothing_and_wakes_no_more_than_once_a_second() {
    const PAUSE: Duration = Duration::from_secs(10);
    let dir = Dir::new("asleep");
    let db = dir.file("asleep.db");
    let options = "--source stdin --ack --source tcp:0 --source udp:0 --source sim:rate=0.001";
    let mut running = record(&db, options);
    running.send(&lines(0..10));
    running.wait_for_ack(10);
    // What follows a commit at once is over.
    thread::sleep(Duration::from_millis(500)); // the pause is the test
    let (woken_before, written_before) = awake(running.pid());
    let begun = Instant::now();
    thread::sleep(PAUSE); // the pause is the test
    let (woken, written) = awake(running.pid());
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(written, written_before);
    // The writer looks each second whether its files are still there; some more are for pages of the program
    // that were not in memory.
    let woken = woken - woken_before;
    assert!(
        woken as f64 <= seconds + 5.0,
        "{woken} times in {seconds} s"
    );
    stop(&db, running);
}

#[test]
fn the_automatic_checkpoint_keeps_the_wal_short() {
    const PAGES: u64 = 400;
    let dir = Dir::new("auto");
    let db = dir.file("auto.db");
    let options = "--source sim:rate=max,count=50000 --commit-rows 500 \
                   --checkpoint-interval 0 --wal-autocheckpoint 400";
    let ended = record_at_once(&db, options).wait();
    assert_stopped(&db, &ended, 0, "eof");
    let told = checkpoints(&ended.log, "autocheckpoint");
    assert!(told.len() > 1, "{:#?}", ended.log);
    for event in told {
        let frames = number(&event, "log");
        // One commit past the threshold, at most.
        assert!((PAGES..3 * PAGES).contains(&frames), "{event:?}");
        assert_eq!(event["mode"], "passive");
    }
}

#[test]
fn without_checkpoints_the_wal_grows_until_the_stop() {
    const WAL_BYTES: u64 = 8 << 20;
    let dir = Dir::new("none");
    let db = dir.file("none.db");
    let running = record(&db, &format!("--source sim:rate=max {NO_CHECKPOINTS}"));
    until("the -wal has grown", || {
        (fs::metadata(beside(&db, "-wal")).ok()?.len() > WAL_BYTES).then_some(())
    });
    assert!(events(&running.log(), "checkpoint").is_empty());
    let (_, ended) = stop(&db, running);
    let all = events(&ended.log, "checkpoint");
    let at_stop = checkpoints(&ended.log, "stop");
    assert_eq!(all.len(), at_stop.len(), "{:#?}", ended.log);
    assert_eq!(at_stop.last().unwrap()["mode"], "truncate");
    let frames = at_stop
        .iter()
        .map(|event| number(event, "log"))
        .max()
        .unwrap();
    assert!(32 + frames * FRAME_BYTES > WAL_BYTES, "{at_stop:?}");
    assert!(
        at_stop
            .iter()
            .all(|event| event["log"] == event["checkpointed"])
    );
}

#[test]
fn the_checkpoint_command_works_beside_a_recorder() {
    let dir = Dir::new("command");
    let db = dir.file("command.db");
    let options = format!("--source stdin --ack --commit-interval 0 {NO_CHECKPOINTS}");
    let mut running = record(&db, &options);
    let mut sent = 0;
    let mut send = |running: &mut Running| {
        running.send(&lines(sent..sent + 10));
        sent += 10;
        running.wait_for_ack(sent);
    };
    for mode in ["passive", "full", "restart", "truncate"] {
        send(&mut running);
        let (status, done) = checkpoint(&db, &format!("--mode {mode}"));
        assert_eq!(
            (status, done.busy, done.log),
            (0, 0, done.checkpointed),
            "{mode} {done:?}"
        );
        // SQLite counts the frames of a WAL that was cut to nothing as none.
        assert_eq!(done.log > 0, mode != "truncate", "{mode} {done:?}");
        let wal = fs::metadata(beside(&db, "-wal")).unwrap().len();
        assert_eq!(wal > 0, mode != "truncate", "{mode}");
        send(&mut running);
    }
    let reader = Holder::start(&db, READER);
    send(&mut running);
    for mode in ["passive", "full", "restart", "truncate"] {
        let (status, blocked) = checkpoint(&db, &format!("--mode {mode} --busy-timeout 50ms"));
        assert_eq!(status, 3, "{mode} {blocked:?}");
        assert_eq!(blocked.busy == 1, mode != "passive", "{mode} {blocked:?}");
        assert!(
            blocked.checkpointed < blocked.log || blocked.busy == 1,
            "{mode} {blocked:?}"
        );
        // The recorder is none the worse for it.
        send(&mut running);
    }
    reader.release();
    let (status, done) = checkpoint(&db, "--mode truncate");
    assert_eq!((status, done.busy), (0, 0), "{done:?}");
    send(&mut running);
    let (last, ended) = stop(&db, running);
    assert_eq!((last.committed, ended.acked()), (sent, sent));
}

#[test]
fn the_checkpoint_command_leaves_a_file_at_rest_as_it_is() {
    let dir = Dir::new("rest");
    let db = dir.file("rest.db");
    record_all(&db, "--source sim:rate=max,count=100");
    let before = fs::read(&db).unwrap();
    let (status, done) = checkpoint(&db, "");
    assert_eq!(
        (status, done.busy, done.log, done.checkpointed),
        (0, 0, 0, 0)
    );
    assert!(fs::read(&db).unwrap() == before);
    assert_one_file(&db);
}

// Whose file it is.

/// Records to a place where it may not; gives the log, in which an error names `named`.
fn refused_as(db: &Path, named: &Path) -> Vec<String> {
    let ended = record_at_once(db, "--source stdin").wait();
    assert_eq!(ended.code(), 1, "{:#?}", ended.log);
    let last = assert_last_line(&ended.log, "error");
    assert_eq!((last.committed, last.uncommitted), (0, 0));
    assert!(!ended.has(" event=ready "));
    let error = ended
        .log
        .iter()
        .find(|line| line.contains("level=error"))
        .expect("an error");
    assert!(error.contains(text(named)), "{error}");
    ended.log
}

fn refused(db: &Path) -> Vec<String> {
    refused_as(db, db)
}

#[test]
fn a_second_recorder_is_refused_and_told_who_the_first_is() {
    let dir = Dir::new("second");
    let db = dir.file("second.db");
    let mut first = record(&db, "--source stdin --ack");
    let log = refused(&db);
    let pid = format!("process {} ", first.pid());
    assert!(
        log.iter().any(|line| line.contains(&pid)),
        "{pid}: {log:#?}"
    );
    // Under another name of the same file too.
    let link = dir.file("link.db");
    std::os::unix::fs::symlink(&db, &link).unwrap();
    let log = refused_as(&link, &db);
    assert!(
        log.iter().any(|line| line.contains(&pid)),
        "{pid}: {log:#?}"
    );
    // The first notices nothing.
    first.send(&lines(0..10));
    first.wait_for_ack(10);
    first.stop(libc::SIGKILL);
    // A lock does not outlive its holder.
    let (_, ended) = stop(&db, record(&db, "--source stdin"));
    assert!(
        ended.has(" event=recovered run=1 reason=unclean readings=10"),
        "{:#?}",
        ended.log
    );
}

#[test]
fn of_many_that_start_at_once_one_records() {
    const MANY: usize = 8;
    let dir = Dir::new("many");
    let db = dir.file("new/folder/many.db");
    let mut all: Vec<_> = (0..MANY)
        .map(|_| record_at_once(&db, "--source stdin"))
        .collect();
    until("all others have ended", || {
        (all.iter_mut()
            .filter_map(|r| r.has_ended().then_some(()))
            .count()
            == MANY - 1)
            .then_some(())
    });
    let at = (0..MANY).find(|&n| !all[n].has_ended()).unwrap();
    let one = all.swap_remove(at);
    one.wait_for("ready");
    for other in all {
        let ended = other.wait();
        assert_eq!(ended.code(), 1, "{:#?}", ended.log);
        assert_last_line(&ended.log, "error");
    }
    stop(&db, one);
    assert_eq!(ledger(&db).runs, 1);
}

/// The files in a folder, byte for byte.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// The folder is as it was. An index of a -wal that SQLite made anew holds nothing, and may be there.
fn assert_untouched(folder: &Path, before: &BTreeMap<PathBuf, Vec<u8>>) {
    let mut after = snapshot(folder);
    after.retain(|path, _| {
        let wal = text(path)
            .strip_suffix("-shm")
            .map(|db| format!("{db}-wal"));
        !wal.is_some_and(|wal| before.contains_key(Path::new(&wal)))
    });
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| -> Vec<_> { files.keys().cloned().collect() };
    assert_eq!(names(&after), names(before), "files in the folder");
    for (path, bytes) in before {
        assert!(after[path] == *bytes, "{} was changed", path.display());
    }
}

#[test]
fn a_file_that_is_not_seawalls_is_refused_and_left_as_it_was() {
    let foreign = [
        (
            "tables",
            "CREATE TABLE readings(id INTEGER PRIMARY KEY); INSERT INTO readings VALUES(1)",
        ),
        (
            "application",
            "PRAGMA application_id = 252006673; CREATE TABLE t(a)",
        ),
        ("number", "PRAGMA application_id = 252006673"),
        ("version", "PRAGMA user_version = 3"),
        (
            "wal",
            "PRAGMA journal_mode = WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1)",
        ),
    ];
    for (name, make) in foreign {
        let dir = Dir::new("foreign");
        let db = dir.file(&format!("{name}.db"));
        Holder::start(&db, make).release();
        let before = snapshot(dir.path());
        let log = refused(&db);
        assert!(
            log.iter()
                .any(|line| line.contains("not a seawall database")),
            "{name} {log:#?}"
        );
        assert_untouched(dir.path(), &before);
    }
}

#[test]
fn a_foreign_file_with_a_wal_is_left_as_it_was() {
    for (name, make) in [
        (
            "foreign",
            "PRAGMA journal_mode = WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1)",
        ),
        (
            "newer",
            "PRAGMA journal_mode = WAL; PRAGMA user_version = 1000; CREATE TABLE t(a)",
        ),
    ] {
        let dir = Dir::new("foreign-wal");
        let db = dir.file(&format!("{name}.db"));
        if name == "newer" {
            record_all(&db, "--source sim:rate=max,count=100");
        }
        // Killed, so that the -wal holds what the file does not.
        Holder::start(&db, make).kill();
        fs::remove_file(beside(&db, "-shm")).unwrap();
        let before = snapshot(dir.path());
        assert!(before[&beside(&db, "-wal")].len() > 4096);
        refused(&db);
        assert_untouched(dir.path(), &before);
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_as_it_was() {
    let dir = Dir::new("newer");
    let db = dir.file("newer.db");
    record_all(&db, "--source sim:rate=max,count=100");
    Holder::start(&db, "PRAGMA user_version = 1000").release();
    let before = snapshot(dir.path());
    let log = refused(&db);
    assert!(log.iter().any(|line| line.contains("1000")), "{log:#?}");
    assert_untouched(dir.path(), &before);
}

#[test]
fn a_folder_that_may_not_be_written_is_refused_by_name() {
    let public = PublicDir::new();
    let binary = public.binary();
    let closed = public.0.join("closed");
    let theirs = closed.join("theirs.db");
    fs::create_dir(&closed).unwrap();
    fs::write(&theirs, b"").unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    // SAFETY: no pointers, cannot fail.
    let (uid, gid) = match unsafe { (libc::geteuid(), libc::getegid()) } {
        (0, _) => (NOBODY, NOBODY),
        own => own,
    };
    for db in [
        closed.join("new.db"),
        closed.join("folder/new.db"),
        theirs.clone(),
    ] {
        let mut command = Command::new(&binary);
        command.args(["record", "--source", "stdin", "--db", text(&db)]);
        let ended = Running::spawn(command.uid(uid).gid(gid)).wait();
        assert_eq!(ended.code(), 1, "{:#?}", ended.log);
        assert_last_line(&ended.log, "error");
        let error = ended
            .log
            .iter()
            .find(|line| line.contains("level=error"))
            .expect("an error");
        let said = [
            format!("uid {uid}"),
            format!("gid {gid}"),
            text(&closed).to_owned(),
        ];
        assert!(
            said.iter().all(|part| error.contains(part)),
            "{said:?} in {error}"
        );
    }
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 1);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
}

// Settings and the log.

#[test]
fn the_log_level_keeps_out_what_is_below_it_but_never_the_last_line() {
    let mut lengths = Vec::new();
    for (level, kept) in [
        ("error", &["error"][..]),
        ("warn", &["error", "warn"]),
        ("info", &["error", "warn", "info"]),
        ("debug", &["error", "warn", "info", "debug"]),
    ] {
        let dir = Dir::new("level");
        let db = dir.file("level.db");
        let mut running = record_at_once(
            &db,
            &format!("--source stdin --ack --commit-interval 0 --log-level {level}"),
        );
        running.send(b"rejected\nm v=1\n");
        running.wait_for_ack(2);
        let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
        assert_stopped(&db, &ended, 0, "SIGTERM");
        let (_, before) = ended.log.split_last().unwrap();
        for line in before {
            assert!(kept.contains(&&*fields(line)["level"]), "{level}: {line}");
        }
        assert_eq!(ended.has(" event=rejected "), level != "error");
        assert_eq!(
            ended.has(" event=ready "),
            level == "info" || level == "debug"
        );
        lengths.push(before.len());
    }
    assert!(lengths.is_sorted(), "{lengths:?}");
}

#[test]
fn every_log_line_is_logfmt() {
    let dir = Dir::new("logfmt");
    let db = dir.file("a \"quoted\" name.db");
    let mut running = record(&db, "--source stdin --ack");
    running.send(b"rejected \x1b[2J \xff\nm v=1\n");
    running.wait_for_ack(2);
    running.signal(libc::SIGUSR1);
    running.wait_for("checkpoint");
    let (_, ended) = stop(&db, running);
    for line in &ended.log {
        assert!(
            line.starts_with("ts=20") && line.contains("Z level="),
            "{line}"
        );
        assert!(line.chars().all(|c| !c.is_control()), "{line:?}");
        let ts = &fields(line)["ts"];
        assert!(ts.len() == 24 && ts.ends_with('Z'), "{ts}");
    }
    assert_eq!(fields(&ended.log[0])["db"].replace("\\\"", "\""), text(&db));
}

#[test]
fn settings_come_from_the_environment_and_flags_win() {
    let dir = Dir::new("environment");
    let db = dir.file("environment.db");
    let mut command = Command::new(BINARY);
    command
        .env("SEAWALL_DB", &db)
        .env("SEAWALL_SOURCE", "stdin sim:rate=max,count=10")
        .env("SEAWALL_ACK", "on")
        .env("SEAWALL_COMMIT_INTERVAL", "1h")
        .env("SEAWALL_COMMIT_ROWS", "5")
        .env("SEAWALL_COMIT_ROWS", "7")
        .env("SEAWALL_STOP_TIMEOUT", "100")
        .args(["--stop-timeout", "5s"]);
    let mut running = Running::spawn(&mut command);
    running.wait_for("ready");
    let warning = running.wait_for("unknown-variable");
    assert!(
        warning.contains("level=warn") && warning.contains("SEAWALL_COMIT_ROWS"),
        "{warning}"
    );
    running.send(&lines(0..5));
    running.wait_for_ack(5);
    let (last, ended) = stop(&db, running);
    assert_eq!(last.committed, 15);
    assert_eq!(
        events(&ended.log, "unknown-variable").len(),
        1,
        "{:#?}",
        ended.log
    );
}

#[test]
fn a_variable_that_does_not_parse_is_a_usage_error_that_names_it() {
    let dir = Dir::new("usage");
    let db = dir.file("usage.db");
    let mut command = Command::new(BINARY);
    command
        .env("SEAWALL_COMMIT_ROWS", "many")
        .args(["record", "--db", text(&db)]);
    let ended = Running::spawn(&mut command).wait();
    assert_eq!(ended.code(), 2);
    assert!(ended.has("SEAWALL_COMMIT_ROWS"), "{:?}", ended.log);
    assert!(!db.exists());
}

/// Both ends of a terminal of so many columns.
fn terminal(columns: u16) -> (File, OwnedFd) {
    let size = libc::winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let (mut master, mut slave) = (0, 0);
    // SAFETY: openpty fills two descriptors and reads one winsize; the other arguments may be null.
    unsafe {
        let null = std::ptr::null_mut();
        let size: *const libc::winsize = &size;
        assert_eq!(
            libc::openpty(&mut master, &mut slave, null, null as _, size as _),
            0
        );
        for fd in [master, slave] {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    }
}

#[test]
fn on_a_terminal_one_line_shows_how_the_recording_goes() {
    for columns in [200, 40] {
        let dir = Dir::new("terminal");
        let db = dir.file("terminal.db");
        let (mut master, slave) = terminal(columns);
        let options = "--source stdin --source sim:rate=1000 --commit-interval 50ms";
        let streams = [Stdio::piped(), Stdio::piped(), slave.into()];
        let running = Running::on(&db, options, streams);
        // The other end of a terminal that is closed gives an error in place of an end.
        let (sender, shown) = std::sync::mpsc::channel();
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n) = master.read(&mut bytes) {
                if n == 0 || sender.send(bytes[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut all = Vec::new();
        let mut show = |what: &str, condition: &dyn Fn(&str) -> bool| {
            until(what, || {
                all.extend(shown.try_iter().flatten());
                condition(&String::from_utf8_lossy(&all)).then_some(())
            });
            String::from_utf8_lossy(&all).into_owned()
        };
        let drawn = |text: &str| text.matches("\r\x1b[K").count();
        show("the line is drawn again and again", &|text| drawn(text) > 6);
        let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
        assert_eq!(ended.code(), 0);
        let text = show("the last line", &|text| {
            text.contains(" event=stopped ") && text.ends_with('\n')
        });
        reader.join().unwrap();

        // What a person sees: each line as it was last drawn.
        let clean: Vec<&str> = text
            .trim_end()
            .split('\n')
            .map(|line| {
                line.trim_end_matches('\r')
                    .rsplit("\r\x1b[K")
                    .next()
                    .unwrap()
            })
            .collect();
        let last = clean.last().unwrap();
        assert!(
            last.starts_with("ts=") && last.contains(" event=stopped reason=SIGTERM "),
            "{clean:#?}"
        );
        let lines: Vec<&str> = text
            .split("\r\x1b[K")
            .map(|s| s.split(['\r', '\n']).next().unwrap())
            .collect();
        let status = |line: &&&str| line.contains("readings") && !line.starts_with("ts=");
        assert!(lines.iter().filter(status).count() > 3, "{text:?}");
        assert!(
            lines
                .iter()
                .filter(status)
                .all(|line| line.len() < columns.into()),
            "{text:?}"
        );
        if columns == 200 {
            let whole = lines.iter().rfind(status).unwrap();
            for part in ["readings", "/s", "WAL", "checkpoint"] {
                assert!(whole.contains(part), "{part} in {whole:?}");
            }
        }
        assert_one_file(&db);
        assert_sound(&db);
    }
}

#[test]
fn without_a_terminal_there_is_no_status_line() {
    let dir = Dir::new("piped");
    let db = dir.file("piped.db");
    let ended = record_at_once(&db, "--source sim:sensors=1,rate=100,count=120").wait();
    assert_stopped(&db, &ended, 0, "eof");
    assert!(
        ended.log.iter().all(|line| line.starts_with("ts=")),
        "{:#?}",
        ended.log
    );
    assert!(
        ended.log.iter().all(|line| !line.contains(['\r', '\x1b'])),
        "{:#?}",
        ended.log
    );
}

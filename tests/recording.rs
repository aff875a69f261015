//! Recording: guards against a reading that is lost, doubled, altered or given another time, and against a commit or
//! an ack that comes too early, too late or not at all.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::process::Stdio;

use crate::support::recording::*;
use crate::support::stop::*;
use crate::support::*;

/// Two stations, each hour.
const WEATHER: &str = include_str!("data/weather.lp");

#[test]
fn real_weather_is_recorded_to_the_last_digit() {
    let dir = Dir::new("weather");
    let db = dir.file("weather.db");
    let text = WEATHER;
    let lines = text.lines().count() as u64;
    let mut running = record(&db, "--source stdin --ack");
    running.send(text.as_bytes());
    running.close_stdin();
    let ended = running.wait();
    let last = assert_stopped(&db, &ended, 0, "eof");
    assert_eq!(
        (last.committed, last.rejected, ended.acked()),
        (lines, 0, lines)
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

/// More than the recorder remembers, so that it forgets names within a batch and looks all of them up again.
#[test]
fn of_more_series_than_are_remembered_each_reading_keeps_its_name() {
    const SERIES: u64 = 30_000;
    let dir = Dir::new("many-series");
    let db = dir.file("x.db");
    let mut rng = fastrand::Rng::with_seed(1);
    let mut numbers: Vec<u64> = (0..SERIES).collect();
    let mut running = record(&db, "--source stdin --ack");
    for round in 1..=3 {
        // In turn, then in any order.
        if round > 1 {
            rng.shuffle(&mut numbers);
        }
        let mut lines = String::new();
        for n in &numbers {
            writeln!(lines, "climate,building=b{},sensor=bme280-{n} v={n}", n % 7).unwrap();
        }
        running.send(lines.as_bytes());
        running.wait_for_ack(round * SERIES);
    }
    let peak_kib = peak_kib(running.pid());
    assert!(peak_kib < 16 * 1024, "{peak_kib} KiB");
    let (last, _) = stop(&db, running);
    assert_eq!(last.committed, 3 * SERIES);
    let wrong = "SELECT count(*) FROM sensor_numbers
        WHERE sensor <> printf('climate,building=b%d,sensor=bme280-%d', value % 7, value)";
    assert_eq!(sql(&db, wrong), "0");
    let times = "SELECT DISTINCT count(*) FROM readings GROUP BY series";
    assert_eq!(sql(&db, times), "3");
    let names = "SELECT count(*), count(DISTINCT sensor) FROM series";
    assert_eq!(sql(&db, names), format!("{SERIES}|{SERIES}"));
}

#[test]
fn the_log_shows_how_a_rejected_line_begins_and_no_terminal_obeys_it() {
    let dir = Dir::new("beginning");
    let db = dir.file("x.db");
    let mut running = record(&db, "--source stdin --ack");
    let long = "ä".repeat(100);
    running.send(format!("\x1b[2J\r\n{long}\n{{\"t\": 21.5}}\n").as_bytes());
    running.wait_for_ack(3);
    let (_, ended) = stop(&db, running);
    let told: Vec<_> = ended
        .log
        .iter()
        .filter(|line| line.contains(" event=rejected "))
        .collect();
    assert!(told[0].contains(r#" text="\u{1b}[2J" "#), "{told:?}");
    let shown = format!(" text=\"{}…\" ", "ä".repeat(30));
    assert!(told[1].contains(&shown), "{told:?}");
    assert!(
        told[2].contains("; this looks like JSON (a line is: "),
        "{told:?}"
    );
}

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
    assert_eq!(told[0]["text"], "m v=", "{told:?}");
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

fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

#[test]
fn long_names_of_many_series_are_bounded_in_memory() {
    let dir = Dir::new("names");
    let db = dir.file("x.db");
    let mut run = start(&db, &["--source", "stdin", "--commit-interval", "0"]);
    run.wait_for("ready");
    let writer = Holder::start(&db, "BEGIN IMMEDIATE");
    let pid = run.pid();
    let stdin = run.stdin.take().unwrap();
    let tag = "x".repeat(60_000);
    let sender = std::thread::spawn(move || {
        let mut stdin = stdin;
        for n in 0..300 {
            let line = format!("m,n={n}{tag} f=1 {n}\n");
            std::io::Write::write_all(&mut stdin, line.as_bytes()).unwrap();
        }
    });
    run.wait_for("commit-waiting");
    writer.release();
    sender.join().unwrap();
    let high = peak_kib(pid);
    let ended = run.wait();
    assert_eq!(ended.code(), 0);
    assert!(high < 32 * 1024, "{high} KiB");
    assert_eq!(count(&db), 300);
}

#[test]
fn a_source_that_cannot_be_read_is_no_end_of_input() {
    let dir = Dir::new("unreadable");
    let db = dir.file("x.db");
    let mut child = command(&db, &["--source", "stdin"]);
    child
        .stdin(File::open(dir.path()).unwrap())
        .stderr(Stdio::piped());
    let output = child.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("event=source-failed"), "{log}");
    assert!(
        log.lines().last().unwrap().contains("reason=error"),
        "{log}"
    );
    assert_eq!(sql(&db, "SELECT reason FROM runs"), "error");
}

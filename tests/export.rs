//! Guards against an export that loses, doubles or changes readings on their way to somewhere else (a resume
//! that is off by one, text that became a number, a float cut short), and against one that holds the
//! recorder up: a reader that waits for its consumer with a transaction open lets the -wal grow without end.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::stop::{assert_one_file, record, record_at_once, text};
use crate::support::*;

/// All types, names that need quotes and escapes, values at the ends of their ranges, times out of order.
const MANY_KINDS: &str = r#"weather,station=s\ f,room=a\,b temperature_c=39.4,wet=t,n=-9223372036854775808i 1262304000000000000
weather,station=sf,quote=a"b temperature_c=-0.0,wet=false,n=9223372036854775807i 1262303000000000000
big u=18446744073709551615u,v=7u,f=1.7976931348623157e308,tiny=5e-324 -1
note text="",more="1",say="he said \"no\" \\ and, went" 951782400999999999
grün,größe=ß wert=0.1,name="größe" 1262304000000000001
m f=1,f=2 5
"#;
/// A tag value and a text with control bytes in them, and a text over two lines.
const CONTROL: &[u8] = b"odd,t=a\x01b text=\"two\nlines\x02\tand\r\" 7\n";

fn many_kinds() -> Vec<u8> {
    [MANY_KINDS.as_bytes(), CONTROL].concat()
}

fn record_lines(db: &Path, lines: &[u8]) {
    let mut run = record(db, "--source stdin");
    run.send(lines);
    run.close_stdin();
    assert_eq!(run.wait().code(), 0);
}

fn export(db: &Path, options: &str) -> Vec<u8> {
    let output = Command::new(BINARY)
        .args(["export", "--db", text(db)])
        .args(options.split_whitespace())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*error), (Some(0), ""));
    output.stdout
}

fn ids(csv: &[u8]) -> Vec<i64> {
    let text = String::from_utf8_lossy(csv);
    let rows = text.split("\r\n").skip(1).filter(|row| !row.is_empty());
    rows.map(|row| row.split(',').nth(1).unwrap().parse().unwrap())
        .collect()
}

/// Runs a script that gets what was exported on stdin and the database as its argument.
fn python(script: &str, db: &Path, exported: &[u8]) {
    let mut child = python3()
        .args(["-c", script, text(db)])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(exported).unwrap();
    assert!(child.wait().unwrap().success());
}

const COMPARE: &str = r#"
import csv, io, json, sqlite3, sys
bytes_in = sys.stdin.buffer.read()
names = ['device', 'id', 'time_ns', 'timestamp', 'sensor', 'field', 'value', 'run']
connection = sqlite3.connect(sys.argv[1])
wanted = connection.execute('SELECT (SELECT id FROM device), r.*, type FROM sensor_readings r JOIN readings USING(id) JOIN series ON series.id = series ORDER BY r.id').fetchall()
text = bytes_in.decode()
if text.startswith('{'):
    got = [json.loads(line) for line in text.split('\n')[:-1]]
    assert all(list(row) == names for row in got)
    got = [list(row.values()) for row in got]
else:
    rows = list(csv.reader(io.StringIO(text, newline='')))
    assert rows[0] == names, rows[0]
    got = rows[1:]
    for row in got:
        row[1], row[2], row[7] = int(row[1]), int(row[2]), int(row[7])
assert len(got) == len(wanted), (len(got), len(wanted))
for have, want in zip(got, wanted):
    want, kind = list(want[:8]), want[8]
    value, expected = have[6], want[6]
    if kind == 'unsigned' and isinstance(expected, str):
        expected = int(expected)
    if text.startswith('{'):
        assert type(value) is type(expected), (value, expected)
    elif kind != 'string':
        value = type(expected)(value)
    assert repr(value) == repr(expected), (value, expected)
    have[6] = want[6] = None
    assert have == want, (have, want)
"#;

#[test]
fn csv_and_json_lines_are_exactly_what_the_view_has() {
    let dir = Dir::new("export");
    let db = dir.file("x.db");
    record_lines(&db, &many_kinds());
    record_lines(&db, b"second,run=yes f=1 1\n");
    for format in ["csv", "ndjson"] {
        let exported = export(&db, &format!("--format {format}"));
        python(COMPARE, &db, &exported);
    }
    // RFC 4180, and text told from numbers.
    let exported = String::from_utf8(export(&db, "")).unwrap();
    assert!(exported.starts_with("device,id,time_ns,timestamp,sensor,field,value,run\r\n"));
    assert!(exported.contains(",note,more,\"1\",1\r\n"), "{exported}");
    assert!(exported.contains(",big,v,7,1\r\n"), "{exported}");
}

#[test]
fn line_protocol_recorded_again_gives_the_same_readings_types_included() {
    let dir = Dir::new("export");
    let (db, again) = (dir.file("x.db"), dir.file("again.db"));
    record_lines(&db, &many_kinds());
    let exported = export(&db, "--format influx");
    record_lines(&again, &exported);
    let all = "SELECT readings.id, time_ns, sensor, field, type, value, typeof(value)
               FROM readings JOIN series ON series.id = series ORDER BY readings.id";
    let first = sql(&db, all);
    assert_eq!(count(&db), 18);
    assert_eq!(sql(&again, all), first);
    assert_eq!(export(&again, "--format influx"), exported);
}

#[test]
fn cut_anywhere_and_resumed_the_pieces_are_the_whole() {
    let dir = Dir::new("export");
    let db = dir.file("x.db");
    for seed in 1..4 {
        let spec = format!("--source sim:sensors=3,rate=max,count=9000,seed={seed}");
        assert_eq!(record(&db, &spec).wait().code(), 0);
    }
    let whole = export(&db, "");
    let header = whole.iter().position(|&b| b == b'\n').unwrap() + 1;
    let seed = crate::support::stop::seed();
    let mut random = seed;
    for _ in 0..25 {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let cut = (random >> 33) as usize % whole.len();
        // What the consumer has are the whole rows.
        let kept = whole[..cut]
            .iter()
            .rposition(|&b| b == b'\n')
            .map_or(0, |at| at + 1);
        let last = String::from_utf8_lossy(&whole[..kept]);
        let last = last.trim_end().rsplit("\r\n").next().unwrap().to_owned();
        let columns: Vec<&str> = last.split(',').collect();
        let after = match columns[..] {
            [_, id, .., run] if id != "id" => format!("{run}:{id}"),
            _ => "0".to_owned(),
        };
        for after in [after.as_str(), after.rsplit(':').next().unwrap()] {
            let rest = export(&db, &format!("--after {after}"));
            let pieces = [&whole[..kept.max(header)], &rest[header..]].concat();
            assert!(
                pieces == whole,
                "seed {seed}, cut at {cut}, --after {after}"
            );
        }
    }
    // In pieces of a fixed size, too.
    let mut pieces = whole[..header].to_vec();
    let mut after = 0;
    loop {
        let piece = export(&db, &format!("--after {after} --limit 7001"));
        let Some(last) = ids(&piece).last().copied() else {
            break;
        };
        after = last;
        pieces.extend_from_slice(&piece[header..]);
    }
    assert!(pieces == whole);
}

#[test]
fn what_a_power_cut_took_and_a_later_run_numbered_anew_is_sent_to_one_who_names_the_run() {
    let dir = Dir::new("export");
    let db = dir.file("x.db");
    let lines = |values: std::ops::Range<u32>| {
        let lines = values.map(|n| format!("m f={n} {n}\n"));
        lines.collect::<String>().into_bytes()
    };
    record_lines(&db, &lines(0..10));
    // As after the cut: the run is there, its last readings are not.
    sql(&db, "DELETE FROM readings WHERE id > 6");
    sql(&db, "UPDATE runs SET committed = 6");
    record_lines(&db, &lines(10..13));
    assert_eq!(ids(&export(&db, "--after 1:10")), [7, 8, 9]);
    assert_eq!(ids(&export(&db, "--after 2:8")), [9]);
    assert_eq!(ids(&export(&db, "--after 10")), []);
    assert_eq!(ids(&export(&db, "--after 1:5")), [6, 7, 8, 9]);
}

#[test]
fn a_position_of_another_database_is_said_and_begins_with_the_first_reading() {
    let dir = Dir::new("export-position");
    let (db, other) = (dir.file("x.db"), dir.file("y.db"));
    record_lines(&db, b"m v=1 1\nm v=2 2\nm v=3 3\n");
    record_lines(&other, b"m v=4 4\n");
    let device = |db: &Path| sql(db, "SELECT id FROM device");
    let after = |device: &str| {
        let after = format!("--after={device}:1:2");
        seawall(&["export", "--db", db.to_str().unwrap(), &after])
    };
    let (code, out, err) = after(&device(&db));
    assert_eq!((code, ids(out.as_bytes()), &*err), (0, vec![3], ""));
    let (code, out, err) = after(&device(&other));
    assert_eq!((code, ids(out.as_bytes())), (0, vec![1, 2, 3]));
    assert!(err.contains("is not the database of the position"), "{err}");
}

/// As for a follower that is slower than retention.
#[test]
fn readings_that_went_before_they_were_read_are_counted_at_the_end() {
    let dir = Dir::new("export-gone");
    let db = dir.file("x.db");
    let lines: String = (0..9_000).map(|n| format!("m v={n} {n}\n")).collect();
    record_lines(&db, lines.as_bytes());
    for drop in [
        "DELETE FROM readings WHERE id <= 4096",
        "DELETE FROM spans WHERE last_id <= 4096",
        "UPDATE runs SET expired = 4096",
    ] {
        sql(&db, drop);
    }
    assert_sound(&db);
    let export = |after: &str| seawall(&["export", "--db", db.to_str().unwrap(), after]);
    let (code, out, err) = export("--after=1:96");
    assert_eq!((code, ids(out.as_bytes()).len()), (1, 4_904), "{err}");
    assert!(
        err.contains("4000 readings had gone with --retain or --max-size"),
        "{err}"
    );
    // Whoever begins at the beginning has missed nothing.
    for after in ["--after=0", "--after=1:4096", "--after=1:5000"] {
        let (code, _, err) = export(after);
        assert_eq!((code, &*err), (0, ""), "{after}");
    }
}

#[test]
fn rows_that_went_from_the_old_end_are_passed_over() {
    let dir = Dir::new("export");
    let db = dir.file("x.db");
    assert_eq!(
        record(&db, "--source sim:rate=max,count=30000")
            .wait()
            .code(),
        0
    );
    sql(&db, "DELETE FROM readings WHERE id <= 29000");
    assert_eq!(ids(&export(&db, "")), (29001..=30000).collect::<Vec<_>>());
    assert_eq!(ids(&export(&db, "--after 29000 --limit 2")), [29001, 29002]);
    sql(&db, "DELETE FROM readings");
    assert_eq!(ids(&export(&db, "")), []);
}

#[test]
fn what_cannot_be_a_reading_is_told_by_its_id_after_all_before_it() {
    let dir = Dir::new("export");
    let db = dir.file("x.db");
    record_lines(&db, &many_kinds());
    sql(&db, "UPDATE readings SET value = x'00' WHERE id = 5");
    sql(&db, "UPDATE readings SET series = 99 WHERE id = 9");
    for (after, good, why) in [
        (
            "0",
            vec![1, 2, 3, 4],
            "reading 5 has a value that no sensor sends",
        ),
        (
            "5",
            vec![6, 7, 8],
            "reading 9 is of series 99, which is not there",
        ),
    ] {
        let (code, out, err) = seawall(&["export", "--after", after, "--db", text(&db)]);
        assert_eq!((code, ids(out.as_bytes())), (1, good));
        assert!(err.contains(why) && err.lines().count() == 1, "{err}");
    }
}

#[test]
fn times_sensors_and_a_limit_choose_readings() {
    let dir = Dir::new("export");
    let db = dir.file("x.db");
    record_lines(&db, &many_kinds());
    let chosen = |options: &str| ids(&export(&db, options));
    // By their own time, wherever they are.
    assert_eq!(chosen("--since 2010-01-01T00:00:00Z"), [1, 2, 3, 14, 15]);
    let options = "--since 2009-12-31T23:00:00+00:00 --until 2010-01-01T00:00:00Z";
    assert_eq!(chosen(options), [4, 5, 6]);
    assert_eq!(chosen("--until 1970-01-01T00:00:00Z"), [7, 8, 9, 10]);
    assert_eq!(chosen("--since -1h"), []);
    assert_eq!(chosen("--sensor weather*"), [1, 2, 3, 4, 5, 6]);
    assert_eq!(chosen("--sensor gr?n*"), [14, 15]);
    assert_eq!(chosen("--limit 2"), [1, 2]);
    assert_eq!(chosen("--limit 0"), []);
    assert_eq!(chosen("--after 2 --limit 2 --sensor weather*"), [3, 4]);
}

#[test]
fn times_are_found_wherever_they_were_backfilled() {
    let dir = Dir::new("export");
    let db = dir.file("x.db");
    // Six blocks of the file's index on time, in no order, and a few strays among them.
    let mut lines = String::new();
    for n in 0..30_000u64 {
        let block = [3, 0, 5, 1, 4, 2][n as usize / 5000];
        let time = if n % 6007 == 0 {
            7
        } else {
            block * 1_000_000_000 + n
        };
        lines += &format!("m f={n} {time}\n");
    }
    record_lines(&db, lines.as_bytes());
    assert_eq!(sql(&db, "SELECT count(*) FROM spans"), "7");
    for (since, until) in [(1, 2), (0, 1), (3, 6), (0, 6), (5, 9), (7, 9)] {
        let options =
            format!("--since 1970-01-01T00:00:0{since}Z --until 1970-01-01T00:00:0{until}Z");
        let wanted = format!(
            "SELECT coalesce(group_concat(id), '') FROM
             (SELECT id FROM readings WHERE time_ns >= {since}000000000 AND time_ns < {until}000000000 ORDER BY id)"
        );
        let found: Vec<_> = ids(&export(&db, &options))
            .iter()
            .map(i64::to_string)
            .collect();
        assert!(
            found.join(",") == sql(&db, &wanted),
            "{options}: {} rows",
            found.len()
        );
        // And resumed in the middle of it.
        let late = ids(&export(&db, &format!("{options} --after 12345")));
        let later = found.iter().filter(|id| id.parse::<i64>().unwrap() > 12345);
        assert_eq!(late.len(), later.count(), "{options}");
    }
}

#[test]
fn a_value_that_makes_no_sense_is_told_with_its_flag() {
    for (flag, value) in [
        ("--since", "yesterday"),
        ("--until", "2010-13-01T00:00:00Z"),
        ("--after", "x"),
        ("--after", "1:"),
        ("--after", "-1"),
        ("--limit", "-1"),
        ("--format", "xml"),
    ] {
        let (code, out, err) = seawall(&["export", flag, value]);
        assert_eq!((code, out.as_str()), (2, ""), "{flag} {value}");
        assert!(err.contains(flag) && err.contains(value), "{err}");
    }
}

/// An export into a pipe that the test reads, or not.
fn exporting(db: &Path, options: &str) -> std::process::Child {
    Command::new(BINARY)
        .args(["export", "--db", text(db)])
        .args(options.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn ended(mut child: std::process::Child) -> (Option<i32>, String) {
    let status = until("the export ends", || child.try_wait().unwrap());
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    (status.code(), err)
}

fn signal(child: &std::process::Child, signal: i32) {
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
}

#[test]
fn a_consumer_that_takes_nothing_keeps_neither_the_wal_nor_the_recorders_stop() {
    let dir = Dir::new("export");
    let db = dir.file("x.db");
    assert_eq!(
        record(&db, "--source sim:rate=max,count=50000")
            .wait()
            .code(),
        0
    );
    let recorder = record_at_once(&db, "--source sim:rate=100");
    recorder.wait_for("ready");
    let mut blocked = exporting(&db, "--follow");
    let pipe = std::os::fd::AsRawFd::as_raw_fd(blocked.stdout.as_ref().unwrap());
    crate::support::stop::wait_until_stuck(pipe);
    for _ in 0..3 {
        let rows = count(&db);
        until("more is recorded", || {
            (count(&db) > rows + 100).then_some(())
        });
        let (code, out, err) = seawall(&["checkpoint", "--mode", "truncate", "--db", text(&db)]);
        assert_eq!(
            (code, out.as_str()),
            (0, "busy=0 log=0 checkpointed=0\n"),
            "{err}"
        );
    }
    assert_eq!(recorder.stop(libc::SIGTERM).code(), 0);
    assert_one_file(&db);
    assert!(blocked.try_wait().unwrap().is_none());
    // It goes on where it was, on the file that has left WAL mode.
    let mut reader = BufReader::new(blocked.stdout.take().unwrap());
    let mut seen = 0;
    let all = count(&db);
    while seen < all {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(id) = line.split(',').nth(1).and_then(|id| id.parse::<u64>().ok()) {
            assert_eq!(id, seen + 1);
            seen = id;
        }
    }
    signal(&blocked, libc::SIGTERM);
    drop(reader);
    assert_eq!(ended(blocked), (Some(0), String::new()));
}

#[test]
fn a_signal_ends_a_follower_that_waits_for_its_consumer() {
    let dir = Dir::new("export");
    let db = dir.file("x.db");
    assert_eq!(
        record(&db, "--source sim:rate=max,count=50000")
            .wait()
            .code(),
        0
    );
    for number in [libc::SIGTERM, libc::SIGINT] {
        let blocked = exporting(&db, "--follow");
        let pipe = std::os::fd::AsRawFd::as_raw_fd(blocked.stdout.as_ref().unwrap());
        crate::support::stop::wait_until_stuck(pipe);
        signal(&blocked, number);
        assert_eq!(ended(blocked), (Some(0), String::new()));
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let dir = Dir::new("export");
    let db = dir.file("x.db");
    assert_eq!(
        record(&db, "--source sim:rate=max,count=50000")
            .wait()
            .code(),
        0
    );
    for options in ["", "--format ndjson", "--follow"] {
        // While rows are written.
        let mut child = exporting(&db, options);
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        reader.read_line(&mut String::new()).unwrap();
        drop(reader);
        assert_eq!(ended(child), (Some(0), String::new()), "{options}");
    }
    // And while there is nothing to write.
    let mut child = exporting(&db, "--follow --after 50000");
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    assert_eq!(ended(child), (Some(0), String::new()));
}

/// A follower, and what it wrote so far.
struct Follower(Running);

impl Follower {
    fn start(db: &Path) -> Self {
        Follower(Running::start(&["export", "--follow", "--db", text(db)]))
    }

    fn rows(&self) -> Vec<String> {
        self.0.out().into_iter().skip(1).collect()
    }

    fn wait_for(&self, rows: u64) {
        until(
            &format!("there are {rows} rows, with {:#?}", self.0.log()),
            || (self.rows().len() as u64 >= rows).then_some(()),
        );
    }

    fn end(self) -> Vec<String> {
        let ended = self.0.stop(libc::SIGTERM);
        assert_eq!(ended.code(), 0, "{:#?}", ended.log);
        ended.out
    }
}

#[test]
fn a_follower_goes_on_over_stops_kills_and_starts_of_the_recorder() {
    let dir = Dir::new("export");
    let db = dir.file("x.db");
    record_lines(&db, b"m f=0 0\n");
    let follower = Follower::start(&db);
    follower.wait_for(1);
    let mut n = 1;
    for round in 0..3 {
        let mut recorder = record_at_once(&db, "--source stdin --ack");
        for _ in 0..50 {
            recorder.send(format!("m f={n} {n}\n").as_bytes());
            n += 1;
        }
        until("all is acknowledged", || {
            (recorder.acked() == 50).then_some(())
        });
        follower.wait_for(n);
        if round == 1 {
            recorder.kill();
        } else {
            assert_eq!(recorder.stop(libc::SIGTERM).code(), 0);
        }
    }
    let out = follower.end();
    assert_eq!(out.len() as u64, n + 1);
    python(COMPARE, &db, (out.join("\n") + "\n").as_bytes());
}

#[test]
fn a_follower_goes_on_with_the_database_that_comes_in_place_of_the_old_one() {
    let dir = Dir::new("export");
    let db = dir.file("x.db");
    record_lines(&db, b"m f=1 1\nm f=2 2\n");
    let follower = Follower::start(&db);
    follower.wait_for(2);
    let aside: PathBuf = dir.file("aside.db");
    fs::rename(&db, aside).unwrap();
    record_lines(&db, b"n f=3 3\n");
    follower.wait_for(3);
    until("it is told", || {
        let log = follower.0.log();
        log.iter()
            .any(|l| l.contains("is not the database of the position"))
            .then_some(())
    });
    let rows = follower.rows();
    let of = |n: usize, at: usize| rows[n].split(',').nth(at).unwrap().to_owned();
    assert_eq!((of(1, 1), of(2, 1)), ("2".into(), "1".into()));
    assert_ne!(of(1, 0), of(2, 0));
    follower.end();
}

#[test]
fn a_sensor_that_is_not_there_and_a_run_that_is_not_are_told() {
    let dir = Dir::new("export");
    let db = dir.file("x.db");
    record_lines(&db, b"m,k=a f=1 1\nm,k=b f=2 2\n");
    let export = |more: &[&str]| {
        let db = db.to_str().unwrap();
        let (code, out, err) = seawall(&[&["export", "--db", db], more].concat());
        (code, out.lines().count() - 1, err)
    };
    let (code, rows, err) = export(&["--sensor", "m"]);
    assert_eq!((code, rows), (0, 0));
    assert!(
        err.starts_with("seawall: no sensor matches --sensor \"m\", ") && err.contains("'m*'"),
        "{err}"
    );
    assert_eq!(export(&["--sensor", "m*"]), (0, 2, String::new()));
    // It is there, and has nothing of that time.
    assert_eq!(
        export(&["--sensor", "m*", "--until", "1969-01-01T00:00:00Z"]),
        (0, 0, String::new())
    );
    let says = format!(
        "seawall: {} has no run 9; going on after reading 1\n",
        db.display()
    );
    assert_eq!(export(&["--after", "9:1"]), (0, 1, says));
    assert_eq!(export(&["--after", "1:1"]), (0, 1, String::new()));
}

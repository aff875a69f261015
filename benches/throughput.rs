//! How fast lines on stdin are recorded, and with what memory, beside a bare loop and the programs that people
//! would take otherwise. All take turns.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::recorder::{image_program, record_file, record_file_by, remove};
use super::{bare, process, table};

pub const ROWS: u64 = 2_000_000;
pub const ROUNDS: usize = 5;
/// Of the programs that are slow, or for which the rows are slow to make.
const OTHER_ROWS: u64 = ROWS / 20;

/// A program that can do a part of this: its name, why it may be missing, and how to measure it: rows a second,
/// or none where it is not.
type Other = (&'static str, &'static str, fn(&Path) -> Option<f64>);

const OTHERS: [Other; 5] = [
    ("Python logger, batches of 1", "no python3", |folder| {
        python_logger(folder, 1)
    }),
    ("Python logger, batches of 100", "no python3", |folder| {
        python_logger(folder, 100)
    }),
    ("Python logger, batches of 1000", "no python3", |folder| {
        python_logger(folder, 1000)
    }),
    ("sqlite3 .import of CSV", "sqlite3 is not installed", import),
    (
        "sqlite-utils insert --nl",
        "sqlite-utils is not in .venv",
        sqlite_utils,
    ),
];

pub fn measure(folder: &Path) {
    let lines = make_lines(folder, ROWS);
    let (bare_db, db) = (folder.join("bare.db"), folder.join("seawall.db"));
    let [mut bare, mut plain, mut acked, mut image]: [(Vec<f64>, Vec<f64>); 4] = Default::default();
    let mut others: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        let run = |(rates, peaks): &mut (Vec<f64>, Vec<f64>), command: &mut Command| {
            let (took, peak) = process::run(command);
            rates.push(per_second(ROWS, took));
            peaks.push(peak);
            remove(&bare_db);
            remove(&db);
        };
        run(&mut bare, &mut bare_loop(&bare_db, ROWS));
        run(&mut plain, &mut record_file(&db, &lines, &[]));
        run(&mut acked, &mut record_file(&db, &lines, &["--ack"]));
        if let Some(program) = image_program() {
            run(
                &mut image,
                &mut record_file_by(&program, &db, &lines, &["--ack"]),
            );
        }
        for (rates, (_, _, measure)) in others.iter_mut().zip(OTHERS) {
            rates.extend(measure(folder));
        }
    }
    let unit = "readings/s";
    let loop_rates = ("bare bind-and-step, no parsing", &*bare.0);
    table::row(unit, ("stdin", &plain.0), loop_rates);
    table::row(
        unit,
        ("stdin, --ack (every commit synced)", &acked.0),
        loop_rates,
    );
    for (rates, (name, why, _)) in others.iter().zip(OTHERS) {
        if rates.is_empty() {
            table::skip(&format!("stdin, --ack, beside {name}"), why);
        } else {
            table::row(
                unit,
                ("stdin, --ack (every commit synced)", &acked.0),
                (name, rates),
            );
        }
    }
    let loop_peaks = ("bare bind-and-step, no parsing", &*bare.1);
    table::row("MiB", ("peak memory, stdin", &plain.1), loop_peaks);
    table::row("MiB", ("peak memory, stdin, --ack", &acked.1), loop_peaks);
    let name = "stdin, --ack, the image's program";
    if image.0.is_empty() {
        return table::skip(name, NO_IMAGE);
    }
    table::row(unit, (name, &image.0), loop_rates);
    table::row(
        "MiB",
        (&format!("peak memory, {name}"), &image.1),
        loop_peaks,
    );
}

pub const NO_IMAGE: &str = "SEAWALL_IMAGE_PROGRAM does not name it";

pub fn per_second(rows: u64, took: Duration) -> f64 {
    rows as f64 / took.as_secs_f64()
}

pub fn bare_loop(db: &Path, rows: u64) -> Command {
    bare::command(&["insert", db.to_str().unwrap(), &rows.to_string()])
}

/// A line of the n-th reading.
pub fn line(n: u64) -> String {
    let (station, value, time) = (n % 8, bare::value(n), bare::time_ns(n));
    format!("weather,station=s{station} temperature_c={value} {time}\n")
}

pub fn make_lines(folder: &Path, rows: u64) -> PathBuf {
    let path = folder.join("lines.lp");
    let mut file = BufWriter::new(File::create(&path).expect("make a file"));
    for n in 0..rows {
        file.write_all(line(n).as_bytes()).expect("write the lines");
    }
    file.flush().expect("write the lines");
    path
}

/// The kind of program that seawall replaces: no parsing, `executemany`, a commit for each batch.
fn python_logger(folder: &Path, batch: usize) -> Option<f64> {
    let db = folder.join("python.db");
    let script = format!(
        "
import sqlite3, sys, time
rows = [('weather,station=s%d' % (n % 8), 20.0 + n % 7, 1700000000000000000 + n) for n in range({OTHER_ROWS})]
start = time.monotonic()
db = sqlite3.connect(sys.argv[1])
db.execute('PRAGMA journal_mode=WAL')
db.execute('PRAGMA synchronous=NORMAL')
db.execute('CREATE TABLE readings(id INTEGER PRIMARY KEY, sensor TEXT, value REAL, time_ns INTEGER)')
for at in range(0, {OTHER_ROWS}, {batch}):
    db.executemany('INSERT INTO readings(sensor, value, time_ns) VALUES(?, ?, ?)', rows[at:at + {batch}])
    db.commit()
db.close()
print({OTHER_ROWS} / (time.monotonic() - start))
"
    );
    let output = Command::new("python3")
        .arg("-c")
        .arg(script)
        .arg(&db)
        .output()
        .ok()?;
    remove(&db);
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Writes the rows in another format, has a command read them, and takes the time of that.
fn other(folder: &Path, row: fn(u64) -> String, command: &mut Command) -> Option<f64> {
    let text: String = (0..OTHER_ROWS).map(row).collect();
    fs::write(folder.join("rows"), text).expect("write the rows");
    let start = std::time::Instant::now();
    let output = command.current_dir(folder).output().ok()?;
    let took = start.elapsed();
    assert!(output.status.success(), "{command:?}: {output:?}");
    remove(&folder.join("other.db"));
    Some(per_second(OTHER_ROWS, took))
}

fn import(folder: &Path) -> Option<f64> {
    let row = |n| format!("{},{},{}\n", bare::time_ns(n), n % 8 + 1, bare::value(n));
    let mut command = Command::new("sqlite3");
    command.args([
        "other.db",
        "CREATE TABLE readings(time_ns INTEGER, series INTEGER, value REAL)",
    ]);
    other(folder, row, command.arg(".import --csv rows readings"))
}

fn sqlite_utils(folder: &Path) -> Option<f64> {
    let row = |n| {
        let (time, series, value) = (bare::time_ns(n), n % 8 + 1, bare::value(n));
        format!("{{\"time_ns\": {time}, \"series\": {series}, \"value\": {value}}}\n")
    };
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/sqlite-utils");
    let mut command = Command::new(program);
    command.args(["insert", "other.db", "readings", "rows", "--nl"]);
    other(folder, row, &mut command)
}

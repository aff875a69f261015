//! `just bench`: how fast seawall records and stops, beside yardsticks that anybody can check.
//!
//! Each figure and its yardstick take turns in the same run, because the machine may be shared; the table
//! gives the median, the ratio and the spread. Nothing here is asserted.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::ptr;
use std::time::{Duration, Instant};

use libsqlite3_sys as ffi;

mod sockets;

const ROWS: usize = 2_000_000;
const ROUNDS: usize = 5;
const STOPS: usize = 200;
const BINARY: &str = env!("CARGO_BIN_EXE_seawall");

fn main() {
    // `cargo test --benches` only wants to know that this builds and runs.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("make a folder");
    // `cargo bench -- sockets` measures only these.
    if std::env::args().any(|argument| argument == "sockets") {
        print_sockets(&folder);
        return;
    }
    let lines = make_lines(&folder);
    println!("{ROWS} readings of 8 sensors, {ROUNDS} rounds, median (least to most)\n");

    let mut bare = Vec::new();
    let mut plain = Vec::new();
    let mut acked = Vec::new();
    let mut python: [Vec<f64>; 3] = Default::default();
    let batches = [1, 100, 1000];
    let others: [Other; 2] = [
        ("sqlite3 .import of CSV", import),
        ("sqlite-utils insert --nl", sqlite_utils),
    ];
    let mut other_rates: [Vec<f64>; 2] = Default::default();
    for _ in 0..ROUNDS {
        bare.push(bare_loop(&folder));
        plain.push(seawall(&folder, &lines, &[]));
        acked.push(seawall(&folder, &lines, &["--ack"]));
        for (rates, batch) in python.iter_mut().zip(batches) {
            rates.extend(python_logger(&folder, batch));
        }
        for (rates, (_, measure)) in other_rates.iter_mut().zip(others) {
            rates.extend(measure(&folder));
        }
    }
    head("recorded", "readings/s");
    let yardstick = median(&bare);
    row("bare bind-and-step, no parsing", &bare, yardstick);
    row("seawall, line protocol on stdin", &plain, yardstick);
    row("seawall --ack (every commit synced)", &acked, yardstick);
    for (rates, batch) in python.iter().zip(batches) {
        if rates.is_empty() {
            println!("Python logger: skipped, no python3");
            break;
        }
        row(
            &format!("Python logger, batches of {batch}"),
            rates,
            yardstick,
        );
    }

    for (rates, (name, _)) in other_rates.iter().zip(others) {
        if rates.is_empty() {
            println!("{name}: skipped, it is not installed");
        } else {
            row(name, rates, yardstick);
        }
    }

    let (mut syncs, mut stops, mut checkpoints) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STOPS {
        syncs.push(sync_once(&folder));
        let (stop, checkpoint) = stop_at_full_load(&folder);
        stops.push(stop);
        checkpoints.push(checkpoint);
    }
    head(&format!("SIGTERM to exit, {STOPS} times"), "ms");
    let yardstick = median(&syncs);
    row("write and fdatasync of one page", &syncs, yardstick);
    row("seawall at full load", &stops, yardstick);
    row("of that, the last checkpoint", &checkpoints, yardstick);
    let p99 = |samples: &[f64]| {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() * 99 / 100]
    };
    row("p99 of the stops", &[p99(&stops)], p99(&syncs));
    print_sockets(&folder);
    let _ = fs::remove_dir_all(&folder);
}

fn print_sockets(folder: &Path) {
    let mut unit = "";
    for row in sockets::rows(folder) {
        if row.unit != unit {
            unit = row.unit;
            head("sockets", unit);
        }
        let digits = usize::from(row.median < 1000.0) * 2;
        println!(
            "{:<38} {:>12.digits$} {:>8.2}   {:.digits$} to {:.digits$}",
            row.name, row.median, row.ratio, row.least, row.most
        );
    }
}

fn head(title: &str, unit: &str) {
    println!("{title:<38} {unit:>12} {:>8}   spread", "ratio");
}

fn row(name: &str, samples: &[f64], yardstick: f64) {
    let digits = usize::from(median(samples) < 1000.0) * 2;
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(0.0, f64::max);
    println!(
        "{name:<38} {:>12.digits$} {:>8.2}   {least:.digits$} to {most:.digits$}",
        median(samples),
        median(samples) / yardstick,
    );
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn per_second(took: Duration) -> f64 {
    ROWS as f64 / took.as_secs_f64()
}

fn make_lines(folder: &Path) -> PathBuf {
    let path = folder.join("lines.lp");
    let mut text = String::new();
    for (n, value) in values().enumerate() {
        text += &format!(
            "weather,station=s{} temperature_c={value} {}\n",
            n % 8,
            time_ns(n)
        );
    }
    fs::write(&path, text).expect("write the lines");
    path
}

fn time_ns(n: usize) -> i64 {
    1_700_000_000_000_000_000 + n as i64 * 1_000_000
}

/// Two decimals, as sensors have.
fn values() -> impl Iterator<Item = f64> {
    let mut rng = fastrand::Rng::with_seed(1);
    (0..ROWS).map(move |_| f64::from(rng.i32(1800..2600)) / 100.0)
}

/// What SQLite itself takes for these rows: the same pragmas and table, batches of 1000, no text to parse,
/// no ledger.
fn bare_loop(folder: &Path) -> f64 {
    let path = folder.join("bare.db");
    let name = CString::new(path.to_str().unwrap()).unwrap();
    let values: Vec<f64> = values().collect();
    let start = Instant::now();
    // SAFETY: one thread, one connection, every pointer from SQLite itself or a live local.
    unsafe {
        let mut db = ptr::null_mut();
        assert_eq!(ffi::sqlite3_open(name.as_ptr(), &mut db), ffi::SQLITE_OK);
        let execute = |sql: &std::ffi::CStr| {
            let code = ffi::sqlite3_exec(db, sql.as_ptr(), None, ptr::null_mut(), ptr::null_mut());
            assert_eq!(code, ffi::SQLITE_OK);
        };
        execute(c"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 1000;
            PRAGMA temp_store = MEMORY; PRAGMA cache_size = -1024;
            CREATE TABLE readings(id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, series INTEGER NOT NULL, value NOT NULL)");
        let mut insert = ptr::null_mut();
        let sql = c"INSERT INTO readings VALUES(?1, ?2, ?3, ?4)";
        ffi::sqlite3_prepare_v2(db, sql.as_ptr(), -1, &mut insert, ptr::null_mut());
        for (batch, rows) in values.chunks(1000).enumerate() {
            execute(c"BEGIN IMMEDIATE");
            for (i, &value) in rows.iter().enumerate() {
                let n = batch * 1000 + i;
                ffi::sqlite3_bind_int64(insert, 1, n as i64 + 1);
                ffi::sqlite3_bind_int64(insert, 2, time_ns(n));
                ffi::sqlite3_bind_int64(insert, 3, n as i64 % 8 + 1);
                ffi::sqlite3_bind_double(insert, 4, value);
                assert_eq!(ffi::sqlite3_step(insert), ffi::SQLITE_DONE);
                ffi::sqlite3_reset(insert);
            }
            execute(c"COMMIT");
        }
        ffi::sqlite3_finalize(insert);
        ffi::sqlite3_close(db);
    }
    let rate = per_second(start.elapsed());
    remove(&path);
    rate
}

/// From start to exit: parsed, recorded, committed, and the file closed.
fn seawall(folder: &Path, lines: &Path, more: &[&str]) -> f64 {
    let db = folder.join("seawall.db");
    let start = Instant::now();
    let status = Command::new(BINARY)
        .args(["record", "--source", "stdin", "--log-level", "warn", "--db"])
        .arg(&db)
        .args(more)
        .stdin(File::open(lines).expect("open the lines"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("run seawall");
    assert!(status.success());
    let rate = per_second(start.elapsed());
    remove(&db);
    rate
}

/// The kind of program that seawall replaces: no parsing, `executemany`, a commit for each batch. Fewer
/// rows, because it is slow. None without Python.
fn python_logger(folder: &Path, batch: usize) -> Option<f64> {
    let rows = ROWS / 20;
    let db = folder.join("python.db");
    let script = format!(
        "
import sqlite3, sys, time
rows = [('weather,station=s%d' % (n % 8), 20.0 + n % 7, 1700000000000000000 + n) for n in range({rows})]
start = time.monotonic()
db = sqlite3.connect(sys.argv[1])
db.execute('PRAGMA journal_mode=WAL')
db.execute('PRAGMA synchronous=NORMAL')
db.execute('CREATE TABLE readings(id INTEGER PRIMARY KEY, sensor TEXT, value REAL, time_ns INTEGER)')
for at in range(0, {rows}, {batch}):
    db.executemany('INSERT INTO readings(sensor, value, time_ns) VALUES(?, ?, ?)', rows[at:at + {batch}])
    db.commit()
db.close()
print({rows} / (time.monotonic() - start))
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

/// A program that can do a part of this, and how to measure it: rows a second, or none where it is not.
type Other = (&'static str, fn(&Path) -> Option<f64>);

/// Fewer rows than the others, because it is slow to make them.
const OTHER_ROWS: usize = ROWS / 20;

/// Writes the rows in another format, has a command read them, and takes the time of that.
fn other(folder: &Path, row: fn(usize, f64) -> String, command: &mut Command) -> Option<f64> {
    let text: String = values()
        .take(OTHER_ROWS)
        .enumerate()
        .map(|(n, value)| row(n, value))
        .collect();
    fs::write(folder.join("rows"), text).expect("write the rows");
    let start = Instant::now();
    let output = command.current_dir(folder).output().ok()?;
    let took = start.elapsed();
    assert!(output.status.success(), "{command:?}: {output:?}");
    remove(&folder.join("other.db"));
    Some(OTHER_ROWS as f64 / took.as_secs_f64())
}

fn import(folder: &Path) -> Option<f64> {
    let row = |n, value| format!("{},{},{value}\n", time_ns(n), n % 8 + 1);
    let mut command = Command::new("sqlite3");
    command.args([
        "other.db",
        "CREATE TABLE readings(time_ns INTEGER, series INTEGER, value REAL)",
    ]);
    other(folder, row, command.arg(".import --csv rows readings"))
}

fn sqlite_utils(folder: &Path) -> Option<f64> {
    let row = |n, value| {
        let (time, series) = (time_ns(n), n % 8 + 1);
        format!("{{\"time_ns\": {time}, \"series\": {series}, \"value\": {value}}}\n")
    };
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/sqlite-utils");
    let mut command = Command::new(program);
    other(
        folder,
        row,
        command.args(["insert", "other.db", "readings", "rows", "--nl"]),
    )
}

/// Milliseconds from SIGTERM to the exit, while readings come as fast as they are taken, and how many of them
/// the last checkpoint took, which is mostly its syncs.
fn stop_at_full_load(folder: &Path) -> (f64, f64) {
    let db = folder.join("stop.db");
    let mut child = Command::new(BINARY)
        .args(["--source", "sim:rate=max", "--db"])
        .arg(&db)
        .stderr(Stdio::piped())
        .spawn()
        .expect("run seawall");
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    // After two automatic checkpoints it is in full swing.
    for _ in 0..2 {
        log.find(|line| line.as_ref().is_ok_and(|l| l.contains("autocheckpoint")));
    }
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
    let start = Instant::now();
    // The log ends when the process does.
    let last: Vec<String> = log.map_while(Result::ok).collect();
    let status = child.wait().expect("wait for seawall");
    let took = start.elapsed();
    assert!(status.success());
    remove(&db);
    let checkpoint = last
        .iter()
        .find(|line| line.contains("cause=stop"))
        .and_then(|line| line.split("ms=").nth(1)?.split(' ').next()?.parse().ok());
    (
        took.as_secs_f64() * 1e3,
        checkpoint.expect("a last checkpoint"),
    )
}

fn sync_once(folder: &Path) -> f64 {
    let path = folder.join("page");
    let mut file = File::create(&path).expect("make a file");
    let start = Instant::now();
    file.write_all(&[7; 4096])
        .and_then(|()| file.sync_data())
        .expect("write a page");
    start.elapsed().as_secs_f64() * 1e3
}

fn remove(db: &Path) {
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", db.display()));
    }
}

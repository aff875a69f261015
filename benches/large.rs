//! What does not show in a small file: recording into one of 100 million readings, a start on one of 10 GB, and a
//! start after a kill that left a long -wal. `just bench --large`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::bare::Sqlite;
use super::recorder::{BINARY, Recorder, record_file, remove};
use super::throughput::{ROUNDS, ROWS, bare_loop, line, make_lines, per_second};
use super::{process, table};

const MANY_ROWS: u64 = 100_000_000;
const LARGE_BYTES: u64 = 10_000_000_000;
/// Of text in a line; the longest line has 64 KiB.
const TEXT_BYTES: u64 = 60_000;
const SMALL_ROWS: u64 = 5000;
const STARTS: usize = 20;
const WAL_BYTES: u64 = 64 << 20;

/// False, with a word instead of the figure, where so much does not fit.
pub fn has_room(folder: &Path, bytes: u64, figure: &str) -> bool {
    let free = process::free_bytes(folder);
    if free < bytes {
        let gb = |bytes| bytes as f64 / 1e9;
        table::skip(
            figure,
            &format!(
                "{:.1} GB are free and {:.1} are needed",
                gb(free),
                gb(bytes)
            ),
        );
    }
    free >= bytes
}

pub fn append(folder: &Path) {
    if !has_room(folder, MANY_ROWS * 80, "stdin, into 100 million readings") {
        return;
    }
    let lines = make_lines(folder, ROWS);
    let [bare_empty, empty, bare_many, many] =
        ["bare.db", "seawall.db", "bare-many.db", "many.db"].map(|name| folder.join(name));
    process::run(&mut bare_loop(&bare_many, MANY_ROWS));
    let source = format!("sim:rate=max,count={MANY_ROWS}");
    let mut fill = Command::new(BINARY);
    fill.args(["--source", &source, "--log-level", "warn", "--db"]);
    process::run(fill.arg(&many).stderr(Stdio::null()));
    let mut rates: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        let commands = [
            bare_loop(&bare_empty, ROWS),
            record_file(&empty, &lines, &[]),
            bare_loop(&bare_many, ROWS),
            record_file(&many, &lines, &[]),
        ];
        for (rates, mut command) in rates.iter_mut().zip(commands) {
            let (took, _) = process::run(&mut command);
            rates.push(per_second(ROWS, took));
        }
        remove(&bare_empty);
        remove(&empty);
    }
    let [bare_empty, empty, bare_many, many] = &rates;
    let unit = "readings/s";
    let (empty, many) = (
        ("stdin, into an empty file", &**empty),
        ("stdin, into 100 million readings", &**many),
    );
    table::row(unit, empty, ("bare loop, into an empty file", bare_empty));
    table::row(unit, many, ("bare loop, into 100 million rows", bare_many));
    table::row(unit, many, empty);
}

pub fn start(folder: &Path) {
    if !has_room(folder, LARGE_BYTES + (1 << 30), "start on a file of 10 GB") {
        return;
    }
    let (large, small) = (folder.join("large.db"), folder.join("small.db"));
    let text = "x".repeat(TEXT_BYTES as usize);
    record_lines(
        &large,
        (0..LARGE_BYTES / TEXT_BYTES).map(|n| format!("log text=\"{text}\" {n}\n")),
    );
    // The start reads the last few thousand readings; these are as usual.
    for db in [&large, &small] {
        record_lines(db, (0..SMALL_ROWS).map(line));
    }
    let size = fs::metadata(&large).expect("look at the file").len();
    let name = format!("start to ready, {:.1} GB", size as f64 / 1e9);
    for (where_, is_cold) in [("cached", false), ("not cached", true)] {
        let [mut on_large, mut on_small] = [const { Vec::new() }; 2];
        for _ in 0..STARTS {
            for (times, db) in [(&mut on_large, &large), (&mut on_small, &small)] {
                if is_cold {
                    evict(db);
                }
                let recorder = Recorder::start(db, &["--source", "stdin"]);
                times.push(recorder.to_ready.as_secs_f64() * 1e3);
                recorder.stop();
            }
        }
        let (name, yardstick) = (
            format!("{name}, {where_}"),
            format!("5000 readings, {where_}"),
        );
        table::percentiles(
            &[50, 100],
            "ms",
            (&name, &on_large),
            (&yardstick, &on_small),
        );
    }
}

/// Records lines that are too many to lie in a file or in memory.
pub fn record_lines(db: &Path, lines: impl Iterator<Item = String>) {
    let mut child = Command::new(BINARY)
        .args(["--source", "stdin", "--log-level", "warn", "--db"])
        .arg(db)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("run seawall");
    let mut input = BufWriter::with_capacity(1 << 16, child.stdin.take().unwrap());
    for line in lines {
        input.write_all(line.as_bytes()).expect("send lines");
    }
    drop(input);
    assert!(child.wait().expect("wait for seawall").success());
}

/// Lets the kernel forget what it has of a file in memory.
fn evict(path: &Path) {
    let file = File::open(path).expect("open a file");
    file.sync_all().expect("sync a file");
    // SAFETY: the descriptor is open.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

pub fn recover(folder: &Path) {
    let (db, copy) = (folder.join("killed.db"), folder.join("copy.db"));
    let wal = |db: &Path| PathBuf::from(format!("{}-wal", db.display()));
    let (mut starts, mut opens) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let options = [
            "--source",
            "sim:rate=max",
            "--checkpoint-interval",
            "0",
            "--wal-autocheckpoint",
            "0",
        ];
        let recorder = Recorder::start(&db, &options);
        while fs::metadata(wal(&db)).expect("look at the -wal").len() < WAL_BYTES {
            thread::sleep(Duration::from_millis(1));
        }
        recorder.kill();
        fs::copy(&db, &copy).expect("copy the .db");
        fs::copy(wal(&db), wal(&copy)).expect("copy the -wal");

        let start = Instant::now();
        let sqlite = Sqlite::open(&copy);
        let newest = sqlite.integers(c"SELECT id FROM readings ORDER BY id DESC LIMIT 1");
        opens.push(start.elapsed().as_secs_f64() * 1e3);
        assert_eq!(newest.len(), 1);
        drop(sqlite);
        remove(&copy);

        let recorder = Recorder::start(&db, &["--source", "stdin"]);
        starts.push(recorder.to_ready.as_secs_f64() * 1e3);
        recorder.discard();
    }
    let opens = ("SQLite's open and first read of it", &*opens);
    table::row(
        "ms",
        ("start to ready, killed with 64 MiB of -wal", &starts),
        opens,
    );
}

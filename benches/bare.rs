//! The yardsticks that need nothing but SQLite or a file. Those that run as a process of their own are this
//! program once more, with `bare` as its first argument, so that their memory and time are counted as seawall's.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use libsqlite3_sys as ffi;

const BATCH: u64 = 1000;

/// What runs as a process of its own.
pub fn main(arguments: &[String]) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().expect("a number");
    match arguments[..] {
        ["insert", db, rows] => insert(Path::new(db), number(rows)),
        ["pace", db, tick_ms, rows] => {
            pace(
                Path::new(db),
                Duration::from_millis(number(tick_ms)),
                number(rows),
            );
        }
        ["sleep"] => loop {
            thread::sleep(Duration::from_secs(1));
        },
        _ => panic!("{arguments:?}"),
    }
}

/// Starts one of them.
pub fn command(arguments: &[&str]) -> Command {
    let program = std::env::current_exe().expect("a path of this program");
    let mut command = Command::new(program);
    command.arg("bare").args(arguments);
    command
}

/// One of them that goes on until the value is dropped.
pub struct Running(Child);

impl Running {
    pub fn start(arguments: &[&str]) -> Self {
        let child = command(arguments).stdin(Stdio::null()).spawn();
        Running(child.expect("run the yardstick"))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn time_ns(n: u64) -> u64 {
    1_700_000_000_000_000_000 + n * 1_000_000
}

/// Two decimals, as sensors have, in no order.
pub fn value(n: u64) -> f64 {
    (1800 + (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54)) as f64 / 100.0
}

/// A connection, with just what the figures need.
pub struct Sqlite(*mut ffi::sqlite3);

impl Sqlite {
    pub fn open(path: &Path) -> Self {
        let name = CString::new(path.to_str().unwrap()).unwrap();
        let mut db = ptr::null_mut();
        // SAFETY: both pointers are to live locals.
        let code = unsafe { ffi::sqlite3_open(name.as_ptr(), &mut db) };
        assert_eq!(code, ffi::SQLITE_OK);
        Sqlite(db)
    }

    pub fn run(&self, sql: &CStr) {
        // SAFETY: the connection is open; SQLite takes null for what it need not call or tell.
        let code = unsafe {
            ffi::sqlite3_exec(self.0, sql.as_ptr(), None, ptr::null_mut(), ptr::null_mut())
        };
        assert_eq!(code, ffi::SQLITE_OK, "{sql:?}");
    }

    fn prepare(&self, sql: &CStr) -> *mut ffi::sqlite3_stmt {
        let mut statement = ptr::null_mut();
        // SAFETY: the connection is open, the text ends with a zero.
        let code = unsafe {
            ffi::sqlite3_prepare_v2(self.0, sql.as_ptr(), -1, &mut statement, ptr::null_mut())
        };
        assert_eq!(code, ffi::SQLITE_OK, "{sql:?}");
        statement
    }

    /// The first column of every row.
    pub fn integers(&self, sql: &CStr) -> Vec<i64> {
        let statement = self.prepare(sql);
        let mut found = Vec::new();
        // SAFETY: the statement is ours until it is finalized.
        unsafe {
            while ffi::sqlite3_step(statement) == ffi::SQLITE_ROW {
                found.push(ffi::sqlite3_column_int64(statement, 0));
            }
            assert_eq!(ffi::sqlite3_finalize(statement), ffi::SQLITE_OK, "{sql:?}");
        }
        found
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // SAFETY: no statement is left, see above.
        unsafe { ffi::sqlite3_close(self.0) };
    }
}

/// The table and pragmas of seawall, and one statement to insert with.
struct Table {
    db: Sqlite,
    insert: *mut ffi::sqlite3_stmt,
    next: u64,
}

impl Table {
    fn open(path: &Path) -> Self {
        let db = Sqlite::open(path);
        db.run(c"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 1000;
            PRAGMA temp_store = MEMORY; PRAGMA cache_size = -1024;
            CREATE TABLE IF NOT EXISTS readings(id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, series INTEGER NOT NULL, value NOT NULL)");
        let next = db.integers(c"SELECT coalesce(max(id), 0) FROM readings")[0] as u64;
        let insert = db.prepare(c"INSERT INTO readings VALUES(?1, ?2, ?3, ?4)");
        Table { db, insert, next }
    }

    fn add(&mut self) {
        let n = self.next;
        self.next += 1;
        // SAFETY: the statement is ours, and has four parameters.
        unsafe {
            ffi::sqlite3_bind_int64(self.insert, 1, n as i64 + 1);
            ffi::sqlite3_bind_int64(self.insert, 2, time_ns(n) as i64);
            ffi::sqlite3_bind_int64(self.insert, 3, n as i64 % 8 + 1);
            ffi::sqlite3_bind_double(self.insert, 4, value(n));
            assert_eq!(ffi::sqlite3_step(self.insert), ffi::SQLITE_DONE);
            ffi::sqlite3_reset(self.insert);
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: it is not used again.
        unsafe { ffi::sqlite3_finalize(self.insert) };
    }
}

/// What SQLite itself takes for these rows: bind and step, batches of 1000, no text to parse, no ledger.
fn insert(path: &Path, rows: u64) {
    let mut table = Table::open(path);
    let mut left = rows;
    while left > 0 {
        table.db.run(c"BEGIN IMMEDIATE");
        for _ in 0..left.min(BATCH) {
            table.add();
        }
        table.db.run(c"COMMIT");
        left -= left.min(BATCH);
    }
}

/// The same for rows that come at a pace, so many in each tick, with a commit each second. Goes on until it is
/// killed.
fn pace(path: &Path, tick: Duration, rows: u64) {
    let mut table = Table::open(path);
    let mut due = Instant::now();
    loop {
        table.db.run(c"BEGIN IMMEDIATE");
        let commit = due + Duration::from_secs(1);
        while due < commit {
            for _ in 0..rows {
                table.add();
            }
            due += tick;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        table.db.run(c"COMMIT");
    }
}

/// A file to which a page is written and synced again and again.
pub struct Pages(File);

impl Pages {
    pub fn new(folder: &Path) -> Self {
        Pages(File::create(folder.join("pages")).expect("make a file"))
    }

    pub fn write_one(&mut self) {
        self.0.write_all(&[7; 4096]).expect("write a page");
    }

    /// Goes on at the beginning of the file.
    pub fn rewind(&mut self) {
        self.0.rewind().expect("rewind a file");
    }

    /// Milliseconds of one write and fdatasync.
    pub fn sync_one(&mut self) -> f64 {
        let start = Instant::now();
        self.write_one();
        self.0.sync_data().expect("sync a page");
        start.elapsed().as_secs_f64() * 1e3
    }
}

//! Tests of the room alone, on a table of its own.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::checkpoint::{self, CheckpointMode};
use super::raw::{Access, Connection, NewRow};
use super::{Cause, SqlValue, files, pragma};

const PATIENCE: Duration = Duration::from_secs(5);
const PAGES: u32 = 1000;
const CREATE: &CStr = c"CREATE TABLE things(id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, c)";
const ADD: &CStr = c"INSERT INTO things(a, b, c) VALUES(?1, ?2, ?3)";

struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("seawall-sqlite-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    /// A file in WAL mode with the table.
    fn db(&self) -> PathBuf {
        let path = self.0.join("x.db");
        std::fs::File::create(&path).unwrap();
        let mut raw = open(&path);
        raw.execute("make", CREATE).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> Connection {
    let mut raw = Connection::open(path, Access::ReadWrite).unwrap();
    pragma::set_all(&mut raw, PATIENCE, PAGES).unwrap();
    raw.count_frames();
    raw
}

fn add(raw: &mut Connection, text: &str) {
    let add = raw.prepare(ADD).unwrap();
    let values = [Some(SqlValue::Integer(1)), None, Some(SqlValue::Text(text))];
    raw.run("add to", add, &values).unwrap();
}

fn count(path: &Path) -> String {
    let mut raw = Connection::open(path, Access::ReadOnly).unwrap();
    raw.answer("count", c"SELECT count(*) FROM things").unwrap()
}

#[test]
fn what_was_committed_outlives_a_connection_that_was_never_closed_and_the_rest_does_not() {
    let dir = Dir::new();
    let path = dir.db();
    let mut raw = open(&path);
    raw.execute("begin", c"BEGIN IMMEDIATE").unwrap();
    add(&mut raw, "kept");
    raw.execute("commit", c"COMMIT").unwrap();
    raw.execute("begin", c"BEGIN IMMEDIATE").unwrap();
    add(&mut raw, "not kept");
    assert!(!raw.is_autocommit());
    drop(raw);
    assert_eq!(count(&path), "1");
}

#[test]
fn a_rolled_back_transaction_leaves_nothing() {
    let dir = Dir::new();
    let path = dir.db();
    let mut raw = open(&path);
    raw.execute("begin", c"BEGIN IMMEDIATE").unwrap();
    add(&mut raw, "not kept");
    raw.execute("roll back", c"ROLLBACK").unwrap();
    assert!(raw.is_autocommit());
    raw.close().unwrap();
    assert_eq!(count(&path), "0");
}

#[test]
fn each_mode_of_a_checkpoint_copies_all_frames_and_truncate_alone_empties_the_wal() {
    let dir = Dir::new();
    let path = dir.db();
    for mode in [
        CheckpointMode::Passive,
        CheckpointMode::Full,
        CheckpointMode::Restart,
        CheckpointMode::Truncate,
    ] {
        let mut raw = open(&path);
        add(&mut raw, "x");
        let frames = raw.wal_frames();
        assert!(frames > 0);
        let done = checkpoint::checkpoint(&mut raw, mode).unwrap();
        assert!(done.is_complete(), "{mode}");
        assert_eq!(
            done.is_truncated(),
            mode == CheckpointMode::Truncate,
            "{mode}"
        );
        let wal_bytes = std::fs::metadata(files::wal_of(&path)).unwrap().len();
        if mode == CheckpointMode::Truncate {
            assert_eq!((done.log, wal_bytes), (0, 0));
        } else {
            assert_eq!((done.log, done.copied), (frames, frames), "{mode}");
            let least = checkpoint::wal_bytes(frames, pragma::PAGE_BYTES);
            assert!(wal_bytes >= least, "{mode}: {wal_bytes} < {least}");
            assert_eq!(checkpoint::wal_frames_of(least, pragma::PAGE_BYTES), frames);
        }
        raw.close().unwrap();
    }
}

#[test]
fn a_file_that_left_wal_mode_is_one_file_and_only_without_others() {
    let dir = Dir::new();
    let path = dir.db();
    let mut raw = open(&path);
    add(&mut raw, "x");
    checkpoint::checkpoint(&mut raw, CheckpointMode::Truncate).unwrap();
    raw.set_busy_timeout(Duration::ZERO);
    let mut other = Connection::open(&path, Access::ReadOnly).unwrap();
    other
        .answer("read", c"SELECT count(*) FROM things")
        .unwrap();
    assert!(!pragma::leave_wal(&mut raw).unwrap());
    other.close().unwrap();
    assert!(pragma::leave_wal(&mut raw).unwrap());
    raw.close().unwrap();
    assert!(!files::wal_of(&path).exists());
    assert_eq!(count(&path), "1");
}

#[test]
fn a_connection_that_moves_keeps_what_sqlite_points_to() {
    let dir = Dir::new();
    let path = dir.db();
    let mut raw = open(&path);
    raw.offer_rows(c"CREATE TABLE x(p INTEGER, q INTEGER, r)")
        .unwrap();
    let statement = raw
        .prepare(c"INSERT INTO things(a, b, c) SELECT p, q, r FROM sqlite_seawall_batch")
        .unwrap();
    // To the heap of another thread, and back.
    let moved = Box::new(raw);
    let mut raw = std::thread::spawn(move || {
        let mut raw = *moved;
        let texts = ["one", "two", "three"];
        let mut rows = texts.iter().zip(1..);
        let mut next = |row: &mut NewRow<'_>| {
            let Some((text, n)) = rows.next() else {
                return false;
            };
            *row = [
                SqlValue::Integer(n),
                SqlValue::Real(0.5),
                SqlValue::Text(text),
            ];
            true
        };
        let last = raw.insert_all("insert into", statement, &mut next).unwrap();
        assert_eq!(last, 3);
        raw
    })
    .join()
    .unwrap();
    assert!(raw.wal_frames() > 0);
    let sql = c"SELECT group_concat(c || a) FROM things";
    assert_eq!(raw.answer("read", sql).unwrap(), "one1,two2,three3");
}

#[test]
fn a_cell_is_read_as_bytes_and_as_text_at_once() {
    let mut raw = Connection::in_memory().unwrap();
    let mut rows = 0;
    let sql = c"SELECT x'6162', 'cd', 12, NULL, x'', 'a' || 'b', zeroblob(3)";
    raw.rows("read", sql, |row| {
        rows += 1;
        for (column, expected) in (0..).zip(["ab", "cd", "12", "", "", "ab", "\0\0\0"]) {
            // Both are held while the other is asked for.
            let (blob, text, again) = (row.blob(column), row.text(column), row.blob(column));
            assert_eq!(text, expected);
            assert_eq!((blob, again), (expected.as_bytes(), expected.as_bytes()));
        }
        assert_eq!(row.integer(2), 12);
        assert_eq!(row.value(2), Some(SqlValue::Integer(12)));
        assert_eq!(row.value(3), None);
        true
    })
    .unwrap();
    assert_eq!(rows, 1);
}

#[test]
fn a_row_after_the_last_one_is_an_error() {
    let mut raw = Connection::in_memory().unwrap();
    let statement = raw.prepare(c"SELECT ?1 WHERE ?1 > 0").unwrap();
    assert!(raw.row("read", statement).is_err());
    raw.begin_rows("read", statement, &[7]).unwrap();
    assert!(raw.step("read", statement).unwrap().is_some());
    assert_eq!(raw.row("read", statement).unwrap().integer(0), 7);
    assert!(raw.step("read", statement).unwrap().is_none());
    let error = raw.row("read", statement).err().unwrap();
    assert!(error.to_string().contains("no row"), "{error}");
    raw.end_rows(statement);
    assert!(raw.row("read", statement).is_err());
}

#[test]
fn an_empty_result_is_no_row() {
    let mut raw = Connection::in_memory().unwrap();
    let statement = raw.prepare(c"SELECT 1 WHERE 0").unwrap();
    assert_eq!(raw.query("read", statement, &[]).unwrap(), None);
}

#[test]
fn every_pragma_is_as_the_table_says() {
    let dir = Dir::new();
    let mut raw = open(&dir.db());
    for (pragma, expected) in [
        (c"PRAGMA journal_mode", "wal"),
        (c"PRAGMA synchronous", "2"),
        (c"PRAGMA busy_timeout", "5000"),
        (c"PRAGMA temp_store", "2"),
        (c"PRAGMA journal_size_limit", "8388608"),
        (c"PRAGMA cell_size_check", "1"),
        (c"PRAGMA trusted_schema", "0"),
        (c"PRAGMA cache_size", "-512"),
        // SQLite reports 0 because our hook replaced its own; see `Threshold`.
        (c"PRAGMA wal_autocheckpoint", "0"),
    ] {
        assert_eq!(raw.answer("read", pragma).unwrap(), expected, "{pragma:?}");
    }
}

#[test]
fn a_pragma_that_is_not_taken_is_an_error_with_its_name() {
    let dir = Dir::new();
    let mut raw = open(&dir.db());
    // SQLite ignores a pragma that it does not know or cannot apply now.
    let error = pragma::set(&mut raw, &pragma::pragma("no_such", "ON", 1)).unwrap_err();
    assert_eq!(error.cause, Cause::PragmaRefused);
    raw.execute("begin", c"BEGIN").unwrap();
    let error = pragma::leave_wal(&mut raw).unwrap_err();
    assert!(error.to_string().contains("cannot change"), "{error}");
}

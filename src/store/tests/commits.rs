//! Tests of commits, checkpoints, pragmas and errors.

use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use libsqlite3_sys as ffi;

use super::*;
use crate::db::checkpoint::CheckpointMode;
use crate::db::raw::{Access, Connection};
use crate::db::{Cause, pragma, transaction};
use crate::reading::{Batch, Resumed, Value};

#[test]
fn every_pragma_is_as_the_table_says() {
    let dir = Dir::new();
    let mut db = open(&dir.db());
    for (pragma, expected) in [
        (c"PRAGMA journal_mode", "wal"),
        (c"PRAGMA synchronous", "2"),
        (c"PRAGMA busy_timeout", "5000"),
        (c"PRAGMA temp_store", "2"),
        (c"PRAGMA journal_size_limit", "8388608"),
        (c"PRAGMA cell_size_check", "1"),
        (c"PRAGMA trusted_schema", "0"),
        (c"PRAGMA cache_size", "-1024"),
        (c"PRAGMA application_id", "1399152983"),
        (c"PRAGMA user_version", "2"),
        // SQLite reports 0 because our hook replaced its own; see the test of the threshold.
        (c"PRAGMA wal_autocheckpoint", "0"),
    ] {
        assert_eq!(
            db.raw.answer("read", pragma).unwrap(),
            expected,
            "{pragma:?}"
        );
    }
}

#[test]
fn a_pragma_that_is_not_taken_is_an_error_with_its_name() {
    let dir = Dir::new();
    let mut db = open(&dir.db());
    // SQLite ignores a pragma that it does not know or cannot apply now.
    let error = pragma::set(&mut db.raw, &pragma::pragma("no_such", "ON", 1)).unwrap_err();
    assert_eq!(error.cause, Cause::PragmaRefused);
    db.raw.execute("begin", c"BEGIN").unwrap();
    let error = pragma::leave_wal(&mut db.raw).unwrap_err();
    assert!(error.to_string().contains("cannot change"), "{error}");
}

#[test]
fn a_checkpoint_in_a_readers_way_says_what_had_to_stay() {
    let dir = Dir::new();
    let path = dir.db();
    let mut db = open(&path);
    db.commit(&batch(10), Durability::Normal).unwrap();
    let mut reader = Connection::open(&path, Access::ReadOnly).unwrap();
    reader
        .execute("read", c"BEGIN; SELECT count(*) FROM readings")
        .unwrap();
    let pinned = db.wal_frames();
    db.commit(&batch(500), Durability::Normal).unwrap();
    for (mode, busy) in [
        (CheckpointMode::Passive, false),
        (CheckpointMode::Full, true),
        (CheckpointMode::Restart, true),
        (CheckpointMode::Truncate, true),
    ] {
        let done = db.checkpoint(mode, Duration::ZERO).unwrap();
        let seen = (done.log, done.copied, done.busy);
        assert_eq!(seen, (db.wal_frames(), pinned, busy), "{mode}");
        assert!(!done.is_complete());
    }
    drop(reader);
    assert!(
        db.checkpoint(CheckpointMode::Truncate, PATIENCE)
            .unwrap()
            .is_complete()
    );
}

/// One owner at a time: the connection goes from thread to thread by value, or behind a lock.

#[test]
fn inserts_and_checkpoints_come_from_several_threads() {
    const THREADS: usize = 4;
    const COMMITS: usize = 50;
    let dir = Dir::new();
    let path = dir.db();
    let mut db = open(&path);
    db.commit(&batch(1), Durability::Normal).unwrap();

    let db = Arc::new(Mutex::new(db));
    let threads: Vec<_> = (0..THREADS)
        .map(|n| {
            let db = db.clone();
            thread::spawn(move || {
                for i in 0..COMMITS {
                    db.lock()
                        .unwrap()
                        .commit(&batch(3), Durability::Normal)
                        .unwrap();
                    if i % 7 == n {
                        let mode = [CheckpointMode::Passive, CheckpointMode::Truncate][i % 2];
                        db.lock().unwrap().checkpoint(mode, PATIENCE).unwrap();
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());

    let (there, back) = (mpsc::channel(), mpsc::channel());
    let db = Arc::into_inner(db).unwrap().into_inner().unwrap();
    there.0.send(db).unwrap();
    thread::spawn(move || {
        let mut db: Db = there.1.recv().unwrap();
        db.commit(&batch(1), Durability::Full).unwrap();
        back.0.send(db).unwrap();
    })
    .join()
    .unwrap();
    let mut db = back.1.recv().unwrap();
    db.end_run(3, "eof").unwrap();
    assert!(
        db.checkpoint(CheckpointMode::Truncate, PATIENCE)
            .unwrap()
            .is_complete()
    );
    assert!(db.leave_wal().unwrap());
    db.close().unwrap();

    let found = audit(&path, true, PATIENCE, &mut |_| {}).unwrap();
    assert_eq!(found.readings as usize, 2 + THREADS * COMMITS * 3);
    assert!(
        found.damaged.is_empty() && found.missing.is_empty(),
        "{found:?}"
    );
    assert!(!path.with_extension("db-wal").exists());
}

#[test]
fn a_commit_that_failed_is_tried_again_with_the_same_meaning() {
    let dir = Dir::new();
    let path = dir.db();
    let mut db = open(&path);
    db.raw.set_busy_timeout(Duration::ZERO);
    db.commit(&batch(1), Durability::Normal).unwrap();
    // Slot 0 changes its series within the batch.
    let mut second = Batch::default();
    second.push(1, 0, Value::Real(1.0));
    second.define(0, series("g"));
    second.push(2, 0, Value::Real(2.0));

    let mut other = Connection::open(&path, Access::ReadWrite).unwrap();
    other.execute("lock", c"BEGIN IMMEDIATE").unwrap();
    let error = db.commit(&second, Durability::Full).unwrap_err();
    assert_eq!((error.class(), error.operation), (Class::Retry, "lock"));
    other.execute("unlock", c"ROLLBACK").unwrap();
    // And once more with the failure in the middle: the second row's series cannot be added.
    other
        .execute(
            "break",
            c"CREATE UNIQUE INDEX one_of_a_type ON series(type)",
        )
        .unwrap();
    assert!(db.commit(&second, Durability::Full).is_err());
    other.execute("mend", c"DROP INDEX one_of_a_type").unwrap();
    db.commit(&second, Durability::Full).unwrap();

    let fields = answer(
        &path,
        "SELECT group_concat(field || value, ' ') FROM sensor_readings",
    );
    assert_eq!(fields, "f0.0 f1.0 g2.0");
    assert_eq!(answer(&path, "SELECT committed FROM runs"), "3");
}

#[test]
fn an_error_names_path_operation_sqlites_text_and_what_to_do() {
    let dir = Dir::new();
    let path = dir.db();
    let mut db = open(&path);
    db.raw.set_busy_timeout(Duration::ZERO);
    let mut other = Connection::open(&path, Access::ReadWrite).unwrap();
    other.execute("lock", c"BEGIN IMMEDIATE").unwrap();
    let text = db
        .commit(&batch(1), Durability::Normal)
        .unwrap_err()
        .to_string();
    let expected = format!(
        "cannot lock {}: database is locked [SQLite 5]; another process holds the lock, end its transaction",
        path.display()
    );
    assert_eq!(text, expected);
    let error = Connection::open(&dir.0, Access::ReadWrite).err().unwrap();
    assert_eq!(error.cause, Cause::Sqlite(ffi::SQLITE_CANTOPEN));
    assert!(error.to_string().contains("it is not a file"), "{error}");
    let sql = c"INSERT INTO series(sensor, field, type) VALUES('a', 'b', 'c'), ('a', 'b', 'c')";
    other.execute("unlock", c"ROLLBACK").unwrap();
    // The extended code, not the plain one.
    let error = other.execute("add twice to", sql).unwrap_err();
    assert_eq!(error.cause, Cause::Sqlite(ffi::SQLITE_CONSTRAINT_UNIQUE));
}

#[test]
fn a_step_of_the_clock_is_noted_after_the_last_reading_before_it() {
    let dir = Dir::new();
    let path = dir.db();
    let mut db = open(&path);
    let mut first = batch(3);
    first.clock_step(-5);
    first.push(9, 0, Value::Real(1.0));
    db.commit(&first, Durability::Normal).unwrap();
    // Alone, and carried along when batches are joined.
    let mut alone = Batch::default();
    alone.clock_step(7);
    db.commit(&alone, Durability::Normal).unwrap();
    let (mut one, mut other) = (batch(2), batch(1));
    other.clock_step(11);
    one.append(&mut other);
    db.commit(&one, Durability::Normal).unwrap();
    let sql =
        "SELECT group_concat(run || ' ' || after_id || ' ' || step_ns, ', ') FROM clock_steps";
    assert_eq!(answer(&path, sql), "1 3 -5, 1 4 7, 1 7 11");
}

#[test]
fn a_client_is_settled_with_its_readings_or_not_at_all() {
    let dir = Dir::new();
    let path = dir.db();
    let mut db = open(&path);
    let name: std::sync::Arc<str> = "a".into();
    let hello = |uid| crate::reading::Hello {
        stream: 7,
        name: name.clone(),
        uid,
    };
    let client = |lines| crate::reading::Client {
        name: name.clone(),
        lines,
        uid: Some(1000),
    };
    let mut first = batch(3);
    first.client(client(3));
    first.hello(hello(Some(1000)));
    // The answer covers what came before the question.
    let resumed = |lines| {
        let lines = Some(lines);
        [Resumed { stream: 7, lines }]
    };
    assert_eq!(
        db.commit(&first, Durability::Full).unwrap().resumes(),
        resumed(3)
    );
    // A comment settles a line without a reading, and is kept all the same.
    let mut comment = Batch::default();
    comment.client(client(4));
    assert!(comment.has_data());
    db.commit(&comment, Durability::Full).unwrap();
    let writer = open_beside(&path);
    let mut locked = Batch::default();
    locked.push(1, 0, Value::Real(1.0));
    locked.client(client(5));
    db.raw.set_busy_timeout(Duration::ZERO);
    assert!(db.commit(&locked, Durability::Full).is_err());
    let mut question = Batch::default();
    question.hello(hello(Some(1000)));
    assert_eq!(
        db.commit(&question, Durability::Full).unwrap().resumes(),
        resumed(4)
    );
    drop(writer);
    db.commit(&locked, Durability::Full).unwrap();
    assert_eq!(
        db.commit(&question, Durability::Full).unwrap().resumes(),
        resumed(5)
    );
    // The name is the first user's, on whichever way another comes.
    for other in [Some(1001), Some(0), None] {
        let mut question = Batch::default();
        question.hello(hello(other));
        let answers = db.commit(&question, Durability::Full).unwrap();
        assert_eq!(answers.resumes()[0].lines, None, "{other:?}");
    }
    assert_eq!(answer(&path, "SELECT count(*) FROM readings"), "4");
}

/// A connection that holds the write lock.
fn open_beside(path: &Path) -> Connection {
    let mut raw = Connection::open(path, Access::ReadWrite).unwrap();
    raw.execute("lock", transaction::BEGIN_WRITE).unwrap();
    raw
}

//! The store alone, by its interface: guards against a commit that is half there, an id that is given twice, a value that
//! comes back as another, and a file that a reader finds half made.

use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use libsqlite3_sys as ffi;
use seawall::db::checkpoint::CheckpointMode;
use seawall::db::raw::{Access, Connection};
use seawall::db::transaction;
use seawall::reading::{Batch, Hello, Kind, NamedClient, Resumed, Series, Value};
use seawall::store::{Cause, Class, Db, Durability, Reader, Surplus};

use crate::support::Dir;
use crate::support::store::*;

#[test]
fn a_checkpoint_in_a_readers_way_says_what_had_to_stay() {
    let dir = Dir::new("store");
    let path = empty(&dir);
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
    let dir = Dir::new("store");
    let path = empty(&dir);
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

    assert_holds(&path, (2 + THREADS * COMMITS * 3) as i64);
    assert!(!path.with_extension("db-wal").exists());
}

#[test]
fn a_commit_that_failed_is_tried_again_with_the_same_meaning() {
    let dir = Dir::new("store");
    let path = empty(&dir);
    let mut db = open_with(&path, Duration::ZERO, false);
    db.commit(&batch(1), Durability::Normal).unwrap();
    // Slot 0 changes its series within the batch.
    let mut second = Batch::default();
    second.push(1, 0, Value::Real(1.0));
    let field = series("g");
    let kind = Kind::String;
    second.define(0, Series { kind, ..field });
    let text = "x".repeat(60_000);
    second.push(2, 0, Value::Text(&text));

    let mut other = Connection::open(&path, Access::ReadWrite).unwrap();
    other.execute("lock", c"BEGIN IMMEDIATE").unwrap();
    let error = db.commit(&second, Durability::Full).unwrap_err();
    assert_eq!((error.class(), error.operation), (Class::Retry, "lock"));
    other.execute("unlock", c"ROLLBACK").unwrap();
    // And once more with the failure in the middle: there is no room for the text.
    db.set_pages_max(1).unwrap();
    let error = db.commit(&second, Durability::Full).unwrap_err();
    assert!(error.is_full(), "{error}");
    db.set_pages_max(u64::MAX).unwrap();
    db.commit(&second, Durability::Full).unwrap();

    let fields = answer(
        &path,
        "SELECT group_concat(field || substr(value, 1, 3), ' ') FROM sensor_readings",
    );
    assert_eq!(fields, "f0.0 f1.0 gxxx");
    assert_eq!(answer(&path, "SELECT committed FROM runs"), "3");
}

#[test]
fn an_error_names_path_operation_sqlites_text_and_what_to_do() {
    let dir = Dir::new("store");
    let path = empty(&dir);
    let mut db = open_with(&path, Duration::ZERO, false);
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
    let error = Connection::open(dir.path(), Access::ReadWrite)
        .err()
        .unwrap();
    assert_eq!(error.cause, Cause::Sqlite(ffi::SQLITE_CANTOPEN));
    assert!(error.to_string().contains("it is not a file"), "{error}");
    let sql = c"INSERT INTO series(sensor, field, type) VALUES('a', 'b', 'c'), ('a', 'b', 'c')";
    other.execute("unlock", c"ROLLBACK").unwrap();
    // The extended code, not the plain one.
    let error = other.execute("add twice to", sql).unwrap_err();
    assert_eq!(error.cause, Cause::Sqlite(ffi::SQLITE_CONSTRAINT_UNIQUE));
}

#[test]
fn a_client_is_settled_with_its_readings_or_not_at_all() {
    let dir = Dir::new("store");
    let path = empty(&dir);
    let mut db = open_with(&path, Duration::ZERO, false);
    let name: Arc<str> = "a".into();
    let hello = |uid| Hello {
        stream: 7,
        name: name.clone(),
        uid,
    };
    let client = |lines| NamedClient {
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

#[test]
fn every_row_of_a_batch_arrives_as_it_is_whatever_stands_beside_it() {
    let dir = Dir::new("store");
    let path = empty(&dir);
    let mut db = open(&path);
    let mut rng = fastrand::Rng::with_seed(1);
    let texts = ["", "a", "ß", &"x".repeat(3_000)];
    let (mut expected, mut rows, mut kind) = (Vec::new(), 0, Kind::Float);
    for _ in 0..60 {
        let mut batch = Batch::default();
        for _ in 0..rng.usize(0..40) {
            // Now and then a slot changes its series within the batch.
            if rows == 0 || rng.u8(..) < 30 {
                kind = [Kind::Float, Kind::Integer, Kind::String][rng.usize(..3)];
                let field = series(&format!("f{}", rng.u8(..9)));
                batch.define(0, Series { kind, ..field });
            }
            let value = match kind {
                Kind::Float => Value::Real(f64::from(rng.i32(..)) / 8.0),
                Kind::Integer => Value::Integer(rng.i64(..)),
                _ => Value::Text(texts[rng.usize(..4)]),
            };
            let time_ns = rng.i64(..);
            batch.push(time_ns, 0, value);
            rows += 1;
            expected.push(match value {
                Value::Real(v) => format!("{rows} {time_ns} real {v:.3}"),
                Value::Integer(v) => format!("{rows} {time_ns} integer {v}"),
                Value::Text(v) => format!("{rows} {time_ns} text {v}"),
            });
        }
        db.commit(&batch, Durability::Normal).unwrap();
    }
    let all = "SELECT group_concat(id || ' ' || time_ns || ' ' || typeof(value) || ' '
        || iif(typeof(value) = 'real', printf('%.3f', value), value), char(10)) FROM readings";
    assert_eq!(answer(&path, all), expected.join("\n"));
    drop(db);
    assert_holds(&path, rows);
}

#[test]
fn the_oldest_and_newest_times_are_those_of_the_readings_that_are_left() {
    let dir = Dir::new("store");
    let path = empty(&dir);
    let mut db = open(&path);
    let mut rng = fastrand::Rng::with_seed(2);
    let whole = "SELECT min(time_ns) || ' ' || max(time_ns) FROM readings";
    for rows in [0, 1, 4_000, 200, 9_000, 3] {
        let mut batch = Batch::default();
        batch.define(0, series("f"));
        for _ in 0..rows {
            batch.push(rng.i64(..), 0, Value::Real(1.0));
        }
        db.commit(&batch, Durability::Normal).unwrap();
        db.expire(Surplus::Oldest).map(drop).unwrap();
        let mut reader = Reader::open(&path, PATIENCE).unwrap();
        let times = reader.oldest_and_newest_time().unwrap();
        let times = times.map(|(oldest, newest)| format!("{oldest} {newest}"));
        assert_eq!(times.unwrap_or_default(), answer(&path, whole), "{rows}");
    }
}

#[test]
fn a_reading_of_one_float_costs_at_most_30_bytes() {
    const ROWS: usize = 400_000;
    let dir = Dir::new("store");
    let path = empty(&dir);
    let mut db = open(&path);
    // Up to 100 sensors have a one-byte number; a real time has its full width.
    let mut batch = Batch::default();
    for slot in 0..100 {
        batch.define(slot, series(&format!("f{slot}")));
    }
    for n in 0..ROWS {
        let time_ns = 1_700_000_000_000_000_000 + n as i64;
        batch.push(time_ns, n as u32 % 100, Value::Real(20.1));
    }
    db.commit(&batch, Durability::Normal).unwrap();
    assert!(
        db.checkpoint(CheckpointMode::Truncate, PATIENCE)
            .unwrap()
            .is_complete()
    );
    let bytes = std::fs::metadata(&path).unwrap().len();
    let each = bytes as f64 / ROWS as f64;
    assert!(each <= 30.0, "{each} bytes a reading");
}

#[test]
fn the_view_gives_times_before_1970_and_booleans_and_texts() {
    let dir = Dir::new("store");
    let path = empty(&dir);
    let mut db = open(&path);
    let mut batch = batch(0);
    batch.push(-1, 0, Value::Text("grün"));
    batch.push(951_782_400_999_999_999, 0, Value::Integer(1));
    batch.push(i64::MIN, 0, Value::Real(0.5));
    batch.push(i64::MAX, 0, Value::Real(0.5));
    db.commit(&batch, Durability::Normal).unwrap();
    let times = answer(
        &path,
        "SELECT group_concat(timestamp || typeof(value), ' ') FROM sensor_readings",
    );
    assert_eq!(
        times,
        "1969-12-31T23:59:59.999Ztext 2000-02-29T00:00:00.999Zinteger \
         1677-09-21T00:12:43.145Zreal 2262-04-11T23:47:16.854Zreal"
    );
}

#[test]
fn a_file_that_is_being_made_is_empty_or_whole_to_a_reader() {
    for _ in 0..50 {
        let dir = Dir::new("store");
        let path = empty(&dir);
        let made = path.clone();
        let reader = thread::spawn(move || {
            while let Err(e) = Reader::open(&made, PATIENCE) {
                assert!(e.is_empty(), "{e}");
            }
        });
        let db = open(&path);
        reader.join().unwrap();
        drop(db);
    }
}

#[test]
fn sensor_numbers_has_what_is_a_number_or_a_boolean_and_no_text() {
    let dir = Dir::new("store");
    let path = empty(&dir);
    let mut db = open(&path);
    let mut all = batch(1);
    for (slot, kind, value) in [
        (1, Kind::Unsigned, Value::Text("18446744073709551615")),
        (2, Kind::Boolean, Value::Integer(1)),
        (3, Kind::String, Value::Text("on")),
        (4, Kind::Integer, Value::Integer(-2)),
    ] {
        let field = series(&format!("f{slot}"));
        all.define(slot, Series { kind, ..field });
        all.push(1_500_000_000, slot, value);
    }
    db.commit(&all, Durability::Normal).unwrap();
    let rows = "SELECT group_concat(id || ' ' || time || ' ' || field || ' ' || value, ', ') FROM sensor_numbers";
    assert_eq!(
        answer(&path, rows),
        "1 0.0 f 0.0, 2 1.5 f1 1.8446744073709552e+19, 3 1.5 f2 1.0, 5 1.5 f4 -2.0"
    );
}

//! Tests of the layout: ids, times, spans and views.

use std::thread;

use super::*;
use crate::db::checkpoint::CheckpointMode;
use crate::db::raw::{Access, Connection};
use crate::reading::{Batch, Kind, Series, Value};

#[test]
fn ids_go_on_where_retention_has_emptied_the_table() {
    let dir = Dir::new();
    let path = dir.db();
    let mut db = open(&path);
    db.commit(&batch(5), Durability::Normal).unwrap();
    drop(db);
    let mut other = Connection::open(&path, Access::ReadWrite).unwrap();
    other.execute("empty", c"DELETE FROM readings").unwrap();
    drop(other);
    let mut db = open(&path);
    assert_eq!(db.unclean().len(), 1);
    assert_eq!(db.unclean()[0].committed, 5);
    db.commit(&batch(3), Durability::Normal).unwrap();
    let ids = "SELECT group_concat(id || ' ' || run, ', ') FROM sensor_readings";
    assert_eq!(answer(&path, ids), "6 2, 7 2, 8 2");
}

#[test]
fn every_row_of_a_batch_arrives_as_it_is_whatever_stands_beside_it() {
    let dir = Dir::new();
    let path = dir.db();
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
    let audit = audit(&path, true, PATIENCE, &mut |_| {}).unwrap();
    assert!(
        audit.damaged.is_empty() && audit.missing.is_empty(),
        "{audit:?}"
    );
}

#[test]
fn the_oldest_and_newest_times_are_those_of_the_readings_that_are_left() {
    let dir = Dir::new();
    let path = dir.db();
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
    let dir = Dir::new();
    let path = dir.db();
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
    let dir = Dir::new();
    let path = dir.db();
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
fn the_ranges_of_a_time_hold_its_readings_and_little_else() {
    const EACH: i64 = spans::SPAN_READINGS;
    let dir = Dir::new();
    let path = dir.db();
    let mut db = open(&path);
    let mut all = batch(0);
    for n in 0..5 * EACH / 2 {
        all.push(n, 0, Value::Real(0.5));
    }
    db.commit(&all, Durability::Normal).unwrap();
    let mut raw = Connection::open(&path, Access::ReadOnly).unwrap();
    let mut ranges = |since, until| spans::ranges(&mut raw, since, until).unwrap();
    let tail = 2 * EACH + 1..=i64::MAX;
    assert_eq!(ranges(0, EACH - 1), [1..=EACH, tail.clone()]);
    assert_eq!(ranges(EACH, EACH), [EACH + 1..=i64::MAX]);
    assert_eq!(ranges(EACH - 1, EACH), [1..=i64::MAX]);
    assert_eq!(ranges(3 * EACH, i64::MAX), [tail]);
}

#[test]
fn a_file_that_is_being_made_is_empty_or_whole_to_a_reader() {
    for _ in 0..50 {
        let dir = Dir::new();
        let path = dir.db();
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
    let dir = Dir::new();
    let path = dir.db();
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

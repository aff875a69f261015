//! The store by itself: a database that a test writes to without a recorder.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use seawall::db::raw::{Access, Connection};
use seawall::reading::{Batch, Kind, Series, Value};
use seawall::store::{Db, Start, audit};

use super::Dir;

pub const PATIENCE: Duration = Duration::from_secs(5);

/// An empty file, as `place` leaves it.
pub fn empty(dir: &Dir) -> PathBuf {
    let path = dir.file("x.db");
    std::fs::write(&path, "").unwrap();
    path
}

/// `may_repeat`: a source may send again what was committed.
pub fn open_with(path: &Path, busy_timeout: Duration, may_repeat: bool) -> Db {
    let start = Start {
        now_ns: 1,
        boot_id: Some("b".into()),
        boot_ns: 2,
        machine: Default::default(),
        may_repeat,
    };
    Db::open(path, busy_timeout, 1000, &start, None).unwrap()
}

pub fn open(path: &Path) -> Db {
    open_with(path, PATIENCE, false)
}

pub fn series(field: &str) -> Series {
    Series {
        sensor: "m".into(),
        field: field.into(),
        kind: Kind::Float,
    }
}

pub fn batch(rows: usize) -> Batch {
    let mut batch = Batch::default();
    batch.define(0, series("f"));
    for n in 0..rows {
        batch.push(n as i64, 0, Value::Real(n as f64));
    }
    batch
}

/// The first column of the first row.
pub fn answer(path: &Path, sql: &str) -> String {
    let sql = CString::new(sql).unwrap();
    let mut raw = Connection::open(path, Access::ReadOnly).unwrap();
    raw.answer("read", &sql).unwrap()
}

pub fn assert_holds(path: &Path, readings: i64) {
    let found = audit(path, true, PATIENCE, &mut |_| ()).unwrap();
    let findings = [found.damaged, found.missing].concat();
    assert_eq!((found.readings, findings), (readings, Vec::new()));
}

//! Tests of the store alone: promises whose breach the recorder could not notice.

mod commits;
mod layout;
mod repeats;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub use super::*;
use crate::db::raw::{Access, Connection};
use crate::reading::{Batch, Kind, Series, Value};

pub(super) const PATIENCE: Duration = Duration::from_secs(5);
pub(super) const PAGES: u32 = 1000;

pub(super) struct Dir(PathBuf);

impl Dir {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("seawall-db-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    /// An empty file, as `place` leaves it.
    pub(super) fn db(&self) -> PathBuf {
        let path = self.0.join("x.db");
        std::fs::File::options()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn start() -> Start {
    Start {
        now_ns: 1,
        boot_id: Some("b".into()),
        boot_ns: 2,
        machine: Default::default(),
        may_repeat: false,
    }
}

pub(super) fn open(path: &Path) -> Db {
    Db::open(path, PATIENCE, PAGES, &start(), None).unwrap()
}

pub(super) fn series(field: &str) -> Series {
    Series {
        sensor: "m".into(),
        field: field.into(),
        kind: Kind::Float,
    }
}

pub(super) fn batch(rows: usize) -> Batch {
    let mut batch = Batch::default();
    batch.define(0, series("f"));
    for n in 0..rows {
        batch.push(n as i64, 0, Value::Real(n as f64));
    }
    batch
}

pub(super) fn answer(path: &Path, sql: &str) -> String {
    let sql = std::ffi::CString::new(sql).unwrap();
    let mut raw = Connection::open(path, Access::ReadOnly).unwrap();
    raw.answer("read", &sql).unwrap()
}

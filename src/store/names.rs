//! Names of series, looked up once each, as the caller keeps them.

use std::collections::HashMap;
use std::ffi::CStr;
use std::hash::{BuildHasherDefault, Hasher};

use super::open::{READ, is_unreadable};
use super::schema;
use crate::db::raw::{Connection, Statement};
use crate::db::{Error, error};
use crate::reading::Kind;

/// Upper bound on the names of series in memory; beyond it all are dropped and read again.
const NAMES_BYTES_MAX: usize = 1024 * 1024;
/// Overhead of a series besides its names.
const NAME_OVERHEAD_BYTES: usize = 256;

/// The index has all columns of the table.
const NAME_SERIES_BY_INDEX: &CStr = c"SELECT sensor, field, type
    FROM series INDEXED BY sqlite_autoindex_series_1 WHERE +id = ?1";

/// Hash of the number of a series, which is looked up for each reading. It needs no secret: whoever chooses numbers that
/// collide makes few names slow to find.
#[derive(Default)]
pub(super) struct NumberHash(u64);

impl Hasher for NumberHash {
    fn write_i64(&mut self, number: i64) {
        let product = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = product.rotate_left(32);
    }

    /// There are no other keys.
    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

type BySeries<T> = HashMap<i64, (Kind, Option<T>), BuildHasherDefault<NumberHash>>;

/// Makes the caller's value from sensor, field and kind.
type Namer<'a, T> = Box<dyn FnMut(&str, &str, Kind) -> Option<T> + 'a>;

/// Type of each series and the caller's value for it; `None` for a series that it does not want.
pub struct Names<'a, T> {
    pub(super) by_series: BySeries<T>,
    bytes: usize,
    name: Namer<'a, T>,
}

impl<'a, T> Names<'a, T> {
    pub fn new(name: impl FnMut(&str, &str, Kind) -> Option<T> + 'a) -> Self {
        Names {
            by_series: BySeries::default(),
            bytes: 0,
            name: Box::new(name),
        }
    }

    /// The numbers of another file's series are its own.
    pub fn forget(&mut self) {
        self.by_series = BySeries::default();
        self.bytes = 0;
    }

    pub(super) fn bound(&mut self) {
        if self.bytes > NAMES_BYTES_MAX {
            self.forget();
        }
    }

    /// Looks up a series that is not in memory; `id` is a reading of it.
    pub(super) fn look_up(
        &mut self,
        raw: &mut Connection,
        lookup: &NameLookup,
        series: i64,
        id: i64,
    ) -> Result<(Kind, Option<T>), Error> {
        let mut named = (Kind::String, None);
        lookup.find(raw, series, id, &mut |sensor, field, kind| {
            self.bytes += sensor.len() + field.len() + NAME_OVERHEAD_BYTES;
            named = (kind, (self.name)(sensor, field, kind));
        })?;
        Ok(named)
    }
}

pub(super) struct NameLookup {
    by_id: Statement,
    /// For a damaged file.
    by_index: Option<Statement>,
}

impl NameLookup {
    pub fn prepare(raw: &mut Connection) -> Result<Self, Error> {
        let by_id = raw.prepare(schema::NAME_SERIES)?;
        Ok(NameLookup {
            by_id,
            by_index: None,
        })
    }

    /// Looks names up in the index too, where the table cannot be read.
    pub fn add_index(&mut self, raw: &mut Connection) -> Result<(), Error> {
        self.by_index = Some(raw.prepare(NAME_SERIES_BY_INDEX)?);
        Ok(())
    }

    fn find(
        &self,
        raw: &mut Connection,
        series: i64,
        id: i64,
        each: &mut dyn FnMut(&str, &str, Kind),
    ) -> Result<(), Error> {
        match (find(raw, self.by_id, series, id, each), self.by_index) {
            (Err(e), Some(by_index)) if is_unreadable(&e) => find(raw, by_index, series, id, each),
            (found, _) => found,
        }
    }
}

fn find(
    raw: &mut Connection,
    statement: Statement,
    series: i64,
    id: i64,
    each: &mut dyn FnMut(&str, &str, Kind),
) -> Result<(), Error> {
    raw.begin_rows(READ, statement, &[series])?;
    let Some(row) = raw.step(READ, statement)? else {
        let what = format!("reading {id} is of series {series}, which is not there");
        return Err(error::corrupt(READ, raw.path(), what));
    };
    let (sensor, field) = (row.text(0), row.text(1));
    let Some(kind) = kind(&row.text(2)) else {
        let what = format!("series {series} has an unknown type");
        return Err(error::corrupt(READ, raw.path(), what));
    };
    each(&sensor, &field, kind);
    drop((sensor, field));
    raw.end_rows(statement);
    Ok(())
}

pub(super) fn kind(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.name() == name)
}

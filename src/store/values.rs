//! Values and series of readings as SQLite stores them, and back.

use crate::{db, reading};

/// A series of the table.
#[derive(Clone, Copy)]
pub(super) struct KnownSeries {
    pub(super) id: i64,
    pub(super) fingerprint: u64,
}

pub(super) fn to_db(value: reading::Value<'_>) -> db::SqlValue<'_> {
    match value {
        reading::Value::Real(v) => db::SqlValue::Real(v),
        reading::Value::Integer(v) => db::SqlValue::Integer(v),
        reading::Value::Text(v) => db::SqlValue::Text(v),
    }
}

pub(super) fn from_db(value: db::SqlValue<'_>) -> reading::Value<'_> {
    match value {
        db::SqlValue::Real(v) => reading::Value::Real(v),
        db::SqlValue::Integer(v) => reading::Value::Integer(v),
        db::SqlValue::Text(v) => reading::Value::Text(v),
    }
}

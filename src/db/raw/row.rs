//! The row that a query stands on.

use std::borrow::Cow;
use std::marker::PhantomData;

use libsqlite3_sys as ffi;

use crate::db::value::SqlValue;

/// Borrows what can step the statement, so that the row stays while this is there.
pub struct Row<'a> {
    statement: *mut ffi::sqlite3_stmt,
    _step: PhantomData<&'a ()>,
}

impl Row<'_> {
    /// For a statement that stands on a row.
    pub(super) fn of(statement: *mut ffi::sqlite3_stmt) -> Self {
        Row {
            statement,
            _step: PhantomData,
        }
    }

    pub fn integer(&self, column: i32) -> i64 {
        // SAFETY: the statement stands on a row; SQLite returns 0 for a column that is not there.
        unsafe { ffi::sqlite3_column_int64(self.statement, column) }
    }

    pub fn text(&self, column: i32) -> Cow<'_, str> {
        String::from_utf8_lossy(self.bytes(column))
    }

    pub fn blob(&self, column: i32) -> &[u8] {
        self.bytes(column)
    }

    /// The bytes of a cell, whichever type it has. SQLite invalidates the pointer to a cell's bytes when the
    /// cell is asked for as another type, so this is the only function that asks for bytes, and it asks for
    /// one cell always the same way: a blob as a blob, everything else as a text.
    fn bytes(&self, column: i32) -> &[u8] {
        // SAFETY: the statement stands on a row; SQLite keeps the bytes until the next step, which is not
        // possible while `self` is borrowed; null where the cell is empty or not there.
        unsafe {
            let start = match ffi::sqlite3_column_type(self.statement, column) {
                ffi::SQLITE_BLOB => ffi::sqlite3_column_blob(self.statement, column).cast(),
                _ => ffi::sqlite3_column_text(self.statement, column),
            };
            let len = ffi::sqlite3_column_bytes(self.statement, column);
            if start.is_null() || len <= 0 {
                return &[];
            }
            std::slice::from_raw_parts(start, len as usize)
        }
    }

    /// None for NULL, a blob, and a text that is not UTF-8.
    pub fn value(&self, column: i32) -> Option<SqlValue<'_>> {
        // SAFETY: as for `integer`.
        match unsafe { ffi::sqlite3_column_type(self.statement, column) } {
            ffi::SQLITE_INTEGER => Some(SqlValue::Integer(self.integer(column))),
            ffi::SQLITE_FLOAT => {
                // SAFETY: as for `integer`.
                let real = unsafe { ffi::sqlite3_column_double(self.statement, column) };
                Some(SqlValue::Real(real))
            }
            ffi::SQLITE_TEXT => {
                let text = std::str::from_utf8(self.bytes(column));
                text.ok().map(SqlValue::Text)
            }
            _ => None,
        }
    }
}

//! Prepared statements: binding, stepping, resetting.

use std::ffi::{CStr, c_int};
use std::ptr;

use libsqlite3_sys as ffi;

use super::connection::Connection;
use super::row::Row;
use crate::db::error::Error;
use crate::db::value::SqlValue;

/// A prepared statement of the connection that made it.
#[derive(Clone, Copy, Debug)]
pub struct Statement(pub(super) usize);

impl Connection {
    pub fn prepare(&mut self, sql: &CStr) -> Result<Statement, Error> {
        let mut statement = ptr::null_mut();
        // SAFETY: as above; the statement is finalized by Drop.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                self.db,
                sql.as_ptr(),
                -1,
                ffi::SQLITE_PREPARE_PERSISTENT,
                &mut statement,
                ptr::null_mut(),
            )
        };
        self.check("prepare a statement for", code)?;
        self.statements.push(statement);
        Ok(Statement(self.statements.len() - 1))
    }

    /// Binds a text without copying it. The two methods that call this bind, step and reset within one
    /// borrow of the text, and no statement is stepped again without its texts being bound anew.
    fn bind_text(&mut self, statement: Statement, place: i32, text: &str) -> c_int {
        let len = c_int::try_from(text.len()).unwrap_or(c_int::MAX);
        // SAFETY: pointer and length describe `text`; a null destructor is SQLITE_STATIC: SQLite reads the
        // bytes in a step only, and none comes after `text` has gone, see above.
        unsafe {
            ffi::sqlite3_bind_text(
                self.statements[statement.0],
                place,
                text.as_ptr().cast(),
                len,
                None,
            )
        }
    }

    /// Binds the values in order, steps once and resets. For statements that return no row.
    pub fn run(
        &mut self,
        operation: &'static str,
        statement: Statement,
        values: &[Option<SqlValue<'_>>],
    ) -> Result<(), Error> {
        let row = self.query(operation, statement, values)?;
        debug_assert!(row.is_none());
        Ok(())
    }

    /// As `run`, and returns the first column of the first row, if there is one.
    pub fn query(
        &mut self,
        operation: &'static str,
        statement: Statement,
        values: &[Option<SqlValue<'_>>],
    ) -> Result<Option<i64>, Error> {
        let raw = self.statements[statement.0];
        for (place, value) in (1..).zip(values) {
            // SAFETY: the statement is ours; places beyond its parameters give an error code.
            let code = match *value {
                None => unsafe { ffi::sqlite3_bind_null(raw, place) },
                Some(SqlValue::Integer(v)) => unsafe { ffi::sqlite3_bind_int64(raw, place, v) },
                // SAFETY: as above.
                Some(SqlValue::Real(v)) => unsafe { ffi::sqlite3_bind_double(raw, place, v) },
                Some(SqlValue::Text(v)) => self.bind_text(statement, place, v),
            };
            self.check(operation, code)?;
        }
        // SAFETY: the statement is ours; texts bound above outlive the step, and are unbound after it.
        unsafe {
            let code = ffi::sqlite3_step(raw);
            let result = match code {
                ffi::SQLITE_ROW => Ok(Some(ffi::sqlite3_column_int64(raw, 0))),
                ffi::SQLITE_DONE => Ok(None),
                code => Err(self.error(operation, code)),
            };
            ffi::sqlite3_reset(raw);
            ffi::sqlite3_clear_bindings(raw);
            result
        }
    }

    /// Steps a statement to its end and hands each row to `each`, until that returns false.
    pub fn rows(
        &mut self,
        operation: &'static str,
        sql: &CStr,
        mut each: impl FnMut(&Row<'_>) -> bool,
    ) -> Result<(), Error> {
        let statement = self.prepare(sql)?;
        let raw = self.statements[statement.0];
        let result = loop {
            // SAFETY: the statement is ours; `Row` borrows it only until the next step.
            match unsafe { ffi::sqlite3_step(raw) } {
                ffi::SQLITE_ROW => {
                    if !each(&Row::of(raw)) {
                        break Ok(());
                    }
                }
                ffi::SQLITE_DONE => break Ok(()),
                code => break Err(self.error(operation, code)),
            }
        };
        self.statements.pop();
        // SAFETY: just taken off the list, so that nobody uses it again.
        let code = unsafe { ffi::sqlite3_finalize(raw) };
        // A pragma may do its last writes, and fail, only here.
        result.and_then(|()| self.check(operation, code))
    }

    /// Begins a query that is stepped through by hand, the numbers bound in order.
    pub fn begin_rows(
        &mut self,
        operation: &'static str,
        statement: Statement,
        numbers: &[i64],
    ) -> Result<(), Error> {
        let raw = self.statements[statement.0];
        // SAFETY: the statement is ours; what a reset tells is the error of a step that was told already.
        unsafe { ffi::sqlite3_reset(raw) };
        for (place, number) in (1..).zip(numbers) {
            // SAFETY: the statement is ours; places beyond its parameters give an error code.
            let code = unsafe { ffi::sqlite3_bind_int64(raw, place, *number) };
            self.check(operation, code)?;
        }
        Ok(())
    }

    /// The next row, if there is one. It borrows the connection, so that no step can be made under it.
    pub fn step(
        &mut self,
        operation: &'static str,
        statement: Statement,
    ) -> Result<Option<Row<'_>>, Error> {
        let raw = self.statements[statement.0];
        // SAFETY: the statement is ours.
        match unsafe { ffi::sqlite3_step(raw) } {
            ffi::SQLITE_ROW => Ok(Some(Row::of(raw))),
            ffi::SQLITE_DONE => Ok(None),
            code => Err(self.error(operation, code)),
        }
    }

    /// The row that the last `step` returned; an error where it returned none.
    pub fn row(&self, operation: &'static str, statement: Statement) -> Result<Row<'_>, Error> {
        let raw = self.statements[statement.0];
        // SAFETY: the statement is ours; the count is 0 unless it stands on a row.
        if unsafe { ffi::sqlite3_data_count(raw) } == 0 {
            let message = "no row was there to be read";
            return Err(Error::new(
                operation,
                &self.path,
                ffi::SQLITE_MISUSE,
                message,
            ));
        }
        Ok(Row::of(raw))
    }

    /// Ends a query that was begun, so that the transaction can end.
    pub fn end_rows(&mut self, statement: Statement) {
        // SAFETY: as for `begin_rows`.
        unsafe { ffi::sqlite3_reset(self.statements[statement.0]) };
    }

    /// The first answer of a query, as text; the query is run to its end.
    pub fn answer(&mut self, operation: &'static str, sql: &CStr) -> Result<String, Error> {
        let mut answer = String::new();
        let mut rows = 0;
        self.rows(operation, sql, |row| {
            rows += 1;
            if rows == 1 {
                answer = row.text(0).into_owned();
            }
            true
        })?;
        Ok(answer)
    }
}

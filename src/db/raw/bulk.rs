//! Many rows by one statement: they stand in a virtual table, from which `INSERT … SELECT` takes them.
//!
//! A statement for each row costs more for its binding, its start and its end, and for finding the end of
//! the table anew, than for the row itself. The caller sets each row where SQLite reads it:
//! there is no copy.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::NonNull;

use libsqlite3_sys as ffi;

use super::callbacks::{BULK_COLUMNS, Callbacks, NewRow, RowSource};
use super::connection::Connection;
use super::statement::Statement;
use crate::db::error::Error;
use crate::db::value::SqlValue;

/// The table's name in SQL. It needs no `CREATE`, and SQLite lets nobody make a table of such a name, which
/// would be read in its place.
const NAME: &CStr = c"sqlite_seawall_batch";

#[repr(C)]
struct Table {
    base: ffi::sqlite3_vtab,
    callbacks: *const Callbacks,
}

#[repr(C)]
struct BulkCursor {
    base: ffi::sqlite3_vtab_cursor,
    row: NewRow<'static>,
    is_at_end: bool,
}

static MODULE: ffi::sqlite3_module = ffi::sqlite3_module {
    iVersion: 0,
    xCreate: None,
    xConnect: Some(connect),
    xBestIndex: Some(plan),
    xDisconnect: Some(disconnect),
    xDestroy: None,
    xOpen: Some(open),
    xClose: Some(close),
    xFilter: Some(first),
    xNext: Some(next),
    xEof: Some(is_at_end),
    xColumn: Some(column),
    xRowid: Some(rowid),
    xUpdate: None,
    xBegin: None,
    xSync: None,
    xCommit: None,
    xRollback: None,
    xFindFunction: None,
    xRename: None,
    xSavepoint: None,
    xRelease: None,
    xRollbackTo: None,
    xShadowName: None,
    xIntegrity: None,
};

impl Connection {
    /// Makes the table known to this connection. `columns` declares its `BULK_COLUMNS` columns, as
    /// `CREATE TABLE x(…)`.
    pub fn offer_rows(&mut self, columns: &'static CStr) -> Result<(), Error> {
        self.callbacks().columns.set(columns);
        let callbacks = self.callbacks.as_ptr().cast::<c_void>();
        // SAFETY: the handle is open, the name static; the callbacks are freed only after it is closed.
        let code = unsafe {
            ffi::sqlite3_create_module_v2(self.db, NAME.as_ptr(), &MODULE, callbacks, None)
        };
        self.check("open", code)
    }

    /// Runs a statement that inserts all rows of the source. Returns the id of the last one.
    pub fn insert_all<'a, 'b>(
        &mut self,
        operation: &'static str,
        statement: Statement,
        source: &mut (dyn FnMut(&mut NewRow<'a>) -> bool + 'b),
    ) -> Result<i64, Error> {
        let source: NonNull<RowSource<'a, 'b>> = NonNull::from(source);
        // SAFETY: only the lifetimes change; the pointer is taken away below, before what it leads to ends.
        let source = unsafe {
            std::mem::transmute::<NonNull<RowSource<'a, 'b>>, NonNull<RowSource<'static, 'static>>>(
                source,
            )
        };
        self.callbacks().source.set(Some(source));
        let raw = self.statements[statement.0];
        // SAFETY: the statement is ours and has no parameters; its callbacks come within these calls.
        let (code, last) = unsafe {
            let code = ffi::sqlite3_step(raw);
            (code, ffi::sqlite3_last_insert_rowid(self.db))
        };
        let result = match code {
            ffi::SQLITE_DONE => Ok(last),
            _ => Err(self.error(operation, code)),
        };
        // SAFETY: as above. This closes the cursor, which holds a row of the source.
        unsafe { ffi::sqlite3_reset(raw) };
        self.callbacks().source.set(None);
        result
    }
}

/// # Safety
/// As SQLite calls it: `callbacks` is the pointer that `offer_rows` passed.
unsafe extern "C" fn connect(
    db: *mut ffi::sqlite3,
    callbacks: *mut c_void,
    _count: c_int,
    _arguments: *const *const c_char,
    made: *mut *mut ffi::sqlite3_vtab,
    _message: *mut *mut c_char,
) -> c_int {
    let callbacks: *const Callbacks = callbacks.cast();
    // SAFETY: the connection's callbacks; the table goes back to `disconnect`.
    unsafe {
        let code = ffi::sqlite3_declare_vtab(db, (*callbacks).columns.get().as_ptr());
        if code == ffi::SQLITE_OK {
            let table = Box::new(Table {
                base: std::mem::zeroed(),
                callbacks,
            });
            *made = Box::into_raw(table).cast();
        }
        code
    }
}

/// # Safety
/// As SQLite calls it, once for each `connect`.
unsafe extern "C" fn disconnect(table: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: `connect` made it.
    drop(unsafe { Box::from_raw(table.cast::<Table>()) });
    ffi::SQLITE_OK
}

/// There is one way to read it: all, in order.
///
/// # Safety
/// As SQLite calls it.
unsafe extern "C" fn plan(
    _table: *mut ffi::sqlite3_vtab,
    _info: *mut ffi::sqlite3_index_info,
) -> c_int {
    ffi::SQLITE_OK
}

/// # Safety
/// As SQLite calls it.
unsafe extern "C" fn open(
    _table: *mut ffi::sqlite3_vtab,
    made: *mut *mut ffi::sqlite3_vtab_cursor,
) -> c_int {
    let cursor = Box::new(BulkCursor {
        // SAFETY: pointers and numbers, which SQLite sets.
        base: unsafe { std::mem::zeroed() },
        row: [SqlValue::Integer(0); BULK_COLUMNS],
        is_at_end: true,
    });
    // SAFETY: SQLite's; the cursor goes back to `close`.
    unsafe { *made = Box::into_raw(cursor).cast() };
    ffi::SQLITE_OK
}

/// # Safety
/// As SQLite calls it, once for each `open`.
unsafe extern "C" fn close(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: `open` made it.
    drop(unsafe { Box::from_raw(cursor.cast::<BulkCursor>()) });
    ffi::SQLITE_OK
}

/// # Safety
/// As SQLite calls it.
unsafe extern "C" fn first(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    _plan: c_int,
    _name: *const c_char,
    _count: c_int,
    _values: *mut *mut ffi::sqlite3_value,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { next(cursor) }
}

/// # Safety
/// As SQLite calls it.
unsafe extern "C" fn next(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: `open` made the cursor and `connect` its table; where there is a source, `insert_all` waits for
    // this call with the only reference to it.
    unsafe {
        let cursor = &mut *cursor.cast::<BulkCursor>();
        let table = cursor.base.pVtab.cast::<Table>();
        let source = (*(*table).callbacks).source.get();
        cursor.is_at_end = !source.is_some_and(|mut source| source.as_mut()(&mut cursor.row));
    }
    ffi::SQLITE_OK
}

/// # Safety
/// As SQLite calls it.
unsafe extern "C" fn is_at_end(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: `open` made it.
    c_int::from(unsafe { (*cursor.cast::<BulkCursor>()).is_at_end })
}

/// # Safety
/// As SQLite calls it.
unsafe extern "C" fn column(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    context: *mut ffi::sqlite3_context,
    number: c_int,
) -> c_int {
    // SAFETY: `open` made the cursor; a text is the source's, which stays as it is until the statement ends.
    unsafe {
        let row = &(*cursor.cast::<BulkCursor>()).row;
        let Some(value) = row.get(number as usize) else {
            return ffi::SQLITE_MISUSE;
        };
        match *value {
            SqlValue::Integer(v) => ffi::sqlite3_result_int64(context, v),
            SqlValue::Real(v) => ffi::sqlite3_result_double(context, v),
            SqlValue::Text(v) => {
                let length = c_int::try_from(v.len()).unwrap_or(c_int::MAX);
                ffi::sqlite3_result_text(context, v.as_ptr().cast(), length, ffi::SQLITE_STATIC());
            }
        }
    }
    ffi::SQLITE_OK
}

/// # Safety
/// As SQLite calls it.
unsafe extern "C" fn rowid(
    _cursor: *mut ffi::sqlite3_vtab_cursor,
    _id: *mut ffi::sqlite3_int64,
) -> c_int {
    // Nothing asks for it.
    ffi::SQLITE_MISUSE
}

//! Many readings by one statement: they stand in a virtual table, from which `INSERT … SELECT` takes them.
//!
//! A statement for each reading costs more for its binding, its start and its end, and for finding the end of
//! the table anew, than for the row itself. What is read is whatever the caller's iterator gives: there is no
//! copy of the batch.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::NonNull;

use libsqlite3_sys as ffi;

use super::{Connection, Error, Statement};
use crate::reading::Value;

/// The table's name in SQL. It needs no `CREATE`, and SQLite lets nobody make a table of such a name, which
/// would be read in its place.
const NAME: &CStr = c"sqlite_seawall_batch";
const COLUMNS: &CStr = c"CREATE TABLE x(time_ns INTEGER, series INTEGER, value)";

/// A reading without its id, which is one more than the last.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub time_ns: i64,
    pub series: i64,
    pub value: Value<'a>,
}

/// Gives the rows, one after the other.
type Source<'a> = dyn FnMut() -> Option<Row<'a>> + 'a;

/// The source of the statement that runs, and none between two.
#[derive(Default)]
pub struct Current(Cell<Option<NonNull<Source<'static>>>>);

#[repr(C)]
struct Table {
    base: ffi::sqlite3_vtab,
    current: *const Current,
}

#[repr(C)]
struct Cursor {
    base: ffi::sqlite3_vtab_cursor,
    row: Option<Row<'static>>,
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
    /// Makes the table known to this connection.
    pub fn offer_rows(&mut self) -> Result<(), Error> {
        let current: *const Current = &*self.current;
        // SAFETY: the handle is open, the name static; what the pointer leads to is boxed and lives as long
        // as the connection, which Drop closes first.
        let code = unsafe {
            ffi::sqlite3_create_module_v2(
                self.db,
                NAME.as_ptr(),
                &MODULE,
                current as *mut c_void,
                None,
            )
        };
        self.check("open", code)
    }

    /// Runs a statement that inserts all that the source gives. Gives the id of the last row.
    pub fn insert_all<'a>(
        &mut self,
        statement: Statement,
        source: &mut (dyn FnMut() -> Option<Row<'a>> + 'a),
    ) -> Result<i64, Error> {
        let source: NonNull<Source<'a>> = NonNull::from(source);
        // SAFETY: only the lifetime changes; the pointer is taken away below, before what it leads to ends.
        let source =
            unsafe { std::mem::transmute::<NonNull<Source<'a>>, NonNull<Source<'static>>>(source) };
        self.current.0.set(Some(source));
        let raw = self.statements[statement.0];
        // SAFETY: the statement is ours and has no parameters; its callbacks come within these calls.
        let (code, last) = unsafe {
            let code = ffi::sqlite3_step(raw);
            (code, ffi::sqlite3_last_insert_rowid(self.db))
        };
        let result = match code {
            ffi::SQLITE_DONE => Ok(last),
            _ => Err(self.error("insert readings into", code)),
        };
        // SAFETY: as above. This closes the cursor, which holds a row of the source.
        unsafe { ffi::sqlite3_reset(raw) };
        self.current.0.set(None);
        result
    }
}

/// # Safety
/// As SQLite calls it: `current` is what `offer_rows` gave.
unsafe extern "C" fn connect(
    db: *mut ffi::sqlite3,
    current: *mut c_void,
    _count: c_int,
    _arguments: *const *const c_char,
    made: *mut *mut ffi::sqlite3_vtab,
    _message: *mut *mut c_char,
) -> c_int {
    // SAFETY: SQLite's; the table goes back to `disconnect`.
    unsafe {
        let code = ffi::sqlite3_declare_vtab(db, COLUMNS.as_ptr());
        if code == ffi::SQLITE_OK {
            let table = Box::new(Table {
                base: std::mem::zeroed(),
                current: current.cast::<Current>(),
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
    let cursor = Box::new(Cursor {
        // SAFETY: pointers and numbers, which SQLite sets.
        base: unsafe { std::mem::zeroed() },
        row: None,
    });
    // SAFETY: SQLite's; the cursor goes back to `close`.
    unsafe { *made = Box::into_raw(cursor).cast() };
    ffi::SQLITE_OK
}

/// # Safety
/// As SQLite calls it, once for each `open`.
unsafe extern "C" fn close(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: `open` made it.
    drop(unsafe { Box::from_raw(cursor.cast::<Cursor>()) });
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
        let cursor = &mut *cursor.cast::<Cursor>();
        let table = cursor.base.pVtab.cast::<Table>();
        let source = (*(*table).current).0.get();
        cursor.row = source.and_then(|mut source| source.as_mut()());
    }
    ffi::SQLITE_OK
}

/// # Safety
/// As SQLite calls it.
unsafe extern "C" fn is_at_end(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: `open` made it.
    c_int::from(unsafe { (*cursor.cast::<Cursor>()).row.is_none() })
}

/// # Safety
/// As SQLite calls it.
unsafe extern "C" fn column(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    context: *mut ffi::sqlite3_context,
    number: c_int,
) -> c_int {
    // SAFETY: `open` made the cursor; a text is the batch's, which stays as it is until the statement ends.
    unsafe {
        let Some(row) = &(*cursor.cast::<Cursor>()).row else {
            return ffi::SQLITE_MISUSE;
        };
        match (number, row.value) {
            (0, _) => ffi::sqlite3_result_int64(context, row.time_ns),
            (1, _) => ffi::sqlite3_result_int64(context, row.series),
            (_, Value::Real(v)) => ffi::sqlite3_result_double(context, v),
            (_, Value::Integer(v)) => ffi::sqlite3_result_int64(context, v),
            (_, Value::Text(v)) => {
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

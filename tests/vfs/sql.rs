//! A plain SQLite connection, to look at what was recorded and to work beside the recorder. It shares
//! nothing with the program but SQLite itself.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use libsqlite3_sys as ffi;

pub struct Sql(*mut ffi::sqlite3);

/// Text of each column; None for NULL.
pub type Row = Vec<Option<String>>;

impl Sql {
    /// Through the default VFS, or the one named.
    pub fn open(path: &Path, vfs: Option<&CStr>) -> Result<Self, String> {
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        let flags = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_EXRESCODE;
        let vfs = vfs.map_or(ptr::null(), CStr::as_ptr);
        let mut db = ptr::null_mut();
        // SAFETY: the names end in NUL, `db` is a local; Drop closes the handle even if this fails.
        let code = unsafe { ffi::sqlite3_open_v2(name.as_ptr(), &mut db, flags, vfs) };
        let sql = Sql(db);
        sql.check("open", code)?;
        // SAFETY: the handle is open.
        unsafe { ffi::sqlite3_busy_timeout(db, 60_000) };
        Ok(sql)
    }

    fn check(&self, what: &str, code: i32) -> Result<(), String> {
        if code == ffi::SQLITE_OK {
            return Ok(());
        }
        // SAFETY: the handle is open, or null, for which SQLite has a message; it is copied at once.
        let message = unsafe { CStr::from_ptr(ffi::sqlite3_errmsg(self.0)) };
        Err(format!("{what}: {} [{code}]", message.to_string_lossy()))
    }

    pub fn run(&self, sql: &str) -> Result<(), String> {
        self.rows(sql).map(drop)
    }

    /// Runs statements one after the other; gives the rows of the last.
    pub fn rows(&self, sql: &str) -> Result<Vec<Row>, String> {
        let text = CString::new(sql).unwrap();
        let mut rest = text.as_ptr();
        let mut rows = Vec::new();
        loop {
            let mut statement = ptr::null_mut();
            // SAFETY: the handle is open; `rest` points into `text`, which ends in NUL.
            let code =
                unsafe { ffi::sqlite3_prepare_v2(self.0, rest, -1, &mut statement, &mut rest) };
            self.check(sql, code)?;
            if statement.is_null() {
                return Ok(rows);
            }
            rows.clear();
            // SAFETY: the statement was just made and is finalized once; columns are read while it stands
            // on a row.
            let code = unsafe {
                while ffi::sqlite3_step(statement) == ffi::SQLITE_ROW {
                    let columns = 0..ffi::sqlite3_column_count(statement);
                    rows.push(columns.map(|n| column(statement, n)).collect());
                }
                ffi::sqlite3_finalize(statement)
            };
            self.check(sql, code)?;
        }
    }

    /// The first column of the first row.
    pub fn one(&self, sql: &str) -> Result<String, String> {
        let first = self.rows(sql)?.into_iter().flatten().next().flatten();
        first.ok_or_else(|| format!("{sql}: no answer"))
    }
}

/// # Safety
///
/// The statement stands on a row.
unsafe fn column(statement: *mut ffi::sqlite3_stmt, n: i32) -> Option<String> {
    // SAFETY: as the caller says; the text is copied before the next call.
    unsafe {
        let text = ffi::sqlite3_column_text(statement, n);
        if text.is_null() {
            return None;
        }
        Some(CStr::from_ptr(text.cast()).to_string_lossy().into_owned())
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        // SAFETY: every statement is finalized; closing null does nothing.
        unsafe { ffi::sqlite3_close(self.0) };
    }
}

//! SQLite's online copy of a database.

use std::ffi::{CStr, c_int};
use std::ptr;

use libsqlite3_sys as ffi;

use super::connection::Connection;
use crate::db::error::Error;

impl Connection {
    /// Begins a copy of this database over the other one.
    pub fn copy_to<'a>(&'a mut self, to: &'a mut Connection) -> Result<Copying<'a>, Error> {
        // SAFETY: both handles are open, and borrowed for as long as the copy lives.
        let backup =
            unsafe { ffi::sqlite3_backup_init(to.db, c"main".as_ptr(), self.db, c"main".as_ptr()) };
        if backup.is_null() {
            // SAFETY: the handle is open.
            let code = unsafe { ffi::sqlite3_extended_errcode(to.db) };
            return Err(to.error("copy to", code));
        }
        Ok(Copying {
            backup,
            from: self,
            to,
        })
    }
}

/// A copy under way.
pub struct Copying<'a> {
    backup: *mut ffi::sqlite3_backup,
    from: &'a mut Connection,
    to: &'a mut Connection,
}

impl Copying<'_> {
    /// Copies so many pages; true when that was the last.
    pub fn step(&mut self, pages: c_int) -> Result<bool, Error> {
        // SAFETY: the copy lives, and with it both connections.
        match unsafe { ffi::sqlite3_backup_step(self.backup, pages) } {
            ffi::SQLITE_OK => Ok(false),
            ffi::SQLITE_DONE => Ok(true),
            code => Err(self.error(code)),
        }
    }

    /// Pages copied so far.
    pub fn pages(&self) -> u32 {
        // SAFETY: as for `step`.
        let (all, left) = unsafe {
            (
                ffi::sqlite3_backup_pagecount(self.backup),
                ffi::sqlite3_backup_remaining(self.backup),
            )
        };
        (all - left).max(0) as u32
    }

    pub fn finish(mut self) -> Result<(), Error> {
        match self.end() {
            ffi::SQLITE_OK => Ok(()),
            code => Err(self.error(code)),
        }
    }

    fn end(&mut self) -> c_int {
        let backup = std::mem::replace(&mut self.backup, ptr::null_mut());
        // SAFETY: the copy is ended once, and to end a null one does nothing.
        unsafe { ffi::sqlite3_backup_finish(backup) }
    }

    /// SQLite does not tell which of the two it was; one that could not be read has an error of its own.
    fn error(&self, code: c_int) -> Error {
        // SAFETY: the handle is open.
        let of_source = unsafe { ffi::sqlite3_extended_errcode(self.from.db) };
        if of_source == code {
            return self.from.error("copy", code);
        }
        // SAFETY: returns a static string.
        let text = unsafe { CStr::from_ptr(ffi::sqlite3_errstr(code)) };
        // SAFETY: the handle is open.
        let errno = unsafe { ffi::sqlite3_system_errno(self.to.db) };
        Error {
            errno,
            ..Error::new("copy to", &self.to.path, code, text.to_string_lossy())
        }
    }
}

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

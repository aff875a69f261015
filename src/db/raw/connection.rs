//! A connection: opening, errors, transactions, checkpoints, closing.

use std::ffi::{CStr, CString, c_int};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::time::Duration;

use libsqlite3_sys as ffi;

use super::callbacks::{Callbacks, note_frames};
use crate::db::error::{Cause, Error};
use crate::db::files;

pub struct Connection {
    pub(super) db: *mut ffi::sqlite3,
    pub(super) statements: Vec<*mut ffi::sqlite3_stmt>,
    pub(super) path: PathBuf,
    /// There was a -wal with something in it before this was opened.
    had_wal: bool,
    /// On the heap, because SQLite keeps the address; freed by Drop.
    pub(super) callbacks: NonNull<Callbacks>,
}

// SAFETY: SQLite is compiled thread-safe and ties no connection to a thread; NOMUTEX only demands that no
// two threads use it at once, which `&mut self` everywhere, and no `Sync`, ensure. The callbacks are reached
// through this connection alone.
unsafe impl Send for Connection {}

/// Result of `sqlite3_wal_checkpoint_v2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    pub log: u32,
    pub copied: u32,
    pub busy: bool,
}

/// Bytes of one row, of one text, of the schema of one object: far more than any that is written here.
const LENGTH_MAX: c_int = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
    /// As the file is by itself: reads no -wal and no journal, makes no -shm and takes no lock.
    WithoutWal,
}

/// SQLite's version, as `--version` prints it.
pub fn version() -> &'static str {
    // SAFETY: returns a static string.
    let text = unsafe { CStr::from_ptr(ffi::sqlite3_libversion()) };
    text.to_str().unwrap_or("unknown")
}

impl Connection {
    /// A database in memory, to compare with.
    pub fn in_memory() -> Result<Self, Error> {
        let flags = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_MEMORY;
        Self::open_with(Path::new("memory"), c"", flags)
    }

    /// Opens an existing file.
    pub fn open(path: &Path, access: Access) -> Result<Self, Error> {
        let operation = "open";
        // SQLite gives some names a meaning of their own (":memory:"); none of them begins with a dot.
        let place = Path::new(".").join(path);
        let cannot =
            |message: String| Err(Error::new(operation, path, ffi::SQLITE_CANTOPEN, message));
        match std::fs::metadata(&place) {
            Ok(file) if !file.is_file() => return cannot("it is not a file".into()),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let message = "no file is there";
                return Err(Error::new(operation, path, Cause::Absent, message));
            }
            Err(e) => return cannot(e.to_string()),
        }
        let mut name = place.into_os_string().into_encoded_bytes();
        let access = match access {
            Access::ReadOnly => ffi::SQLITE_OPEN_READONLY,
            Access::ReadWrite => ffi::SQLITE_OPEN_READWRITE,
            Access::WithoutWal => {
                // Every byte as a number, so that none of them has a meaning in a URI.
                let mut uri = b"file:".to_vec();
                for byte in name {
                    let _ = write!(uri, "%{byte:02x}");
                }
                uri.extend(b"?immutable=1");
                name = uri;
                ffi::SQLITE_OPEN_READONLY | ffi::SQLITE_OPEN_URI
            }
        };
        let name = CString::new(name)
            .map_err(|_| Error::new(operation, path, ffi::SQLITE_CANTOPEN, "NUL in the path"))?;
        Self::open_with(path, &name, access)
    }

    fn open_with(path: &Path, name: &CStr, flags: c_int) -> Result<Self, Error> {
        let operation = "open";
        let flags = flags | ffi::SQLITE_OPEN_NOMUTEX | ffi::SQLITE_OPEN_EXRESCODE;
        let had_wal = std::fs::metadata(files::wal_of(path)).is_ok_and(|wal| wal.len() > 0);
        let mut db = ptr::null_mut();
        // SAFETY: `name` ends in NUL, `db` is a local; the handle is closed by Drop even if this fails.
        let code = unsafe { ffi::sqlite3_open_v2(name.as_ptr(), &mut db, flags, ptr::null()) };
        let mut connection = Connection {
            db,
            statements: Vec::new(),
            path: path.to_owned(),
            had_wal,
            callbacks: Callbacks::new(),
        };
        connection.check(operation, code)?;
        // Objects that somebody else put into the file must not decide what becomes of a reading.
        connection.configure(ffi::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        connection.configure(ffi::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        // SAFETY: the handle is open; a limit is an int. Returns the limit before.
        unsafe { ffi::sqlite3_limit(db, ffi::SQLITE_LIMIT_LENGTH, LENGTH_MAX) };
        if flags & ffi::SQLITE_OPEN_READWRITE != 0 {
            // Closing would otherwise checkpoint, swallow the errors of that, and write to a damaged file.
            connection.configure(ffi::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        }
        Ok(connection)
    }

    fn configure(&mut self, verb: c_int, on: bool) -> Result<(), Error> {
        let none = ptr::null_mut::<c_int>();
        // SAFETY: the handle is open; the verbs that we use take an int and a pointer that may be null.
        let code = unsafe { ffi::sqlite3_db_config(self.db, verb, c_int::from(on), none) };
        self.check("open", code)
    }

    /// Closes a file that is not ours, on which nothing was written. SQLite takes away the -wal and -shm
    /// that it made to read it; if there was a -wal before, all stays, because closing would bring it in.
    pub fn leave_as_found(mut self, error: Error) -> Error {
        if !self.had_wal {
            // If this fails two empty files stay behind.
            let _ = self.configure(ffi::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        }
        error
    }

    /// Rows that the last INSERT, UPDATE or DELETE changed.
    pub fn changes(&self) -> i64 {
        // SAFETY: the handle is open.
        unsafe { ffi::sqlite3_changes64(self.db) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The error that the last call left on this connection.
    pub(super) fn error(&self, operation: &'static str, code: c_int) -> Error {
        let (message, errno) = if self.db.is_null() {
            ("out of memory".to_owned(), 0)
        } else {
            // SAFETY: the handle is open; the message is copied before any further call.
            unsafe {
                let text = CStr::from_ptr(ffi::sqlite3_errmsg(self.db));
                (
                    text.to_string_lossy().into_owned(),
                    ffi::sqlite3_system_errno(self.db),
                )
            }
        };
        // The number is the connection's last system error, and means something only for these.
        let told = matches!(
            code & 0xff,
            ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN | ffi::SQLITE_READONLY
        );
        Error {
            errno: if told { errno } else { 0 },
            ..Error::new(operation, &self.path, code, message)
        }
    }

    pub(super) fn check(&self, operation: &'static str, code: c_int) -> Result<(), Error> {
        if code == ffi::SQLITE_OK {
            Ok(())
        } else {
            Err(self.error(operation, code))
        }
    }

    /// Runs statements that return nothing of interest.
    pub fn execute(&mut self, operation: &'static str, sql: &CStr) -> Result<(), Error> {
        // SAFETY: the handle is open and `sql` ends in NUL; no callback.
        let code = unsafe {
            ffi::sqlite3_exec(
                self.db,
                sql.as_ptr(),
                None,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        self.check(operation, code)
    }

    /// Whether no transaction is open.
    pub fn is_autocommit(&mut self) -> bool {
        // SAFETY: the handle is open.
        unsafe { ffi::sqlite3_get_autocommit(self.db) != 0 }
    }

    pub fn set_busy_timeout(&mut self, timeout: Duration) {
        let ms = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the handle is open; cannot fail.
        unsafe { ffi::sqlite3_busy_timeout(self.db, ms) };
    }

    /// Counts the WAL's frames from here on, in place of SQLite's own automatic checkpoint.
    pub fn count_frames(&mut self) {
        let target = self.callbacks.as_ptr().cast();
        // SAFETY: the handle is open; the callbacks are freed only after it is closed.
        unsafe { ffi::sqlite3_wal_hook(self.db, Some(note_frames), target) };
    }

    /// Frames in the WAL after the last commit.
    pub fn wal_frames(&self) -> u32 {
        self.callbacks().wal_frames.get()
    }

    pub(super) fn callbacks(&self) -> &Callbacks {
        // SAFETY: freed by Drop only, and nobody makes an exclusive reference to it.
        unsafe { self.callbacks.as_ref() }
    }

    /// One call of `sqlite3_wal_checkpoint_v2`. Busy is an answer and not an error: some frames had to stay.
    pub fn checkpoint(&mut self, mode: c_int) -> Result<Frames, Error> {
        let (mut log, mut copied) = (-1, -1);
        // SAFETY: the handle is open; a null schema means the whole connection, which has one database.
        let code = unsafe {
            ffi::sqlite3_wal_checkpoint_v2(self.db, ptr::null(), mode, &mut log, &mut copied)
        };
        let busy = code & 0xff == ffi::SQLITE_BUSY;
        if !busy {
            self.check("checkpoint", code)?;
        }
        // Both are -1 when the file is not in WAL mode, and when another process's checkpoint kept us out:
        // then all frames may still be needed.
        if log < 0 && busy {
            log = self.wal_frames() as c_int;
        }
        Ok(Frames {
            log: log.max(0) as u32,
            copied: copied.max(0) as u32,
            busy,
        })
    }

    /// Closes the file and says whether SQLite could. SQLite swallows the errors of the checkpoint that
    /// closing may bring, so the caller checkpoints first.
    pub fn close(mut self) -> Result<(), Error> {
        self.finalize();
        // SAFETY: all statements are finalized. Only on success the handle is gone, and then forgotten.
        let code = unsafe { ffi::sqlite3_close(self.db) };
        self.check("close", code)?;
        self.db = ptr::null_mut();
        Ok(())
    }

    fn finalize(&mut self) {
        for statement in self.statements.drain(..) {
            // SAFETY: ours, and off the list now.
            unsafe { ffi::sqlite3_finalize(statement) };
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.finalize();
        // SAFETY: statements are finalized; closing null does nothing.
        let code = unsafe { ffi::sqlite3_close(self.db) };
        if code == ffi::SQLITE_OK {
            // SAFETY: made by `Callbacks::new`, freed once, and with the handle gone nothing calls back. Where
            // SQLite could not close, the memory stays, because the handle still points to it.
            drop(unsafe { Box::from_raw(self.callbacks.as_ptr()) });
        }
    }
}

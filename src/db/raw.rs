//! SQLite's C interface, one method for each call that seawall makes; all of `unsafe` that SQL needs.
//!
//! A `Connection` owns its statements and lends none of them, so that every call goes through one `&mut`
//! and no two threads can be inside SQLite on the same connection. It may move between threads.

mod bulk;

use std::ffi::{CStr, CString, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libsqlite3_sys as ffi;

use super::error::Error;
use crate::place::paths::wal_of;
use crate::reading::Value;

pub use bulk::Row as NewRow;

pub struct Connection {
    db: *mut ffi::sqlite3,
    statements: Vec<*mut ffi::sqlite3_stmt>,
    path: PathBuf,
    /// There was a -wal with something in it before this was opened.
    had_wal: bool,
    /// Frames in the WAL after the last commit; boxed because SQLite keeps its address.
    wal_frames: Box<AtomicU32>,
    /// Boxed for the same reason.
    current: Box<bulk::Current>,
}

// SAFETY: SQLite is compiled thread-safe and ties no connection to a thread; NOMUTEX only demands that no
// two threads use it at once, which `&mut self` everywhere, and no `Sync`, ensure.
unsafe impl Send for Connection {}

/// A prepared statement of the connection that made it.
#[derive(Clone, Copy, Debug)]
pub struct Statement(usize);

/// What `sqlite3_wal_checkpoint_v2` answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    pub log: u32,
    pub copied: u32,
    pub busy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

extern "C" fn note_frames(
    target: *mut c_void,
    _db: *mut ffi::sqlite3,
    _schema: *const std::ffi::c_char,
    frames: c_int,
) -> c_int {
    // SAFETY: `target` is the boxed counter of the connection, which outlives the registration.
    let counter = unsafe { &*target.cast::<AtomicU32>() };
    counter.store(frames.max(0) as u32, Ordering::Relaxed);
    ffi::SQLITE_OK
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
            Err(e) => return cannot(e.to_string()),
        }
        let name = place.into_os_string().into_encoded_bytes();
        let access = match access {
            Access::ReadOnly => ffi::SQLITE_OPEN_READONLY,
            Access::ReadWrite => ffi::SQLITE_OPEN_READWRITE,
        };
        let name = CString::new(name)
            .map_err(|_| Error::new(operation, path, ffi::SQLITE_CANTOPEN, "NUL in the path"))?;
        Self::open_with(path, &name, access)
    }

    fn open_with(path: &Path, name: &CStr, flags: c_int) -> Result<Self, Error> {
        let operation = "open";
        let flags = flags | ffi::SQLITE_OPEN_NOMUTEX | ffi::SQLITE_OPEN_EXRESCODE;
        let had_wal = std::fs::metadata(wal_of(path)).is_ok_and(|wal| wal.len() > 0);
        let mut db = ptr::null_mut();
        // SAFETY: `name` ends in NUL, `db` is a local; the handle is closed by Drop even if this fails.
        let code = unsafe { ffi::sqlite3_open_v2(name.as_ptr(), &mut db, flags, ptr::null()) };
        let mut connection = Connection {
            db,
            statements: Vec::new(),
            path: path.to_owned(),
            had_wal,
            wal_frames: Box::new(AtomicU32::new(0)),
            current: Box::default(),
        };
        connection.check(operation, code)?;
        // What somebody else put into the file must not decide what becomes of a reading.
        connection.configure(ffi::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
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

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The error that the last call left on this connection.
    fn error(&self, operation: &'static str, code: c_int) -> Error {
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

    fn check(&self, operation: &'static str, code: c_int) -> Result<(), Error> {
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
        values: &[Option<Value<'_>>],
    ) -> Result<(), Error> {
        let row = self.query(operation, statement, values)?;
        debug_assert!(row.is_none());
        Ok(())
    }

    /// As `run`, and gives the first column of the first row, if there is one.
    pub fn query(
        &mut self,
        operation: &'static str,
        statement: Statement,
        values: &[Option<Value<'_>>],
    ) -> Result<Option<i64>, Error> {
        let raw = self.statements[statement.0];
        for (place, value) in (1..).zip(values) {
            // SAFETY: the statement is ours; places beyond its parameters give an error code.
            let code = match *value {
                None => unsafe { ffi::sqlite3_bind_null(raw, place) },
                Some(Value::Integer(v)) => unsafe { ffi::sqlite3_bind_int64(raw, place, v) },
                // SAFETY: as above.
                Some(Value::Real(v)) => unsafe { ffi::sqlite3_bind_double(raw, place, v) },
                Some(Value::Text(v)) => self.bind_text(statement, place, v),
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

    /// One reading into a statement with the parameters id, time, series, value.
    pub fn insert(
        &mut self,
        statement: Statement,
        id: i64,
        time_ns: i64,
        series: i64,
        value: Value<'_>,
    ) -> Result<(), Error> {
        let raw = self.statements[statement.0];
        // SAFETY: the statement is ours and has four parameters; a text outlives the step, and the value
        // is bound anew before each.
        unsafe {
            ffi::sqlite3_bind_int64(raw, 1, id);
            ffi::sqlite3_bind_int64(raw, 2, time_ns);
            ffi::sqlite3_bind_int64(raw, 3, series);
            let bound = match value {
                Value::Real(v) => ffi::sqlite3_bind_double(raw, 4, v),
                Value::Integer(v) => ffi::sqlite3_bind_int64(raw, 4, v),
                Value::Text(v) => self.bind_text(statement, 4, v),
            };
            let code = if bound == ffi::SQLITE_OK {
                ffi::sqlite3_step(raw)
            } else {
                bound
            };
            if code == ffi::SQLITE_DONE {
                ffi::sqlite3_reset(raw);
                return Ok(());
            }
            let error = self.error("insert a reading into", code);
            ffi::sqlite3_reset(raw);
            Err(error)
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
                    if !each(&Row {
                        statement: raw,
                        _step: std::marker::PhantomData,
                    }) {
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

    /// Whether there is a next row, which `row` then shows.
    pub fn step(&mut self, operation: &'static str, statement: Statement) -> Result<bool, Error> {
        // SAFETY: the statement is ours.
        match unsafe { ffi::sqlite3_step(self.statements[statement.0]) } {
            ffi::SQLITE_ROW => Ok(true),
            ffi::SQLITE_DONE => Ok(false),
            code => Err(self.error(operation, code)),
        }
    }

    /// The row that `step` came to. It borrows the connection, so that no step can be made under it.
    pub fn row(&self, statement: Statement) -> Row<'_> {
        Row {
            statement: self.statements[statement.0],
            _step: std::marker::PhantomData,
        }
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
        let target: *const AtomicU32 = &*self.wal_frames;
        // SAFETY: the counter is boxed and lives as long as the connection, which Drop closes first.
        unsafe { ffi::sqlite3_wal_hook(self.db, Some(note_frames), target as *mut c_void) };
    }

    /// Frames in the WAL after the last commit.
    pub fn wal_frames(&self) -> u32 {
        self.wal_frames.load(Ordering::Relaxed)
    }

    /// One checkpoint. Busy is an answer and not an error: it says that some frames had to stay.
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
        // SAFETY: statements are gone; closing null does nothing.
        unsafe { ffi::sqlite3_close(self.db) };
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

/// The row that a query stands on.
pub struct Row<'a> {
    statement: *mut ffi::sqlite3_stmt,
    _step: std::marker::PhantomData<&'a ()>,
}

impl Row<'_> {
    pub fn integer(&self, column: i32) -> i64 {
        // SAFETY: the statement stands on a row; a column out of range gives 0.
        unsafe { ffi::sqlite3_column_int64(self.statement, column) }
    }

    pub fn text(&self, column: i32) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.bytes(column))
    }

    pub fn blob(&self, column: i32) -> &[u8] {
        // SAFETY: as for `bytes`.
        unsafe {
            let start = ffi::sqlite3_column_blob(self.statement, column);
            let len = ffi::sqlite3_column_bytes(self.statement, column);
            if start.is_null() || len <= 0 {
                return &[];
            }
            std::slice::from_raw_parts(start.cast(), len as usize)
        }
    }

    fn bytes(&self, column: i32) -> &[u8] {
        // SAFETY: SQLite keeps the bytes until the next step, which `&self` cannot make; null when empty.
        unsafe {
            let start = ffi::sqlite3_column_text(self.statement, column);
            let len = ffi::sqlite3_column_bytes(self.statement, column);
            if start.is_null() || len <= 0 {
                return &[];
            }
            std::slice::from_raw_parts(start, len as usize)
        }
    }

    /// The value as seawall writes values; None for what it never writes.
    pub fn value(&self, column: i32) -> Option<Value<'_>> {
        // SAFETY: as for `integer`.
        unsafe {
            match ffi::sqlite3_column_type(self.statement, column) {
                ffi::SQLITE_INTEGER => Some(Value::Integer(self.integer(column))),
                ffi::SQLITE_FLOAT => Some(Value::Real(ffi::sqlite3_column_double(
                    self.statement,
                    column,
                ))),
                ffi::SQLITE_TEXT => std::str::from_utf8(self.bytes(column))
                    .ok()
                    .map(Value::Text),
                _ => None,
            }
        }
    }
}

//! Memory that SQLite's callbacks read and write: on the heap, owned by the connection through a raw pointer, so that
//! moving the connection invalidates no pointer that SQLite keeps.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::NonNull;

use libsqlite3_sys as ffi;

use crate::db::value::SqlValue;

/// Columns of the table that a bulk insert reads from.
pub const BULK_COLUMNS: usize = 3;

/// A row of a bulk insert.
pub type NewRow<'a> = [SqlValue<'a>; BULK_COLUMNS];

/// Sets the rows of a bulk insert, one after the other. Returns false after the last.
pub(super) type RowSource<'a, 'b> = dyn FnMut(&mut NewRow<'a>) -> bool + 'b;

/// One for each connection. Only shared references to it are ever made.
pub(super) struct Callbacks {
    /// Frames in the WAL after the last commit.
    pub wal_frames: Cell<u32>,
    /// The source of the bulk insert that runs; none between two.
    pub source: Cell<Option<NonNull<RowSource<'static, 'static>>>>,
    /// The declaration of the table that a bulk insert reads from.
    pub columns: Cell<&'static CStr>,
}

impl Callbacks {
    /// `Connection` frees it, after SQLite has closed the handle.
    pub fn new() -> NonNull<Callbacks> {
        NonNull::from(Box::leak(Box::new(Callbacks {
            wal_frames: Cell::new(0),
            source: Cell::new(None),
            columns: Cell::new(c""),
        })))
    }
}

/// Called by SQLite after each commit in WAL mode.
///
/// # Safety
/// `target` is the connection's `Callbacks`.
pub(super) unsafe extern "C" fn note_frames(
    target: *mut c_void,
    _db: *mut ffi::sqlite3,
    _schema: *const c_char,
    frames: c_int,
) -> c_int {
    // SAFETY: the connection frees its callbacks only after SQLite has closed the handle.
    let callbacks = unsafe { &*target.cast::<Callbacks>() };
    callbacks.wal_frames.set(frames.max(0) as u32);
    ffi::SQLITE_OK
}

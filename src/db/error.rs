//! Meaning of a failed call to SQLite for the recorder.

use std::fmt;
use std::path::{Path, PathBuf};

use libsqlite3_sys as ffi;

use crate::units;

/// One failed operation: what was tried, on which file, what SQLite and the system said.
#[derive(Clone, Debug)]
pub struct Error {
    pub operation: &'static str,
    pub path: PathBuf,
    pub cause: Cause,
    pub message: String,
    /// The system's own error number, or 0.
    pub errno: i32,
}

/// Possible reaction to an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// SQLite rolled back cleanly and the cause may pass: wait and try again.
    Retry,
    /// The file cannot be trusted, or a sync may have failed: nothing may be acknowledged from here on.
    Fatal,
    /// The file itself is damaged.
    Damaged,
    /// The file is not one that this version may write.
    Foreign,
}

/// Failed call of SQLite, or failed check of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// SQLite's extended result code.
    Sqlite(i32),
    NotSeawall,
    NewerLayout,
    PragmaRefused,
    FilesGone,
    ForeignWal,
    /// Somebody added what may change or refuse rows.
    Strange,
    /// There is nothing in the file, not even tables.
    Empty,
    Absent,
}

impl From<i32> for Cause {
    fn from(code: i32) -> Self {
        Cause::Sqlite(code)
    }
}

impl Cause {
    /// SQLite's primary result code; `SQLITE_OK` for a check of our own.
    pub fn primary_code(self) -> i32 {
        match self {
            Cause::Sqlite(code) => code & 0xff,
            _ => ffi::SQLITE_OK,
        }
    }
}

/// The contents cannot be what was recorded.
pub fn corrupt(operation: &'static str, path: &Path, message: String) -> Error {
    Error::new(operation, path, ffi::SQLITE_CORRUPT, message)
}

impl Error {
    pub fn new(
        operation: &'static str,
        path: &Path,
        cause: impl Into<Cause>,
        message: impl Into<String>,
    ) -> Self {
        Error {
            operation,
            path: path.to_owned(),
            cause: cause.into(),
            message: message.into(),
            errno: 0,
        }
    }

    /// The files of a live database were removed, replaced or moved.
    pub fn files_gone(path: &Path) -> Self {
        let message = "it was removed, replaced, moved or overwritten while recording; what was recorded since is not in it";
        Self::new("record to", path, Cause::FilesGone, message)
    }

    /// The -wal beside a database is another's.
    pub fn foreign_wal(path: &Path, todo: &str) -> Self {
        let message = format!(
            "the -wal beside it does not belong to it, and SQLite would ruin it with that; {todo}"
        );
        Self::new("record to", path, Cause::ForeignWal, message)
    }

    /// The contents of the -wal beside it would be gone once it is opened.
    pub fn unread_wal(operation: &'static str, path: &Path) -> Self {
        let message = "the -wal beside it does not belong to it; start the recorder, which sets it aside, or take it away";
        Self::new(operation, path, Cause::ForeignWal, message)
    }

    /// There is nothing in it, not even tables.
    pub fn empty(operation: &'static str, path: &Path) -> Self {
        Self::new(operation, path, Cause::Empty, "it is empty")
    }

    pub fn is_empty(&self) -> bool {
        self.cause == Cause::Empty
    }

    /// Less is free than is to be left to the rest of the device.
    pub fn little_room(path: &Path, free_bytes: u64, min_free_bytes: u64) -> Self {
        let [free, keep] = [free_bytes, min_free_bytes].map(units::bytes_human);
        let message = format!("{free} are free, {keep} are to be kept so (see --min-free)");
        Self::new("commit to", path, ffi::SQLITE_FULL, message)
    }

    /// The filesystem can hold no further file.
    pub fn no_inodes(path: &Path) -> Self {
        let message = "no inode is free for the -wal beside it";
        Self::new("open", path, ffi::SQLITE_FULL, message)
    }

    /// Something would have to be written first, on a connection that may not.
    pub fn is_read_only(&self) -> bool {
        self.cause.primary_code() == ffi::SQLITE_READONLY
    }

    /// Another process was in the way.
    pub fn is_busy(&self) -> bool {
        matches!(
            self.cause.primary_code(),
            ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED
        )
    }

    /// There is no room.
    pub fn is_full(&self) -> bool {
        self.cause.primary_code() == ffi::SQLITE_FULL
            || matches!(self.errno, libc::ENOSPC | libc::EDQUOT | libc::EFBIG)
    }

    pub fn is_files_gone(&self) -> bool {
        self.cause == Cause::FilesGone
    }

    pub fn class(&self) -> Class {
        let code = match self.cause {
            Cause::Sqlite(code) => code,
            Cause::NotSeawall | Cause::NewerLayout | Cause::Empty | Cause::Strange => {
                return Class::Foreign;
            }
            Cause::PragmaRefused | Cause::FilesGone | Cause::ForeignWal | Cause::Absent => {
                return Class::Fatal;
            }
        };
        match (code, code & 0xff) {
            (ffi::SQLITE_IOERR_NOMEM, _) => Class::Retry,
            // A quota, the longest file of FAT, or a disk that fills up under something else than a page. A sync
            // that says so is as bad as any that failed.
            (code, ffi::SQLITE_IOERR)
                if matches!(self.errno, libc::ENOSPC | libc::EDQUOT | libc::EFBIG)
                    && !matches!(code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) =>
            {
                Class::Retry
            }
            (
                _,
                ffi::SQLITE_BUSY
                | ffi::SQLITE_LOCKED
                | ffi::SQLITE_FULL
                | ffi::SQLITE_NOMEM
                | ffi::SQLITE_PROTOCOL,
            ) => Class::Retry,
            // No text that is ever written here is as long as the limit.
            (_, ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB | ffi::SQLITE_TOOBIG) => Class::Damaged,
            _ => Class::Fatal,
        }
    }

    /// Advice to the user.
    fn advice(&self) -> &'static str {
        let code = match self.cause {
            Cause::Sqlite(code) => code,
            Cause::NotSeawall => return "; give another --db",
            Cause::Absent => return "; name the database by --db",
            Cause::Empty => return "; nothing was ever recorded to it",
            Cause::NewerLayout => return "; use the newer seawall that wrote it",
            Cause::PragmaRefused => return "; the filesystem may lack what SQLite's WAL mode needs",
            Cause::FilesGone | Cause::ForeignWal | Cause::Strange => return "",
        };
        match code & 0xff {
            ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => {
                "; another process holds the lock, end its transaction"
            }
            _ if self.is_full() => "; free some space, or raise the quota",
            // Somebody else's file, or the first page is gone, and with it the way to all others.
            ffi::SQLITE_NOTADB => {
                "; if it is not seawall's, name the database by --db; if it is, keep a copy of the .db and -wal before anything else"
            }
            ffi::SQLITE_CORRUPT | ffi::SQLITE_TOOBIG => {
                "; keep a copy of the .db and -wal before anything else; `seawall export --skip-damaged` has all that can be read"
            }
            ffi::SQLITE_IOERR => "; see the kernel's log, the device may be failing",
            ffi::SQLITE_READONLY | ffi::SQLITE_CANTOPEN | ffi::SQLITE_PERM => {
                "; the folder and the file must be there, and writable by this user"
            }
            ffi::SQLITE_NOMEM => "; give it more memory",
            _ => "",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error {
            operation,
            path,
            message,
            ..
        } = self;
        write!(f, "cannot {operation} {}: {message}", path.display())?;
        if self.errno != 0 {
            write!(f, " ({})", std::io::Error::from_raw_os_error(self.errno))?;
        }
        if let Cause::Sqlite(code @ 1..) = self.cause {
            write!(f, " [SQLite {code}]")?;
        }
        f.write_str(self.advice())
    }
}

impl std::error::Error for Error {}

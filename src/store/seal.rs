//! The seal of a run: what lets the next start notice that the -wal was lost. `evidence` says what it means
//! and reads it; here it is written, around each checkpoint and after the first commit that follows one.

use std::path::Path;
use std::time::Duration;

use libsqlite3_sys as ffi;

use super::{Checkpoint, Class, Db, Error, Sync, identify, schema};
use crate::db::checkpoint::CheckpointMode;
use crate::db::raw::{Access, Connection};
use crate::place::evidence::{self, LastRun};
use crate::reading::Value;
use crate::sys::{self, Clock};

#[derive(Default)]
pub struct Seal {
    /// As in the run's row.
    time_ns: Option<i64>,
    /// As in the run's row: the log's, when the seal was written.
    wal_salt: Option<i64>,
    /// All is in the database file, the seal too, and nothing was committed since.
    pub is_whole: bool,
    /// The run has ended, and its row is not written any more.
    pub is_over: bool,
}

/// A log that is cut to nothing is not there after a power cut either, until it is synced.
pub fn can_be_sealed(done: &Checkpoint) -> bool {
    done.is_complete() && done.mode != CheckpointMode::Truncate
}

impl Db {
    /// Brings the run's row into the database file, so that it is known there should the -wal get lost. What
    /// stands in the way is in the way of that alone.
    pub(super) fn bring_in_start(&mut self) -> Result<(), Error> {
        let done = self.checkpoint(CheckpointMode::Passive, Duration::ZERO);
        // Of those that the row tells, this is none.
        self.checkpoints = 0;
        match done {
            Err(e) if e.class() != Class::Retry => Err(e),
            _ => Ok(()),
        }
    }

    /// Writes a new seal into the run's row, for a checkpoint to bring it into the database file. False where
    /// there is none, which is no reason not to checkpoint.
    pub(super) fn write_seal(&mut self, mode: CheckpointMode) -> Result<bool, Error> {
        if self.seal.is_whole {
            return Ok(true);
        }
        if mode == CheckpointMode::Truncate || self.seal.is_over {
            return Ok(false);
        }
        let time_ns = seal_time(sys::clock_ns(Clock::Real), self.seal.time_ns);
        let wal_salt = evidence::wal_salt(self.raw.path());
        // The checkpoint itself syncs it.
        let written = self.synchronous(Sync::Normal).and_then(|()| {
            self.transaction(|db| {
                let numbers = [Some(db.run), Some(time_ns), wal_salt];
                let numbers = numbers.map(|n| n.map(Value::Integer));
                db.raw.run("seal", db.statements.seal_run, &numbers)
            })
        });
        match written {
            Ok(()) => {
                self.seal.time_ns = Some(time_ns);
                self.seal.wal_salt = wal_salt;
                Ok(true)
            }
            Err(e) if e.class() == Class::Retry => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// After a commit: marks the file if this is the first that is in the log alone.
    pub(super) fn mark(&mut self) {
        if !std::mem::take(&mut self.seal.is_whole) {
            return;
        }
        let path = self.raw.path();
        if let Some(time_ns) = self.seal.time_ns
            && evidence::is_sealed_log(path, self.seal.wal_salt)
        {
            // Where the mark cannot be set, a loss of the log is not noticed.
            let _ = sys::set_modified(path, time_ns);
        }
    }
}

/// What the database file says by itself of its last run; None where it says nothing that can be
/// read. To be asked while this process has the file open nowhere else.
pub fn last_run(path: &Path) -> Result<Option<LastRun>, Error> {
    match read_last_run(path) {
        // A device that fails is not tried again.
        Err(e) if matches!(e.code & 0xff, ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN) => {
            if e.class() == Class::Fatal {
                return Err(e);
            }
            Ok(None)
        }
        read => Ok(read.unwrap_or_default()),
    }
}

fn read_last_run(path: &Path) -> Result<Option<LastRun>, Error> {
    let mut raw = Connection::open(path, Access::Immutable)?;
    if identify(&mut raw)? {
        return Ok(None);
    }
    let mut found = None;
    raw.rows("read", schema::LAST_RUN, |row| {
        let number = |column| match row.value(column) {
            Some(Value::Integer(n)) => Some(n),
            _ => None,
        };
        found = Some(LastRun {
            boot_id: Some(row.text(0).into_owned()).filter(|id| !id.is_empty()),
            sealed_ns: number(1),
            wal_salt: number(2),
            is_open: row.integer(3) != 0,
        });
        true
    })?;
    Ok(found)
}

/// A time that no write of now gives the file, and another than the last, so that whoever copies changed
/// files by their time finds it changed.
fn seal_time(now_ns: i64, last_ns: Option<i64>) -> i64 {
    /// The coarsest that filesystems with parts of a second keep.
    const STEP_NS: i64 = 10_000_000;
    const PAST_NS: i64 = 2_000_000_000;
    let past_ns = now_ns.saturating_sub(PAST_NS);
    let next_ns = last_ns.map_or(past_ns, |last_ns| last_ns.saturating_add(STEP_NS));
    // Not on and on into the future, where checkpoints are more frequent or the clock was set.
    let time_ns = if next_ns < now_ns {
        past_ns.max(next_ns)
    } else {
        past_ns
    };
    time_ns.saturating_sub(time_ns.rem_euclid(STEP_NS))
}

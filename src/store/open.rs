//! Opens a database for a command that reads it, and looks at the files beside it before that.
//!
//! A `.db` that was copied while it was recorded, or whose `-wal` was taken away after a kill, is whole for SQLite and
//! lacks its newest readings. Every command that reads one says so.

use std::path::Path;
use std::time::Duration;

use libsqlite3_sys as ffi;

use super::identify::identify;
use super::objects;
use super::room::look_for_room;
use super::start::{LastRun, last_run, look_at_wal, missing};
use crate::db::raw::{Access, Connection};
use crate::db::{Cause, Class, Error, pragma};
use crate::place;
use crate::place::foreign_wal::{self, Treatment};
use crate::place::mark;

/// Memory for pages: every page is needed once.
pub(super) const CACHE_KIB: i64 = 256;

pub(super) const READ: &str = "read";

/// Before a command opens a database, and while this process has it open nowhere: an error where SQLite would
/// replay a -wal that is another database's, or needs room that is not there.
pub fn look_before_reading(path: &Path) -> Result<Beside, Error> {
    // SQLite puts its files beside what a link points to.
    let path = &place::paths::follow_links(path);
    place::side_files::refuse_strange(path)
        .map_err(|reason| Error::new(READ, path, Cause::Strange, reason))?;
    // A recorder that starts after this only brings more.
    let beside = Beside {
        is_recorded: place::lock::is_recorded(path),
        has_frames: foreign_wal::has_frames(path),
        is_in_wal_mode: place::side_files::is_in_wal_mode(path),
        mark: mark::read(path),
    };
    if beside.is_recorded {
        return Ok(beside);
    }
    match look_at_wal(path) {
        Treatment::SetAside => Err(Error::unread_wal(READ, path)),
        // Frames that the file has already may be read once more.
        Treatment::Leave | Treatment::Remove { .. } => look_for_room_to_read(path).map(|()| beside),
    }
}

/// Files beside a database before it was opened.
pub struct Beside {
    is_recorded: bool,
    has_frames: bool,
    is_in_wal_mode: bool,
    mark: Option<mark::Reached>,
}

impl Beside {
    /// Whether a run without an end was killed. That of a backup, which is not in WAL mode, may be going on.
    pub(super) fn is_killed(&self, run: &LastRun) -> bool {
        run.is_open && self.is_in_wal_mode && !self.is_recorded
    }

    /// Describes the readings of the last run that the file lacks.
    pub(super) fn missing(&self, raw: &mut Connection) -> Result<Option<String>, Error> {
        if self.is_recorded {
            return Ok(None);
        }
        let Some(last) = last_run(raw)? else {
            return Ok(None);
        };
        let Some(mark) = &self.mark else {
            let is_cut_off = self.is_killed(&last) && !self.has_frames;
            return Ok(is_cut_off.then(|| {
                format!(
                    "run {} has no end: killed, or a copy made while recording, and without its -wal, in which the newest readings are (seawall backup makes a whole copy)",
                    last.run
                )
            }));
        };
        let boot_id = crate::sys::boot_id();
        let ids = missing(raw, mark, boot_id.as_deref())?;
        Ok(ids.map(|ids| lost(last.run, *ids.start(), *ids.end())))
    }
}

/// A page is damaged, or the device cannot read it.
pub(super) fn is_unreadable(e: &Error) -> bool {
    let is_lost = e.cause.primary_code() == ffi::SQLITE_IOERR;
    e.class() == Class::Damaged || (is_lost && e.class() == Class::Fatal)
}

/// The readings that a run has lost, in words.
pub(super) fn lost(run: i64, from_id: i64, to_id: i64) -> String {
    format!(
        "readings {from_id} to {to_id} ({}) of run {run}: they were committed, and the -wal that held them was taken away or damaged",
        to_id.saturating_sub(from_id).saturating_add(1)
    )
}

/// For a database without a recorder: SQLite reads its log into a -shm first; a file that is not in WAL mode
/// needs none.
pub(super) fn look_for_room_to_read(path: &Path) -> Result<(), Error> {
    let path = &place::paths::follow_links(path);
    if !place::paths::wal_of(path).exists() && !place::side_files::is_in_wal_mode(path) {
        return Ok(());
    }
    look_for_room(path, 0).map_err(|e| Error {
        operation: READ,
        ..e
    })
}

/// Opens a seawall database that others may be recording into.
pub(super) fn open(path: &Path, busy_timeout: Duration) -> Result<Connection, Error> {
    open_with(path, busy_timeout, |_| Ok(()))
}

/// The same of a file that may be cut short.
pub(super) fn open_damaged(path: &Path, busy_timeout: Duration) -> Result<Connection, Error> {
    open_with(path, busy_timeout, pragma::allow_a_file_cut_short)
}

fn open_with(
    path: &Path,
    busy_timeout: Duration,
    configure: fn(&mut Connection) -> Result<(), Error>,
) -> Result<Connection, Error> {
    match open_as(path, busy_timeout, configure, Access::ReadOnly) {
        // A kill may leave a journal that has to be rolled back before anybody can read.
        Err(e) if e.is_read_only() => open_as(path, busy_timeout, configure, Access::ReadWrite),
        other => other,
    }
}

fn open_as(
    path: &Path,
    busy_timeout: Duration,
    configure: fn(&mut Connection) -> Result<(), Error>,
    access: Access,
) -> Result<Connection, Error> {
    let mut raw = Connection::open(path, access)?;
    raw.set_busy_timeout(busy_timeout);
    configure(&mut raw)?;
    match identify(&mut raw) {
        Ok(false) => {}
        Ok(true) => return Err(Error::empty(READ, path)),
        Err(e) => return Err(raw.leave_as_found(e)),
    }
    let compared = objects::compare(&mut raw).and_then(|objects| objects.require(&raw));
    if let Err(e) = compared {
        return Err(raw.leave_as_found(e));
    }
    pragma::set_for_reading(&mut raw, CACHE_KIB)?;
    Ok(raw)
}

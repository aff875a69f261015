//! Opens a database for a command that reads it, and looks at the files beside it before that.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use super::identify::{identify, is_seawall};
use super::objects;
use super::room::look_for_room;
use crate::db::raw::{Access, Connection};
use crate::db::{Cause, Error, pragma};
use crate::place;
use crate::place::foreign_wal::{self, Treatment};

/// Memory for pages: every page is needed once.
const CACHE_KIB: i64 = 256;

const READ: &str = "read";

/// Before a command opens a database, and while this process has it open nowhere: an error where SQLite would
/// replay a -wal that is another database's, or needs room that is not there.
pub fn look_before_reading(path: &Path) -> Result<(), Error> {
    // SQLite puts its files beside what a link points to.
    let path = &place::paths::follow_links(path);
    place::side_files::refuse_strange(path)
        .map_err(|reason| Error::new(READ, path, Cause::Strange, reason))?;
    if place::lock::is_recorded(path) {
        return Ok(());
    }
    // If this check fails, SQLite's own calls report the cause better.
    match foreign_wal::look(path, is_seawall) {
        Ok(Treatment::SetAside) => Err(Error::unread_wal(READ, path)),
        _ => look_for_room_to_read(path),
    }
}

/// For a database without a recorder: SQLite reads its log into a -shm first; a file that is not in WAL mode
/// needs none.
pub(super) fn look_for_room_to_read(path: &Path) -> Result<(), Error> {
    let path = &place::paths::follow_links(path);
    if !place::paths::wal_of(path).exists() && !is_in_wal_mode(path) {
        return Ok(());
    }
    look_for_room(path, 0).map_err(|e| Error {
        operation: READ,
        ..e
    })
}

pub(super) fn is_in_wal_mode(path: &Path) -> bool {
    let mut head = [0; 20];
    if !path.is_file() {
        return false;
    }
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head[18..] != [1, 1]
}

/// Opens a seawall database that others may be recording into.
pub(super) fn open(path: &Path, busy_timeout: Duration) -> Result<Connection, Error> {
    match open_with(path, busy_timeout, Access::ReadOnly) {
        // A kill may leave a journal that has to be rolled back before anybody can read.
        Err(e) if e.is_read_only() => open_with(path, busy_timeout, Access::ReadWrite),
        other => other,
    }
}

fn open_with(path: &Path, busy_timeout: Duration, access: Access) -> Result<Connection, Error> {
    let mut raw = Connection::open(path, access)?;
    raw.set_busy_timeout(busy_timeout);
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

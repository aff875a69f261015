//! One checkpoint of a file, for the command of this name.

use std::path::Path;
use std::time::Duration;

use super::identify::identify;
use super::open;
use super::start::run_of;
use crate::db::Error;
use crate::db::checkpoint::{Checkpoint, CheckpointMode, checkpoint};
use crate::db::pragma::{self, Durability};
use crate::db::raw::{Access, Connection};
use crate::place::{self, mark};

/// One checkpoint of a file that others may be recording into. A file that nobody else has open is left
/// complete by itself when nothing remains in its WAL.
pub fn checkpoint_file(
    path: &Path,
    mode: CheckpointMode,
    busy_timeout: Duration,
) -> Result<Checkpoint, Error> {
    // A link may lead out of the folder that the -wal is in.
    let path = &place::paths::follow_links(path);
    open::look_before_reading(path)?;
    let is_recorded = place::lock::is_recorded(path);
    let mut raw = Connection::open(path, Access::ReadWrite)?;
    raw.set_busy_timeout(busy_timeout);
    match identify(&mut raw) {
        Ok(false) => {}
        Ok(true) => return Err(Error::empty("checkpoint", path)),
        Err(e) => return Err(raw.leave_as_found(e)),
    }
    pragma::set_synchronous(&mut raw, Durability::Full)?;
    let done = checkpoint(&mut raw, mode)?;
    if done.is_complete() {
        raw.set_busy_timeout(Duration::ZERO);
        if pragma::leave_wal(&mut raw)? && !is_recorded {
            remove_mark_of_ended_run(&mut raw)?;
        }
    }
    raw.close()?;
    Ok(done)
}

/// Removes the mark that a stop with status 3 has left, now that the file is complete by itself. The mark of a run
/// that has no end stays: the next start may find by it that readings are lost.
fn remove_mark_of_ended_run(raw: &mut Connection) -> Result<(), Error> {
    let path = raw.path().to_owned();
    let Some(reached) = mark::read(&path) else {
        return Ok(());
    };
    if run_of(raw, &reached)?.is_some_and(|last| !last.is_open) {
        // Nothing depends on it: the file has all that the mark says.
        let _ = mark::remove(&path);
    }
    Ok(())
}

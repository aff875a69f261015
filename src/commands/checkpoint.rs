//! `checkpoint`: one checkpoint, and what it did. It is refused where it would bring a wrong -wal into the
//! file, or wipe out what tells the next recorder that the right one is lost.

use std::fs::{self, File};
use std::path::Path;

use super::{complain, print};
use crate::db;
use crate::evidence::{self, Loss, Treatment, Verdict};
use crate::exit::Status;
use crate::options::Checkpoint;
use crate::place;
use crate::sys;

/// What stands against it, where no recorder has the file.
fn objection(db: &Path) -> Option<&'static str> {
    let is_free = fs::metadata(db).is_ok_and(|file| file.is_file())
        // Let go of at once: a recorder may want to start.
        && File::open(db).is_ok_and(|file| sys::try_lock(&file).is_ok_and(|is_free| is_free));
    if !is_free {
        return None;
    }
    let boot_id = sys::boot_id();
    // What cannot be looked at, the checkpoint tells of.
    let ask = || db::last_run(db).ok().flatten();
    let verdict = evidence::look(db, boot_id.as_deref(), ask).unwrap_or_default();
    match verdict {
        Verdict {
            wal: Treatment::Remove,
            ..
        } => Some("the -wal beside it does not belong to it"),
        Verdict {
            loss: Some(Loss::Missing),
            ..
        } => Some("commits that were in its -wal are lost"),
        Verdict {
            loss: Some(Loss::Damaged),
            ..
        } => Some("its -wal is damaged"),
        Verdict {
            wal: Treatment::Clear,
            ..
        } => Some("the -wal beside it is left from a power cut"),
        _ => None,
    }
}

pub fn checkpoint(settings: &Checkpoint) -> Status {
    if let Some(objection) = objection(&place::follow_links(&settings.db)) {
        return complain(format_args!(
            "cannot checkpoint {}: {objection}; start the recorder, which records what is lost",
            settings.db.display()
        ));
    }
    match db::checkpoint_file(&settings.db, settings.mode, settings.busy_timeout) {
        Ok(done) => {
            let told = print(format_args!(
                "busy={} log={} checkpointed={}",
                u8::from(done.busy),
                done.log,
                done.copied
            ));
            if done.is_complete() {
                told
            } else {
                Status::FramesRemain
            }
        }
        Err(e) => complain(e),
    }
}

//! `checkpoint`: one checkpoint, and what it did. It is refused where it would bring a wrong -wal into the
//! file, or wipe out what tells the next recorder that the right one is lost.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::answer::{complain, print};
use crate::db::checkpoint::CheckpointMode;
use crate::exit::Status;
use crate::place::evidence::{Loss, Treatment, Verdict};
use crate::place::follow_links;
use crate::store;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub db: PathBuf,
    pub mode: CheckpointMode,
    pub busy_timeout: Duration,
}

/// What stands against it, where no recorder has the file.
fn objection(db: &Path) -> Option<&'static str> {
    match store::verdict(db)? {
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

pub fn run(settings: &Settings) -> Status {
    // Everything beside a database lies beside the file itself, not beside a link to it.
    let db = follow_links(&settings.db);
    if let Some(objection) = objection(&db) {
        return complain(format_args!(
            "cannot checkpoint {}: {objection}; start the recorder, which records what is lost",
            db.display()
        ));
    }
    match store::checkpoint_file(&db, settings.mode, settings.busy_timeout) {
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

//! `checkpoint`: one checkpoint, and what it did.

use std::path::PathBuf;
use std::time::Duration;

use super::answer::{complain, print};
use crate::db::checkpoint::CheckpointMode;
use crate::exit::Status;
use crate::place::follow_links;
use crate::store;

#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointSettings {
    pub db: PathBuf,
    pub mode: CheckpointMode,
    pub busy_timeout: Duration,
}

pub fn run(settings: &CheckpointSettings) -> Status {
    // Everything beside a database lies beside the file itself, not beside a link to it.
    let db = follow_links(&settings.db);
    match store::checkpoint_file(&db, settings.mode, settings.busy_timeout) {
        Ok(done) => {
            let printed = print(format_args!(
                "busy={} log={} checkpointed={}",
                u8::from(done.busy),
                done.log,
                done.copied
            ));
            if done.is_complete() {
                printed
            } else {
                Status::FramesRemain
            }
        }
        Err(e) => complain(e),
    }
}

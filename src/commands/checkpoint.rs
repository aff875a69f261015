//! `checkpoint`: one checkpoint, and what it did.

use super::{complain, print};
use crate::db;
use crate::exit::Status;
use crate::options::Checkpoint;

pub fn checkpoint(settings: &Checkpoint) -> Status {
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

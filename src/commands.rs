//! The commands that look at a database, or work on it for a moment.

use std::fmt::Display;
use std::io::Write;

use crate::damage;
use crate::db;
use crate::exit::Status;
use crate::options::{Check, Checkpoint};

/// Prints to stdout. A reader that went away is no error; a report that is lost is.
pub fn print(text: impl Display) -> Status {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(format_args!("cannot write to stdout: {e}"))
        }
        _ => Status::Done,
    }
}

fn complain(error: impl Display) -> Status {
    let _ = writeln!(std::io::stderr(), "seawall: {error}");
    Status::Failed
}

pub fn check(settings: &Check) -> Status {
    let audit = db::audit(&settings.db, settings.full, settings.busy_timeout);
    let mut audit = match audit {
        Ok(audit) => audit,
        Err(e) => return complain(e),
    };
    for path in damage::still_aside(&settings.db) {
        let path = path.display();
        audit.damaged.push(format!(
            "{path} was found damaged and set aside; take it away when it has been looked at"
        ));
    }
    for finding in &audit.damaged {
        print(format_args!("damage: {finding}"));
    }
    for finding in &audit.missing {
        print(format_args!("gone: {finding}"));
    }
    if audit.more > 0 {
        print(format_args!("and {} findings more", audit.more));
    }
    let counted = format!(
        "readings={} runs={} unclean={}",
        audit.readings, audit.runs, audit.unclean
    );
    let wanted = settings.at_least.unwrap_or(0);
    if !audit.damaged.is_empty() {
        print(format_args!("damaged {counted}"));
    } else if !audit.missing.is_empty() {
        print(format_args!("missing {counted}"));
    } else if (audit.readings as u64) < wanted {
        print(format_args!("missing {counted} at_least={wanted}"));
    } else {
        return print(format_args!("sound {counted}"));
    }
    Status::Failed
}

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

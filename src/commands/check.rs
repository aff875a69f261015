//! `check`: audits a database and prints each finding on a line, then the verdict.

use std::path::PathBuf;
use std::time::Duration;

use super::answer::{complain, print};
use super::progress::ProgressLine;
use crate::exit::Status;
use crate::place::{follow_links, set_aside};
use crate::store;

#[derive(Clone, Debug, PartialEq)]
pub struct CheckSettings {
    pub db: PathBuf,
    pub full: bool,
    pub at_least: Option<u64>,
    pub busy_timeout: Duration,
}

pub fn run(settings: &CheckSettings) -> Status {
    let db = follow_links(&settings.db);
    let mut progress = ProgressLine::of_copy(0);
    let mut tell = |readings| progress.checked(readings);
    let audit = store::audit(&db, settings.full, settings.busy_timeout, &mut tell);
    drop(progress);
    let mut audit = match audit {
        Ok(audit) => audit,
        Err(e) => return complain(e),
    };
    let aside = set_aside::still_aside(&db);
    audit.more += aside.unnamed() as u64;
    for path in aside.newest {
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

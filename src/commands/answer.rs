//! Output of a command: a report on stdout or one line on stderr, and the exit status.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::path::Path;

use super::sink::{Sink, Written};
use crate::exit::Status;
use crate::sys::{STDERR, STDOUT};

/// Prints a line to stdout. A reader that went away is no error; a report that is lost is.
pub fn print(text: impl Display) -> Status {
    print_part(&format!("{text}\n"))
}

/// Prints a part of a report to stdout.
pub fn print_part(text: &str) -> Status {
    match put(STDOUT, text) {
        Ok(Written::Whole) => Status::Done,
        Ok(_) => Status::Failed,
        Err(e) => unwritten(&e),
    }
}

/// The exit status after a write to stdout that failed.
pub fn unwritten(error: &io::Error) -> Status {
    match error.kind() {
        ErrorKind::BrokenPipe => Status::Done,
        _ => complain(format_args!("cannot write to stdout: {error}")),
    }
}

/// Prints an error to stderr.
pub fn complain(error: impl Display) -> Status {
    // There is nowhere left to report that stderr takes nothing.
    let _ = put(STDERR, &format!("seawall: {error}\n"));
    Status::Failed
}

/// No sensor fits a pattern.
pub fn no_sensor(pattern: &str) -> String {
    format!(
        "no sensor matches --sensor {pattern:?}, which stands for a whole name with its tags: '{}*' matches all that begin so",
        pattern.trim_end_matches('*')
    )
}

/// Says on stderr what a file lacks of its last run.
pub fn warn_of_missing(db: &Path, missing: Option<String>) {
    if let Some(missing) = missing {
        complain(format_args!("{}: gone: {missing}", db.display()));
    }
}

fn put(fd: RawFd, text: &str) -> io::Result<Written> {
    Sink::new(fd).write(text.as_bytes(), &mut 0, None)
}

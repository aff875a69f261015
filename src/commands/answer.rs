//! What a command prints to stdout, its one line on stderr when it fails, and the exit status of both.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use crate::exit::Status;

/// Prints to stdout. A reader that went away is no error; a report that is lost is.
pub fn print(text: impl Display) -> Status {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) => unwritten(&e),
        Ok(()) => Status::Done,
    }
}

/// What a write to stdout that failed means.
pub fn unwritten(error: &std::io::Error) -> Status {
    match error.kind() {
        ErrorKind::BrokenPipe => Status::Done,
        _ => complain(format_args!("cannot write to stdout: {error}")),
    }
}

pub fn complain(error: impl Display) -> Status {
    let _ = writeln!(std::io::stderr(), "seawall: {error}");
    Status::Failed
}

//! The commands that look at a database, or work on it for a moment: one file each.

mod backup;
mod check;
mod checkpoint;
mod export;
mod show;

use std::fmt::Display;
use std::io::{ErrorKind, Write};

pub use backup::backup;
pub use check::check;
pub use checkpoint::checkpoint;
pub use export::export;
pub use show::show;

use crate::exit::Status;

/// Prints to stdout. A reader that went away is no error; a report that is lost is.
pub fn print(text: impl Display) -> Status {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) => unwritten(&e),
        Ok(()) => Status::Done,
    }
}

/// What a write to stdout that failed means.
fn unwritten(error: &std::io::Error) -> Status {
    match error.kind() {
        ErrorKind::BrokenPipe => Status::Done,
        _ => complain(format_args!("cannot write to stdout: {error}")),
    }
}

fn complain(error: impl Display) -> Status {
    let _ = writeln!(std::io::stderr(), "seawall: {error}");
    Status::Failed
}

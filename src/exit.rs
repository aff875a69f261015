//! How the program ends, as one table: scripts and supervisors rely on it.

use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    Done = 0,
    Failed = 1,
    Usage = 2,
    FramesRemain = 3,
    Uncommitted = 4,
    Rejected = 5,
}

/// Each status with its meaning, for `--help` and the README.
pub const STATUSES: &[(u8, &str)] = &[
    (
        0,
        "done; for record: all that was accepted is committed, and the .db file is complete by itself",
    ),
    (
        1,
        "could not do it: cannot open, not permitted, not a seawall database, damaged, in use by another recorder",
    ),
    (
        2,
        "usage: unknown option, or a value that does not parse (the message names the flag or the variable)",
    ),
    (
        3,
        "all that was accepted is committed, but frames remain in -wal: keep both files together; the next start or `seawall checkpoint` finishes the job",
    ),
    (
        4,
        "record stopped with accepted readings that it could not commit; the last line says how many",
    ),
    (
        5,
        "record came to the end of its input, and every line of it was rejected",
    ),
];

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        ExitCode::from(status as u8)
    }
}

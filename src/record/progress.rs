//! State and mail that the writer shares with the recorder's thread.
//!
//! `Progress` is state, read at any time. `Mail` is delivered once. The bell rings after each commit and
//! at each step, so the recorder waits for both in its one `ppoll`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::record::stop::Step;
use crate::store::Error;
use crate::store::ack::{Ack, Resume};
use crate::sys::{Bell, Clock};

/// Error that keeps the writer from committing, and since when.
pub struct Trouble {
    pub since: Instant,
    pub reason: String,
    /// The disk is full.
    pub is_full: bool,
}

/// State of the writer.
#[derive(Default)]
pub struct Progress {
    pub step: Step,
    pub device: String,
    pub run: i64,
    /// Readings committed by this run.
    pub committed: u64,
    /// Readings that were sent to this run again.
    pub repeated: u64,
    /// Frames in the WAL that are still needed there.
    pub wal_frames: u32,
    pub page_bytes: u64,
    pub last_checkpoint: Option<Instant>,
    pub last_commit: Option<Instant>,
    /// When the writer began the system call that it is in.
    pub busy_since: Option<Instant>,
    /// CPU time of the writer's thread: stands still in a system call that hangs.
    pub cpu: Option<Clock>,
    pub trouble: Option<Trouble>,
    /// Commits and checkpoints that failed.
    pub errors: u64,
    /// Device and inode of the database.
    pub file: Option<(u64, u64)>,
    /// Databases that were set aside and still exist.
    pub set_aside: usize,
    pub free_bytes: Option<u64>,
    /// Unix sockets whose file was taken away or replaced.
    pub lost_sockets: Vec<String>,
    /// Readings that retention has dropped since the start.
    pub expired: u64,
    /// The file is still in WAL mode for want of room or memory, though the WAL is empty.
    pub kept_wal: bool,
}

/// Messages to streams, and the error that ended the writer.
#[derive(Default)]
pub struct Mail {
    /// Newest ack of each stream, by stream.
    pub acks: Vec<Ack>,
    /// For streams that named their client.
    pub resumes: Vec<Resume>,
    /// Error that ended the writer.
    pub failure: Option<Error>,
}

impl Mail {
    /// Replaces an older ack of the same stream, since acks are cumulative.
    pub fn put_ack(&mut self, ack: Ack) {
        let stream = ack.stream();
        match self.acks.binary_search_by_key(&stream, Ack::stream) {
            Ok(at) => self.acks[at] = ack,
            Err(at) => self.acks.insert(at, ack),
        }
    }
}

/// Shared by both threads. Lock order: progress before mail.
pub struct Exchange {
    progress: Mutex<Progress>,
    mail: Mutex<Mail>,
    /// Wakes the recorder.
    pub bell: Bell,
}

impl Exchange {
    pub fn new() -> std::io::Result<Self> {
        Ok(Exchange {
            progress: Mutex::default(),
            mail: Mutex::default(),
            bell: Bell::new()?,
        })
    }

    pub fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer begins to use the disk.
    pub fn busy(&self) {
        self.progress().busy_since = Some(Instant::now());
    }

    /// The writer is done with the disk.
    pub fn idle(&self) {
        self.progress().busy_since = None;
    }

    /// A commit failed and will be retried.
    pub fn trouble(&self, error: &Error) {
        let mut progress = self.progress();
        progress.errors += 1;
        // The call that failed may have waited for its time limit.
        let busy_since = progress.busy_since.take();
        let before = progress.trouble.as_ref().map(|t| t.since);
        let since = before.or(busy_since).unwrap_or_else(Instant::now);
        progress.trouble = Some(Trouble {
            since,
            reason: error.to_string(),
            is_full: error.is_full(),
        });
    }
}

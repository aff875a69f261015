//! What the writer tells the input thread: how far it is, and what it sends on to the streams.
//!
//! `Progress` is looked at whenever somebody asks; `Mail` is emptied once. The bell rings after each commit and
//! at each step, so that the input thread waits in its one `ppoll` for this too.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::record::stop::Step;
use crate::store::Error;
use crate::store::ack::{Ack, Resume};
use crate::sys::Bell;

/// What keeps the writer from committing, and since when.
pub struct Trouble {
    pub since: Instant,
    pub reason: String,
    /// There is no room on the disk.
    pub is_full: bool,
}

/// How far the writer is, and how it fares.
#[derive(Default)]
pub struct Progress {
    pub step: Step,
    pub device: String,
    pub run: i64,
    /// Readings of this run in the file.
    pub committed: u64,
    /// Frames in the WAL that are still needed there.
    pub wal_frames: u32,
    pub page_bytes: u64,
    pub last_checkpoint: Option<Instant>,
    pub last_commit: Option<Instant>,
    /// Since when the writer has been at the disk without coming back.
    pub busy_since: Option<Instant>,
    pub trouble: Option<Trouble>,
    /// Commits and checkpoints that failed.
    pub errors: u64,
    /// Device and inode of the database.
    pub file: Option<(u64, u64)>,
    /// Databases that were set aside and are still there.
    pub set_aside: usize,
    pub free_bytes: Option<u64>,
    /// Readings that retention has dropped since the start.
    pub expired: u64,
    /// For want of room or memory the file is not one file yet, though nothing is left in the WAL.
    pub kept_wal: bool,
}

/// What is to be delivered, each once.
#[derive(Default)]
pub struct Mail {
    /// Newest ack of each stream, by stream.
    pub acks: Vec<Ack>,
    /// For the streams that said hello.
    pub resumes: Vec<Resume>,
    /// Why the writer gave up.
    pub failure: Option<Error>,
}

impl Mail {
    /// Acks are cumulative: a newer one of the same stream takes the place of the older.
    pub fn put_ack(&mut self, ack: Ack) {
        let stream = ack.stream();
        match self.acks.binary_search_by_key(&stream, Ack::stream) {
            Ok(at) => self.acks[at] = ack,
            Err(at) => self.acks.insert(at, ack),
        }
    }
}

/// What both threads have of it. Where both locks are taken, that of the progress is first.
pub struct Exchange {
    progress: Mutex<Progress>,
    mail: Mutex<Mail>,
    /// Rings when there is something that the input thread waits for.
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

    /// The writer turns to the disk.
    pub fn busy(&self) {
        self.progress().busy_since = Some(Instant::now());
    }

    /// It has come back.
    pub fn idle(&self) {
        self.progress().busy_since = None;
    }

    /// It has failed, and will try again.
    pub fn trouble(&self, error: &Error) {
        let mut progress = self.progress();
        progress.busy_since = None;
        progress.errors += 1;
        let since = progress
            .trouble
            .as_ref()
            .map_or_else(Instant::now, |t| t.since);
        progress.trouble = Some(Trouble {
            since,
            reason: error.to_string(),
            is_full: error.is_full(),
        });
    }
}

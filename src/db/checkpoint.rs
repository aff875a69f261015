//! Checkpoints: the modes that SQLite knows, what one did, and the sizes of a WAL.

use std::ffi::c_int;
use std::time::{Duration, Instant};

use libsqlite3_sys as ffi;

use super::error::Error;
use super::raw::Connection;
use crate::words::words;

words!(CheckpointMode: Passive = "passive", Full = "full", Restart = "restart", Truncate = "truncate");

/// Result of one checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint {
    pub mode: CheckpointMode,
    /// Frames in the WAL.
    pub log: u32,
    /// Frames of these that are in the database file.
    pub copied: u32,
    pub busy: bool,
    pub took: Duration,
}

impl Checkpoint {
    /// Nothing in the WAL is still needed.
    pub fn is_complete(&self) -> bool {
        !self.busy && self.log == self.copied
    }

    /// Result of one that failed.
    pub fn not_made(mode: CheckpointMode, log: u32) -> Self {
        Checkpoint {
            mode,
            log,
            copied: 0,
            busy: true,
            took: Duration::ZERO,
        }
    }

    /// There is nothing in the WAL.
    pub fn is_truncated(&self) -> bool {
        self.mode == CheckpointMode::Truncate && self.is_complete()
    }
}

/// One checkpoint. Frames that had to stay are an answer and no error.
pub fn checkpoint(raw: &mut Connection, mode: CheckpointMode) -> Result<Checkpoint, Error> {
    let number: c_int = match mode {
        CheckpointMode::Passive => ffi::SQLITE_CHECKPOINT_PASSIVE,
        CheckpointMode::Full => ffi::SQLITE_CHECKPOINT_FULL,
        CheckpointMode::Restart => ffi::SQLITE_CHECKPOINT_RESTART,
        CheckpointMode::Truncate => ffi::SQLITE_CHECKPOINT_TRUNCATE,
    };
    let start = Instant::now();
    let frames = raw.checkpoint(number)?;
    Ok(Checkpoint {
        mode,
        log: frames.log,
        copied: frames.copied,
        busy: frames.busy,
        took: start.elapsed(),
    })
}

const WAL_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;

/// Bytes of a WAL of so many frames.
pub fn wal_bytes(frames: u32, page_bytes: u64) -> u64 {
    WAL_HEADER_BYTES + u64::from(frames) * (FRAME_HEADER_BYTES + page_bytes)
}

/// Frames that fit into a WAL of so many bytes.
pub fn wal_frames_of(bytes: u64, page_bytes: u64) -> u32 {
    let frames = bytes.saturating_sub(WAL_HEADER_BYTES) / (FRAME_HEADER_BYTES + page_bytes);
    u32::try_from(frames).unwrap_or(u32::MAX)
}

//! The writer's end: the run is ended, the WAL copied, the file taken out of WAL mode and closed.
//!
//! Each step ends only when it is done. `Stop` bounds the wait for a reader.

use std::time::{Duration, Instant};

use crate::db::checkpoint::CheckpointMode;
use crate::log;
use crate::place::mark;
use crate::record::retry::Retry;
use crate::record::stop::{Step, StopReason};
use crate::record::writer::{Writer, tell};
use crate::store::{Checkpoint, Class, Db, Error};
use crate::sys::{self, Clock};

/// Interval between two tries of the stop's checkpoint.
const CHECKPOINT_AGAIN: Duration = Duration::from_millis(100);

impl Writer {
    /// Ends the run, once everything is committed, and copies the WAL. Returns the frames that had to
    /// stay in the WAL.
    pub(super) fn finish(&self, db: &mut Db) -> Result<u32, Error> {
        self.exchange.progress().step = Step::EndRun;
        let mut retry = Retry::begin();
        db.tick((self.clock)());
        let reason = self
            .queue
            .stopping()
            .map_or(StopReason::Error, |stop| stop.reason);
        while let Err(e) = db.end_run(sys::clock_ns(Clock::Real), reason.name()) {
            if e.class() != Class::Retry {
                return Err(e);
            }
            retry.wait(&self.queue, "commit-waiting", &e);
        }
        let (counts, checkpoints) = db.ledger();
        log::info(
            "run",
            &[
                ("run", &db.run()),
                ("committed", &db.committed()),
                ("dropped", &counts.dropped),
                ("rejected", &counts.rejected),
                ("repeated", &db.repeated()),
                ("errors", &counts.errors),
                ("checkpoints", &checkpoints),
            ],
        );
        let mut progress = self.exchange.progress();
        progress.step = Step::Checkpoint;
        progress.wal_frames = db.wal_frames();
        drop(progress);
        self.exchange.bell.ring();

        let began = Instant::now();
        let patience = self.queue.stopping().map(|stop| stop.patience(began));
        let until = began + patience.unwrap_or_default();
        // Without a wait first, so that all frames that no reader needs are copied.
        let mut whole = self.last_checkpoint(db, CheckpointMode::Passive, Duration::ZERO)?;
        loop {
            let patience = until.saturating_duration_since(Instant::now());
            let done = self.last_checkpoint(db, CheckpointMode::Truncate, patience)?;
            let log = whole.log.max(done.log);
            // SQLite counts no frames in a -wal that it has cut to nothing.
            let copied = match done.is_truncated() {
                true => log,
                false => whole.copied.max(done.copied),
            };
            whole = Checkpoint {
                log,
                copied,
                took: whole.took + done.took,
                ..done
            };
            let frames = if done.is_truncated() { 0 } else { whole.log };
            self.exchange.progress().wal_frames = frames;
            // SQLite waits for readers, but not for another process's checkpoint.
            if frames == 0 || Instant::now() >= until {
                tell(&whole, "stop");
                return Ok(frames);
            }
            std::thread::sleep(CHECKPOINT_AGAIN);
        }
    }

    /// One of the stop's checkpoints. For want of room it counts as one that copied nothing.
    fn last_checkpoint(
        &self,
        db: &mut Db,
        mode: CheckpointMode,
        patience: Duration,
    ) -> Result<Checkpoint, Error> {
        match db.checkpoint(mode, patience) {
            Err(e) if e.class() == Class::Retry => {
                log::warn("checkpoint-failed", &[("cause", &"stop"), ("error", &e)]);
                Ok(Checkpoint::not_made(mode, db.wal_frames()))
            }
            done => done,
        }
    }

    pub(super) fn close(&self, mut db: Db, wal_frames: u32) -> Result<(), Error> {
        self.exchange.progress().step = Step::Close;
        let mut is_complete = wal_frames == 0;
        if is_complete {
            match db.leave_wal() {
                Ok(true) => {}
                Ok(false) => {
                    let reason = "another process has the file open";
                    log::info("kept-in-wal-mode", &[("reason", &reason)]);
                }
                // No retry: SQLite would take the mode for changed, whatever the file says.
                Err(e) if e.class() == Class::Retry => {
                    log::warn("kept-in-wal-mode", &[("reason", &e)]);
                    self.exchange.progress().kept_wal = true;
                    is_complete = false;
                }
                Err(e) => return Err(e),
            }
        }
        db.close()?;
        // Nothing is in the -wal alone any more. A mark that stays does no harm.
        if is_complete && let Err(e) = mark::remove(&self.path) {
            log::warn("mark-not-removed", &[("error", &e)]);
        }
        self.exchange.progress().step = Step::Closed;
        Ok(())
    }
}

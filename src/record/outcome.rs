//! How a recording ended: its last log line and its exit status.

use std::time::{Duration, Instant};

use crate::exit::Status;
use crate::log::{self, Level};
use crate::reading::Counts;
use crate::record::stop::{Step, StopReason};

/// Facts known when the process leaves.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub reason: StopReason,
    /// When the stop began.
    pub began: Instant,
    /// How far the writer is.
    pub step: Step,
    pub committed: u64,
    pub counts: Counts,
    pub uncommitted: u64,
    pub wal_frames: u32,
    /// The file could not be taken out of WAL mode, though nobody else has it open.
    pub kept_wal: bool,
    /// The files are no longer where they were, so that what was committed last is nowhere.
    pub files_gone: bool,
}

impl Outcome {
    /// Nothing was recorded.
    pub fn not_begun(reason: StopReason, began: Instant) -> Self {
        Outcome {
            reason,
            began,
            step: Step::Open,
            committed: 0,
            counts: Counts::default(),
            uncommitted: 0,
            wal_frames: 0,
            kept_wal: false,
            files_gone: false,
        }
    }

    pub fn status(self) -> Status {
        if self.uncommitted > 0 || self.files_gone {
            Status::Uncommitted
        } else if self.reason == StopReason::Error || self.step == Step::Open {
            Status::Failed
        } else if self.step < Step::Closed || self.wal_frames > 0 || self.kept_wal {
            Status::FramesRemain
        } else if self.reason == StopReason::Eof && self.committed == 0 && self.counts.rejected > 0
        {
            Status::Rejected
        } else {
            Status::Done
        }
    }

    /// Writes the last line of the log. `wait` is how long a full stderr is waited for.
    pub fn log(self, wait: Duration) {
        let level = match self.status() {
            Status::Rejected => Level::Warn,
            _ => Level::Info,
        };
        log::last(
            "stopped",
            level,
            &[
                ("reason", &self.reason.name()),
                ("committed", &self.committed),
                ("dropped", &self.counts.dropped),
                ("rejected", &self.counts.rejected),
                ("uncommitted", &self.uncommitted),
                ("wal_frames", &self.wal_frames),
                ("stop_ms", &self.began.elapsed().as_millis()),
            ],
            wait,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::signals::Signal;

    #[test]
    fn the_status_says_what_a_supervisor_must_know() {
        let done = Outcome {
            step: Step::Closed,
            ..Outcome::not_begun(StopReason::Eof, Instant::now())
        };
        let cut = Outcome {
            step: Step::Checkpoint,
            ..done
        };
        let reason = StopReason::Error;
        let (uncommitted, wal_frames) = (1, 3);
        let counts = Counts {
            rejected: 2,
            ..done.counts
        };
        let rejected = Outcome { counts, ..done };
        let signal = StopReason::Signal(Signal::Term);
        #[rustfmt::skip]
        let cases = [
            (done, Status::Done),
            (rejected, Status::Rejected),
            (Outcome { committed: 1, ..rejected }, Status::Done),
            (Outcome { reason: signal, ..rejected }, Status::Done),
            (Outcome { wal_frames, ..rejected }, Status::FramesRemain),
            (Outcome { wal_frames, ..done }, Status::FramesRemain),
            (Outcome { kept_wal: true, ..done }, Status::FramesRemain),
            (cut, Status::FramesRemain),
            (Outcome { step: Step::Open, ..done }, Status::Failed),
            (Outcome { reason, ..cut }, Status::Failed),
            (Outcome { uncommitted, ..done }, Status::Uncommitted),
            (Outcome { uncommitted, reason, ..cut }, Status::Uncommitted),
            (Outcome { files_gone: true, ..done }, Status::Uncommitted),
        ];
        for (outcome, status) in cases {
            assert_eq!(outcome.status(), status, "{outcome:?}");
        }
    }
}

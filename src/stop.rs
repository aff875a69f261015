//! Stopping: its steps, its one deadline, its last word and its exit status.
//!
//! The steps are left only when done: the input thread drains what it has read, the writer commits, ends
//! the run, checkpoints, closes. Whatever hangs, the input thread leaves at the deadline and says how far
//! it came; being killed at any point loses nothing that was committed. Pure.

use std::time::{Duration, Instant};

use crate::exit::Status;
use crate::sys::Signal;

/// Kept back from `--stop-timeout` for the last line and the exit itself.
const RESERVE: Duration = Duration::from_millis(100);

/// timeout(1), and a terminal's Ctrl-C through some wrappers, deliver one signal twice within microseconds.
/// A stop that is done within this time is done either way.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Signal(Signal),
    /// Every source has ended.
    Eof,
    Error,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::Signal(signal) => signal.name(),
            Reason::Eof => "eof",
            Reason::Error => "error",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Stop {
    pub reason: Reason,
    pub began: Instant,
    /// The process has left by then.
    pub deadline: Instant,
    hurried_end: Option<Instant>,
}

impl Stop {
    pub fn new(reason: Reason, began: Instant, timeout: Duration) -> Self {
        let reserve = RESERVE.min(timeout / 5);
        Stop {
            reason,
            began,
            deadline: began + timeout.saturating_sub(reserve),
            hurried_end: None,
        }
    }

    /// After a second signal only the commit is waited for; this is when the process leaves if that is
    /// done.
    pub fn hurry(&mut self) {
        self.hurried_end = Some(self.began + SAME_SIGNAL);
    }

    /// Whether the process leaves now though the writer, which is at `step`, is not done.
    pub fn is_over(&self, step: Step, now: Instant) -> bool {
        let hurried = self.hurried_end.is_some_and(|end| now >= end);
        now >= self.deadline || (hurried && step >= Step::Checkpoint)
    }

    /// When to look at `is_over` again.
    pub fn next_look(&self, now: Instant) -> Instant {
        match self.hurried_end {
            Some(end) if end > now => end.min(self.deadline),
            _ => self.deadline,
        }
    }

    #[cfg(test)]
    pub fn now_for_tests() -> Self {
        Self::new(Reason::Eof, Instant::now(), Duration::from_secs(5))
    }

    /// How long the checkpoint may wait for a reader: half of what is left, so that there is time to copy
    /// and close whatever comes.
    pub fn patience(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now) / 2
    }
}

/// How far the writer is. In order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Opening and recovering the file.
    #[default]
    Open,
    Record,
    /// All that was accepted is committed, the run's row is being ended.
    EndRun,
    /// From here on a second signal ends the process at once.
    Checkpoint,
    Close,
    Closed,
}

/// What is known when the process leaves.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub step: Step,
    pub uncommitted: u64,
    pub wal_frames: u32,
    pub failed: bool,
    /// The files are no longer where they were, so that what was committed last is nowhere.
    pub files_gone: bool,
}

impl Outcome {
    pub fn status(self) -> Status {
        if self.uncommitted > 0 || self.files_gone {
            Status::Uncommitted
        } else if self.failed {
            Status::Failed
        } else if self.step < Step::Closed || self.wal_frames > 0 {
            Status::FramesRemain
        } else {
            Status::Done
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_what_a_supervisor_must_know() {
        let done = Outcome {
            step: Step::Closed,
            uncommitted: 0,
            wal_frames: 0,
            failed: false,
            files_gone: false,
        };
        let status = |outcome: Outcome| outcome.status();
        assert_eq!(status(done), Status::Done);
        assert_eq!(
            status(Outcome {
                wal_frames: 3,
                ..done
            }),
            Status::FramesRemain
        );
        let cut = Outcome {
            step: Step::Checkpoint,
            ..done
        };
        assert_eq!(status(cut), Status::FramesRemain);
        assert_eq!(
            status(Outcome {
                failed: true,
                ..cut
            }),
            Status::Failed
        );
        assert_eq!(
            status(Outcome {
                uncommitted: 1,
                ..done
            }),
            Status::Uncommitted
        );
        assert_eq!(
            status(Outcome {
                uncommitted: 1,
                failed: true,
                ..cut
            }),
            Status::Uncommitted
        );
    }

    #[test]
    fn the_deadline_leaves_time_to_say_so() {
        let start = Instant::now();
        let stop = Stop::new(Reason::Eof, start, Duration::from_secs(5));
        assert_eq!(stop.deadline, start + Duration::from_millis(4900));
        let hasty = Stop::new(Reason::Eof, start, Duration::from_millis(100));
        assert_eq!(hasty.deadline, start + Duration::from_millis(80));
        assert_eq!(stop.patience(stop.deadline), Duration::ZERO);
    }

    #[test]
    fn a_second_signal_drops_the_checkpoint_and_never_the_commit() {
        let start = Instant::now();
        let mut stop = Stop::new(Reason::Eof, start, Duration::from_secs(5));
        let soon = start + Duration::from_secs(1);
        assert!(!stop.is_over(Step::Checkpoint, soon));
        stop.hurry();
        assert!(stop.is_over(Step::Checkpoint, soon));
        assert!(!stop.is_over(Step::EndRun, soon));
        assert!(stop.is_over(Step::EndRun, stop.deadline));
        // One signal that came twice.
        assert!(!stop.is_over(Step::Checkpoint, start));
        assert_eq!(stop.next_look(start), start + SAME_SIGNAL);
        assert_eq!(stop.next_look(soon), stop.deadline);
    }
}

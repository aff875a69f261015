//! Stopping: its steps and its one deadline.
//!
//! Each step ends only when it is done: the recorder drains what it has read, the writer commits, ends
//! the run, checkpoints, closes. Whatever hangs, the recorder exits at the deadline and reports how far
//! the writer came. A kill at any point loses nothing that was committed. Pure.

use std::time::{Duration, Instant};

use crate::sys::signals::Signal;

/// Part of `--stop-timeout` kept for the last acks, the last line and the exit: a third for each.
const RESERVE: Duration = Duration::from_millis(100);

/// timeout(1), and a terminal's Ctrl-C through some wrappers, deliver one signal twice within microseconds.
/// Within this time a second signal counts as the first.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    Signal(Signal),
    /// Every source has ended.
    Eof,
    Error,
}

impl StopReason {
    pub fn name(self) -> &'static str {
        match self {
            StopReason::Signal(signal) => signal.name(),
            StopReason::Eof => "eof",
            StopReason::Error => "error",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Stop {
    pub reason: StopReason,
    pub began: Instant,
    timeout: Duration,
    /// When the process exits at the latest. `None` at the end of input: no supervisor is about to kill it, so
    /// a lock or a full disk is waited out as at any other time.
    deadline: Option<Instant>,
    first_signal: Option<Instant>,
    hurried_end: Option<Instant>,
}

impl Stop {
    pub fn new(reason: StopReason, began: Instant, timeout: Duration) -> Self {
        let mut stop = Stop {
            reason,
            began,
            timeout,
            deadline: None,
            first_signal: None,
            hurried_end: None,
        };
        if let StopReason::Signal(_) = reason {
            stop.signal(began);
        }
        stop
    }

    /// The first signal sets the deadline. After a second one only the commit is waited for.
    pub fn signal(&mut self, now: Instant) {
        if let Some(first) = self.first_signal {
            self.hurried_end.get_or_insert(now.max(first + SAME_SIGNAL));
            return;
        }
        self.first_signal = Some(now);
        self.deadline = Some(now + self.timeout.saturating_sub(self.reserve()));
    }

    fn reserve(&self) -> Duration {
        RESERVE.min(self.timeout / 5)
    }

    /// Upper bound on the wait for a full output at the end.
    pub fn last_wait(&self) -> Duration {
        self.reserve() / 3
    }

    /// Upper bound on the checkpoint's wait for a reader: half of the time left, so that there is time to copy
    /// and close whatever comes.
    pub fn patience(&self, now: Instant) -> Duration {
        match self.deadline {
            Some(deadline) => deadline.saturating_duration_since(now) / 2,
            None => self.timeout / 2,
        }
    }

    /// Whether the process exits now although the writer, which is at `step`, is not done.
    pub fn is_over(&self, step: Step, now: Instant) -> bool {
        let passed = |end: Option<Instant>| end.is_some_and(|end| now >= end);
        // Before the file is open no reading was accepted. Closing is too short to be cut off, and what may be
        // left after it is not in the file.
        let may_be_dropped = matches!(step, Step::Open | Step::Checkpoint | Step::Closed);
        passed(self.deadline) || (passed(self.hurried_end) && may_be_dropped)
    }

    /// When to look at `is_over` again.
    pub fn next_look(&self, now: Instant) -> Option<Instant> {
        let hurried_end = self.hurried_end.filter(|&end| end > now);
        match (hurried_end, self.deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// Progress of the writer, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Opening and recovering the file.
    #[default]
    Open,
    Record,
    /// All that was accepted is committed, the run's row is being ended.
    EndRun,
    /// A second signal ends the process at once.
    Checkpoint,
    Close,
    Closed,
}

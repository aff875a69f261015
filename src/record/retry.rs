//! Waiting of the writer: for a reader that pins the WAL, for the WAL to grow, for a disk that fails.
//!
//! Each decides when to act or retry, and logs that now and then.

use std::time::{Duration, Instant};

use crate::log;
use crate::record::queue::Queue;
use crate::store::{self, Checkpoint, Error};

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_millis(500);
/// Interval between log lines about a pinned WAL.
const PINNED_TOLD: Duration = Duration::from_secs(60);
/// Interval between log lines about a failing commit.
const RETRY_TOLD: Duration = Duration::from_secs(10);

/// A reader that keeps the WAL from being reset. Recording goes on and the WAL grows.
#[derive(Default)]
pub struct Pin {
    since: Option<Instant>,
    told: Option<Instant>,
}

impl Pin {
    pub fn look(&mut self, done: &Checkpoint, page_bytes: u64, now: Instant) {
        if done.is_complete() {
            if let Some(since) = self.since.take() {
                let seconds = now.duration_since(since).as_secs();
                log::info("wal-released", &[("seconds", &seconds)]);
            }
            self.told = None;
            return;
        }
        let since = *self.since.get_or_insert(now);
        if self.told.is_none_or(|told| now - told >= PINNED_TOLD) {
            self.told = Some(now);
            log::warn(
                "wal-pinned",
                &[
                    ("frames", &done.log),
                    ("bytes", &store::wal_bytes(done.log, page_bytes)),
                    ("seconds", &now.duration_since(since).as_secs()),
                    (
                        "reason",
                        &"a reader has not ended its transaction, the WAL grows",
                    ),
                ],
            );
        }
    }
}

/// Growth of the WAL after which it is copied. Counted from the last attempt,
/// so that a reader which pins the WAL does not make every commit try again.
pub struct Threshold {
    frames: u32,
    last: u32,
}

impl Threshold {
    pub fn new(frames: u32) -> Self {
        Threshold { frames, last: 0 }
    }

    /// Whether a WAL of `frames` frames is due for a checkpoint. Counts from there if so.
    pub fn reached(&mut self, frames: u32) -> bool {
        if frames < self.last {
            // The WAL has started again from its beginning.
            self.last = 0;
        }
        if self.frames == 0 || frames - self.last < self.frames {
            return false;
        }
        self.last = frames;
        true
    }
}

/// Waits between retries, longer each time, and logs that now and then.
pub struct Retry {
    wait: Duration,
    began: Instant,
    told: Option<Instant>,
    tries: u64,
}

impl Retry {
    pub fn begin() -> Self {
        Retry {
            wait: RETRY_FIRST,
            began: Instant::now(),
            told: None,
            tries: 0,
        }
    }

    pub fn wait(&mut self, queue: &Queue, event: &str, error: &Error) {
        let now = Instant::now();
        self.tries += 1;
        if self.told.is_none_or(|told| now - told >= RETRY_TOLD) {
            self.told = Some(now);
            log::warn(
                event,
                &[
                    ("held", &queue.held()),
                    ("seconds", &(now - self.began).as_secs()),
                    ("tries", &self.tries),
                    ("error", error),
                ],
            );
        }
        queue.pause(self.wait);
        self.wait = (self.wait * 2).min(RETRY_MAX);
    }

    pub fn over(&self, event: &str) {
        if self.tries > 0 {
            let seconds = self.began.elapsed().as_secs_f64();
            log::info(
                event,
                &[
                    ("tries", &self.tries),
                    ("seconds", &format_args!("{seconds:.1}")),
                ],
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wal_is_copied_each_time_it_has_grown_by_the_threshold() {
        let mut threshold = Threshold::new(1000);
        assert!(!threshold.reached(999));
        assert!(threshold.reached(1001));
        // A reader pins the WAL: it grows on.
        assert!(!threshold.reached(1500));
        assert!(threshold.reached(2001));
        // It started again.
        assert!(!threshold.reached(7));
        assert!(threshold.reached(1007));
        assert!(!Threshold::new(0).reached(u32::MAX));
    }
}

//! Readings and counts between a source and the queue.
//!
//! Sources put into the staged batch without a lock; one push a turn hands it to the queue, and adds its
//! counts to those that the log and `status` report.

use std::time::{Duration, Instant};

use crate::log::{self, Limit};
use crate::reading::line::ParsedLine;
use crate::reading::series::Interner;
use crate::reading::stream::{AFTER_1970_NS, Full, Intake, Room};
use crate::reading::{Batch, Counts};
use crate::record::queue::Queue;
use crate::sys::{self, Clock};

#[derive(Default)]
pub struct Staging {
    retain: Option<Duration>,
    batch: Batch,
    interner: Interner,
    /// Parts of the line that is being parsed; kept, so that a line allocates nothing.
    line: ParsedLine,
    /// Counts of the run up to the last push.
    pushed: Counts,
    drops: Limit,
}

/// The time before which a reading's time is hardly meant. Nothing, where the clock here was never set.
fn old_before_ns(now_ns: i64, retain: Option<Duration>) -> i64 {
    if now_ns < AFTER_1970_NS {
        return i64::MIN;
    }
    let retain_ns = retain.and_then(|retain| i64::try_from(retain.as_nanos()).ok());
    let cutoff_ns = retain_ns.map_or(i64::MIN, |retain| now_ns.saturating_sub(retain));
    cutoff_ns.max(AFTER_1970_NS)
}

impl Staging {
    pub fn new(retain: Option<Duration>) -> Self {
        Staging {
            retain,
            ..Staging::default()
        }
    }

    /// The way in for a source that can wait for room.
    pub fn waiting(&mut self, queue: &Queue) -> Intake<'_> {
        self.intake(queue.stream_room(), queue.rows_max(), Full::Waits)
    }

    /// The way in for a source that cannot: what finds no room is dropped and counted.
    pub fn dropping(&mut self, queue: &Queue) -> Intake<'_> {
        self.intake(queue.room(), queue.rows_max(), Full::IsDropped)
    }

    /// The way in for lines that were read and found no room before the process ends.
    pub fn last(&mut self, queue: &Queue) -> Intake<'_> {
        self.intake(Room::UNBOUNDED, queue.rows_max(), Full::Waits)
    }

    fn intake(&mut self, room: Room, rows_max: usize, full: Full) -> Intake<'_> {
        let old_before_ns = old_before_ns(sys::clock_ns(Clock::Real), self.retain);
        Intake {
            batch: &mut self.batch,
            interner: &mut self.interner,
            line: &mut self.line,
            room,
            rows_max,
            full,
            may_repeat: false,
            old_before_ns,
            old: None,
        }
    }

    pub fn rows(&self) -> usize {
        self.batch.rows().len()
    }

    pub fn clock_step(&mut self, step_ns: i64) {
        self.batch.clock_step(step_ns);
    }

    pub fn count_errors(&mut self, errors: u64) {
        self.batch.counts.errors += errors;
    }

    /// Counts and logs datagrams that the kernel dropped, however many readings were in each.
    pub fn count_dropped_by_kernel(&mut self, dropped: u64) {
        self.batch.counts.dropped += dropped;
        self.log_dropped(dropped, true);
    }

    /// Counts of the run, as the log and `status` report them.
    pub fn counts(&self) -> Counts {
        let mut counts = self.pushed;
        counts.add(self.batch.counts);
        counts
    }

    /// Logs readings that found no room since `before`.
    pub fn log_dropped_since(&mut self, before: Counts) {
        let dropped = self.counts().dropped - before.dropped;
        self.log_dropped(dropped, false);
    }

    fn log_dropped(&mut self, dropped: u64, are_datagrams: bool) {
        let (what, reason) = match are_datagrams {
            true => ("datagrams", "the system's buffer for datagrams is full"),
            false => ("readings", "the queue is full"),
        };
        if dropped > 0 {
            let in_all = self.counts().dropped;
            let fields: [log::Field; 3] =
                [(what, &dropped), ("in_all", &in_all), ("reason", &reason)];
            self.drops.warn("dropped", &fields);
        }
    }

    pub fn push(&mut self, queue: &Queue, now: Instant) {
        self.pushed.add(self.batch.counts);
        queue.push(&mut self.batch, now);
    }
}

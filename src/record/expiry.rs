//! When readings go: by their age (`--retain`), and by the size of the file (`--max-size`).
//!
//! SQLite holds the file under `PRAGMA max_page_count`. A commit that meets it drops the oldest spans and is
//! tried again; where that does not help, the cap is lifted for this commit, because what was accepted is
//! never lost for the size. Between commits each step drops one span while there is a surplus, so that most commits
//! find their room. What the steps free is used again. The steps themselves are in `store/expiry.rs`.

use std::time::{Duration, Instant};

use crate::log;
use crate::reading::Batch;
use crate::record::queue::TEXT_BYTES_MAX;
use crate::record::settings::RecordSettings;
use crate::store::{Class, DAY, Db, Error, Expired, PAGE_BYTES, Surplus, WAL_BYTES_KEPT};

/// Lower bound on `--max-size`. Below it, a full queue of the default length would leave little
/// else in the file.
pub const MAX_SIZE_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Part of `--max-size` for the -wal before it is copied; the largest commit comes on top.
const CHECKPOINT_BYTES: u64 = 4 * 1024 * 1024;
/// Upper bound on the bytes of one number in the file.
const READING_BYTES_MAX: u64 = 40;
/// Upper bound on pages of other tables that a commit may begin.
const OTHER_PAGES: u64 = 16;
/// Kept free after a commit, so that most commits find room.
const AHEAD_BYTES: u64 = 256 * 1024;
/// Approximate size of a full span in the file.
const SPAN_BYTES: u64 = 128 * 1024;
/// The readings after the last span become a span after this part of `--retain`, so that a slow recording too
/// has spans that age as a whole.
const SPAN_PART: u32 = 100;
const SPAN_TIME_MAX: Duration = Duration::from_secs(3600);
/// How often the age of the oldest span is looked at.
const AGE_PERIOD: Duration = Duration::from_secs(1);
const TOLD_EACH: Duration = Duration::from_secs(60);
/// Pause after a step that failed with a temporary error.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How `--max-size` is divided between the file and its -wal.
#[derive(Clone, Copy, Debug)]
pub struct SizeLimit {
    pub pages_max: u64,
    pub wal_bytes_max: u64,
    page_bytes: u64,
}

impl SizeLimit {
    /// `None` without `--max-size`. The settings were validated.
    pub fn of(settings: &RecordSettings, page_bytes: u64) -> Option<Self> {
        let max_bytes = settings.max_size_bytes?;
        Some(Self::share(max_bytes, settings.queue_rows, page_bytes))
    }

    fn share(max_bytes: u64, queue_rows: usize, page_bytes: u64) -> Self {
        let largest_commit = full_queue(queue_rows, page_bytes) * page_bytes;
        let wal_bytes_max = CHECKPOINT_BYTES + largest_commit.max(WAL_BYTES_KEPT);
        SizeLimit {
            pages_max: max_bytes.saturating_sub(wal_bytes_max) / page_bytes,
            wal_bytes_max,
            page_bytes,
        }
    }

    /// Lower bound on `--max-size` for a queue of so many rows: the file has room for a full queue
    /// of numbers, and the -wal for one of anything.
    pub fn least_bytes(queue_rows: usize) -> u64 {
        let limit = Self::share(0, queue_rows, PAGE_BYTES);
        let numbers = pages_of(queue_rows, 0, PAGE_BYTES) * PAGE_BYTES;
        (limit.wal_bytes_max + numbers).max(MAX_SIZE_BYTES_MIN)
    }

    /// Growth of the -wal after which it is copied, if no setting makes it earlier.
    pub fn checkpoint_bytes(self) -> u64 {
        CHECKPOINT_BYTES
    }

    /// Spans that are never dropped for the size: a quarter of the limit, less the next commit. Names
    /// of series and of clients stay when readings go; a file full of names grows past the limit.
    fn spans_kept(self, growth: u64) -> u64 {
        let pages = (self.pages_max / 4).saturating_sub(growth);
        pages * self.page_bytes / SPAN_BYTES
    }

    fn ahead_pages(self) -> u64 {
        AHEAD_BYTES / self.page_bytes
    }
}

/// Upper bound on the pages that these fill. A page may hold one long text and be half empty.
fn pages_of(rows: usize, text_bytes: usize, page_bytes: u64) -> u64 {
    let (rows, text) = (rows as u64, text_bytes as u64);
    let waste = if text > 0 { 2 } else { 1 };
    (rows * READING_BYTES_MAX * waste + 3 * text) / page_bytes + OTHER_PAGES
}

fn growth(batch: &Batch, page_bytes: u64) -> u64 {
    let names = batch.definitions().iter().map(|definition| {
        let series = &definition.series;
        series.sensor.len() + series.field.len()
    });
    let text_bytes = batch.text_bytes() + names.sum::<usize>();
    pages_of(batch.rows().len(), text_bytes, page_bytes)
}

/// Upper bound on the pages of a full queue.
fn full_queue(rows: usize, page_bytes: u64) -> u64 {
    pages_of(rows, TEXT_BYTES_MAX, page_bytes)
}

/// Treatment of the cap, so that the commit in hand gets past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cap {
    /// It did not meet the cap.
    Unmet,
    /// The oldest spans were dropped.
    Dropped,
    /// The cap was lifted: if the commit fails again, the disk is full.
    Lifted,
}

pub struct Retention {
    limit: Option<SizeLimit>,
    /// For the commit in hand.
    cap: Cap,
    retain: Option<Duration>,
    span_time: Duration,
    /// When to look again for readings that are too old.
    next_age: Option<Instant>,
    /// It was logged that a step of the clock holds readings that are too old.
    is_held_told: bool,
    not_before: Option<Instant>,
    error_told: Option<Instant>,
    over_told: Option<Instant>,
    told: Option<Instant>,
    untold: i64,
    /// Readings dropped since it was last read.
    pub expired: i64,
}

fn is_due(told: &mut Option<Instant>, now: Instant) -> bool {
    let due = told.is_none_or(|at| now - at >= TOLD_EACH);
    if due {
        *told = Some(now);
    }
    due
}

impl Retention {
    pub fn new(retain: Option<Duration>, limit: Option<SizeLimit>) -> Self {
        let part = retain.map(|retain| (retain.max(DAY) / SPAN_PART).min(SPAN_TIME_MAX));
        Retention {
            limit,
            cap: Cap::Unmet,
            retain,
            span_time: part.unwrap_or(SPAN_TIME_MAX),
            next_age: None,
            is_held_told: false,
            not_before: None,
            error_told: None,
            over_told: None,
            told: None,
            untold: 0,
            expired: 0,
        }
    }

    /// Before the first commit. The readings of earlier runs get a span: starts may come faster than one has its time.
    pub fn begin(&self, db: &mut Db) -> Result<(), Error> {
        self.set_cap(db)?;
        match self.retain.map_or(Ok(()), |_| db.end_tail()) {
            // They go with the next span.
            Err(e) if e.class() == Class::Retry => Ok(()),
            ended => ended,
        }
    }

    fn set_cap(&self, db: &mut Db) -> Result<(), Error> {
        match self.limit {
            Some(limit) => db.set_pages_max(limit.pages_max),
            None => Ok(()),
        }
    }

    /// After a commit that found the file or the disk full. Returns whether to retry at once: first
    /// with the oldest spans dropped, then with the cap lifted. After that the disk is full.
    pub fn make_room(&mut self, db: &mut Db, batch: &Batch) -> Result<bool, Error> {
        let Some(limit) = self.limit else {
            return Ok(false);
        };
        if self.cap == Cap::Unmet {
            self.cap = Cap::Dropped;
            if self.drop_for(db, limit, growth(batch, limit.page_bytes))? {
                return Ok(true);
            }
        }
        if self.cap == Cap::Lifted {
            return Ok(false);
        }
        db.set_pages_max(u64::MAX)?;
        self.cap = Cap::Lifted;
        Ok(true)
    }

    /// Drops the oldest spans until so many pages fit under the cap. Returns whether any went.
    fn drop_for(&mut self, db: &mut Db, limit: SizeLimit, growth: u64) -> Result<bool, Error> {
        let mut has_dropped = false;
        // A file over the limit may use its free pages.
        while {
            let pages = db.pages()?;
            pages.used() + growth > limit.pages_max.max(pages.all)
        } && db.has_spans(limit.spans_kept(growth) + 1)?
        {
            let gone = db.expire(Surplus::Oldest)?.readings();
            self.count(gone);
            has_dropped |= gone > 0;
        }
        Ok(has_dropped)
    }

    /// After a commit: restores the cap, or the length of the file if that is more.
    pub fn committed(&mut self, db: &mut Db) -> Result<(), Error> {
        if self.cap == Cap::Lifted {
            self.set_cap(db)?;
        }
        self.cap = Cap::Unmet;
        Ok(())
    }

    /// Takes one step between commits, if there is a surplus. Returns whether there may be more.
    pub fn step(&mut self, db: &mut Db, now: Instant) -> Result<bool, Error> {
        if self.not_before.is_some_and(|at| now < at) {
            return Ok(false);
        }
        self.not_before = None;
        let stepped = self
            .step_by_size(db)
            .and_then(|more| Ok(self.step_by_age(db, now)? || more));
        self.tell(now);
        match stepped {
            // Commits fail in the same way and log it; this is retried.
            Err(e) if e.class() == Class::Retry => {
                self.not_before = Some(now + AGAIN_AFTER);
                if is_due(&mut self.error_told, now) {
                    log::warn("expiry-waiting", &[("error", &e)]);
                }
                Ok(false)
            }
            other => other,
        }
    }

    fn step_by_size(&mut self, db: &mut Db) -> Result<bool, Error> {
        let Some(limit) = self.limit else {
            return Ok(false);
        };
        let used = db.pages()?.used();
        let ahead = limit.ahead_pages();
        if used + ahead <= limit.pages_max {
            return Ok(false);
        }
        if db.has_spans(limit.spans_kept(ahead) + 1)? {
            let gone = db.expire(Surplus::Oldest)?.readings();
            self.count(gone);
            return Ok(gone > 0);
        }
        if used > limit.pages_max && is_due(&mut self.over_told, Instant::now()) {
            let reason = "names of series or of clients, which stay when readings go, take more than three quarters of it: the file grows past it";
            log::warn(
                "over-max-size",
                &[("bytes", &(used * limit.page_bytes)), ("reason", &reason)],
            );
        }
        Ok(false)
    }

    fn step_by_age(&mut self, db: &mut Db, now: Instant) -> Result<bool, Error> {
        let Some(retain) = self.retain else {
            return Ok(false);
        };
        if db.tail_age().is_some_and(|age| age >= self.span_time) {
            db.end_tail()?;
        }
        if self.next_age.is_some_and(|at| now < at) {
            return Ok(false);
        }
        let expired = db.expire(Surplus::OlderThan(retain))?;
        let gone = expired.readings();
        self.count(gone);
        if gone == 0 {
            self.next_age = Some(now + AGE_PERIOD);
            self.tell_held(expired == Expired::Held);
        }
        Ok(gone > 0)
    }

    /// Logs that ages do not count for a while, once until they do again.
    fn tell_held(&mut self, is_held: bool) {
        if is_held && !self.is_held_told {
            let reason = "readings older than --retain stay until a recorder has run for a day with a clock that is not set: it was set, or is more than a day ahead of the last commit";
            log::warn("expiry-waiting", &[("reason", &reason)]);
        }
        self.is_held_told = is_held;
    }

    fn count(&mut self, readings: i64) {
        self.expired += readings;
        self.untold += readings;
    }

    fn tell(&mut self, now: Instant) {
        if self.untold > 0 && is_due(&mut self.told, now) {
            self.tell_rest();
        }
    }

    /// Logs readings that were dropped and not logged yet.
    pub fn tell_rest(&mut self) {
        if self.untold > 0 {
            log::info("expired", &[("readings", &self.untold)]);
            self.untold = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_size_has_room_for_a_full_queue() {
        // As `--help` says of the default queue.
        let limit = SizeLimit::share(0, 65_536, PAGE_BYTES);
        assert_eq!(limit.wal_bytes_max / (1024 * 1024), 12);
        assert_eq!(SizeLimit::least_bytes(65_536), MAX_SIZE_BYTES_MIN);
        for rows in [1, 65_536, 1_000_000, 16_777_216] {
            let least = SizeLimit::least_bytes(rows);
            let limit = SizeLimit::share(least, rows, PAGE_BYTES);
            let full = full_queue(rows, PAGE_BYTES) * PAGE_BYTES;
            assert!(pages_of(rows, 0, PAGE_BYTES) <= limit.pages_max, "{rows}");
            assert!(full + CHECKPOINT_BYTES <= limit.wal_bytes_max);
            assert!(limit.pages_max * PAGE_BYTES + limit.wal_bytes_max <= least);
        }
    }
}

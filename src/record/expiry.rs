//! When readings go, and how many: by their age (`--retain`), and by the size of the file (`--max-size`).
//!
//! Steps are taken between commits, one at a time, for as long as there is a surplus. For the size, room for
//! a commit is made before it, so that the file never grows past its limit; what the steps free is used
//! again. The writer asks; the steps are the database's (`db/retention.rs`).

use std::time::{Duration, Instant};

use crate::log;
use crate::reading::Batch;
use crate::record::queue::TEXT_BYTES_MAX;
use crate::record::settings::Settings;
use crate::store::{Class, Db, Error, PAGE_BYTES, Pages, Surplus, WAL_BYTES_KEPT};

/// The least `--max-size`. Below it, what a full queue of the default length brings at once would leave little
/// else in the file.
pub const MAX_SIZE_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Of `--max-size`, what the -wal may take before it is copied; the largest commit may come to it.
const CHECKPOINT_BYTES: u64 = 4 * 1024 * 1024;
/// What one reading of a number takes in the file at most.
const READING_BYTES_MAX: u64 = 40;
/// Pages of other tables that a commit may begin.
const OTHER_PAGES: u64 = 16;
/// Kept free after a commit, so that most commits find their room and need not make it.
const AHEAD_BYTES: u64 = 256 * 1024;
/// A clock is behind the newest reading when it is so by more than this: a sender's clock is never quite
/// that of the recorder.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);
/// Readings go when they are older than they should be by this part of `--retain`, then all at once, so that
/// a slow recording is not written to for each of them.
const SLACK_PART: u32 = 100;
const SLACK_MAX: Duration = Duration::from_secs(3600);
const TOLD_EACH: Duration = Duration::from_secs(60);
/// After a step that failed for what may pass.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How `--max-size` is shared out.
#[derive(Clone, Copy, Debug)]
pub struct SizeLimit {
    pub pages_max: u64,
    pub wal_bytes_max: u64,
    page_bytes: u64,
}

impl SizeLimit {
    /// Of the settings, which have been found to fit.
    pub fn of(settings: &Settings, page_bytes: u64) -> Option<Self> {
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

    /// The least `--max-size` for a queue of so many rows: the file holds what it brings at once, if that is
    /// numbers, and the -wal has room for it, whatever it is.
    pub fn least_bytes(queue_rows: usize) -> u64 {
        let limit = Self::share(0, queue_rows, PAGE_BYTES);
        let numbers = pages_of(queue_rows, 0, PAGE_BYTES) * PAGE_BYTES;
        (limit.wal_bytes_max + numbers).max(MAX_SIZE_BYTES_MIN)
    }

    /// Names of series stay when their readings go. Where they leave less than a quarter to the readings, no
    /// going of readings would bring the file under its limit, so that these keep the quarter and the file
    /// comes over.
    pub fn beside_names(self, names_bytes: u64) -> Self {
        let least = names_bytes / self.page_bytes + self.pages_max / 4;
        Self {
            pages_max: self.pages_max.max(least),
            ..self
        }
    }

    /// The -wal is copied when it has grown by this, or earlier if the settings say so.
    pub fn checkpoint_bytes(self) -> u64 {
        CHECKPOINT_BYTES
    }

    /// Whether so many pages more can be written. A file that is over its limit already may use what is
    /// free in it.
    fn fits(self, pages: Pages, growth: u64) -> bool {
        pages.used() + growth <= self.pages_max.max(pages.all)
    }

    fn ahead_pages(self) -> u64 {
        AHEAD_BYTES / self.page_bytes
    }
}

/// Pages that so much fills at most. Of long texts a page may hold one, and be half empty.
fn pages_of(rows: usize, text_bytes: usize, page_bytes: u64) -> u64 {
    let (rows, text) = (rows as u64, text_bytes as u64);
    let waste = if text > 0 { 2 } else { 1 };
    (rows * READING_BYTES_MAX * waste + 3 * text) / page_bytes + OTHER_PAGES
}

fn growth(batch: &Batch, page_bytes: u64) -> u64 {
    pages_of(batch.rows().len(), batch.text_bytes(), page_bytes)
}

/// Of all that a queue may hold.
fn full_queue(rows: usize, page_bytes: u64) -> u64 {
    pages_of(rows, TEXT_BYTES_MAX, page_bytes)
}

pub struct Retention {
    limit: Option<SizeLimit>,
    retain_ns: Option<i64>,
    slack_ns: i64,
    /// By the clock of the readings: no reading is too old before this.
    none_before_ns: i64,
    /// Readings are too old, and a step has not come to their end.
    is_aging: bool,
    not_before: Option<Instant>,
    clock_told: Option<Instant>,
    error_told: Option<Instant>,
    names_told: Option<Instant>,
    told: Option<Instant>,
    untold: i64,
    /// In all.
    pub expired: i64,
}

fn ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn is_due(told: &mut Option<Instant>, now: Instant) -> bool {
    let due = told.is_none_or(|at| now - at >= TOLD_EACH);
    if due {
        *told = Some(now);
    }
    due
}

impl Retention {
    pub fn new(settings: &Settings, page_bytes: u64) -> Self {
        let slack = settings
            .retain
            .map(|retain| (retain / SLACK_PART).min(SLACK_MAX));
        Retention {
            limit: SizeLimit::of(settings, page_bytes),
            retain_ns: settings.retain.map(ns),
            slack_ns: slack.map_or(0, ns),
            none_before_ns: i64::MIN,
            is_aging: false,
            not_before: None,
            clock_told: None,
            error_told: None,
            names_told: None,
            told: None,
            untold: 0,
            expired: 0,
        }
    }

    fn limit_of(&mut self, db: &Db) -> Option<SizeLimit> {
        let given = self.limit?;
        let names_bytes = db.names_bytes();
        let limit = given.beside_names(names_bytes);
        if limit.pages_max > given.pages_max && is_due(&mut self.names_told, Instant::now()) {
            let reason =
                "names of series, which stay when readings go, take more than three quarters of it";
            log::warn(
                "over-max-size",
                &[("names_bytes", &names_bytes), ("reason", &reason)],
            );
        }
        Some(limit)
    }

    /// Before a commit. Gives whether the -wal should be copied first.
    pub fn make_room(&mut self, db: &mut Db, batch: &Batch) -> Result<bool, Error> {
        let Some(limit) = self.limit_of(db) else {
            return Ok(false);
        };
        let growth = growth(batch, limit.page_bytes);
        // What may not fit into an empty file gets one: nearly always it does fit.
        let room = growth.min(limit.pages_max);
        while !limit.fits(db.pages()?, room) {
            let step = db.expire(Surplus::Oldest)?;
            self.count(step.readings);
            if step.readings == 0 {
                break;
            }
        }
        let frames = u64::from(db.wal_frames()) + growth;
        Ok(growth > limit.ahead_pages() && frames * limit.page_bytes > limit.wal_bytes_max)
    }

    /// Between commits: one step, if there is a surplus. Gives whether there may be more of it.
    pub fn step(&mut self, db: &mut Db, clock_ns: i64) -> Result<bool, Error> {
        let now = Instant::now();
        if self.not_before.is_some_and(|at| now < at) {
            return Ok(false);
        }
        self.not_before = None;
        let stepped = self
            .step_by_size(db)
            .and_then(|more| Ok(self.step_by_age(db, clock_ns, now)? || more));
        self.tell(now);
        match stepped {
            // The commits have to do with it too, and say so; this is tried again.
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
        let Some(limit) = self.limit_of(db) else {
            return Ok(false);
        };
        if db.pages()?.used() + limit.ahead_pages() <= limit.pages_max {
            return Ok(false);
        }
        let step = db.expire(Surplus::Oldest)?;
        self.count(step.readings);
        Ok(step.more)
    }

    fn step_by_age(&mut self, db: &mut Db, clock_ns: i64, now: Instant) -> Result<bool, Error> {
        let Some(retain_ns) = self.retain_ns else {
            return Ok(false);
        };
        if !self.is_aging && !self.is_any_too_old(db, retain_ns, clock_ns, now)? {
            return Ok(false);
        }
        let step = db.expire(Surplus::Before(clock_ns.saturating_sub(retain_ns)))?;
        self.count(step.readings);
        self.is_aging = step.more;
        Ok(step.more)
    }

    fn is_any_too_old(
        &mut self,
        db: &mut Db,
        retain_ns: i64,
        clock_ns: i64,
        now: Instant,
    ) -> Result<bool, Error> {
        if clock_ns < self.none_before_ns {
            return Ok(false);
        }
        let keep_ns = retain_ns.saturating_add(self.slack_ns);
        let Some((_, oldest_ns)) = db.oldest()? else {
            return Ok(false);
        };
        let due_ns = oldest_ns.saturating_add(keep_ns);
        if clock_ns < due_ns {
            self.none_before_ns = due_ns;
            return Ok(false);
        }
        let newest_ns = db.newest_ns()?;
        if clock_ns < newest_ns.saturating_sub(ns(CLOCK_TOLERANCE)) {
            // Which of the two is wrong cannot be known, and what is dropped is gone.
            self.not_before = Some(now + AGAIN_AFTER);
            if is_due(&mut self.clock_told, now) {
                let behind = newest_ns.saturating_sub(clock_ns) / 1_000_000_000;
                let reason = "the clock is behind the newest reading, so that no age is certain";
                log::warn(
                    "expiry-waiting",
                    &[("seconds_behind", &behind), ("reason", &reason)],
                );
            }
            return Ok(false);
        }
        Ok(true)
    }

    fn count(&mut self, readings: i64) {
        self.expired += readings;
        self.untold += readings;
        // Behind those that went may be older ones.
        self.none_before_ns = i64::MIN;
    }

    fn tell(&mut self, now: Instant) {
        if self.untold > 0 && is_due(&mut self.told, now) {
            self.tell_rest();
        }
    }

    /// What was not told yet.
    pub fn tell_rest(&mut self) {
        if self.untold > 0 {
            log::info("expired", &[("readings", &self.untold)]);
            self.untold = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::{self, Invocation};
    use crate::reading::{Kind, Series, Value};
    use crate::store::{Start, Sync};

    /// They come faster than the steps between them take readings away.
    #[test]
    fn commits_that_may_not_fit_into_an_empty_file_do_not_make_it_grow_for_ever() {
        let name = format!("seawall-retention-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("x.db");
        fs::write(&path, "").unwrap();
        let start = Start {
            now_ns: 1,
            boot_id: None,
            boot_ns: 2,
        };
        let mut db = Db::open(&path, Duration::ZERO, 1000, &start, None).unwrap();
        let args = ["record", "--max-size=16MiB"].map(Into::into).into_iter();
        let Ok(Invocation::Record(settings)) = cli::parse(args, &|_| None) else {
            panic!("the settings are wrong");
        };
        let mut retention = Retention::new(&settings, PAGE_BYTES);
        let limit = retention.limit.unwrap();
        // More than half a page.
        let text = "x".repeat(520);
        for _ in 0..4 {
            let mut batch = Batch::default();
            let series = Series {
                sensor: "m".into(),
                field: "f".into(),
                kind: Kind::String,
            };
            batch.define(0, series);
            for n in 0..60_000 {
                let is_text = n % 30 == 0;
                let number = Value::Integer(n);
                batch.push(n, 0, if is_text { Value::Text(&text) } else { number });
            }
            assert!(growth(&batch, PAGE_BYTES) > limit.pages_max);
            retention.make_room(&mut db, &batch).unwrap();
            db.commit(&batch, Sync::Normal).unwrap();
            assert!(db.pages().unwrap().all <= limit.pages_max);
        }
        drop(db);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_over_its_limit_may_use_what_is_free_in_it_and_grow_no_further() {
        let limit = SizeLimit {
            pages_max: 100,
            wal_bytes_max: 0,
            page_bytes: PAGE_BYTES,
        };
        let fits = |all, free, growth| limit.fits(Pages { all, free }, growth);
        assert!(fits(90, 0, 10));
        assert!(!fits(90, 0, 11));
        assert!(fits(90, 5, 15));
        assert!(fits(150, 20, 20));
        assert!(!fits(150, 20, 21));
    }

    #[test]
    fn the_least_size_has_room_for_a_full_queue() {
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

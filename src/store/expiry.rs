//! Retention: readings go from the old end, in steps, and the ledger says of each run how many went.
//!
//! A step is one transaction that takes the readings, their share of each run's fingerprint, and their
//! spans, so that `check` holds at every moment. Ids are never given again. What the file has freed is used
//! again by the next readings. Called by the writer between commits.

use std::collections::HashMap;

use super::spans::{self, Tail};
use super::{Db, Error, Sync, schema};
use crate::reading::fingerprint;
use crate::reading::{Kind, Value};

/// Readings that one step takes at most. It holds up a commit for some milliseconds.
pub const STEP_READINGS: i64 = 4096;
/// Series of which the fingerprint is remembered from step to step.
const SERIES_KNOWN_MAX: usize = 8192;

/// What is remembered between steps.
#[derive(Default)]
pub(super) struct Retention {
    /// Fingerprints of series, by their number.
    series: HashMap<i64, u64>,
}

/// Which readings may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surplus {
    /// The oldest, whatever their time.
    Oldest,
    /// Those at the old end that were taken before this time.
    Before(i64),
}

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    pub readings: i64,
    /// The next step may find more.
    pub more: bool,
}

/// Pages of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    pub all: u64,
    pub free: u64,
}

impl Pages {
    pub fn used(self) -> u64 {
        self.all.saturating_sub(self.free)
    }
}

/// What a step takes from one run.
struct Share {
    run: i64,
    first_id: i64,
    /// That went.
    readings: i64,
    /// Of what is left.
    fingerprint: u64,
}

impl Db {
    /// The oldest reading: its id and its time.
    pub fn oldest(&mut self) -> Result<Option<(i64, i64)>, Error> {
        let mut oldest = None;
        self.raw
            .rows("find the oldest reading of", schema::OLDEST, |row| {
                oldest = Some((row.integer(0), row.integer(1)));
                false
            })?;
        Ok(oldest)
    }

    /// The greatest time of any reading. Looks through the spans, so not to be asked at each commit.
    pub fn newest_ns(&mut self) -> Result<i64, Error> {
        let mut newest = self.tail.newest_ns();
        self.raw
            .rows("find the newest time in", schema::NEWEST_OF_SPANS, |row| {
                newest = newest.max(row.integer(0));
                true
            })?;
        Ok(newest)
    }

    pub fn pages(&mut self) -> Result<Pages, Error> {
        let mut ask = |statement| {
            let answer = self.raw.query("ask for the pages of", statement, &[])?;
            Ok(answer.unwrap_or(0).max(0) as u64)
        };
        Ok(Pages {
            all: ask(self.statements.page_count)?,
            free: ask(self.statements.freelist_count)?,
        })
    }

    /// One step.
    pub fn expire(&mut self, surplus: Surplus) -> Result<Expired, Error> {
        let Some((first, _)) = self.oldest()? else {
            return Ok(Expired::default());
        };
        let full = first.saturating_add(STEP_READINGS);
        let mut stop = full.min(self.next_id);
        if let Surplus::Before(cutoff_ns) = surplus {
            let numbers = [stop, cutoff_ns].map(|n| Some(Value::Integer(n)));
            let statement = self.statements.first_not_before;
            let found = self
                .raw
                .query("look for old readings in", statement, &numbers)?;
            stop = found.unwrap_or(stop);
        }
        if stop <= first {
            return Ok(Expired::default());
        }
        if self.sync.is_none() {
            self.synchronous(Sync::Full)?;
        }
        let (readings, own, tail) = self.transaction(|db| db.drop_before(stop))?;
        if let Some(fingerprint) = own {
            self.fingerprint = fingerprint;
        }
        self.tail = tail;
        Ok(Expired {
            readings,
            more: stop == full,
        })
    }

    /// Within a transaction. Gives how many readings went, the fingerprint of the own run if some were of
    /// it, and the readings after the last span.
    fn drop_before(&mut self, stop: i64) -> Result<(i64, Option<u64>, Tail), Error> {
        let operation = "drop the oldest readings of";
        let mut shares = self.shares(stop)?;
        let known = &mut self.retention.series;
        if known.len() > SERIES_KNOWN_MAX {
            known.clear();
        }
        let mut readings = 0;
        let mut current = 0;
        self.raw.rows(operation, schema::LIST_OLDEST, |row| {
            let id = row.integer(0);
            if id >= stop {
                return false;
            }
            readings += 1;
            while shares.get(current + 1).is_some_and(|s| s.first_id <= id) {
                current += 1;
            }
            let series = *known.entry(row.integer(2)).or_insert_with(|| {
                let (sensor, field, name) = (row.text(4), row.text(5), row.text(6));
                let kind = Kind::ALL.into_iter().find(|k| k.name() == name);
                kind.map_or(0, |kind| fingerprint::series(&sensor, &field, kind))
            });
            // Where the file is damaged the sum will not match, and `check` says so.
            if let (Some(share), Some(value)) = (shares.get_mut(current), row.value(3)) {
                let gone = fingerprint::fingerprint(id, row.integer(1), series, value);
                share.fingerprint = share.fingerprint.wrapping_sub(gone);
                share.readings += 1;
            }
            true
        })?;
        let statements = &self.statements;
        let stop = Some(Value::Integer(stop));
        for statement in [
            statements.drop_readings,
            statements.drop_clock_steps,
            statements.drop_spans,
            statements.cut_span,
        ] {
            self.raw.run(operation, statement, &[stop])?;
        }
        let mut own = None;
        for share in shares.iter().filter(|share| share.readings > 0) {
            let numbers = [share.run, share.readings, share.fingerprint as i64];
            let numbers = numbers.map(|n| Some(Value::Integer(n)));
            let statement = self.statements.expire_run;
            self.raw.run(operation, statement, &numbers)?;
            if share.run == self.run {
                own = Some(share.fingerprint);
            }
        }
        let tail = spans::find_tail(&mut self.raw, self.statements.add_span, self.next_id)?;
        Ok((readings, own, tail))
    }

    /// The runs that have readings before `stop`, in order.
    fn shares(&mut self, stop: i64) -> Result<Vec<Share>, Error> {
        let mut shares = Vec::new();
        let sql = schema::LIST_RUNS_WITH_READINGS;
        self.raw.rows("look up the oldest runs of", sql, |row| {
            let share = Share {
                run: row.integer(0),
                first_id: row.integer(1),
                fingerprint: row.integer(2) as u64,
                readings: 0,
            };
            let is_before = share.first_id < stop;
            shares.extend(is_before.then_some(share));
            is_before
        })?;
        Ok(shares)
    }

    /// Takes the step that comes first and leaves everything as it was: what is damaged there would otherwise
    /// be met while recording, at each start anew.
    pub fn try_expiry(&mut self) -> Result<(), Error> {
        let Some((first, _)) = self.oldest()? else {
            return Ok(());
        };
        let stop = first.saturating_add(STEP_READINGS).min(self.next_id);
        self.raw.run("lock", self.statements.begin, &[])?;
        let tried = self.drop_before(stop);
        if !self.raw.is_autocommit() {
            self.raw.execute("roll back", schema::ROLLBACK)?;
        }
        tried.map(drop)
    }
}

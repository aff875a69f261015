//! Reads readings for commands, in id order and a chunk at a time. Each chunk is one short snapshot,
//! over when the call returns: a reader that then waits for its own consumer keeps no checkpoint waiting.
//!
//! Called by `export`, `show` and `backup`. The readings are taken from the bare table and joined to
//! their series and runs here, because the view looks both up anew for each row.

use std::ffi::CStr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::names::{NameLookup, Names};
use super::open::{Beside, READ, open, open_damaged};
use super::runs::Runs;
use super::spans;
use crate::db::raw::{Connection, Statement};
use crate::db::{Error, error, transaction};
use crate::reading::Value;

/// Upper bound on the ids of one snapshot, which takes some milliseconds.
const CHUNK_IDS: i64 = 8192;
const NEXT_READING: &CStr = c"SELECT id FROM readings WHERE id > ?1 ORDER BY id LIMIT 1";
const NEWEST_READING: &CStr = c"SELECT id, time_ns FROM readings ORDER BY id DESC LIMIT 1";
const NEWEST_RUN: &CStr = c"SELECT id FROM runs ORDER BY id DESC LIMIT 1";
const RUNS_AFTER: &CStr = c"SELECT id, first_id, device FROM runs WHERE id > ?1 ORDER BY id";
/// From an id on; the times are compared here, which is quicker where most of them fit.
const READINGS_FROM: &CStr =
    c"SELECT id, time_ns, series, value FROM readings WHERE id >= ?1 ORDER BY id";
/// All limits included; quicker where most times do not fit.
const READINGS_BETWEEN: &CStr = c"SELECT id, time_ns, series, value FROM readings
    WHERE id >= ?1 AND id <= ?2 AND time_ns >= ?3 AND time_ns <= ?4 ORDER BY id";

/// A range of times, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub from_ns: i64,
    pub to_ns: i64,
}

impl Times {
    pub const ALL: Times = Times {
        from_ns: i64::MIN,
        to_ns: i64::MAX,
    };
}

/// Position behind a reading. The run is part of it: after a power cut took readings that nobody
/// had acknowledged, a later run uses their ids again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// `None`: the run of that id now.
    pub run: Option<i64>,
    pub id: i64,
}

/// One reading without the names of its series.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    pub id: i64,
    pub time_ns: i64,
    pub value: Value<'a>,
    pub run: i64,
    /// Id that the device had in that run.
    pub device: &'a str,
}

pub(super) struct ReadStatements {
    pub next_reading: Statement,
    newest_reading: Statement,
    newest_run: Statement,
    runs_after: Statement,
    pub readings_from: Statement,
    readings_between: Statement,
}

/// Rows to hand on.
pub(super) struct Scan {
    pub statement: Statement,
    pub last: i64,
    pub times: Times,
    /// A reading that is missing is an error.
    pub is_gapless: bool,
}

/// A database, open for reading.
pub struct Reader {
    pub(super) raw: Connection,
    pub(super) statements: ReadStatements,
    pub(super) runs: Runs,
    series_names: NameLookup,
    /// At least half of the last chunk was within the times.
    is_dense: bool,
    /// Ranges of ids that may hold these times.
    places: Option<(Times, Vec<RangeInclusive<i64>>)>,
    /// Readings behind a position that had gone before they were read.
    gone: i64,
}

impl Reader {
    pub fn open(path: &Path, busy_timeout: Duration) -> Result<Self, Error> {
        Self::new(open(path, busy_timeout)?)
    }

    /// For a file of which parts cannot be read.
    pub fn open_damaged(path: &Path, busy_timeout: Duration) -> Result<Self, Error> {
        let mut reader = Self::new(open_damaged(path, busy_timeout)?)?;
        reader.series_names.add_index(&mut reader.raw)?;
        Ok(reader)
    }

    fn new(mut raw: Connection) -> Result<Self, Error> {
        let statements = ReadStatements {
            next_reading: raw.prepare(NEXT_READING)?,
            newest_reading: raw.prepare(NEWEST_READING)?,
            newest_run: raw.prepare(NEWEST_RUN)?,
            runs_after: raw.prepare(RUNS_AFTER)?,
            readings_from: raw.prepare(READINGS_FROM)?,
            readings_between: raw.prepare(READINGS_BETWEEN)?,
        };
        let names = NameLookup::prepare(&mut raw)?;
        Ok(Reader {
            raw,
            statements,
            runs: Runs::default(),
            series_names: names,
            is_dense: true,
            places: None,
            gone: 0,
        })
    }

    /// Describes the readings of the last run that the file lacks. An error comes again where the readings are read.
    pub fn missing(&mut self, beside: &Beside) -> Option<String> {
        beside.missing(&mut self.raw).unwrap_or(None)
    }

    /// Readings that retention dropped behind a position, since it was last asked.
    pub fn take_gone(&mut self) -> i64 {
        std::mem::take(&mut self.gone)
    }

    /// Device of a run; `None` where the database has no such run.
    pub fn device_of(&mut self, run: i64) -> Result<Option<&str>, Error> {
        self.learn_runs()?;
        Ok(self.runs.device_of(run))
    }

    /// Device of the run of a position behind what was read.
    pub fn device_at(&self, at: Position) -> Option<&str> {
        self.runs.device_of(at.run?)
    }

    /// Id and time of the newest reading.
    pub fn newest(&mut self) -> Result<Option<(i64, i64)>, Error> {
        self.first(self.statements.newest_reading, &[])
    }

    /// Hands the next readings after `at` to `each`, until it returns false or the chunk ends, and moves
    /// `at` behind them. False when there are no more for now.
    pub fn chunk<T>(
        &mut self,
        at: &mut Position,
        last_id: i64,
        times: Times,
        names: &mut Names<'_, T>,
        each: &mut impl FnMut(&Reading<'_>, &T) -> bool,
    ) -> Result<bool, Error> {
        self.raw.execute(READ, transaction::BEGIN_READ)?;
        let result = self.snapshot(at, last_id, times, names, each);
        self.raw.end_rows(self.statements.readings_from);
        self.raw.end_rows(self.statements.readings_between);
        let ended = self.raw.execute(READ, transaction::COMMIT);
        result.and_then(|more| ended.map(|()| more))
    }

    fn snapshot<T>(
        &mut self,
        at: &mut Position,
        last_id: i64,
        times: Times,
        names: &mut Names<'_, T>,
        each: &mut impl FnMut(&Reading<'_>, &T) -> bool,
    ) -> Result<bool, Error> {
        self.learn_runs()?;
        self.go_back_to_a_later_run(at);
        let Some(range) = self.next_range(at.id, last_id, times)? else {
            self.pass_over(at, last_id)?;
            return Ok(false);
        };
        names.bound();
        let (first, last) = (*range.start(), *range.end());
        let statement = if self.is_dense {
            let statement = self.statements.readings_from;
            self.raw.begin_rows(READ, statement, &[first])?;
            statement
        } else {
            let statement = self.statements.readings_between;
            let limits = [first, last, times.from_ns, times.to_ns];
            self.raw.begin_rows(READ, statement, &limits)?;
            statement
        };
        let scan = Scan {
            statement,
            last,
            times,
            is_gapless: false,
        };
        let Some(fit) = self.scan(&scan, at, names, each)? else {
            return Ok(true);
        };
        self.is_dense = fit >= (last - first) / 2;
        at.id = last;
        at.run = self.runs.run_of(at.id);
        Ok(true)
    }

    /// Hands the rows of a statement to `each`, up to the id `last`, and moves `at` behind those that were read.
    /// Returns how many are of these times; `None` when `each` has had enough.
    pub(super) fn scan<T>(
        &mut self,
        scan: &Scan,
        at: &mut Position,
        names: &mut Names<'_, T>,
        each: &mut impl FnMut(&Reading<'_>, &T) -> bool,
    ) -> Result<Option<i64>, Error> {
        let Scan {
            statement,
            last,
            times,
            is_gapless,
        } = *scan;
        let mut fit = 0;
        while let Some(mut row) = self.raw.step(READ, statement)? {
            let (id, time_ns, series) = (row.integer(0), row.integer(1), row.integer(2));
            if is_gapless && at.id < last && id != at.id + 1 {
                break;
            }
            if id > last {
                break;
            }
            let Some(run) = self.runs.run_of(id) else {
                return Err(self.bad(format!("reading {id} belongs to no run")));
            };
            let here = Position { id, run: Some(run) };
            if time_ns < times.from_ns || time_ns > times.to_ns {
                *at = here;
                continue;
            }
            fit += 1;
            let (kind, named) = match names.by_series.get(&series) {
                Some(named) => named,
                None => {
                    let named = names.look_up(&mut self.raw, &self.series_names, series, id)?;
                    row = self.raw.row(READ, statement)?;
                    names.by_series.entry(series).or_insert(named)
                }
            };
            let value = row.value(3).map(super::values::from_db);
            let Some(value) = value.filter(|value| kind.may_be(*value)) else {
                return Err(self.bad(format!("reading {id} has a value that no sensor sends")));
            };
            *at = here;
            let Some(named) = named else {
                continue;
            };
            let reading = Reading {
                id,
                time_ns,
                value,
                run,
                device: self.runs.device(),
            };
            if !each(&reading, named) {
                return Ok(None);
            }
        }
        if is_gapless && at.id < last {
            return Err(self.bad(format!("reading {} is not there", at.id + 1)));
        }
        Ok(Some(fit))
    }

    /// Moves the position behind readings of other times.
    fn pass_over(&mut self, at: &mut Position, last_id: i64) -> Result<(), Error> {
        let newest = self.first(self.statements.newest_reading, &[])?;
        if let Some(id) = newest
            .map(|(id, _)| id.min(last_id))
            .filter(|id| *id > at.id)
        {
            self.runs.forget();
            (at.id, at.run) = (id, self.runs.run_of(id));
        }
        Ok(())
    }

    /// Reads the runs that began since the last call.
    pub(super) fn learn_runs(&mut self) -> Result<(), Error> {
        let newest = self.first(self.statements.newest_run, &[])?;
        if newest.is_none_or(|(run, _)| run <= self.runs.newest()) {
            return Ok(());
        }
        self.learn_runs_by(self.statements.runs_after)
    }

    pub(super) fn learn_runs_by(&mut self, statement: Statement) -> Result<(), Error> {
        self.raw
            .begin_rows(READ, statement, &[self.runs.newest()])?;
        while let Some(row) = self.raw.step(READ, statement)? {
            let (run, device) = (row.integer(0), row.text(2));
            if device.bytes().any(|b| !b.is_ascii_hexdigit()) {
                return Err(self.bad(format!("run {run} has a device that is no number in hex")));
            }
            self.runs.add(run, row.integer(1), &device);
        }
        self.raw.end_rows(statement);
        self.runs.sort();
        Ok(())
    }

    /// Moves the position back where a later run used ids again.
    pub(super) fn go_back_to_a_later_run(&mut self, at: &mut Position) {
        self.runs.forget();
        // Only where this id belongs to another run now; a damaged row of a later run with a lower first id
        // would otherwise send the reader back for ever.
        let run = at.run.filter(|_| at.run != self.runs.run_of(at.id));
        self.runs.forget();
        if let Some(first_id) = run.and_then(|run| self.runs.first_id_after(run)) {
            at.id = at.id.min(first_id.saturating_sub(1));
        }
    }

    /// The next ids after `after` that may have readings of these times. The ranges are looked up once: what
    /// is recorded later comes at the end, which is open.
    fn next_range(
        &mut self,
        mut after: i64,
        last_id: i64,
        times: Times,
    ) -> Result<Option<RangeInclusive<i64>>, Error> {
        let newest = self.first(self.statements.newest_reading, &[])?;
        let newest = newest.map_or(0, |(id, _)| id).min(last_id);
        while after < newest {
            let whole = after.saturating_add(1)..=newest;
            let Some(place) = self.place_of_times(&whole, times)? else {
                return Ok(None);
            };
            // Retention drops readings at the old end.
            let next = [place.start().saturating_sub(1)];
            let Some((first, _)) = self.first(self.statements.next_reading, &next)? else {
                return Ok(None);
            };
            let gap = first.saturating_sub(after).saturating_sub(1);
            if times == Times::ALL && after > 0 && gap > 0 {
                // A gap within the file is none of retention's, which drops the oldest.
                let oldest = self.first(self.statements.next_reading, &[i64::MIN])?;
                self.gone += oldest.filter(|(id, _)| *id == first).map_or(0, |_| gap);
            }
            let last = first.saturating_add(CHUNK_IDS - 1);
            let last = last.min(newest).min(*place.end());
            if first <= last {
                return Ok(Some(first..=last));
            }
            after = first.saturating_sub(1);
        }
        Ok(None)
    }

    /// The first part of `ids` that may hold these times.
    fn place_of_times(
        &mut self,
        ids: &RangeInclusive<i64>,
        times: Times,
    ) -> Result<Option<RangeInclusive<i64>>, Error> {
        if times == Times::ALL {
            return Ok(Some(ids.clone()));
        }
        if self.places.as_ref().is_none_or(|(of, _)| *of != times) {
            let places = spans::ranges(&mut self.raw, times.from_ns, times.to_ns)?;
            self.places = Some((times, places));
        }
        let places = self.places.iter().flat_map(|(_, places)| places);
        let place = places
            .skip_while(|place| place.end() < ids.start())
            .map(|place| *place.start().max(ids.start())..=*place.end().min(ids.end()))
            .next();
        Ok(place.filter(|place| !place.is_empty()))
    }

    /// The first two columns of the first row.
    pub(super) fn first(
        &mut self,
        statement: Statement,
        numbers: &[i64],
    ) -> Result<Option<(i64, i64)>, Error> {
        self.raw.begin_rows(READ, statement, numbers)?;
        let mut found = None;
        if let Some(row) = self.raw.step(READ, statement)? {
            found = Some((row.integer(0), row.integer(1)));
        }
        self.raw.end_rows(statement);
        Ok(found)
    }

    fn bad(&self, what: String) -> Error {
        error::corrupt(READ, self.raw.path(), what)
    }
}

//! Reads readings for `export` and `show`, in id order and a chunk at a time. Each chunk is one short snapshot,
//! over when the call returns: a reader that then waits for its own consumer keeps no checkpoint waiting.
//!
//! Called by the commands `export` and `show`. The readings are taken from the bare table and joined to
//! their series and runs here, because the view looks both up anew for each row.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::identify::{identify, is_seawall};
use super::objects;
use super::room::look_for_room;
use super::runs::Runs;
use super::{schema, spans};
use crate::db::raw::{Access, Connection, Statement};
use crate::db::{Cause, Error, error, pragma, transaction};
use crate::place;
use crate::place::foreign_wal::{self, Treatment};
use crate::reading::{Kind, Value};

/// Upper bound on the ids of one snapshot, which takes some milliseconds.
const CHUNK_IDS: i64 = 8192;
/// Upper bound on the names of series in memory; beyond it all are dropped and read again.
const NAMES_BYTES_MAX: usize = 1024 * 1024;
/// Overhead of a series besides its names.
const NAME_OVERHEAD_BYTES: usize = 256;
/// Memory for pages: every page is needed once.
const CACHE_KIB: i64 = 256;

const NEXT_READING: &CStr = c"SELECT id FROM readings WHERE id > ?1 ORDER BY id LIMIT 1";
const NEWEST_READING: &CStr = c"SELECT id, time_ns FROM readings ORDER BY id DESC LIMIT 1";
/// From the spans, and what comes after the last.
const OLDEST_AND_NEWEST_TIME: &CStr = c"SELECT min(oldest), max(newest) FROM (
    SELECT oldest_ns AS oldest, newest_ns AS newest FROM spans
    UNION ALL SELECT time_ns, time_ns FROM readings
      WHERE id > coalesce((SELECT last_id FROM spans ORDER BY first_id DESC LIMIT 1), -1)
  ) HAVING count(*) > 0";
const RECORDED: &CStr = c"SELECT coalesce(sum(committed), 0) FROM runs";
const NEWEST_RUN: &CStr = c"SELECT id FROM runs ORDER BY id DESC LIMIT 1";
const RUNS_AFTER: &CStr = c"SELECT id, first_id, device FROM runs WHERE id > ?1 ORDER BY id";
const NAME_SERIES: &CStr = c"SELECT sensor, field, type FROM series WHERE id = ?1";
/// From an id on; the times are compared here, which is quicker where most of them fit.
const READINGS_FROM: &CStr =
    c"SELECT id, time_ns, series, value FROM readings WHERE id >= ?1 ORDER BY id";
/// All limits included; quicker where most times do not fit.
const READINGS_BETWEEN: &CStr = c"SELECT id, time_ns, series, value FROM readings
    WHERE id >= ?1 AND id <= ?2 AND time_ns >= ?3 AND time_ns <= ?4 ORDER BY id";

const READ: &str = "read";

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

/// The caller's value for each series; `None` for a series that it does not want.
pub struct Names<T> {
    by_series: HashMap<i64, Option<T>>,
    bytes: usize,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Names {
            by_series: HashMap::new(),
            bytes: 0,
        }
    }
}

struct Statements {
    next_reading: Statement,
    newest_reading: Statement,
    newest_run: Statement,
    runs_after: Statement,
    name_series: Statement,
    readings_from: Statement,
    readings_between: Statement,
}

/// A database, open for reading.
pub struct Reader {
    raw: Connection,
    statements: Statements,
    runs: Runs,
    /// At least half of the last chunk was within the times.
    is_dense: bool,
    /// Ranges of ids that may hold these times.
    places: Option<(Times, Vec<RangeInclusive<i64>>)>,
    /// Readings behind a position that had gone before they were read.
    gone: i64,
}

impl Reader {
    pub fn open(path: &Path, busy_timeout: Duration) -> Result<Self, Error> {
        let mut raw = open(path, busy_timeout)?;
        let statements = Statements {
            next_reading: raw.prepare(NEXT_READING)?,
            newest_reading: raw.prepare(NEWEST_READING)?,
            newest_run: raw.prepare(NEWEST_RUN)?,
            runs_after: raw.prepare(RUNS_AFTER)?,
            name_series: raw.prepare(NAME_SERIES)?,
            readings_from: raw.prepare(READINGS_FROM)?,
            readings_between: raw.prepare(READINGS_BETWEEN)?,
        };
        Ok(Reader {
            raw,
            statements,
            runs: Runs::default(),
            is_dense: true,
            places: None,
            gone: 0,
        })
    }

    /// Readings that retention dropped behind a position, since it was last asked.
    pub fn take_gone(&mut self) -> i64 {
        std::mem::take(&mut self.gone)
    }

    /// Whether this is the database in which the run had this device, and so the position is one of its own.
    pub fn has_run(&mut self, run: i64, device: &str) -> Result<bool, Error> {
        self.learn_runs()?;
        Ok(self.runs.device_of(run) == Some(device))
    }

    /// Device of the run of a position.
    pub fn device_at(&self, at: Position) -> Option<&str> {
        self.runs.device_of(at.run?)
    }

    /// Id and time of the newest reading.
    pub fn newest(&mut self) -> Result<Option<(i64, i64)>, Error> {
        self.first(self.statements.newest_reading, &[])
    }

    /// Readings that were ever recorded, those that have gone included.
    pub fn recorded(&mut self) -> Result<i64, Error> {
        let recorded = self.raw.answer(READ, RECORDED)?;
        Ok(recorded.parse().unwrap_or(0))
    }

    /// Oldest and newest time of all readings.
    pub fn oldest_and_newest_time(&mut self) -> Result<Option<(i64, i64)>, Error> {
        let statement = self.raw.prepare(OLDEST_AND_NEWEST_TIME)?;
        self.first(statement, &[])
    }

    /// The series by number, with sensor, field and type.
    pub fn series(
        &mut self,
        mut each: impl FnMut(i64, &str, &str, Option<Kind>),
    ) -> Result<(), Error> {
        self.raw.rows(READ, schema::LIST_SERIES, |row| {
            each(
                row.integer(0),
                &row.text(1),
                &row.text(2),
                kind(&row.text(3)),
            );
            true
        })
    }

    /// Hands the next readings after `at` to `each`, until it returns false or the chunk ends, and moves
    /// `at` behind them. False when there are no more for now.
    pub fn chunk<T>(
        &mut self,
        at: &mut Position,
        last_id: i64,
        times: Times,
        names: &mut Names<T>,
        name: &mut dyn FnMut(&str, &str, Kind) -> Option<T>,
        each: &mut impl FnMut(&Reading<'_>, &T) -> bool,
    ) -> Result<bool, Error> {
        self.raw.execute(READ, transaction::BEGIN_READ)?;
        let result = self.snapshot(at, last_id, times, names, name, each);
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
        names: &mut Names<T>,
        name: &mut dyn FnMut(&str, &str, Kind) -> Option<T>,
        each: &mut impl FnMut(&Reading<'_>, &T) -> bool,
    ) -> Result<bool, Error> {
        self.learn_runs()?;
        self.go_back_to_a_later_run(at);
        let Some(range) = self.next_range(at.id, last_id, times)? else {
            self.pass_over(at, last_id)?;
            return Ok(false);
        };
        if names.bytes > NAMES_BYTES_MAX {
            *names = Names::default();
        }
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
        let mut fit = 0;
        while let Some(mut row) = self.raw.step(READ, statement)? {
            let (id, time_ns, series) = (row.integer(0), row.integer(1), row.integer(2));
            if id > last {
                break;
            }
            if time_ns < times.from_ns || time_ns > times.to_ns {
                continue;
            }
            fit += 1;
            let Some(run) = self.runs.run_of(id) else {
                return Err(self.bad(format!("reading {id} belongs to no run")));
            };
            (at.id, at.run) = (id, Some(run));
            let named = match names.by_series.get(&series) {
                Some(named) => named,
                None => {
                    let named = self.name(series, id, name, &mut names.bytes)?;
                    row = self.raw.row(READ, statement)?;
                    names.by_series.entry(series).or_insert(named)
                }
            };
            let Some(named) = named else {
                continue;
            };
            let Some(value) = row.value(3).map(super::values::from_db) else {
                return Err(self.bad(format!("reading {id} has a value that no sensor sends")));
            };
            let reading = Reading {
                id,
                time_ns,
                value,
                run,
                device: self.runs.device(),
            };
            if !each(&reading, named) {
                return Ok(true);
            }
        }
        self.is_dense = fit >= (last - first) / 2;
        at.id = last;
        at.run = self.runs.run_of(at.id);
        Ok(true)
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
    fn learn_runs(&mut self) -> Result<(), Error> {
        let newest = self.first(self.statements.newest_run, &[])?;
        if newest.is_none_or(|(run, _)| run <= self.runs.newest()) {
            return Ok(());
        }
        let statement = self.statements.runs_after;
        self.raw
            .begin_rows(READ, statement, &[self.runs.newest()])?;
        while let Some(row) = self.raw.step(READ, statement)? {
            self.runs.add(row.integer(0), row.integer(1), &row.text(2));
        }
        self.raw.end_rows(statement);
        self.runs.sort();
        Ok(())
    }

    /// Moves the position back where a later run used ids again.
    fn go_back_to_a_later_run(&mut self, at: &mut Position) {
        self.runs.forget();
        // Not to a later run that began earlier, as none does: that would be for ever.
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
    fn first(
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

    fn name<T>(
        &mut self,
        series: i64,
        id: i64,
        name: &mut dyn FnMut(&str, &str, Kind) -> Option<T>,
        bytes: &mut usize,
    ) -> Result<Option<T>, Error> {
        let statement = self.statements.name_series;
        self.raw.begin_rows(READ, statement, &[series])?;
        let Some(row) = self.raw.step(READ, statement)? else {
            let what = format!("reading {id} is of series {series}, which is not there");
            return Err(self.bad(what));
        };
        let (sensor, field) = (row.text(0), row.text(1));
        let Some(kind) = kind(&row.text(2)) else {
            return Err(self.bad(format!("series {series} has an unknown type")));
        };
        *bytes += sensor.len() + field.len() + NAME_OVERHEAD_BYTES;
        let named = name(&sensor, &field, kind);
        drop((sensor, field));
        self.raw.end_rows(statement);
        Ok(named)
    }

    fn bad(&self, what: String) -> Error {
        error::corrupt(READ, self.raw.path(), what)
    }
}

fn kind(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.name() == name)
}

/// Before a command opens a database, and while this process has it open nowhere: an error where SQLite would
/// replay a -wal that is another database's, or needs room that is not there.
pub fn look_before_reading(path: &Path) -> Result<(), Error> {
    // SQLite puts its files beside what a link points to.
    let path = &place::paths::follow_links(path);
    place::side_files::refuse_strange(path)
        .map_err(|reason| Error::new(READ, path, Cause::Strange, reason))?;
    if place::lock::is_recorded(path) {
        return Ok(());
    }
    // If this check fails, SQLite's own calls report the cause better.
    match foreign_wal::look(path, is_seawall) {
        Ok(Treatment::SetAside) => Err(Error::unread_wal(READ, path)),
        _ => look_for_room_to_read(path),
    }
}

/// For a database without a recorder: SQLite reads its log into a -shm first; a file that is not in WAL mode
/// needs none.
pub(super) fn look_for_room_to_read(path: &Path) -> Result<(), Error> {
    let path = &place::paths::follow_links(path);
    if !place::paths::wal_of(path).exists() && !is_in_wal_mode(path) {
        return Ok(());
    }
    look_for_room(path, 0).map_err(|e| Error {
        operation: READ,
        ..e
    })
}

pub(super) fn is_in_wal_mode(path: &Path) -> bool {
    let mut head = [0; 20];
    if !path.is_file() {
        return false;
    }
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head[18..] != [1, 1]
}

/// Opens a seawall database that others may be recording into.
pub(super) fn open(path: &Path, busy_timeout: Duration) -> Result<Connection, Error> {
    match open_with(path, busy_timeout, Access::ReadOnly) {
        // A kill may leave a journal that has to be rolled back before anybody can read.
        Err(e) if e.is_read_only() => open_with(path, busy_timeout, Access::ReadWrite),
        other => other,
    }
}

fn open_with(path: &Path, busy_timeout: Duration, access: Access) -> Result<Connection, Error> {
    let mut raw = Connection::open(path, access)?;
    raw.set_busy_timeout(busy_timeout);
    match identify(&mut raw) {
        Ok(false) => {}
        Ok(true) => return Err(Error::empty(READ, path)),
        Err(e) => return Err(raw.leave_as_found(e)),
    }
    let compared = objects::compare(&mut raw).and_then(|objects| objects.require(&raw));
    if let Err(e) = compared {
        return Err(raw.leave_as_found(e));
    }
    pragma::set_for_reading(&mut raw, CACHE_KIB)?;
    Ok(raw)
}

//! Queries about a database as a whole.

use std::ffi::CStr;

use super::names::kind;
use super::open::READ;
use super::read::{Reader, Times};
use super::schema;
use crate::db::Error;
use crate::reading::Kind;
use crate::reading::stream::AFTER_1970_NS;

/// From the spans, and what comes after the last.
const OLDEST_AND_NEWEST_TIME: &CStr = c"SELECT min(oldest), max(newest) FROM (
    SELECT oldest_ns AS oldest, newest_ns AS newest FROM spans
    UNION ALL SELECT time_ns, time_ns FROM readings
      WHERE id > coalesce((SELECT last_id FROM spans ORDER BY first_id DESC LIMIT 1), -1)
  ) HAVING count(*) > 0";
/// A span that began before is looked through.
const OLDEST_SINCE: &CStr = c"SELECT oldest, 0 FROM (SELECT min(iif(oldest_ns >= ?1, oldest_ns,
    (SELECT min(time_ns) FROM readings WHERE id BETWEEN first_id AND last_id AND time_ns >= ?1))) AS oldest
    FROM spans_to_now WHERE newest_ns >= ?1) WHERE oldest IS NOT NULL";
/// First such reading in the newest span that has one, or after the last span.
const SENSOR_OF_1970: &CStr = c"SELECT sensor FROM readings JOIN series ON series.id = series
    WHERE readings.id >= coalesce((SELECT max(first_id) FROM spans WHERE oldest_ns < 63072000000000000),
      (SELECT max(last_id) FROM spans), 0) AND time_ns < 63072000000000000 ORDER BY readings.id LIMIT 1";
const _: () = assert!(AFTER_1970_NS == 63_072_000_000_000_000);
/// Upper bound on the runs, and on the steps of the clock, that `marks` returns.
pub const MARKS_MAX: usize = 1000;
const RECORDED: &CStr = c"SELECT coalesce(sum(committed), 0) FROM runs";
/// From the newest on: each run when it began, each step of the clock at the first reading after it.
const MARKS_BETWEEN: &CStr = c"SELECT * FROM (SELECT * FROM (SELECT started_ns AS time, 0 AS step FROM runs
      WHERE time BETWEEN ?1 AND ?2 ORDER BY time DESC LIMIT ?3)
    UNION ALL SELECT * FROM (SELECT (SELECT time_ns FROM readings WHERE id > after_id ORDER BY id LIMIT 1) AS time, step_ns
      FROM clock_steps WHERE time BETWEEN ?1 AND ?2 ORDER BY time DESC LIMIT ?3)) ORDER BY time DESC";

impl Reader {
    /// A sensor that sent a time of 1970; empty where none did.
    pub fn sensor_of_1970(&mut self) -> Result<String, Error> {
        self.raw.answer(READ, SENSOR_OF_1970)
    }

    pub fn device(&mut self) -> Result<String, Error> {
        self.raw.answer(READ, schema::GET_DEVICE)
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

    /// The oldest time that is not before another.
    pub fn oldest_since(&mut self, from_ns: i64) -> Result<Option<i64>, Error> {
        let statement = self.raw.prepare(OLDEST_SINCE)?;
        let oldest = self.first(statement, &[from_ns])?;
        Ok(oldest.map(|(oldest, _)| oldest))
    }

    /// Times at which a run began, which have a step of 0, or the clock was set: in nanoseconds; the newest of each.
    pub fn marks(&mut self, times: Times) -> Result<Vec<(i64, i64)>, Error> {
        let statement = self.raw.prepare(MARKS_BETWEEN)?;
        let limits = [times.from_ns, times.to_ns, MARKS_MAX as i64];
        self.raw.begin_rows(READ, statement, &limits)?;
        let mut marks = Vec::new();
        while let Some(row) = self.raw.step(READ, statement)? {
            marks.push((row.integer(0), row.integer(1)));
        }
        self.raw.end_rows(statement);
        Ok(marks)
    }

    /// Calls `each` with sensor, field and type of every series.
    pub fn series(&mut self, mut each: impl FnMut(&str, &str, Option<Kind>)) -> Result<(), Error> {
        self.raw.rows(READ, schema::LIST_SERIES, |row| {
            each(&row.text(1), &row.text(2), kind(&row.text(3)));
            true
        })
    }
}

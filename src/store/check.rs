//! `check`: what is damaged or missing in a file, in one snapshot, while recording may go on.

use std::path::Path;
use std::time::Duration;

use super::identify::{code_in, identify};
use super::names;
use super::objects::{self, Wrong};
use super::open::{self, Beside, lost};
use super::schema;
use super::spans::Examiner;
use super::start::{LOST, UNCLEAN, last_run};
use crate::db::raw::{Access, Connection, Statement};
use crate::db::{Class, Error, pragma, transaction};
use crate::place::paths::follow_links;
use crate::reading::fingerprint;
use crate::reading::{Kind, Value};

/// Findings past this many are counted and not listed.
const FINDINGS_MAX: usize = 20;

#[derive(Debug, Default)]
pub struct Audit {
    pub readings: i64,
    pub runs: i64,
    pub unclean: i64,
    /// Contradictions and damage, a line each.
    pub damaged: Vec<String>,
    /// Missing readings and tables, a line each.
    pub missing: Vec<String>,
    /// Findings that are not listed.
    pub more: u64,
}

struct Run {
    is_open: bool,
    id: i64,
    first_id: i64,
    committed: i64,
    /// Fingerprint of the readings after the last span, in the row of the last run.
    tail_fingerprint: u64,
    /// Readings that retention dropped, by the run's row.
    expired: i64,
    first_found: Option<i64>,
    found: i64,
}

#[derive(Clone, Copy)]
struct CheckedSeries {
    id: i64,
    fingerprint: u64,
    kind: Option<Kind>,
}

/// Recently used series, by the low bits of their numbers: there may be millions, and little memory.
struct SeriesCache {
    find: Statement,
    places: Vec<Option<CheckedSeries>>,
}

impl SeriesCache {
    const PLACES: usize = 4096;

    fn new(raw: &mut Connection) -> Result<Self, Error> {
        Ok(SeriesCache {
            find: raw.prepare(schema::NAME_SERIES)?,
            places: vec![None; Self::PLACES],
        })
    }

    fn get(&mut self, raw: &mut Connection, id: i64) -> Result<Option<CheckedSeries>, Error> {
        let place = &mut self.places[id as usize % Self::PLACES];
        if place.is_none_or(|series| series.id != id) {
            raw.begin_rows("check", self.find, &[id])?;
            *place = raw.step("check", self.find)?.map(|row| {
                let (sensor, field, kind) = (row.text(0), row.text(1), names::kind(&row.text(2)));
                CheckedSeries {
                    id,
                    fingerprint: kind.map_or(0, |kind| fingerprint::series(&sensor, &field, kind)),
                    kind,
                }
            });
            raw.end_rows(self.find);
        }
        Ok(*place)
    }
}

impl Audit {
    fn damage(&mut self, what: String) {
        Self::add(&mut self.damaged, &mut self.more, what);
    }

    fn miss(&mut self, what: String) {
        Self::add(&mut self.missing, &mut self.more, what);
    }

    fn add(list: &mut Vec<String>, more: &mut u64, what: String) {
        if list.len() < FINDINGS_MAX {
            list.push(what);
        } else {
            *more += 1;
        }
    }
}

/// Readings checked between two calls of `tell`.
const TELL_READINGS: i64 = 1 << 16;

/// Checks everything, and tells how many readings were. An error means that the check could not be made; damage is a finding.
pub fn audit(
    path: &Path,
    full: bool,
    busy_timeout: Duration,
    tell: &mut dyn FnMut(i64),
) -> Result<Audit, Error> {
    let path = &follow_links(path);
    let beside = open::look_before_reading(path)?;
    let mut examine = |access| {
        let mut audit = Audit::default();
        let result = examine(path, full, busy_timeout, access, &beside, &mut audit, tell);
        (audit, result)
    };
    let (mut audit, mut result) = examine(Access::ReadOnly);
    if result.as_ref().is_err_and(Error::is_read_only) {
        // A kill may leave a journal that has to be rolled back before anybody can read.
        (audit, result) = examine(Access::ReadWrite);
    }
    match result {
        Err(e) if e.class() == Class::Damaged => audit.damage(e.to_string()),
        other => other?,
    }
    Ok(audit)
}

fn examine(
    path: &Path,
    full: bool,
    busy_timeout: Duration,
    access: Access,
    beside: &Beside,
    audit: &mut Audit,
    tell: &mut dyn FnMut(i64),
) -> Result<(), Error> {
    let operation = "check";
    tell(0);
    let mut raw = Connection::open(path, access)?;
    raw.set_busy_timeout(busy_timeout);
    // One snapshot, so that a recorder that goes on cannot look like damage.
    raw.execute(operation, transaction::BEGIN_READ)?;
    if identify(&mut raw)? {
        return Err(Error::empty(operation, path));
    }
    pragma::set_for_reading(&mut raw, open::CACHE_KIB)?;

    let sql = if full {
        schema::INTEGRITY_CHECK
    } else {
        schema::QUICK_CHECK
    };
    let mut told = Vec::new();
    raw.rows(operation, sql, |row| {
        told.extend(row.text(0).lines().map(str::to_owned));
        true
    })?;
    for line in told {
        match code_in(&line) {
            // The page could not be read, and may be sound.
            Some(code) if Error::new(operation, path, code, "").class() != Class::Damaged => {
                return Err(Error::new(operation, path, code, line));
            }
            _ if line == "ok" => {}
            _ => audit.damage(line),
        }
    }

    if !examine_schema(&mut raw, audit)? {
        return Ok(());
    }
    let mut runs: Vec<Run> = Vec::new();
    raw.rows(operation, schema::LIST_RUNS, |row| {
        runs.push(Run {
            is_open: row.text(4).is_empty(),
            id: row.integer(0),
            first_id: row.integer(1),
            committed: row.integer(2),
            tail_fingerprint: row.integer(3) as u64,
            expired: row.integer(6),
            first_found: None,
            found: 0,
        });
        if !is_device(&row.text(9)) {
            audit.damage(format!("run {} names no device", row.integer(0)));
        }
        let reason = row.text(5);
        audit.unclean += i64::from(reason == UNCLEAN || reason == LOST);
        if reason == LOST {
            let (from_id, to_id) = (row.integer(7), row.integer(8));
            audit.miss(lost(row.integer(0), from_id, to_id));
        }
        true
    })?;
    audit.runs = runs.len() as i64;
    if let Some(missing) = beside.missing(&mut raw)? {
        audit.miss(missing);
    }
    if last_run(&mut raw)?.is_some_and(|last| beside.is_killed(&last)) {
        // The next start notes it.
        audit.unclean += 1;
    }

    raw.rows(operation, schema::LIST_SERIES, |row| {
        let name = row.text(3);
        if names::kind(&name).is_none() {
            audit.damage(format!(
                "series {} has the unknown type {name:?}",
                row.integer(0)
            ));
        }
        true
    })?;

    raw.rows(operation, schema::LIST_WRONG_CLIENTS, |row| {
        let name = row.text(0);
        audit.damage(format!(
            "client {name:?} has a count of lines or a time that is none"
        ));
        true
    })?;
    examine_readings(&mut raw, &mut runs, audit, tell)?;
    examine_runs(&runs, audit);
    Ok(())
}

fn is_device(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Compares tables, views and indexes with the layout. Ignores what others added. Returns whether they can be read.
fn examine_schema(raw: &mut Connection, audit: &mut Audit) -> Result<bool, Error> {
    let wrong = objects::compare(raw)?.wrong;
    for wrong in &wrong {
        match wrong {
            Wrong::Missing(name) => audit.miss(format!("{name} of the layout")),
            Wrong::Altered(name) => audit.damage(format!("{name} is not as it was made")),
        }
    }
    if !wrong.is_empty() {
        return Ok(false);
    }
    let mut devices = 0;
    let mut is_good = true;
    raw.rows("check", schema::GET_DEVICE, |row| {
        devices += 1;
        is_good &= is_device(&row.text(0));
        devices == 1
    })?;
    if devices != 1 || !is_good {
        audit.damage("device does not hold one id of 32 hex digits".into());
    }
    Ok(true)
}

fn examine_readings(
    raw: &mut Connection,
    runs: &mut [Run],
    audit: &mut Audit,
    tell: &mut dyn FnMut(i64),
) -> Result<(), Error> {
    let mut spans = Examiner::new(raw, &mut |what| audit.damage(what))?;
    let mut cache = SeriesCache::new(raw)?;
    let list = raw.prepare(schema::LIST_READINGS)?;
    let mut last: Option<i64> = None;
    // The run that a reading belongs to is the last that began at or before its id.
    let mut current: Option<usize> = None;
    while let Some(row) = raw.step("check", list)? {
        let (id, number) = (row.integer(0), row.integer(2));
        let series = cache.get(raw, number)?;
        let row = raw.row("check", list)?;
        audit.readings += 1;
        if audit.readings % TELL_READINGS == 0 {
            tell(audit.readings);
        }
        if let Some(last) = last
            && id != last.wrapping_add(1)
        {
            audit.miss(format!(
                "readings {} to {}",
                last.wrapping_add(1),
                id.wrapping_sub(1)
            ));
        }
        last = Some(id);
        let sum = row
            .value(3)
            .map(super::values::from_db)
            .zip(series)
            .filter(|(value, series)| series.kind.is_none_or(|kind| fits(kind, *value)))
            .map(|(value, series)| {
                fingerprint::fingerprint(id, row.integer(1), series.fingerprint, value)
            });
        spans.add(id, row.integer(1), sum.unwrap_or(0), &mut |what| {
            audit.damage(what);
        });
        let mut next = current.map_or(0, |n| n + 1);
        while runs.get(next).is_some_and(|run| run.first_id <= id) {
            current = Some(next);
            next += 1;
        }
        let Some(run) = current.and_then(|n| runs.get_mut(n)) else {
            audit.damage(format!("reading {id} belongs to no run"));
            continue;
        };
        run.found += 1;
        run.first_found.get_or_insert(id);
        if series.is_none() {
            audit.damage(format!(
                "reading {id} is of series {number}, which is not there"
            ));
        } else if sum.is_none() {
            audit.damage(format!(
                "reading {id} has a value that is not of its series' type"
            ));
        }
    }
    let mut next_id = 1;
    let mut left = 0i64;
    for run in runs.iter() {
        next_id = run.first_id.saturating_add(run.committed).max(next_id);
        left = left.saturating_add(run.committed.saturating_sub(run.expired));
    }
    let fingerprint = runs.last().map_or(0, |run| run.tail_fingerprint);
    spans.end(next_id, left, fingerprint, &mut |what| audit.damage(what));
    Ok(())
}

fn examine_runs(runs: &[Run], audit: &mut Audit) {
    let mut next_id = None;
    let mut next_run = 1;
    let mut any_found = false;
    for run in runs {
        if run.id != next_run {
            audit.miss(format!("runs {next_run} to {}", run.id.wrapping_sub(1)));
        }
        next_run = run.id.wrapping_add(1);
        if run.is_open && runs.last().is_some_and(|last| last.id != run.id) {
            audit.damage(format!(
                "run {} has not ended, and others came after it",
                run.id
            ));
        }
        if let Some(next) = next_id
            && run.first_id != next
        {
            audit.damage(format!(
                "run {} begins at reading {} where the runs before it end at {next}",
                run.id, run.first_id
            ));
        }
        next_id = Some(run.first_id.saturating_add(run.committed));
        let left = run.committed.saturating_sub(run.expired);
        let is_cut_right = run
            .first_found
            .is_none_or(|id| id == run.first_id.saturating_add(run.expired));
        // Readings go from the old end only: behind one that is there none has gone.
        let is_in_turn = run.expired == 0 || !any_found;
        any_found |= run.found > 0;
        if run.expired < 0 || left < 0 {
            audit.damage(format!(
                "run {} committed {} readings and says that {} of them have gone",
                run.id, run.committed, run.expired
            ));
        } else if run.found < left {
            audit.miss(format!(
                "{} of the {left} readings of run {}",
                left - run.found,
                run.id
            ));
        } else if run.found > left {
            audit.damage(format!(
                "run {} has {} readings and says that it committed {left}",
                run.id, run.found
            ));
        } else if !is_cut_right || !is_in_turn {
            audit.miss(format!(
                "readings of run {} that were not at the old end",
                run.id
            ));
        }
    }
}

fn fits(kind: Kind, value: Value<'_>) -> bool {
    matches!(
        (kind, value),
        (Kind::Float, Value::Real(_))
            | (Kind::Integer | Kind::Boolean, Value::Integer(_))
            | (Kind::Unsigned, Value::Integer(_))
            | (_, Value::Text(_))
    ) && kind.may_be(value)
}

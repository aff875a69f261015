//! The start of a run: tables of a new file, the end of the runs that never ended, the row of the new one.

use std::ffi::CStr;
use std::ops::RangeInclusive;
use std::path::Path;

use libsqlite3_sys as ffi;

use super::age::{Age, RunTimes};
use super::identify::{identify, is_seawall};
use super::schema;
use super::spans::{self, Tail};
use crate::db::raw::{Access, Connection};
use crate::db::{Error, SqlValue, error, pragma};
use crate::place::foreign_wal::{self, Treatment};
use crate::place::machine::Machine;
use crate::place::mark;

/// A run that never ended, found at the next start.
#[derive(Clone, Copy, Debug)]
pub struct Unclean {
    pub run: i64,
    pub committed: i64,
    /// First and last id that were committed and are gone.
    pub lost: Option<(i64, i64)>,
}

/// `runs.reason` of one that was killed.
pub(super) const UNCLEAN: &str = "unclean";
/// `runs.reason` of one that was killed and lost readings since.
pub(super) const LOST: &str = "lost";

/// Where and when a run starts.
#[derive(Clone, Debug)]
pub struct Start {
    pub now_ns: i64,
    pub boot_id: Option<String>,
    pub boot_ns: i64,
    pub machine: Machine,
    /// A source may send again what was committed.
    pub may_repeat: bool,
}

/// In the place of the machine's names in a backup.
pub(super) const COPY: &str = "copy";

pub(super) struct Begun {
    pub(super) page_bytes: u64,
    pub(super) device: String,
    pub(super) device_before: Option<String>,
    pub(super) unclean: Vec<Unclean>,
    pub(super) run: i64,
    pub(super) next_id: i64,
    pub(super) tail: Tail,
    pub(super) age: Age,
}

/// Above every id that a device could use.
const NEXT_ID_AT_MOST: i64 = i64::MAX / 2;

/// Within a transaction: creates the tables of a new file, closes the runs that never ended, begins a run.
pub(super) fn begin_run(
    raw: &mut Connection,
    is_new: bool,
    start: &Start,
    mark: Option<&mark::Reached>,
) -> Result<Begun, Error> {
    let operation = "begin a run in";
    // The write lock decides which of two starts on a new file creates the tables.
    if is_new && identify(raw)? {
        raw.execute("make the tables of", schema::CREATE)?;
        set_device(raw, schema::ADD_DEVICE, &random_id(raw)?, &start.machine)?;
    }
    let device = raw.answer(operation, schema::GET_DEVICE)?;
    let page_bytes = pragma::page_bytes(raw)?;
    let next_id = next_id(raw, operation)?;
    if next_id > NEXT_ID_AT_MOST {
        // Damage: without ids left, readings would be acknowledged and not stored.
        let message = format!("the next reading would get the id {next_id}");
        return Err(error::corrupt(operation, raw.path(), message));
    }
    let last = last_run(raw)?;
    let unclean = close_runs(raw, start, mark)?;
    let (device, device_before) = device_here(raw, device, &start.machine)?;
    let age = Age::begin(last.map(|last| last.times), start.now_ns, start.boot_ns);
    let times = age.times();
    let mut tail = spans::find_tail(raw, next_id)?;
    // They were committed by an earlier run, or before the end of its running time.
    tail.set_running(times.running_s);
    let add = raw.prepare(schema::ADD_RUN)?;
    let run = raw
        .query(
            operation,
            add,
            &[
                Some(SqlValue::Integer(start.now_ns)),
                start.boot_id.as_deref().map(SqlValue::Text),
                Some(SqlValue::Integer(start.boot_ns)),
                Some(SqlValue::Integer(next_id)),
                Some(SqlValue::Integer(tail.fingerprint() as i64)),
                Some(SqlValue::Integer(times.running_s)),
                Some(SqlValue::Integer(times.steady_from_s)),
                Some(SqlValue::Integer(times.seen_ns)),
            ],
        )?
        .ok_or_else(|| Error::new(operation, raw.path(), ffi::SQLITE_ERROR, "no id returned"))?;
    Ok(Begun {
        device,
        device_before,
        unclean,
        run,
        next_id,
        tail,
        age,
        page_bytes,
    })
}

/// Contents of the last run's row.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastRun {
    pub run: i64,
    pub is_open: bool,
    started_ns: i64,
    times: RunTimes,
}

fn next_id(raw: &mut Connection, operation: &'static str) -> Result<i64, Error> {
    let mut next_id = 1;
    raw.rows(operation, schema::NEXT_ID, |row| {
        next_id = row.integer(0);
        false
    })?;
    Ok(next_id)
}

/// Looks at the -wal beside a database that nobody has open here, before SQLite does.
pub fn look_at_wal(path: &Path) -> Treatment {
    let has_all_of = |mark: &mark::Reached| has_all_of(path, mark).unwrap_or(false);
    // If this look fails, SQLite's own calls report the cause better.
    foreign_wal::look(path, is_seawall, has_all_of).unwrap_or(Treatment::Leave)
}

/// Whether the file by itself ends with the run of the mark, ended, and knows of all ids that the mark does.
fn has_all_of(path: &Path, mark: &mark::Reached) -> Result<bool, Error> {
    let mut raw = Connection::open(path, Access::WithoutWal)?;
    let is_over = run_of(&mut raw, mark)?.is_some_and(|last| !last.is_open);
    Ok(is_over && mark.committed < next_id(&mut raw, "read")?)
}

/// The last run, if it is the one of the mark.
pub(super) fn run_of(raw: &mut Connection, mark: &mark::Reached) -> Result<Option<LastRun>, Error> {
    let device = raw.answer("read", schema::GET_DEVICE)?;
    let last = last_run(raw)?;
    Ok(last.filter(|last| mark.is_of(&device, last.run, last.started_ns)))
}

/// The ids that the last run lacks by the mark.
pub(super) fn missing(
    raw: &mut Connection,
    mark: &mark::Reached,
    boot_id: Option<&str>,
) -> Result<Option<RangeInclusive<i64>>, Error> {
    let next_id = next_id(raw, "read")?;
    Ok(run_of(raw, mark)?.and_then(|_| mark.missing(next_id, boot_id)))
}

pub(super) fn last_run(raw: &mut Connection) -> Result<Option<LastRun>, Error> {
    let mut last = None;
    raw.rows("read", schema::LAST_RUN, |row| {
        last = Some(LastRun {
            run: row.integer(0),
            is_open: row.integer(1) != 0,
            started_ns: row.integer(5),
            times: RunTimes {
                running_s: row.integer(2),
                steady_from_s: row.integer(3),
                seen_ns: row.integer(4),
            },
        });
        false
    })?;
    Ok(last)
}

/// Ends the runs that never ended, and records what the last one lost.
fn close_runs(
    raw: &mut Connection,
    start: &Start,
    mark: Option<&mark::Reached>,
) -> Result<Vec<Unclean>, Error> {
    let operation = "end the last run in";
    let mut lost = None;
    if let Some(mark) = mark {
        let ids = missing(raw, mark, start.boot_id.as_deref())?;
        lost = ids.map(|ids| (mark.run, (*ids.start(), *ids.end())));
    }
    let mut unclean = Vec::new();
    raw.rows(operation, schema::OPEN_RUNS, |row| {
        let run = row.integer(0);
        unclean.push(Unclean {
            run,
            committed: row.integer(1),
            lost: lost.filter(|(of, _)| *of == run).map(|(_, ids)| ids),
        });
        true
    })?;
    let close = raw.prepare(schema::CLOSE_OPEN_RUNS)?;
    let end = [SqlValue::Integer(start.now_ns), SqlValue::Text(UNCLEAN)];
    raw.run(operation, close, &end.map(Some))?;
    if let Some((run, (from_id, to_id))) = lost {
        let note = raw.prepare(schema::LOSE_READINGS)?;
        let numbers = [run, from_id, to_id].map(|n| Some(SqlValue::Integer(n)));
        raw.run(operation, note, &numbers)?;
    }
    Ok(unclean)
}

/// Gives the device a new id where the file was recorded on another machine before, or is a backup: both may go on
/// recording, or have gone on since, and (`device`, `run`, `id`) has to name one reading. Returns the id, and the one before if it changed.
fn device_here(
    raw: &mut Connection,
    device: String,
    machine: &Machine,
) -> Result<(String, Option<String>), Error> {
    let before = raw.answer("read", schema::GET_MACHINE)?;
    let is_copy = before.starts_with(COPY);
    let before = Machine::parse(&before);
    let is_another = is_copy || machine.is_another_than(&before);
    let machine = match is_another {
        true => machine.clone(),
        false => machine.with_names_of(&before),
    };
    if !is_another && machine == before {
        return Ok((device, None));
    }
    let id = match is_another {
        true => random_id(raw)?,
        false => device.clone(),
    };
    set_device(raw, schema::SET_DEVICE, &id, &machine)?;
    Ok((id, is_another.then_some(device)))
}

fn set_device(raw: &mut Connection, sql: &CStr, id: &str, machine: &Machine) -> Result<(), Error> {
    let statement = raw.prepare(sql)?;
    let machine = machine.text();
    let values = [id, &machine].map(|text| Some(SqlValue::Text(text)));
    raw.run("name the device of", statement, &values)
}

fn random_id(raw: &Connection) -> Result<String, Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|e| {
        let code = ffi::SQLITE_ERROR;
        Error::new("name the device of", raw.path(), code, e.to_string())
    })?;
    Ok(bits.iter().map(|byte| format!("{byte:02x}")).collect())
}

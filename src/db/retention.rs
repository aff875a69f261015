//! Retention: readings go from the old end, in steps, and the ledger says of each run how many went.
//!
//! A step is one transaction that takes the readings, their share of each run's fingerprint, and their
//! spans, so that `check` holds at every moment. Ids are never given again. What the file has freed is used
//! again by the next readings; only `bring_down` makes it shorter. Called by the writer between commits.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::raw::{Access, Connection};
use super::spans::{self, Tail};
use super::{Db, Error, Statements, Sync, ffi, pragma, schema};
use crate::ledger;
use crate::options::CheckpointMode;
use crate::place;
use crate::reading::{Kind, Value};

/// Readings that one step takes at most. It holds up a commit for some milliseconds.
pub const STEP_READINGS: i64 = 4096;
/// Series of which the fingerprint is remembered from step to step.
const SERIES_KNOWN_MAX: usize = 8192;
/// Frames after which the WAL is copied while a file is brought down.
const FRAMES_BETWEEN_CHECKPOINTS: u32 = 1000;

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

/// How a file that was too long was made shorter.
#[derive(Debug)]
pub enum BroughtDown {
    /// It was not too long.
    Unneeded,
    Done {
        expired: i64,
    },
    /// Readings went, but the file keeps its length, for this reason, until the next start.
    NotShortened {
        expired: i64,
        reason: String,
    },
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
                kind.map_or(0, |kind| ledger::series(&sensor, &field, kind))
            });
            // Where the file is damaged the sum will not match, and `check` says so.
            if let (Some(share), Some(value)) = (shares.get_mut(current), row.value(3)) {
                let gone = ledger::fingerprint(id, row.integer(1), series, value);
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

    /// Drops readings until no more than `pages_max` pages are used, and if the file is longer than that,
    /// makes it as short as its content: nothing that SQLite does in place can, in a file that was not made
    /// for it, and one that is costs a tenth more bytes written to the -wal. So the file is copied beside
    /// itself and takes its own place. Not while recording: it takes as long as it takes.
    pub fn bring_down(
        &mut self,
        pages_max: u64,
        wal_autocheckpoint: u32,
        should_end: &dyn Fn() -> bool,
    ) -> Result<BroughtDown, Error> {
        if self.pages()?.all <= pages_max {
            return Ok(BroughtDown::Unneeded);
        }
        let mut expired = 0;
        while self.pages()?.used() > pages_max && !should_end() {
            let step = self.expire(Surplus::Oldest)?;
            expired += step.readings;
            if self.wal_frames() > FRAMES_BETWEEN_CHECKPOINTS {
                self.checkpoint(CheckpointMode::Passive, Duration::ZERO)?;
            }
            if !step.more {
                break;
            }
        }
        let not = |expired, reason: String| Ok(BroughtDown::NotShortened { expired, reason });
        if should_end() {
            return not(expired, "it was asked to stop".into());
        }
        let done = self.checkpoint(CheckpointMode::Truncate, Duration::ZERO)?;
        if !done.is_complete() || !self.leave_wal()? {
            self.raw.set_busy_timeout(self.busy_timeout);
            return not(expired, "another process has it open".into());
        }
        let path = self.raw.path().to_owned();
        let copied = self.copy_over(&path);
        if copied.is_ok() {
            let raw = Connection::open(&path, Access::ReadWrite)?;
            self.raw = raw;
        }
        // After an error it is the old file, which is as it was but for its mode.
        pragma::set_all(&mut self.raw, self.busy_timeout, wal_autocheckpoint)?;
        self.raw.count_frames();
        self.statements = Statements::prepare(&mut self.raw)?;
        self.sync = Some(Sync::Full);
        // The first look makes the -wal, which has to be there from here on.
        self.oldest()?;
        match copied {
            Ok(()) => Ok(BroughtDown::Done { expired }),
            Err(e) => not(expired, e.to_string()),
        }
    }

    /// Puts a copy of its content in the place of the file.
    fn copy_over(&mut self, path: &Path) -> Result<(), Error> {
        let operation = "make a shorter copy of";
        let copy = beside(path);
        let failed = |e: io::Error| Error {
            errno: e.raw_os_error().unwrap_or(0),
            ..Error::new(operation, path, ffi::SQLITE_CANTOPEN, "it is given up")
        };
        remove(&copy).map_err(failed)?;
        // SQLite gives some names a meaning of their own; none of them begins with a dot.
        let name = Path::new(".").join(&copy);
        let name = name.to_str().ok_or_else(|| {
            let message = "its path is not UTF-8";
            Error::new(operation, path, ffi::SQLITE_CANTOPEN, message)
        })?;
        let copying = self.raw.prepare(schema::COPY_INTO)?;
        let made = self
            .raw
            .run(operation, copying, &[Some(Value::Text(name))])
            .and_then(|()| put_in_place(&copy, path).map_err(failed));
        if made.is_err() {
            let _ = remove(&copy);
        }
        made
    }
}

/// Where the copy is made. One that a kill has left is made anew.
fn beside(db: &Path) -> PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push(".shorter");
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Gives the copy the owner and mode of the file and its name, with its lock taken before it has that.
fn put_in_place(copy: &Path, path: &Path) -> io::Result<()> {
    let old = fs::metadata(path)?;
    let file = File::open(copy)?;
    file.set_permissions(old.permissions())?;
    // Only root may give files away, and then the owner is this user already.
    let _ = chown(copy, Some(old.uid()), Some(old.gid()));
    file.sync_all()?;
    if !crate::sys::try_lock(&file)? {
        return Err(io::Error::from(io::ErrorKind::WouldBlock));
    }
    // Held until the process ends, as that of the old file is.
    std::mem::forget(file);
    fs::rename(copy, path)?;
    File::open(place::folder_of(path))?.sync_all()
}

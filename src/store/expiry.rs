//! Retention: readings go from the old end, in steps, and the ledger says of each run how many went.
//!
//! A step is one transaction that takes the readings, their share of each run's fingerprint, and their
//! spans, so that `check` holds at every moment. Ids are never given again. What the file has freed is used
//! again by the next readings; only `bring_down` makes it shorter. Called by the writer between commits.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::spans::{self, Tail};
use super::{Class, Db, Error, Statements, Sync, ffi, schema};
use crate::db::checkpoint::CheckpointMode;
use crate::db::pragma;
use crate::db::raw::{Access, Connection};
use crate::place::{self, Lock};
use crate::reading::fingerprint;
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

    /// Drops readings until no more than `pages_max` pages are used, and if the file is longer than that,
    /// makes it as short as its content: nothing that SQLite does in place can, in a file that was not made
    /// for it, and one that is costs a tenth more bytes written to the -wal. So the file is copied beside
    /// itself and takes its own place. Not while recording: it takes as long as it takes.
    ///
    /// After an error nothing may be recorded with this `Db`.
    pub fn bring_down(&mut self, task: &mut BringDown) -> Result<BroughtDown, Error> {
        if self.pages()?.all <= task.pages_max {
            return Ok(BroughtDown::Unneeded);
        }
        let mut expired = 0;
        let readied = self
            .expire_down(task, &mut expired)
            .and_then(|()| self.ready_for_copy(task));
        match readied {
            Ok(None) => {}
            Ok(Some(reason)) => return Ok(BroughtDown::NotShortened { expired, reason }),
            Err(e) if e.class() == Class::Retry => {
                let reason = e.to_string();
                return Ok(BroughtDown::NotShortened { expired, reason });
            }
            Err(e) => return Err(e),
        }
        // Before anything is changed: without it nothing could be said of what the disk has.
        let path = self.raw.path().to_owned();
        let folder = match File::open(place::folder_of(&path)) {
            Ok(folder) => folder,
            Err(e) => {
                let reason = format!("cannot open the folder of {}: {e}", path.display());
                return Ok(BroughtDown::NotShortened { expired, reason });
            }
        };
        let copied = match self.leave_wal()? {
            true => self.copy_over(&path, &folder, task),
            // It may be half out of it, as SQLite sees it.
            false => Err(Error::busy(COPY, &path)),
        };
        if let Err(e) = &copied
            && e.class() == Class::Damaged
        {
            return Err(e.clone());
        }
        // From here on the file at the place counts, whichever of the two it is.
        let synced = copied.as_ref().map_or(Ok(()), |()| folder.sync_all());
        self.open_anew(&path, task)?;
        // Nothing has the old file open any more.
        task.lock.keep_last();
        synced.map_err(|e| Error {
            errno: e.raw_os_error().unwrap_or(0),
            ..Error::new(
                "put in its place the shorter",
                &path,
                ffi::SQLITE_IOERR_DIR_FSYNC,
                "the folder cannot be synced",
            )
        })?;
        Ok(match copied {
            Ok(()) => BroughtDown::Done { expired },
            Err(e) => BroughtDown::NotShortened {
                expired,
                reason: match e.code & 0xff {
                    ffi::SQLITE_BUSY => OPEN_ELSEWHERE.into(),
                    ffi::SQLITE_INTERRUPT => ASKED_TO_STOP.into(),
                    _ => e.to_string(),
                },
            },
        })
    }

    fn expire_down(&mut self, task: &BringDown, expired: &mut i64) -> Result<(), Error> {
        while self.pages()?.used() > task.pages_max && !(task.should_end)() {
            let step = self.expire(Surplus::Oldest)?;
            *expired += step.readings;
            if self.wal_frames() > FRAMES_BETWEEN_CHECKPOINTS {
                self.checkpoint(CheckpointMode::Passive, Duration::ZERO)?;
            }
            if !step.more {
                break;
            }
        }
        Ok(())
    }

    /// Gives what is in the way of a copy.
    fn ready_for_copy(&mut self, task: &BringDown) -> Result<Option<String>, Error> {
        if (task.should_end)() {
            return Ok(Some(ASKED_TO_STOP.into()));
        }
        let done = self.checkpoint(CheckpointMode::Truncate, Duration::ZERO)?;
        if !done.is_complete() {
            return Ok(Some(OPEN_ELSEWHERE.into()));
        }
        let bytes = self.pages()?.used() * self.page_bytes;
        let free_bytes = place::free_bytes(self.raw.path());
        let has_room = free_bytes.is_none_or(|f| f.saturating_sub(task.min_free_bytes) >= bytes);
        Ok((!has_room).then(|| {
            format!(
                "a shorter copy needs {bytes} bytes beside it, and of the {} that are free --min-free keeps {}",
                free_bytes.unwrap_or(0),
                task.min_free_bytes
            )
        }))
    }

    /// Goes on with the file that has the name now, in WAL mode, however long that is in another's hands.
    fn open_anew(&mut self, path: &Path, task: &mut BringDown) -> Result<(), Error> {
        loop {
            let opened = Connection::open(path, Access::ReadWrite).and_then(|mut raw| {
                pragma::set_all(&mut raw, self.busy_timeout, task.wal_autocheckpoint)?;
                raw.count_frames();
                let statements = Statements::prepare(&mut raw)?;
                // The first look makes the -wal, which has to be there from here on.
                raw.rows("find the oldest reading of", schema::OLDEST, |_| false)?;
                Ok((raw, statements))
            });
            match opened {
                Ok((raw, statements)) => {
                    self.raw = raw;
                    self.statements = statements;
                    self.sync = Some(Sync::Full);
                    return Ok(());
                }
                Err(e) if e.class() == Class::Retry && (task.wait)(&e) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Puts a copy of its content in the place of the file. After an error it is the file that it was.
    fn copy_over(&mut self, path: &Path, folder: &File, task: &mut BringDown) -> Result<(), Error> {
        let copy = beside(path);
        let failed = |e: io::Error| Error {
            errno: e.raw_os_error().unwrap_or(0),
            ..Error::new(COPY, path, ffi::SQLITE_CANTOPEN, "it is given up")
        };
        // SQLite gives some names a meaning of their own; none of them begins with a dot.
        let name = Path::new(".").join(&copy);
        let name = name.to_str().ok_or_else(|| {
            let message = "its path is not UTF-8";
            Error::new(COPY, path, ffi::SQLITE_CANTOPEN, message)
        })?;
        let made = make_empty(&copy, path).map_err(failed).and_then(|()| {
            let copying = self.raw.prepare(schema::COPY_INTO)?;
            let name = [Some(Value::Text(name))];
            self.raw.run_unless(COPY, copying, &name, task.should_end)?;
            put_in_place(&copy, path, folder, task.lock).map_err(failed)
        });
        if made.is_err() {
            let _ = remove_copy(path);
        }
        made
    }
}

const COPY: &str = "make a shorter copy of";
const OPEN_ELSEWHERE: &str = "another process has it open";
const ASKED_TO_STOP: &str = "it was asked to stop";

/// What it takes to bring a file down.
pub struct BringDown<'a> {
    pub pages_max: u64,
    pub wal_autocheckpoint: u32,
    /// Not to be used for a copy.
    pub min_free_bytes: u64,
    /// Of the file; that of the copy comes to it.
    pub lock: &'a mut Lock,
    pub should_end: &'a (dyn Fn() -> bool + std::marker::Sync),
    /// Waits between tries; false when there shall be no further.
    pub wait: &'a mut dyn FnMut(&Error) -> bool,
}

/// Where the copy is made.
fn beside(db: &Path) -> PathBuf {
    place::with_end(db, ".shorter")
}

/// Removes what a kill has left of a copy. Under the recorder's lock.
pub fn remove_copy(db: &Path) -> io::Result<()> {
    let copy = beside(db);
    for path in [place::with_end(&copy, "-journal"), copy] {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Makes an empty file with the owner and the mode of another, or none.
fn make_empty(copy: &Path, path: &Path) -> io::Result<()> {
    remove_copy(path)?;
    let old = fs::metadata(path)?;
    let file = File::options().write(true).create_new(true).open(copy)?;
    let wanted = |file: &fs::Metadata| (file.uid(), file.gid(), file.mode());
    let made = file.metadata()?;
    if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
        // Only root may give files away.
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.set_permissions(old.permissions())?;
    if wanted(&file.metadata()?) != wanted(&old) {
        let reason = "it would not have the owner and the mode of the file";
        return Err(io::Error::other(reason));
    }
    Ok(())
}

/// Gives the copy the name of the file, with its lock taken before it has that.
fn put_in_place(copy: &Path, path: &Path, folder: &File, lock: &mut Lock) -> io::Result<()> {
    let file = File::open(copy)?;
    file.sync_all()?;
    if !crate::sys::try_lock(&file)? {
        return Err(io::Error::from(io::ErrorKind::WouldBlock));
    }
    // A power cut must not bring the old -wal back beside the new file.
    folder.sync_all()?;
    fs::rename(copy, path)?;
    lock.add(file);
    Ok(())
}

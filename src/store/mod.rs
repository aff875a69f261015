//! The database: all of SQL, pragmas and checkpoints, behind methods that say what they promise.
//!
//! One `Db` is one connection with one owner. A commit is whole or not there; only `commit` makes a
//! `Committed`, which is what an ack is made of. Called by the writer thread; `audit` and `checkpoint`
//! serve the commands of these names.

pub mod ack;
mod backup;
mod check;
mod clients;
mod expiry;
mod insert;
mod read;
mod runs;
mod schema;
mod spans;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::c_int;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use libsqlite3_sys as ffi;

pub use crate::db::checkpoint::{Checkpoint, wal_bytes, wal_frames_of};
pub use crate::db::pragma::{PAGE_BYTES, Sync, WAL_BYTES_KEPT};
pub use crate::db::raw::version;
pub use crate::db::{Class, Error};
pub use backup::{HEADER_BYTES, Snapshot, is_seawall};
pub use check::{Audit, audit};
pub use expiry::{OldestSpan, Pages, Surplus};
pub use read::{Names, Position, Reader, Reading, Times, look_before_reading};

use crate::db::Value;
use crate::db::checkpoint::{CheckpointMode, checkpoint};
use crate::db::raw::{Access, Connection, Statement};
use crate::db::{Cause, error, pragma};
use crate::place;
use crate::place::mark;
use crate::reading::{Batch, Counts, Mark};
use crate::sys;
use insert::KnownSeries;
use spans::Tail;

/// Proof that everything in a batch is in a transaction that returned OK. Nothing else can make one:
///
/// ```compile_fail,E0451
/// let early = seawall::store::Committed { marks: Vec::new(), resumes: Vec::new() };
/// ```
#[derive(Debug)]
pub struct Committed {
    marks: Vec<Mark>,
    resumes: Vec<Mark>,
}

impl Committed {
    /// How far the streams are settled.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// How far the clients have come that the batch said hello for.
    pub fn resumes(&self) -> &[Mark] {
        &self.resumes
    }
}

/// A run that never ended, found at the next start.
#[derive(Clone, Copy, Debug)]
pub struct Unclean {
    pub run: i64,
    pub committed: i64,
    /// First and last id that were committed and are gone.
    pub lost: Option<(i64, i64)>,
}

/// `runs.reason` of one that was killed.
const UNCLEAN: &str = "unclean";
/// `runs.reason` of one that was killed and lost readings since.
const LOST: &str = "lost";

/// Where and when a run starts.
#[derive(Clone, Debug)]
pub struct Start {
    pub now_ns: i64,
    pub boot_id: Option<String>,
    pub boot_ns: i64,
}

struct Statements {
    begin: Statement,
    commit: Statement,
    insert_reading: Statement,
    insert_readings: Statement,
    add_span: Statement,
    find_series: Statement,
    add_series: Statement,
    add_clock_step: Statement,
    set_client: Statement,
    get_client: Statement,
    count_run: Statement,
    end_run: Statement,
    drop_readings: Statement,
    drop_clock_steps: Statement,
    drop_span: Statement,
    expire_runs: Statement,
    drop_clients: Statement,
    count_spans: Statement,
    page_count: Statement,
    freelist_count: Statement,
}

impl Statements {
    fn prepare(raw: &mut Connection) -> Result<Self, Error> {
        raw.offer_rows(schema::BATCH_COLUMNS)?;
        Ok(Statements {
            begin: raw.prepare(schema::BEGIN)?,
            commit: raw.prepare(schema::COMMIT)?,
            insert_reading: raw.prepare(schema::INSERT_READING)?,
            insert_readings: raw.prepare(schema::INSERT_READINGS)?,
            add_span: raw.prepare(schema::ADD_SPAN)?,
            find_series: raw.prepare(schema::FIND_SERIES)?,
            add_series: raw.prepare(schema::ADD_SERIES)?,
            add_clock_step: raw.prepare(schema::ADD_CLOCK_STEP)?,
            set_client: raw.prepare(schema::SET_CLIENT)?,
            get_client: raw.prepare(schema::GET_CLIENT)?,
            count_run: raw.prepare(schema::COUNT_RUN)?,
            end_run: raw.prepare(schema::END_RUN)?,
            drop_readings: raw.prepare(schema::DROP_READINGS)?,
            drop_clock_steps: raw.prepare(schema::DROP_CLOCK_STEPS)?,
            drop_span: raw.prepare(schema::DROP_SPAN)?,
            expire_runs: raw.prepare(schema::EXPIRE_RUNS)?,
            drop_clients: raw.prepare(schema::DROP_CLIENTS)?,
            count_spans: raw.prepare(schema::COUNT_SPANS)?,
            page_count: raw.prepare(schema::PAGE_COUNT)?,
            freelist_count: raw.prepare(schema::FREELIST_COUNT)?,
        })
    }
}

/// A seawall database, open for recording, with a run of its own.
///
/// It may move between threads, but two threads cannot share it without a lock:
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<seawall::store::Db>();
/// ```
pub struct Db {
    raw: Connection,
    statements: Statements,
    busy_timeout: Duration,
    page_bytes: u64,
    /// Unknown after a pragma that failed.
    sync: Option<Sync>,
    device: String,
    unclean: Vec<Unclean>,
    run: i64,
    next_id: i64,
    committed: i64,
    counts: Counts,
    checkpoints: i64,
    tail: Tail,
    /// By slot.
    series: Vec<KnownSeries>,
}

impl Db {
    /// Opens the file, which may be empty, closes the runs that never ended, and starts a new one, whose
    /// row is on the disk when this returns. `mark` says how far the run before had come.
    pub fn open(
        path: &Path,
        busy_timeout: Duration,
        wal_autocheckpoint: u32,
        start: &Start,
        mark: Option<&mark::Progress>,
    ) -> Result<Self, Error> {
        look_for_room(path, 0)?;
        look_for_inodes(path)?;
        let mut raw = Connection::open(path, Access::ReadWrite)?;
        raw.set_busy_timeout(busy_timeout);
        // Before anything is written: the file may be somebody else's.
        let is_new = match identify(&mut raw) {
            Ok(is_new) => is_new,
            Err(e) => return Err(raw.leave_as_found(e)),
        };
        if !is_new {
            look_where_written(&mut raw)?;
        }
        pragma::set_all(&mut raw, busy_timeout, wal_autocheckpoint)?;
        raw.count_frames();

        raw.execute("lock", schema::BEGIN)?;
        let begun = begin_run(&mut raw, is_new, start, mark).and_then(|begun| {
            // Within the transaction: after it nothing may fail, or the run would be there twice.
            let statements = Statements::prepare(&mut raw)?;
            raw.execute("commit to", schema::COMMIT)?;
            Ok((begun, statements))
        });
        let (begun, statements) = match begun {
            Ok(begun) => begun,
            Err(e) => {
                // Where this fails too, SQLite has rolled back already.
                let _ = raw.execute("roll back", schema::ROLLBACK);
                return Err(e);
            }
        };
        let mut db = Db {
            raw,
            statements,
            busy_timeout,
            page_bytes: begun.page_bytes,
            sync: Some(Sync::Full),
            device: begun.device,
            unclean: begun.unclean,
            run: begun.run,
            next_id: begun.next_id,
            committed: 0,
            counts: Counts::default(),
            checkpoints: 0,
            tail: begun.tail,
            series: Vec::new(),
        };
        db.bring_in_start()?;
        Ok(db)
    }

    /// 128 random bits in hex.
    pub fn device(&self) -> &str {
        &self.device
    }

    pub fn run(&self) -> i64 {
        self.run
    }

    /// The runs that were found unfinished at the start.
    pub fn unclean(&self) -> &[Unclean] {
        &self.unclean
    }

    /// Readings of this run in the file.
    pub fn committed(&self) -> i64 {
        self.committed
    }

    /// `PAGE_BYTES`, unless somebody has made the file anew with other pages.
    pub fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// Frames in the WAL after the last commit.
    pub fn wal_frames(&self) -> u32 {
        self.raw.wal_frames()
    }

    /// Id of the newest reading that was ever committed.
    pub fn newest_id(&self) -> i64 {
        self.next_id - 1
    }

    /// Brings the run's row into the database file, so that it is known there should the -wal get lost. What
    /// stands in the way is in the way of that alone.
    fn bring_in_start(&mut self) -> Result<(), Error> {
        let done = self.checkpoint(CheckpointMode::Passive, Duration::ZERO);
        // It is not among those that the row counts.
        self.checkpoints = 0;
        match done {
            Err(e) if e.class() != Class::Retry => Err(e),
            _ => Ok(()),
        }
    }

    /// Commits the batch whole, or leaves the database as it was and the batch to be tried again.
    pub fn commit(&mut self, batch: &Batch, sync: Sync) -> Result<Committed, Error> {
        if !batch.has_data() {
            // Only marks: all that they stand on was committed before.
            return Ok(Committed {
                marks: batch.marks().to_vec(),
                resumes: self.resumes(batch)?,
            });
        }
        self.synchronous(sync)?;
        // A slot may be given to another series within the batch; should the commit fail, the next try
        // has to begin with the meaning that it had before.
        let known = (!batch.definitions().is_empty()).then(|| self.series.clone());
        let result = self.transaction(|db| {
            let tail = db.insert(batch)?;
            let mut counts = db.counts;
            counts.add(batch.counts);
            let committed = db.committed + batch.rows().len() as i64;
            db.write_counts(committed, counts, tail.fingerprint())?;
            db.settle_clients(batch)?;
            let resumes = db.resumes(batch)?;
            Ok((committed, counts, tail, resumes))
        });
        match result {
            Ok((committed, counts, tail, resumes)) => {
                self.next_id += batch.rows().len() as i64;
                self.committed = committed;
                self.counts = counts;
                self.tail = tail;
                Ok(Committed {
                    marks: batch.marks().to_vec(),
                    resumes,
                })
            }
            Err(e) => {
                if let Some(series) = known {
                    self.series = series;
                }
                Err(e)
            }
        }
    }

    /// A commit failed and will be tried again; the run's row will say so.
    pub fn count_error(&mut self) {
        self.counts.errors += 1;
    }

    /// Ends the run in its row, synced.
    pub fn end_run(&mut self, now_ns: i64, reason: &str) -> Result<(), Error> {
        // The last words of a run are not kept out by `--max-size`.
        self.set_pages_max(u64::MAX)?;
        self.synchronous(Sync::Full)?;
        self.transaction(|db| {
            db.write_counts(db.committed, db.counts, db.tail.fingerprint())?;
            db.raw.run(
                "end the run in",
                db.statements.end_run,
                &[
                    Some(Value::Integer(db.run)),
                    Some(Value::Integer(now_ns)),
                    Some(Value::Text(reason)),
                ],
            )
        })
    }

    /// One checkpoint, which waits no longer than `patience` for readers. Frames that had to stay are an
    /// answer and no error.
    pub fn checkpoint(
        &mut self,
        mode: CheckpointMode,
        patience: Duration,
    ) -> Result<Checkpoint, Error> {
        self.raw.set_busy_timeout(patience);
        let done = checkpoint(&mut self.raw, mode);
        self.raw.set_busy_timeout(self.busy_timeout);
        self.checkpoints += i64::from(done.is_ok());
        done
    }

    /// What the run's row says, and its log.
    pub fn ledger(&self) -> (i64, Counts, i64) {
        (self.committed, self.counts, self.checkpoints)
    }

    /// Takes the file out of WAL mode, so that it is one file; false where another process has it open.
    /// Only after a complete checkpoint.
    pub fn leave_wal(&mut self) -> Result<bool, Error> {
        self.raw.set_busy_timeout(Duration::ZERO);
        let path = self.raw.path().to_owned();
        let left = pragma::leave_wal(&mut self.raw)?;
        // SQLite does not look whether it could delete it.
        if left && place::paths::wal_of(&path).exists() {
            let code = ffi::SQLITE_IOERR_DELETE;
            return Err(Error::new(
                "delete the -wal of",
                &path,
                code,
                "it is still there",
            ));
        }
        Ok(left)
    }

    pub fn close(self) -> Result<(), Error> {
        self.raw.close()
    }

    fn synchronous(&mut self, sync: Sync) -> Result<(), Error> {
        if self.sync != Some(sync) {
            self.sync = None;
            pragma::set_synchronous(&mut self.raw, sync)?;
            self.sync = Some(sync);
        }
        Ok(())
    }

    /// Runs `work` in a transaction. After an error the database is as it was before.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.raw.run("lock", self.statements.begin, &[])?;
        let result = work(self).and_then(|value| {
            self.raw
                .run("commit to", self.statements.commit, &[])
                .map(|()| value)
        });
        // Some errors make SQLite roll back by itself.
        if result.is_err() && !self.raw.is_autocommit() {
            let _ = self.raw.execute("roll back", schema::ROLLBACK);
        }
        result
    }

    fn write_counts(
        &mut self,
        committed: i64,
        counts: Counts,
        tail_fingerprint: u64,
    ) -> Result<(), Error> {
        let numbers = [
            self.run,
            committed,
            counts.dropped as i64,
            counts.rejected as i64,
            counts.errors as i64,
            self.checkpoints,
            tail_fingerprint as i64,
        ]
        .map(|n| Some(Value::Integer(n)));
        self.raw
            .run("count the run in", self.statements.count_run, &numbers)
    }
}

/// Whether the file is new; an error if it is not seawall's, or of a layout that this version cannot know.
fn identify(raw: &mut Connection) -> Result<bool, Error> {
    let operation = "read";
    let mut ask = || {
        // In this order: the recorder that makes a new file gives it all three at once, so that what is not
        // empty has the other two.
        let is_empty = raw.answer(operation, schema::IS_EMPTY)? == "1";
        let application = raw.answer(operation, schema::GET_APPLICATION_ID)?;
        let layout = raw.answer(operation, schema::GET_LAYOUT)?;
        Ok((is_empty, application, layout))
    };
    let (mut is_empty, mut application, mut layout) = ask()?;
    if is_empty && (&*application, &*layout) != ("0", "0") {
        // It was made between two of the questions.
        (is_empty, application, layout) = ask()?;
    }
    if is_empty && application == "0" && layout == "0" {
        return Ok(true);
    }
    if application != schema::APPLICATION_ID.to_string() {
        return Err(Error::new(
            "use",
            raw.path(),
            Cause::NotSeawall,
            format!("it is not a seawall database (application_id {application})"),
        ));
    }
    if layout != schema::LAYOUT.to_string() {
        let is_newer = layout
            .parse::<i64>()
            .is_ok_and(|layout| layout > schema::LAYOUT);
        return Err(Error::new(
            "use",
            raw.path(),
            if is_newer {
                Cause::NewerLayout
            } else {
                Cause::NotSeawall
            },
            if layout == "1" {
                "it was written by an unreleased version of seawall (layout 1), which this one does not read; record to a new file".to_owned()
            } else {
                format!(
                    "its layout is version {layout}, this seawall knows version {}",
                    schema::LAYOUT
                )
            },
        ));
    }
    Ok(false)
}

/// Damage where the recorder will write is an error, found before the first write. The rest of the file is
/// `check`'s to look at: a start has to be quick.
fn look_where_written(raw: &mut Connection) -> Result<(), Error> {
    let operation = "use";
    for sql in schema::LOOK_WHERE_WRITTEN {
        let found = raw.answer(operation, sql)?;
        if found != "ok" {
            let code = code_in(&found).unwrap_or(ffi::SQLITE_CORRUPT);
            return Err(Error::new(operation, raw.path(), code, found));
        }
    }
    raw.answer(operation, schema::NEXT_ID)?;
    raw.answer(operation, schema::LIST_TAIL)?;
    raw.answer(operation, schema::GET_DEVICE).map(drop)
}

/// SQLite's check tells of a page that it could not read, for an I/O error or for want of memory, in the
/// same words as of a damaged one, and only the number in them differs. Of a page that a long text goes on
/// in, it tells no number: one that is damaged has other words.
fn code_in(finding: &str) -> Option<c_int> {
    if finding.contains("failed to get page") {
        return Some(ffi::SQLITE_NOMEM);
    }
    let (_, tail) = finding.split_once("error code")?;
    let digits = tail.trim_start_matches(['=', ' ']);
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().ok()
}

struct Begun {
    page_bytes: u64,
    device: String,
    unclean: Vec<Unclean>,
    run: i64,
    next_id: i64,
    tail: Tail,
}

/// Leaves more ids than any device gives.
const NEXT_ID_AT_MOST: i64 = i64::MAX / 2;

/// Within a transaction: makes the tables of a new file, closes the runs that never ended, begins a run.
fn begin_run(
    raw: &mut Connection,
    is_new: bool,
    start: &Start,
    mark: Option<&mark::Progress>,
) -> Result<Begun, Error> {
    let operation = "begin a run in";
    // Two that start on a new file at once: the lock has settled who makes the tables.
    if is_new && identify(raw)? {
        raw.execute("make the tables of", schema::CREATE)?;
        let id = random_id().map_err(|e| {
            Error::new(
                "name the device of",
                raw.path(),
                ffi::SQLITE_ERROR,
                e.to_string(),
            )
        })?;
        let add = raw.prepare(schema::ADD_DEVICE)?;
        raw.run(operation, add, &[Some(Value::Text(&id))])?;
    }
    let device = raw.answer(operation, schema::GET_DEVICE)?;
    let page_bytes = pragma::page_bytes(raw)?;
    let mut next_id = 1;
    raw.rows(operation, schema::NEXT_ID, |row| {
        next_id = row.integer(0);
        false
    })?;
    if next_id > NEXT_ID_AT_MOST {
        // Nobody recorded so many: with no ids left, readings would be acknowledged and not be there.
        let message = format!("the next reading would get the id {next_id}");
        return Err(error::corrupt(operation, raw.path(), message));
    }
    let unclean = close_runs(raw, start, &device, next_id, mark)?;
    let tail = spans::find_tail(raw, next_id)?;
    let add = raw.prepare(schema::ADD_RUN)?;
    let run = raw
        .query(
            operation,
            add,
            &[
                Some(Value::Integer(start.now_ns)),
                start.boot_id.as_deref().map(Value::Text),
                Some(Value::Integer(start.boot_ns)),
                Some(Value::Integer(next_id)),
                Some(Value::Integer(tail.fingerprint() as i64)),
            ],
        )?
        .ok_or_else(|| Error::new(operation, raw.path(), ffi::SQLITE_ERROR, "no id returned"))?;
    Ok(Begun {
        device,
        unclean,
        run,
        next_id,
        tail,
        page_bytes,
    })
}

/// Ends the runs that never ended, and notes what is missing of the last one.
fn close_runs(
    raw: &mut Connection,
    start: &Start,
    device: &str,
    next_id: i64,
    mark: Option<&mark::Progress>,
) -> Result<Vec<Unclean>, Error> {
    let operation = "end the last run in";
    let mut last_run = None;
    raw.rows(operation, schema::LAST_RUN, |row| {
        last_run = Some(row.integer(0));
        false
    })?;
    let boot_id = start.boot_id.as_deref();
    let lost = last_run
        .zip(mark)
        .and_then(|(run, mark)| Some((run, mark.missing(device, run, next_id, boot_id)?)))
        .map(|(run, ids)| (run, (*ids.start(), *ids.end())));
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
    let end = [Value::Integer(start.now_ns), Value::Text(UNCLEAN)];
    raw.run(operation, close, &end.map(Some))?;
    if let Some((run, (from_id, to_id))) = lost {
        let note = raw.prepare(schema::LOSE_READINGS)?;
        let numbers = [run, from_id, to_id].map(|n| Some(Value::Integer(n)));
        raw.run(operation, note, &numbers)?;
    }
    Ok(unclean)
}

/// An error when less than `keep_free_bytes` is free, or so little that SQLite's shared memory could end the
/// process: SQLite makes sure of one block for each 4096 bytes of the -shm, and where blocks are smaller,
/// writing to the others through the map is a SIGBUS when the disk is full.
pub fn look_for_room(path: &Path, keep_free_bytes: u64) -> Result<(), Error> {
    const SHM_PAGE_BYTES: u64 = 4096;
    /// The -shm of a WAL of 16,000 frames, the least that is kept free.
    const SHM_BYTES: u64 = 128 * 1024;
    /// The -shm has 32 KiB for each 4096 frames; a page has 512 bytes or more.
    const WAL_BYTES_PER_SHM_BYTE: u64 = 64;
    let Ok(disk) = sys::filesystem(&place::paths::folder_of(path)) else {
        // SQLite's own calls tell better of a disk that cannot be asked.
        return Ok(());
    };
    let for_shm = if disk.block_bytes < SHM_PAGE_BYTES {
        // A longer -wal, as a reader or `--wal-autocheckpoint 0` leaves behind, needs more when it is recovered.
        let wal_bytes = std::fs::metadata(place::paths::wal_of(path)).map_or(0, |file| file.len());
        let there = std::fs::metadata(place::paths::with_end(path, "-shm"))
            .map_or(0, |file| file.blocks() * 512);
        SHM_BYTES.max((wal_bytes / WAL_BYTES_PER_SHM_BYTE).saturating_sub(there))
    } else {
        0
    };
    let keep = keep_free_bytes.max(for_shm);
    if disk.free_bytes < keep {
        return Err(Error::little_room(path, disk.free_bytes, keep));
    }
    Ok(())
}

/// An error when the -wal cannot be made for want of an inode: SQLite's own says only that it cannot open.
fn look_for_inodes(path: &Path) -> Result<(), Error> {
    match sys::filesystem(&place::paths::folder_of(path)) {
        Ok(disk) if disk.is_out_of_inodes && !place::paths::wal_of(path).exists() => {
            Err(Error::no_inodes(path))
        }
        _ => Ok(()),
    }
}

fn random_id() -> Result<String, getrandom::Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)?;
    Ok(bits.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// One checkpoint of a file that others may be recording into. A file that nobody else has open is left
/// complete by itself when nothing remains in its WAL.
pub fn checkpoint_file(
    path: &Path,
    mode: CheckpointMode,
    busy_timeout: Duration,
) -> Result<Checkpoint, Error> {
    // A link may lead out of the folder that the -wal is in.
    let path = &place::paths::follow_links(path);
    read::look_before_reading(path)?;
    let is_recorded = place::lock::is_recorded(path);
    let mut raw = Connection::open(path, Access::ReadWrite)?;
    raw.set_busy_timeout(busy_timeout);
    match identify(&mut raw) {
        Ok(false) => {}
        Ok(true) => {
            return Err(Error::new(
                "checkpoint",
                path,
                Cause::NotSeawall,
                "it is empty",
            ));
        }
        Err(e) => return Err(raw.leave_as_found(e)),
    }
    pragma::set_synchronous(&mut raw, Sync::Full)?;
    let done = checkpoint(&mut raw, mode)?;
    if done.is_complete() {
        raw.set_busy_timeout(Duration::ZERO);
        if pragma::leave_wal(&mut raw)? && !is_recorded {
            remove_mark_of_ended_run(&mut raw)?;
        }
    }
    raw.close()?;
    Ok(done)
}

/// Removes the mark that a stop with status 3 has left, now that the file is complete by itself. The mark of a run
/// that has no end stays: the next start may find by it that readings are lost.
fn remove_mark_of_ended_run(raw: &mut Connection) -> Result<(), Error> {
    let path = raw.path().to_owned();
    let Some(progress) = mark::read(&path) else {
        return Ok(());
    };
    let mut is_over = false;
    raw.rows("read", schema::LAST_RUN, |row| {
        is_over = row.integer(0) == progress.run && row.integer(1) == 0;
        false
    })?;
    if is_over && raw.answer("read", schema::GET_DEVICE)? == progress.device {
        // Nothing depends on it: the file has all that the mark says.
        let _ = mark::remove(&path);
    }
    Ok(())
}

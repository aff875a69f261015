//! The recorder's connection: it opens the file with a run of its own, commits, checkpoints and closes.

use std::path::Path;
use std::time::Duration;

use libsqlite3_sys as ffi;

use super::age::{Age, Moment};
use super::identify::{identify, look_at_header, look_where_written};
use super::objects;
use super::repeats::Repeats;
use super::room::{look_for_inodes, look_for_room};
use super::schema;
use super::spans::Tail;
use super::start::{Start, Unclean, begin_run};
use super::values::KnownSeries;
use crate::db::checkpoint::{Checkpoint, CheckpointMode, checkpoint, wal_bytes};
use crate::db::pragma::{self, Durability};
use crate::db::raw::{Access, Connection, Statement};
use crate::db::{Class, Error, SqlValue, transaction};
use crate::place::identity::Expected;
use crate::place::{self, mark};
use crate::reading::{Batch, Counts, Resumed, StreamMark};
use crate::sys;

/// Proof that everything in a batch is in a transaction that returned OK. Nothing else can make one:
///
/// ```compile_fail,E0451
/// let early = seawall::store::Committed { marks: Vec::new(), resumes: Vec::new() };
/// ```
#[derive(Debug)]
pub struct Committed {
    marks: Vec<StreamMark>,
    resumes: Vec<Resumed>,
}

impl Committed {
    /// Settled lines of the streams.
    pub fn marks(&self) -> &[StreamMark] {
        &self.marks
    }

    /// Settled lines of the clients that the batch asked for.
    pub fn resumes(&self) -> &[Resumed] {
        &self.resumes
    }
}

pub(super) struct WriteStatements {
    pub(super) begin: Statement,
    pub(super) commit: Statement,
    pub(super) insert_reading: Statement,
    pub(super) insert_readings: Statement,
    pub(super) add_span: Statement,
    pub(super) find_series: Statement,
    pub(super) add_series: Statement,
    pub(super) add_clock_step: Statement,
    pub(super) set_client: Statement,
    pub(super) get_client: Statement,
    pub(super) count_run: Statement,
    pub(super) end_run: Statement,
    pub(super) drop_readings: Statement,
    pub(super) drop_clock_steps: Statement,
    pub(super) drop_span: Statement,
    pub(super) expire_runs: Statement,
    pub(super) drop_clients: Statement,
    pub(super) count_spans: Statement,
    pub(super) page_count: Statement,
    pub(super) freelist_count: Statement,
    pub(super) schema_version: Statement,
}

impl WriteStatements {
    fn prepare(raw: &mut Connection) -> Result<Self, Error> {
        raw.offer_rows(schema::BATCH_COLUMNS)?;
        Ok(WriteStatements {
            begin: raw.prepare(transaction::BEGIN_WRITE)?,
            commit: raw.prepare(transaction::COMMIT)?,
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
            page_count: raw.prepare(transaction::PAGE_COUNT)?,
            freelist_count: raw.prepare(transaction::FREELIST_COUNT)?,
            schema_version: raw.prepare(schema::SCHEMA_VERSION)?,
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
    pub(super) raw: Connection,
    pub(super) statements: WriteStatements,
    pub(super) busy_timeout: Duration,
    pub(super) page_bytes: u64,
    /// `None` after a pragma that failed.
    pub(super) durability: Option<Durability>,
    pub(super) device: String,
    pub(super) device_before: Option<String>,
    pub(super) unclean: Vec<Unclean>,
    pub(super) run: i64,
    pub(super) next_id: i64,
    /// Newest id that is synced.
    pub(super) synced_id: i64,
    pub(super) committed: i64,
    pub(super) repeated: i64,
    /// Only where a source may send readings again.
    pub(super) repeats: Option<Repeats>,
    pub(super) counts: Counts,
    pub(super) checkpoints: i64,
    pub(super) tail: Tail,
    pub(super) age: Age,
    /// Version of the schema that was compared with the layout.
    pub(super) schema_version: Option<i64>,
    /// By slot.
    pub(super) series: Vec<KnownSeries>,
}

impl Db {
    /// Opens the file, which may be empty, closes the runs that never ended, and starts a new one, whose
    /// row is on the disk when this returns. `mark` is that of the run before.
    pub fn open(
        path: &Path,
        busy_timeout: Duration,
        wal_autocheckpoint: u32,
        start: &Start,
        mark: Option<&mark::Reached>,
    ) -> Result<Self, Error> {
        look_for_room(path, 0)?;
        look_for_inodes(path)?;
        look_at_header(path)?;
        let mut raw = Connection::open(path, Access::ReadWrite)?;
        raw.set_busy_timeout(busy_timeout);
        // Before anything is written: the file may be somebody else's.
        let is_new = match identify(&mut raw) {
            Ok(is_new) => is_new,
            Err(e) => return Err(raw.leave_as_found(e)),
        };
        if !is_new {
            let compared =
                objects::compare(&mut raw).and_then(|objects| objects.require_for_recording(&raw));
            if let Err(e) = compared {
                return Err(raw.leave_as_found(e));
            }
            look_where_written(&mut raw)?;
        }
        pragma::set_all(&mut raw, busy_timeout, wal_autocheckpoint)?;
        raw.count_frames();

        raw.execute("lock", transaction::BEGIN_WRITE)?;
        let begun = begin_run(&mut raw, is_new, start, mark).and_then(|begun| {
            // Within the transaction: after it nothing may fail, or the run would be there twice.
            let statements = WriteStatements::prepare(&mut raw)?;
            let mut repeats = None;
            if start.may_repeat {
                let repeats = repeats.insert(Repeats::prepare(&mut raw)?);
                repeats.fill(&mut raw, begun.next_id)?;
            }
            raw.execute("commit to", transaction::COMMIT)?;
            Ok((begun, statements, repeats))
        });
        let (begun, statements, repeats) = match begun {
            Ok(begun) => begun,
            Err(e) => {
                // If this fails too, SQLite has rolled back already.
                let _ = raw.execute("roll back", transaction::ROLLBACK);
                return Err(e);
            }
        };
        let mut db = Db {
            raw,
            statements,
            busy_timeout,
            page_bytes: begun.page_bytes,
            durability: Some(Durability::Full),
            device: begun.device,
            device_before: begun.device_before,
            unclean: begun.unclean,
            run: begun.run,
            next_id: begun.next_id,
            synced_id: begun.next_id - 1,
            committed: 0,
            repeated: 0,
            repeats,
            counts: Counts::default(),
            checkpoints: 0,
            tail: begun.tail,
            age: begun.age,
            schema_version: None,
            series: Vec::new(),
        };
        db.bring_in_start()?;
        Ok(db)
    }

    /// Looks at the clocks, before each commit and step of retention. Passed in, so that a test can be the clock.
    pub fn tick(&mut self, now: Moment) {
        self.age.tick(now);
    }

    /// 128 random bits in hex.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The id that the device had before this start, on another machine.
    pub fn device_before(&self) -> Option<&str> {
        self.device_before.as_deref()
    }

    /// Whether it has sensors that are not simulated. Errors that may pass are ignored, as the run has begun: another
    /// try would begin another.
    pub fn has_sensors_beside_sim(&mut self) -> Result<bool, Error> {
        match self.raw.answer("read", schema::HAS_OTHERS_THAN_SIM) {
            Err(e) if e.class() == Class::Retry => Ok(false),
            answer => Ok(answer? == "1"),
        }
    }

    pub fn run(&self) -> i64 {
        self.run
    }

    /// The runs that were found unfinished at the start.
    pub fn unclean(&self) -> &[Unclean] {
        &self.unclean
    }

    /// Readings committed by this run.
    pub fn committed(&self) -> i64 {
        self.committed
    }

    /// Readings that were sent to this run again, and not stored again.
    pub fn repeated(&self) -> i64 {
        self.repeated
    }

    /// `PAGE_BYTES`, unless somebody rebuilt the file with other pages.
    pub fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// Frames in the WAL after the last commit.
    pub fn wal_frames(&self) -> u32 {
        self.raw.wal_frames()
    }

    /// Expected sizes of the files if so many frames are in the WAL.
    pub fn expected_files(&self, wal_frames: u32) -> Expected {
        let wal_bytes = match wal_frames {
            0 => 0,
            frames => wal_bytes(frames, self.page_bytes),
        };
        Expected {
            page_bytes: self.page_bytes,
            wal_bytes,
        }
    }

    /// Id of the newest reading that was ever committed.
    pub fn newest_id(&self) -> i64 {
        self.next_id - 1
    }

    /// Id of the newest reading that a commit at FULL has synced, or the start.
    pub fn synced_id(&self) -> i64 {
        self.synced_id
    }

    /// Copies the run's row into the database file, so that it is there if the -wal gets lost. Errors
    /// that may pass are ignored.
    fn bring_in_start(&mut self) -> Result<(), Error> {
        let done = self.checkpoint(CheckpointMode::Passive, Duration::ZERO);
        // The row does not count this checkpoint.
        self.checkpoints = 0;
        match done {
            Err(e) if e.class() != Class::Retry => Err(e),
            _ => Ok(()),
        }
    }

    /// Commits the batch whole, or leaves the database as it was, so that the batch can be retried.
    pub fn commit(&mut self, batch: &Batch, durability: Durability) -> Result<Committed, Error> {
        let is_full = durability == Durability::Full;
        let syncs_earlier = is_full && self.synced_id < self.newest_id();
        if !batch.has_data() && !syncs_earlier {
            // Only marks: their readings were committed before, and synced if they have to be.
            return Ok(Committed {
                marks: batch.marks().to_vec(),
                resumes: self.resumes(batch)?,
            });
        }
        self.synchronous(durability)?;
        // A slot may change its series within the batch. If the commit fails, the next try
        // has to begin with the series that it had before.
        let known = (!batch.definitions().is_empty()).then(|| self.series.clone());
        let result = self.transaction(|db| {
            let (tail, next_id) = db.insert(batch)?;
            let mut counts = db.counts;
            counts.add(batch.counts);
            let inserted = next_id - db.next_id;
            let committed = db.committed + inserted;
            let repeated = db.repeated + batch.rows().len() as i64 - inserted;
            if !batch.has_data() {
                // A row that stays as it was leaves no page to write, and then SQLite does not sync either.
                db.write_counts(committed, repeated, counts, !tail.fingerprint())?;
            }
            db.write_counts(committed, repeated, counts, tail.fingerprint())?;
            db.settle_clients(batch)?;
            let resumes = db.resumes(batch)?;
            Ok((next_id, committed, repeated, counts, tail, resumes))
        });
        match result {
            Ok((next_id, committed, repeated, counts, tail, resumes)) => {
                self.next_id = next_id;
                if is_full {
                    self.synced_id = self.newest_id();
                }
                self.committed = committed;
                self.repeated = repeated;
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
                if let Some(repeats) = &mut self.repeats {
                    repeats.forget();
                }
                Err(e)
            }
        }
    }

    /// Counts a commit that failed and will be retried, in the run's row.
    pub fn count_error(&mut self) {
        self.counts.errors += 1;
    }

    /// Ends the run in its row, synced.
    pub fn end_run(&mut self, now_ns: i64, reason: &str) -> Result<(), Error> {
        // The end of a run is recorded whatever `--max-size` says.
        self.set_pages_max(u64::MAX)?;
        self.synchronous(Durability::Full)?;
        self.transaction(|db| {
            db.write_counts(db.committed, db.repeated, db.counts, db.tail.fingerprint())?;
            db.raw.run(
                "end the run in",
                db.statements.end_run,
                &[
                    Some(SqlValue::Integer(db.run)),
                    Some(SqlValue::Integer(now_ns)),
                    Some(SqlValue::Text(reason)),
                ],
            )
        })
    }

    /// One checkpoint, which waits no longer than `patience` for readers. Frames that had to stay are a
    /// result and no error.
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

    /// Counters of the run's row besides its readings, and its checkpoints.
    pub fn ledger(&self) -> (Counts, i64) {
        (self.counts, self.checkpoints)
    }

    /// Takes the file out of WAL mode, so that it is one file; false where another process has it open.
    /// Only after a complete checkpoint.
    pub fn leave_wal(&mut self) -> Result<bool, Error> {
        self.raw.set_busy_timeout(Duration::ZERO);
        let path = self.raw.path().to_owned();
        let left = pragma::leave_wal(&mut self.raw)?;
        // SQLite does not check that it could delete the -wal.
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

    pub(super) fn synchronous(&mut self, durability: Durability) -> Result<(), Error> {
        if self.durability != Some(durability) {
            self.durability = None;
            pragma::set_synchronous(&mut self.raw, durability)?;
            self.durability = Some(durability);
        }
        Ok(())
    }

    /// Runs `work` in a transaction. After an error the database is as it was before.
    pub(super) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.raw.run("lock", self.statements.begin, &[])?;
        let result = work(self).and_then(|value| {
            self.raw
                .run("commit to", self.statements.commit, &[])
                .map(|()| value)
        });
        // SQLite rolls back by itself after some errors.
        if result.is_err() && !self.raw.is_autocommit() {
            let _ = self.raw.execute("roll back", transaction::ROLLBACK);
        }
        result
    }

    pub(super) fn write_counts(
        &mut self,
        committed: i64,
        repeated: i64,
        counts: Counts,
        tail_fingerprint: u64,
    ) -> Result<(), Error> {
        let times = self.age.times();
        let numbers = [
            self.run,
            committed,
            counts.dropped as i64,
            counts.rejected as i64,
            counts.errors as i64,
            self.checkpoints,
            tail_fingerprint as i64,
            times.running_s,
            times.steady_from_s,
            times.seen_ns,
            repeated,
            // None where it is not known.
            sys::written_bytes().map_or(-1, |bytes| bytes as i64),
        ]
        .map(|n| Some(SqlValue::Integer(n)));
        self.raw
            .run("count the run in", self.statements.count_run, &numbers)
    }
}

//! The writer: the thread that owns the database, from opening to closing it.
//!
//! Commits batches of the queue, checkpoints, and reports its progress to the recorder. Retries after an error
//! that may pass, with the batch in hand; after any other error it commits and syncs nothing more.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::db::checkpoint::CheckpointMode;
use crate::log;
use crate::place::filesystem::free_bytes;
use crate::place::identity::{Identity, Look};
use crate::place::lock::{Lock, who_writes};
use crate::place::mark::Mark;
use crate::place::set_aside;
use crate::reading::Batch;
use crate::record::expiry::{Retention, SizeLimit};
use crate::record::progress::Exchange;
use crate::record::queue::{Order, Queue};
use crate::record::retry::{Pin, Retry, Threshold};
use crate::record::settings::{RecordSettings, Synchronous};
use crate::source::listener::SocketFile;
use crate::store::ack::{Ack, Resume};
use crate::store::{self, Checkpoint, Class, Committed, Db, Durability, Error, Moment, Start};
use crate::sys::Clock;

/// Interval at which an idle writer checks that its files are still there, and every writer what `status` reports.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// Pause where a look at the files was kept from its end.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub struct Writer {
    pub path: PathBuf,
    pub settings: RecordSettings,
    pub start: Start,
    pub queue: Arc<Queue>,
    pub exchange: Arc<Exchange>,
    /// Both clocks, by which readings expire.
    pub clock: Box<dyn Fn() -> Moment + Send>,
    pub lock: RefCell<Lock>,
    pub socket_files: Vec<SocketFile>,
}

/// Work between commits.
struct Tending {
    threshold: Threshold,
    pin: Pin,
    retention: Retention,
    next_look: Instant,
}

impl Writer {
    /// The whole life of the thread.
    pub fn run(self) {
        self.exchange.progress().cpu = Some(Clock::of_this_thread());
        let end = self.open().and_then(|mut db| {
            // After an error `db` is only dropped, which syncs nothing: a sync that failed is not
            // retried.
            let mut mark = self.start_mark(&db);
            self.record(&mut db, &mut mark)?;
            let wal_frames = self.finish(&mut db)?;
            self.close(db, wal_frames)
        });
        if let Err(e) = end {
            self.exchange.mail().failure = Some(e);
        }
        self.exchange.bell.ring();
    }

    /// Updates what `status` reports of the disk.
    fn look_around(&self) {
        let free_bytes = free_bytes(&self.path);
        let was_set_aside = self.exchange.progress().set_aside;
        // Only a start sets one aside.
        let set_aside = if was_set_aside > 0 {
            set_aside::still_aside(&self.path).count
        } else {
            0
        };
        let mut progress = self.exchange.progress();
        progress.free_bytes = free_bytes;
        progress.set_aside = set_aside;
        drop(progress);
        self.look_at_sockets();
    }

    /// Clients still connected go on; nobody else reaches a socket whose file is gone.
    fn look_at_sockets(&self) {
        let lost = self.socket_files.iter().filter(|file| file.is_lost());
        let lost: Vec<String> = lost.map(|file| file.path().display().to_string()).collect();
        if self.queue.stopping().is_some() {
            // It removes them itself.
            return;
        }
        let mut progress = self.exchange.progress();
        for path in lost.iter().filter(|p| !progress.lost_sockets.contains(p)) {
            let reason = "its file was taken away or replaced, and no client reaches it: start seawall again";
            log::warn("socket-gone", &[("path", path), ("reason", &reason)]);
        }
        progress.lost_sockets = lost;
    }

    /// Commits and checkpoints until a stop.
    fn record(&self, db: &mut Db, mark: &mut Option<Mark>) -> Result<(), Error> {
        let mut batch = Batch::default();
        let mut tending = Tending {
            threshold: Threshold::new(self.checkpoint_frames(db.page_bytes())),
            pin: Pin::default(),
            retention: Retention::new(
                self.settings.retain,
                SizeLimit::of(&self.settings, db.page_bytes()),
            ),
            next_look: Instant::now(),
        };
        tending.retention.begin(db)?;
        let mut identity = Identity::of(&self.path).map_err(|_| Error::files_gone(&self.path))?;
        let period = self.settings.checkpoint_interval;
        let mut next_checkpoint = period.map(|p| Instant::now() + p);
        let mut is_surplus_left = false;
        loop {
            let now = Instant::now();
            let next_look = if is_surplus_left {
                now
            } else {
                now + LOOK_PERIOD
            };
            let wake = next_checkpoint.map_or(next_look, |at| at.min(next_look));
            self.exchange.idle();
            let order = self.queue.next(&mut batch, Some(wake));
            self.exchange.busy();
            match order {
                Order::Commit => {
                    let committed = self.commit(db, &batch, &mut tending)?;
                    // Before the commit is acknowledged.
                    self.look_at_files(db, &mut identity)?;
                    self.advance(mark, db);
                    self.settle(db, &mut batch, &committed);
                    is_surplus_left = self.tend(db, &mut tending)?;
                }
                Order::Checkpoint => {
                    let pin = &mut tending.pin;
                    self.checkpoint(db, CheckpointMode::Passive, "signal", pin)?;
                }
                Order::Woken => {
                    self.look_at_files(db, &mut identity)?;
                    is_surplus_left = self.tend(db, &mut tending)?;
                    let now = Instant::now();
                    if next_checkpoint.is_none_or(|at| at > now) {
                        continue;
                    }
                    // An idle recorder leaves the disk alone.
                    if self.exchange.progress().wal_frames > 0 {
                        let (mode, pin) = (self.settings.checkpoint_mode, &mut tending.pin);
                        self.checkpoint(db, mode, "interval", pin)?;
                    }
                    next_checkpoint = period.map(|p| Instant::now() + p);
                }
                Order::Finish => {
                    tending.retention.tell_rest();
                    return Ok(());
                }
            }
        }
    }

    /// An error if a file was taken away or overwritten since: what is committed is not in it.
    fn look_at_files(&self, db: &mut Db, identity: &mut Identity) -> Result<(), Error> {
        let mut frames = db.wal_frames();
        loop {
            let expected = db.expected_files(frames);
            let mut failed = None;
            let look = identity.look(expected, &mut || match db.pages() {
                Ok(pages) => Some(pages.all),
                Err(e) => {
                    failed = Some(e).filter(|e| e.class() != Class::Retry);
                    None
                }
            });
            if let Some(e) = failed {
                return Err(e);
            }
            match look {
                Look::Sound => return Ok(()),
                Look::Lost(path) => return Err(Error::files_gone(path)),
                Look::ShortWal => {}
            }
            // A checkpoint tells how many frames there are, and fails where they are not in the file.
            match db.checkpoint(CheckpointMode::Passive, Duration::ZERO) {
                Ok(done) if done.log < frames => frames = done.log,
                Err(e) if e.class() == Class::Retry => std::thread::sleep(LOOK_AGAIN),
                _ => return Err(Error::files_gone(identity.wal())),
            }
        }
    }

    /// Growth of the WAL after which it is copied.
    fn checkpoint_frames(&self, page_bytes: u64) -> u32 {
        let frames = self.settings.wal_autocheckpoint;
        match SizeLimit::of(&self.settings, page_bytes) {
            Some(limit) => frames.min(store::wal_frames_of(limit.checkpoint_bytes(), page_bytes)),
            None => frames,
        }
    }

    /// After a commit and while idle: takes a step of retention, and copies the WAL if it has
    /// grown. Returns whether there are more steps.
    fn tend(&self, db: &mut Db, tending: &mut Tending) -> Result<bool, Error> {
        let now = (self.clock)();
        db.tick(now);
        if now.at >= tending.next_look {
            self.look_around();
            tending.next_look = now.at + LOOK_PERIOD;
        }
        let more = tending.retention.step(db, now.at)?;
        self.tell_expired(db, tending);
        if tending.threshold.reached(db.wal_frames()) {
            let pin = &mut tending.pin;
            self.checkpoint(db, CheckpointMode::Passive, "autocheckpoint", pin)?;
        }
        Ok(more)
    }

    fn tell_expired(&self, db: &Db, tending: &mut Tending) {
        let expired = std::mem::take(&mut tending.retention.expired);
        if expired > 0 {
            let mut progress = self.exchange.progress();
            progress.expired += expired as u64;
            progress.wal_frames = db.wal_frames();
            drop(progress);
            self.exchange.bell.ring();
        }
    }

    fn sync_of(&self, batch: &Batch) -> Durability {
        match self.settings.synchronous {
            Synchronous::Full => Durability::Full,
            Synchronous::Normal => Durability::Normal,
            Synchronous::Auto if batch.awaited => Durability::Full,
            Synchronous::Auto => Durability::Normal,
        }
    }

    /// Writes a commit to the mark. After an error the mark is given up.
    fn advance(&self, mark: &mut Option<Mark>, db: &Db) {
        if let Some(known) = mark
            && let Err(e) = known.advance(db.newest_id(), db.synced_id())
        {
            warn_of_mark(&e);
            *mark = None;
        }
    }

    /// Commits the batch; retries for as long as it takes.
    fn commit(
        &self,
        db: &mut Db,
        batch: &Batch,
        tending: &mut Tending,
    ) -> Result<Committed, Error> {
        let sync = self.sync_of(batch);
        let mut retry = Retry::begin();
        loop {
            db.tick((self.clock)());
            match self.leave_room().and_then(|()| db.commit(batch, sync)) {
                Ok(committed) => {
                    tending.retention.committed(db)?;
                    retry.over("commit-resumed");
                    return Ok(committed);
                }
                Err(e) if e.is_full() && self.make_room(db, batch, tending)? => {}
                Err(e) if e.class() == Class::Retry => {
                    db.count_error();
                    let e = self.name_writer(e);
                    self.exchange.trouble(&e);
                    retry.wait(&self.queue, "commit-waiting", &e);
                    self.look_around();
                    self.exchange.busy();
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Adds to an error who was in the way.
    pub(super) fn name_writer(&self, error: Error) -> Error {
        let by = error.is_busy().then(|| who_writes(&self.path)).flatten();
        match by {
            None => error,
            Some(by) => Error {
                message: format!("{} by {by}", error.message),
                ..error
            },
        }
    }

    /// Makes room where a commit met `--max-size`. Returns whether to retry at once.
    fn make_room(&self, db: &mut Db, batch: &Batch, tending: &mut Tending) -> Result<bool, Error> {
        let made = tending.retention.make_room(db, batch);
        self.tell_expired(db, tending);
        match made {
            // The commit itself waits that error out.
            Err(e) if e.class() == Class::Retry => Ok(false),
            other => other,
        }
    }

    /// An error when less than `--min-free` is free. The last commit may use that too.
    fn leave_room(&self) -> Result<(), Error> {
        let keep_free_bytes = if self.queue.stopping().is_some() {
            0
        } else {
            self.settings.min_free_bytes
        };
        store::look_for_room(&self.path, keep_free_bytes)
    }

    /// Logs and acknowledges a commit, and empties the batch.
    fn settle(&self, db: &Db, batch: &mut Batch, committed: &Committed) {
        let rows = db.committed() as u64 - self.exchange.progress().committed;
        let wal_frames = db.wal_frames();
        log::debug("commit", &[("rows", &rows), ("wal_frames", &wal_frames)]);
        batch.clear();
        let mut progress = self.exchange.progress();
        progress.committed = db.committed() as u64;
        progress.repeated = db.repeated() as u64;
        progress.last_commit = Some(Instant::now());
        progress.trouble = None;
        progress.wal_frames = db.wal_frames();
        let mut mail = self.exchange.mail();
        Ack::all(committed).for_each(|ack| mail.put_ack(ack));
        mail.resumes.extend(Resume::all(committed));
        // Under the lock of the progress, so that no batch counts as both committed and held.
        self.queue.done();
        self.exchange.bell.ring();
    }

    /// Checkpoints and logs it. A failure is logged; the next checkpoint comes at its time.
    fn checkpoint(
        &self,
        db: &mut Db,
        mode: CheckpointMode,
        cause: &str,
        pin: &mut Pin,
    ) -> Result<(), Error> {
        // Waiting for a reader here would hold up the commits.
        match db.checkpoint(mode, Duration::ZERO) {
            Ok(done) => {
                tell(&done, cause);
                pin.look(&done, db.page_bytes(), Instant::now());
                let mut progress = self.exchange.progress();
                progress.last_checkpoint = Some(Instant::now());
                progress.wal_frames = done.log - done.copied.min(done.log);
                Ok(())
            }
            Err(e) if e.class() == Class::Retry => {
                db.count_error();
                self.exchange.progress().errors += 1;
                log::warn("checkpoint-failed", &[("cause", &cause), ("error", &e)]);
                Ok(())
            }
            Err(e) => Err(e),
        }
    }
}

pub(super) fn tell(done: &Checkpoint, cause: &str) {
    log::info(
        "checkpoint",
        &[
            ("mode", &done.mode),
            ("cause", &cause),
            ("busy", &u8::from(done.busy)),
            ("log", &done.log),
            ("checkpointed", &done.copied),
            ("ms", &format_args!("{:.1}", done.took.as_secs_f64() * 1e3)),
        ],
    );
}

pub(super) fn warn_of_mark(error: &std::io::Error) {
    let reason = "recording goes on, but the next start cannot tell whether a -wal was lost";
    log::warn("no-mark", &[("error", error), ("reason", &reason)]);
}

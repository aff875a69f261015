//! The writer: the thread that owns the database, from opening to closing it.
//!
//! It commits what the queue gives, checkpoints, and tells the input thread how far it is. An error that
//! may pass is waited out with the batch in hand; after any other nothing is committed or synced again.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::db::checkpoint::CheckpointMode;
use crate::log;
use crate::place::filesystem::free_bytes;
use crate::place::foreign_wal::{self, Treatment};
use crate::place::identity::{Identity, inode};
use crate::place::lock::{Lock, lock};
use crate::place::mark::{self, Mark};
use crate::place::paths::wal_of;
use crate::place::set_aside;
use crate::place::set_aside::OnDamage;
use crate::reading::Batch;
use crate::record::expiry::{Retention, SizeLimit};
use crate::record::queue::{Order, Queue};
use crate::record::retry::{Pin, Retry, Threshold};
use crate::record::settings::{Settings, Synchronous};
use crate::record::stop::{Step, Stop};
use crate::store::ack::{Ack, Resume};
use crate::store::{self, Checkpoint, Class, Committed, Db, Error, Start, Sync};
use crate::sys::{self, Bell, Clock};

/// Between two tries of the stop's checkpoint.
const CHECKPOINT_AGAIN: Duration = Duration::from_millis(100);
/// How often an idle writer looks whether its files are still there.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// What keeps the writer from committing, and since when.
pub struct Trouble {
    pub since: Instant,
    pub reason: String,
    /// There is no room on the disk.
    pub is_full: bool,
}

/// What the writer tells the input thread.
#[derive(Default)]
pub struct News {
    pub step: Step,
    pub device: String,
    pub run: i64,
    /// Readings of this run in the file.
    pub committed: u64,
    /// Frames in the WAL that are still needed there.
    pub wal_frames: u32,
    pub page_bytes: u64,
    pub last_checkpoint: Option<Instant>,
    pub last_commit: Option<Instant>,
    /// Since when the writer has been at the disk without coming back.
    pub busy_since: Option<Instant>,
    pub trouble: Option<Trouble>,
    /// Commits and checkpoints that failed.
    pub errors: u64,
    /// Device and inode of the database.
    pub file: Option<(u64, u64)>,
    /// Databases that were set aside and are still there.
    pub set_aside: usize,
    pub free_bytes: Option<u64>,
    /// Readings that retention has dropped since the start.
    pub expired: u64,
    /// For want of room or memory the file is not one file yet, though nothing is left in the WAL.
    pub kept_wal: bool,
    /// Newest ack of each stream since the last look, by stream.
    pub acks: Vec<Ack>,
    /// Of the streams that said hello.
    pub resumes: Vec<Resume>,
    /// Why the writer gave up.
    pub failure: Option<Error>,
}

/// The writer's side of what both threads know.
pub struct Progress {
    news: Mutex<News>,
    /// Rings when there is something that the input thread waits for.
    pub bell: Bell,
}

impl Progress {
    pub fn new() -> std::io::Result<Self> {
        Ok(Progress {
            news: Mutex::default(),
            bell: Bell::new()?,
        })
    }

    pub fn look(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer turns to the disk.
    fn busy(&self) {
        self.look().busy_since = Some(Instant::now());
    }

    /// It has come back.
    fn idle(&self) {
        self.look().busy_since = None;
    }

    /// It has failed, and will try again.
    fn trouble(&self, error: &Error) {
        let mut news = self.look();
        news.busy_since = None;
        news.errors += 1;
        let since = news.trouble.as_ref().map_or_else(Instant::now, |t| t.since);
        news.trouble = Some(Trouble {
            since,
            reason: error.to_string(),
            is_full: error.is_full(),
        });
    }
}

pub struct Writer {
    pub path: PathBuf,
    pub settings: Settings,
    pub start: Start,
    pub queue: Arc<Queue>,
    pub progress: Arc<Progress>,
    /// The time of day, by which readings are old.
    pub clock_ns: Box<dyn Fn() -> i64 + Send>,
    pub lock: RefCell<Lock>,
}

/// What is looked after between commits.
struct Tending {
    threshold: Threshold,
    pin: Pin,
    retention: Retention,
}

impl Writer {
    /// The whole life of the thread.
    pub fn run(self) {
        let end = self.open().and_then(|mut db| {
            // After an error `db` is only dropped: that syncs nothing, so that a sync that failed is not
            // tried again.
            let mut mark = self.start_mark(&db);
            let stop = self.record(&mut db, &mut mark)?;
            let wal_frames = self.finish(&mut db, &stop)?;
            self.close(db, wal_frames)
        });
        if let Err(e) = end {
            self.progress.look().failure = Some(e);
        }
        self.progress.bell.ring();
    }

    fn open(&self) -> Result<Db, Error> {
        let settings = &self.settings;
        let mut retry = Retry::begin();
        let mut may_set_aside = settings.on_damage == OnDamage::SetAside;
        self.remove_foreign_wal()?;
        let mut mark = mark::read(&self.path);
        loop {
            self.progress.busy();
            let opened = Db::open(
                &self.path,
                settings.busy_timeout,
                settings.wal_autocheckpoint,
                &self.start,
                mark.as_ref(),
            )
            .and_then(|mut db| {
                retry.over("open-resumed");
                self.prepare_expiry(&mut db)?;
                Ok(db)
            });
            match opened {
                Ok(db) => {
                    let set_aside = self.tell_set_aside();
                    let file = inode(&self.path).ok();
                    let free_bytes = free_bytes(&self.path);
                    log_recovered(&db);
                    let mut news = self.progress.look();
                    news.step = Step::Record;
                    news.busy_since = None;
                    news.trouble = None;
                    news.set_aside = set_aside;
                    news.file = file;
                    news.free_bytes = free_bytes;
                    news.device = db.device().to_owned();
                    news.run = db.run();
                    news.wal_frames = db.wal_frames();
                    news.page_bytes = db.page_bytes();
                    drop(news);
                    self.progress.bell.ring();
                    return Ok(db);
                }
                // Nothing was accepted yet, so that a signal need not wait for the file.
                Err(e) if e.class() == Class::Retry && !self.queue.is_stopped_by_signal() => {
                    self.progress.trouble(&e);
                    retry.wait(&self.queue, "open-waiting", &e);
                }
                // Once: a new file that is damaged too means a device that cannot be recorded to.
                Err(e) if e.class() == Class::Damaged && std::mem::take(&mut may_set_aside) => {
                    self.set_aside(&e)?;
                    mark = None;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Finds damage where readings will be dropped, so that the start may set the file aside, and logs what
    /// `--max-size` cannot do.
    fn prepare_expiry(&self, db: &mut Db) -> Result<(), Error> {
        let settings = &self.settings;
        if settings.retain.is_some() || settings.max_size_bytes.is_some() {
            match db.try_expiry() {
                Err(e) if e.class() != Class::Retry => return Err(e),
                _ => {}
            }
        }
        let Some(limit) = SizeLimit::of(settings, db.page_bytes()) else {
            return Ok(());
        };
        if settings.wal_autocheckpoint == 0 {
            let reason = "with --wal-autocheckpoint 0 the -wal is another tool's to keep small";
            log::warn("max-size-without-wal", &[("reason", &reason)]);
        }
        let pages = db.pages()?.all;
        if pages > limit.pages_max {
            let reason = "the file is longer already and is not shortened: the oldest readings go and their pages are used again; to shrink it, stop the recorder and run: sqlite3 FILE VACUUM";
            log::warn(
                "over-max-size",
                &[("bytes", &(pages * db.page_bytes())), ("reason", &reason)],
            );
        }
        Ok(())
    }

    /// Takes a -wal away that is another database's, before SQLite replays it.
    fn remove_foreign_wal(&self) -> Result<(), Error> {
        let set_aside_failed = |e: std::io::Error| {
            Error::foreign_wal(&self.path, &format!("it cannot be set aside: {e}"))
        };
        // Where the look cannot be taken, SQLite's own calls tell better why.
        match foreign_wal::look(&self.path, store::is_seawall).unwrap_or(Treatment::Leave) {
            Treatment::Leave => {}
            Treatment::Remove => match std::fs::remove_file(wal_of(&self.path)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    let todo = format!("it cannot be removed: {e}");
                    return Err(Error::foreign_wal(&self.path, &todo));
                }
                _ => {}
            },
            Treatment::SetAside if self.settings.on_damage == OnDamage::Refuse => {
                return Err(Error::foreign_wal(&self.path, "take the -wal away"));
            }
            Treatment::SetAside => {
                let now_ns = sys::clock_ns(Clock::Real);
                let aside =
                    set_aside::set_wal_aside(&self.path, now_ns).map_err(set_aside_failed)?;
                let reason = "the database ended without a -wal; this one is another's, and would have ruined it";
                let path = wal_of(&aside);
                log::error(
                    "wal-foreign",
                    &[("path", &path.display()), ("reason", &reason)],
                );
            }
        }
        Ok(())
    }

    /// From here on the next start can tell how far this run came.
    fn start_mark(&self, db: &Db) -> Option<Mark> {
        let newest_id = db.newest_id();
        let progress = mark::Progress {
            device: db.device().to_owned(),
            run: db.run(),
            boot_id: self.start.boot_id.clone().unwrap_or_default(),
            committed: newest_id,
            synced: newest_id,
        };
        let mark = Mark::create(&self.path, progress);
        mark.inspect_err(warn_of_mark).ok()
    }

    /// Makes way for a new file, and takes its lock.
    fn set_aside(&self, damage: &Error) -> Result<(), Error> {
        log::error("database-damaged", &[("error", damage)]);
        let failed = |message: String| Error {
            message: format!("{}; and it cannot be set aside: {message}", damage.message),
            ..damage.clone()
        };
        set_aside::set_aside(&self.path, sys::clock_ns(Clock::Real))
            .map_err(|e| failed(e.to_string()))?;
        let lock = lock(&self.path).map_err(failed)?;
        self.lock.replace(lock);
        Ok(())
    }

    /// Says which databases were set aside and wait for somebody. Gives how many.
    fn tell_set_aside(&self) -> usize {
        let paths = set_aside::still_aside(&self.path);
        for path in &paths {
            log::error(
                "set-aside",
                &[
                    ("path", &path.display()),
                    (
                        "reason",
                        &"it was found damaged; take it away to end this message",
                    ),
                ],
            );
        }
        paths.len()
    }

    /// Looks at what the status tells of the disk.
    fn look_around(&self) {
        let free_bytes = free_bytes(&self.path);
        let was_set_aside = self.progress.look().set_aside;
        // Only a start sets one aside.
        let set_aside = if was_set_aside > 0 {
            set_aside::still_aside(&self.path).len()
        } else {
            0
        };
        let mut news = self.progress.look();
        news.free_bytes = free_bytes;
        news.set_aside = set_aside;
    }

    /// Commits and checkpoints until a stop.
    fn record(&self, db: &mut Db, mark: &mut Option<Mark>) -> Result<Stop, Error> {
        let mut batch = Batch::default();
        let mut tending = Tending {
            threshold: Threshold::new(self.checkpoint_frames(db.page_bytes())),
            pin: Pin::default(),
            retention: Retention::new(
                self.settings.retain,
                SizeLimit::of(&self.settings, db.page_bytes()),
            ),
        };
        tending.retention.set_cap(db)?;
        let identity = Identity::of(&self.path).map_err(|_| Error::files_gone(&self.path))?;
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
            self.progress.idle();
            let order = self.queue.next(&mut batch, Some(wake));
            self.progress.busy();
            match order {
                Order::Commit => {
                    let committed = self.commit(db, &batch, &mut tending)?;
                    // Before anybody is told of the commit.
                    identity
                        .missing()
                        .map_or(Ok(()), |path| Err(Error::files_gone(path)))?;
                    self.advance(mark, db, &batch);
                    self.settle(db, &mut batch, &committed);
                    is_surplus_left = self.tend(db, &mut tending)?;
                }
                Order::Checkpoint => {
                    let pin = &mut tending.pin;
                    self.checkpoint(db, CheckpointMode::Passive, "signal", pin)?;
                }
                Order::Woken => {
                    identity
                        .missing()
                        .map_or(Ok(()), |path| Err(Error::files_gone(path)))?;
                    self.look_around();
                    is_surplus_left = self.tend(db, &mut tending)?;
                    let now = Instant::now();
                    if next_checkpoint.is_none_or(|at| at > now) {
                        continue;
                    }
                    // An idle recorder leaves the disk alone.
                    if self.progress.look().wal_frames > 0 {
                        let (mode, pin) = (self.settings.checkpoint_mode, &mut tending.pin);
                        self.checkpoint(db, mode, "interval", pin)?;
                    }
                    next_checkpoint = period.map(|p| Instant::now() + p);
                }
                Order::Stop(stop) => {
                    tending.retention.tell_rest();
                    return Ok(stop);
                }
            }
        }
    }

    /// Frames by which the WAL grows before it is copied.
    fn checkpoint_frames(&self, page_bytes: u64) -> u32 {
        let frames = self.settings.wal_autocheckpoint;
        match SizeLimit::of(&self.settings, page_bytes) {
            Some(limit) => frames.min(store::wal_frames_of(limit.checkpoint_bytes(), page_bytes)),
            None => frames,
        }
    }

    /// After a commit and while there is none: takes a step of retention and copies the WAL if it has
    /// grown. Gives whether there are more steps to take.
    fn tend(&self, db: &mut Db, tending: &mut Tending) -> Result<bool, Error> {
        let more = tending.retention.step(db, (self.clock_ns)())?;
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
            let mut news = self.progress.look();
            news.expired += expired as u64;
            news.wal_frames = db.wal_frames();
            drop(news);
            self.progress.bell.ring();
        }
    }

    fn sync_of(&self, batch: &Batch) -> Sync {
        match self.settings.synchronous {
            Synchronous::Full => Sync::Full,
            Synchronous::Normal => Sync::Normal,
            Synchronous::Auto if batch.awaited => Sync::Full,
            Synchronous::Auto => Sync::Normal,
        }
    }

    /// Notes a commit in the mark. A mark that cannot be written any more is given up.
    fn advance(&self, mark: &mut Option<Mark>, db: &Db, batch: &Batch) {
        if !batch.has_data() {
            // No transaction, and so no sync of those before it.
            return;
        }
        let is_synced = self.sync_of(batch) == Sync::Full;
        if let Some(known) = mark
            && let Err(e) = known.advance(db.newest_id(), is_synced)
        {
            warn_of_mark(&e);
            *mark = None;
        }
    }

    /// Commits the batch, however long that takes.
    fn commit(
        &self,
        db: &mut Db,
        batch: &Batch,
        tending: &mut Tending,
    ) -> Result<Committed, Error> {
        let sync = self.sync_of(batch);
        let mut retry = Retry::begin();
        loop {
            match self.leave_room().and_then(|()| db.commit(batch, sync)) {
                Ok(committed) => {
                    tending.retention.committed(db)?;
                    retry.over("commit-resumed");
                    return Ok(committed);
                }
                Err(e) if e.is_full() && self.make_room(db, batch, tending)? => {}
                Err(e) if e.class() == Class::Retry => {
                    db.count_error();
                    self.progress.trouble(&e);
                    retry.wait(&self.queue, "commit-waiting", &e);
                    self.look_around();
                    self.progress.busy();
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Keeps `--max-size` where a commit met it. Returns whether it is worth another try at once.
    fn make_room(&self, db: &mut Db, batch: &Batch, tending: &mut Tending) -> Result<bool, Error> {
        let made = tending.retention.make_room(db, batch);
        self.tell_expired(db, tending);
        match made {
            // The commit itself waits for what is in the way.
            Err(e) if e.class() == Class::Retry => Ok(false),
            other => other,
        }
    }

    /// An error when the disk is as full as `--min-free` lets it be. What is kept is for the last commit.
    fn leave_room(&self) -> Result<(), Error> {
        let keep_free_bytes = if self.queue.is_stopping() {
            0
        } else {
            self.settings.min_free_bytes
        };
        store::look_for_room(&self.path, keep_free_bytes)
    }

    /// Tells of a commit, and empties the batch.
    fn settle(&self, db: &Db, batch: &mut Batch, committed: &Committed) {
        log::debug(
            "commit",
            &[
                ("rows", &batch.rows().len()),
                ("wal_frames", &db.wal_frames()),
            ],
        );
        batch.clear();
        let mut news = self.progress.look();
        news.committed = db.committed() as u64;
        news.last_commit = Some(Instant::now());
        news.trouble = None;
        news.wal_frames = db.wal_frames();
        for ack in Ack::all(committed) {
            let stream = ack.stream();
            match news.acks.binary_search_by_key(&stream, Ack::stream) {
                Ok(at) => news.acks[at] = ack,
                Err(at) => news.acks.insert(at, ack),
            }
        }
        news.resumes.extend(Resume::all(committed));
        // Under the same lock, so that a batch is never both committed and held.
        if self.queue.done() || !news.acks.is_empty() || !news.resumes.is_empty() {
            self.progress.bell.ring();
        }
    }

    /// One checkpoint, told in the log. One that could not be made is told and made again at its time.
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
                let mut news = self.progress.look();
                news.last_checkpoint = Some(Instant::now());
                news.wal_frames = done.log - done.copied.min(done.log);
                Ok(())
            }
            Err(e) if e.class() == Class::Retry => {
                db.count_error();
                self.progress.look().errors += 1;
                log::warn("checkpoint-failed", &[("cause", &cause), ("error", &e)]);
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Everything is committed: ends the run and brings the file together. Gives the frames that had to
    /// stay in the WAL.
    fn finish(&self, db: &mut Db, stop: &Stop) -> Result<u32, Error> {
        self.progress.look().step = Step::EndRun;
        let mut retry = Retry::begin();
        while let Err(e) = db.end_run(sys::clock_ns(Clock::Real), stop.reason.name()) {
            if e.class() != Class::Retry {
                return Err(e);
            }
            retry.wait(&self.queue, "commit-waiting", &e);
        }
        let (committed, counts, checkpoints) = db.ledger();
        log::info(
            "run",
            &[
                ("run", &db.run()),
                ("committed", &committed),
                ("dropped", &counts.dropped),
                ("rejected", &counts.rejected),
                ("errors", &counts.errors),
                ("checkpoints", &checkpoints),
            ],
        );
        let mut news = self.progress.look();
        news.step = Step::Checkpoint;
        news.wal_frames = db.wal_frames();
        drop(news);
        self.progress.bell.ring();

        let until = Instant::now() + stop.patience(Instant::now());
        // First without waiting for anybody, so that what can be copied is, whatever a reader does.
        let mut whole = self.last_checkpoint(db, CheckpointMode::Passive, Duration::ZERO)?;
        loop {
            let patience = until.saturating_duration_since(Instant::now());
            let done = self.last_checkpoint(db, CheckpointMode::Truncate, patience)?;
            whole = Checkpoint {
                log: whole.log.max(done.log),
                copied: whole.copied.max(done.copied),
                took: whole.took + done.took,
                ..done
            };
            let frames = if done.is_truncated() { 0 } else { whole.log };
            self.progress.look().wal_frames = frames;
            // SQLite waits for readers, but not for another process's checkpoint.
            if frames == 0 || Instant::now() >= until {
                tell(&whole, "stop");
                return Ok(frames);
            }
            std::thread::sleep(CHECKPOINT_AGAIN);
        }
    }

    /// One of the stop's checkpoints; one that found no room counts as one in which nothing was copied.
    fn last_checkpoint(
        &self,
        db: &mut Db,
        mode: CheckpointMode,
        patience: Duration,
    ) -> Result<Checkpoint, Error> {
        match db.checkpoint(mode, patience) {
            Err(e) if e.class() == Class::Retry => {
                log::warn("checkpoint-failed", &[("cause", &"stop"), ("error", &e)]);
                Ok(Checkpoint::not_made(mode, db.wal_frames()))
            }
            done => done,
        }
    }

    fn close(&self, mut db: Db, wal_frames: u32) -> Result<(), Error> {
        self.progress.look().step = Step::Close;
        let mut is_complete = wal_frames == 0;
        if is_complete {
            match db.leave_wal() {
                Ok(true) => {}
                Ok(false) => {
                    let reason = "another process has the file open";
                    log::info("kept-in-wal-mode", &[("reason", &reason)]);
                }
                // Not tried again: SQLite would take the mode for changed, whatever the file says.
                Err(e) if e.class() == Class::Retry => {
                    log::warn("kept-in-wal-mode", &[("reason", &e)]);
                    self.progress.look().kept_wal = true;
                    is_complete = false;
                }
                Err(e) => return Err(e),
            }
        }
        db.close()?;
        // Nothing is in the -wal alone any more. A mark that stays does no harm.
        if is_complete && let Err(e) = mark::remove(&self.path) {
            log::warn("mark-not-removed", &[("error", &e)]);
        }
        self.progress.look().step = Step::Closed;
        Ok(())
    }
}

fn warn_of_mark(error: &std::io::Error) {
    let reason = "recording goes on, but the next start cannot tell whether a -wal was lost";
    log::warn("no-mark", &[("error", error), ("reason", &reason)]);
}

/// Logs the runs that never ended, and what is missing of the last one.
fn log_recovered(db: &Db) {
    for run in db.unclean() {
        match run.lost {
            None => log::warn(
                "recovered",
                &[
                    ("run", &run.run),
                    ("reason", &"unclean"),
                    ("readings", &run.committed),
                ],
            ),
            Some((from_id, to_id)) => log::error(
                "recovered",
                &[
                    ("run", &run.run),
                    ("reason", &"lost"),
                    ("readings", &run.committed),
                    ("missing", &(to_id - from_id + 1)),
                    ("from_id", &from_id),
                    ("to_id", &to_id),
                    (
                        "advice",
                        &"they were committed and were in the -wal, which was taken away or damaged; it does not fit any more, do not bring it back",
                    ),
                ],
            ),
        }
    }
}

fn tell(done: &Checkpoint, cause: &str) {
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

//! The recorder's own writer, in this process, with the test in the place of the thread that takes
//! readings: it hands over batches, waits for what the writer tells, and stops it.
//!
//! Reading number n, from 0, has the time n * `STEP_NS` and the value that `value` gives it, so that a file can be
//! compared with what was sent without keeping it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use seawall::cli::{self, Invocation};
use seawall::log;
use seawall::reading::{Batch, Kind, Series, StreamMark, Value};
use seawall::record::outcome::Outcome;
use seawall::record::progress::{Exchange, Mail, Progress};
use seawall::record::queue::{Policy, Queue};
use seawall::record::settings::RecordSettings as Record;
use seawall::record::stop::{Step, Stop, StopReason};
use seawall::record::writer::Writer;
use seawall::source::answers::Answers;
use seawall::store::ack::Ack;
use seawall::store::{Error, Moment, Start};
use seawall::sys::{self, signals::Signal};

use super::sql::Sql;
use super::volume::{Note, Volume};

/// Far more than any step takes.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(4);

/// From one reading to the next.
pub const STEP_NS: i64 = 100_000_000;

const SENSOR: &str = "vfs,room=test";
pub const KINDS: [(&str, Kind); 3] = [
    ("whole", Kind::Integer),
    ("float", Kind::Float),
    ("text", Kind::String),
];

/// Which series reading n is of.
pub fn slot(n: u64) -> u32 {
    match n % 7 {
        0..3 => 0,
        3..6 => 1,
        _ => 2,
    }
}

pub enum Sent {
    Integer(i64),
    Real(f64),
    Text(String),
}

impl Sent {
    pub fn as_value(&self) -> Value<'_> {
        match self {
            Sent::Integer(v) => Value::Integer(*v),
            Sent::Real(v) => Value::Real(*v),
            Sent::Text(v) => Value::Text(v),
        }
    }

    fn as_sql(&self) -> Cow<'_, str> {
        match self {
            Sent::Integer(v) => v.to_string().into(),
            Sent::Real(v) => format!("{v:.1}").into(),
            Sent::Text(v) => v.into(),
        }
    }
}

pub fn value(n: u64) -> Sent {
    match slot(n) {
        0 => Sent::Integer(n as i64 * 1_000_003),
        1 => Sent::Real(n as f64 + 0.5),
        // Now and then longer than a page.
        _ if n % 35 == 6 => Sent::Text(format!("{n} ").repeat(1500)),
        _ => Sent::Text(format!("reading {n}")),
    }
}

pub fn series(slot: usize) -> Series {
    Series {
        sensor: SENSOR.into(),
        field: KINDS[slot].0.into(),
        kind: KINDS[slot].1,
    }
}

/// The settings that a command line gives; of what it does not say, the defaults.
pub fn settings(db: &Path, more: &[&str]) -> Record {
    let fixed = [
        "record",
        "--ack",
        "--commit-interval=0",
        "--checkpoint-interval=0",
        "--busy-timeout=0",
        "--stop-timeout=1h",
        "--min-free=0",
        "--log-level=error",
        "--db",
        db.to_str().unwrap(),
    ];
    let args = fixed.iter().chain(more).map(Into::into);
    match cli::parse(args, &|_| None) {
        Ok(Invocation::Record(record)) => record,
        other => panic!("{other:?}"),
    }
}

/// Makes the empty file, as the recorder's `place` does before SQLite is let near it.
pub fn place(volume: &Volume, db: &Path) {
    if !db.exists() {
        std::fs::File::create(db).unwrap();
        volume.opened(db, true);
    }
}

/// How a recording came to its end.
#[derive(Debug)]
pub struct End {
    pub failure: Option<Error>,
    pub step: Step,
    pub acked: u64,
    pub committed: u64,
    pub sent: u64,
    pub uncommitted: u64,
    pub wal_frames: u32,
    pub kept_wal: bool,
    /// The exit status that the recorder would leave with.
    pub status: u8,
}

/// What a wait ended with.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited {
    Done,
    /// The writer has given up.
    Failed,
    /// The writer has ended in peace before that.
    Over,
    /// Nothing happens: the writer waits before it tries again.
    Stuck,
}

/// What whoever drives several recordings sets for them.
#[derive(Clone, Default)]
pub struct Marks {
    /// The state that the file is in, by its own count.
    pub state: Arc<AtomicUsize>,
    /// The time of day, which is also the time for which recorders have run.
    pub clock_ns: Arc<AtomicI64>,
}

pub struct Recording {
    queue: Arc<Queue>,
    exchange: Arc<Exchange>,
    volume: Arc<Volume>,
    /// Calls that were made to fail so far.
    faults: Box<dyn Fn() -> u64>,
    /// None when it is over.
    thread: Option<JoinHandle<()>>,
    /// The first reading of this recording.
    first: Arc<AtomicU64>,
    next: u64,
    /// The oldest that may be sent again: it is in the file, or will be before that.
    pub oldest: u64,
    /// Readings that were sent again.
    repeats: u64,
    /// Readings that an ack was asked for.
    awaited: u64,
    sent: Arc<AtomicU64>,
    defined: bool,
}

fn lines_of(ack: Ack) -> u64 {
    let mut answers = Answers::default();
    answers.put(ack);
    let mut told = Vec::new();
    answers.flush(|bytes| {
        told.extend(bytes);
        Ok(bytes.len())
    });
    let told = String::from_utf8(told).unwrap();
    told.trim().strip_prefix("ack ").unwrap().parse().unwrap()
}

/// Readings acknowledged so far.
fn acked(mail: &Mail) -> u64 {
    mail.acks.last().map_or(0, |&ack| lines_of(ack))
}

impl Recording {
    /// Starts the writer's thread, of which no more is known than what it tells.
    pub fn of(volume: &Arc<Volume>, settings: Record, first: u64) -> Self {
        Self::start(volume, settings, first, Marks::default(), || {})
    }

    /// Starts the writer's thread; `first` readings were recorded before. `prepare` runs in that thread.
    pub fn start(
        volume: &Arc<Volume>,
        settings: Record,
        first: u64,
        Marks { state, clock_ns }: Marks,
        prepare: impl FnOnce() + Send + 'static,
    ) -> Self {
        log::set_level(settings.log_level);
        let policy = Policy {
            interval: settings.commit_interval,
            rows: settings.commit_rows,
        };
        let queue = Arc::new(Queue::new(settings.queue_rows, policy));
        let exchange = Arc::new(Exchange::new().unwrap());
        let sent = Arc::new(AtomicU64::new(first));
        let next = first;
        let first = Arc::new(AtomicU64::new(first));
        {
            let (exchange, first) = (exchange.clone(), first.clone());
            let (sent, state) = (sent.clone(), state.clone());
            volume.observe(move || {
                let news = exchange.progress();
                Note {
                    acked: acked(&exchange.mail()),
                    committed: first.load(Ordering::SeqCst) + news.committed,
                    sent: sent.load(Ordering::SeqCst),
                    state: state.load(Ordering::SeqCst),
                }
            });
        }
        let began = Instant::now();
        let writer = Writer {
            path: settings.db.clone(),
            settings,
            start: Start {
                now_ns: 1,
                boot_id: Some(volume.boot_id()),
                boot_ns: 2,
                machine: Default::default(),
                may_repeat: true,
            },
            queue: queue.clone(),
            exchange: exchange.clone(),
            clock: Box::new(move || {
                let clock_ns = clock_ns.load(Ordering::SeqCst);
                Moment {
                    at: began + Duration::from_nanos(clock_ns as u64),
                    clock_ns,
                    offset_ns: None,
                }
            }),
            lock: Default::default(),
            socket_files: Vec::new(),
        };
        let thread = std::thread::spawn(move || {
            prepare();
            writer.run();
        });
        Recording {
            queue,
            exchange,
            volume: volume.clone(),
            faults: {
                let volume = volume.clone();
                Box::new(move || volume.fired_count())
            },
            thread: Some(thread),
            first,
            next,
            oldest: next,
            repeats: 0,
            awaited: 0,
            sent,
            defined: false,
        }
    }

    /// The readings handed over so far, those of earlier recordings included.
    pub fn sent(&self) -> u64 {
        self.next
    }

    /// The calls that are made to fail are not the volume's.
    pub fn count_faults_by(&mut self, faults: impl Fn() -> u64 + 'static) {
        self.faults = Box::new(faults);
    }

    pub fn faults(&self) -> u64 {
        (self.faults)()
    }

    /// So many readings were recorded before, as is now known.
    pub fn goes_on_from(&mut self, first: u64) {
        self.next = first;
        self.first.store(first, Ordering::SeqCst);
        self.sent.store(first, Ordering::SeqCst);
    }

    pub fn acked(&self) -> u64 {
        acked(&self.exchange.mail())
    }

    /// While the writer says that a commit fails: since when, and what is acknowledged. Read as one, as the writer
    /// tells it.
    pub fn failing(&self) -> Option<(Instant, u64)> {
        let news = self.exchange.progress();
        let since = news.trouble.as_ref()?.since;
        Some((since, acked(&self.exchange.mail())))
    }

    /// Hands over readings as one batch, which becomes one commit when the writer is idle. Without readings it asks for
    /// the ack of those before, as the end of a request does.
    pub fn send(&mut self, readings: u64, awaited: bool) {
        let mut batch = Batch::default();
        if !self.defined {
            for slot in 0..KINDS.len() {
                batch.define(slot as u32, series(slot));
            }
            self.defined = true;
        }
        let mut push = |n: u64| {
            batch.push_sent(n as i64 * STEP_NS, slot(n), value(n).as_value(), true);
        };
        if readings > 0 {
            // Some of the last ones again, then new ones, and of these one again.
            let again = self.next.saturating_sub(3).max(self.oldest)..self.next;
            self.repeats += again.end - again.start + 1;
            again.for_each(&mut push);
            (self.next..self.next + readings).for_each(&mut push);
            push(self.next);
        }
        self.next += readings;
        self.sent.store(self.next, Ordering::SeqCst);
        if awaited {
            self.awaited = self.next;
            batch.awaited = true;
            batch.mark(StreamMark {
                stream: 0,
                lines: self.next,
            });
        }
        self.queue.push(&mut batch, Instant::now());
        // Now, whatever the interval is.
        self.queue.want_room();
    }

    /// Asks for a passive checkpoint, made before the next commit.
    pub fn want_checkpoint(&self) {
        self.queue.want_checkpoint();
    }

    /// Waits until the file is open and recovered.
    pub fn until_open(&self) -> Waited {
        self.until(|news| (Step::Record..Step::Closed).contains(&news.step))
    }

    /// Waits until all that was sent is committed, or was before, and what is awaited is acknowledged.
    pub fn until_committed(&self) -> Waited {
        let wanted = self.next - self.first.load(Ordering::SeqCst) + self.repeats;
        self.until(|news| news.committed + news.repeated == wanted && self.acked() >= self.awaited)
    }

    /// Waits until retention has dropped so many readings since the start.
    pub fn until_expired(&self, readings: u64) -> Waited {
        self.until(move |news| news.expired == readings)
    }

    /// Readings that retention has dropped since the start.
    pub fn expired(&self) -> u64 {
        self.exchange.progress().expired
    }

    fn until(&self, done: impl Fn(&Progress) -> bool) -> Waited {
        self.watch(|| {
            // Asked first: what the thread told before its end is seen below.
            let over = self.is_over();
            let news = self.exchange.progress();
            if self.exchange.mail().failure.is_some() {
                Some(Waited::Failed)
            } else if done(&news) {
                Some(Waited::Done)
            } else {
                over.then_some(Waited::Over)
            }
        })
    }

    fn watch(&self, look: impl Fn() -> Option<Waited>) -> Waited {
        /// The writer pauses for 20 ms at least, and SQLite much shorter.
        const QUIET: Duration = Duration::from_millis(12);
        let start = Instant::now();
        let (mut calls, mut since) = (self.volume.calls(), start);
        loop {
            self.exchange.bell.silence();
            if let Some(waited) = look() {
                return waited;
            }
            let now = Instant::now();
            assert!(now - start < PATIENCE, "the writer is stuck for good");
            let calls_now = self.volume.calls();
            if calls_now != calls {
                (calls, since) = (calls_now, now);
            } else if (self.faults)() > 0 && now - since > QUIET {
                return Waited::Stuck;
            }
            sys::wait(&mut [self.exchange.bell.watch()], Some(LOOK)).unwrap();
        }
    }

    /// Nothing more will come, and nobody is in a hurry.
    pub fn stop(&self) {
        self.stop_within(StopReason::Eof, PATIENCE);
    }

    pub fn stop_within(&self, reason: StopReason, timeout: Duration) {
        self.queue.stop(Stop::new(reason, Instant::now(), timeout));
        self.queue.close();
    }

    /// Waits until the writer's thread is over.
    pub fn until_over(&self) -> Waited {
        self.watch(|| self.is_over().then_some(Waited::Done))
    }

    fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// How it stands now.
    pub fn stands(&self) -> End {
        let news = self.exchange.progress();
        let failure = self.exchange.mail().failure.take();
        let reason = match (&failure, self.queue.stopping()) {
            (Some(_), _) => StopReason::Error,
            (None, stop) => stop.map_or(StopReason::Eof, |stop| stop.reason),
        };
        let outcome = Outcome {
            step: news.step,
            // None of them is stored again.
            uncommitted: self.queue.held() as u64 - self.repeats.saturating_sub(news.repeated),
            wal_frames: news.wal_frames,
            kept_wal: news.kept_wal,
            files_gone: failure.as_ref().is_some_and(Error::is_files_gone),
            ..Outcome::not_begun(reason, Instant::now())
        };
        End {
            step: news.step,
            acked: acked(&self.exchange.mail()),
            committed: self.first.load(Ordering::SeqCst) + news.committed,
            sent: self.next,
            uncommitted: outcome.uncommitted,
            wal_frames: outcome.wal_frames,
            kept_wal: outcome.kept_wal,
            status: outcome.status() as u8,
            failure,
        }
    }

    /// Takes the process to be dead from here on; gives how it stood.
    pub fn kill(mut self) -> End {
        let end = self.stands();
        self.die();
        end
    }

    fn die(&mut self) {
        self.volume.kill();
        // So that the writer's thread comes to an end: whatever it does now fails.
        self.stop_within(StopReason::Signal(Signal::Term), Duration::ZERO);
        self.join();
    }

    fn join(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        let start = Instant::now();
        while !thread.is_finished() {
            assert!(start.elapsed() < PATIENCE, "the writer does not end");
            let _ = sys::wait(&mut [], Some(LOOK));
        }
        thread.join().expect("the writer does not panic");
        // SAFETY: only the writer used the connection, and its thread is over; if it left one open, it
        // has forgotten it.
        unsafe { super::bury(&self.volume) };
        self.volume.revive();
    }

    /// How it stands when the writer's thread is over.
    pub fn end(mut self) -> End {
        self.join();
        self.stands()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.die();
        }
    }
}

/// What is in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Readings `first..next` are there.
    pub first: u64,
    pub next: u64,
    pub runs: u64,
}

/// Looks at a file: each reading once, in order, as it was sent, with the next id.
pub fn found(db: &Path) -> Result<State, String> {
    let sql = Sql::open(db, None)?;
    let runs = sql.one("SELECT count(*) FROM runs")?.parse().unwrap();
    let rows = sql.rows(
        "SELECT r.id, r.time_ns, s.field, r.value FROM readings AS r
         LEFT JOIN series AS s ON s.id = r.series ORDER BY r.id",
    )?;
    let number = |text: &Option<String>| -> u64 { text.as_ref().unwrap().parse().unwrap() };
    let Some(row) = rows.first() else {
        let emptied = sql.one("SELECT coalesce(max(first_id + committed) - 1, 0) FROM runs")?;
        let next = emptied.parse().unwrap();
        return Ok(State {
            first: next,
            next,
            runs,
        });
    };
    let first = number(&row[0]) - 1;
    for (n, row) in (first..).zip(&rows) {
        let expected = [
            (n + 1).to_string(),
            (n as i64 * STEP_NS).to_string(),
            KINDS[slot(n) as usize].0.to_owned(),
            value(n).as_sql().into_owned(),
        ];
        if !row.iter().flatten().eq(&expected) {
            return Err(format!("in place of reading {n} there is {row:?}"));
        }
    }
    Ok(State {
        first,
        next: first + rows.len() as u64,
        runs,
    })
}

/// What `check --full` says: nothing, or what is wrong.
pub fn audited(db: &Path) -> Result<(), String> {
    let audit =
        seawall::store::audit(db, true, PATIENCE, &mut |_| {}).map_err(|e| e.to_string())?;
    if audit.damaged.is_empty() && audit.missing.is_empty() {
        return Ok(());
    }
    Err(format!("{audit:?}"))
}

/// What is beside a database.
pub fn files_beside(db: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(db.parent().unwrap()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path != db).collect()
}

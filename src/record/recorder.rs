//! The recorder: the thread that takes readings, listens to signals, and decides.
//!
//! Data: source → reading → queue → batch → db → committed → ack. Stop: signal → drain → commit → ack →
//! checkpoint → close → exit status. Both stories meet here; the database is the writer's (`writer.rs`).
//! This thread waits in one `ppoll` and touches no disk, so that a disk that stalls costs no sample and
//! no stop its deadline.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exit::Status;
use crate::log::{self, Limit};
use crate::place;
use crate::reading::line::Line;
use crate::reading::series::Interner;
use crate::reading::stream::{Full, Intake, Room};
use crate::reading::{Batch, Counts, Kind, Value};
use crate::record::progress::Exchange;
use crate::record::queue::{Policy, Queue};
use crate::record::settings::Settings;
use crate::record::status::facts::{self, Facts};
use crate::record::status::report::Report;
use crate::record::status::server::Server;
use crate::record::stop::{Outcome, Reason, Step, Stop};
use crate::record::terminal;
use crate::record::writer::Writer;
use crate::source::sim::{self, Sim};
use crate::source::sockets::{self, Sockets};
use crate::source::spec::SourceSpec;
use crate::source::stdin::{self, Stdin};
use crate::source::sysfs::{self, Sysfs};
use crate::store::ack::Outbox;
use crate::store::{self, Start};
use crate::sys::{self, Clock, Signal, Watch};
use crate::time::ClockWatch;

const STATUS_LINE_PERIOD: Duration = Duration::from_millis(500);
const SYSFS_RESCAN_PERIOD: Duration = Duration::from_secs(60);
/// How often a commit is hurried for a client that is told of so many rejected lines that it has to wait for
/// its acks, or for connections without number: what they send must not wear out the disk.
const HURRY_PERIOD: Duration = Duration::from_millis(100);
/// What the outputs may be waited for when the recorder leaves for another reason than a stop.
const LAST_WAIT: Duration = Duration::from_millis(30);

/// Records until a signal, or until every source has ended.
pub fn record(settings: Settings) -> Status {
    let began = Instant::now();
    match Recorder::start(settings) {
        Ok(mut recorder) => recorder.run(),
        Err(message) => {
            log::error("cannot-record", &[("error", &message)]);
            let reason = Reason::Error.name();
            say_stopped(reason, 0, Counts::default(), 0, 0, began, LAST_WAIT);
            Status::Failed
        }
    }
}

enum Source {
    Sim(Sim),
    Sysfs {
        sysfs: Sysfs,
        interval: Duration,
        next: Instant,
        next_rescan: Instant,
    },
    Stdin(Stdin),
}

/// Where the recorder is in the story of a stop.
enum Phase {
    /// The writer opens the file; nothing is taken yet.
    Opening,
    Recording,
    /// What was read is being moved into the queue.
    Draining(Stop),
    /// The writer settles, checkpoints and closes.
    Stopping(Stop),
}

struct Recorder {
    settings: Settings,
    queue: Arc<Queue>,
    exchange: Arc<Exchange>,
    sources: Vec<Source>,
    sockets: Sockets,
    phase: Phase,
    staged: Batch,
    /// What the streams left unused at their last turn.
    room_left: Room,
    interner: Interner,
    /// The parts of the line that is being taken.
    line: Line,
    counts: Counts,
    outbox: Outbox,
    /// A source ended that should not have.
    source_failed: bool,
    streams_first: bool,
    sockets_first: bool,
    clock: ClockWatch,
    rejections: Limit,
    drops: Limit,
    rate: terminal::Rate,
    on_terminal: bool,
    next_status: Instant,
    next_hurry: Instant,
    began: Instant,
    status: Server,
    /// What the last wait was for: kept so that a wait allocates nothing.
    watches: Vec<Watch>,
}

impl Recorder {
    fn start(mut settings: Settings) -> Result<Self, String> {
        let mut status = Server::default();
        let place = place::prepare(&settings.db, settings.on_damage)?;
        settings.db.clone_from(&place.path);
        // Not before the lock is taken: until then the name may be another recorder's.
        if let Ok(file) = place::identity::inode(&settings.db) {
            status.listen(file);
        }
        if let Some(warning) = place.warning {
            log::warn(
                "not-lasting",
                &[("db", &settings.db.display()), ("warning", &warning)],
            );
        }
        // Before the database is opened, so that nothing is written where not all can be heard; and while
        // there is one thread, because of the umask.
        let sockets = Sockets::bind(&settings.sources)?;

        let could_not = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| format!("cannot {what}: {e}")
        };
        let policy = Policy {
            interval: settings.commit_interval,
            // Before the queue is full, so that a source which cannot wait finds room meanwhile.
            rows: settings.commit_rows.min((settings.queue_rows / 2).max(1)),
        };
        let queue = Arc::new(Queue::new(settings.queue_rows, policy));
        let exchange = Arc::new(Exchange::new().map_err(could_not("make an eventfd"))?);
        // Before the other thread starts: it inherits the mask, so that signals come to this one.
        sys::block_signals().map_err(could_not("block signals"))?;
        let writer = Writer {
            path: settings.db.clone(),
            settings: settings.clone(),
            start: Start {
                now_ns: sys::clock_ns(Clock::Real),
                boot_id: sys::boot_id(),
                boot_ns: sys::clock_ns(Clock::Boot),
            },
            queue: queue.clone(),
            exchange: exchange.clone(),
            clock_ns: Box::new(|| sys::clock_ns(Clock::Real)),
            lock: RefCell::new(place.lock),
        };
        std::thread::Builder::new()
            .name("writer".into())
            .spawn(|| writer.run())
            .map_err(could_not("start a thread"))?;
        let now = Instant::now();
        let clock_offset_ns = (0..10).find_map(|_| sys::clock_offset_ns()).unwrap_or(0);
        Ok(Recorder {
            queue,
            exchange,
            sources: Vec::new(),
            sockets,
            phase: Phase::Opening,
            staged: Batch::default(),
            room_left: Room::UNBOUNDED,
            interner: Interner::default(),
            line: Line::default(),
            counts: Counts::default(),
            outbox: Outbox::default(),
            source_failed: false,
            streams_first: false,
            sockets_first: false,
            clock: ClockWatch::new(clock_offset_ns),
            rejections: Limit::default(),
            drops: Limit::default(),
            rate: terminal::Rate::new(now),
            on_terminal: sys::is_terminal(sys::STDERR),
            next_status: now,
            next_hurry: now,
            began: now,
            status,
            watches: Vec::new(),
            settings,
        })
    }

    fn run(&mut self) -> Status {
        loop {
            self.listen();
            if let Some(status) = self.follow_writer() {
                return status;
            }
            let now = Instant::now();
            match self.phase {
                Phase::Opening | Phase::Stopping(_) => {}
                Phase::Recording => {
                    self.watch_clock();
                    // In turn, so that no source that is always ready takes all the room.
                    self.streams_first = !self.streams_first;
                    if self.streams_first {
                        self.take_streams(now);
                        self.sample();
                    } else {
                        self.sample();
                        self.take_streams(now);
                    }
                    self.take_datagrams(false, now);
                    if self.sockets.is_empty() && self.sources.iter().all(Source::is_done) {
                        let reason = if self.source_failed {
                            Reason::Error
                        } else {
                            Reason::Eof
                        };
                        let stop = Stop::new(reason, now, self.settings.stop_timeout);
                        self.phase = Phase::Draining(stop);
                    }
                }
                Phase::Draining(_) => self.take_streams(now),
            }
            self.queue.push(&mut self.staged, now);
            self.sockets.flush(now);
            self.drained();
            self.show_status(now);
            if let Err(e) = self.wait() {
                // ppoll fails only for want of memory; that passes or the kernel ends the process.
                log::error("wait-failed", &[("error", &e)]);
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// Takes note of signals.
    fn listen(&mut self) {
        if sys::take_signal(Signal::Usr1) {
            self.queue.want_checkpoint();
        }
        for signal in Signal::STOPPING {
            if !sys::take_signal(signal) {
                continue;
            }
            let was_recording = matches!(self.phase, Phase::Recording);
            match &mut self.phase {
                Phase::Opening | Phase::Recording => {
                    log::info("stopping", &[("reason", &signal.name())]);
                    let now = Instant::now();
                    let stop = Stop::new(Reason::Signal(signal), now, self.settings.stop_timeout);
                    self.phase = Phase::Draining(stop);
                    self.close_sources();
                    // Before the file is open nothing is accepted.
                    if was_recording {
                        self.take_datagrams(true, Instant::now());
                    }
                }
                Phase::Draining(stop) | Phase::Stopping(stop) => stop.signal(Instant::now()),
            }
        }
    }

    /// Takes nothing new from here on.
    fn close_sources(&mut self) {
        for source in &mut self.sources {
            if let Source::Stdin(stdin) = source {
                stdin.close();
            }
        }
        self.close_sockets();
    }

    fn close_sockets(&mut self) {
        let exchange = self.exchange.clone();
        self.sockets.close(move || exchange.bell.ring());
    }

    /// Acts on what the writer tells; gives the exit status when there is nothing left to wait for.
    fn follow_writer(&mut self) -> Option<Status> {
        self.exchange.bell.silence();
        let (step, failure) = {
            // The step and the mail of one moment: what was sent before a step is here with it.
            let progress = self.exchange.progress();
            let mut mail = self.exchange.mail();
            for ack in mail.acks.drain(..) {
                match ack.stream() {
                    stdin::STREAM => self.outbox.put(ack),
                    _ => self.sockets.put(ack),
                }
            }
            for resume in mail.resumes.drain(..) {
                self.sockets.resume(resume);
            }
            (progress.step, mail.failure.take())
        };
        self.send_ack(Duration::ZERO);
        self.sockets.flush(Instant::now());
        if let Some(error) = failure {
            log::error("database-failed", &[("error", &error)]);
            return Some(self.leave(step, Some(&error)));
        }
        match &self.phase {
            Phase::Opening if step == Step::Record => {
                self.open_sources();
                self.phase = Phase::Recording;
                None
            }
            Phase::Draining(stop) | Phase::Stopping(stop) => {
                let is_done = step == Step::Closed && self.sockets.are_files_gone();
                let over = is_done || stop.is_over(step, Instant::now());
                over.then(|| self.leave(step, None))
            }
            _ => None,
        }
    }

    fn open_sources(&mut self) {
        let now = Instant::now();
        let specs = std::mem::take(&mut self.settings.sources);
        for spec in &specs {
            let source = match spec {
                SourceSpec::Sim(spec) => {
                    let seed = spec.seed.unwrap_or_else(|| getrandom::u64().unwrap_or(0));
                    Source::Sim(Sim::new(spec, seed, now))
                }
                SourceSpec::Sysfs { root, interval } => Source::Sysfs {
                    sysfs: Sysfs::new(root.clone()),
                    interval: *interval,
                    next: now,
                    next_rescan: now,
                },
                SourceSpec::Stdin { precision } => {
                    Source::Stdin(Stdin::new(*precision, self.settings.ack))
                }
                SourceSpec::Unix { .. } | SourceSpec::Tcp { .. } | SourceSpec::Udp { .. } => {
                    continue;
                }
            };
            self.sources.push(source);
        }
        self.sockets.announce();
        let progress = self.exchange.progress();
        if let Some(file) = progress.file {
            self.status.listen(file);
        }
        log::info(
            "ready",
            &[
                ("db", &self.settings.db.display()),
                ("device", &progress.device),
                ("run", &progress.run),
                ("sources", &specs.len()),
                ("version", &crate::VERSION),
                ("sqlite", &store::version()),
            ],
        );
    }

    /// Notes where the system clock was set: readings are taken as they come, whatever it says.
    fn watch_clock(&mut self) {
        if let Some(step_ns) = sys::clock_offset_ns().and_then(|offset| self.clock.look(offset)) {
            self.staged.clock_step(step_ns);
            let seconds = step_ns as f64 / 1e9;
            log::warn("clock-set", &[("seconds", &format_args!("{seconds:.3}"))]);
        }
    }

    /// Samples what is due.
    fn sample(&mut self) {
        // Not the loop's own time: streams may have been taken since.
        let (now, now_ns) = sys::moment();
        let staged = self.staged.rows().len();
        let room = self.queue.room().rows.saturating_sub(staged);
        let taken = Cell::new(0);
        let stream_room = self.queue.stream_room().rows;
        let mut dropped = 0;
        let (batch, interner) = (&mut self.staged, &mut self.interner);
        let mut put = |time_ns: i64, sensor: &str, field: &str, value: f64| {
            if taken.get() >= room {
                dropped += 1;
                return;
            }
            taken.set(taken.get() + 1);
            let slot = interner.slot(
                batch,
                sensor.as_bytes(),
                field.as_bytes(),
                Kind::Float,
                || (sensor.into(), field.into()),
            );
            batch.push(time_ns, slot, Value::Real(value));
        };
        let mut errors = 0;
        for source in &mut self.sources {
            match source {
                Source::Sim(sim) if sim.is_unpaced() => {
                    let left = stream_room
                        .saturating_sub(staged + taken.get())
                        .min(room - taken.get());
                    sim.sample_unpaced(left, now_ns, &mut |t, sensor, v| {
                        put(t, sensor, sim::FIELD, v);
                    });
                }
                Source::Sim(sim) => {
                    let missed = sim.skip_missed(now);
                    if missed > 0 {
                        log::warn("missed", &[("source", &"sim"), ("readings", &missed)]);
                    }
                    sim.sample(now, now_ns, &mut |t, sensor, v| {
                        put(t, sensor, sim::FIELD, v)
                    });
                }
                Source::Sysfs {
                    sysfs,
                    interval,
                    next,
                    next_rescan,
                } => {
                    if *next > now {
                        continue;
                    }
                    if *next_rescan <= now {
                        sysfs.rescan(&mut |notice| errors += sysfs::tell(&notice));
                        *next_rescan = now + SYSFS_RESCAN_PERIOD;
                    }
                    // All channels of one tick carry the tick's time.
                    let late = now.duration_since(*next);
                    let tick_ns = if late < *interval {
                        now_ns - late.as_nanos() as i64
                    } else {
                        // Held up for longer than a tick, as in a container that was paused.
                        now_ns
                    };
                    sysfs.sample(
                        &mut |sensor, field, v| put(tick_ns, sensor, field, v),
                        &sys::stop_pending,
                        &mut |notice| errors += sysfs::tell(&notice),
                    );
                    // Ticks that the sensors themselves were too slow for are left out.
                    while *next <= now {
                        *next += *interval;
                    }
                }
                Source::Stdin(_) => {}
            }
        }
        self.staged.counts.errors += errors;
        self.counts.errors += errors;
        self.count_dropped(dropped, "the queue is full", now);
    }

    fn count_dropped(&mut self, dropped: u64, reason: &str, now: Instant) {
        self.staged.counts.dropped += dropped;
        self.counts.dropped += dropped;
        if dropped > 0
            && let Some(held_back) = self.drops.pass(now)
        {
            let fields: [log::Field; 4] = [
                ("readings", &dropped),
                ("in_all", &self.counts.dropped),
                ("reason", &reason),
                ("lines_held_back", &held_back),
            ];
            log::warn("dropped", &fields[..3 + usize::from(held_back > 0)]);
        }
    }

    /// Moves whole lines that were read into the batch while there is room.
    fn take_streams(&mut self, now: Instant) {
        let room = self.queue.stream_room();
        let before = self.staged.counts.rejected;
        let mut to = Intake {
            batch: &mut self.staged,
            interner: &mut self.interner,
            line: &mut self.line,
            room,
            rows_max: self.queue.rows_max(),
            full: Full::Waits,
        };
        // In turn, as with the samplers.
        self.sockets_first = !self.sockets_first;
        if self.sockets_first {
            self.sockets.take(&mut to, now);
        }
        for source in &mut self.sources {
            if let Source::Stdin(stdin) = source {
                let limit = &mut self.rejections;
                stdin.take(&mut to, &mut |line, reason| {
                    if let Some(held_back) = limit.pass(Instant::now()) {
                        let fields: [log::Field; 4] = [
                            ("source", &"stdin"),
                            ("line", &line),
                            ("reason", &reason),
                            ("lines_held_back", &held_back),
                        ];
                        log::warn("rejected", &fields[..3 + usize::from(held_back > 0)]);
                    }
                    ControlFlow::Continue(())
                });
            }
        }
        if !self.sockets_first {
            self.sockets.take(&mut to, now);
        }
        self.counts.rejected += self.staged.counts.rejected - before;
        self.room_left = Room {
            rows: room.rows.saturating_sub(self.staged.rows().len()),
            text_bytes: room.text_bytes.saturating_sub(self.staged.text_bytes()),
        };
    }

    /// Moves datagrams into the batch; what finds no room is dropped.
    fn take_datagrams(&mut self, is_last: bool, now: Instant) {
        let before = self.staged.counts;
        let mut to = Intake {
            batch: &mut self.staged,
            interner: &mut self.interner,
            line: &mut self.line,
            room: self.queue.room(),
            rows_max: self.queue.rows_max(),
            full: Full::IsDropped,
        };
        let dropped_by_kernel = self.sockets.take_datagrams(is_last, &mut to, now);
        let dropped = self.staged.counts.dropped - before.dropped;
        // Counted with the others below.
        self.staged.counts.dropped = before.dropped;
        self.counts.rejected += self.staged.counts.rejected - before.rejected;
        self.count_dropped(dropped, "the queue is full", now);
        self.count_dropped(
            dropped_by_kernel,
            "the system's buffer for datagrams is full",
            now,
        );
    }

    /// Once all that was read is in the queue, the rest of a stop is the writer's.
    fn drained(&mut self) {
        if let Phase::Draining(stop) = &self.phase
            && !self.is_blocked()
            && self.sockets.is_drained()
        {
            self.queue.stop(stop.clone());
            self.phase = Phase::Stopping(stop.clone());
        }
    }

    /// Waits for input, for the writer, for the next sample, for a signal.
    fn wait(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let mut until: Option<Instant> = None;
        let mut at = |time: Instant| until = Some(until.map_or(time, |u| u.min(time)));
        let mut read_stdin = false;
        match &self.phase {
            Phase::Opening => {}
            Phase::Draining(stop) | Phase::Stopping(stop) => {
                stop.next_look(now).into_iter().for_each(&mut at);
            }
            Phase::Recording => {
                for source in &self.sources {
                    match source {
                        Source::Sim(sim) => sim.next().into_iter().for_each(&mut at),
                        Source::Sysfs { next, .. } => at(*next),
                        Source::Stdin(stdin) => read_stdin |= stdin.is_open(),
                    }
                }
                self.sockets.next().into_iter().for_each(&mut at);
            }
        }
        if self.on_terminal {
            at(self.next_status);
        }
        let is_draining = matches!(self.phase, Phase::Draining(_));
        let is_behind = self.sockets.is_behind();
        let is_crowded = self.queue.streams() >= sockets::STREAMS_WAITING_MAX;
        if self.is_blocked() || (is_behind && is_draining) {
            self.queue.want_room();
            // Looked at after the wish was made known, so that room made in between is seen.
            if self.queue.stream_room().is_more_than(self.room_left) {
                at(now);
            }
        } else if is_behind || is_crowded {
            if self.next_hurry <= now {
                self.queue.want_room();
                self.next_hurry = now + HURRY_PERIOD;
            }
            at(self.next_hurry);
        }
        if matches!(self.phase, Phase::Recording) && self.sources.iter().any(Source::is_unpaced) {
            if self.queue.stream_room().rows == 0 {
                self.queue.want_room();
            }
            if self.queue.stream_room().rows > 0 {
                at(now);
            }
        }
        let mut watches = std::mem::take(&mut self.watches);
        watches.clear();
        watches.push(self.exchange.bell.watch());
        let stdin = read_stdin.then(|| push(&mut watches, Watch::readable(sys::STDIN)));
        if !self.outbox.is_empty() {
            watches.push(Watch::writable(sys::STDOUT));
        }
        self.status.watch(&mut watches);
        let sockets = watches.len();
        let reads = matches!(self.phase, Phase::Recording);
        self.sockets.watch(&mut watches, reads, !is_crowded, now);
        let timeout = until.map(|until| until.saturating_duration_since(now));
        sys::wait(&mut watches, timeout)?;
        if self.status.is_asked(&watches) {
            self.status.answer(&self.report().text());
        }
        if stdin.is_some_and(|n| watches[n].ready()) {
            self.read_stdin();
        }
        self.sockets.note(&watches[sockets..], now);
        self.watches = watches;
        Ok(())
    }

    fn read_stdin(&mut self) {
        for source in &mut self.sources {
            if let Source::Stdin(stdin) = source
                && let Err(e) = stdin.read()
            {
                log::error("source-failed", &[("source", &"stdin"), ("error", &e)]);
                self.staged.counts.errors += 1;
                self.counts.errors += 1;
                self.source_failed = true;
            }
        }
    }

    /// Lines that were read wait for room.
    fn is_blocked(&self) -> bool {
        let is_blocked = |source: &Source| matches!(source, Source::Stdin(s) if s.is_blocked());
        self.sources.iter().any(is_blocked) || self.sockets.is_blocked()
    }

    /// Writes the newest ack, if stdout takes it.
    fn send_ack(&mut self, wait: Duration) {
        self.outbox.flush(|bytes| log::write_stdout(bytes, wait));
    }

    fn show_status(&mut self, now: Instant) {
        if !self.on_terminal || now < self.next_status {
            return;
        }
        self.next_status = now + STATUS_LINE_PERIOD;
        let progress = self.exchange.progress();
        let status = terminal::Status {
            readings: progress.committed,
            waiting: self.queue.held() as u64,
            dropped: self.counts.dropped,
            rate: self.rate.at(now, progress.committed),
            wal_bytes: store::wal_bytes(progress.wal_frames, progress.page_bytes),
            checkpoint_age: progress.last_checkpoint.map(|at| now - at),
        };
        drop(progress);
        let columns = sys::terminal_columns(sys::STDERR).unwrap_or(80);
        log::status(&status.line(columns));
    }

    /// What `status` is answered.
    fn report(&self) -> Report {
        let blind = |source: &&Source| matches!(source, Source::Sysfs { sysfs, .. } if sysfs.readable() == 0);
        facts::report(&Facts {
            db: &self.settings.db,
            began: self.began,
            is_stopping: matches!(self.phase, Phase::Draining(_) | Phase::Stopping(_)),
            sources: self.sources.len() + self.sockets.sources(),
            blind_sources: self.sources.iter().filter(blind).count(),
            counts: self.counts,
            queued: self.queue.held(),
            queue_max: self.queue.rows_max(),
            progress: &self.exchange.progress(),
        })
    }

    /// Says the last word. Gives the status to leave with, whatever the writer is still doing.
    fn leave(&mut self, step: Step, failure: Option<&store::Error>) -> Status {
        let (mut reason, began, last_wait) = match &self.phase {
            Phase::Draining(stop) | Phase::Stopping(stop) => {
                (stop.reason, stop.began, stop.last_wait())
            }
            Phase::Opening | Phase::Recording => (Reason::Error, Instant::now(), LAST_WAIT),
        };
        self.send_ack(last_wait);
        // Asked to stop before the file could be opened, it has failed at nothing that was accepted.
        if failure.is_some() && !(step == Step::Open && matches!(reason, Reason::Signal(_))) {
            reason = Reason::Error;
        }
        self.close_sockets();
        // What was read and found no room is accepted too, and has to be owned up to.
        let mut to = Intake {
            batch: &mut self.staged,
            interner: &mut self.interner,
            line: &mut self.line,
            room: Room::UNBOUNDED,
            rows_max: self.queue.rows_max(),
            full: Full::Waits,
        };
        self.sockets.take_rest(&mut to, Instant::now());
        for source in &mut self.sources {
            if let Source::Stdin(stdin) = source {
                stdin.take(&mut to, &mut |_, _| ControlFlow::Continue(()));
            }
        }
        self.sockets.finish(last_wait);
        let progress = self.exchange.progress();
        let outcome = Outcome {
            step,
            uncommitted: (self.queue.held() + self.staged.rows().len()) as u64,
            wal_frames: progress.wal_frames,
            kept_wal: progress.kept_wal,
            failed: reason == Reason::Error,
            files_gone: failure.is_some_and(store::Error::is_files_gone),
        };
        say_stopped(
            reason.name(),
            progress.committed,
            self.counts,
            outcome.uncommitted,
            outcome.wal_frames,
            began,
            last_wait,
        );
        outcome.status()
    }
}

impl Source {
    /// It will give no more readings, and none waits.
    fn is_done(&self) -> bool {
        match self {
            Source::Sim(sim) => sim.ended(),
            Source::Sysfs { .. } => false,
            Source::Stdin(stdin) => stdin.is_done(),
        }
    }

    /// It gives as much as there is room for.
    fn is_unpaced(&self) -> bool {
        matches!(self, Source::Sim(sim) if sim.is_unpaced() && !sim.ended())
    }
}

fn push(watches: &mut Vec<Watch>, watch: Watch) -> usize {
    watches.push(watch);
    watches.len() - 1
}

fn say_stopped(
    reason: &str,
    committed: u64,
    counts: Counts,
    uncommitted: u64,
    wal_frames: u32,
    began: Instant,
    wait: Duration,
) {
    log::last(
        "stopped",
        &[
            ("reason", &reason),
            ("committed", &committed),
            ("dropped", &counts.dropped),
            ("rejected", &counts.rejected),
            ("uncommitted", &uncommitted),
            ("wal_frames", &wal_frames),
            ("stop_ms", &began.elapsed().as_millis()),
        ],
        wait,
    );
}

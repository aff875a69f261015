//! The recorder: the thread that takes readings, listens to signals, and decides.
//!
//! Data: source → reading → queue → batch → db → committed → ack. Stop: signal → drain → commit → ack →
//! checkpoint → close → exit status. Both stories meet here; the database is the writer's (`writer.rs`).
//! This thread waits in one `ppoll` and touches no disk, so that a disk that stalls costs no sample and
//! no stop its deadline.

mod start;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exit::Status;
use crate::log::{self, Limit};
use crate::record::notify::{Manager, ServiceState};
use crate::record::outcome::Outcome;
use crate::record::progress::Exchange;
use crate::record::queue::Queue;
use crate::record::sampler::Sampler;
use crate::record::settings::RecordSettings;
use crate::record::staging::Staging;
use crate::record::status::facts::{self, Facts};
use crate::record::status::report::Report;
use crate::record::status::server::Server;
use crate::record::stop::{Step, Stop, StopReason};
use crate::record::terminal::StatusLine;
use crate::source::sockets::Sockets;
use crate::source::spec::SourceSpec;
use crate::source::stdin::{self, Stdin};
use crate::store;
use crate::sys::signals::{self, Signal};
use crate::sys::{self, Watch};
use crate::time::ClockWatch;

/// How long full outputs are waited for when the recorder leaves without a stop.
const LAST_WAIT: Duration = Duration::from_millis(30);

/// Records until a signal, or until every source has ended.
pub fn record(settings: RecordSettings) -> Status {
    let began = Instant::now();
    let mut recorder = match Recorder::start(settings) {
        Ok(recorder) => recorder,
        Err(message) => {
            log::error("cannot-record", &[("error", &message)]);
            let signal = Signal::STOPPING
                .into_iter()
                .find(|s| signals::take_signal(*s));
            let reason = signal.map_or(StopReason::Error, StopReason::Signal);
            let outcome = Outcome::not_begun(reason, began);
            outcome.log(LAST_WAIT);
            return outcome.status();
        }
    };
    recorder.run()
}

/// How far the recorder is. Why it stops and until when is in the queue, for both threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The writer opens the file; nothing is taken yet.
    Opening,
    Recording,
    /// A stop has begun: what was read goes into the queue.
    Draining,
    /// The queue is closed: the writer commits, checkpoints and closes.
    Finishing,
}

struct Recorder {
    settings: RecordSettings,
    queue: Arc<Queue>,
    exchange: Arc<Exchange>,
    phase: Phase,
    sampler: Sampler,
    stdin: Option<Stdin>,
    sockets: Sockets,
    staging: Staging,
    /// A source ended that should not have.
    source_failed: bool,
    /// Turns alternate, so that no source that is always ready takes all the room.
    streams_first: bool,
    sockets_first: bool,
    clock: ClockWatch,
    rejections: Limit,
    status_line: StatusLine,
    status: Server,
    manager: Option<Manager>,
    began: Instant,
    /// Descriptors of the last wait; kept, so that a wait allocates nothing.
    watches: Vec<Watch>,
}

impl Recorder {
    fn run(&mut self) -> Status {
        loop {
            self.hear_signals();
            if let Some(status) = self.hear_writer() {
                return status;
            }
            self.take(Instant::now());
            let now = Instant::now();
            self.staging.push(&self.queue, now);
            if self.is_blocked() {
                self.queue.want_room();
            }
            self.sockets.flush(now);
            self.answer_health(now);
            self.close_drained_queue();
            self.show_status(now);
            self.tell_manager(now);
            if let Err(e) = self.wait() {
                // ppoll fails only for want of memory; that passes or the kernel ends the process.
                log::error("wait-failed", &[("error", &e)]);
                std::thread::sleep(Duration::from_millis(100));
            }
            // Before a signal is heard: what came before the signal is taken.
            self.read_stdin();
        }
    }

    fn hear_signals(&mut self) {
        if signals::take_signal(Signal::Usr1) {
            self.queue.want_checkpoint();
        }
        for signal in Signal::STOPPING {
            if !signals::take_signal(signal) {
                continue;
            }
            if self.queue.stopping().is_some() {
                self.queue.signal_again(Instant::now());
                continue;
            }
            log::info("stopping", &[("reason", &signal.name())]);
            self.begin_stop(StopReason::Signal(signal));
            if let Some(stdin) = &mut self.stdin {
                stdin.close();
            }
            self.close_sockets();
        }
    }

    fn begin_stop(&mut self, reason: StopReason) {
        let now = Instant::now();
        self.queue
            .stop(Stop::new(reason, now, self.settings.stop_timeout));
        // Before the file is open nothing is accepted.
        if self.phase == Phase::Recording {
            self.take_datagrams(true, now);
            self.sampler.stop(&mut self.staging.dropping(&self.queue));
        }
        self.phase = Phase::Draining;
    }

    fn close_sockets(&mut self) {
        let exchange = self.exchange.clone();
        self.sockets.close(move || exchange.bell.ring());
    }

    /// Passes the writer's acks to the streams. Returns the exit status when there is nothing left to wait for.
    fn hear_writer(&mut self) -> Option<Status> {
        self.exchange.bell.silence();
        let (step, failure) = {
            // Both under one lock, so that mail which was sent before a step arrives with it.
            let progress = self.exchange.progress();
            let mut mail = self.exchange.mail();
            for ack in mail.acks.drain(..) {
                match &mut self.stdin {
                    Some(stdin) if ack.stream() == stdin::STREAM => stdin.answers.put(ack),
                    _ => self.sockets.put(ack),
                }
            }
            for resume in mail.resumes.drain(..) {
                self.sockets.resume(resume);
            }
            (progress.step, mail.failure.take())
        };
        if let Some(stdin) = &mut self.stdin {
            stdin.flush(Duration::ZERO);
        }
        self.sockets.flush(Instant::now());
        if let Some(error) = failure {
            log::error("database-failed", &[("error", &error)]);
            return Some(self.leave(step, Some(&error)));
        }
        if let Some(stop) = self.queue.stopping() {
            let is_done = step == Step::Closed && self.sockets.are_files_gone();
            let is_over = is_done || stop.is_over(step, Instant::now());
            return is_over.then(|| self.leave(step, None));
        }
        if self.phase == Phase::Opening && step == Step::Record {
            self.open_sources();
            self.phase = Phase::Recording;
            // Before what may end in this turn.
            self.tell_manager(Instant::now());
        }
        None
    }

    fn open_sources(&mut self) {
        let specs = std::mem::take(&mut self.settings.sources);
        self.sampler = Sampler::start(&specs, Instant::now(), &self.exchange);
        self.source_failed = self.sampler.has_failed;
        let precision = specs.iter().find_map(|spec| match spec {
            SourceSpec::Stdin { precision } => Some(*precision),
            _ => None,
        });
        self.stdin = precision.map(|precision| Stdin::new(precision, self.settings.ack));
        self.sockets.announce();
        let progress = self.exchange.progress();
        if let Some(file) = progress.file {
            self.status.listen(file);
        }
        let db = &self.settings.db;
        let db = std::path::absolute(db).unwrap_or_else(|_| db.clone());
        let names: Vec<_> = specs.iter().map(SourceSpec::to_string).collect();
        log::info(
            "ready",
            &[
                ("db", &db.display()),
                ("sources", &names.join(",")),
                ("device", &progress.device),
                ("run", &progress.run),
                ("version", &crate::VERSION),
                ("sqlite", &store::version()),
            ],
        );
        self.status_line.say_how_to_type();
    }

    /// Takes what is due and what has come, as far as there is room.
    fn take(&mut self, now: Instant) {
        self.sockets.accept(now);
        if self.status.is_ready {
            let text = self.report().text();
            self.status.answer(&text);
        }
        if self.phase == Phase::Draining {
            self.take_streams(now);
        }
        if self.phase != Phase::Recording {
            return;
        }
        self.watch_clock();
        self.streams_first = !self.streams_first;
        if self.streams_first {
            self.take_streams(now);
            self.sample();
        } else {
            self.sample();
            self.take_streams(now);
        }
        self.take_datagrams(false, now);
        let is_stdin_done = self.stdin.as_ref().is_none_or(Stdin::is_done);
        if self.sockets.is_empty() && is_stdin_done && self.sampler.is_over() {
            self.begin_stop(match self.source_failed {
                true => StopReason::Error,
                false => StopReason::Eof,
            });
        }
    }

    /// Records steps of the system clock. Readings keep their times.
    fn watch_clock(&mut self) {
        if let Some(step_ns) = sys::clock_offset_ns().and_then(|offset| self.clock.look(offset)) {
            self.staging.clock_step(step_ns);
            let seconds = step_ns as f64 / 1e9;
            log::warn("clock-set", &[("seconds", &format_args!("{seconds:.3}"))]);
        }
    }

    fn read_stdin(&mut self) {
        if let Some(stdin) = &mut self.stdin
            && let Err(e) = stdin.read()
        {
            log::error("source-failed", &[("source", &"stdin"), ("error", &e)]);
            self.staging.count_errors(1);
            self.source_failed = true;
        }
    }

    fn sample(&mut self) {
        let before = self.staging.counts();
        let unpaced = self.queue.stream_room();
        let mut to = self.staging.dropping(&self.queue);
        let errors = self.sampler.sample(&mut to, unpaced);
        self.staging.count_errors(errors);
        self.staging.log_dropped_since(before);
    }

    /// Takes whole lines that were read, while there is room.
    fn take_streams(&mut self, now: Instant) {
        let mut to = self.staging.waiting(&self.queue);
        self.sockets_first = !self.sockets_first;
        if self.sockets_first {
            self.sockets.take(&mut to, now);
        }
        if let Some(stdin) = &mut self.stdin {
            stdin.take(&mut to, &mut self.rejections);
        }
        if !self.sockets_first {
            self.sockets.take(&mut to, now);
        }
    }

    fn take_datagrams(&mut self, is_last: bool, now: Instant) {
        let before = self.staging.counts();
        let mut to = self.staging.dropping(&self.queue);
        let dropped_by_kernel = self.sockets.take_datagrams(is_last, &mut to, now);
        self.staging.log_dropped_since(before);
        self.staging.count_dropped_by_kernel(dropped_by_kernel);
    }

    /// Answers clients that ask for the health or the metrics, and what is due behind that.
    fn answer_health(&mut self, now: Instant) {
        while self.sockets.asks_health() {
            let report = self.report();
            self.sockets.answer_health(&report.health());
            self.sockets.flush(now);
        }
    }

    /// Lines that were read wait for room.
    fn is_blocked(&self) -> bool {
        self.stdin.as_ref().is_some_and(Stdin::is_blocked) || self.sockets.is_blocked()
    }

    /// Once all that was read is in the queue, the rest of a stop is the writer's.
    fn close_drained_queue(&mut self) {
        if self.phase == Phase::Draining && !self.is_blocked() && self.sockets.is_drained() {
            self.queue.close();
            self.phase = Phase::Finishing;
        }
    }

    /// When the next turn is due if nothing arrives.
    fn next_turn(&self, now: Instant) -> Option<Instant> {
        let is_recording = self.phase == Phase::Recording;
        let stop = self.queue.stopping().and_then(|stop| stop.next_look(now));
        let has_room = is_recording
            && self.sampler.is_unpaced()
            && self.queue.stream_room().rows > self.staging.rows();
        [
            stop,
            self.status_line.next(),
            self.manager.as_ref().and_then(Manager::next),
            self.sampler.next().filter(|_| is_recording),
            self.sockets.next().filter(|_| is_recording),
            (has_room || self.sockets.can_go_on()).then_some(now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Waits for input, for the writer, for the next sample, for a signal.
    fn wait(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let until = self.next_turn(now);
        let reads = self.phase == Phase::Recording;
        let mut watches = std::mem::take(&mut self.watches);
        watches.clear();
        watches.push(self.exchange.bell.watch());
        watches.push(self.status.watch());
        if let Some(stdin) = &self.stdin {
            watches.extend([stdin.watch_input(), stdin.watch_output()]);
        }
        let sockets = watches.len();
        let accepts = reads && self.queue.may_accept();
        self.sockets.watch(&mut watches, reads, accepts, now);
        let timeout = until.map(|until| until.saturating_duration_since(now));
        sys::wait(&mut watches, timeout)?;
        self.status.is_ready = watches[1].ready();
        if let Some(stdin) = &mut self.stdin {
            stdin.is_ready = watches[2].ready();
        }
        self.sockets.note(&watches[sockets..]);
        self.watches = watches;
        Ok(())
    }

    fn show_status(&mut self, now: Instant) {
        if !self.status_line.is_due(now) {
            return;
        }
        let (held, dropped) = (self.queue.held(), self.staging.counts().dropped);
        let progress = self.exchange.progress();
        self.status_line.show(now, &progress, held, dropped);
    }

    fn tell_manager(&mut self, now: Instant) {
        if let Some(manager) = &mut self.manager {
            let state = match self.phase {
                Phase::Opening => ServiceState::Starting,
                Phase::Recording => ServiceState::Recording,
                Phase::Draining | Phase::Finishing => ServiceState::Stopping,
            };
            let held = self.queue.held();
            manager.tell(now, state, &self.exchange.progress(), held);
        }
    }

    fn report(&self) -> Report {
        facts::report(&Facts {
            db: &self.settings.db,
            began: self.began,
            is_stopping: self.queue.stopping().is_some(),
            sources: self.sampler.sources()
                + usize::from(self.stdin.is_some())
                + self.sockets.sources(),
            blind_sources: self.sampler.blind_sources(),
            counts: self.staging.counts(),
            queued: self.queue.held(),
            queue_max: self.queue.rows_max(),
            written_bytes: sys::written_bytes(),
            progress: &self.exchange.progress(),
        })
    }

    /// Writes the last acks and the last line. Returns the exit status, whatever the writer is still doing.
    fn leave(&mut self, step: Step, failure: Option<&store::Error>) -> Status {
        let stop = self.queue.stopping();
        let mut reason = stop.map_or(StopReason::Error, |stop| stop.reason);
        let began = stop.map_or_else(Instant::now, |stop| stop.began);
        let last_wait = stop.map_or(LAST_WAIT, |stop| stop.last_wait());
        // Stopped before the file could be opened, it has failed at nothing that was accepted.
        if failure.is_some() && !(step == Step::Open && matches!(reason, StopReason::Signal(_))) {
            reason = StopReason::Error;
        }
        self.close_sockets();
        // Lines that were read and found no room count as accepted.
        let mut to = self.staging.last(&self.queue);
        self.sockets.take(&mut to, Instant::now());
        if let Some(stdin) = &mut self.stdin {
            stdin.flush(last_wait);
            stdin.take(&mut to, &mut self.rejections);
        }
        self.answer_health(Instant::now());
        self.sockets.finish(last_wait);
        let progress = self.exchange.progress();
        let outcome = Outcome {
            reason,
            began,
            step,
            committed: progress.committed,
            counts: self.staging.counts(),
            uncommitted: (self.queue.held() + self.staging.rows()) as u64,
            wal_frames: progress.wal_frames,
            kept_wal: progress.kept_wal,
            files_gone: failure.is_some_and(store::Error::is_files_gone),
        };
        outcome.log(last_wait);
        outcome.status()
    }
}

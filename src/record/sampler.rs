//! Sources that are sampled by this machine's clock: simulated sensors and those of the kernel.
//!
//! A sample cannot wait: one that finds no room is dropped and counted. Simulated sensors at rate `max` are the
//! exception, since they produce only as much as there is room for. The kernel's sensors are read in a thread
//! for each source, because a driver may take a second for a value, or hang: sockets, acks and a stop wait for none.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::log;
use crate::reading::stream::{Intake, Room};
use crate::record::progress::Exchange;
use crate::source::sim::{self, Sim};
use crate::source::spec::{Choice, SourceSpec};
use crate::source::sysfs::{self, Change, Notice, Sysfs};
use crate::sys::{self, signals};

const SYSFS_RESCAN_PERIOD: Duration = Duration::from_secs(60);
/// A read that takes longer hangs: another thread goes on with the other devices.
const HANG_MIN: Duration = Duration::from_secs(5);
/// Upper bound on threads of a source that hang.
const HANGING_MAX: usize = 4;
/// Upper bound on samples that wait to be taken, as while this process is stopped.
const PENDING_MAX: usize = 16 * 1024;

#[derive(Default)]
pub struct Sampler {
    sims: Vec<Sim>,
    sysfs: Vec<SysfsSource>,
    /// A source could not be started.
    pub has_failed: bool,
}

/// One sample of a kernel's sensor.
struct Sample {
    time_ns: i64,
    sensor: Box<str>,
    field: Box<str>,
    value: f64,
}

/// Shared with the thread of a `sysfs` source, which hands over its samples.
#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    /// It has no sensor that can be read.
    is_blind: AtomicBool,
    is_over: AtomicBool,
    duty: Mutex<Duty>,
}

/// Thread that has to read the sensors of a source.
#[derive(Default)]
struct Duty {
    /// Number of the thread; those before it hang, or end when they return.
    thread: usize,
    /// Device that is being read, and since when.
    reading: Option<(PathBuf, Instant)>,
    /// Threads whose reads have not returned, and the devices, which are passed over.
    hanging: Vec<(usize, PathBuf)>,
}

#[derive(Default)]
struct Pending {
    samples: Vec<Sample>,
    dropped: u64,
    errors: u64,
}

impl Sampler {
    /// Starts the sources of `specs` that are sampled. The bell rings when there are samples of a thread.
    pub fn start(specs: &[SourceSpec], now: Instant, exchange: &Arc<Exchange>) -> Self {
        let mut sampler = Sampler::default();
        for spec in specs {
            match spec {
                SourceSpec::Sim(spec) => {
                    let seed = spec.seed.unwrap_or_else(|| getrandom::u64().unwrap_or(0));
                    sampler.sims.push(Sim::new(spec, seed, now));
                }
                SourceSpec::Sysfs {
                    root,
                    interval,
                    choice,
                } => {
                    let source = SysfsSource {
                        root: root.clone(),
                        choice: choice.clone(),
                        interval: *interval,
                        shared: Arc::default(),
                        exchange: exchange.clone(),
                    };
                    if source.start_thread(now) {
                        sampler.sysfs.push(source);
                    } else {
                        sampler.has_failed = true;
                    }
                }
                _ => {}
            }
        }
        sampler
    }

    pub fn sources(&self) -> usize {
        self.sims.len() + self.sysfs.len()
    }

    /// `sysfs` sources that have no sensor that can be read.
    pub fn blind_sources(&self) -> usize {
        let is_blind = |source: &&SysfsSource| source.shared.is_blind.load(Ordering::SeqCst);
        self.sysfs.iter().filter(is_blind).count()
    }

    /// No more samples will come.
    pub fn is_over(&self) -> bool {
        self.sysfs.is_empty() && self.sims.iter().all(Sim::ended)
    }

    /// A source samples whenever there is room.
    pub fn is_unpaced(&self) -> bool {
        let is_unpaced = |sim: &Sim| sim.is_unpaced() && !sim.ended();
        self.sims.iter().any(is_unpaced)
    }

    /// When the next sample is due.
    pub fn next(&self) -> Option<Instant> {
        let sims = self.sims.iter().filter_map(Sim::next);
        // Also where no read is under way yet: nothing else may wake this thread.
        let looks = self.sysfs.iter().map(|source| {
            let later = || Instant::now() + source.interval.max(HANG_MIN);
            source.shared.duty().hangs_at().unwrap_or_else(later)
        });
        sims.chain(looks).min()
    }

    /// Takes the samples that are due. `unpaced` is the room for sources that wait for it. Returns failures of
    /// sensors.
    pub fn sample(&mut self, to: &mut Intake<'_>, unpaced: Room) -> u64 {
        // Not the loop's own time: streams may have been taken since.
        let (now, now_ns) = sys::moment();
        for source in &self.sysfs {
            source.leave_hanging(now);
        }
        for sim in &mut self.sims {
            if sim.is_unpaced() {
                let left = unpaced.rows.saturating_sub(to.batch.rows().len());
                sim.sample_unpaced(left, now_ns, &mut |time_ns, sensor, value| {
                    to.sample(time_ns, sensor, sim::FIELD, value);
                });
                continue;
            }
            let missed = sim.skip_missed(now);
            if missed > 0 {
                log::warn("missed", &[("source", &"sim"), ("readings", &missed)]);
            }
            sim.sample(now, now_ns, &mut |time_ns, sensor, value| {
                to.sample(time_ns, sensor, sim::FIELD, value);
            });
        }
        self.take(to)
    }

    /// Takes what was read before a stop, and ends the threads once they can; a driver that hangs keeps its own.
    pub fn stop(&mut self, to: &mut Intake<'_>) {
        to.batch.counts.errors += self.take(to);
        for source in &self.sysfs {
            source.shared.is_over.store(true, Ordering::SeqCst);
        }
    }

    /// Takes what the threads have read. Returns failures of sensors.
    fn take(&mut self, to: &mut Intake<'_>) -> u64 {
        let mut errors = 0;
        for source in &self.sysfs {
            let pending = std::mem::take(&mut *source.shared.pending());
            to.batch.counts.dropped += pending.dropped;
            errors += pending.errors;
            for sample in pending.samples {
                to.sample(sample.time_ns, &sample.sensor, &sample.field, sample.value);
            }
        }
        errors
    }
}

impl Shared {
    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn duty(&self) -> std::sync::MutexGuard<'_, Duty> {
        self.duty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Duty {
    /// When the read under way has taken too long; none where no more threads may be left behind.
    fn hangs_at(&self) -> Option<Instant> {
        let (_, since) = self.reading.as_ref()?;
        (self.hanging.len() < HANGING_MAX).then_some(*since + HANG_MIN)
    }
}

/// A `sysfs` source as the recorder's thread knows it.
struct SysfsSource {
    root: PathBuf,
    choice: Choice,
    interval: Duration,
    shared: Arc<Shared>,
    exchange: Arc<Exchange>,
}

impl SysfsSource {
    /// Returns whether it could.
    fn start_thread(&self, now: Instant) -> bool {
        let mut scan = SysfsScan {
            sysfs: Sysfs::new(self.root.clone(), self.choice.clone()),
            interval: self.interval,
            next: now,
            next_rescan: now,
            shared: self.shared.clone(),
            thread: self.shared.duty().thread,
        };
        let exchange = self.exchange.clone();
        let run = move || {
            while scan.pass() {
                exchange.bell.ring();
            }
        };
        let started = sys::spawn("sysfs", Box::new(run));
        if let Err(e) = &started {
            let reason = format!("cannot start a thread: {e}");
            let fields: [log::Field; 2] = [("source", &"sysfs"), ("error", &reason)];
            log::error("source-failed", &fields);
        }
        started.is_ok()
    }

    /// Leaves a thread that hangs in a driver to itself, and goes on in another, without that device.
    fn leave_hanging(&self, now: Instant) {
        let mut duty = self.shared.duty();
        let hangs = duty.hangs_at().filter(|at| *at <= now);
        let Some((place, _)) = hangs.and_then(|_| duty.reading.take()) else {
            return;
        };
        let reason = "a read of this device does not return; the others go on without it";
        let path = place.display();
        let fields: [log::Field; 3] = [("source", &"sysfs"), ("path", &path), ("reason", &reason)];
        log::warn("sensor-hanging", &fields);
        let thread = duty.thread;
        duty.hanging.push((thread, place));
        duty.thread += 1;
        drop(duty);
        self.start_thread(now);
    }
}

/// The sensors of one `sysfs` source, and when they are read.
struct SysfsScan {
    sysfs: Sysfs,
    interval: Duration,
    next: Instant,
    next_rescan: Instant,
    shared: Arc<Shared>,
    thread: usize,
}

impl SysfsScan {
    /// Waits for the next tick, and reads the sensors. False when there is nothing more to do here.
    fn pass(&mut self) -> bool {
        std::thread::sleep(self.next.saturating_duration_since(Instant::now()));
        let (now, now_ns) = sys::moment();
        let shared = self.shared.clone();
        let is_known = self.thread > 0 && self.sysfs.channels() == 0;
        let mut tell = |notice: sysfs::Notice<'_>| {
            // The thread before this one has said so.
            let was_told = is_known
                && match notice {
                    Notice::Channel { change, .. } => matches!(change, Change::Found),
                    Notice::Unknown { .. } => true,
                    _ => false,
                };
            if !was_told {
                let errors = sysfs::tell(&notice);
                shared.pending().errors += errors;
            }
        };
        if self.next_rescan <= now {
            self.sysfs.rescan(&mut tell);
            self.next_rescan = now + SYSFS_RESCAN_PERIOD;
        }
        // All channels of one tick carry the tick's time.
        let late = now.duration_since(self.next);
        let tick_ns = if late < self.interval {
            now_ns - late.as_nanos() as i64
        } else {
            // Held up for longer than a tick, as in a container that was paused.
            now_ns
        };
        let thread = self.thread;
        let is_over = || shared.is_over.load(Ordering::SeqCst) || signals::stop_pending();
        let halt = |place: &Path| {
            let mut duty = shared.duty();
            let is_left = duty.hanging.iter().any(|(_, of)| of == place);
            if is_over() || duty.thread != thread || is_left {
                return true;
            }
            let since = Instant::now();
            match &mut duty.reading {
                Some((of, began)) if of == place => *began = since,
                reading => *reading = Some((place.to_owned(), since)),
            }
            false
        };
        let mut emit = |sensor: &str, field: &str, value| {
            let mut pending = shared.pending();
            if pending.samples.len() >= PENDING_MAX {
                pending.dropped += 1;
                return;
            }
            pending.samples.push(Sample {
                time_ns: tick_ns,
                sensor: sensor.into(),
                field: field.into(),
                value,
            });
        };
        self.sysfs
            .sample(self.interval / 2, &mut emit, &halt, &mut tell);
        let mut duty = shared.duty();
        if duty.thread != thread {
            // The driver came back, and its device is read again.
            duty.hanging.retain(|(of, _)| *of != thread);
            return false;
        }
        duty.reading = None;
        drop(duty);
        let is_blind = self.sysfs.readable() == 0;
        shared.is_blind.store(is_blind, Ordering::SeqCst);
        // Ticks for which the sensors themselves were too slow are left out.
        while self.next <= now {
            self.next += self.interval;
        }
        !shared.is_over.load(Ordering::SeqCst)
    }
}

//! Sources that are sampled by this machine's clock: simulated sensors and those of the kernel.
//!
//! A sample cannot wait: one that finds no room is dropped and counted. Simulated sensors at rate `max` are the
//! exception, since they produce only as much as there is room for. The kernel's sensors are read in a thread
//! for each source, because a driver may take a second for a value, or hang: sockets, acks and a stop wait for none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::log;
use crate::reading::stream::{Intake, Room};
use crate::record::progress::Exchange;
use crate::source::sim::{self, Sim};
use crate::source::spec::SourceSpec;
use crate::source::sysfs::{self, Sysfs};
use crate::sys;

const SYSFS_RESCAN_PERIOD: Duration = Duration::from_secs(60);
/// Upper bound on samples that wait to be taken, as while this process is stopped.
const PENDING_MAX: usize = 16 * 1024;

#[derive(Default)]
pub struct Sampler {
    sims: Vec<Sim>,
    scans: Vec<Arc<Shared>>,
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

/// What the thread of a `sysfs` source hands over.
#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    /// It has no sensor that can be read.
    is_blind: AtomicBool,
    is_over: AtomicBool,
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
                    let shared = Arc::new(Shared::default());
                    sampler.scans.push(shared.clone());
                    let mut scan = Scan {
                        sysfs: Sysfs::new(root.clone(), choice.clone()),
                        interval: *interval,
                        next: now,
                        next_rescan: now,
                        shared,
                    };
                    let exchange = exchange.clone();
                    let run = move || {
                        while !scan.shared.is_over.load(Ordering::SeqCst) {
                            scan.pass();
                            exchange.bell.ring();
                        }
                    };
                    if let Err(e) = sys::spawn("sysfs", Box::new(run)) {
                        let reason = format!("cannot start a thread: {e}");
                        let fields: [log::Field; 2] = [("source", &"sysfs"), ("error", &reason)];
                        log::error("source-failed", &fields);
                        sampler.scans.pop();
                        sampler.has_failed = true;
                    }
                }
                _ => {}
            }
        }
        sampler
    }

    pub fn sources(&self) -> usize {
        self.sims.len() + self.scans.len()
    }

    /// `sysfs` sources that have no sensor that can be read.
    pub fn blind_sources(&self) -> usize {
        let is_blind = |scan: &&Arc<Shared>| scan.is_blind.load(Ordering::SeqCst);
        self.scans.iter().filter(is_blind).count()
    }

    /// No more samples will come.
    pub fn is_over(&self) -> bool {
        self.scans.is_empty() && self.sims.iter().all(Sim::ended)
    }

    /// A source samples whenever there is room.
    pub fn is_unpaced(&self) -> bool {
        let is_unpaced = |sim: &Sim| sim.is_unpaced() && !sim.ended();
        self.sims.iter().any(is_unpaced)
    }

    /// When the next sample is due.
    pub fn next(&self) -> Option<Instant> {
        self.sims.iter().filter_map(Sim::next).min()
    }

    /// Takes the samples that are due. `unpaced` is the room for sources that wait for it. Returns failures of
    /// sensors.
    pub fn sample(&mut self, to: &mut Intake<'_>, unpaced: Room) -> u64 {
        // Not the loop's own time: streams may have been taken since.
        let (now, now_ns) = sys::moment();
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
        for scan in &self.scans {
            scan.is_over.store(true, Ordering::SeqCst);
        }
    }

    /// Takes what the threads have read. Returns failures of sensors.
    fn take(&mut self, to: &mut Intake<'_>) -> u64 {
        let mut errors = 0;
        for scan in &self.scans {
            let pending = std::mem::take(&mut *scan.pending());
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
}

/// The sensors of one `sysfs` source, and when they are read.
struct Scan {
    sysfs: Sysfs,
    interval: Duration,
    next: Instant,
    next_rescan: Instant,
    shared: Arc<Shared>,
}

impl Scan {
    /// Waits for the next tick, and reads the sensors.
    fn pass(&mut self) {
        std::thread::sleep(self.next.saturating_duration_since(Instant::now()));
        let (now, now_ns) = sys::moment();
        let shared = self.shared.clone();
        let mut tell = |notice: sysfs::Notice<'_>| {
            let errors = sysfs::tell(&notice);
            shared.pending().errors += errors;
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
        let is_over = || shared.is_over.load(Ordering::SeqCst) || sys::stop_pending();
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
            .sample(self.interval / 2, &mut emit, &is_over, &mut tell);
        let is_blind = self.sysfs.readable() == 0;
        shared.is_blind.store(is_blind, Ordering::SeqCst);
        // Ticks for which the sensors themselves were too slow are left out.
        while self.next <= now {
            self.next += self.interval;
        }
    }
}

//! Sources that are sampled by this machine's clock: simulated sensors and those of the kernel.
//!
//! A sample cannot wait: one that finds no room is dropped and counted. Simulated sensors at rate `max` are the
//! exception, since they produce only as much as there is room for.

use std::time::{Duration, Instant};

use crate::log;
use crate::reading::stream::{Intake, Room};
use crate::source::sim::{self, Sim};
use crate::source::spec::SourceSpec;
use crate::source::sysfs::{self, Sysfs};
use crate::sys;

const SYSFS_RESCAN_PERIOD: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Sampler {
    sims: Vec<Sim>,
    scans: Vec<Scan>,
}

/// The sensors of one `sysfs` source, and when they are read.
struct Scan {
    sysfs: Sysfs,
    interval: Duration,
    next: Instant,
    next_rescan: Instant,
}

impl Sampler {
    /// Starts the sources of `specs` that are sampled.
    pub fn new(specs: &[SourceSpec], now: Instant) -> Self {
        let mut sampler = Sampler::default();
        for spec in specs {
            match spec {
                SourceSpec::Sim(spec) => {
                    let seed = spec.seed.unwrap_or_else(|| getrandom::u64().unwrap_or(0));
                    sampler.sims.push(Sim::new(spec, seed, now));
                }
                SourceSpec::Sysfs { root, interval } => sampler.scans.push(Scan {
                    sysfs: Sysfs::new(root.clone()),
                    interval: *interval,
                    next: now,
                    next_rescan: now,
                }),
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
        let is_blind = |scan: &&Scan| scan.sysfs.readable() == 0;
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
        let sims = self.sims.iter().filter_map(Sim::next);
        sims.chain(self.scans.iter().map(|scan| scan.next)).min()
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
        let due = self.scans.iter_mut().filter(|scan| scan.next <= now);
        due.map(|scan| scan.sample(to, now, now_ns)).sum()
    }
}

impl Scan {
    fn sample(&mut self, to: &mut Intake<'_>, now: Instant, now_ns: i64) -> u64 {
        let mut errors = 0;
        if self.next_rescan <= now {
            self.sysfs
                .rescan(&mut |notice| errors += sysfs::tell(&notice));
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
        self.sysfs.sample(
            &mut |sensor, field, value| to.sample(tick_ns, sensor, field, value),
            &sys::stop_pending,
            &mut |notice| errors += sysfs::tell(&notice),
        );
        // Ticks for which the sensors themselves were too slow are left out.
        while self.next <= now {
            self.next += self.interval;
        }
        errors
    }
}

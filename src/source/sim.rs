//! Simulated sensors: temperatures that drift, each sampled at its rate. Takes the time as an argument.

use std::time::{Duration, Instant};

use crate::reading::series;
use crate::source::spec::{SimRate, SimSpec};

pub const FIELD: &str = "temperature_c";
/// After a pause longer than this (a paused container, a suspended machine) the sampler continues
/// from now and reports how many samples it missed.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);
/// At rate `max`, readings that share one timestamp.
const CHUNK_ROWS: usize = 256;
const NS_PER_S: f64 = 1e9;

#[derive(Debug)]
pub struct Sim {
    names: Vec<String>,
    values: Vec<f64>,
    rng: fastrand::Rng,
    /// Interval between two samples of one sensor; `None` at rate `max`.
    period_ns: Option<f64>,
    began: Instant,
    /// Rounds through all sensors since `began`.
    round: u64,
    /// Index of the next sensor at rate `max`.
    turn: usize,
    /// Readings left; `None` without end.
    left: Option<u64>,
}

impl Sim {
    pub fn new(spec: &SimSpec, seed: u64, now: Instant) -> Self {
        let name = |n: u32| series::canonical("sim", &[("sensor".into(), n.to_string().into())]);
        Sim {
            names: (1..=spec.sensors).map(name).collect(),
            values: vec![20.0; spec.sensors as usize],
            rng: fastrand::Rng::with_seed(seed),
            period_ns: match spec.rate {
                SimRate::Max => None,
                SimRate::PerSecond(rate) => Some(NS_PER_S / rate),
            },
            began: now,
            round: 0,
            turn: 0,
            left: (spec.count > 0).then_some(spec.count),
        }
    }

    pub fn ended(&self) -> bool {
        self.left == Some(0)
    }

    /// It waits for room instead of dropping.
    pub fn is_unpaced(&self) -> bool {
        self.period_ns.is_none()
    }

    fn at(&self, round: u64) -> Instant {
        let ns = self.period_ns.unwrap_or(0.0) * round as f64;
        self.began + Duration::from_nanos(ns as u64)
    }

    /// When the next samples are due; `None` at rate `max`, and at the end.
    pub fn next(&self) -> Option<Instant> {
        (!self.ended() && !self.is_unpaced()).then(|| self.at(self.round))
    }

    /// Skips samples that are too late to catch up with. Returns their number.
    pub fn skip_missed(&mut self, now: Instant) -> u64 {
        let Some(period_ns) = self.period_ns else {
            return 0;
        };
        let late = now.saturating_duration_since(self.at(self.round));
        if late <= CATCH_UP_MAX || self.ended() {
            return 0;
        }
        let rounds = (late.as_nanos() as f64 / period_ns) as u64;
        self.round += rounds;
        rounds * self.names.len() as u64
    }

    /// Takes the samples that are due at `now`, which is `now_ns` by the system clock. Each has the time at
    /// which it was due.
    pub fn sample(&mut self, now: Instant, now_ns: i64, emit: &mut dyn FnMut(i64, &str, f64)) {
        while let Some(due) = self.next()
            && due <= now
        {
            let late_ns = now.duration_since(due).as_nanos() as i64;
            for sensor in 0..self.names.len() {
                if !self.ended() {
                    self.emit(sensor, now_ns - late_ns, emit);
                }
            }
            self.round += 1;
        }
    }

    /// At rate `max`: takes the next few samples, but no more than `room`.
    pub fn sample_unpaced(
        &mut self,
        room: usize,
        now_ns: i64,
        emit: &mut dyn FnMut(i64, &str, f64),
    ) {
        for _ in 0..room.min(CHUNK_ROWS) {
            if self.ended() {
                return;
            }
            self.emit(self.turn, now_ns, emit);
            self.turn = (self.turn + 1) % self.names.len();
        }
    }

    fn emit(&mut self, sensor: usize, time_ns: i64, emit: &mut dyn FnMut(i64, &str, f64)) {
        let value = &mut self.values[sensor];
        // A step of up to a fifth of a degree, drawn back to 20 °C; two decimals, as sensors have.
        *value += (self.rng.f64() - 0.5) * 0.4 + (20.0 - *value) * 0.01;
        let rounded = (*value * 100.0).round() / 100.0;
        emit(time_ns, &self.names[sensor], rounded);
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
    }
}

//! What `--source` may say: the kinds of source, their keys, defaults and limits.
//!
//! `KINDS` is the one table: help, defaults and the known keys all come from the text in its rows.
//! Pure: nothing is opened here, so a spec that parses may still name a folder that is not there.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::line::Precision;
use crate::units;

/// Sensors of one simulated source.
pub const SIM_SENSORS: RangeInclusive<u32> = 1..=4096;
/// Readings a second of one simulated sensor. Slower than one in a day needs no simulation, and
/// the period still fits every clock.
pub const SIM_RATE_PER_S: RangeInclusive<f64> = 0.00001..=100_000.0;
/// The time between two rounds over the kernel's sensors.
pub const SYSFS_INTERVAL: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(86_400);

#[derive(Clone, Debug, PartialEq)]
pub enum SourceSpec {
    Sim(SimSpec),
    Sysfs { root: PathBuf, interval: Duration },
    Stdin { precision: Precision },
}

#[derive(Clone, Debug, PartialEq)]
pub struct SimSpec {
    pub sensors: u32,
    pub rate: Rate,
    /// Readings in all, then the source ends; 0 never ends.
    pub count: u64,
    pub seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// As fast as the writer takes them.
    Max,
    /// Readings a second of each sensor.
    PerSecond(f64),
}

struct Kind {
    name: &'static str,
    /// The keys with their defaults, as they would be written.
    keys: &'static str,
    help: &'static str,
    read: fn(&Keys) -> Result<SourceSpec, String>,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "sim",
        keys: "sensors=8,rate=10,count=0,seed=N",
        help: "simulated sensors; rate in readings a second for each sensor, or max for as fast \
               as the writer takes them; ends after count readings in all (0: never); the same \
               seed gives the same values",
        read: sim,
    },
    Kind {
        name: "sysfs",
        keys: "root=/sys,interval=1s",
        help: "the kernel's own sensors: hwmon, thermal, iio, power_supply; a sensor that fails \
               or disappears is skipped, and taken up again when it returns",
        read: sysfs,
    },
    Kind {
        name: "stdin",
        keys: "precision=ns",
        help: "line protocol; ends at end of file; precision of its timestamps is ns, us, ms or s",
        read: stdin,
    },
];

impl SourceSpec {
    pub fn parse(spec: &str) -> Result<Self, String> {
        let (name, rest) = match spec.split_once(':') {
            Some((name, rest)) => (name, Some(rest)),
            None => (spec, None),
        };
        let kind = KINDS
            .iter()
            .find(|kind| kind.name == name)
            .ok_or_else(|| format!("{spec:?} is not a source; known are {}", known()))?;
        Keys::parse(kind, rest)
            .and_then(|keys| (kind.read)(&keys))
            .map_err(|reason| format!("{spec:?} is not a source: {reason}"))
    }
}

/// The names of the kinds, for errors.
pub fn known() -> String {
    let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
    names.join(", ")
}

/// Each kind as it is written, and what it reads, for the help.
pub fn forms() -> impl Iterator<Item = (String, &'static str)> {
    KINDS
        .iter()
        .map(|kind| (format!("{}[:{}]", kind.name, kind.keys), kind.help))
}

fn sim(keys: &Keys) -> Result<SourceSpec, String> {
    let sensors = keys.number("sensors", &SIM_SENSORS)?;
    let rate = match keys.value("rate") {
        "max" => Rate::Max,
        text => match text.parse() {
            Ok(rate) if SIM_RATE_PER_S.contains(&rate) => Rate::PerSecond(rate),
            _ => {
                let (least, most) = SIM_RATE_PER_S.into_inner();
                return Err(format!(
                    "rate {text:?} is not max, nor a number from {least} to {most}"
                ));
            }
        },
    };
    let count = keys.number("count", &(0..=u64::MAX))?;
    let seed = match keys.given("seed") {
        Some(_) => Some(keys.number("seed", &(0..=u64::MAX))?),
        None => None,
    };
    Ok(SourceSpec::Sim(SimSpec {
        sensors,
        rate,
        count,
        seed,
    }))
}

fn sysfs(keys: &Keys) -> Result<SourceSpec, String> {
    let root = keys.value("root");
    if root.contains('\0') {
        return Err(format!("root {root:?} is not a path"));
    }
    let text = keys.value("interval");
    let interval = units::parse_duration(text)
        .ok()
        .filter(|interval| SYSFS_INTERVAL.contains(interval))
        .ok_or_else(|| {
            format!(
                "interval {text:?} is not a duration from {} to {}, such as {}",
                units::duration(*SYSFS_INTERVAL.start()),
                units::duration(*SYSFS_INTERVAL.end()),
                units::DURATION_EXAMPLES
            )
        })?;
    Ok(SourceSpec::Sysfs {
        root: root.into(),
        interval,
    })
}

fn stdin(keys: &Keys) -> Result<SourceSpec, String> {
    let text = keys.value("precision");
    let precision = Precision::parse(text)
        .ok_or_else(|| format!("precision {text:?} is not one of ns, us, ms, s"))?;
    Ok(SourceSpec::Stdin { precision })
}

/// The `key=value` pairs after the colon, over the defaults of their kind.
struct Keys<'a> {
    given: Vec<(&'a str, &'a str)>,
    defaults: Vec<(&'static str, &'static str)>,
}

impl<'a> Keys<'a> {
    fn parse(kind: &Kind, rest: Option<&'a str>) -> Result<Self, String> {
        let mut keys = Keys {
            given: Vec::new(),
            defaults: kind.keys.split(',').filter_map(pair).collect(),
        };
        for text in rest.iter().flat_map(|rest| rest.split(',')) {
            let (key, value) = pair(text)
                .filter(|(_, value)| !value.is_empty())
                .ok_or_else(|| format!("{text:?} is not key=value, as in {}", kind.keys))?;
            if !keys.defaults.iter().any(|(known, _)| *known == key) {
                return Err(format!("unknown key {key:?}; known are {}", kind.keys));
            }
            if keys.given(key).is_some() {
                return Err(format!("{key} is given twice"));
            }
            keys.given.push((key, value));
        }
        Ok(keys)
    }

    fn given(&self, key: &str) -> Option<&'a str> {
        let mut given = self.given.iter();
        given
            .find(|(name, _)| *name == key)
            .map(|(_, value)| *value)
    }

    fn value(&self, key: &str) -> &'a str {
        let mut defaults = self.defaults.iter();
        self.given(key)
            .or_else(|| {
                defaults
                    .find(|(name, _)| *name == key)
                    .map(|(_, value)| *value)
            })
            .unwrap_or_default()
    }

    fn number<T>(&self, key: &str, limits: &RangeInclusive<T>) -> Result<T, String>
    where
        T: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let text = self.value(key);
        text.parse()
            .ok()
            .filter(|number| limits.contains(number))
            .ok_or_else(|| {
                format!(
                    "{key} {text:?} is not a whole number from {} to {}",
                    limits.start(),
                    limits.end()
                )
            })
    }
}

fn pair(text: &str) -> Option<(&str, &str)> {
    text.split_once('=')
}

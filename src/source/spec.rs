//! What `--source` may say: the kinds of source, their keys, defaults and limits.
//!
//! `KINDS` is the one table: help, defaults and the known keys all come from the text in its rows.
//! Pure: nothing is opened here, so a spec that parses may still name a folder that is not there.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::reading::line::Precision;
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
    Sysfs {
        root: PathBuf,
        interval: Duration,
    },
    Stdin {
        precision: Precision,
    },
    Unix {
        path: PathBuf,
        /// Permissions of the socket.
        mode: u32,
        precision: Precision,
    },
    Tcp {
        port: Port,
        precision: Precision,
    },
    Udp {
        port: Port,
        precision: Precision,
    },
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub host: String,
    /// 0: the system chooses.
    pub number: u16,
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.number)
        } else {
            write!(f, "{}:{}", self.host, self.number)
        }
    }
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
    /// What stands before the keys, if anything; it may hold any character.
    place: &'static str,
    /// The keys with their defaults, as they would be written.
    keys: &'static str,
    help: &'static str,
    read: fn(&Keys) -> Result<SourceSpec, String>,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "sim",
        place: "",
        keys: "sensors=8,rate=10,count=0,seed=N",
        help: "simulated sensors; rate in readings a second for each sensor, or max for as fast \
               as the writer takes them; ends after count readings in all (0: never); the same \
               seed gives the same values",
        read: sim,
    },
    Kind {
        name: "sysfs",
        place: "",
        keys: "root=/sys,interval=1s",
        help: "the kernel's own sensors: hwmon, thermal, iio, power_supply; a sensor that fails \
               or disappears is skipped, and taken up again when it returns",
        read: sysfs,
    },
    Kind {
        name: "stdin",
        place: "",
        keys: "precision=ns",
        help: "line protocol; ends at end of file; precision of its timestamps is ns, us, ms or s",
        read: stdin,
    },
    Kind {
        name: "unix",
        place: "PATH",
        keys: "mode=0660,precision=ns",
        help: "line protocol over a unix socket that is made at PATH with these permissions; a \
               stale one is replaced, one on which somebody listens is not",
        read: unix,
    },
    Kind {
        name: "tcp",
        place: "[HOST:]PORT",
        keys: "precision=ns",
        help: "line protocol over TCP; without a host, of this machine only (127.0.0.1); port 0 is \
               one that is free, which the log tells",
        read: tcp,
    },
    Kind {
        name: "udp",
        place: "[HOST:]PORT",
        keys: "precision=ns",
        help: "line protocol in datagrams of whole lines; cannot wait, so that what finds no room \
               is counted as dropped; a datagram that the kernel dropped counts as one",
        read: udp,
    },
];

const HOST_DEFAULT: &str = "127.0.0.1";
/// What the kernel takes, less the byte that ends it.
pub const UNIX_PATH_BYTES_MAX: usize = 107;

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
        let (place, rest) = match (kind.place, rest) {
            ("", rest) => ("", rest),
            (_, Some(rest)) => parted(kind, rest),
            (what, None) => return Err(format!("{spec:?} is not a source: no {what}")),
        };
        Keys::parse(kind, place, rest)
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
    KINDS.iter().map(|kind| match kind.place {
        "" => (format!("{}[:{}]", kind.name, kind.keys), kind.help),
        place => (format!("{}:{place}[,{}]", kind.name, kind.keys), kind.help),
    })
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
    let precision = precision(keys)?;
    Ok(SourceSpec::Stdin { precision })
}

fn precision(keys: &Keys) -> Result<Precision, String> {
    let text = keys.value("precision");
    Precision::parse(text).ok_or_else(|| format!("precision {text:?} is not one of ns, us, ms, s"))
}

fn unix(keys: &Keys) -> Result<SourceSpec, String> {
    let path = keys.place;
    if path.is_empty() || path.contains('\0') {
        return Err(format!("{path:?} is not a path"));
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        return Err(format!(
            "a socket's path has at most {UNIX_PATH_BYTES_MAX} bytes, this has {}",
            path.len()
        ));
    }
    let text = keys.value("mode");
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777 && !text.starts_with('+'))
        .ok_or_else(|| format!("mode {text:?} is not a number from 0000 to 0777, such as 0660"))?;
    Ok(SourceSpec::Unix {
        path: path.into(),
        mode,
        precision: precision(keys)?,
    })
}

fn tcp(keys: &Keys) -> Result<SourceSpec, String> {
    Ok(SourceSpec::Tcp {
        port: port(keys)?,
        precision: precision(keys)?,
    })
}

fn udp(keys: &Keys) -> Result<SourceSpec, String> {
    Ok(SourceSpec::Udp {
        port: port(keys)?,
        precision: precision(keys)?,
    })
}

fn port(keys: &Keys) -> Result<Port, String> {
    let (host, number) = match keys.place.rsplit_once(':') {
        Some((host, number)) => (host, number),
        None => (HOST_DEFAULT, keys.place),
    };
    // An IPv6 address has colons of its own.
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    if host.is_empty() || (bare.is_none() && host.contains(':')) {
        return Err(format!(
            "{:?} is not [HOST:]PORT, such as 8094, 0.0.0.0:8094 or [::]:8094",
            keys.place
        ));
    }
    let number = number
        .parse()
        .ok()
        .filter(|_| number.bytes().all(|b| b.is_ascii_digit()))
        .ok_or_else(|| format!("{number:?} is not a port from 0 to 65535"))?;
    Ok(Port {
        host: host.to_owned(),
        number,
    })
}

/// Parts the place from the keys behind it. A path may hold commas and equals signs, so that only known keys
/// at its end are keys.
fn parted<'a>(kind: &Kind, text: &'a str) -> (&'a str, Option<&'a str>) {
    let is_key = |text: &str| {
        let mut known = kind.keys.split(',').filter_map(pair);
        pair(text).is_some_and(|(key, _)| known.any(|(name, _)| name == key))
    };
    let mut place = text;
    while let Some((before, last)) = place.rsplit_once(',')
        && is_key(last)
    {
        place = before;
    }
    let keys = text[place.len()..].strip_prefix(',');
    (place, keys)
}

/// The `key=value` pairs after the colon, over the defaults of their kind.
struct Keys<'a> {
    place: &'a str,
    given: Vec<(&'a str, &'a str)>,
    defaults: Vec<(&'static str, &'static str)>,
}

impl<'a> Keys<'a> {
    fn parse(kind: &Kind, place: &'a str, rest: Option<&'a str>) -> Result<Self, String> {
        let mut keys = Keys {
            place,
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

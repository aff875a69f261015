//! The syntax of `--source`: kinds, keys, defaults and limits.
//!
//! `KINDS` is the one table, and a key is written once: where its kind's function reads it, with its default.
//! Pure: opens nothing, so a spec that parses may name a folder that does not exist.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::reading::glob;
use crate::reading::line::Precision;
use crate::values::{ValueReader, duration, path, whole};

/// Sensors of one simulated source.
pub const SIM_SENSORS: RangeInclusive<u32> = 1..=4096;
/// Readings a second of one simulated sensor. At the lower bound, about one a day,
/// the period fits every clock.
pub const SIM_RATE_PER_S: RangeInclusive<f64> = 0.00001..=100_000.0;
/// Interval between two rounds over the kernel's sensors.
pub const SYSFS_INTERVAL: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(86_400);

#[derive(Clone, Debug, PartialEq)]
pub enum SourceSpec {
    Sim(SimSpec),
    Sysfs {
        root: PathBuf,
        interval: Duration,
        choice: Choice,
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
    Http {
        door: Door,
        /// Holds what clients have to show.
        token_file: Option<PathBuf>,
        precision: Precision,
    },
}

/// Where clients of HTTP come in.
#[derive(Clone, Debug, PartialEq)]
pub enum Door {
    Unix { path: PathBuf, mode: u32 },
    Tcp(Port),
}

/// As the log names it: without its keys.
impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceSpec::Sim(_) => f.write_str("sim"),
            SourceSpec::Sysfs { .. } => f.write_str("sysfs"),
            SourceSpec::Stdin { .. } => f.write_str("stdin"),
            SourceSpec::Unix { path, .. } => write!(f, "unix:{}", path.display()),
            SourceSpec::Tcp { port, .. } => write!(f, "tcp:{port}"),
            SourceSpec::Udp { port, .. } => write!(f, "udp:{port}"),
            SourceSpec::Http { door, .. } => match door {
                Door::Unix { path, .. } => write!(f, "http:unix:{}", path.display()),
                Door::Tcp(port) => write!(f, "http:{port}"),
            },
        }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub host: String,
    /// 0: the system chooses.
    pub number: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.number)
        } else {
            write!(f, "{}:{}", self.host, self.number)
        }
    }
}

/// Which devices of `sysfs` are read: patterns for class, chip, device and its other tags.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Empty: all.
    pub include: Vec<String>,
    pub exclude: Vec<String>,
}

impl Choice {
    /// Whether a device of which these are the names is read.
    pub fn takes<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> bool {
        let is_of = |patterns: &[String]| {
            let matches = |name| patterns.iter().any(|pattern| glob::matches(pattern, name));
            names.clone().any(matches)
        };
        (self.include.is_empty() || is_of(&self.include)) && !is_of(&self.exclude)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct SimSpec {
    pub sensors: u32,
    pub rate: SimRate,
    /// Readings in all, then the source ends; 0 never ends.
    pub count: u64,
    pub seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SimRate {
    /// As fast as the writer commits.
    Max,
    /// Readings a second of each sensor.
    PerSecond(f64),
}

struct SourceKind {
    name: &'static str,
    /// Form of the place before the keys, or empty. A place may hold any character.
    place: &'static str,
    help: &'static str,
    read: fn(&mut Keys) -> Result<SourceSpec, String>,
}

const KINDS: &[SourceKind] = &[
    SourceKind {
        name: "sim",
        place: "",
        help: "simulated sensors; rate in readings a second for each sensor, or max for as fast \
               as the writer takes them; ends after count readings in all (0: never); the same \
               seed gives the same values",
        read: sim,
    },
    SourceKind {
        name: "sysfs",
        place: "",
        help: "the kernel's own sensors: hwmon, thermal, iio, power_supply; a sensor that fails \
               or disappears is skipped, and taken up again when it returns; include and exclude, which may \
               be repeated, choose by class, chip, device or supply before any sensor is opened",
        read: sysfs,
    },
    SourceKind {
        name: "stdin",
        place: "",
        help: "line protocol; ends at end of file; precision of its timestamps is ns, us, ms or s",
        read: stdin,
    },
    SourceKind {
        name: "unix",
        place: "PATH",
        help: "line protocol over a unix socket that is made at PATH with these permissions; a \
               stale one is replaced, one on which somebody listens is not",
        read: unix,
    },
    SourceKind {
        name: "tcp",
        place: "[HOST:]PORT",
        help: "line protocol over TCP; without a host, of this machine only (127.0.0.1); port 0 is \
               one that is free, which the log names",
        read: tcp,
    },
    SourceKind {
        name: "udp",
        place: "[HOST:]PORT",
        help: "line protocol in datagrams of whole lines; cannot wait, so that a reading that finds \
               no room is counted as dropped; a datagram that the kernel dropped counts as one",
        read: udp,
    },
    SourceKind {
        name: "http",
        place: "[HOST:]PORT or unix:PATH",
        help: "line protocol as clients of InfluxDB send it; 204 means committed and synced; the file holds \
               a token that clients have to show, and without one everybody may write who reaches the port; \
               precision is of clients that give none; mode is of the socket at PATH",
        read: http,
    },
];

impl SourceKind {
    /// The keys with their defaults.
    fn keys(&self) -> Vec<(&'static str, &'static str)> {
        let mut keys = Keys::default();
        // Fails at the place, which is missing here and is read after the keys.
        let _ = (self.read)(&mut keys);
        keys.known
    }
}

fn listed(keys: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = keys
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

const HOST_DEFAULT: &str = "127.0.0.1";
/// Limit of the kernel, less the terminating NUL.
pub const UNIX_PATH_BYTES_MAX: usize = 107;

impl SourceSpec {
    pub fn parse(spec: &str) -> Result<Self, String> {
        // A comma in the place of the colon, as behind a port, can mean nothing else.
        let (name, rest) = match spec.split_once([':', ',']) {
            Some((name, rest)) => (name, Some(rest)),
            None => (spec, None),
        };
        let kind = KINDS.iter().find(|kind| kind.name == name);
        let kind =
            kind.ok_or_else(|| format!("{spec:?} is not a source; known are {}", known()))?;
        let known = kind.keys();
        let (place, rest) = match (kind.place, rest) {
            ("", rest) => ("", rest),
            (_, Some(rest)) => parted(&known, rest),
            (what, None) => return Err(format!("{spec:?} is not a source: no {what}")),
        };
        Keys::parse(&known, place, rest)
            .and_then(|mut keys| (kind.read)(&mut keys))
            .map_err(|reason| format!("{spec:?} is not a source: {reason}"))
    }

    /// Its senders send again what they have no answer to, and do not know how far it came.
    pub fn may_repeat(&self) -> bool {
        matches!(self, SourceSpec::Http { .. })
    }
}

/// The names of the kinds, for errors.
pub fn known() -> String {
    let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
    names.join(", ")
}

/// Syntax and help text of each kind.
pub fn forms() -> impl Iterator<Item = (String, &'static str)> {
    KINDS.iter().map(|kind| {
        let keys = listed(&kind.keys());
        match kind.place {
            "" => (format!("{}[:{keys}]", kind.name), kind.help),
            place => (format!("{}:{place}[,{keys}]", kind.name), kind.help),
        }
    })
}

fn sim(keys: &mut Keys) -> Result<SourceSpec, String> {
    Ok(SourceSpec::Sim(SimSpec {
        sensors: keys.read("sensors", "8", whole(SIM_SENSORS))?,
        rate: keys.read("rate", "10", rate())?,
        count: keys.read("count", "0", whole(0..=u64::MAX))?,
        seed: keys.read_if_given("seed", "N", &whole(0..=u64::MAX))?,
    }))
}

fn sysfs(keys: &mut Keys) -> Result<SourceSpec, String> {
    Ok(SourceSpec::Sysfs {
        root: keys.read("root", "/sys", path())?,
        interval: keys.read("interval", "1s", duration(SYSFS_INTERVAL))?,
        choice: Choice {
            include: keys.read_all("include", "GLOB"),
            exclude: keys.read_all("exclude", "GLOB"),
        },
    })
}

fn stdin(keys: &mut Keys) -> Result<SourceSpec, String> {
    let precision = precision(keys)?;
    Ok(SourceSpec::Stdin { precision })
}

fn unix(keys: &mut Keys) -> Result<SourceSpec, String> {
    Ok(SourceSpec::Unix {
        mode: keys.read("mode", "0660", mode())?,
        precision: precision(keys)?,
        path: socket_path(&keys.place)?,
    })
}

fn tcp(keys: &mut Keys) -> Result<SourceSpec, String> {
    let precision = precision(keys)?;
    let port = port(&keys.place)?;
    Ok(SourceSpec::Tcp { port, precision })
}

fn udp(keys: &mut Keys) -> Result<SourceSpec, String> {
    let precision = precision(keys)?;
    let port = port(&keys.place)?;
    Ok(SourceSpec::Udp { port, precision })
}

fn http(keys: &mut Keys) -> Result<SourceSpec, String> {
    let precision = precision(keys)?;
    let token_file = keys.read_if_given("token-file", "PATH", &path())?;
    let mode = keys.read_if_given("mode", "0660", &mode())?;
    let door = match (keys.place.strip_prefix("unix:"), mode) {
        (Some(path), mode) => Door::Unix {
            path: socket_path(path)?,
            mode: mode.unwrap_or(0o660),
        },
        (None, Some(_)) => return Err("mode is for http:unix:PATH".into()),
        (None, None) => Door::Tcp(port(&keys.place)?),
    };
    Ok(SourceSpec::Http {
        door,
        token_file,
        precision,
    })
}

fn rate() -> ValueReader<SimRate> {
    let (least, most) = SIM_RATE_PER_S.into_inner();
    let expected = format!("max, nor a number from {least} to {most}");
    ValueReader::new(expected, |text| match text {
        "max" => Some(SimRate::Max),
        text => {
            let rate = text.parse().ok();
            rate.filter(|rate| SIM_RATE_PER_S.contains(rate))
                .map(SimRate::PerSecond)
        }
    })
}

fn precision(keys: &mut Keys) -> Result<Precision, String> {
    let reader = ValueReader::new("one of ns, us, ms, s", Precision::parse);
    keys.read("precision", "ns", reader)
}

/// Permissions, in octal.
fn mode() -> ValueReader<u32> {
    ValueReader::new("a number from 0000 to 0777, such as 0660", |text| {
        let mode = u32::from_str_radix(text, 8).ok();
        mode.filter(|mode| *mode <= 0o777 && !text.starts_with('+'))
    })
}

fn socket_path(text: &str) -> Result<PathBuf, String> {
    if text.len() > UNIX_PATH_BYTES_MAX {
        return Err(format!(
            "a socket's path has at most {UNIX_PATH_BYTES_MAX} bytes, this has {}",
            text.len()
        ));
    }
    path().read(text)
}

fn port(text: &str) -> Result<Port, String> {
    let (host, number) = match text.rsplit_once(':') {
        Some((host, number)) => (host, number),
        None => (HOST_DEFAULT, text),
    };
    // An IPv6 address has colons of its own.
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    if host.is_empty() || host.contains('/') || (bare.is_none() && host.contains(':')) {
        return Err(format!(
            "{text:?} is not [HOST:]PORT, such as 8094, 0.0.0.0:8094 or [::]:8094"
        ));
    }
    let reader = ValueReader::new("a port from 0 to 65535", |text| {
        whole(0..=u16::MAX).read(text).ok()
    });
    Ok(Port {
        host: host.to_owned(),
        number: reader.read(number)?,
    })
}

/// Splits the place from the keys. A path may hold commas and equals signs, so only known keys
/// at its end count as keys.
fn parted<'a>(known: &[(&str, &str)], text: &'a str) -> (&'a str, Option<&'a str>) {
    let is_key = |text: &str| {
        let key = text.split_once('=').map(|(key, _)| key);
        known.iter().any(|(name, _)| Some(*name) == key)
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

/// The `key=value` pairs after the colon. Each `read` adds its key to the known ones.
#[derive(Default)]
struct Keys {
    place: String,
    given: Vec<(String, String)>,
    known: Vec<(&'static str, &'static str)>,
}

impl Keys {
    fn parse(known: &[(&str, &str)], place: &str, rest: Option<&str>) -> Result<Self, String> {
        let mut keys = Keys {
            place: place.to_owned(),
            ..Keys::default()
        };
        for text in rest.iter().flat_map(|rest| rest.split(',')) {
            let (key, value) = text
                .split_once('=')
                .filter(|(_, value)| !value.is_empty())
                .ok_or_else(|| format!("{text:?} is not key=value, as in {}", listed(known)))?;
            if !known.iter().any(|(name, _)| *name == key) {
                return Err(format!("unknown key {key:?}; known are {}", listed(known)));
            }
            let is_repeated = ["include", "exclude"].contains(&key);
            if !is_repeated && keys.given.iter().any(|(name, _)| name == key) {
                return Err(format!("{key} is given twice"));
            }
            keys.given.push((key.to_owned(), value.to_owned()));
        }
        Ok(keys)
    }

    fn read<T: 'static>(
        &mut self,
        key: &'static str,
        default: &'static str,
        reader: ValueReader<T>,
    ) -> Result<T, String> {
        let given = self.read_if_given(key, default, &reader)?;
        given.map_or_else(|| reader.read(default), Ok)
    }

    /// The values of a key that may be repeated.
    fn read_all(&mut self, key: &'static str, form: &'static str) -> Vec<String> {
        self.known.push((key, form));
        let given = self.given.iter().filter(|(name, _)| name == key);
        given.map(|(_, value)| value.clone()).collect()
    }

    /// `None` where the key is not given; `form` stands for its value in the help.
    fn read_if_given<T: 'static>(
        &mut self,
        key: &'static str,
        form: &'static str,
        reader: &ValueReader<T>,
    ) -> Result<Option<T>, String> {
        self.known.push((key, form));
        let given = self.given.iter().find(|(name, _)| name == key);
        let read = given.map(|(_, value)| reader.read(value));
        read.transpose().map_err(|reason| format!("{key} {reason}"))
    }
}

//! The kernel's own sensors (hwmon, thermal, iio, power_supply) as readings in SI units.
//!
//! A channel keeps its name over reboots, no two channels share one, and a
//! sensor that fails or is slow costs no other a reading. No thread, no blocking open.
//! A bus number in a name (`i2c/1-0048`) lasts as long as the kernel makes it last. A thread for each source
//! calls `rescan` at the start and each minute, and `sample` at each tick.

mod attribute;
mod channel;
mod scan;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::log::{self, Limit};
use crate::order;
use crate::reading::series;
use crate::source::spec::Choice;
use attribute::Miss;
use channel::{SensorClass, Spec};
use scan::{Seen, Tags};

pub use attribute::Failure;
pub use channel::parse_number;

/// Change of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there and will be read.
    Found,
    /// It is no longer there.
    Gone,
    /// It has no readings from now on: why, and how often since it was last told, this time included.
    Failing(Failure, u64),
    /// Its failing was told, and it has readings again.
    Recovered,
}

/// An event to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// `path` is the file that holds the value, or the one that failed.
    Channel {
        change: Change,
        sensor: &'a str,
        field: &'a str,
        path: &'a Path,
    },
    /// Files of a device that look like channels and are not known, comma-separated.
    Unknown { path: &'a Path, names: &'a str },
    /// There is no sensor at all below `root`.
    None { root: &'a Path },
}

/// A device that takes longer for its channels is read in turn with the others that do.
const SLOW: Duration = Duration::from_millis(50);
/// Failures of one channel that are told before they are down to one a minute.
const FAILING_TOLD_MAX: u32 = 10;

#[derive(Debug)]
struct Channel {
    /// Its channel is its name within the node; with the field it identifies it.
    spec: Spec,
    sensor: String,
    failing: bool,
    /// Failing has been told and recovering has not.
    is_told: bool,
    /// A sensor that answers every other time must not fill the log.
    limit: Limit,
}

impl Channel {
    fn tell(&self, change: Change, path: &Path, tell: &mut dyn FnMut(Notice<'_>)) {
        tell(Notice::Channel {
            change,
            sensor: &self.sensor,
            field: self.spec.field,
            path,
        });
    }

    /// `dir` holds its files.
    fn sample(
        &mut self,
        dir: &Path,
        emit: &mut dyn FnMut(&str, &str, f64),
        tell: &mut dyn FnMut(Notice<'_>),
    ) {
        match attribute::read(dir, &self.spec) {
            Ok(value) => {
                self.failing = false;
                if std::mem::take(&mut self.is_told) {
                    self.tell(Change::Recovered, &dir.join(&self.spec.input), tell);
                }
                emit(&self.sensor, self.spec.field, value);
            }
            Err((Miss::Because(reason), path)) => {
                if !std::mem::replace(&mut self.failing, true)
                    && let Some(before) = self.limit.pass(Instant::now())
                {
                    self.is_told = true;
                    self.tell(Change::Failing(reason, before + 1), &path, tell);
                }
            }
            Err((Miss::Absent | Miss::Interrupted, _)) => {}
        }
    }
}

#[derive(Debug)]
struct Node {
    class: SensorClass,
    place: PathBuf,
    tags: Tags,
    dir: PathBuf,
    channels: Vec<Channel>,
    /// As it was when the tags were last found to be those of this device.
    folder: Option<scan::Folder>,
    /// Duration of the last pass over its channels.
    took: Duration,
}

#[derive(Debug)]
pub struct Sysfs {
    root: PathBuf,
    choice: Choice,
    nodes: Vec<Node>,
    /// Which of the slow nodes is next.
    slow_turn: usize,
    told_none: bool,
}

impl Sysfs {
    /// Reads nothing yet.
    pub fn new(root: PathBuf, choice: Choice) -> Self {
        Sysfs {
            root,
            choice,
            nodes: Vec::new(),
            slow_turn: 0,
            told_none: false,
        }
    }

    pub fn channels(&self) -> usize {
        self.nodes.iter().map(|node| node.channels.len()).sum()
    }

    /// Channels that had a value at the last read, or were not read yet.
    pub fn readable(&self) -> usize {
        let channels = self.nodes.iter().flat_map(|node| &node.channels);
        channels.filter(|channel| !channel.failing).count()
    }

    /// Adds new channels and drops those that have gone. The others keep their names.
    pub fn rescan(&mut self, tell: &mut dyn FnMut(Notice<'_>)) {
        let mut old = std::mem::take(&mut self.nodes);
        let mut added: Vec<(usize, Spec, Option<String>)> = Vec::new();
        let mut new: Vec<(SensorClass, Seen, Vec<Option<String>>)> = Vec::new();
        for class in SensorClass::ALL {
            let Ok(seen) = scan::nodes(&self.root, class, &self.choice) else {
                // A list that fails for want of memory or descriptors does not mean that all have gone.
                self.nodes
                    .extend(old.extract_if(.., |node| node.class == class));
                continue;
            };
            for seen in seen {
                let same = |node: &Node| {
                    node.class == class && node.place == seen.place && node.tags == seen.tags
                };
                match old.iter().position(same) {
                    Some(at) => {
                        let mut node = old.swap_remove(at);
                        let index = self.nodes.len();
                        for spec in node.renew(seen, tell) {
                            let label = label(&node.dir, &spec);
                            added.push((index, spec, label));
                        }
                        self.nodes.push(node);
                    }
                    None => {
                        let labels = seen.specs.iter().map(|spec| label(&seen.dir, spec));
                        let labels = labels.collect();
                        new.push((class, seen, labels));
                    }
                }
            }
        }
        for node in &old {
            node.tell_gone(&node.channels, tell);
        }
        // Order by which nodes with equal tags and labels are numbered: what they are decides
        // where it can, the kernel's numbering only where nothing else differs.
        order::sort_by(&mut new, &|(_, a, a_labels), (_, b, b_labels)| {
            let a_channels = a.specs.iter().map(|spec| (&spec.channel, spec.field));
            let b_channels = b.specs.iter().map(|spec| (&spec.channel, spec.field));
            a.tags
                .cmp(&b.tags)
                .then_with(|| a_channels.cmp(b_channels))
                .then_with(|| a_labels.cmp(b_labels))
                .then_with(|| (a.number, &a.place).cmp(&(b.number, &b.place)))
        });
        for (class, seen, labels) in new {
            let index = self.nodes.len();
            if !seen.unknown.is_empty() {
                tell(Notice::Unknown {
                    path: &seen.dir,
                    names: &seen.unknown,
                });
            }
            let specs = seen.specs.into_iter().zip(labels);
            added.extend(specs.map(|(spec, label)| (index, spec, label)));
            self.nodes.push(Node {
                class,
                place: seen.place,
                tags: seen.tags,
                folder: None,
                took: Duration::ZERO,
                dir: seen.dir,
                channels: Vec::new(),
            });
        }
        self.add(added, tell);

        let none = self.channels() == 0;
        if none && !self.told_none {
            tell(Notice::None { root: &self.root });
        }
        self.told_none = none;
    }

    fn add(&mut self, added: Vec<(usize, Spec, Option<String>)>, tell: &mut dyn FnMut(Notice<'_>)) {
        if added.is_empty() {
            return;
        }
        for (index, spec, label) in added {
            let node = &self.nodes[index];
            let mut copy = 1;
            let sensor = loop {
                let sensor = sensor(
                    node.class,
                    &node.tags,
                    &spec.channel,
                    label.as_deref(),
                    copy,
                );
                let mut channels = self.nodes.iter().flat_map(|node| &node.channels);
                let is_same = |channel: &Channel| {
                    channel.sensor == sensor && channel.spec.field == spec.field
                };
                if !channels.any(is_same) {
                    break sensor;
                }
                copy += 1;
            };
            let channel = Channel {
                spec,
                sensor,
                failing: false,
                is_told: false,
                limit: Limit::of(FAILING_TOLD_MAX),
            };
            let path = node.dir.join(&channel.spec.input);
            channel.tell(Change::Found, &path, tell);
            self.nodes[index].channels.push(channel);
        }
    }

    /// Reads one channel after another. Leaves a device when `halt` returns true for its folder, which is called before
    /// each. Devices that were slow come last and in turn, until `budget` is used up: ten sensors of 750 ms each cost the others nothing.
    pub fn sample(
        &mut self,
        budget: Duration,
        emit: &mut dyn FnMut(&str, &str, f64),
        halt: &dyn Fn(&Path) -> bool,
        tell: &mut dyn FnMut(Notice<'_>),
    ) {
        let began = Instant::now();
        let (quick, slow): (Vec<_>, Vec<_>) =
            (0..self.nodes.len()).partition(|&n| self.nodes[n].took < SLOW);
        for n in quick {
            self.nodes[n].sample(&self.root, emit, halt, tell);
        }
        for turn in 0..slow.len() {
            let n = slow[(self.slow_turn + turn) % slow.len()];
            self.nodes[n].sample(&self.root, emit, halt, tell);
            if began.elapsed() >= budget {
                self.slow_turn = (self.slow_turn + turn + 1) % slow.len();
                return;
            }
        }
    }
}

impl Node {
    fn sample(
        &mut self,
        root: &Path,
        emit: &mut dyn FnMut(&str, &str, f64),
        halt: &dyn Fn(&Path) -> bool,
        tell: &mut dyn FnMut(Notice<'_>),
    ) {
        let began = Instant::now();
        for channel in &mut self.channels {
            if halt(&self.place) {
                return;
            }
            // Before each channel, because a slow sensor may hold up the pass for seconds: the path may
            // lead to another device meanwhile, whose readings never get this one's name.
            let now = scan::folder(&self.place);
            if now.is_none() || self.folder != now {
                if scan::tags(root, self.class, &self.place) != self.tags {
                    // The next rescan takes up the other device.
                    return;
                }
                self.folder = now;
            }
            channel.sample(&self.dir, emit, tell);
        }
        self.took = began.elapsed();
    }

    /// Updates the channels to those seen. Returns the new ones.
    fn renew(&mut self, seen: Seen, tell: &mut dyn FnMut(Notice<'_>)) -> Vec<Spec> {
        let mut old = std::mem::take(&mut self.channels);
        let mut new = Vec::new();
        for spec in seen.specs {
            let same = |channel: &Channel| {
                channel.spec.channel == spec.channel && channel.spec.field == spec.field
            };
            match old.iter().position(same) {
                Some(at) => {
                    let channel = old.swap_remove(at);
                    self.channels.push(Channel { spec, ..channel });
                }
                None => new.push(spec),
            }
        }
        self.tell_gone(&old, tell);
        self.dir = seen.dir;
        new
    }

    fn tell_gone(&self, channels: &[Channel], tell: &mut dyn FnMut(Notice<'_>)) {
        for channel in channels {
            let path = self.dir.join(&channel.spec.input);
            channel.tell(Change::Gone, &path, tell);
        }
    }
}

/// Label of a channel, read when it is added and not again, so that its name stays.
fn label(dir: &Path, spec: &Spec) -> Option<String> {
    scan::text(&dir.join(spec.label.as_ref()?))
}

/// Name of the series; `copy` numbers nodes that nothing else distinguishes, from 1.
fn sensor(
    class: SensorClass,
    tags: &Tags,
    channel: &str,
    label: Option<&str>,
    copy: usize,
) -> String {
    let copy = copy.to_string();
    let own = [
        ("channel", channel),
        ("label", label.unwrap_or("")),
        ("node", if copy == "1" { "" } else { &copy }),
    ];
    let tags: Vec<(Cow<'_, str>, Cow<'_, str>)> = tags
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .chain(own)
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    series::canonical(class.name(), &tags)
}

/// Logs an event of a sensor. Returns the errors to count.
pub fn tell(notice: &Notice<'_>) -> u64 {
    let source: log::Field = ("source", &"sysfs");
    match *notice {
        Notice::Channel {
            change,
            sensor,
            field,
            path,
        } => {
            let path = path.display();
            let of: log::Field = ("sensor", &sensor);
            let fields: [log::Field; 4] = [source, of, ("field", &field), ("path", &path)];
            match change {
                Change::Found => log::info("sensor-found", &fields),
                Change::Gone => log::info("sensor-gone", &fields),
                Change::Recovered => log::info("sensor-recovered", &fields),
                Change::Failing(reason, failed) => {
                    let why: [log::Field; 2] = [("reason", &reason), ("failed", &failed)];
                    log::warn("sensor-failing", &[&fields[..], &why].concat());
                    return 1;
                }
            }
        }
        Notice::Unknown { path, names } => {
            let path = path.display();
            let fields: [log::Field; 3] = [source, ("path", &path), ("channels", &names)];
            log::info("sensor-unknown", &fields);
        }
        Notice::None { root } => log::warn("no-sensors", &[source, ("root", &root.display())]),
    }
    0
}

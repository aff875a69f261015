//! `show`: a table of the sensors, for people. Reads every reading of the window once, in short
//! snapshots, so that no checkpoint waits for it.

mod names;
mod table;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::answer::{complain, no_sensor, print, warn_of_missing};
use crate::exit::Status;
use crate::order;
use crate::place::follow_links;
use crate::reading::glob;
use crate::reading::stream::AFTER_1970_NS;
use crate::reading::{Kind, Value};
use crate::store::{self, Error, Names, Position, Reader, Reading, Times};
use crate::sys::{self, Clock};
use crate::time::{When, timestamp};
use crate::units;
use names::natural;
use table::{BUCKETS, Last, Line, Shown, Style};

/// Upper bounds on series in the table and on their names, which bound its memory: in a container it has what the
/// recorder leaves.
const SERIES_MAX: usize = 1000;
const NAME_BYTES_MAX: usize = 128 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub db: PathBuf,
    /// None: from the oldest reading on.
    pub since: Option<When>,
    pub sensor: String,
    pub busy_timeout: Duration,
}

pub fn run(settings: &Settings) -> Status {
    let columns =
        sys::is_terminal(sys::STDOUT).then(|| sys::terminal_columns(sys::STDOUT).unwrap_or(80));
    match render(settings, columns) {
        Ok(text) => print(text.trim_end_matches('\n')),
        Err(e) => complain(e),
    }
}

/// The time that the table covers, and the sparkline with its heading.
struct Window {
    from_ns: i64,
    spark_from_ns: i64,
    to_ns: i64,
    over: String,
}

impl Window {
    fn new(since: Option<When>, now_ns: i64, reader: &mut Reader) -> Result<Self, Error> {
        let (from_ns, to_ns, mut over) = match since {
            None => {
                let times = reader.oldest_and_newest_time()?;
                let (oldest, newest) = times.unwrap_or((now_ns, now_ns));
                (oldest, newest, "all".to_owned())
            }
            Some(when @ When::Ago(ago)) => {
                let over = format!("last {}", units::duration(ago));
                (when.ns(now_ns), now_ns, over)
            }
            Some(when @ When::At(at)) => {
                (when.ns(now_ns), now_ns, format!("since {}", timestamp(at)))
            }
        };
        // The beginning of a recording would be one block at the end.
        let oldest = reader.oldest_since(from_ns)?.unwrap_or(from_ns);
        let [there, whole] = [oldest, from_ns].map(|from| to_ns.saturating_sub(from));
        let is_short = there > 0 && there < whole / 2;
        if is_short {
            over = format!("last {}", table::age(Duration::from_nanos(there as u64)));
        }
        Ok(Window {
            from_ns,
            spark_from_ns: if is_short { oldest } else { from_ns },
            to_ns,
            over,
        })
    }

    /// Duration of a block of the sparkline, rounded up.
    fn bucket_ns(&self) -> u64 {
        let whole = self
            .to_ns
            .max(self.spark_from_ns)
            .wrapping_sub(self.spark_from_ns) as u64;
        whole / BUCKETS as u64 + 1
    }

    /// Index of the bucket of a time.
    fn bucket(&self, bucket_ns: u64, time_ns: i64) -> usize {
        let from_ns = self.spark_from_ns;
        let bucket = time_ns.max(from_ns).wrapping_sub(from_ns) as u64 / bucket_ns;
        // A clock may have been ahead.
        bucket.min(BUCKETS as u64 - 1) as usize
    }
}

/// Sums of one series.
struct Sum {
    kind: Kind,
    readings: u64,
    time_ns: i64,
    last: Shown,
    least: f64,
    greatest: f64,
    sum: f64,
    buckets: [(f64, u64); BUCKETS],
}

impl Sum {
    fn new(kind: Kind) -> Self {
        Sum {
            kind,
            readings: 0,
            time_ns: i64::MIN,
            last: Shown::Text(String::new()),
            least: f64::INFINITY,
            greatest: f64::NEG_INFINITY,
            sum: 0.0,
            buckets: [(0.0, 0); BUCKETS],
        }
    }

    fn add(&mut self, time_ns: i64, value: Value<'_>, bucket: usize) {
        self.readings += 1;
        // The later of two that have the same time was taken later.
        if time_ns >= self.time_ns {
            self.time_ns = time_ns;
            self.last = match (value, self.kind) {
                (Value::Real(v), _) => Shown::Real(v),
                (Value::Integer(v), Kind::Boolean) => Shown::Word((v != 0).to_string()),
                (Value::Integer(v), _) => Shown::Word(v.to_string()),
                (Value::Text(v), Kind::Unsigned) => Shown::Word(v.to_owned()),
                (Value::Text(v), _) => Shown::Text(table::shorten(v)),
            };
        }
        let number = match value {
            Value::Real(v) => v,
            Value::Integer(v) => v as f64,
            Value::Text(v) if self.kind == Kind::Unsigned => v.parse().unwrap_or(f64::NAN),
            Value::Text(_) => return,
        };
        self.least = self.least.min(number);
        self.greatest = self.greatest.max(number);
        self.sum += number;
        let (sum, count) = &mut self.buckets[bucket];
        *sum += number;
        *count += 1;
    }

    fn line(self, sensor: String, field: String, now_ns: i64) -> Line {
        let age_ns = now_ns.saturating_sub(self.time_ns).max(0);
        let mean = self.sum / self.readings as f64;
        Line {
            sensor,
            field,
            readings: self.readings,
            range: (self.least <= self.greatest).then_some([self.least, mean, self.greatest]),
            means: self
                .buckets
                .iter()
                .map(|(sum, count)| (*count > 0).then(|| sum / *count as f64))
                .collect(),
            last: (self.readings > 0).then(|| Last {
                value: self.last,
                age: Duration::from_nanos(age_ns as u64),
            }),
        }
    }
}

/// Sensor, field and type.
type Key = (String, String, Kind);

#[derive(Default)]
struct Sums {
    by_name: HashMap<Key, usize>,
    name_bytes: usize,
    sums: Vec<Sum>,
    /// Some series are beyond the bounds, and so many readings of them.
    is_cut: bool,
    left_out: u64,
}

impl Sums {
    /// `None` beyond the bounds.
    fn place(&mut self, sensor: &str, field: &str, kind: Kind) -> Option<usize> {
        let key = (sensor.to_owned(), field.to_owned(), kind);
        if let Some(place) = self.by_name.get(&key) {
            return Some(*place);
        }
        let (place, name_bytes) = (self.sums.len(), sensor.len() + field.len());
        if place == SERIES_MAX || self.name_bytes + name_bytes > NAME_BYTES_MAX {
            self.is_cut = true;
            return None;
        }
        self.name_bytes += name_bytes;
        self.by_name.insert(key, place);
        self.sums.push(Sum::new(kind));
        Some(place)
    }
}

/// The table as it is now.
fn render(settings: &Settings, columns: Option<usize>) -> Result<String, Error> {
    let now_ns = sys::clock_ns(Clock::Real);
    let db = follow_links(&settings.db);
    let beside = store::look_before_reading(&db)?;
    let mut reader = Reader::open(&db, settings.busy_timeout)?;
    warn_of_missing(&db, reader.missing(&beside));
    let newest = reader.newest()?;
    let recorded = reader.recorded()?;
    let window = Window::new(settings.since, now_ns, &mut reader)?;
    let newest_id = newest.map_or(0, |(id, _)| id);
    let mut sums = sum_up(settings, &window, newest_id, &mut reader)?;
    // Sensors without a reading in the window are listed too: one that fell silent is worth seeing.
    reader.series(|_, sensor, field, kind| {
        if let Some(kind) = kind
            && glob::matches(&settings.sensor, sensor)
        {
            sums.place(sensor, field, kind);
        }
    })?;
    let of_1970 = reader.sensor_of_1970()?;
    drop(reader);

    let Sums {
        by_name,
        sums,
        is_cut,
        left_out,
        ..
    } = sums;
    let readings: u64 = sums.iter().map(|sum| sum.readings).sum();
    let mut sums: Vec<Option<Sum>> = sums.into_iter().map(Some).collect();
    let mut lines: Vec<Line> = by_name
        .into_iter()
        .filter_map(|((sensor, field, _), place)| {
            let sum = sums.get_mut(place)?.take()?;
            Some(sum.line(sensor, field, now_ns))
        })
        .collect();
    order::sort_by(&mut lines, &|a, b| {
        natural(&a.sensor, &b.sensor).then_with(|| natural(&a.field, &b.field))
    });
    let style = Style {
        columns,
        colours: columns.is_some() && wants_colours(),
    };
    let mut text = String::new();
    if !lines.is_empty() {
        text += &table::table(&lines, &window.over, style);
    }
    if is_cut {
        let shown = lines.len();
        text += &format!(
            "the table ends after {shown} series; {left_out} readings of others are not shown: choose with --sensor\n"
        );
    }
    text += &match newest {
        None if recorded > 0 => format!(
            "no reading is left: {recorded} were recorded and have gone with --retain or --max-size\n"
        ),
        None => "no reading has been recorded\n".to_owned(),
        Some(_) if lines.is_empty() => no_sensor(&settings.sensor) + "\n",
        Some((_, time_ns)) if readings == 0 => format!(
            "no reading since {}; the last one that was recorded is of {} (--since none: all)\n",
            timestamp(window.from_ns),
            timestamp(time_ns)
        ),
        Some(_) => String::new(),
    };
    let is_left_out = window.from_ns >= AFTER_1970_NS && glob::matches(&settings.sensor, &of_1970);
    if is_left_out && !of_1970.is_empty() {
        text += &format!(
            "{} sent times of 1970 (--since none shows these readings; the log has why: event=old-times)\n",
            table::visible(&of_1970)
        );
    }
    Ok(text)
}

fn wants_colours() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}

/// Adds up every reading of the window.
fn sum_up(
    settings: &Settings,
    window: &Window,
    newest_id: i64,
    reader: &mut Reader,
) -> Result<Sums, Error> {
    let bucket_ns = window.bucket_ns();
    // Both closures need it, and never at once.
    let sums = RefCell::new(Sums::default());
    let mut names = Names::default();
    let mut at = Position::default();
    let times = Times {
        from_ns: window.from_ns,
        ..Times::ALL
    };
    let mut name = |sensor: &str, field: &str, kind: Kind| {
        glob::matches(&settings.sensor, sensor)
            .then(|| sums.borrow_mut().place(sensor, field, kind))
    };
    let mut each = |reading: &Reading<'_>, place: &Option<usize>| {
        let sums = &mut *sums.borrow_mut();
        match place.and_then(|place| sums.sums.get_mut(place)) {
            Some(sum) => {
                let bucket = window.bucket(bucket_ns, reading.time_ns);
                sum.add(reading.time_ns, reading.value, bucket);
            }
            None => sums.left_out += 1,
        }
        true
    };
    while reader.chunk(&mut at, newest_id, times, &mut names, &mut name, &mut each)? {}
    Ok(sums.into_inner())
}

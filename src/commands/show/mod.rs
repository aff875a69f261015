//! `show`: a table of the sensors, for people. Reads every reading of the time looked at, in short snapshots
//! and on every processor.

mod table;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use super::{complain, unwritten};
use crate::cli::Show;
use crate::exit::Status;
use crate::reading::glob;
use crate::reading::{Kind, Value};
use crate::sort;
use crate::store::{self, Error, Names, Position, Reader, Times};
use crate::sys::{self, Clock};
use crate::time::{When, timestamp};
use crate::units;
use table::{BUCKETS, Last, Line, Shown, Style};

/// Series in the table at most, and so the memory that it takes.
const SERIES_MAX: usize = 4096;
const THREADS_MAX: usize = 4;
/// Fewer ids are not worth another thread.
const IDS_PER_THREAD_MIN: i64 = 200_000;
/// `--help` tells.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Another screen without a cursor, so that what was on the terminal is there again afterwards.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

pub fn show(settings: &Show) -> Status {
    let size =
        sys::is_terminal(sys::STDOUT).then(|| sys::terminal_size(sys::STDOUT).unwrap_or((80, 24)));
    if !settings.watch {
        return match look(settings, size) {
            Ok(text) => write(&text),
            Err(e) => complain(e),
        };
    }
    if let Err(e) = sys::block_signals() {
        return complain(format_args!("cannot block signals: {e}"));
    }
    let on_terminal = size.is_some();
    if on_terminal {
        write(ENTER);
    }
    let status = watch(settings, on_terminal);
    if on_terminal {
        write(LEAVE);
    }
    match status {
        Ok(status) => status,
        Err(e) => complain(e),
    }
}

fn watch(settings: &Show, on_terminal: bool) -> Result<Status, Error> {
    loop {
        // The window may have another size by now.
        let size = on_terminal.then(|| sys::terminal_size(sys::STDOUT).unwrap_or((80, 24)));
        let text = look(settings, size)?;
        let drawn = match size {
            None => format!("{text}\n"),
            Some((_, rows)) => {
                let lines: Vec<&str> = text.lines().take(rows.saturating_sub(1)).collect();
                let between = format!("{CLEAR_LINE}\r\n");
                format!("{HOME}{}{CLEAR_LINE}{CLEAR_BELOW}", lines.join(&between))
            }
        };
        if let Err(e) = put(&drawn) {
            return Ok(unwritten(&e));
        }
        let mut gone = [sys::Watch::broken(sys::STDOUT)];
        let waited = sys::wait(&mut gone, Some(WATCH_INTERVAL));
        if waited.is_err() || gone[0].ready() || sys::stop_pending() {
            return Ok(Status::Done);
        }
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn write(text: &str) -> Status {
    match put(text) {
        Ok(()) => Status::Done,
        Err(e) => unwritten(&e),
    }
}

/// What the table is of: the times, and what stands over the sparkline.
struct Window {
    from_ns: i64,
    to_ns: i64,
    over: String,
}

impl Window {
    fn new(since: Option<When>, now_ns: i64, reader: &mut Reader) -> Result<Self, Error> {
        let (from_ns, to_ns, over) = match since {
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
        Ok(Window {
            from_ns,
            to_ns,
            over,
        })
    }

    /// How long a block of the sparkline is, rounded up.
    fn bucket_ns(&self) -> u64 {
        let whole = self.to_ns.max(self.from_ns).wrapping_sub(self.from_ns) as u64;
        whole / BUCKETS as u64 + 1
    }

    /// Of a time that is not before the window.
    fn bucket(&self, bucket_ns: u64, time_ns: i64) -> usize {
        let bucket = time_ns.wrapping_sub(self.from_ns) as u64 / bucket_ns;
        // A clock may have been ahead.
        bucket.min(BUCKETS as u64 - 1) as usize
    }
}

/// What is known of one series.
struct Sum {
    kind: Kind,
    readings: u64,
    time_ns: i64,
    last: Shown,
    least: f64,
    greatest: f64,
    sum: f64,
    buckets: [(f64, u32); BUCKETS],
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
                (Value::Text(v), _) => Shown::Text(v.to_owned()),
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

    /// Joins what was found among later ids.
    fn join(&mut self, later: Sum) {
        self.readings += later.readings;
        if later.time_ns >= self.time_ns {
            self.time_ns = later.time_ns;
            self.last = later.last;
        }
        self.least = self.least.min(later.least);
        self.greatest = self.greatest.max(later.greatest);
        self.sum += later.sum;
        for (bucket, more) in self.buckets.iter_mut().zip(later.buckets) {
            bucket.0 += more.0;
            bucket.1 += more.1;
        }
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
                .map(|(sum, count)| (*count > 0).then(|| sum / f64::from(*count)))
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
    sums: Vec<Sum>,
    /// Readings of series that found no room.
    left_out: u64,
}

impl Sums {
    /// None when there are too many.
    fn place(&mut self, sensor: &str, field: &str, kind: Kind) -> Option<usize> {
        let key = (sensor.to_owned(), field.to_owned(), kind);
        if let Some(place) = self.by_name.get(&key) {
            return Some(*place);
        }
        let place = self.sums.len();
        if place == SERIES_MAX {
            return None;
        }
        self.by_name.insert(key, place);
        self.sums.push(Sum::new(kind));
        Some(place)
    }

    fn join(&mut self, later: Sums) {
        self.left_out += later.left_out;
        let mut sums: Vec<Option<Sum>> = later.sums.into_iter().map(Some).collect();
        for ((sensor, field, kind), place) in later.by_name {
            let sum = sums.get_mut(place).and_then(Option::take);
            let Some(sum) = sum else { continue };
            match self.place(&sensor, &field, kind) {
                Some(place) => self.sums[place].join(sum),
                None => self.left_out += sum.readings,
            }
        }
    }
}

/// The table as it is now.
fn look(settings: &Show, size: Option<(usize, usize)>) -> Result<String, Error> {
    let now_ns = sys::clock_ns(Clock::Real);
    store::look_before_reading(&settings.db)?;
    let mut reader = Reader::open(&settings.db, settings.busy_timeout)?;
    let newest = reader.newest()?;
    let window = Window::new(settings.since, now_ns, &mut reader)?;
    let mut sums = sum_up(
        settings,
        &window,
        newest.map_or(0, |(id, _)| id),
        &mut reader,
    )?;
    // A sensor that fell silent is what one looks for.
    reader.series(|_, sensor, field, kind| {
        if let Some(kind) = kind
            && glob::matches(&settings.sensor, sensor)
        {
            sums.place(sensor, field, kind);
        }
    })?;
    drop(reader);

    let Sums {
        by_name,
        sums,
        left_out,
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
    sort::long(&mut lines, |a, b| {
        (&a.sensor, &a.field).cmp(&(&b.sensor, &b.field))
    });
    let style = Style {
        columns: size.map(|(columns, _)| columns),
        colours: size.is_some() && wants_colours(),
    };
    let mut text = String::new();
    if !lines.is_empty() {
        text += &table::table(&lines, &window.over, style);
    }
    if left_out > 0 {
        text +=
            &format!("{left_out} readings of more sensors are not shown; choose with --sensor\n");
    }
    text += &match newest {
        None => "no reading has been recorded\n".to_owned(),
        Some(_) if lines.is_empty() => "no sensor has such a name\n".to_owned(),
        Some((_, time_ns)) if readings == 0 => format!(
            "no reading since {}; the last one that was recorded is of {} (--since none: all)\n",
            timestamp(window.from_ns),
            timestamp(time_ns)
        ),
        Some(_) => String::new(),
    };
    Ok(text)
}

fn wants_colours() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}

/// Reads the ids in as many parts as there are processors.
fn sum_up(
    settings: &Show,
    window: &Window,
    newest: i64,
    reader: &mut Reader,
) -> Result<Sums, Error> {
    let oldest = reader.oldest()?.unwrap_or(newest);
    let ids = newest.saturating_sub(oldest) + 1;
    let worth = (ids / IDS_PER_THREAD_MIN).max(1);
    let parts = worth.min(sys::processors().min(THREADS_MAX) as i64);
    let share = ids / parts + 1;
    thread::scope(|scope| {
        let others: Vec<_> = (1..parts)
            .map(|n| {
                let after = oldest + n * share - 1;
                let last = (after + share).min(newest);
                scope.spawn(move || {
                    let mut reader = Reader::open(&settings.db, settings.busy_timeout)?;
                    sum_part(settings, window, &mut reader, after, last)
                })
            })
            .collect();
        let last = (oldest + share - 1).min(newest);
        let mut sums = sum_part(settings, window, reader, oldest - 1, last)?;
        for other in others {
            match other.join() {
                Ok(part) => sums.join(part?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(sums)
    })
}

fn sum_part(
    settings: &Show,
    window: &Window,
    reader: &mut Reader,
    after: i64,
    last: i64,
) -> Result<Sums, Error> {
    let bucket_ns = window.bucket_ns();
    // Both closures need it, and never at once.
    let sums = RefCell::new(Sums::default());
    let mut names = Names::default();
    let mut at = Position {
        run: None,
        id: after,
    };
    let times = Times {
        from_ns: window.from_ns,
        ..Times::ALL
    };
    let mut name = |sensor: &str, field: &str, kind: Kind| {
        glob::matches(&settings.sensor, sensor)
            .then(|| sums.borrow_mut().place(sensor, field, kind))
    };
    loop {
        let more = reader.chunk(
            &mut at,
            last,
            times,
            &mut names,
            &mut name,
            &mut |reading, place: &Option<usize>| {
                let sums = &mut *sums.borrow_mut();
                match place.and_then(|place| sums.sums.get_mut(place)) {
                    Some(sum) => {
                        let bucket = window.bucket(bucket_ns, reading.time_ns);
                        sum.add(reading.time_ns, reading.value, bucket);
                    }
                    None => sums.left_out += 1,
                }
                true
            },
        )?;
        if !more {
            break;
        }
    }
    Ok(sums.into_inner())
}

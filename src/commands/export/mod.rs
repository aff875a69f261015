//! `export`: readings as rows on stdout, as they are, or as they come.
//!
//! The database is open only while it is read: a consumer that takes nothing, and a follower that waits,
//! keep neither a checkpoint waiting nor the recorder from leaving one file behind when it stops.

mod rows;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::commands::answer::{complain, no_sensor, unwritten, warn_of_missing};
use crate::commands::sink::{Sink, Written};
use crate::exit::Status;
use crate::place::{follow_links, wal_of};
use crate::reading::glob;
use crate::store::{self, Error, Names, Position, Reader, Reading, Salvage, Times};
use crate::sys::{self, Clock, signals};
use crate::time::When;
pub use rows::ExportFormat;
use rows::{HEADER, Named, Rows};

/// Size at which the buffer is written.
const BUFFER_BYTES: usize = 128 * 1024;
/// A follower checks for more this often, as `--help` says.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);
/// Times that files which look the same are taken to be the same: within one tick of the kernel's clock a
/// second change of a file shows nowhere.
const UNCHANGED_LOOKS_MAX: u32 = 3;
/// Wait for a consumer after which the database is closed.
const PIPE_PATIENCE: Duration = Duration::from_millis(100);
/// After a signal, upper bound on the wait for a consumer to take whole rows.
const LAST_PATIENCE: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, PartialEq)]
pub struct ExportSettings {
    pub db: PathBuf,
    pub format: ExportFormat,
    pub after: After,
    pub since: Option<When>,
    pub until: Option<When>,
    pub sensor: String,
    pub limit: Option<u64>,
    pub follow: bool,
    pub skip_damaged: bool,
    pub busy_timeout: Duration,
}

/// Where an export begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct After {
    /// Device of the run; `None`: whichever the database has.
    pub device: Option<String>,
    pub at: Position,
}

enum End {
    /// Everything is written, or the consumer or a signal ended it.
    Done,
    Output(io::Error),
    Database(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        End::Database(error)
    }
}

pub fn run(settings: &ExportSettings) -> Status {
    if settings.follow
        && let Err(e) = signals::block_signals()
    {
        return complain(format_args!("cannot block signals: {e}"));
    }
    let mut exporter = Exporter::new(settings);
    match exporter.run() {
        End::Done if !exporter.salvage.is_whole() => exporter.tell_lost(),
        End::Done if exporter.gone > 0 => complain(format_args!(
            "{} readings had gone with --retain or --max-size before they were read",
            exporter.gone
        )),
        End::Done => Status::Done,
        End::Output(e) => unwritten(&e),
        End::Database(e) => complain(e),
    }
}

struct Exporter<'a> {
    settings: &'a ExportSettings,
    /// Where `settings.db` leads: it may be a link, and be changed to lead elsewhere.
    db: PathBuf,
    times: Times,
    at: Position,
    /// Rows that may still be written.
    left: u64,
    /// Device of the run of `at`, by which a position of another database is known.
    device: Option<String>,
    /// Readings that had gone before they were read.
    gone: i64,
    salvage: Salvage,
    /// Whether the files beside the database were looked at.
    has_looked: bool,
    sink: Sink,
    buffer: Vec<u8>,
}

impl<'a> Exporter<'a> {
    fn new(settings: &'a ExportSettings) -> Self {
        let now_ns = sys::clock_ns(Clock::Real);
        let times = Times {
            from_ns: settings.since.map_or(i64::MIN, |when| when.ns(now_ns)),
            to_ns: settings
                .until
                .map_or(i64::MAX, |when| when.ns(now_ns).saturating_sub(1)),
        };
        Exporter {
            settings,
            db: follow_links(&settings.db),
            times,
            at: settings.after.at,
            left: settings.limit.unwrap_or(u64::MAX),
            device: settings.after.device.clone(),
            gone: 0,
            salvage: Salvage::default(),
            has_looked: false,
            sink: Sink::new(sys::STDOUT),
            buffer: Vec::with_capacity(BUFFER_BYTES * 2),
        }
    }

    fn run(&mut self) -> End {
        // Before the header: what cannot be read has none.
        let mut reader = match self.open() {
            Ok(reader) => Some(reader),
            Err(e) => return End::Database(e),
        };
        if self.settings.format == ExportFormat::Csv {
            self.buffer.extend_from_slice(HEADER.as_bytes());
        }
        loop {
            let before = Stamp::of(&self.db);
            if let Err(end) = self.catch_up(reader.take()) {
                return end;
            }
            if !self.settings.follow || self.left == 0 {
                return self.look_for_the_sensor().err().unwrap_or(End::Done);
            }
            if let Err(end) = self.wait_for_change(before) {
                return end;
            }
            let was_there = self.settings.db.exists();
            match self.open() {
                Ok(again) => reader = Some(again),
                // It was there: what comes next may be a moment's work of the recorder, or of its owner.
                Err(e) if e.is_empty() || !was_there || !self.settings.db.exists() => {}
                Err(e) => return End::Database(e),
            }
        }
    }

    /// Opens the database; one that is another than before is read from its beginning.
    fn open(&mut self) -> Result<Reader, Error> {
        self.db = follow_links(&self.settings.db);
        let beside = store::look_before_reading(&self.db)?;
        let open = match self.settings.skip_damaged {
            true => Reader::open_damaged,
            false => Reader::open,
        };
        let mut reader = open(&self.db, self.settings.busy_timeout)?;
        let is_first = !std::mem::replace(&mut self.has_looked, true);
        if is_first {
            warn_of_missing(&self.db, reader.missing(&beside));
        }
        let Some(run) = self.at.run else {
            return Ok(reader);
        };
        let (db, id) = (self.settings.db.display(), self.at.id);
        match (reader.device_of(run)?, &self.device) {
            (found, Some(device)) if found != Some(device) => {
                complain(format_args!(
                    "{db} is not the database of the position {device}:{run}:{id}; going on with its first reading"
                ));
                (self.at, self.device) = (Position::default(), None);
            }
            (None, None) if is_first => {
                complain(format_args!(
                    "{db} has no run {run}; going on after reading {id}"
                ));
            }
            _ => {}
        }
        Ok(reader)
    }

    /// Writes all that is there.
    fn catch_up(&mut self, reader: Option<Reader>) -> Result<(), End> {
        let Some(reader) = reader else {
            return Ok(());
        };
        let mut reader = Some(reader);
        let format = self.settings.format;
        let pattern = &self.settings.sensor;
        let mut names = Names::new(|sensor, field, kind| {
            glob::matches(pattern, sensor).then(|| Rows::name(format, sensor, field, kind))
        });
        let mut rows = Rows::new(format);
        loop {
            let mut open = match reader.take() {
                Some(reader) => reader,
                None => {
                    names.forget();
                    self.open()?
                }
            };
            let mut more = self.left > 0;
            while more && self.buffer.len() < BUFFER_BYTES {
                let (buffer, left) = (&mut self.buffer, &mut self.left);
                let mut each = |reading: &Reading<'_>, named: &Named| {
                    rows.write(buffer, reading, named);
                    *left -= 1;
                    *left > 0 && buffer.len() < BUFFER_BYTES
                };
                let (at, times, names) = (&mut self.at, self.times, &mut names);
                let looked = if self.settings.skip_damaged {
                    let salvage = &mut self.salvage;
                    salvage.chunk(&mut open, at, times, names, &mut each)
                } else {
                    open.chunk(at, i64::MAX, times, names, &mut each)
                };
                more = match looked {
                    Ok(more) => more,
                    Err(e) => {
                        // The good rows before it are the consumer's.
                        self.hand_on(open)?;
                        return Err(e.into());
                    }
                };
                more &= self.left > 0;
                if self.settings.follow && signals::stop_pending() {
                    break;
                }
            }
            reader = self.hand_on(open)?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Writes the buffer. Returns the reader, unless the consumer had to be waited for.
    fn hand_on(&mut self, mut reader: Reader) -> Result<Option<Reader>, End> {
        self.device = reader.device_at(self.at).map(str::to_owned);
        self.gone += reader.take_gone();
        let mut at = 0;
        let mut reader = Some(reader);
        let mut patience = Some(PIPE_PATIENCE);
        loop {
            let written = self.sink.write(&self.buffer, &mut at, patience);
            match written.map_err(End::Output)? {
                Written::Whole => break,
                Written::Waiting => {
                    reader = None;
                    patience = None;
                }
                Written::Stopped => {
                    drop(reader);
                    return Err(self.finish(at));
                }
            }
        }
        self.buffer.clear();
        if self.settings.follow && signals::stop_pending() {
            return Err(End::Done);
        }
        Ok(reader)
    }

    /// A signal has come while the consumer was waited for.
    fn finish(&mut self, at: usize) -> End {
        let mut rest = self.buffer.get(at..).unwrap_or_default();
        let deadline = std::time::Instant::now() + LAST_PATIENCE;
        while !rest.is_empty() {
            let wait = deadline.saturating_duration_since(std::time::Instant::now());
            if wait.is_zero() || !sys::is_writable(sys::STDOUT, wait) {
                break;
            }
            let piece = &rest[..rest.len().min(sys::PIPE_BUF_BYTES)];
            match sys::write(sys::STDOUT, piece) {
                Ok(n) => rest = &rest[n..],
                Err(e) => return End::Output(e),
            }
        }
        End::Done
    }

    /// Says so where no sensor matches, as of a name without its tags.
    fn look_for_the_sensor(&mut self) -> Result<(), End> {
        let pattern = &self.settings.sensor;
        if self.left < self.settings.limit.unwrap_or(u64::MAX) || pattern == "*" {
            return Ok(());
        }
        let mut is_there = false;
        let each = |sensor: &str, _: &str, _| is_there |= glob::matches(pattern, sensor);
        self.open()?.series(each)?;
        if !is_there {
            complain(no_sensor(pattern));
        }
        Ok(())
    }

    /// Says which readings could not be read.
    fn tell_lost(&self) -> Status {
        let Salvage {
            lost,
            more,
            has_no_runs,
            ..
        } = &self.salvage;
        if *has_no_runs {
            complain(
                "the rows of the runs cannot be read: each reading has the device that the file has now",
            );
        }
        let mut all = *more;
        for (first, last) in lost {
            let count = last - first + 1;
            all += count as u64;
            complain(format_args!("gone: readings {first} to {last} ({count})"));
        }
        if *more > 0 {
            complain(format_args!("gone: {more} readings more"));
        }
        if all > 0 {
            let db = self.db.display();
            complain(format_args!("{all} readings of {db} cannot be read"));
        }
        Status::Failed
    }

    /// Returns when there may be something new.
    fn wait_for_change(&self, before: Stamp) -> Result<(), End> {
        for _ in 0..=UNCHANGED_LOOKS_MAX {
            if !self.sink.idle(FOLLOW_INTERVAL).map_err(End::Output)? {
                return Err(End::Done);
            }
            if Stamp::of(&follow_links(&self.settings.db)) != before {
                break;
            }
        }
        Ok(())
    }
}

/// Inode, length and time of last change of `.db` and `-wal`, taken without opening them.
#[derive(PartialEq)]
struct Stamp([Option<(u64, u64, i64, i64)>; 2]);

impl Stamp {
    fn of(db: &Path) -> Self {
        let look = |path: &Path| {
            let file = fs::metadata(path).ok()?;
            Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
        };
        Stamp([look(db), look(&wal_of(db))])
    }
}

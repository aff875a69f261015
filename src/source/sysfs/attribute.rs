//! A channel's files, and one reading of them. No wait and no allocation: one `read(2)` a file, on
//! descriptors that are kept open.
//!
//! Every failure comes back as a value; what is logged of it is decided by `Sysfs`.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::channel::{Spec, parse_number};

/// What a sysfs attribute can hold at most on most machines.
pub const PAGE_BYTES: usize = 4096;
/// Descriptors kept between passes; files beyond are opened for each reading. Far below the usual limit
/// of 1024 for a process, because clients need some too.
pub const DESCRIPTORS_KEPT_MAX: usize = 256;

/// Why a channel has no reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// What the system said.
    Errno(i32),
    Empty,
    NoNumber,
    OutOfRange,
    /// `tempN_fault` is 1.
    Fault,
    /// `_enable` is 0.
    SwitchedOff,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Reason::Errno(errno) => io::Error::from_raw_os_error(errno).fmt(f),
            Reason::Empty => f.write_str("the file is empty"),
            Reason::NoNumber => f.write_str("the text is no number"),
            Reason::OutOfRange => f.write_str("the value is out of range"),
            Reason::Fault => f.write_str("the sensor reports a fault"),
            Reason::SwitchedOff => f.write_str("the sensor is switched off"),
        }
    }
}

/// How a reading was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// A kept descriptor is of a device or file that has gone; the path may lead to a new one.
    Stale,
    /// There is no such file: the device has gone.
    Absent,
    /// A signal came while the sensor was waited for.
    Interrupted,
    Because(Reason),
}

/// What the readings of one pass share.
pub struct Pass {
    page: [u8; PAGE_BYTES],
    /// How many more descriptors may be kept.
    room: usize,
}

impl Pass {
    pub fn new(kept: usize) -> Pass {
        Pass {
            page: [0; PAGE_BYTES],
            room: DESCRIPTORS_KEPT_MAX.saturating_sub(kept),
        }
    }
}

/// Opens for reading and waits for nothing, whatever stands at `path`.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
        .open(path)
}

#[derive(Debug)]
struct Attribute {
    path: PathBuf,
    file: Option<File>,
}

impl Attribute {
    /// The attribute at `name`; with the descriptor of `old`, if that is the same file.
    fn at(dir: &Path, name: &str, old: Option<Attribute>) -> Attribute {
        let path = dir.join(name);
        match old {
            Some(old) if old.path == path => old,
            _ => Attribute { path, file: None },
        }
    }

    fn read(&mut self, pass: &mut Pass) -> Result<f64, Miss> {
        if let Some(file) = &self.file {
            let outcome = number(file, &mut pass.page);
            let stale = outcome == Err(Miss::Because(Reason::Errno(libc::ENODEV)));
            // sysfs says ENODEV for what was removed; any other filesystem goes on reading the old file.
            if stale || file.metadata().is_ok_and(|file| file.nlink() == 0) {
                self.close(pass);
                return Err(Miss::Stale);
            }
            if !keeps(outcome) {
                self.close(pass);
            }
            return outcome;
        }
        let file = open(&self.path).map_err(|error| miss(&error))?;
        let outcome = number(&file, &mut pass.page);
        if pass.room > 0 && keeps(outcome) {
            pass.room -= 1;
            self.file = Some(file);
        }
        outcome
    }

    fn close(&mut self, pass: &mut Pass) {
        if self.file.take().is_some() {
            pass.room += 1;
        }
    }
}

fn number(file: &File, page: &mut [u8; PAGE_BYTES]) -> Result<f64, Miss> {
    let len = file.read_at(page, 0).map_err(|error| miss(&error))?;
    if len == 0 {
        return Err(Miss::Because(Reason::Empty));
    }
    // Of a text that fills the page the end may be missing.
    let text = page.get(..len).filter(|text| text.len() < PAGE_BYTES);
    text.and_then(parse_number)
        .ok_or(Miss::Because(Reason::NoNumber))
}

fn miss(error: &io::Error) -> Miss {
    match error.raw_os_error().unwrap_or(libc::EIO) {
        libc::ENOENT => Miss::Absent,
        libc::EINTR => Miss::Interrupted,
        errno => Miss::Because(Reason::Errno(errno)),
    }
}

/// Whether the descriptor is good for the next reading.
fn keeps(outcome: Result<f64, Miss>) -> bool {
    match outcome {
        Err(Miss::Because(Reason::Errno(errno))) => matches!(
            errno,
            libc::EAGAIN | libc::ENODATA | libc::EINVAL | libc::EIO | libc::ENXIO
        ),
        Ok(_) | Err(Miss::Because(_) | Miss::Interrupted) => true,
        Err(Miss::Stale | Miss::Absent) => false,
    }
}

/// The files of one channel.
#[derive(Debug)]
pub struct Files {
    divisor: f64,
    input: Attribute,
    enable: Option<Attribute>,
    fault: Option<Attribute>,
    offset: Option<Attribute>,
    scale: Option<Attribute>,
}

impl Files {
    /// The files that `spec` names; those that `old` has open stay open.
    pub fn new(dir: &Path, spec: &Spec, old: Option<Files>) -> Files {
        let (input, [enable, fault, offset, scale]) = match old {
            Some(old) => (
                Some(old.input),
                [old.enable, old.fault, old.offset, old.scale],
            ),
            None => (None, [const { None }; 4]),
        };
        let optional = |name: &Option<String>, old| {
            name.as_ref()
                .map(|name: &String| Attribute::at(dir, name, old))
        };
        Files {
            divisor: spec.divisor,
            input: Attribute::at(dir, &spec.input, input),
            enable: optional(&spec.enable, enable),
            fault: optional(&spec.fault, fault),
            offset: optional(&spec.offset, offset),
            scale: optional(&spec.scale, scale),
        }
    }

    pub fn path(&self) -> &Path {
        &self.input.path
    }

    /// One reading in the field's unit; or which file stood in its way, and how.
    ///
    /// Offset and scale are read each time: another program may change the range at any moment, and a
    /// reading by yesterday's scale would be wrong by a factor.
    pub fn read(&mut self, pass: &mut Pass) -> Result<f64, (Miss, &Path)> {
        if flag(&mut self.enable, pass)? == Some(0.0) {
            let reason = Miss::Because(Reason::SwitchedOff);
            return Err((reason, &self.input.path));
        }
        let input = self.input.read(pass);
        if input == Err(Miss::Stale) {
            return Err((Miss::Stale, &self.input.path));
        }
        // After the input, so that a fault that begins between the two reads is not missed.
        if flag(&mut self.fault, pass)?.is_some_and(|fault| fault != 0.0) {
            return Err((Miss::Because(Reason::Fault), &self.input.path));
        }
        let input = input.map_err(|miss| (miss, self.input.path.as_path()))?;
        let offset = factor(&mut self.offset, 0.0, pass)?;
        let scale = factor(&mut self.scale, 1.0, pass)?;
        let value = (input + offset) * scale / self.divisor;
        match value.is_finite() {
            true => Ok(value),
            false => Err((Miss::Because(Reason::OutOfRange), &self.input.path)),
        }
    }

    fn attributes(&self) -> impl Iterator<Item = &Attribute> {
        let optional = [&self.enable, &self.fault, &self.offset, &self.scale];
        std::iter::once(&self.input).chain(optional.into_iter().flatten())
    }

    /// How many descriptors are open.
    pub fn open_count(&self) -> usize {
        self.attributes().filter(|file| file.file.is_some()).count()
    }

    pub fn close(&mut self, pass: &mut Pass) {
        self.input.close(pass);
        let optional = [
            &mut self.enable,
            &mut self.fault,
            &mut self.offset,
            &mut self.scale,
        ];
        for attribute in optional.into_iter().flatten() {
            attribute.close(pass);
        }
    }
}

/// A flag that cannot be read says nothing: the value is tried.
fn flag<'a>(
    attribute: &'a mut Option<Attribute>,
    pass: &mut Pass,
) -> Result<Option<f64>, (Miss, &'a Path)> {
    match attribute {
        Some(attribute) => match attribute.read(pass) {
            Err(Miss::Stale) => Err((Miss::Stale, &attribute.path)),
            outcome => Ok(outcome.ok()),
        },
        None => Ok(None),
    }
}

/// A factor that cannot be read leaves no value: a wrong one is worse than none.
fn factor<'a>(
    attribute: &'a mut Option<Attribute>,
    default: f64,
    pass: &mut Pass,
) -> Result<f64, (Miss, &'a Path)> {
    match attribute {
        Some(attribute) => attribute
            .read(pass)
            .map_err(|miss| (miss, attribute.path.as_path())),
        None => Ok(default),
    }
}

//! A channel's files, and one reading of them: each file is opened, read once and closed.
//!
//! Every failure is returned as a value; `Sysfs` decides what is logged of it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::channel::{Spec, parse_number};

/// Upper bound on a sysfs attribute on most machines.
pub const PAGE_BYTES: usize = 4096;

const ABSOLUTE_ZERO_C: f64 = -273.15;

/// Why a channel has no reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Error of a system call.
    Errno(i32),
    Empty,
    NoNumber,
    OutOfRange,
    /// `tempN_fault` is 1.
    Fault,
    /// `_enable` is 0.
    SwitchedOff,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Failure::Errno(errno) => io::Error::from_raw_os_error(errno).fmt(f),
            Failure::Empty => f.write_str("the file is empty"),
            Failure::NoNumber => f.write_str("the text is no number"),
            Failure::OutOfRange => f.write_str("the value is out of the range of a sensor"),
            Failure::Fault => f.write_str("the sensor reports a fault"),
            Failure::SwitchedOff => f.write_str("the sensor is switched off"),
        }
    }
}

/// Why there is no reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// There is no such file: the device has gone.
    Absent,
    /// A signal came while the sensor was waited for.
    Interrupted,
    Because(Failure),
}

/// Opens for reading without waiting, whatever is at `path`.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
        .open(path)
}

fn number(path: &Path, words: &[&str]) -> Result<f64, Miss> {
    let mut page = [0; PAGE_BYTES];
    let read = open(path).and_then(|mut file| file.read(&mut page));
    let len = read.map_err(|error| miss(&error))?;
    if len == 0 {
        return Err(Miss::Because(Failure::Empty));
    }
    // The end of a text that fills the page may be missing.
    let text = page.get(..len).filter(|text| text.len() < PAGE_BYTES);
    let word = |text: &[u8]| {
        words
            .iter()
            .position(|word| word.as_bytes() == text.trim_ascii())
    };
    text.and_then(|text| parse_number(text).or_else(|| word(text).map(|n| n as f64)))
        .ok_or(Miss::Because(Failure::NoNumber))
}

fn miss(error: &io::Error) -> Miss {
    match error.raw_os_error().unwrap_or(libc::EIO) {
        libc::ENOENT => Miss::Absent,
        libc::EINTR => Miss::Interrupted,
        errno => Miss::Because(Failure::Errno(errno)),
    }
}

/// The files of one channel.
#[derive(Debug)]
pub struct Files {
    field: &'static str,
    divisor: f64,
    input: PathBuf,
    enable: Option<PathBuf>,
    fault: Option<PathBuf>,
    offset: Option<PathBuf>,
    scale: Option<PathBuf>,
    words: &'static [&'static str],
}

impl Files {
    /// The files that `spec` names.
    pub fn new(dir: &Path, spec: &Spec) -> Files {
        let optional = |name: &Option<String>| name.as_ref().map(|name| dir.join(name));
        Files {
            field: spec.field,
            divisor: spec.divisor,
            input: dir.join(&spec.input),
            enable: optional(&spec.enable),
            fault: optional(&spec.fault),
            offset: optional(&spec.offset),
            scale: optional(&spec.scale),
            words: spec.words,
        }
    }

    pub fn path(&self) -> &Path {
        &self.input
    }

    /// One reading in the field's unit, or the file that failed and why.
    ///
    /// Reads offset and scale each time: another program may change the range at any moment, and a
    /// reading by the old scale would be wrong by a factor.
    pub fn read(&self) -> Result<f64, (Miss, &Path)> {
        if flag(&self.enable) == Some(0.0) {
            return Err((Miss::Because(Failure::SwitchedOff), &self.input));
        }
        let input = number(&self.input, self.words);
        // After the input, so that a fault that begins between the two reads is not missed.
        if flag(&self.fault).is_some_and(|fault| fault != 0.0) {
            return Err((Miss::Because(Failure::Fault), &self.input));
        }
        let input = input.map_err(|miss| (miss, self.input.as_path()))?;
        let offset = factor(&self.offset, 0.0)?;
        let scale = factor(&self.scale, 1.0)?;
        let value = (input + offset) * scale / self.divisor;
        // Drivers give a value of their registers where no sensor is connected.
        let is_possible = self.field != "temperature_c" || value >= ABSOLUTE_ZERO_C;
        match value.is_finite() && is_possible {
            true => Ok(value),
            false => Err((Miss::Because(Failure::OutOfRange), &self.input)),
        }
    }
}

/// `None` for a flag that cannot be read; the value is tried then.
fn flag(path: &Option<PathBuf>) -> Option<f64> {
    number(path.as_ref()?, &[]).ok()
}

/// An error for a factor that cannot be read: no value is better than a wrong one.
fn factor(path: &Option<PathBuf>, default: f64) -> Result<f64, (Miss, &Path)> {
    match path {
        Some(path) => number(path, &[]).map_err(|miss| (miss, path.as_path())),
        None => Ok(default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_answers_enodev_is_a_failing_sensor_and_not_an_absent_one() {
        // A battery that is not inserted answers so for as long as its node is there.
        let answer = miss(&io::Error::from_raw_os_error(libc::ENODEV));
        assert_eq!(answer, Miss::Because(Failure::Errno(libc::ENODEV)));
        let answer = miss(&io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(answer, Miss::Absent);
    }
}

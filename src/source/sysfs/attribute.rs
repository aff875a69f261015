//! One reading of a channel: each of its files is opened, read once and closed.
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

/// One reading of a channel whose files are in `dir`, in the field's unit; or the file that failed and why.
///
/// Reads offset and scale each time: another program may change the range at any moment, and a
/// reading by the old scale would be wrong by a factor.
pub fn read(dir: &Path, spec: &Spec) -> Result<f64, (Miss, PathBuf)> {
    let file = dir.join(&spec.input);
    if flag(dir, &spec.enable) == Some(0.0) {
        return Err((Miss::Because(Failure::SwitchedOff), file));
    }
    let input = number(&file, spec.words);
    // After the input, so that a fault that begins between the two reads is not missed.
    if flag(dir, &spec.fault).is_some_and(|fault| fault != 0.0) {
        return Err((Miss::Because(Failure::Fault), file));
    }
    let input = input.map_err(|miss| (miss, file.clone()))?;
    let offset = factor(dir, &spec.offset, 0.0)?;
    let scale = factor(dir, &spec.scale, 1.0)?;
    let value = (input + offset) * scale / spec.divisor;
    // Drivers give a value of their registers where no sensor is connected.
    let is_possible = spec.field != "temperature_c" || value >= ABSOLUTE_ZERO_C;
    match value.is_finite() && is_possible {
        true => Ok(value),
        false => Err((Miss::Because(Failure::OutOfRange), file)),
    }
}

/// `None` for a flag that cannot be read; the value is tried then.
fn flag(dir: &Path, name: &Option<String>) -> Option<f64> {
    number(&dir.join(name.as_ref()?), &[]).ok()
}

/// An error for a factor that cannot be read: no value is better than a wrong one.
fn factor(dir: &Path, name: &Option<String>, default: f64) -> Result<f64, (Miss, PathBuf)> {
    let Some(name) = name else {
        return Ok(default);
    };
    let file = dir.join(name);
    number(&file, &[]).map_err(|miss| (miss, file))
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

//! Readers: text that a user wrote, as a typed value within its limits, or an error that says what is allowed.
//! The options and the source specs read their defaults and the user's values through the same ones. Pure.

use std::ffi::OsStr;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::time::{TIME_EXAMPLES, When};
use crate::units;

const SWITCH_ON: &[&str] = &["on", "1", "true", "yes"];
const SWITCH_OFF: &[&str] = &["off", "0", "false", "no"];
const NONE: &str = "none";

type Parse<T> = Box<dyn Fn(&OsStr) -> Option<T>>;

pub struct ValueReader<T> {
    parse: Parse<T>,
    /// A right value, in the words that follow "is not" or "needs".
    pub expected: String,
    /// The limits, where they help to choose a value; else empty.
    pub limits: String,
}

impl<T: 'static> ValueReader<T> {
    pub fn new(
        expected: impl Into<String>,
        parse: impl Fn(&str) -> Option<T> + 'static,
    ) -> ValueReader<T> {
        ValueReader {
            parse: Box::new(move |value| value.to_str().and_then(&parse)),
            expected: expected.into(),
            limits: String::new(),
        }
    }

    fn limits(mut self, limits: String) -> Self {
        self.limits = limits;
        self
    }

    pub fn read(&self, value: impl AsRef<OsStr>) -> Result<T, String> {
        let value = value.as_ref();
        (self.parse)(value).ok_or_else(|| format!("{value:?} is not {}", self.expected))
    }

    pub fn map<U: 'static>(self, map: fn(T) -> U) -> ValueReader<U> {
        let parse = self.parse;
        ValueReader {
            parse: Box::new(move |value| parse(value).map(map)),
            expected: self.expected,
            limits: self.limits,
        }
    }
}

/// Any bytes are a path, UTF-8 or not, except none at all and those with a NUL.
pub fn path() -> ValueReader<PathBuf> {
    let is_path = |value: &OsStr| !value.is_empty() && !value.as_bytes().contains(&0);
    ValueReader {
        parse: Box::new(move |value| is_path(value).then(|| value.into())),
        expected: "a path".into(),
        limits: String::new(),
    }
}

pub fn text() -> ValueReader<String> {
    ValueReader::new("text", |text| Some(text.to_owned()))
}

pub fn switch() -> ValueReader<bool> {
    let words = [SWITCH_ON, SWITCH_OFF].concat().join(", ");
    ValueReader::new(format!("one of {words}"), |text| {
        let on = SWITCH_ON.contains(&text);
        (on || SWITCH_OFF.contains(&text)).then_some(on)
    })
}

/// One of the words of an enum that `words!` made.
pub fn word<T: 'static>(names: &[&str], parse: fn(&str) -> Option<T>) -> ValueReader<T> {
    ValueReader::new(format!("one of {}", names.join(", ")), parse)
}

/// A whole number without a sign.
pub fn whole<T>(range: RangeInclusive<T>) -> ValueReader<T>
where
    T: FromStr + PartialOrd + Display + 'static,
{
    let limits = format!("{} to {}", range.start(), range.end());
    ValueReader::new(format!("a whole number from {limits}"), move |text| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = plain.then(|| text.parse().ok()).flatten()?;
        range.contains(&number).then_some(number)
    })
    .limits(limits)
}

/// A number of rows, as many as SQLite can count.
pub fn rows() -> ValueReader<u64> {
    whole(0..=i64::MAX as u64).limits(String::new())
}

pub fn duration(range: RangeInclusive<Duration>) -> ValueReader<Duration> {
    let (least, most) = (
        units::duration(*range.start()),
        units::duration(*range.end()),
    );
    let limits = format!("{least} to {most}");
    let expected = format!(
        "a duration from {limits}, such as {}",
        units::DURATION_EXAMPLES
    );
    let parse = move |text: &str| units::parse_duration(text).filter(|it| range.contains(it));
    ValueReader::new(expected, parse).limits(limits)
}

pub fn size() -> ValueReader<u64> {
    ValueReader::new(
        format!("a size, such as {}", units::SIZE_EXAMPLES),
        units::parse_size,
    )
}

pub fn size_from(least: u64) -> ValueReader<u64> {
    let limits = format!("at least {}", units::size(least));
    let expected = format!("a size of {limits}, such as 512MiB or 2GiB");
    let parse = move |text: &str| units::parse_size(text).filter(|size| *size >= least);
    ValueReader::new(expected, parse).limits(limits)
}

pub fn time() -> ValueReader<When> {
    ValueReader::new(format!("a time such as {TIME_EXAMPLES}"), When::parse)
}

pub fn or_none<T: 'static>(reader: ValueReader<T>) -> ValueReader<Option<T>> {
    let parse = reader.parse;
    ValueReader {
        parse: Box::new(move |value| match value == NONE {
            true => Some(None),
            false => parse(value).map(Some),
        }),
        expected: format!("{}, or {NONE}", reader.expected),
        limits: reader.limits,
    }
}

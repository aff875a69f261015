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

pub struct Reader<T> {
    parse: Parse<T>,
    /// A right value, in the words that follow "is not" or "needs".
    pub expected: String,
    /// The limits, where they help to choose a value; else empty.
    pub limits: String,
}

impl<T: 'static> Reader<T> {
    pub fn new(
        expected: impl Into<String>,
        parse: impl Fn(&str) -> Option<T> + 'static,
    ) -> Reader<T> {
        Reader {
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

    pub fn map<U: 'static>(self, map: fn(T) -> U) -> Reader<U> {
        let parse = self.parse;
        Reader {
            parse: Box::new(move |value| parse(value).map(map)),
            expected: self.expected,
            limits: self.limits,
        }
    }
}

/// Any bytes are a path, UTF-8 or not, except none at all and those with a NUL.
pub fn path() -> Reader<PathBuf> {
    let is_path = |value: &OsStr| !value.is_empty() && !value.as_bytes().contains(&0);
    Reader {
        parse: Box::new(move |value| is_path(value).then(|| value.into())),
        expected: "a path".into(),
        limits: String::new(),
    }
}

pub fn text() -> Reader<String> {
    Reader::new("text", |text| Some(text.to_owned()))
}

pub fn switch() -> Reader<bool> {
    let words = [SWITCH_ON, SWITCH_OFF].concat().join(", ");
    Reader::new(format!("one of {words}"), |text| {
        let on = SWITCH_ON.contains(&text);
        (on || SWITCH_OFF.contains(&text)).then_some(on)
    })
}

/// One of the words of an enum that `words!` made.
pub fn word<T: 'static>(names: &[&str], parse: fn(&str) -> Option<T>) -> Reader<T> {
    Reader::new(format!("one of {}", names.join(", ")), parse)
}

/// A whole number without a sign.
pub fn whole<T>(range: RangeInclusive<T>) -> Reader<T>
where
    T: FromStr + PartialOrd + Display + 'static,
{
    let limits = format!("{} to {}", range.start(), range.end());
    Reader::new(format!("a whole number from {limits}"), move |text| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = plain.then(|| text.parse().ok()).flatten()?;
        range.contains(&number).then_some(number)
    })
    .limits(limits)
}

/// A number of rows, as many as SQLite can count.
pub fn rows() -> Reader<u64> {
    whole(0..=i64::MAX as u64).limits(String::new())
}

pub fn duration(range: RangeInclusive<Duration>) -> Reader<Duration> {
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
    Reader::new(expected, parse).limits(limits)
}

pub fn size() -> Reader<u64> {
    Reader::new(
        format!("a size, such as {}", units::SIZE_EXAMPLES),
        units::parse_size,
    )
}

pub fn size_from(least: u64) -> Reader<u64> {
    let limits = format!("at least {}", units::size(least));
    let expected = format!("a size of {limits}, such as 512MiB or 2GiB");
    let parse = move |text: &str| units::parse_size(text).filter(|size| *size >= least);
    Reader::new(expected, parse).limits(limits)
}

pub fn time() -> Reader<When> {
    Reader::new(format!("a time such as {TIME_EXAMPLES}"), When::parse)
}

pub fn or_none<T: 'static>(reader: Reader<T>) -> Reader<Option<T>> {
    let parse = reader.parse;
    Reader {
        parse: Box::new(move |value| match value == NONE {
            true => Some(None),
            false => parse(value).map(Some),
        }),
        expected: format!("{}, or {NONE}", reader.expected),
        limits: reader.limits,
    }
}

//! Points in time as text. Pure.

use std::fmt;
use std::time::Duration;

use crate::units;

const NS_PER_S: i64 = 1_000_000_000;
const NS_PER_MS: i64 = 1_000_000;
const S_PER_DAY: i64 = 86_400;

/// The Gregorian date of a day counted from 1970-01-01.
pub fn civil(day: i64) -> (i64, i64, i64) {
    // Years that begin in March put the leap day last; 146,097 days are 400 years.
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_month)
}

/// `YYYY-MM-DDTHH:MM:SS.sssZ`, milliseconds cut off and not rounded.
pub fn timestamp(time_ns: i64) -> String {
    let mut text = String::new();
    let _ = write_timestamp(&mut text, time_ns);
    text
}

/// The same without an allocation.
pub fn write_timestamp(to: &mut dyn fmt::Write, time_ns: i64) -> fmt::Result {
    let (seconds, ns) = (time_ns.div_euclid(NS_PER_S), time_ns.rem_euclid(NS_PER_S));
    let (day, second) = (seconds.div_euclid(S_PER_DAY), seconds.rem_euclid(S_PER_DAY));
    let (year, month, day) = civil(day);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    write!(
        to,
        "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z",
        ns / NS_PER_MS
    )
}

/// Days since 1970-01-01 of a Gregorian date; the inverse of `civil`.
pub fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Reads RFC 3339, such as `2026-01-31T12:00:00Z` or `2026-01-31 13:00:00.5+01:00`; None for what is not a
/// time, or none that 64 bits of nanoseconds can say.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse::<i64>().ok()).flatten()
    };
    let is = |at: usize, any_of: &[u8]| text.as_bytes().get(at).is_some_and(|b| any_of.contains(b));
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (h, m, s) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let shaped = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let date = day_of(year, month, day);
    // A second of 60 is a leap second, and counted as the first of the next minute.
    if !shaped || !(1..=12).contains(&month) || civil(date) != (year, month, day) {
        return None;
    }
    if h > 23 || m > 59 || s > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut ns = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let end = fraction
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(fraction.len());
        let digits = fraction.get(..end)?;
        if digits.is_empty() || digits.len() > 9 {
            return None;
        }
        ns = format!("{digits:0<9}").parse().ok()?;
        rest = fraction.get(end..)?;
    }
    let offset_s = match rest.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let at = text.len() - 5;
            let (h, m) = (number(at, at + 2)?, number(at + 3, at + 5)?);
            let seconds = h * 3600 + m * 60;
            if h > 23 || m > 59 {
                return None;
            }
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds = date * S_PER_DAY + h * 3600 + m * 60 + s - offset_s;
    let total = i128::from(seconds) * i128::from(NS_PER_S) + i128::from(ns);
    i64::try_from(total).ok()
}

/// How points in time are written, for help and errors.
pub const TIME_EXAMPLES: &str =
    "2026-01-31T12:00:00Z, 2026-01-31, 1769860800 since 1970, or -1h, an hour ago";

/// Ten years. A greater number without a unit is no number of seconds ago, but a time since 1970.
const AGO_S_MAX: i64 = 10 * 366 * S_PER_DAY;
/// Upper bounds of what counts as seconds, milliseconds and microseconds since 1970: the year 5138 of each, which
/// is 1973 of the next.
const EPOCH_BELOW: [(i64, i64); 3] = [
    (100_000_000_000, NS_PER_S),
    (100_000_000_000_000, NS_PER_MS),
    (100_000_000_000_000_000, 1_000),
];

/// A point in time as a user gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    At(i64),
    Ago(Duration),
}

impl When {
    /// Reads a number since 1970, RFC 3339 or a part of it in UTC, or a duration that counts backwards from now, with a
    /// minus or without.
    pub fn parse(text: &str) -> Option<Self> {
        let is_number = text.bytes().all(|b| b.is_ascii_digit());
        if let Ok(number) = text.parse::<i64>()
            && is_number
            && number > AGO_S_MAX
        {
            let unit = EPOCH_BELOW.into_iter().find(|(below, _)| number < *below);
            let at = number.checked_mul(unit.map_or(1, |(_, ns)| ns));
            return at.map(When::At);
        }
        let ago = text.strip_prefix('-').unwrap_or(text);
        if let Some(duration) = units::parse_duration(ago) {
            return Some(When::Ago(duration));
        }
        let rest = match text.len() {
            10 => "T00:00:00Z",
            16 => ":00Z",
            _ => "",
        };
        let at = parse_rfc3339(&format!("{text}{rest}"));
        at.or_else(|| parse_rfc3339(&format!("{text}Z")))
            .map(When::At)
    }

    pub fn ns(self, now_ns: i64) -> i64 {
        match self {
            When::At(ns) => ns,
            When::Ago(ago) => {
                let ago = i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX);
                now_ns.saturating_sub(ago)
            }
        }
    }
}

/// Writes timestamps as `timestamp` does; one of the same second as the last costs little.
#[derive(Debug, Default)]
pub struct Stamper {
    /// When the second of `text` began, once there is one.
    second_ns: Option<i64>,
    text: String,
}

impl Stamper {
    pub fn write(&mut self, out: &mut Vec<u8>, time_ns: i64) {
        let within = self.second_ns.and_then(|from| time_ns.checked_sub(from));
        let ns = match within.filter(|ns| (0..NS_PER_S).contains(ns)) {
            Some(ns) => ns,
            None => {
                let ns = time_ns.rem_euclid(NS_PER_S);
                self.second_ns = time_ns.checked_sub(ns);
                self.text = timestamp(time_ns);
                ns
            }
        };
        // All but the milliseconds and the Z, which are the last four.
        let whole = self.text.as_bytes();
        out.extend_from_slice(&whole[..whole.len().saturating_sub(4)]);
        let ms = ns as u32 / NS_PER_MS as u32;
        let digit = |n: u32| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[digit(ms / 100), digit(ms / 10), digit(ms), b'Z']);
    }
}

/// Notices that the system clock was set, by its distance from a clock that nobody can set.
#[derive(Debug)]
pub struct ClockWatch {
    offset_ns: i64,
}

/// A clock that is slewed moves by half a millisecond a second at most; this much between two looks is a
/// step.
const STEP_MIN_NS: u64 = 100_000_000;

impl ClockWatch {
    /// `offset_ns` is the time of day less the time since boot.
    pub fn new(offset_ns: i64) -> Self {
        ClockWatch { offset_ns }
    }

    /// The step since the last look, if there was one.
    pub fn look(&mut self, offset_ns: i64) -> Option<i64> {
        let step = offset_ns.saturating_sub(self.offset_ns);
        self.offset_ns = offset_ns;
        (step.unsigned_abs() >= STEP_MIN_NS).then_some(step)
    }
}

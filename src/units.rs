//! Durations and sizes as people write them: `250ms`, `30d`, `16MiB`; and back again.
//!
//! Exact: a value is read as it was written, or rejected. A value that `duration` or `size` wrote is read back
//! as the same value. Pure; the options, the source specs and the log use it.

use std::time::Duration;

/// How durations are written, for help and errors.
pub const DURATION_EXAMPLES: &str = "250ms, 5s, 2m, 1h or 30d";
/// How sizes are written, for help and errors.
pub const SIZE_EXAMPLES: &str = "4096, 64KiB, 16MiB or 2GiB";

// From the largest down; a value is written in the first unit that divides it. The last one always does.
const MS_PER_UNIT: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
const BYTES_PER_UNIT: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("", 1),
];

/// A whole number and one of the units; `None` also where 64 bits are too few.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let is_digit = |c: char| c.is_ascii_digit();
    let (number, unit) = text.split_at(text.find(|c| !is_digit(c)).unwrap_or(text.len()));
    let (_, per_unit) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*per_unit)
}

fn written(value: u64, units: &[(&str, u64)]) -> String {
    match units.iter().find(|(_, unit)| value.is_multiple_of(*unit)) {
        Some((name, unit)) if value != 0 => format!("{}{name}", value / unit),
        _ => value.to_string(),
    }
}

/// Reads `250ms`, `5s`, `2m`, `1h`, `30d`, several of them as in `1h30m`, or a bare number of seconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if let Some(ms) = parse(text, &[("", 1_000)]) {
        return Some(Duration::from_millis(ms));
    }
    let is_digit = |c: char| c.is_ascii_digit();
    let (mut ms, mut rest) = (0_u64, text);
    loop {
        let unit = rest.find(|c| !is_digit(c))?;
        let end = rest[unit..]
            .find(is_digit)
            .map_or(rest.len(), |at| unit + at);
        ms = ms.checked_add(parse(&rest[..end], &MS_PER_UNIT)?)?;
        rest = &rest[end..];
        if rest.is_empty() {
            return Some(Duration::from_millis(ms));
        }
    }
}

/// Writes a duration in the largest unit that needs no decimals; less than a millisecond is cut off.
pub fn duration(value: Duration) -> String {
    written(
        u64::try_from(value.as_millis()).unwrap_or(u64::MAX),
        &MS_PER_UNIT,
    )
}

/// Reads `4096`, `64KiB`, `16MiB` or `2GiB`.
pub fn parse_size(text: &str) -> Option<u64> {
    parse(text, &BYTES_PER_UNIT)
}

/// Writes a size in the largest unit that divides it.
pub fn size(bytes: u64) -> String {
    written(bytes, &BYTES_PER_UNIT)
}

/// Writes a size for a person, rounded: `4.1 MiB`. It does not read back.
pub fn bytes_human(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = "KiB";
    for larger in ["MiB", "GiB", "TiB", "PiB", "EiB"] {
        // From here on one decimal would round up to 1024.0.
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// `1234567` as `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

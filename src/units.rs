//! Durations and sizes as people write them: `250ms`, `30d`, `16MiB`; and back again.
//!
//! Exact: what is read is what was written, or an error. A value that `duration` or `size` wrote reads
//! back as the same value. Pure; the options, the source specs and the log use it.

use std::time::Duration;

/// How durations are written, for help and errors.
pub const DURATION_EXAMPLES: &str = "250ms, 5s, 2m, 1h or 30d";
/// How sizes are written, for help and errors.
pub const SIZE_EXAMPLES: &str = "4096, 64KiB, 16MiB or 2GiB";

const NS_PER_S: u128 = 1_000_000_000;
const NS_PER_MS: u32 = 1_000_000;
/// In the order in which `duration` tries them.
const SECONDS_PER_UNIT: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
const BYTES_PER_UNIT: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// No exact number of nanoseconds has more decimals than this in any of the units.
const DECIMALS_MAX: usize = 18;

fn digits(text: &str) -> Option<u128> {
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Reads `250ms`, `1.5s`, `2m`, `1h`, `30d`, or a bare number of seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let not_one = || format!("{text:?} is not a duration such as {DURATION_EXAMPLES}");
    let too_long = || format!("{text:?} is too long a duration");
    let too_fine = || format!("{text:?} is not a whole number of nanoseconds");

    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit_ns = match unit {
        "" => NS_PER_S,
        "ms" => u128::from(NS_PER_MS),
        _ => SECONDS_PER_UNIT
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, seconds)| u128::from(*seconds) * NS_PER_S)
            .ok_or_else(not_one)?,
    };
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || decimals.is_empty() || decimals.contains('.') {
        return Err(not_one());
    }
    let decimals = decimals.trim_end_matches('0');
    if decimals.len() > DECIMALS_MAX {
        return Err(too_fine());
    }
    let scale = 10u128.pow(decimals.len() as u32);
    let scaled_ns = match decimals {
        "" => 0,
        _ => digits(decimals).ok_or_else(not_one)? * unit_ns,
    };
    if scaled_ns % scale != 0 {
        return Err(too_fine());
    }
    let total_ns = digits(whole)
        .and_then(|whole| whole.checked_mul(unit_ns))
        .and_then(|ns| ns.checked_add(scaled_ns / scale))
        .ok_or_else(too_long)?;
    let seconds = u64::try_from(total_ns / NS_PER_S).map_err(|_| too_long())?;
    Ok(Duration::new(seconds, (total_ns % NS_PER_S) as u32))
}

/// Writes a duration in the largest unit that needs no decimals, else in seconds with decimals.
pub fn duration(value: Duration) -> String {
    let (seconds, ns) = (value.as_secs(), value.subsec_nanos());
    if ns == 0 {
        return SECONDS_PER_UNIT
            .iter()
            .find(|(_, unit)| seconds != 0 && seconds.is_multiple_of(*unit))
            .map_or("0".into(), |(name, unit)| {
                format!("{}{name}", seconds / unit)
            });
    }
    if seconds == 0 && ns.is_multiple_of(NS_PER_MS) {
        return format!("{}ms", ns / NS_PER_MS);
    }
    let decimals = format!("{ns:09}");
    format!("{seconds}.{}s", decimals.trim_end_matches('0'))
}

/// Reads `4096`, `64KiB`, `16MiB` or `2GiB`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let not_one = || format!("{text:?} is not a size such as {SIZE_EXAMPLES}");
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit_bytes = match unit {
        "" => 1,
        _ => BYTES_PER_UNIT
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, bytes)| *bytes)
            .ok_or_else(not_one)?,
    };
    if number.is_empty() {
        return Err(not_one());
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit_bytes))
        .ok_or_else(|| format!("{text:?} is too large a size"))
}

/// Writes a size in the largest unit that divides it.
pub fn size(bytes: u64) -> String {
    BYTES_PER_UNIT
        .iter()
        .find(|(_, unit)| bytes != 0 && bytes.is_multiple_of(*unit))
        .map_or(bytes.to_string(), |(name, unit)| {
            format!("{}{name}", bytes / unit)
        })
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

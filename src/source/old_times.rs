//! A warning where a source sends times that it hardly means: of 1970, as seconds in a source of nanoseconds are, or
//! older than `--retain`. Once for each source. The readings are recorded all the same.

use std::fmt::Display;

use crate::log;
use crate::reading::line::Precision;
use crate::reading::stream::{AFTER_1970_NS, Intake, OldTime};
use crate::time::timestamp;

/// 2001-09-09, from when on seconds have ten digits.
const TEN_DIGITS_NS: i64 = 1_000_000_000_000_000_000;

/// Lets a source take lines, and logs the first old time of them unless one of this source was logged before.
pub fn watch<'a, T>(
    is_told: &mut bool,
    source: &dyn Display,
    precision: Precision,
    to: &mut Intake<'a>,
    take: impl FnOnce(&mut Intake<'a>) -> T,
) -> T {
    let old_before_ns = to.old_before_ns;
    if *is_told {
        to.old_before_ns = i64::MIN;
    }
    let taken = take(to);
    to.old_before_ns = old_before_ns;
    if let Some(old) = to.old.take() {
        *is_told = true;
        warn(source, precision, &old);
    }
    taken
}

fn warn(source: &dyn Display, precision: Precision, old: &OldTime) {
    let reason = match fitting(old.time_ns, precision) {
        _ if old.time_ns >= AFTER_1970_NS => {
            "it is older than --retain: such readings go once a recorder has run for a day more"
                .to_owned()
        }
        Some(name) => {
            let (source, expected) = (source.to_string(), precision.name());
            let joint = if source == "stdin" { ':' } else { ',' };
            format!(
                "times of 1970: they fit precision={name}, give --source {source}{joint}precision={name}, or send {expected}"
            )
        }
        None => "times of 1970: set the clock of the sender, or let it send none".to_owned(),
    };
    let time = timestamp(old.time_ns);
    let fields: [log::Field; 4] = [
        ("source", source),
        ("sensor", &old.sensor),
        ("time", &time),
        ("reason", &reason),
    ];
    log::warn("old-times", &fields);
}

/// The precision in which the number that was sent is a time since 2001.
fn fitting(time_ns: i64, precision: Precision) -> Option<&'static str> {
    let sent = time_ns / precision as i64;
    let all = [Precision::S, Precision::Ms, Precision::Us];
    let fits = |of: &Precision| {
        let ns = sent.checked_mul(*of as i64);
        ns.is_some_and(|ns| ns >= TEN_DIGITS_NS)
    };
    all.into_iter().find(fits).map(Precision::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_precision_that_fits_is_found() {
        const S: i64 = 1_790_000_000;
        for (time_ns, precision, expected) in [
            (S, Precision::Ns, Some("s")),
            (S * 1_000, Precision::Ns, Some("ms")),
            (S * 1_000_000, Precision::Ns, Some("us")),
            (S * 1_000, Precision::Us, Some("s")),
            (S * 1_000_000, Precision::Us, Some("ms")),
            (S * 1_000_000, Precision::Ms, Some("s")),
            (86_400, Precision::Ns, None),
            (-1, Precision::Ns, None),
        ] {
            assert_eq!(fitting(time_ns, precision), expected, "{time_ns}");
        }
    }
}

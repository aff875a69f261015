//! Points in time as text. Pure.

const NS_PER_S: i64 = 1_000_000_000;
const NS_PER_MS: i64 = 1_000_000;
const S_PER_DAY: i64 = 86_400;

/// The Gregorian date of a day counted from 1970-01-01.
fn civil(day: i64) -> (i64, i64, i64) {
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
    let (seconds, ns) = (time_ns.div_euclid(NS_PER_S), time_ns.rem_euclid(NS_PER_S));
    let (day, second) = (seconds.div_euclid(S_PER_DAY), seconds.rem_euclid(S_PER_DAY));
    let (year, month, day) = civil(day);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z",
        ns / NS_PER_MS
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_noticed_and_one_that_is_slewed_is_not() {
        let mut watch = ClockWatch::new(1_000_000_000);
        assert_eq!(watch.look(1_000_500_000), None);
        assert_eq!(
            watch.look(3_600_001_000_500_000),
            Some(3_600_000_000_000_000)
        );
        assert_eq!(watch.look(3_600_001_000_500_000), None);
        // From a machine without a battery to the real time, and back before 1970.
        assert_eq!(watch.look(-5_000_000_000), Some(-3_600_006_000_500_000));
        assert_eq!(watch.look(i64::MAX), Some(i64::MAX));
    }

    #[test]
    fn timestamps_cover_all_that_64_bits_of_nanoseconds_can_say() {
        for (time_ns, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_999_999_999, "2000-02-29T00:00:00.999Z"),
            (1_262_304_000_000_000_000, "2010-01-01T00:00:00.000Z"),
            (4_107_542_399_000_000_000, "2100-02-28T23:59:59.000Z"),
            (i64::MAX, "2262-04-11T23:47:16.854Z"),
            (i64::MIN, "1677-09-21T00:12:43.145Z"),
        ] {
            assert_eq!(timestamp(time_ns), text);
        }
    }
}

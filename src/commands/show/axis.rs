//! The axes of the page's charts: which values and times are labelled, and where they lie. Pure.

use super::sums::{Line, Window};
use super::values::Form;
use crate::time::timestamp;

/// What is left free above the greatest value and below the least, in pixels.
const MARGIN: f64 = 6.0;
const VALUES_MAX: f64 = 5.0;
const TIMES_MAX: u64 = 5;
const NS_PER_S: u64 = 1_000_000_000;
const DAY_S: u64 = 86_400;
/// Between two labels of time, in seconds.
const STEPS_S: [u64; 31] = [
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1_800,
    3_600,
    7_200,
    10_800,
    21_600,
    43_200,
    DAY_S,
    2 * DAY_S,
    3 * DAY_S,
    4 * DAY_S,
    7 * DAY_S,
    14 * DAY_S,
    30 * DAY_S,
    MONTHS_FROM_S,
    182 * DAY_S,
    365 * DAY_S,
    YEARS_FROM_S,
    3_652 * DAY_S,
    18_262 * DAY_S,
    73_050 * DAY_S,
];
const MONTHS_FROM_S: u64 = 91 * DAY_S;
const YEARS_FROM_S: u64 = 1_826 * DAY_S;
const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";

/// The axis of the values of one series, from bottom to top.
pub struct Axis {
    low: f64,
    high: f64,
    height: f64,
}

impl Axis {
    pub fn of(line: &Line, height: u32) -> Self {
        let [mut low, _, mut high] = line.whole.range().unwrap_or_default();
        if low == high {
            // A constant series is a line in the middle.
            let around = (low.abs() / 1000.0).max(1.0);
            (low, high) = (low - around, high + around);
        }
        let height = f64::from(height);
        Axis { low, high, height }
    }

    /// Pixels from the top.
    pub fn y(&self, value: f64) -> i32 {
        // Halves, because the whole may be more than a float holds.
        let share = (self.high / 2.0 - value / 2.0) / (self.high / 2.0 - self.low / 2.0);
        (MARGIN + share * (self.height - 2.0 * MARGIN)).round() as i32
    }

    /// Round values, with their labels; none twice.
    pub fn ticks(&self) -> Vec<(i32, String)> {
        let mut least = self.high / VALUES_MAX - self.low / VALUES_MAX;
        if let Form::Decimals(0) = Form::of(&[self.low, self.high]) {
            // Of truth values and small counts.
            least = least.max(1.0);
        }
        let least = least.clamp(f64::MIN_POSITIVE, f64::MAX / 100.0);
        let (mut power, mut decimals) = (1.0, 0);
        while power > least {
            (power, decimals) = (power / 10.0, decimals + 1);
        }
        while power * 10.0 <= least {
            power *= 10.0;
        }
        let fits = [1.0, 2.0, 5.0, 10.0].map(|n| n * power);
        let step = fits.into_iter().find(|step| *step >= least);
        let step = step.unwrap_or(least);
        if step > power * 9.0 && decimals > 0 {
            decimals -= 1;
        }
        let first = (self.low / step).ceil();
        let values = (0..6).map(|n| (first + f64::from(n)) * step);
        let values: Vec<f64> = values.filter(|v| *v <= self.high).collect();
        let form = match Form::of(&values) {
            Form::Powers => Form::Powers,
            Form::Decimals(_) => Form::Decimals(decimals),
        };
        let tick = |v: &f64| (self.y(*v), form.write(*v));
        let mut ticks: Vec<_> = values.iter().map(tick).collect();
        ticks.dedup_by(|one, other| one.1 == other.1);
        ticks
    }
}

/// Round times of a window, each as a share of it, with their labels.
pub fn times(window: &Window) -> Vec<(f64, String)> {
    let length_ns = window.length_ns();
    let fits = |step_s: &&u64| length_ns / (**step_s * NS_PER_S) < TIMES_MAX;
    let step_s = *STEPS_S
        .iter()
        .find(fits)
        .unwrap_or(&STEPS_S[STEPS_S.len() - 1]);
    let step_ns = (step_s * NS_PER_S) as i64;
    let past = window.from_ns.rem_euclid(step_ns);
    let first = (step_ns - past) % step_ns;
    let nth = |n: u64| (first as u64).saturating_add(n.saturating_mul(step_ns as u64));
    let offsets = (0..=TIMES_MAX)
        .map(nth)
        .take_while(|offset| *offset < length_ns);
    let share = |offset_ns: u64| offset_ns as f64 / length_ns as f64;
    let time_ns = |offset_ns| window.from_ns.wrapping_add_unsigned(offset_ns);
    offsets
        .map(|offset| (share(offset), label(time_ns(offset), step_s)))
        .collect()
}

/// Of a time, as much as a label needs where the next is so far away.
fn label(time_ns: i64, step_s: u64) -> String {
    let text = timestamp(time_ns);
    let is_midnight = time_ns.rem_euclid((DAY_S * NS_PER_S) as i64) == 0;
    match step_s {
        ..60 => text[11..19].to_owned(),
        60..DAY_S if !is_midnight => text[11..16].to_owned(),
        ..MONTHS_FROM_S => date(&text),
        MONTHS_FROM_S..YEARS_FROM_S => format!("{} {}", &date(&text)[3..], &text[..4]),
        _ => text[..4].to_owned(),
    }
}

/// `2026-11-28T…` as `28 Nov`.
fn date(timestamp: &str) -> String {
    let month: usize = timestamp[5..7].parse().unwrap_or(1);
    format!(
        "{} {}",
        &timestamp[8..10],
        &MONTHS[month * 3 - 3..month * 3]
    )
}

/// A whole time, to the second.
pub fn full(time_ns: i64) -> String {
    let text = timestamp(time_ns);
    format!("{} {} {}", date(&text), &text[..4], &text[11..19])
}

#[cfg(test)]
mod tests {
    use super::super::sums::{Line, Part};
    use super::*;

    #[test]
    fn labels_are_round_and_lie_within_the_chart() {
        let labels = |numbers: &[f64]| {
            let whole = Part::of(numbers);
            let axis = Axis::of(&Line::of(vec![whole]), 120);
            let ticks = axis.ticks();
            assert!(
                ticks.iter().all(|(y, _)| (6..=114).contains(y)),
                "{ticks:?}"
            );
            let labels: Vec<_> = ticks.into_iter().map(|(_, label)| label).collect();
            labels.join(" ")
        };
        assert_eq!(labels(&[38.6, 44.9]), "40 42 44");
        assert_eq!(labels(&[0.0, 1.0]), "0 1");
        assert_eq!(labels(&[-0.2, 0.13]), "-0.2 -0.1 0.0 0.1");
        assert_eq!(
            labels(&[101325.12, 101325.2]),
            "101325.12 101325.14 101325.16 101325.18 101325.20"
        );
        assert_eq!(labels(&[7.0]), "6 7 8");
        assert_eq!(labels(&[1e300, -1e300]), "-5.000e299 0.000e0 5.000e299");
        assert_eq!(
            labels(&[f64::MAX, f64::MIN]),
            "-1.000e308 0.000e0 1.000e308"
        );
        assert_eq!(labels(&[f64::INFINITY, 1.0]), "");
        assert_eq!(labels(&[5e-324, 0.0]), "0.000e0");
    }

    #[test]
    fn times_are_round_and_few_for_any_window() {
        let labels = |from_ns: i64, to_ns: i64| {
            let window = Window {
                from_ns,
                to_ns,
                parts: 9,
            };
            let times = times(&window);
            assert!(times.iter().all(|(share, _)| (0.0..=1.0).contains(share)));
            let labels: Vec<_> = times.into_iter().map(|(_, label)| label).collect();
            labels.join(", ")
        };
        let s = NS_PER_S as i64;
        let at = 1_764_289_091 * s;
        assert_eq!(labels(at - 86_400 * s, at), "06:00, 12:00, 18:00, 28 Nov");
        assert_eq!(labels(at - 10 * s, at), "00:18:05, 00:18:10");
        assert_eq!(labels(i64::MIN, i64::MAX), "1769, 1970, 2170");
        assert_eq!(labels(0, 0), "");
    }
}

//! The axes of the page's charts: which values and times are labelled, and where they lie. Pure.

use super::sums::{ShownSeries, Window};
use super::values::{NumberFormat, share};
use crate::time::timestamp;

/// What is left free above the greatest value and below the least, in pixels.
const MARGIN: f64 = 6.0;
const VALUES_MAX: f64 = 5.0;
const TIMES_MAX: u64 = 5;
const NS_PER_S: u64 = 1_000_000_000;
const DAY_S: u64 = 86_400;
const MONTHS_FROM_S: u64 = 7_862_400;
const YEAR_S: u64 = 31_536_000;
/// Between two labels of time, in seconds; where none of them is enough, whole years.
const STEPS_S: [u64; 26] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200,
    86_400, 172_800, 259_200, 345_600, 604_800, 1_209_600, 2_592_000, 7_862_400, 15_768_000,
];
const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";

/// The axis of the values of one series, from bottom to top.
pub struct Axis {
    low: f64,
    high: f64,
    height: f64,
}

impl Axis {
    pub fn of(line: &ShownSeries, height: i32) -> Self {
        let [mut low, _, mut high] = line.whole.range().unwrap_or_default();
        if low == high {
            // A constant series is a line in the middle.
            let around = (low.abs() / 1000.0).max(1.0);
            (low, high) = ((low - around).max(f64::MIN), (high + around).min(f64::MAX));
        }
        let height = f64::from(height);
        Axis { low, high, height }
    }

    /// Pixels from the top.
    pub fn y(&self, value: f64) -> i32 {
        let down = share(value, self.high, self.low);
        (MARGIN + down * (self.height - 2.0 * MARGIN)).round() as i32
    }

    /// Round values, with their labels; none twice.
    pub fn ticks(&self) -> Vec<(i32, String)> {
        let mut least = self.high / VALUES_MAX - self.low / VALUES_MAX;
        if let NumberFormat::Decimals(0) = NumberFormat::of(&[self.low, self.high]) {
            // Of truth values and small counts.
            least = least.max(1.0);
        }
        let least = least.clamp(f64::MIN_POSITIVE, f64::MAX / 2.0);
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
        let form = match NumberFormat::of(&[self.low, self.high]) {
            NumberFormat::Powers => NumberFormat::Powers,
            NumberFormat::Decimals(_) => NumberFormat::Decimals(decimals),
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
    let least_s = length_ns.div_ceil(TIMES_MAX * NS_PER_S).max(1);
    let fits = |step_s: &&u64| **step_s >= least_s;
    let years_s = least_s.div_ceil(YEAR_S) * YEAR_S;
    let step_s = *STEPS_S.iter().find(fits).unwrap_or(&years_s);
    let step_ns = step_s * NS_PER_S;
    let mut after_ns = step_ns - window.from_ns.rem_euclid(step_ns as i64) as u64;
    let mut times = Vec::new();
    while after_ns < length_ns {
        let time_ns = window.from_ns.wrapping_add_unsigned(after_ns);
        times.push((after_ns as f64 / length_ns as f64, label(time_ns, step_s)));
        after_ns = after_ns.saturating_add(step_ns);
    }
    times
}

/// Of a time, as much as a label needs where the next is so far away.
fn label(time_ns: i64, step_s: u64) -> String {
    let text = timestamp(time_ns);
    let is_midnight = time_ns.rem_euclid((DAY_S * NS_PER_S) as i64) == 0;
    match step_s {
        ..60 => text[11..19].to_owned(),
        60..DAY_S if !is_midnight => text[11..16].to_owned(),
        60..MONTHS_FROM_S => date(&text),
        MONTHS_FROM_S..=YEAR_S => [&date(&text)[3..], " ", &text[..4]].concat(),
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
    [&date(&text), " ", &text[..4], " ", &text[11..19]].concat()
}

//! The axes of the page's charts: which values and times are labelled, and where they lie. Pure.

use super::sums::{ShownSeries, Window};
use super::values::{NumberFormat, share};
use crate::time::{civil, day_of, timestamp};

/// Margin above the greatest value and below the least, in pixels.
const MARGIN: f64 = 6.0;
const VALUES_MAX: f64 = 5.0;
/// Part of a value that its sensor does not tell: the last digits of floats are no change.
const CONSTANT: f64 = 1e-9;
const TIMES_MAX: u64 = 5;
const NS_PER_S: u64 = 1_000_000_000;
const DAY_S: u64 = 86_400;
const MONTH_S: u64 = 31 * DAY_S;
const DAY_NS: i64 = (DAY_S * NS_PER_S) as i64;
/// Steps between two labels of time, in seconds; longer ones are whole months.
const STEPS_S: [u64; 24] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200,
    86_400, 172_800, 259_200, 345_600, 604_800, 1_209_600, 2_592_000,
];
const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";

/// The axis of the values of one series, from bottom to top.
pub struct Axis {
    low: f64,
    high: f64,
    height: f64,
}

impl Axis {
    pub fn of(series: &ShownSeries, height: i32) -> Self {
        let [mut low, _, mut high] = series.whole.range().unwrap_or_default();
        // Halves, because the whole may be more than a float holds.
        if high / 2.0 - low / 2.0 <= low.abs().max(high.abs()) * CONSTANT {
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
            // Truth values and small counts get whole steps.
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
        let format = match NumberFormat::of(&[self.low, self.high]) {
            NumberFormat::Powers => NumberFormat::Powers,
            NumberFormat::Decimals(_) => NumberFormat::Decimals(decimals),
        };
        let tick = |v: &f64| (self.y(*v), format.write(*v));
        let mut ticks: Vec<_> = values.iter().map(tick).collect();
        ticks.dedup_by(|one, other| one.1 == other.1);
        ticks
    }
}

/// Round times of a window, each as a share of it, with their labels.
pub fn times(window: &Window) -> Vec<(f64, String)> {
    let least_s = window.length_ns().div_ceil(TIMES_MAX * NS_PER_S).max(1);
    let step_s = STEPS_S.into_iter().find(|step_s| *step_s >= least_s);
    let step_ns = (step_s.unwrap_or(0) * NS_PER_S) as i64;
    // Each third or sixth, or the first of some years.
    let months = match least_s.div_ceil(MONTH_S) as i64 {
        ..=3 => 3,
        4..=6 => 6,
        least => (least + 11) / 12 * 12,
    };
    let begin = |n: i64| match step_s {
        Some(_) => n.checked_mul(step_ns),
        None => {
            let month = n * months;
            day_of(month.div_euclid(12), month.rem_euclid(12) + 1, 1).checked_mul(DAY_NS)
        }
    };
    let (year, month, _) = civil(window.from_ns.div_euclid(DAY_NS));
    let mut next = match step_s {
        Some(_) => window.from_ns.div_euclid(step_ns) + 1,
        None => (year * 12 + month - 1).div_euclid(months) + 1,
    };
    let mut times = Vec::new();
    while let Some(time_ns) = begin(next).filter(|time_ns| *time_ns < window.to_ns) {
        let after_ns = time_ns.wrapping_sub(window.from_ns) as u64;
        let share = after_ns as f64 / window.length_ns() as f64;
        let text = timestamp(time_ns);
        let label = match step_s {
            Some(..60) => text[11..19].to_owned(),
            Some(60..DAY_S) if time_ns % DAY_NS != 0 => text[11..16].to_owned(),
            Some(_) => date(&text),
            None => [&date(&text)[3..], " ", &text[..4]].concat(),
        };
        times.push((share, label));
        next += 1;
    }
    times
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

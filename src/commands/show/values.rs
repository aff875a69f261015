//! Values as `show` writes them for people: units, decimals, ages, and text that is safe to print. Pure.

use std::time::Duration;

use crate::log;

const DECIMALS_MAX: usize = 4;
/// Upper bound on what is kept of a text.
const TEXT_WIDTH_MAX: usize = 80;

#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    Real(f64),
    Integer(i64),
    Boolean(bool),
    /// Above what an integer holds.
    Unsigned(String),
    Text(String),
}

/// The unit by the field's name, or nothing. A letter alone is not enough: `phase_a` is no current.
pub fn unit(field: &str) -> &'static str {
    // Part of the name, its end, the unit: one string is smaller than a table.
    const ENDS: &str = "temp,_c,°C temp,_f,°F temp,_k,K volt,_v,V volt,_mv,mV current,_a,A current,_ma,mA \
        power,_w,W energy,_j,J energy,_kwh,kWh charge,_c,C distance,_m,m ,_percent,% ,_rpm,RPM ,_hpa,hPa \
        ,_kpa,kPa ,_m_s2,m/s² ,_rad_s,rad/s ,_rad,rad ,_gauss,Gauss ,_lux,lux ,_ppm,ppm ,_ug_m3,µg/m³ ,_ohm,Ω";
    let mut units = ENDS.split(' ').filter_map(|known| {
        let (holds, rest) = known.split_once(',')?;
        let (end, unit) = rest.split_once(',')?;
        (field.ends_with(end) && field.contains(holds)).then_some(unit)
    });
    units.next().unwrap_or("")
}

/// Where a value lies on the way from one to another: 0 to 1, and in the middle where they are the same.
pub fn share(value: f64, from: f64, to: f64) -> f64 {
    // Halves, because the whole may be more than a float holds.
    let share = (value / 2.0 - from / 2.0) / (to / 2.0 - from / 2.0);
    if share.is_finite() { share } else { 0.5 }
}

/// Format of the numbers of one series.
#[derive(Clone, Copy)]
pub enum NumberFormat {
    Decimals(usize),
    Powers,
}

impl NumberFormat {
    /// As many decimals as the values themselves have, up to a few.
    pub fn of(values: &[f64]) -> Self {
        let finite = || values.iter().filter(|v| v.is_finite());
        let greatest = finite().fold(0.0f64, |most, v| most.max(v.abs()));
        if greatest >= 1e12 || (greatest > 0.0 && greatest < 1e-3) {
            return NumberFormat::Powers;
        }
        let decimals = finite().map(|v| {
            let text = format!("{v}");
            text.split_once('.').map_or(0, |(_, tail)| tail.len())
        });
        NumberFormat::Decimals(decimals.max().unwrap_or(0).min(DECIMALS_MAX))
    }

    /// A mean of whole numbers is seldom one.
    pub fn mean(self) -> Self {
        match self {
            NumberFormat::Decimals(0) => NumberFormat::Decimals(1),
            other => other,
        }
    }

    pub fn write(self, value: f64) -> String {
        match self {
            NumberFormat::Decimals(n) => format!("{value:.n$}"),
            NumberFormat::Powers => format!("{value:.3e}"),
        }
    }
}

pub fn age(age: Duration) -> String {
    let s = age.as_secs();
    match s {
        0..120 => format!("{s} s"),
        120..7_200 => format!("{} min", s / 60),
        7_200..172_800 => format!("{} h", s / 3_600),
        _ => format!("{} d", s / 86_400),
    }
}

/// A length of time, which may be less than a second.
pub fn length(time: Duration) -> String {
    match time.as_millis() {
        ms @ ..2000 => format!("{ms} ms"),
        _ => age(time),
    }
}

pub fn width(text: &str) -> usize {
    text.chars().count()
}

pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let kept = text.chars().take(columns.saturating_sub(1));
    kept.chain(std::iter::once('…')).collect()
}

/// As much of a text as is ever shown of it.
pub fn shorten(text: &str) -> String {
    cut(text, TEXT_WIDTH_MAX)
}

/// Text of a sender must not move the terminal's cursor, nor turn the order of a line.
pub fn visible(text: &str) -> String {
    let show = |c: char| if log::is_hidden(c) { '\u{fffd}' } else { c };
    text.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_small_numbers_are_written_with_powers() {
        assert_eq!(NumberFormat::of(&[1.5e15]).write(1.5e15), "1.500e15");
        assert_eq!(NumberFormat::of(&[2e-7]).write(2e-7), "2.000e-7");
        assert_eq!(NumberFormat::of(&[0.0]).write(0.0), "0");
        assert_eq!(NumberFormat::of(&[1.23456]).write(1.23456), "1.2346");
    }
}

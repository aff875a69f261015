//! The one table of `just bench`. Each row has a figure of seawall, the yardstick that was measured in the same
//! run and in the same unit, their ratio, and the spread of the figure.
//!
//! Values are medians, or the percentile that the figure's name gives. The spread is the least and the most of
//! the samples; of a percentile, that of five consecutive fifths of them.

const PARTS: usize = 5;

/// One side of a row: what was measured, and its samples.
pub type Side<'a> = (&'a str, &'a [f64]);

pub fn head() {
    line(
        "figure",
        "value",
        "unit",
        "yardstick",
        "value",
        "ratio",
        "spread",
    );
}

/// A row of medians.
pub fn row(unit: &str, figure: Side, yardstick: Side) {
    percentile(50, unit, figure, yardstick);
}

/// A row of percentiles; 100 is the maximum.
pub fn percentile(percent: usize, unit: &str, figure: Side, yardstick: Side) {
    let (value, other) = (at(percent, figure.1), at(percent, yardstick.1));
    let samples: Vec<f64> = if percent == 50 {
        figure.1.to_vec()
    } else {
        let parts = figure.1.chunks(figure.1.len().div_ceil(PARTS));
        parts.map(|part| at(percent, part)).collect()
    };
    let ratio = if other == 0.0 {
        "-".to_owned()
    } else {
        format!("{:.2}", value / other)
    };
    let spread = format!(
        "{} to {}",
        number(at(0, &samples)),
        number(at(100, &samples))
    );
    line(
        figure.0,
        &number(value),
        unit,
        yardstick.0,
        &number(other),
        &ratio,
        &spread,
    );
}

/// The medians, the 99th percentiles, and the greatest of the same samples.
pub fn percentiles(percents: &[usize], unit: &str, figure: Side, yardstick: Side) {
    for &percent in percents {
        let named = |name: &str| match percent {
            100 => format!("{name}, most"),
            _ => format!("{name}, p{percent}"),
        };
        let (one, other) = (named(figure.0), named(yardstick.0));
        percentile(percent, unit, (&one, figure.1), (&other, yardstick.1));
    }
}

/// In place of a row.
pub fn skip(figure: &str, why: &str) {
    println!("{figure:<52} skipped: {why}");
}

fn line(
    figure: &str,
    value: &str,
    unit: &str,
    yardstick: &str,
    other: &str,
    ratio: &str,
    spread: &str,
) {
    println!("{figure:<52} {value:>8} {unit:<10} {yardstick:<38} {other:>8} {ratio:>7}  {spread}");
}

/// The sample below which so many percent of them are; 100 gives the greatest.
fn at(percent: usize, samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn number(value: f64) -> String {
    let digits = match value {
        0.0 => 0,
        v if v < 0.1 => 3,
        v if v < 1000.0 => 2,
        _ => 0,
    };
    format!("{value:.digits$}")
}

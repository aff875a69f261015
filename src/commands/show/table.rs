//! The table of sensors that `show` prints: columns, numbers, units and sparklines, fitted to a width. Pure.

use super::names;
use super::sums::{Bucket, ShownSeries};
use super::values::{age, cut, share, unit, visible, width};
use crate::units::grouped;

/// Blocks of the widest sparkline.
pub const BLOCKS_MAX: usize = 24;
pub const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const HEADING: [&str; 9] = [
    "sensor", "field", "unit", "readings", "last", "age", "min", "mean", "max",
];
const SENSOR: usize = 0;
const FIELD: usize = 1;
const UNIT: usize = 2;
const LAST: usize = 4;
const AGE: usize = 5;
/// Columns in the order in which a narrow terminal loses them: unit, mean, readings, greatest, least. Last and age are
/// what people come for.
const DROPPED: [usize; 5] = [UNIT, 7, 3, 8, 6];
/// From the widest to the narrowest: how many of `DROPPED` have gone, and the least width of the sparkline, which is
/// wider where there is room.
const LAYOUTS: [(usize, usize); 8] = [
    (0, 12),
    (1, 12),
    (2, 12),
    (3, 12),
    (3, 8),
    (3, 0),
    (5, 8),
    (5, 0),
];
/// The first layout for which names are cut: what it has lost is worth less than a whole name.
const CUT_FROM: usize = 3;
/// Names are not cut to less while there are columns to drop.
const SENSOR_WIDTH_MIN: usize = 12;
/// Columns that are cut where even the narrowest layout is too wide, in order, with their least width.
const NARROWED: [(usize, usize); 7] = [
    (LAST, 8),
    (FIELD, 8),
    (SENSOR, 8),
    (LAST, 1),
    (FIELD, 1),
    (SENSOR, 1),
    (AGE, 1),
];
const TEXT_WIDTH_MAX: usize = 20;
/// Upper bound on the width of a column: each row is as wide as the widest name.
pub const WIDTH_MAX: usize = 250;
const GAP: &str = "  ";

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
pub const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// `None`: as wide as needed.
    pub columns: Option<usize>,
    pub colours: bool,
}

type Widths = [usize; HEADING.len()];
type Cells = [String; HEADING.len()];

/// The table with its heading; `over` says how long the sparkline is.
pub fn table(series: &[ShownSeries], over: &str, style: Style) -> String {
    let mut cells: Vec<Cells> = series.iter().map(cells).collect();
    let heading = HEADING.map(str::to_owned);
    let mut widths = HEADING.map(width);
    for row in &cells {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(width(cell).min(WIDTH_MAX));
        }
    }
    if cells.iter().all(|row| row[UNIT].is_empty()) {
        widths[UNIT] = 0;
    }
    let spark = match style.columns {
        None => BLOCKS_MAX,
        Some(columns) => fit(&mut cells, &mut widths, columns),
    };

    let spark_heading = match spark {
        0 => String::new(),
        _ => cut(over, spark),
    };
    let mut out = paint(&row(&heading, &widths, &spark_heading), BOLD, style);
    out.push('\n');
    for (series, cells) in series.iter().zip(&cells) {
        let blocks = sparkline(&series.parts, spark);
        let blocks = blocks.trim_end();
        if series.last.is_none() {
            out += &paint(&row(cells, &widths, ""), DIM, style);
        } else if blocks.is_empty() {
            out += &row(cells, &widths, "");
        } else {
            out += &row(cells, &widths, &paint(blocks, CYAN, style));
        }
        out.push('\n');
    }
    out
}

pub fn paint(text: &str, colour: &str, style: Style) -> String {
    if style.colours {
        format!("{colour}{text}{PLAIN}")
    } else {
        text.to_owned()
    }
}

/// Width of the row without its sparkline, and of the gap before that.
fn total(widths: &Widths, spark: usize) -> usize {
    let shown = widths.iter().filter(|w| **w > 0);
    let sum: usize = shown.map(|w| w + GAP.len()).sum();
    match spark {
        0 => sum.saturating_sub(GAP.len()),
        _ => sum + spark,
    }
}

/// Fits the columns to a terminal: drops some, and cuts names. Returns the width of the sparkline.
fn fit(cells: &mut [Cells], widths: &mut Widths, columns: usize) -> usize {
    let whole = *widths;
    let layout = |&(dropped, spark): &(usize, usize)| {
        let mut left = whole;
        for column in &DROPPED[..dropped] {
            left[*column] = 0;
        }
        (left, spark)
    };
    let widest = |tried: &Widths, least: usize| {
        let sparks = [BLOCKS_MAX, 12, 8];
        let fits = sparks.into_iter().find(|it| total(tried, *it) <= columns);
        fits.unwrap_or(least)
    };
    for (tried, spark) in LAYOUTS.iter().map(layout) {
        if total(&tried, spark) <= columns {
            *widths = tried;
            return widest(&tried, spark);
        }
    }
    let mut names: Vec<String> = cells.iter().map(|row| row[SENSOR].clone()).collect();
    names.dedup();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut best = None;
    for (mut tried, spark) in LAYOUTS[CUT_FROM..].iter().map(layout) {
        let rest = total(&tried, spark).saturating_sub(tried[SENSOR]);
        let room = columns.saturating_sub(rest);
        if room < SENSOR_WIDTH_MIN.min(tried[SENSOR]) {
            continue;
        }
        tried[SENSOR] = tried[SENSOR].min(room);
        let (short, is_distinct) = names::shorten(&names, tried[SENSOR]);
        best = Some((short, tried, spark));
        if is_distinct {
            break;
        }
    }
    let (short, fitted, spark) = best.unwrap_or_else(|| {
        let (mut tried, spark) = layout(&(DROPPED.len(), 0));
        for (column, least) in NARROWED {
            let over = total(&tried, spark).saturating_sub(columns);
            let least = tried[column].min(least);
            tried[column] = tried[column].saturating_sub(over).max(least);
        }
        let (short, _) = names::shorten(&names, tried[SENSOR]);
        (short, tried, spark)
    });
    *widths = fitted;
    // Cut names may be narrower than the room for them.
    let widest = short.iter().map(|name| width(name)).max().unwrap_or(0);
    widths[SENSOR] = widths[SENSOR].min(widest.max(HEADING[SENSOR].len()));
    // The rows of a sensor stand together.
    let of_sensor = cells.chunk_by_mut(|one, next| one[SENSOR] == next[SENSOR]);
    for (rows, short) in of_sensor.zip(short) {
        for row in rows {
            row[SENSOR].clone_from(&short);
        }
    }
    spark
}

fn cells(series: &ShownSeries) -> Cells {
    let [last, min, mean, max] = series.written(TEXT_WIDTH_MAX).map(|text| match text {
        None => "-".to_owned(),
        Some(text) => text,
    });
    [
        visible(&series.sensor),
        visible(&series.field),
        unit(&series.field).to_owned(),
        grouped(series.whole.count),
        last,
        series
            .last
            .as_ref()
            .map_or("-".to_owned(), |last| age(last.age)),
        min,
        mean,
        max,
    ]
}

fn sparkline(parts: &[Bucket], columns: usize) -> String {
    if columns == 0 {
        return String::new();
    }
    let means: Vec<Option<f64>> = parts
        .chunks(parts.len().div_ceil(columns).max(1))
        .map(|parts| Some(Bucket::total(parts).range()?[1]))
        .collect();
    let known = || means.iter().flatten().copied();
    let (low, high) = known().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    let block = |v: f64| {
        let top = (BLOCKS.len() - 1) as f64;
        BLOCKS[(share(v, low, high) * top).round().clamp(0.0, top) as usize]
    };
    means.iter().map(|mean| mean.map_or(' ', block)).collect()
}

/// Names to the left, numbers to the right.
fn row(cells: &Cells, widths: &Widths, spark: &str) -> String {
    let mut out = String::new();
    for (n, (cell, &columns)) in cells.iter().zip(widths).enumerate() {
        if columns == 0 {
            continue;
        }
        let cell = cut(cell, columns);
        let pad = " ".repeat(columns - width(&cell));
        if n <= UNIT {
            out += &cell;
            out += &pad;
        } else {
            out += &pad;
            out += &cell;
        }
        out += GAP;
    }
    out += spark;
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::sums::Last;
    use super::super::values::Shown;
    use super::*;

    fn series(sensor: &str, field: &str, value: f64) -> ShownSeries {
        let whole = Bucket::of(&[value - 1.0, value - 0.25, value + 1.25]);
        let parts = (0..BLOCKS_MAX).map(|n| match n {
            1 => Bucket::EMPTY,
            _ => Bucket::of(&[n as f64]),
        });
        ShownSeries {
            sensor: sensor.into(),
            field: field.into(),
            whole,
            parts: parts.collect(),
            last: Some(Last {
                value: Shown::Real(value),
                age: Duration::from_secs(3),
            }),
        }
    }

    const PIPED: Style = Style {
        columns: None,
        colours: false,
    };

    #[test]
    fn numbers_stand_under_each_other_with_the_same_decimals() {
        let mut silent = series("old", "note", 0.0);
        (silent.whole, silent.last) = (Bucket::EMPTY, None);
        silent.parts = vec![Bucket::EMPTY; BLOCKS_MAX];
        let series = [series("a,k=1", "temperature_c", 20.5), silent];
        assert_eq!(
            table(&series, "over 1h", PIPED),
            "\
sensor  field          unit  readings   last  age    min   mean    max  over 1h
a,k=1   temperature_c  °C           3  20.50  3 s  19.50  20.50  21.75  ▁ ▂▂▂▃▃▃▃▄▄▄▅▅▅▆▆▆▆▇▇▇██
old     note                        0      -    -      -      -      -
"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let long = series(&"hwmon,chip=".repeat(9), "temperature_c", 1e9);
        let series = [long, series("a", "b", 0.1)];
        for columns in 20..200 {
            let style = Style {
                columns: Some(columns),
                colours: false,
            };
            for text in table(&series, "over 1h", style).lines() {
                assert!(width(text) <= columns, "{columns}: {text}");
            }
        }
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let series = [series("a", "temperature_c", 1.5)];
        let style = Style {
            columns: None,
            colours: true,
        };
        let mut coloured = table(&series, "over 1h", style);
        assert!(coloured.contains(CYAN) && coloured.starts_with(BOLD));
        for code in [BOLD, CYAN, PLAIN] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, table(&series, "over 1h", PIPED));
    }

    #[test]
    fn what_a_sensor_sends_cannot_move_the_cursor() {
        let mut hostile = series("a,k=\x1b[2J", "b", 1.0);
        hostile.last = Some(Last {
            value: Shown::Text("\x1b]0;x\x07\n".into()),
            age: Duration::from_secs(86_400 * 40),
        });
        let text = table(&[hostile], "over 1h", PIPED);
        assert!(
            !text.contains('\x1b') && text.lines().count() == 2,
            "{text:?}"
        );
        assert!(text.contains("40 d"));
    }
}

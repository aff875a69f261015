//! The table of sensors that `show` prints: columns, numbers, units and sparklines, fitted to a width. Pure.

use std::time::Duration;

use super::names;
use crate::log;
use crate::units::grouped;

/// Parts of the window, each a block of the sparkline.
pub const BUCKETS: usize = 24;
/// The least to which names are cut before other columns go.
const SENSOR_WIDTH_MIN: usize = 12;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Columns in the order in which a narrow terminal loses them: unit, mean, readings, greatest, least. Last and age are
/// what people come for.
const DROPPED: [usize; 5] = [2, 7, 3, 8, 6];
/// What is tried, from the widest on: how many of `DROPPED` are shown no longer, and the width of the sparkline, which
/// divides `BUCKETS`. Names are whole in the first ones, and cut in the others.
const WHOLE: [(usize, usize); 12] = [
    (0, 24),
    (0, 12),
    (1, 24),
    (1, 12),
    (2, 24),
    (2, 12),
    (3, 24),
    (3, 12),
    (3, 8),
    (3, 0),
    (5, 8),
    (5, 0),
];
const CUT: [(usize, usize); 5] = [(3, 12), (3, 8), (3, 0), (5, 8), (5, 0)];
const TEXT_WIDTH_MAX: usize = 20;
/// Upper bound on the width of a column: each row is as wide as the widest name.
const WIDTH_MAX: usize = 250;
const DECIMALS_MAX: usize = 4;
const GAP: &str = "  ";

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

/// One line of the table: one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub sensor: String,
    pub field: String,
    pub readings: u64,
    /// The newest reading in the window.
    pub last: Option<Last>,
    /// Least, mean and greatest, of numbers.
    pub range: Option<[f64; 3]>,
    /// Means over the parts of the window.
    pub means: Vec<Option<f64>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Last {
    pub value: Shown,
    pub age: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    Real(f64),
    /// Integers and truth values.
    Word(String),
    Text(String),
}

#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// `None`: as wide as needed.
    pub columns: Option<usize>,
    pub colours: bool,
}

/// The unit by the field's name, or nothing. A letter alone is not enough: `phase_a` is no current.
pub fn unit(field: &str) -> &'static str {
    const ENDS: [(&str, &str, &str); 19] = [
        ("temp", "_c", "°C"),
        ("temp", "_f", "°F"),
        ("temp", "_k", "K"),
        ("volt", "_v", "V"),
        ("volt", "_mv", "mV"),
        ("current", "_a", "A"),
        ("current", "_ma", "mA"),
        ("power", "_w", "W"),
        ("energy", "_j", "J"),
        ("energy", "_kwh", "kWh"),
        ("", "_percent", "%"),
        ("", "_rpm", "RPM"),
        ("", "_hpa", "hPa"),
        ("", "_kpa", "kPa"),
        ("", "_m_s2", "m/s²"),
        ("", "_rad_s", "rad/s"),
        ("", "_gauss", "Gauss"),
        ("", "_lux", "lux"),
        ("", "_ppm", "ppm"),
    ];
    let known = ENDS
        .iter()
        .find(|(holds, end, _)| field.ends_with(end) && field.contains(holds));
    known.map_or("", |(_, _, unit)| unit)
}

/// The table with its heading; `over` says how long the sparkline is.
pub fn table(lines: &[Line], over: &str, style: Style) -> String {
    let mut cells: Vec<[String; 9]> = lines.iter().map(cells).collect();
    let heading = [
        "sensor", "field", "unit", "readings", "last", "age", "min", "mean", "max",
    ]
    .map(str::to_owned);
    let mut widths = heading.clone().map(|word| width(&word));
    for row in &cells {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(width(cell).min(WIDTH_MAX));
        }
    }
    let is_empty = |column: usize| cells.iter().all(|row| row[column].is_empty());
    if is_empty(2) {
        widths[2] = 0;
    }
    let spark = fit(&mut cells, &mut widths, style.columns);

    let mut out = String::new();
    let spark_heading = if spark == 0 {
        String::new()
    } else {
        cut(over, spark.max(BLOCKS.len()))
    };
    let heading = row(&heading, &widths, &spark_heading);
    out += &paint(&heading, BOLD, style);
    out.push('\n');
    for (line, cells) in lines.iter().zip(&cells) {
        let blocks = sparkline(&line.means, spark);
        let blocks = blocks.trim_end();
        if line.last.is_none() {
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

fn paint(text: &str, colour: &str, style: Style) -> String {
    if style.colours {
        format!("{colour}{text}{PLAIN}")
    } else {
        text.to_owned()
    }
}

/// Width of the row without its sparkline, and of the gap before that.
fn total(widths: &[usize; 9], spark: usize) -> usize {
    let shown = widths.iter().filter(|w| **w > 0);
    let sum: usize = shown.map(|w| w + GAP.len()).sum();
    match spark {
        0 => sum.saturating_sub(GAP.len()),
        _ => sum + spark,
    }
}

/// Fits the columns to a terminal: drops some, and cuts names. Returns the width of the sparkline.
fn fit(cells: &mut [[String; 9]], widths: &mut [usize; 9], columns: Option<usize>) -> usize {
    let Some(columns) = columns else {
        return BUCKETS;
    };
    let dropping = |count: usize| {
        let mut left = *widths;
        for column in &DROPPED[..count] {
            left[*column] = 0;
        }
        left
    };
    for (count, spark) in WHOLE {
        let tried = dropping(count);
        if total(&tried, spark) <= columns {
            *widths = tried;
            return spark;
        }
    }
    let mut names: Vec<String> = cells.iter().map(|row| row[0].clone()).collect();
    names.dedup();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut best = None;
    for (count, spark) in CUT {
        let mut tried = dropping(count);
        let rest = total(&tried, spark).saturating_sub(tried[0]);
        let room = columns.saturating_sub(rest);
        if room < SENSOR_WIDTH_MIN.min(tried[0]) {
            continue;
        }
        tried[0] = tried[0].min(room);
        let (short, is_distinct) = names::shorten(&names, tried[0]);
        best = Some((short, tried, spark));
        if is_distinct {
            break;
        }
    }
    let (short, mut fitted, spark) = best.unwrap_or_else(|| {
        // Not even that: the value and the field are cut, then the name, and in the end all.
        let mut tried = dropping(DROPPED.len());
        for (column, least) in [(4, 8), (1, 8), (0, 8), (4, 1), (1, 1), (0, 1), (5, 1)] {
            let over = total(&tried, 0).saturating_sub(columns);
            let least = tried[column].min(least);
            tried[column] = tried[column].saturating_sub(over).max(least);
        }
        let (short, _) = names::shorten(&names, tried[0]);
        (short, tried, 0)
    });
    let of_name: Vec<(String, String)> = names
        .iter()
        .map(|name| (*name).to_owned())
        .zip(short)
        .collect();
    let mut at = 0;
    for row in cells {
        while of_name.get(at).is_some_and(|(name, _)| *name != row[0]) {
            at += 1;
        }
        if let Some((_, short)) = of_name.get(at) {
            row[0].clone_from(short);
        }
    }
    // Cut names may be narrower than the room for them.
    fitted[0] = fitted[0].min(
        of_name
            .iter()
            .map(|(_, short)| width(short))
            .max()
            .unwrap_or(0)
            .max(6),
    );
    *widths = fitted;
    spark
}

fn cells(line: &Line) -> [String; 9] {
    let dash = || "-".to_owned();
    let floats = |last: Option<f64>| -> Vec<f64> {
        let [min, _, max] = line.range.unwrap_or_default();
        last.into_iter().chain([min, max]).collect()
    };
    let form = match line.last.as_ref().map(|last| &last.value) {
        Some(Shown::Real(v)) => Form::of(&floats(Some(*v))),
        _ => Form::of(&floats(None)),
    };
    let (last, age) = match &line.last {
        None => (dash(), dash()),
        Some(last) => {
            let value = match &last.value {
                Shown::Real(v) => form.write(*v),
                Shown::Word(word) => word.clone(),
                Shown::Text(text) => format!("\"{}\"", cut(&visible(text), TEXT_WIDTH_MAX)),
            };
            (value, age(last.age))
        }
    };
    let [min, mean, max] = match line.range {
        None => [dash(), dash(), dash()],
        Some([min, mean, max]) => [form.write(min), form.mean().write(mean), form.write(max)],
    };
    [
        visible(&line.sensor),
        visible(&line.field),
        unit(&line.field).to_owned(),
        grouped(line.readings),
        last,
        age,
        min,
        mean,
        max,
    ]
}

/// Format of the numbers of one line.
#[derive(Clone, Copy)]
enum Form {
    Decimals(usize),
    Powers,
}

impl Form {
    /// As many decimals as the values themselves have, up to a few.
    fn of(values: &[f64]) -> Self {
        let finite = || values.iter().filter(|v| v.is_finite());
        let greatest = finite().fold(0.0f64, |most, v| most.max(v.abs()));
        if greatest >= 1e12 || (greatest > 0.0 && greatest < 1e-3) {
            return Form::Powers;
        }
        let decimals = finite().map(|v| {
            let text = format!("{v}");
            text.split_once('.').map_or(0, |(_, tail)| tail.len())
        });
        Form::Decimals(decimals.max().unwrap_or(0).min(DECIMALS_MAX))
    }

    /// A mean of whole numbers is seldom one.
    fn mean(self) -> Self {
        match self {
            Form::Decimals(0) => Form::Decimals(1),
            other => other,
        }
    }

    fn write(self, value: f64) -> String {
        match self {
            Form::Decimals(n) => format!("{value:.n$}"),
            Form::Powers => format!("{value:.3e}"),
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

fn sparkline(means: &[Option<f64>], columns: usize) -> String {
    if columns == 0 {
        return String::new();
    }
    let parts: Vec<Option<f64>> = means
        .chunks(means.len().div_ceil(columns).max(1))
        .map(|part| {
            let known: Vec<f64> = part.iter().flatten().copied().collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        })
        .collect();
    let known = || parts.iter().flatten().copied();
    let (low, high) = known().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    let block = |v: f64| {
        let share = (v - low) / (high - low);
        // A constant series is a line in the middle.
        let share = if share.is_finite() { share } else { 0.5 };
        let top = (BLOCKS.len() - 1) as f64;
        BLOCKS[(share * top).round().clamp(0.0, top) as usize]
    };
    parts.iter().map(|part| part.map_or(' ', block)).collect()
}

/// Names to the left, numbers to the right.
fn row(cells: &[String; 9], widths: &[usize; 9], spark: &str) -> String {
    let mut out = String::new();
    for (n, (cell, &columns)) in cells.iter().zip(widths).enumerate() {
        if columns == 0 {
            continue;
        }
        let cell = cut(cell, columns);
        let pad = " ".repeat(columns - width(&cell));
        if n < 3 {
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

fn width(text: &str) -> usize {
    text.chars().count()
}

fn cut(text: &str, columns: usize) -> String {
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

/// Text of a sender must not move the terminal's cursor.
pub fn visible(text: &str) -> String {
    let show = |c: char| if log::is_hidden(c) { '\u{fffd}' } else { c };
    text.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sensor: &str, field: &str, value: f64) -> Line {
        Line {
            sensor: sensor.into(),
            field: field.into(),
            readings: 1234,
            last: Some(Last {
                value: Shown::Real(value),
                age: Duration::from_secs(3),
            }),
            range: Some([value - 1.0, value, value + 1.25]),
            means: (0..BUCKETS).map(|n| (n != 1).then_some(n as f64)).collect(),
        }
    }

    const PIPED: Style = Style {
        columns: None,
        colours: false,
    };

    #[test]
    fn numbers_stand_under_each_other_with_the_same_decimals() {
        let mut silent = line("old", "note", 0.0);
        (silent.readings, silent.last, silent.range) = (0, None, None);
        silent.means = vec![None; BUCKETS];
        let lines = [line("a,k=1", "temperature_c", 20.5), silent];
        assert_eq!(
            table(&lines, "over 1h", PIPED),
            "\
sensor  field          unit  readings   last  age    min   mean    max  over 1h
a,k=1   temperature_c  °C       1,234  20.50  3 s  19.50  20.50  21.75  ▁ ▂▂▂▃▃▃▃▄▄▄▅▅▅▆▆▆▆▇▇▇██
old     note                        0      -    -      -      -      -
"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let long = line(&"hwmon,chip=".repeat(9), "temperature_c", 1e9);
        let lines = [long, line("a", "b", 0.1)];
        for columns in 20..200 {
            let style = Style {
                columns: Some(columns),
                colours: false,
            };
            for text in table(&lines, "over 1h", style).lines() {
                assert!(width(text) <= columns, "{columns}: {text}");
            }
        }
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let lines = [line("a", "temperature_c", 1.5)];
        let style = Style {
            columns: None,
            colours: true,
        };
        let mut coloured = table(&lines, "over 1h", style);
        assert!(coloured.contains(CYAN) && coloured.starts_with(BOLD));
        for code in [BOLD, CYAN, PLAIN] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, table(&lines, "over 1h", PIPED));
    }

    #[test]
    fn a_unit_is_told_only_where_the_name_tells_it() {
        assert_eq!(unit("temperature_c"), "°C");
        assert_eq!(unit("power_average_w"), "W");
        assert_eq!(unit("acceleration_m_s2"), "m/s²");
        assert_eq!(unit("phase_a"), "");
        assert_eq!(unit("class_c"), "");
        assert_eq!(unit(""), "");
    }

    #[test]
    fn what_a_sensor_sends_cannot_move_the_cursor() {
        let mut hostile = line("a,k=\x1b[2J", "b", 1.0);
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

    #[test]
    fn large_and_small_numbers_are_written_with_powers() {
        assert_eq!(Form::of(&[1.5e15]).write(1.5e15), "1.500e15");
        assert_eq!(Form::of(&[2e-7]).write(2e-7), "2.000e-7");
        assert_eq!(Form::of(&[0.0]).write(0.0), "0");
        assert_eq!(Form::of(&[1.23456]).write(1.23456), "1.2346");
    }
}

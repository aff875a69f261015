//! The larger chart that `show` draws on a terminal where one series matches. Pure.

use super::axis::full;
use super::sums::{Bucket, ShownSeries, Window};
use super::table::{BLOCKS, CYAN, Style, paint};
use super::values::{NumberFormat, cut, share, unit, visible};

const ROWS: usize = 10;
/// Room for the numbers at the left.
const LEFT: usize = 12;

/// Parts of the window, each a column of the chart; `None` where a terminal is too narrow for one.
pub fn parts(columns: usize) -> Option<usize> {
    (columns >= 60).then(|| columns.min(200) - LEFT)
}

/// Columns as high as the mean, and above it a shade up to the greatest. Nothing where there are no numbers.
pub fn chart(series: &ShownSeries, window: &Window, style: Style) -> String {
    let Some([low, _, high]) = series.whole.range() else {
        return String::new();
    };
    let top = ROWS * BLOCKS.len();
    let height = |value: f64| {
        let up = share(value, low, high) * top as f64;
        (up.round() as usize).clamp(1, top)
    };
    let heights = |part: &Bucket| {
        part.range()
            .map(|[_, mean, max]| (height(mean), height(max)))
    };
    let columns: Vec<Option<(usize, usize)>> = series.parts.iter().map(heights).collect();

    let mut format = NumberFormat::of(&[low, high]);
    if [low, high].iter().any(|v| format.write(*v).len() >= LEFT) {
        format = NumberFormat::Powers;
    }
    let names = format!("{} {}", visible(&series.sensor), visible(&series.field));
    let mut out = format!("\n█ mean ░ max  {names} {}", unit(&series.field));
    out = cut(out.trim_end(), LEFT + columns.len() + 1) + "\n";
    for row in (0..ROWS).rev() {
        let floor = row * BLOCKS.len();
        let cell = |column: &Option<(usize, usize)>| match column {
            Some((mean, _)) if *mean > floor => BLOCKS[(mean - floor).min(BLOCKS.len()) - 1],
            Some((_, max)) if *max > floor => '░',
            _ => ' ',
        };
        let cells: String = columns.iter().map(cell).collect();
        let number = match row {
            0 => format.write(low),
            _ if row == ROWS - 1 => format.write(high),
            _ => String::new(),
        };
        out += &format!("{number:>width$} ", width = LEFT - 1);
        out += paint(cells.trim_end(), CYAN, style).trim_end();
        out.push('\n');
    }
    let [from, to] = [window.from_ns, window.to_ns].map(full);
    let left = " ".repeat(LEFT);
    let between = " ".repeat(columns.len().saturating_sub(from.len() + to.len() + 4));
    out + &[&left, &from, &between, &to, " UTC\n"].concat()
}

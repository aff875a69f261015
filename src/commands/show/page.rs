//! The page that `show --format html` prints: a chart of each series, and nothing that is fetched from elsewhere. It is
//! XML too, has no script, and forbids any. Pure.
//!
//! Times and marks, which all charts share, are drawn once and used in each. A chart is one unit wide for each
//! part of the window; its paths are whole numbers, each relative to the one before, which keeps the page small.

use std::time::Duration;

use super::axis::{Axis, full, times};
use super::sums::{Bucket, ShownSeries, Window};
use super::table::WIDTH_MAX;
use super::values::{Shown, age, cut, length, unit, visible};
use crate::store::MARKS_MAX;
use crate::units::grouped;

const TEXT_WIDTH_MAX: usize = 80;
/// Marks of each kind that are named in words: the newest.
const MARKS_NAMED_MAX: usize = 5;
/// A label of time that is nearer to an end would stand over what is beside the axis.
const LABELLED: std::ops::Range<f64> = 0.08..0.94;
/// Up to the first series.
const HEAD: &str = include_str!("page.html");
pub const END: &str = "</main></body></html>\n";

/// Time and step, in nanoseconds; the step of a run that began is 0.
type PageMark = (i64, i64);

/// Parts of the window for so many series: bounds the size of the page, and the memory.
pub fn parts(series: usize) -> usize {
    (3600 / series.max(1)).clamp(32, 288)
}

pub struct Page<'a> {
    pub title: &'a str,
    pub now_ns: i64,
    pub window: &'a Window,
    /// From the newest on.
    pub marks: &'a [PageMark],
    pub series: &'a [ShownSeries],
    pub notes: &'a str,
}

impl Page<'_> {
    pub fn head(&self) -> String {
        let window = self.window;
        let title = escaped(self.title);
        let readings = self.series.iter().map(|series| series.whole.count).sum();
        let (mut notes, mut widest) = (String::new(), 4);
        for note in self.notes.lines() {
            fill(&mut notes, "<p class=\"n\">~</p>", &[&escaped(note)]);
        }
        for series in self.series {
            for (_, label) in self.axis(series).ticks() {
                widest = widest.max(label.len());
            }
        }
        let (mut labels, mut shared) = (String::new(), String::new());
        for (share, label) in times(window) {
            let of_mille = (share * 1000.0) as i32;
            self.upright(&mut shared, "g", of_mille * window.parts as i32 / 1000);
            if LABELLED.contains(&share) {
                let percent = (of_mille / 10).to_string();
                fill(
                    &mut labels,
                    "<text x=\"~%\" y=\"16\">~</text>",
                    &[&percent, &label],
                );
            }
        }
        let runs = self.marked(&mut shared, "r", "Runs began:", false);
        let steps = self.marked(&mut shared, "k", "The clock was set:", true);
        let mut out = String::new();
        let with = [
            &title,
            &title,
            &full(window.from_ns),
            &full(window.to_ns),
            &grouped(self.series.len() as u64),
            &grouped(readings),
            &full(self.now_ns),
            &length(Duration::from_nanos(window.part_ns())),
            &runs,
            &steps,
            &notes,
            &labels,
            &shared,
            &widest.to_string(),
            &self.height().to_string(),
        ];
        fill(&mut out, HEAD, &with.map(String::as_str));
        out
    }

    /// Height of a chart, in pixels.
    fn height(&self) -> i32 {
        if self.series.len() > 16 { 120 } else { 200 }
    }

    fn axis(&self, series: &ShownSeries) -> Axis {
        Axis::of(series, self.height())
    }

    fn upright(&self, out: &mut String, class: &str, x: i32) {
        let path = "<path class=\"~\" d=\"M~ 0v~\"/>";
        fill(
            out,
            path,
            &[class, &x.to_string(), &self.height().to_string()],
        );
    }

    /// Draws the runs that began, or the steps of the clock, and names the newest in words.
    fn marked(&self, shared: &mut String, class: &str, what: &str, are_steps: bool) -> String {
        let (mut words, mut count, mut last) = (String::new(), 0, None);
        for (time_ns, step_ns) in self.marks {
            if (*step_ns != 0) != are_steps {
                continue;
            }
            let part = self.window.part(self.window.part_ns(), *time_ns);
            if last.replace(part) != Some(part) {
                self.upright(shared, class, part as i32);
            }
            count += 1;
            if count <= MARKS_NAMED_MAX {
                let step = step_in_words(*step_ns);
                let comma = if count > 1 { ", " } else { "" };
                fill(&mut words, "~ ~~", &[comma, &full(*time_ns), &step]);
            }
        }
        if count > MARKS_NAMED_MAX {
            let before = grouped((count - MARKS_NAMED_MAX) as u64);
            let least = if count == MARKS_MAX { "at least " } else { "" };
            fill(&mut words, ", and ~~ before", &[least, &before]);
        }
        let mut out = String::new();
        if count > 0 {
            fill(
                &mut out,
                "<p><i class=\"~\"></i>~~</p>",
                &[class, what, &words],
            );
        }
        out
    }

    pub fn section(&self, out: &mut String, series: &ShownSeries) {
        let sensor = escaped(&cut(&series.sensor, WIDTH_MAX));
        let field = escaped(&cut(&series.field, WIDTH_MAX));
        let head = "<section><h2>~ <b>~</b></h2><div class=\"d\"><p class=\"v\">";
        fill(out, head, &[&sensor, &field]);
        let [value, min, mean, max] = series.written(TEXT_WIDTH_MAX);
        let (Some(last), Some(value)) = (&series.last, value) else {
            *out += "<i>no reading in this time</i></p></div></section>\n";
            return;
        };
        let class = match last.value {
            Shown::Text(_) => " class=\"t\"",
            _ => "",
        };
        let unit = unit(&series.field);
        let newest = "<b~>~</b> <u>~</u> <i>~ old</i></p><ul>";
        fill(
            out,
            newest,
            &[class, &escaped(&value), unit, &age(last.age)],
        );
        let readings = Some(grouped(series.whole.count));
        let numbers = [min, mean, max, readings];
        for (what, number) in ["min", "mean", "max", "readings"].iter().zip(numbers) {
            if let Some(number) = number {
                fill(out, "<li>~ <b>~</b></li>", &[what, &number]);
            }
        }
        *out += "</ul></div>";
        if series.whole.range().is_some() {
            self.chart(out, series, unit);
        }
        *out += "</section>\n";
    }

    fn chart(&self, out: &mut String, series: &ShownSeries, unit: &str) {
        let axis = self.axis(series);
        let [parts, height] = [self.window.parts as i32, self.height()].map(|n| n.to_string());
        let (mut grid, mut labels) = (String::new(), String::new());
        for (y, label) in axis.ticks() {
            let y = y.to_string();
            fill(&mut grid, "M-.5 ~h~", &[&y, &parts]);
            fill(&mut labels, "<i style=\"top:~px\">~</i>", &[&y, &label]);
        }
        if !unit.is_empty() {
            fill(&mut labels, "<i style=\"top:-9px\">~</i>", &[unit]);
        }
        let (mut band, mut mean, mut dots) = (String::new(), String::new(), String::new());
        for stretch in series.stretches() {
            let point = |n: usize, of: usize| {
                let range = series.parts.get(n).and_then(Bucket::range);
                (n as i32, axis.y(range.map_or(0.0, |range| range[of])))
            };
            let is_wide = |n: &usize| point(*n, 0) != point(*n, 2);
            if stretch.iter().any(is_wide) {
                trace(&mut band, 'M', &mut stretch.iter().map(|n| point(*n, 2)));
                trace(
                    &mut band,
                    'L',
                    &mut stretch.iter().rev().map(|n| point(*n, 0)),
                );
                band.push('z');
            }
            let means = &mut stretch.iter().map(|n| point(*n, 1));
            match stretch.len() {
                1 => trace(&mut dots, 'M', means),
                _ => trace(&mut mean, 'M', means),
            }
        }
        let chart = "<div class=\"c\"><svg class=\"p\" viewBox=\"-.5 0 ~ ~\" preserveAspectRatio=\"none\" \
                     aria-hidden=\"true\"><path class=\"g\" d=\"~\"/><use href=\"#s\"/>";
        fill(out, chart, &[&parts, &height, &grid]);
        for (class, d) in [("b", band), ("m", mean), ("o", dots)] {
            if !d.is_empty() {
                fill(out, "<path class=\"~\" d=\"~\"/>", &[class, &d]);
            }
        }
        let end = "</svg>~<svg class=\"x\"><use href=\"#t\"/></svg></div>";
        fill(out, end, &[&labels]);
    }
}

/// Puts texts in the place of the `~` of a template.
fn fill(out: &mut String, template: &str, with: &[&str]) {
    let mut with = with.iter();
    for (n, text) in template.split('~').enumerate() {
        if n > 0 {
            *out += with.next().unwrap_or(&"");
        }
        *out += text;
    }
}

/// A path through points, of which only the first is absolute. One that is alone is a dot, by the round ends of a line.
fn trace(out: &mut String, command: char, points: &mut dyn Iterator<Item = (i32, i32)>) {
    let (mut last, mut count) = ((0, 0), 0);
    out.push(command);
    for (x, y) in points {
        if count == 1 {
            out.push('l');
        }
        for number in [x - last.0, y - last.1] {
            if number >= 0 {
                out.push(' ');
            }
            *out += &number.to_string();
        }
        (last, count) = ((x, y), count + 1);
    }
    if count == 1 {
        *out += "h0";
    }
}

fn step_in_words(step_ns: i64) -> String {
    if step_ns == 0 {
        return String::new();
    }
    let by = length(Duration::from_nanos(step_ns.unsigned_abs()));
    let way = if step_ns < 0 {
        " (back by "
    } else {
        " (forward by "
    };
    [way, &by, ")"].concat()
}

/// Text of a stranger is text: no markup, nothing that turns the order of a line.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in visible(text).chars() {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            // XML has no such characters.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

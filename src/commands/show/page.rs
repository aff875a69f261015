//! The page that `show --format html` prints: a chart of each series, and nothing that is fetched from elsewhere. It is
//! XML too, has no script, and forbids any. Pure.
//!
//! What all charts share, the times and the marks, is drawn once and used in each. A chart is one unit wide for each
//! part of the window; its paths are whole numbers, each relative to the one before, which keeps the page small.

use std::fmt::Write;

use super::axis::{Axis, full, times};
use super::sums::{Line, Part, Window};
use super::table::WIDTH_MAX;
use super::values::{Shown, age, cut, unit, visible};
use crate::units::grouped;

const TEXT_WIDTH_MAX: usize = 80;
/// Marks of each kind that are named in words: the newest.
const MARKS_NAMED_MAX: usize = 5;
const STYLE: &str = include_str!("page.css");

/// Parts of the window for so many series: bounds the size of the page, and the memory.
pub fn parts(series: usize) -> usize {
    (3600 / series.max(1)).clamp(32, 288)
}

pub const END: &str = "</main></body></html>\n";

/// Time and step, in nanoseconds; the step of a run that began is 0.
type Mark = (i64, i64);

/// What is not about one series.
pub struct Page<'a> {
    title: String,
    now_ns: i64,
    window: &'a Window,
    runs: Vec<Mark>,
    steps: Vec<Mark>,
    /// Of a chart, in pixels.
    height: u32,
}

impl<'a> Page<'a> {
    /// The marks begin with the newest.
    pub fn new(
        title: &str,
        now_ns: i64,
        window: &'a Window,
        marks: &[Mark],
        series: usize,
    ) -> Self {
        let (runs, steps) = marks.iter().partition(|(_, step_ns)| *step_ns == 0);
        Page {
            title: escaped(title),
            now_ns,
            window,
            runs,
            steps,
            height: if series > 16 { 120 } else { 200 },
        }
    }

    /// Up to the first series.
    pub fn head(&self, lines: &[Line], notes: &str) -> String {
        let Page { title, window, .. } = self;
        let [from, to, now] = [window.from_ns, window.to_ns, self.now_ns].map(full);
        let series = grouped(lines.len() as u64);
        let readings = grouped(lines.iter().map(|line| line.whole.count).sum());
        let part = age(std::time::Duration::from_nanos(window.part_ns()));
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'unsafe-inline'\"/>\
             <title>{title}</title><style>{STYLE}</style></head><body>\n<header><h1>{title}</h1>\
             <p><b>{from}</b> to <b>{to}</b> UTC</p><p>{series} series, {readings} readings. Ages are as of {now} UTC, \
             when this page was written.</p>"
        );
        out += &named("Runs that began:", &self.runs);
        out += &named("The clock was set:", &self.steps);
        out += &format!(
            "<p class=\"l\"><span><i class=\"m\"></i>mean of {part}</span><span><i class=\"b\"></i>minimum to maximum</span>"
        );
        for (marks, class, what) in [
            (&self.runs, "r", "a run began"),
            (&self.steps, "k", "the clock was set"),
        ] {
            if !marks.is_empty() {
                out += &format!("<span><i class=\"{class}\"></i>{what}</span>");
            }
        }
        out += "</p></header>\n";
        for note in notes.lines() {
            out += &format!("<p class=\"n\">{}</p>\n", escaped(note));
        }
        let labels = lines.iter().flat_map(|line| self.axis(line).ticks());
        let widest = labels.map(|(_, label)| label.len()).max().unwrap_or(0);
        out += &self.shared();
        out + &format!(
            "<main style=\"--w:{};--h:{}px\">\n",
            widest.max(4),
            self.height
        )
    }

    fn axis(&self, line: &Line) -> Axis {
        Axis::of(line, self.height)
    }

    /// The axis of time and the marks.
    fn shared(&self) -> String {
        let ticks = times(self.window);
        let mut out = "<svg width=\"0\" height=\"0\" style=\"position:absolute\"><defs><g id=\"t\" text-anchor=\"middle\">\
                       <text x=\"-8\" y=\"16\" text-anchor=\"end\">UTC</text>"
            .to_owned();
        for (share, label) in &ticks {
            // A label at an end would stand over what is beside the axis.
            if (0.08..0.94).contains(share) {
                out += &format!("<text x=\"{:.1}%\" y=\"16\">{label}</text>", share * 100.0);
            }
        }
        out += "</g><g id=\"s\">";
        let parts = self.window.parts as f64;
        let part_ns = self.window.part_ns();
        let part = |(time_ns, _): &Mark| self.window.part(part_ns, *time_ns) as f64;
        self.uprights(
            &mut out,
            'g',
            &mut ticks.iter().map(|(share, _)| share * parts - 0.5),
        );
        self.uprights(&mut out, 'r', &mut self.runs.iter().map(part));
        self.uprights(&mut out, 'k', &mut self.steps.iter().map(part));
        out + "</g></defs></svg>\n"
    }

    fn uprights(&self, out: &mut String, class: char, at: &mut dyn Iterator<Item = f64>) {
        let mut places: Vec<String> = at.map(|at| format!("M{at:.1} 0v{}", self.height)).collect();
        places.dedup();
        if !places.is_empty() {
            *out += &format!("<path class=\"{class}\" d=\"{}\"/>", places.concat());
        }
    }

    pub fn section(&self, line: &Line) -> String {
        let name = |text: &str| escaped(&cut(text, WIDTH_MAX));
        let [sensor, field, unit] = [&line.sensor, &line.field, unit(&line.field)].map(name);
        let [last, min, mean, max] = line.written(TEXT_WIDTH_MAX);
        let mut out =
            format!("<section><h2>{sensor} <b>{field}</b></h2><div class=\"d\"><p class=\"v\">");
        let (Some(last), Some(value)) = (&line.last, last) else {
            return out + "<i>no reading in this time</i></p></div></section>\n";
        };
        let class = match last.value {
            Shown::Text(_) => " class=\"t\"",
            _ => "",
        };
        let (value, age) = (escaped(&value), age(last.age));
        out += &format!("<b{class}>{value}</b> <u>{unit}</u> <i>{age} old</i></p><ul>");
        let readings = Some(grouped(line.whole.count));
        for (what, number) in [
            ("min", min),
            ("mean", mean),
            ("max", max),
            ("readings", readings),
        ] {
            if let Some(number) = number {
                out += &format!("<li>{what} <b>{number}</b></li>");
            }
        }
        out += "</ul></div>";
        if line.whole.range().is_some() {
            self.chart(&mut out, line, &unit);
        }
        out + "</section>\n"
    }

    fn chart(&self, out: &mut String, line: &Line, unit: &str) {
        let axis = self.axis(line);
        let (parts, height) = (self.window.parts, self.height);
        let (mut grid, mut labels) = (String::new(), String::new());
        for (y, label) in axis.ticks() {
            let _ = write!(grid, "M-.5 {y}h{parts}");
            let _ = write!(labels, "<i style=\"top:{y}px\">{label}</i>");
        }
        if !unit.is_empty() {
            let _ = write!(labels, "<i style=\"top:-9px\">{unit}</i>");
        }
        let (mut band, mut mean, mut dots) = (String::new(), String::new(), String::new());
        for stretch in line.stretches() {
            let [bottoms, means, tops] = [0, 1, 2].map(|of| {
                let range = |n: usize| line.parts.get(n).and_then(Part::range);
                let point = |n: &usize| Some((*n, axis.y(range(*n)?[of])));
                stretch.iter().filter_map(point).collect::<Vec<_>>()
            });
            if tops != bottoms {
                path(&mut band, 'M', &tops);
                path(
                    &mut band,
                    'L',
                    &bottoms.into_iter().rev().collect::<Vec<_>>(),
                );
                band.push('z');
            }
            let to = if means.len() > 1 {
                &mut mean
            } else {
                &mut dots
            };
            path(to, 'M', &means);
        }
        let _ = write!(
            out,
            "<div class=\"c\"><svg class=\"p\" viewBox=\"-.5 0 {parts} {height}\" preserveAspectRatio=\"none\" \
             aria-hidden=\"true\"><path class=\"g\" d=\"{grid}\"/><use href=\"#s\"/>"
        );
        for (class, d) in [("b", band), ("m", mean), ("o", dots)] {
            if !d.is_empty() {
                let _ = write!(out, "<path class=\"{class}\" d=\"{d}\"/>");
            }
        }
        let _ = write!(
            out,
            "</svg>{labels}<svg class=\"x\"><use href=\"#t\"/></svg></div>"
        );
    }
}

/// A path through points, of which only the first is absolute. One that is alone is a dot, by the round ends of a line.
fn path(out: &mut String, command: char, points: &[(usize, i32)]) {
    let Some((x, y)) = points.first() else {
        return;
    };
    let _ = write!(out, "{command}{x} {y}");
    out.push_str(if points.len() > 1 { "l" } else { "h0" });
    for (n, pair) in points.windows(2).enumerate() {
        let (dx, dy) = (pair[1].0 as i32 - pair[0].0 as i32, pair[1].1 - pair[0].1);
        let separator = |number: i32| if number < 0 { "" } else { " " };
        let before = if n == 0 { "" } else { separator(dx) };
        let _ = write!(out, "{before}{dx}{}{dy}", separator(dy));
    }
}

/// The newest marks in words.
fn named(what: &str, marks: &[Mark]) -> String {
    let mut named: Vec<String> = marks.iter().take(MARKS_NAMED_MAX).map(in_words).collect();
    let more = marks.len() - named.len();
    if more > 0 {
        named.push(format!("and {} before", grouped(more as u64)));
    }
    match named.is_empty() {
        true => named.concat(),
        false => format!("<p>{what} {}</p>", named.join(", ")),
    }
}

fn in_words((time_ns, step_ns): &Mark) -> String {
    let time = full(*time_ns);
    if *step_ns == 0 {
        return time;
    }
    let step = std::time::Duration::from_nanos(step_ns.unsigned_abs());
    let by = match step.as_secs() {
        0..2 => format!("{} ms", step.as_millis()),
        _ => age(step),
    };
    let way = if *step_ns < 0 { "back" } else { "forward" };
    format!("{way} by {by} at {time}")
}

/// Text of a stranger is text: no markup, nothing that turns the order of a line.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in visible(text).chars() {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '"' => out += "&quot;",
            // XML has no such characters.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

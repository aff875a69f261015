//! The live lines of a recorder and of a backup on a terminal. What matters most stands first, because a narrow
//! terminal cuts the rest off.

use std::time::{Duration, Instant};

use crate::log;
use crate::record::progress::Progress;
use crate::record::settings::RecordSettings;
use crate::source::spec::SourceSpec;
use crate::store;
use crate::sys;
use crate::units;

const PERIOD: Duration = Duration::from_millis(500);

/// The live line of a recorder, where stderr is a terminal.
pub struct StatusLine {
    /// When to show it again; `None` where there is no terminal.
    next: Option<Instant>,
    rate: Rate,
    /// A person types the lines.
    is_typed: bool,
}

impl StatusLine {
    /// None where typed lines or acks would be mixed with it.
    pub fn new(now: Instant, settings: &RecordSettings) -> Self {
        let is_stdin = |source: &SourceSpec| matches!(source, SourceSpec::Stdin { .. });
        let has_stdin = settings.sources.iter().any(is_stdin);
        let is_typed = has_stdin && sys::is_terminal(sys::STDIN);
        let shows_acks = has_stdin && settings.ack && sys::is_terminal(sys::STDOUT);
        let is_alone = sys::is_terminal(sys::STDERR) && !is_typed && !shows_acks;
        StatusLine {
            next: is_alone.then_some(now),
            rate: Rate::new(now),
            is_typed,
        }
    }

    pub fn say_how_to_type(&self) {
        if self.is_typed {
            let advice = "type line protocol, Ctrl-D ends";
            log::info("typed", &[("source", &"stdin"), ("advice", &advice)]);
        }
    }

    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|at| at <= now)
    }

    pub fn show(&mut self, now: Instant, progress: &Progress, held: usize, dropped: u64) {
        self.next = Some(now + PERIOD);
        let rate = self.rate.at(now, progress.committed + held as u64);
        let columns = sys::terminal_columns(sys::STDERR).unwrap_or(80);
        log::status(&line(now, progress, held, dropped, rate, columns));
    }
}

/// The line, cut to the terminal's width: a wrapped line could not be overwritten.
fn line(
    now: Instant,
    progress: &Progress,
    held: usize,
    dropped: u64,
    rate: f64,
    columns: usize,
) -> String {
    let readings = units::grouped(progress.committed);
    let dropped = match dropped {
        0 => String::new(),
        dropped => format!("  {} dropped", units::grouped(dropped)),
    };
    let wal_bytes = store::wal_bytes(progress.wal_frames, progress.page_bytes);
    let wal = units::bytes_human(wal_bytes);
    let checkpoint = match progress.last_checkpoint {
        Some(at) => format!("{} s ago", (now - at).as_secs()),
        None => "none yet".to_owned(),
    };
    let mut line = format!(
        "{readings} readings{dropped}  {rate:.0}/s  {held} waiting  WAL {wal}  checkpoint {checkpoint}"
    );
    fit(&mut line, columns);
    line
}

/// Cuts what does not fit off behind a part: a number that lacks digits is another number. All characters are one byte
/// and one column.
fn fit(line: &mut String, columns: usize) {
    let width = columns.saturating_sub(1);
    while line.len() > width {
        let gap = line.as_bytes().windows(2).rposition(|pair| pair == b"  ");
        line.truncate(gap.unwrap_or(width));
    }
}

/// Progress of a copy, cut to the terminal's width.
pub fn progress(done: u64, all: u64, took: Duration, columns: usize) -> String {
    let rate = done as f64 / took.as_secs_f64().max(0.001);
    let left_s = all.saturating_sub(done) as f64 / rate.max(1.0);
    let percent = 100 * done / all.max(1);
    let mut line = format!(
        "{left_s:.0} s left  {percent}%  {} of {}  {}/s",
        units::bytes_human(done),
        units::bytes_human(all),
        units::bytes_human(rate as u64),
    );
    fit(&mut line, columns);
    line
}

/// Accepted readings a second over the last seconds. Not those committed: commits come in steps.
#[derive(Debug)]
pub struct Rate {
    at: Instant,
    readings: u64,
    /// Rate of the last time `OVER`, once there was one.
    per_second: Option<f64>,
}

impl Rate {
    const OVER: Duration = Duration::from_secs(2);

    pub fn new(now: Instant) -> Self {
        Rate {
            at: now,
            readings: 0,
            per_second: None,
        }
    }

    pub fn at(&mut self, now: Instant, readings: u64) -> f64 {
        let over = now.duration_since(self.at);
        let so_far = readings.saturating_sub(self.readings) as f64;
        let per_second = so_far / over.as_secs_f64().max(0.1);
        if over >= Self::OVER {
            self.per_second = Some(per_second);
            self.at = now;
            self.readings = readings;
        }
        self.per_second.unwrap_or(per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_what_matters_and_fits() {
        let start = Instant::now();
        let progress = Progress {
            committed: 1_234_567,
            last_checkpoint: Some(start),
            ..Progress::default()
        };
        let now = start + Duration::from_secs(17);
        let line = |dropped, columns| line(now, &progress, 12, dropped, 79.6, columns);
        let whole = "1,234,567 readings  80/s  12 waiting  WAL 32 B  checkpoint 17 s ago";
        assert_eq!(line(0, 200), whole);
        assert_eq!(line(0, 20), "1,234,567 readings");
        assert_eq!(line(0, 10), "1,234,567");
        assert_eq!(line(7, 40), "1,234,567 readings  7 dropped  80/s");
    }

    #[test]
    fn progress_tells_the_rate_and_the_time_left() {
        const MIB: u64 = 1024 * 1024;
        let line = progress(3 * MIB, 12 * MIB, Duration::from_secs(2), 80);
        assert_eq!(line, "6 s left  25%  3.0 MiB of 12.0 MiB  1.5 MiB/s");
        assert_eq!(progress(0, 0, Duration::ZERO, 10), "0 s left");
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        assert_eq!(rate.at(start, 0), 0.0);
        assert_eq!(rate.at(start + Duration::from_secs(1), 80), 80.0);
        assert_eq!(rate.at(start + Duration::from_secs(2), 160), 80.0);
        assert_eq!(rate.at(start + Duration::from_secs(3), 160), 80.0);
        assert_eq!(rate.at(start + Duration::from_secs(4), 160), 0.0);
    }
}

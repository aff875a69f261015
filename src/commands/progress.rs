//! The progress line of a long command, where stderr is a terminal.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::record::terminal;
use crate::sys;
use crate::units;

const INTERVAL: Duration = Duration::from_millis(200);

/// Removed from the terminal with the value.
pub struct ProgressLine {
    /// Bytes to copy.
    all: u64,
    began: Instant,
    drawn: Option<Instant>,
    /// `None` where there is no terminal.
    columns: Option<usize>,
}

impl ProgressLine {
    pub fn of_copy(all: u64) -> Self {
        let columns =
            sys::is_terminal(sys::STDERR).then(|| sys::terminal_columns(sys::STDERR).unwrap_or(80));
        ProgressLine {
            all,
            began: Instant::now(),
            drawn: None,
            columns,
        }
    }

    pub fn copied(&mut self, done: u64) {
        if let Some(columns) = self.columns
            && self.is_due()
        {
            let line = terminal::progress(done, self.all, self.began.elapsed(), columns);
            self.show(&line);
        }
    }

    /// None yet: SQLite's own check is going on, which takes long in a large file.
    pub fn checked(&mut self, readings: i64) {
        if readings == 0 {
            self.say("checking…");
        } else if self.is_due() {
            let readings = units::grouped(readings as u64);
            self.say(&format!("checking… {readings} readings"));
        }
    }

    pub fn say(&mut self, line: &str) {
        if let Some(columns) = self.columns {
            let line: String = line.chars().take(columns.saturating_sub(1)).collect();
            self.show(&line);
        }
    }

    fn is_due(&self) -> bool {
        self.drawn.is_none_or(|drawn| drawn.elapsed() >= INTERVAL)
    }

    fn show(&mut self, line: &str) {
        self.drawn = Some(Instant::now());
        // A terminal that is stopped shows nothing: it must not stop the work.
        if sys::is_writable(sys::STDERR, Duration::ZERO) {
            let _ = write!(io::stderr(), "\r{line}\x1b[K");
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            self.show("");
        }
    }
}

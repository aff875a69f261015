//! The log: one logfmt line an event, on stderr. On a terminal a status line stays below it; in systemd's journal a line
//! has a priority in place of its time.
//!
//! Logging never stops the program: a line that stderr has no room for is counted and given up, and the
//! next one that gets through says how many were lost.

use std::ffi::OsString;
use std::fmt::{self, Display, Write as _};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::output::Output;
use crate::sys::{self, Clock};
use crate::time::write_timestamp;
use crate::words::words;

words!(
    /// Ordered: an event of `Warn` is logged at `Info` too.
    Level: Error = "error", Warn = "warn", Info = "info", Debug = "debug"
);

/// A line longer than a pipe takes at once could block halfway.
const LINE_BYTES_MAX: usize = sys::PIPE_BUF_BYTES;
const VALUE_BYTES_MAX: usize = 512;

pub type Field<'a> = (&'a str, &'a dyn Display);

struct Log {
    stderr: Output,
    /// Under the same lock, as it may be the same pipe.
    stdout: Output,
    /// The last word is said.
    is_over: bool,
    level: Level,
    line: String,
    status: String,
    lost: u64,
    /// By all `Limit`s, and in no line yet.
    held_back: u64,
}

static LOG: Mutex<Log> = Mutex::new(Log {
    stderr: Output::new(sys::STDERR),
    stdout: Output::new(sys::STDOUT),
    is_over: false,
    level: Level::Info,
    line: String::new(),
    status: String::new(),
    lost: 0,
    held_back: 0,
});

/// stderr is systemd's journal, which has times of its own and takes a priority.
static IS_JOURNAL: AtomicBool = AtomicBool::new(false);

/// Looks whether stderr is the stream that `JOURNAL_STREAM` names, by its device and inode.
pub fn find_journal(stream: Option<OsString>) {
    if let Some(stream) = stream
        && let Ok(stderr) = std::fs::metadata("/proc/self/fd/2")
        && stream == *format!("{}:{}", stderr.dev(), stderr.ino())
    {
        IS_JOURNAL.store(true, Ordering::SeqCst);
    }
}

/// Writes a line's beginning, up to the name of its event. The handler of SIGBUS calls this: no lock, no allocation.
pub fn begin(line: &mut dyn fmt::Write, level: Level) -> fmt::Result {
    if IS_JOURNAL.load(Ordering::SeqCst) {
        // Priorities of syslog(3).
        write!(line, "<{}>", [3, 4, 6, 7][level as usize])?;
    } else {
        line.write_str("ts=")?;
        write_timestamp(line, sys::clock_ns(Clock::Real))?;
        line.write_str(" ")?;
    }
    write!(line, "level={} event=", level.name())
}

fn lock() -> MutexGuard<'static, Log> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn set_level(level: Level) {
    lock().level = level;
}

pub fn error(event: &str, fields: &[Field]) {
    lock().event(Level::Error, event, fields, Duration::ZERO);
}

pub fn warn(event: &str, fields: &[Field]) {
    lock().event(Level::Warn, event, fields, Duration::ZERO);
}

pub fn info(event: &str, fields: &[Field]) {
    lock().event(Level::Info, event, fields, Duration::ZERO);
}

pub fn debug(event: &str, fields: &[Field]) {
    lock().event(Level::Debug, event, fields, Duration::ZERO);
}

/// The last line of a recorder, written whatever `--log-level` is; takes the status line off the terminal. `wait` is
/// how long a stderr that is full is waited for.
pub fn last(event: &str, level: Level, fields: &[Field], wait: Duration) {
    let mut log = lock();
    let held_back = log.held_back;
    if held_back > 0 {
        log.event(
            Level::Warn,
            "lines-held-back",
            &[("lines", &held_back)],
            Duration::ZERO,
        );
    }
    log.level = log.level.max(Level::Info);
    log.show_status("");
    // Its form is fixed: what was lost is told before it.
    let lost = log.lost;
    if lost > 0 {
        log.event(Level::Warn, "lines-lost", &[], Duration::ZERO);
        log.lost = 0;
    }
    log.event(level, event, fields, wait);
    log.is_over = true;
}

/// Writes to stdout what is not of the log, all of it or nothing; waits no longer than told.
pub fn write_stdout(bytes: &[u8], wait: Duration) -> std::io::Result<()> {
    let mut log = lock();
    match log.stdout.write(bytes) {
        Err(e) if e.kind() == ErrorKind::WouldBlock && log.stdout.wait(wait) => {
            log.stdout.write(bytes)
        }
        written => written,
    }
}

/// Replaces the status line. Only for a terminal.
pub fn status(line: &str) {
    lock().show_status(line);
}

impl Log {
    fn event(&mut self, level: Level, event: &str, fields: &[Field], wait: Duration) {
        if level > self.level || self.is_over {
            return;
        }
        self.line.clear();
        if !self.status.is_empty() {
            self.line.push_str("\r\x1b[K");
        }
        let lost = self.lost;
        let _ = begin(&mut self.line, level);
        self.line.push_str(event);
        for (key, value) in fields {
            let _ = write!(self.line, " {key}=");
            push_value(&mut self.line, value);
        }
        if lost > 0 {
            let _ = write!(self.line, " log_lines_lost={lost}");
        }
        // The fields of one event are few, so that only a mistake in this program comes near the limit.
        truncate(&mut self.line, LINE_BYTES_MAX - 1 - self.status.len());
        self.line.push('\n');
        self.line.push_str(&self.status);
        let mut written = self.stderr.write(self.line.as_bytes());
        if is_full(&written) && self.stderr.wait(wait) {
            written = self.stderr.write(self.line.as_bytes());
        }
        self.lost = if is_full(&written) { lost + 1 } else { 0 };
    }

    fn show_status(&mut self, line: &str) {
        if self.status.is_empty() && line.is_empty() {
            return;
        }
        self.status.clear();
        self.status.push_str(line);
        // A status that finds no room is replaced by the next.
        let _ = self.stderr.write(format!("\r\x1b[K{line}").as_bytes());
    }
}

fn is_full(written: &std::io::Result<()>) -> bool {
    written
        .as_ref()
        .is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
}

/// Writes a logfmt value: bare if it can be, quoted where a reader would misread it.
fn push_value(line: &mut String, value: &dyn Display) {
    let mut text = value.to_string();
    truncate(&mut text, VALUE_BYTES_MAX);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:+%@,~".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        line.push_str(&text);
        return;
    }
    line.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                line.push('\\');
                line.push(c);
            }
            '\n' => line.push_str("\\n"),
            // A terminal must not obey what a sender wrote.
            c if is_hidden(c) => {
                let _ = write!(line, "\\u{{{:x}}}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

/// A character that a terminal obeys or that turns the order of a line, and does not show.
pub fn is_hidden(c: char) -> bool {
    let turns = ['\u{61c}', '\u{200e}', '\u{200f}'].contains(&c)
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c);
    c.is_control() || turns
}

pub fn truncate(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let mut end = bytes_max.saturating_sub('…'.len_utf8());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
}

/// Logs a few events a second for a minute and then one a minute, and counts the others: what goes on for ever must not
/// fill the disk of a device.
#[derive(Debug)]
pub struct Limit {
    window: Option<Instant>,
    passed: u32,
    /// Events logged, less one for each minute.
    spent: u32,
    spent_max: u32,
    minute: Option<Instant>,
    held_back: u64,
}

impl Default for Limit {
    fn default() -> Self {
        Limit::of(Self::PER_SECOND * 60)
    }
}

impl Limit {
    const PER_SECOND: u32 = 5;

    /// Logs a warning, with the number of those held back before it.
    pub fn warn(&mut self, event: &str, fields: &[Field]) {
        match self.pass(Instant::now()) {
            None => lock().held_back += 1,
            Some(0) => warn(event, fields),
            Some(held_back) => {
                lock().held_back -= held_back;
                warn(
                    event,
                    &[fields, &[("lines_held_back", &held_back)]].concat(),
                );
            }
        }
    }

    /// Logs this many before it is down to one a minute.
    pub const fn of(spent_max: u32) -> Self {
        Limit {
            window: None,
            passed: 0,
            spent: 0,
            spent_max,
            minute: None,
            held_back: 0,
        }
    }

    /// Whether an event may be logged at `now`, and if so, how many were held back before it.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        let is_over = |start| now.duration_since(start) >= Duration::from_secs(1);
        if self.window.is_none_or(is_over) {
            self.window = Some(now);
            self.passed = 0;
        }
        let minute = *self.minute.get_or_insert(now);
        let minutes = now.duration_since(minute).as_secs() / 60;
        if minutes > 0 {
            self.minute = Some(now);
            self.spent = self
                .spent
                .saturating_sub(minutes.min(u64::from(u32::MAX)) as u32);
        }
        if self.passed == Self::PER_SECOND || self.spent == self.spent_max {
            self.held_back += 1;
            return None;
        }
        self.passed += 1;
        self.spent += 1;
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(value: &str) -> String {
        let mut line = String::new();
        push_value(&mut line, &value);
        line
    }

    /// Guards against a log level that hides errors.
    #[test]
    fn levels_are_ordered_from_error_to_debug() {
        assert!(Level::Error < Level::Warn);
        assert!(Level::Warn < Level::Info && Level::Info < Level::Debug);
    }

    #[test]
    fn values_are_quoted_where_a_reader_would_misread_them() {
        assert_eq!(quoted("data/x.db"), "data/x.db");
        assert_eq!(quoted(""), "\"\"");
        assert_eq!(quoted("a b"), "\"a b\"");
        assert_eq!(quoted("a=\"b\"\n"), "\"a=\\\"b\\\"\\n\"");
        assert_eq!(quoted("\x1b[2J"), "\"\\u{1b}[2J\"");
        assert!(quoted(&"ä".repeat(9999)).len() < 600);
    }

    #[test]
    fn a_flood_of_events_is_held_to_a_few_a_second_and_counted() {
        let start = Instant::now();
        let mut limit = Limit::default();
        let passed = (0..100).filter(|_| limit.pass(start).is_some()).count();
        assert_eq!(passed, Limit::PER_SECOND as usize);
        assert_eq!(limit.pass(start + Duration::from_secs(1)), Some(95));
    }

    #[test]
    fn a_flood_without_end_is_held_to_one_a_minute() {
        let start = Instant::now();
        let passed = |limit: &mut Limit, from_s: u64, to_s: u64| {
            let tenths = from_s * 10..to_s * 10;
            let at = tenths.map(|n| start + Duration::from_millis(n * 100));
            at.filter(|now| limit.pass(*now).is_some()).count() as u64
        };
        let mut limit = Limit::default();
        assert_eq!(passed(&mut limit, 0, 60), 300);
        let per_hour = passed(&mut limit, 60, 3660);
        assert!((58..=60).contains(&per_hour), "{per_hour}");
        // After a quiet hour there is room for as many.
        assert_eq!(passed(&mut limit, 7300, 7310), 50);
        // An event now and then is never held back.
        let mut limit = Limit::of(2);
        assert!((0..99).all(|n| limit.pass(start + Duration::from_secs(n * 60)) == Some(0)));
    }
}

//! Messages to the service manager, as in sd_notify(3): that the recorder is ready or stops, how far it is, that a start or a
//! stop needs more time, and that it is alive.
//!
//! Never waits: a message for which the manager has no room is sent again later. Time is asked for and the watchdog fed
//! while the writer gets on: it has nothing to do, or its thread has used time of a processor since. In a sync that hangs it
//! uses none; in a wait for a lock, and in a checkpoint of gigabytes, it does.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::log;
use crate::record::progress::Progress;
use crate::record::terminal::Rate;
use crate::sys;
use crate::units;

/// Interval between two STATUS, and between two EXTEND_TIMEOUT_USEC.
const PERIOD: Duration = Duration::from_secs(5);
/// How long the manager is to wait for the next EXTEND_TIMEOUT_USEC.
const EXTEND: &str = "EXTEND_TIMEOUT_USEC=15000000\n";
/// Interval after which a message that was not taken is sent again, where no watchdog is shorter.
const AGAIN: Duration = Duration::from_secs(1);
/// Lower bound on a watchdog's interval: a shorter one would keep a processor busy.
const WATCHDOG_MIN: Duration = Duration::from_millis(20);
const STATUS_BYTES_MAX: usize = 512;
const HANGS: &str =
    "the disk does not answer, and the service manager's watchdog is not fed until it does";

#[derive(Clone, Copy, PartialEq)]
pub enum ServiceState {
    Starting,
    Recording,
    Stopping,
}

pub struct Manager {
    /// As the kernel writes it: abstract names begin with NUL.
    socket: Vec<u8>,
    /// Half of the watchdog's interval.
    feed_period: Option<Duration>,
    /// State, status and accepted readings of the last message that the manager took.
    told: ServiceState,
    status: String,
    accepted: u64,
    rate: Rate,
    /// The status stays as it is until another reading comes.
    is_settled: bool,
    status_due: Instant,
    feed_due: Instant,
    /// When a message that was not taken is sent again.
    again: Option<Instant>,
    /// CPU time of the writer when it was last seen to get on.
    used_ns: i64,
    /// Logged already.
    hangs: bool,
    is_refused: bool,
}

impl Manager {
    /// None where no manager waits to be told.
    pub fn new(variable: &dyn Fn(&str) -> Option<OsString>, now: Instant) -> Option<Self> {
        let name = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        let mut socket = name.into_encoded_bytes();
        match socket[0] {
            b'@' => socket[0] = 0,
            b'/' => {}
            _ => {
                doubt(&"NOTIFY_SOCKET is neither a path nor @ and a name");
                return None;
            }
        }
        let own = u64::from(std::process::id());
        let is_own = number(variable, "WATCHDOG_PID", own) == own;
        let interval = Duration::from_micros(number(variable, "WATCHDOG_USEC", 0));
        Some(Manager {
            socket,
            feed_period: (is_own && !interval.is_zero()).then(|| interval.max(WATCHDOG_MIN) / 2),
            told: ServiceState::Starting,
            status: String::new(),
            accepted: 0,
            rate: Rate::new(now),
            is_settled: true,
            status_due: now,
            feed_due: now,
            again: None,
            used_ns: 0,
            hangs: false,
            is_refused: false,
        })
    }

    /// When the next message is due if nothing changes.
    pub fn next(&self) -> Option<Instant> {
        let is_recording = self.told == ServiceState::Recording;
        let status = (!is_recording || !self.is_settled).then_some(self.status_due);
        let feed = (is_recording && self.feed_period.is_some()).then_some(self.feed_due);
        self.again.or(status.into_iter().chain(feed).min())
    }

    /// Tells what is new and what is due.
    pub fn tell(&mut self, now: Instant, state: ServiceState, progress: &Progress, held: usize) {
        let is_recording = state == ServiceState::Recording;
        let is_new = state != self.told;
        let accepted = progress.committed + held as u64;
        self.is_settled &= accepted == self.accepted;
        let reports = is_new || (now >= self.status_due && !(is_recording && self.is_settled));
        let feeds = self
            .feed_period
            .filter(|_| is_recording && (is_new || now >= self.feed_due));
        if self.again > Some(now) {
            return;
        }
        self.again = None;
        if !reports && feeds.is_none() {
            return;
        }
        let used_ns = progress.cpu.map_or(0, sys::clock_ns);
        let gets_on = progress.busy_since.is_none() || used_ns != self.used_ns;
        let report = reports.then(|| {
            let rate = self.rate.at(now, accepted) as u64;
            (rate, status(state, progress, held, rate))
        });
        let status = report.as_ref().map(|(_, text)| text.as_str());
        let status = status.filter(|text| *text != self.status);
        let lines = [
            (is_new && is_recording, "READY=1\n"),
            (is_new && state == ServiceState::Stopping, "STOPPING=1\n"),
            (feeds.is_some() && gets_on, "WATCHDOG=1\n"),
            (reports && !is_recording && gets_on, EXTEND),
            (status.is_some(), "STATUS="),
            (true, status.unwrap_or_default()),
        ];
        let mut message = String::new();
        for (_, line) in lines.iter().filter(|(is_due, _)| *is_due) {
            message += line;
        }
        if !self.send(now, &message) {
            return;
        }
        self.told = state;
        if let Some((rate, text)) = report {
            self.status = text;
            self.accepted = accepted;
            self.is_settled = rate == 0 && progress.trouble.is_none();
            self.status_due = now + PERIOD;
        }
        if gets_on {
            self.used_ns = used_ns;
        }
        if let Some(period) = feeds {
            self.feed_due = now + if gets_on { period } else { period / 4 };
            self.note_a_hang(now, !gets_on, progress);
        }
    }

    /// Whether the manager has it, or there was nothing to send.
    fn send(&mut self, now: Instant, message: &str) -> bool {
        if message.is_empty() {
            return true;
        }
        let Err(e) = sys::send_datagram(&self.socket, message.as_bytes()) else {
            return true;
        };
        // The watchdog has half of its interval left.
        let watchdog = self.feed_period.unwrap_or(AGAIN * 4);
        self.again = Some(now + AGAIN.min(watchdog / 4));
        if e.kind() != ErrorKind::WouldBlock && !std::mem::replace(&mut self.is_refused, true) {
            doubt(&e);
        }
        false
    }

    fn note_a_hang(&mut self, now: Instant, hangs: bool, progress: &Progress) {
        if hangs && !self.hangs {
            let since = progress.busy_since.unwrap_or(now);
            let seconds = (now - since).as_secs();
            log::warn(
                "watchdog-unfed",
                &[("seconds", &seconds), ("reason", &HANGS)],
            );
        }
        self.hangs = hangs;
    }
}

/// In a few words, for `systemctl status`.
fn status(state: ServiceState, progress: &Progress, held: usize, rate: u64) -> String {
    let committed = units::grouped(progress.committed);
    let mut text = match state {
        ServiceState::Starting => "opening the database".to_owned(),
        ServiceState::Recording => format!("{committed} readings, {rate}/s"),
        ServiceState::Stopping => format!("stopping: {committed} readings, {held} to commit"),
    };
    if let Some(trouble) = &progress.trouble {
        // A line is a message of its own.
        let reason = trouble.reason.replace(char::is_control, "?");
        text = text + "; waiting: " + &reason;
    }
    log::truncate(&mut text, STATUS_BYTES_MAX);
    text
}

/// The number in a variable; `otherwise` where there is none, and 0 with a warning for what is no number above 0.
fn number(variable: &dyn Fn(&str) -> Option<OsString>, name: &str, otherwise: u64) -> u64 {
    let Some(text) = variable(name).filter(|text| !text.is_empty()) else {
        return otherwise;
    };
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.filter(|number| *number > 0).unwrap_or_else(|| {
        doubt(&format_args!("{name} is no number above 0: {text:?}"));
        0
    })
}

fn doubt(reason: &dyn std::fmt::Display) {
    log::warn("no-notify", &[("reason", reason)]);
}

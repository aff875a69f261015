//! Standard input: one stream, whose acks go to stdout.

use std::io;
use std::time::Duration;

use crate::log::{self, Limit};
use crate::reading::line::Precision;
use crate::reading::stream::{Intake, Stream, Taken};
use crate::source::answers::Answers;
use crate::source::{notices, old_times};
use crate::sys::{self, Clock, Watch};

pub const STREAM: u64 = 0;

#[derive(Debug)]
pub struct Stdin {
    stream: Stream,
    pub answers: Answers,
    /// The kernel says that there is something to read.
    pub is_ready: bool,
    /// When the bytes that are being taken were read.
    arrived_ns: i64,
    /// No more is read, but what was read is still being taken.
    is_closed: bool,
    /// The next line waits for room.
    is_blocked: bool,
    precision: Precision,
    is_old_told: bool,
}

impl Stdin {
    pub fn new(precision: Precision, ack: bool) -> Self {
        Stdin {
            // A line of a terminal or a serial port that hangs up may be cut anywhere.
            stream: Stream::new(STREAM, precision, ack).strict(sys::is_terminal(sys::STDIN)),
            answers: Answers::default(),
            is_ready: false,
            arrived_ns: 0,
            is_closed: false,
            is_blocked: false,
            precision,
            is_old_told: false,
        }
    }

    pub fn is_done(&self) -> bool {
        self.is_closed && !self.is_blocked
    }

    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// More would be taken if there were some.
    pub fn is_open(&self) -> bool {
        !self.is_closed && !self.is_blocked
    }

    /// Waits for input while more would be taken.
    pub fn watch_input(&self) -> Watch {
        Watch::readable(if self.is_open() {
            sys::STDIN
        } else {
            sys::NO_FD
        })
    }

    /// Waits for room on stdout while an ack is due.
    pub fn watch_output(&self) -> Watch {
        Watch::writable(if self.answers.is_ready() {
            sys::STDOUT
        } else {
            sys::NO_FD
        })
    }

    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Reads once, if there is something to read. An error ends it.
    pub fn read(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_ready) || self.is_closed {
            return Ok(());
        }
        let read = self.stream.fill(|buffer| sys::read(sys::STDIN, buffer));
        self.arrived_ns = sys::clock_ns(Clock::Real);
        match read {
            Err(e) if sys::is_passing(&e) => Ok(()),
            read => {
                notices::watch_returns(&mut self.stream, &"stdin");
                self.is_closed = read.is_err() || self.stream.ended();
                read
            }
        }
    }

    /// Takes whole lines while there is room. Logs those that are rejected.
    pub fn take(&mut self, to: &mut Intake<'_>, limit: &mut Limit) {
        let (stream, is_told) = (&mut self.stream, &mut self.is_old_told);
        let arrived_ns = self.arrived_ns;
        let taken = old_times::watch(is_told, &"stdin", self.precision, to, |to| {
            stream.take(to, arrived_ns, &mut |line, text, reason| {
                notices::tell_rejected(limit, &"stdin", None, (line, text, reason));
            })
        });
        self.is_blocked = taken == Taken::NoRoom;
    }

    /// Writes the newest ack; waits no longer than `wait` for a reader.
    pub fn flush(&mut self, wait: Duration) {
        self.answers
            .flush(|bytes| log::write_stdout(bytes, wait).map(|()| bytes.len()));
    }
}

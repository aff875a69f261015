//! Standard input: one stream, whose acks go to stdout.

use std::io;

use crate::reading::line::Precision;
use crate::reading::stream::{Intake, Reject, Stream, Taken};
use crate::sys::{self, Clock};

pub const STREAM: u64 = 0;

#[derive(Debug)]
pub struct Stdin {
    stream: Stream,
    /// When the bytes that are being taken were read.
    arrived_ns: i64,
    /// No more is read, but what was read is still being taken.
    closed: bool,
    /// The next line waits for room.
    blocked: bool,
}

impl Stdin {
    pub fn new(precision: Precision, ack: bool) -> Self {
        Stdin {
            stream: Stream::new(STREAM, precision, ack),
            arrived_ns: 0,
            closed: false,
            blocked: false,
        }
    }

    pub fn is_done(&self) -> bool {
        self.closed && !self.blocked
    }

    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// More would be taken if there were some.
    pub fn is_open(&self) -> bool {
        !self.closed && !self.blocked
    }

    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Reads once. An error ends it.
    pub fn read(&mut self) -> io::Result<()> {
        let read = self.stream.fill(|buffer| sys::read(sys::STDIN, buffer));
        self.arrived_ns = sys::clock_ns(Clock::Real);
        match read {
            Err(e) if sys::is_passing(&e) => Ok(()),
            read => {
                self.closed = read.is_err() || self.stream.ended();
                read
            }
        }
    }

    /// Moves whole lines on while there is room.
    pub fn take(&mut self, to: &mut Intake<'_>, reject: Reject<'_>) {
        self.blocked = self.stream.take(to, self.arrived_ns, reject) == Taken::NoRoom;
    }
}

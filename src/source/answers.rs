//! Answers to one stream client: `ack`, `resume` and `err` lines, and how much of them it has not read yet.
//!
//! A client that does not read costs a bounded number of bytes and blocks nobody, itself included: of acks
//! only the newest is kept, and rejected lines beyond the bound are counted instead. Pure but for the write.

use std::fmt::{Display, Write as _};
use std::io::{self, ErrorKind};

use crate::store::ack::Ack;

/// Answers that wait for a client to read them.
pub const ANSWERS_BYTES_MAX: usize = 8 * 1024;
/// Upper bound on one reason, so that a log line and an answer stay short.
const REASON_BYTES_MAX: usize = 200;
/// Memory that an idle connection keeps.
const OUT_BYTES_KEPT: usize = 256;

/// A reason as a client is told it.
pub fn bounded(reason: &dyn Display) -> String {
    let mut reason = reason.to_string();
    if reason.len() > REASON_BYTES_MAX {
        let whole = |at: &usize| reason.is_char_boundary(*at);
        let end = (0..=REASON_BYTES_MAX).rev().find(whole);
        reason.truncate(end.unwrap_or(0));
    }
    reason
}

#[derive(Debug, Default)]
pub struct Answers {
    /// Being written; the first line may be partly written already.
    out: Vec<u8>,
    /// Acks are cumulative, so the newest replaces the one before it until it can be written.
    ack: Option<Ack>,
    /// Rejected lines for which `out` had no room, and the last of them.
    left_out: u64,
    left_out_last: u64,
    /// Lines covered by the newest ack, whether it was written or not.
    settled: u64,
    /// Writing failed: the client reads no more.
    is_closed: bool,
}

impl Answers {
    pub fn reject(&mut self, line: u64, reason: &dyn Display) {
        if self.left_out > 0 || self.is_full() {
            self.left_out += 1;
            self.left_out_last = line;
            return;
        }
        self.say(line, &bounded(reason));
    }

    pub fn is_full(&self) -> bool {
        self.out.len() >= ANSWERS_BYTES_MAX
    }

    pub fn put(&mut self, ack: Ack) {
        self.settled = ack.lines();
        self.ack = Some(ack).filter(|_| !self.is_closed);
    }

    pub fn resume(&mut self, lines: u64) {
        let _ = writeln!(self, "resume {lines}");
    }

    /// Line 0 stands for the connection itself.
    pub fn say(&mut self, line: u64, reason: &str) {
        let _ = writeln!(self, "err {line} {reason}");
    }

    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Drops what was not written, and all that is still to come.
    pub fn close(&mut self) {
        *self = Answers {
            is_closed: true,
            settled: self.settled,
            ..Answers::default()
        };
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Something waits to be written.
    pub fn is_ready(&self) -> bool {
        !self.out.is_empty() || self.ack.is_some() || self.left_out > 0
    }

    /// Writes as much as `write` takes.
    pub fn flush(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) {
        while self.is_ready() {
            if self.out.is_empty() {
                self.refill();
            }
            match write(&self.out) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.close(),
            }
        }
        if self.out.capacity() > OUT_BYTES_KEPT {
            self.out = Vec::new();
        }
    }

    /// Adds the answers held back, once all before them is written.
    fn refill(&mut self) {
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            let reason = format!(
                "{left_out} rejected lines up to this one are not told, for want of a reader"
            );
            self.say(self.left_out_last, &reason);
        }
        if let Some(ack) = self.ack.take() {
            let _ = writeln!(self, "ack {}", ack.lines());
        }
    }
}

impl std::fmt::Write for Answers {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if !self.is_closed {
            self.out.extend_from_slice(text.as_bytes());
        }
        Ok(())
    }
}

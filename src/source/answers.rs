//! What a stream client is still to be told: rejected lines and acks, in the order of its lines.
//!
//! An `err` waits for the ack that covers its line, so that what a client reads only ever goes forward. One
//! that is not read costs a bounded number of bytes and nobody else anything: of acks the newest is kept, of
//! rejected lines that cannot be told the number. Pure but for the write that it is given.

use std::collections::VecDeque;
use std::fmt::{Display, Write as _};
use std::io::{self, ErrorKind};

use crate::store::ack::{Ack, Resume};

/// Text of rejected lines, and as much again on its way out, held for each connection.
pub const ERRS_BYTES_MAX: usize = 4096;
/// Of one reason, so that a line of the log and an answer stay short.
const REASON_BYTES_MAX: usize = 200;
/// What an idle connection may keep.
const OUT_BYTES_KEPT: usize = 256;

#[derive(Debug)]
struct Err {
    line: u64,
    reason: Box<str>,
}

#[derive(Debug, Default)]
pub struct Answers {
    errs: VecDeque<Err>,
    errs_bytes: usize,
    /// Rejected lines that were left out, and the last of them.
    left_out: u64,
    left_out_last: u64,
    /// On its way, perhaps within a line.
    out: Vec<u8>,
    ack: Option<Ack>,
    settled: u64,
    /// Said after the last ack.
    last_word: Option<&'static str>,
    /// Lines of an input that has ended; one that was cut off is behind them, and no ack will cover it.
    lines: Option<u64>,
    /// Nobody reads any more.
    deaf: bool,
    /// No ack is waited for any more.
    unlimited: bool,
}

impl Answers {
    /// A line was rejected. False when so many wait for their ack that the stream has to wait too.
    pub fn reject(&mut self, line: u64, reason: &dyn Display) -> bool {
        if self.deaf {
            return true;
        }
        let mut reason = reason.to_string();
        if reason.len() > REASON_BYTES_MAX {
            let whole = |at: &usize| reason.is_char_boundary(*at);
            let end = (0..=REASON_BYTES_MAX).rev().find(whole);
            reason.truncate(end.unwrap_or(0));
        }
        self.errs_bytes += size_of::<Err>() + reason.len();
        self.errs.push_back(Err {
            line,
            reason: reason.into(),
        });
        self.has_room()
    }

    /// False when no more lines may be taken before an ack comes. What can be told and is not being read
    /// makes way.
    pub fn has_room(&mut self) -> bool {
        while self.errs_bytes > ERRS_BYTES_MAX && self.is_err_due() {
            if let Some(err) = self.next_err() {
                self.left_out += 1;
                self.left_out_last = err.line;
            }
        }
        self.errs_bytes <= ERRS_BYTES_MAX || self.unlimited
    }

    /// The end has come: what is left is rejected or taken, and no more is read.
    pub fn lift_limit(&mut self) {
        self.unlimited = true;
    }

    fn is_err_due(&self) -> bool {
        let all_settled = self.lines == Some(self.settled);
        let next = self.errs.front();
        next.is_some_and(|err| err.line <= self.settled || all_settled)
    }

    fn next_err(&mut self) -> Option<Err> {
        let err = self.errs.pop_front()?;
        self.errs_bytes -= size_of::<Err>() + err.reason.len();
        if self.errs.is_empty() {
            self.errs = VecDeque::new();
        }
        Some(err)
    }

    pub fn put(&mut self, ack: Ack) {
        self.settled = ack.lines();
        if !self.deaf {
            self.ack = Some(ack);
        }
    }

    /// The input has ended after so many lines.
    pub fn end(&mut self, lines: u64, last_word: Option<&'static str>) {
        self.lines = Some(lines);
        self.last_word = last_word.filter(|_| !self.deaf);
    }

    pub fn resume(&mut self, resume: Resume) {
        let _ = writeln!(self, "resume {}", resume.lines());
    }

    /// Says one line at once, which is about the connection and not about what is settled.
    pub fn say(&mut self, line: u64, reason: &str) {
        let _ = writeln!(self, "err {line} {reason}");
    }

    /// Lines that the newest ack covers, told or not.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Nobody will read any more.
    pub fn close(&mut self) {
        *self = Answers {
            deaf: true,
            settled: self.settled,
            ..Answers::default()
        };
    }

    pub fn is_closed(&self) -> bool {
        self.deaf
    }

    /// There is something that can be told now.
    pub fn is_ready(&self) -> bool {
        !self.out.is_empty()
            || self.ack.is_some()
            || self.left_out > 0
            || self.is_err_due()
            || self.is_last_word_due()
    }

    fn is_last_word_due(&self) -> bool {
        self.last_word.is_some() && self.lines == Some(self.settled)
    }

    /// Writes what can be told, as far as `write` takes it.
    pub fn flush(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) {
        while self.is_ready() {
            self.fill();
            match write(&self.out) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.close(),
            }
            if self.out.is_empty() && self.out.capacity() > OUT_BYTES_KEPT {
                self.out = Vec::new();
            }
        }
    }

    /// Moves lines into `out` in their order.
    fn fill(&mut self) {
        if self.out.len() >= ERRS_BYTES_MAX {
            return;
        }
        let (count, last) = (std::mem::take(&mut self.left_out), self.left_out_last);
        if count > 0 {
            let _ = writeln!(
                self,
                "err {last} {count} rejected lines up to this one are not told, for want of a reader"
            );
        }
        while self.out.len() < ERRS_BYTES_MAX {
            let covered = |err: &Err| err.line <= self.settled;
            if !self.errs.front().is_some_and(covered)
                && let Some(ack) = self.ack.take()
            {
                let _ = writeln!(self, "ack {}", ack.lines());
            } else if self.is_err_due()
                && let Some(Err { line, reason }) = self.next_err()
            {
                let _ = writeln!(self, "err {line} {reason}");
            } else if self.is_last_word_due()
                && let Some(reason) = self.last_word.take()
            {
                let _ = writeln!(self, "err 0 {reason}");
            } else {
                break;
            }
        }
    }
}

impl std::fmt::Write for Answers {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if !self.deaf {
            self.out.extend_from_slice(text.as_bytes());
        }
        Ok(())
    }
}

//! A connection that sends line protocol: its first line, its readings, and its acks.
//!
//! One that names its client is not read before the writer has looked up the lines of that client. It is over when its
//! input has ended and the last ack is written.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::reading::line::Precision;
use crate::reading::stream::{Excerpt, Intake, Reject, Stream, Taken};
use crate::reading::{Hello, NamedClient};
use crate::source::answers::Answers;
use crate::source::notices;
use crate::source::opening::{Opening, opening};
use crate::source::protocol::{Memory, Now, Peer, Protocol, Read, Turn, Write};
use crate::store::ack::{Ack, Resume};
use crate::sys;

/// Upper bound on the wait for a client to read its last ack.
const LAST_ACK_WAIT: Duration = Duration::from_secs(60);
/// Silence after which an unfinished line keeps its connection's place no longer.
const LEFT_AFTER: Duration = Duration::from_secs(60);

const TORN: &str = "the input ended inside a quoted string of several lines: from its first line on \
    nothing is settled";

/// Why a connection that named this client is refused.
pub fn another_users(name: &str) -> String {
    format!("client {name} is another user's: choose another name")
}

#[derive(Debug)]
pub struct Lines {
    /// To write answers to within a turn.
    socket: RawFd,
    peer: Peer,
    stream: Stream,
    answers: Answers,
    name: Option<Arc<str>>,
    /// Named its client and was not answered yet.
    awaits_resume: bool,
    ended: Option<Instant>,
}

impl Lines {
    pub fn new(socket: RawFd, id: u64, precision: Precision, peer: Peer) -> Self {
        Lines {
            socket,
            peer,
            stream: Stream::of_connection(id, precision),
            answers: Answers::default(),
            name: None,
            awaits_resume: false,
            ended: None,
        }
    }

    pub fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    /// It named its client and waits for `resume`.
    pub fn awaits_resume(&self) -> bool {
        self.awaits_resume
    }

    pub fn has_ended(&self) -> bool {
        self.stream.ended()
    }

    /// Sends `resume`, with the lines that the writer looked up. An error if they are another user's.
    pub fn resume(&mut self, resume: Resume) -> Result<(), String> {
        if let Some(name) = self.name.clone()
            && std::mem::take(&mut self.awaits_resume)
        {
            let lines = resume.lines().ok_or_else(|| another_users(&name))?;
            let uid = self.peer.uid;
            self.stream.resume(NamedClient { name, lines, uid });
            self.answers.resume(lines);
        }
        Ok(())
    }

    pub fn say(&mut self, line: u64, reason: &str) {
        self.answers.say(line, reason);
    }

    fn is_settled(&self) -> bool {
        self.answers.settled() >= self.stream.marked()
    }

    /// Looks at the first line. `None` if it is one of readings.
    fn open(&mut self, to: &mut Intake<'_>, reject: Reject<'_>) -> Option<Turn> {
        match opening(self.stream.waiting()) {
            Opening::More if !self.stream.ended() => Some(Turn::Done),
            Opening::More | Opening::Line => None,
            Opening::Client { name, used } => {
                let name: Arc<str> = name.into();
                self.stream.skip_hello(used);
                self.name = Some(name.clone());
                self.awaits_resume = true;
                Some(Turn::Hello(Hello {
                    stream: self.stream.id(),
                    name,
                    uid: self.peer.uid,
                }))
            }
            Opening::Wrong(reason) => {
                to.batch.counts.rejected += 1;
                reject(1, Excerpt(self.stream.waiting()), &reason);
                Some(Turn::Refused(reason))
            }
        }
    }
}

impl Protocol for Lines {
    fn held_bytes(&self) -> usize {
        self.stream.waiting().len()
    }

    fn is_open(&self) -> bool {
        !self.awaits_resume && !self.stream.ended()
    }

    fn is_idle(&self, silence: Duration) -> bool {
        let is_left = self.stream.waiting().is_empty() || silence >= LEFT_AFTER;
        is_left && self.is_settled() && !self.answers.is_ready()
    }

    fn borrow(&mut self, memory: &mut Memory) {
        self.stream.borrow(&mut memory.lines);
    }

    fn give_back(&mut self, memory: &mut Memory) {
        self.stream.give_back(&mut memory.lines);
    }

    fn read(&mut self, now: Instant, read: Read<'_>) -> io::Result<()> {
        self.stream.fill(read)?;
        notices::watch_returns(&mut self.stream, &self.peer.name);
        if self.stream.ended() {
            self.ended.get_or_insert(now);
        }
        Ok(())
    }

    /// Whole lines before a reset count as any other.
    fn cut(&mut self, now: Instant, error: &io::Error) {
        notices::tell_reset(&self.peer.name, error);
        self.stream.end();
        self.ended.get_or_insert(now);
        self.answers.close();
    }

    fn take(&mut self, to: &mut Intake<'_>, now: Now, reject: Reject<'_>) -> Turn {
        if self.awaits_resume {
            return Turn::Done;
        }
        if self.stream.lines() == 0
            && self.name.is_none()
            && let Some(turn) = self.open(to, reject)
        {
            return turn;
        }
        let (answers, socket) = (&mut self.answers, self.socket);
        let mut reject = |line, text: Excerpt<'_>, reason: &dyn std::fmt::Display| {
            reject(line, text, reason);
            if answers.is_full() {
                answers.flush(|bytes| sys::write(socket, bytes));
            }
            answers.reject(line, reason);
        };
        match self.stream.take(to, now.arrived_ns, &mut reject) {
            Taken::All => Turn::Done,
            Taken::NoRoom => Turn::NoRoom,
        }
    }

    fn put(&mut self, ack: Ack) {
        self.answers.put(ack);
    }

    fn has_answer(&self) -> bool {
        self.answers.is_ready()
    }

    fn flush(&mut self, _: Instant, write: Write<'_>) {
        self.answers.flush(write);
    }

    fn is_over(&mut self, now: Instant) -> bool {
        if !self.stream.ended() || self.awaits_resume {
            return false;
        }
        let is_settled = self.is_settled();
        if is_settled && self.stream.take_torn() {
            self.say(0, TORN);
        }
        let is_told = is_settled && !self.answers.is_ready();
        let is_late = self.gives_up(false).is_some_and(|at| at <= now);
        is_told || is_late || self.answers.is_closed()
    }

    fn gives_up(&self, _: bool) -> Option<Instant> {
        let ended = self.ended.filter(|_| self.answers.is_ready());
        ended.map(|at| at + LAST_ACK_WAIT)
    }

    fn forget(&mut self) {
        self.stream.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_nobody_goes_on_with_keeps_no_place() {
        let peer = Peer {
            name: "peer".into(),
            uid: None,
        };
        let mut lines = Lines::new(sys::NO_FD, 1, Precision::Ns, peer);
        assert!(lines.is_idle(Duration::ZERO));
        let mut read = |buffer: &mut [u8]| {
            buffer[..3].copy_from_slice(b"m v");
            Ok(3)
        };
        lines.read(Instant::now(), &mut read).unwrap();
        assert!(!lines.is_idle(LEFT_AFTER / 2));
        assert!(lines.is_idle(LEFT_AFTER));
    }
}

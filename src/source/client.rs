//! One connection: its socket, and what it speaks over it.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::reading::line::Precision;
use crate::reading::stream::{Intake, Reject};
use crate::source::http::reply::Health;
use crate::source::http::{Http, Rules};
use crate::source::lines::Lines;
use crate::source::protocol::{Memory, Now, Peer, Protocol, Turn};
use crate::store::ack::{Ack, Resume};
use crate::sys;

/// Reads discarded before a close, because unread input would reset the connection and could lose the
/// last answer.
const DRAIN_READS_MAX: usize = 16;

#[derive(Debug)]
enum Speaks {
    Lines(Box<Lines>),
    Http(Box<Http>),
}

#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    /// Number of its stream.
    id: u64,
    speaks: Speaks,
    pub peer: Peer,
    /// Index of the listener that accepted it.
    pub source: usize,
    arrived_ns: i64,
    /// Time of the last read, or of the connection.
    active: Instant,
    /// Lines that were read may wait for room in the queue.
    is_blocked: bool,
    /// The kernel says that there is something to read.
    pub is_ready: bool,
    is_over: bool,
}

impl Client {
    pub fn new(
        socket: OwnedFd,
        id: u64,
        source: usize,
        precision: Precision,
        rules: Option<&Rc<Rules>>,
        peer: Peer,
        now: Instant,
    ) -> Self {
        let fd = socket.as_raw_fd();
        let speaks = match rules {
            Some(rules) => Speaks::Http(Box::new(Http::new(id, rules.clone(), now))),
            None => Speaks::Lines(Box::new(Lines::new(fd, id, precision, peer.clone()))),
        };
        Client {
            socket,
            id,
            speaks,
            peer,
            source,
            arrived_ns: 0,
            active: now,
            is_blocked: false,
            is_ready: false,
            is_over: false,
        }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn protocol(&self) -> &dyn Protocol {
        match &self.speaks {
            Speaks::Lines(lines) => &**lines,
            Speaks::Http(http) => &**http,
        }
    }

    fn protocol_mut(&mut self) -> &mut dyn Protocol {
        match &mut self.speaks {
            Speaks::Lines(lines) => &mut **lines,
            Speaks::Http(http) => &mut **http,
        }
    }

    /// While it is not over.
    pub fn http(&self) -> Option<&Http> {
        match &self.speaks {
            Speaks::Http(http) if !self.is_over => Some(http),
            _ => None,
        }
    }

    /// While it is not over.
    fn lines(&self) -> Option<&Lines> {
        match &self.speaks {
            Speaks::Lines(lines) if !self.is_over => Some(lines),
            _ => None,
        }
    }

    /// The client that it named.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.lines()?.name()
    }

    pub fn has_ended(&self) -> bool {
        self.lines().is_some_and(Lines::has_ended)
    }

    pub fn held_bytes(&self) -> usize {
        self.protocol().held_bytes()
    }

    pub fn is_blocked(&self) -> bool {
        self.is_blocked && !self.is_over
    }

    /// Time of the last read, if nothing is due and nothing is held that anybody goes on with.
    pub fn idle_since(&self, now: Instant) -> Option<Instant> {
        let silence = now.saturating_duration_since(self.active);
        (self.is_open() && self.protocol().is_idle(silence)).then_some(self.active)
    }

    /// It has input or lines to take. `may_inflate`: a body more may be inflated.
    pub fn wants_turn(&self, may_inflate: bool) -> bool {
        match self.http().filter(|http| http.is_held()) {
            Some(http) => http.can_go_on(may_inflate),
            None => !self.is_over && (self.is_blocked || self.is_ready),
        }
    }

    /// It has one of the places where bodies are inflated.
    pub fn inflates(&self) -> bool {
        self.http().and_then(Http::inflates_since).is_some()
    }

    /// All that was read is taken, and the client that it named is looked up.
    pub fn is_drained(&self) -> bool {
        let is_held = self.http().is_some_and(Http::is_held);
        let awaits_resume = self.lines().is_some_and(Lines::awaits_resume);
        !self.is_blocked() && !is_held && !awaits_resume
    }

    /// An answer can be written.
    pub fn has_answer(&self) -> bool {
        self.protocol().has_answer()
    }

    pub fn answer_health(&mut self, health: &Health) {
        if let Speaks::Http(http) = &mut self.speaks {
            http.answer(health);
        }
    }

    /// Nothing more is read.
    pub fn stop(&mut self) {
        self.is_ready = false;
        if let Speaks::Http(http) = &mut self.speaks {
            http.stop(self.is_blocked);
        }
    }

    /// It may be read.
    pub fn is_open(&self) -> bool {
        !self.is_over && !self.is_blocked && self.protocol().is_open()
    }

    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Reads once into `memory` if it is ready, and takes whole lines.
    pub fn turn(
        &mut self,
        memory: &mut Memory,
        to: &mut Intake<'_>,
        now: Instant,
        may_inflate: bool,
        reject: Reject<'_>,
    ) -> Turn {
        let fd = self.fd();
        let reads = std::mem::take(&mut self.is_ready) && self.is_open();
        let protocol = match &mut self.speaks {
            Speaks::Lines(lines) => &mut **lines as &mut dyn Protocol,
            Speaks::Http(http) => &mut **http,
        };
        protocol.borrow(memory);
        if reads {
            let read = protocol.read(now, &mut |buffer| sys::read(fd, buffer));
            self.arrived_ns = sys::clock_ns(sys::Clock::Real);
            match read {
                Ok(()) => self.active = now,
                Err(e) if sys::is_passing(&e) => {}
                Err(e) => protocol.cut(now, &e),
            }
        }
        let now = Now {
            time: now,
            arrived_ns: self.arrived_ns,
            may_inflate,
        };
        let turn = protocol.take(to, now, reject);
        protocol.give_back(memory);
        self.is_blocked = turn == Turn::NoRoom;
        if let (Turn::Refused(reason), Speaks::Lines(_)) = (&turn, &self.speaks) {
            self.refuse(1, reason);
        }
        turn
    }

    pub fn put(&mut self, ack: Ack) {
        self.protocol_mut().put(ack);
    }

    /// Sends `resume`, with the lines that the writer looked up.
    pub fn resume(&mut self, resume: Resume) {
        if let Speaks::Lines(lines) = &mut self.speaks {
            match lines.resume(resume) {
                // Lines may be held already behind the name.
                Ok(()) => self.is_blocked = true,
                Err(reason) => self.refuse(1, &reason),
            }
        }
    }

    /// Sends the reason, and closes. To a client that speaks HTTP no answer is the one that lets it send again.
    pub fn refuse(&mut self, line: u64, reason: &str) {
        if let Speaks::Lines(lines) = &mut self.speaks {
            lines.say(line, reason);
            self.flush(self.active);
        }
        self.close();
    }

    /// Writes answers, as far as the socket takes them.
    pub fn flush(&mut self, now: Instant) {
        let fd = self.fd();
        if !self.is_over {
            let write = &mut |bytes: &[u8]| sys::write(fd, bytes);
            self.protocol_mut().flush(now, write);
        }
    }

    /// Why the connection has to be closed although something is due to it.
    pub fn overdue(&self, now: Instant) -> Option<&'static str> {
        let (at, reason) = self.http()?.deadline(self.is_blocked)?;
        (at <= now).then_some(reason)
    }

    /// Closes a connection that has nothing more to say. Returns whether it is closed.
    pub fn settle(&mut self, now: Instant) -> bool {
        if !self.is_over && !self.is_blocked && self.protocol_mut().is_over(now) {
            self.close();
        }
        self.is_over
    }

    /// When to close although something is due to it.
    pub fn gives_up(&self) -> Option<Instant> {
        let at = self.protocol().gives_up(self.is_blocked);
        at.filter(|_| !self.is_over)
    }

    /// Closes the connection; what was written is delivered.
    pub fn close(&mut self) {
        self.is_over = true;
        // Now and not on drop: a thousand may be closed in one turn.
        self.protocol_mut().forget();
        sys::end_writing(self.fd());
        let mut discarded = [0; 4096];
        for _ in 0..DRAIN_READS_MAX {
            if !sys::read(self.fd(), &mut discarded).is_ok_and(|n| n > 0) {
                break;
            }
        }
    }
}

//! One connection: its first line, its readings, and its answers. One that speaks HTTP leaves requests and
//! answers to its `Http`.
//!
//! A connection that names its client is not read before the writer has looked up the lines of that client. It is
//! over when its input has ended and the last ack is written, or when it is refused with one line that gives
//! the reason.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::reading::line::Precision;
use crate::reading::stream::{Excerpt, Intake, Reject, Stream, Taken};
use crate::reading::{self, Hello};
use crate::source::answers::Answers;
use crate::source::http::reply::State;
use crate::source::http::request::Now;
use crate::source::http::{Http, Progress, Rules};
use crate::source::notices;
use crate::source::opening::{Opening, opening};
use crate::store::ack::{Ack, Resume};
use crate::sys;

/// Upper bound on the wait for a client to read its last ack.
const LAST_ACK_WAIT: Duration = Duration::from_secs(60);
/// Reads discarded before a close, because unread input would reset the connection and could lose the
/// last answer.
const DRAIN_READS_MAX: usize = 16;

const TORN: &str = "the input ended inside a quoted string of several lines: from its first line on \
    nothing is settled";

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    pub name: Rc<str>,
    /// Of a unix socket.
    pub uid: Option<u32>,
}

/// Why a connection that named this client is refused.
pub fn another_users(name: &str) -> String {
    format!("client {name} is another user's: choose another name")
}

/// Memory to read into, shared by all connections.
#[derive(Debug, Default)]
pub struct Memory {
    lines: Vec<u8>,
    /// Of HTTP, before it is decoded.
    wire: Vec<u8>,
}

impl Memory {
    pub fn lines(&mut self) -> &mut Vec<u8> {
        &mut self.lines
    }
}

/// Silence after which an unfinished line keeps its connection's place no longer.
const LEFT_AFTER: Duration = Duration::from_secs(60);

/// Result of a client's turn.
#[derive(Debug)]
pub enum Turn {
    Done,
    /// The next line waits for room in the queue.
    NoRoom,
    /// It named its client.
    Hello(Hello),
    /// It speaks another protocol and was refused.
    Refused(String),
}

#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    stream: Stream,
    answers: Answers,
    http: Option<Box<Http>>,
    /// Shared, so that a turn can borrow the client and allocate nothing.
    pub peer: Rc<str>,
    /// User at the other end of a unix socket.
    pub uid: Option<u32>,
    /// Index of the listener that accepted it.
    pub source: usize,
    arrived_ns: i64,
    /// Time of the last read, or of the connection.
    active: Instant,
    /// Lines that were read may wait for room in the queue.
    is_blocked: bool,
    /// The kernel says that there is something to read.
    pub is_ready: bool,
    name: Option<Arc<str>>,
    /// Named its client and was not answered yet.
    awaits_resume: bool,
    is_over: bool,
    ended: Option<Instant>,
}

impl Client {
    pub fn new(
        socket: OwnedFd,
        id: u64,
        source: usize,
        precision: Precision,
        rules: Option<&Rc<Rules>>,
        peer: &Peer,
        now: Instant,
    ) -> Self {
        Client {
            socket,
            // Of HTTP, it waits for whole requests only.
            stream: Stream::new(id, precision, rules.is_none()).strict(true),
            answers: Answers::default(),
            http: rules.map(|rules| Box::new(Http::new(rules.clone(), now))),
            peer: peer.name.clone(),
            uid: peer.uid,
            source,
            arrived_ns: 0,
            active: now,
            is_blocked: false,
            is_ready: false,
            name: None,
            awaits_resume: false,
            is_over: false,
            ended: None,
        }
    }

    pub fn id(&self) -> u64 {
        self.stream.id()
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    pub fn held_bytes(&self) -> usize {
        let on_wire = self.http.as_ref().map_or(0, |http| http.held_bytes());
        self.stream.waiting().len() + on_wire
    }

    pub fn is_blocked(&self) -> bool {
        self.is_blocked && !self.is_over
    }

    /// Time of the last read, if no answer is due and no unfinished line is held, or one that nobody goes on with.
    pub fn idle_since(&self, now: Instant) -> Option<Instant> {
        if let Some(http) = &self.http {
            return (self.is_open() && http.is_settled()).then_some(self.active);
        }
        let is_settled = self.answers.settled() >= self.stream.marked() && !self.answers.is_ready();
        let is_left = now.saturating_duration_since(self.active) >= LEFT_AFTER;
        let is_whole = self.held_bytes() == 0 || (is_left && !self.is_blocked);
        (self.is_open() && is_settled && is_whole).then_some(self.active)
    }

    /// It named its client and waits for `resume`.
    pub fn awaits_resume(&self) -> bool {
        self.awaits_resume && !self.is_over
    }

    /// It has input or lines to take.
    pub fn wants_turn(&self) -> bool {
        !self.is_over && (self.is_blocked || self.is_ready || self.is_held())
    }

    /// The requests of a connection that speaks HTTP and is open.
    fn http(&self) -> Option<&Http> {
        self.http.as_deref().filter(|_| !self.is_over)
    }

    /// It waits for something that is neither input nor room.
    pub fn is_held(&self) -> bool {
        self.http().is_some_and(Http::is_held)
    }

    pub fn awaits_place(&self) -> bool {
        self.http().is_some_and(Http::awaits_place)
    }

    /// It does not wait any more.
    pub fn can_go_on(&self, has_place: bool) -> bool {
        self.http().is_some_and(|http| http.can_go_on(has_place))
    }

    /// Since when it has one of the places where bodies are inflated.
    pub fn inflates_since(&self) -> Option<Instant> {
        self.http()?.inflates_since()
    }

    /// An answer can be written.
    pub fn has_answer(&self) -> bool {
        match &self.http {
            Some(http) => http.is_ready(),
            None => self.answers.is_ready(),
        }
    }

    /// Its next answer is the state of the recorder.
    pub fn asks_state(&self) -> bool {
        self.http().is_some_and(Http::asks)
    }

    pub fn answer_state(&mut self, state: &State) {
        if let Some(http) = &mut self.http {
            http.answer(state);
        }
    }

    /// Nothing more is read.
    pub fn stop(&mut self) {
        self.is_ready = false;
        let is_blocked = self.is_blocked;
        if let Some(http) = &mut self.http {
            http.stop(is_blocked);
        }
    }

    /// It may be read.
    pub fn is_open(&self) -> bool {
        let is_closed = self.http.as_ref().is_some_and(|http| !http.is_open());
        let waits = self.awaits_resume || self.is_blocked || is_closed;
        !self.is_over && !self.stream.ended() && !waits
    }

    pub fn is_over(&self) -> bool {
        self.is_over
    }

    pub fn has_ended(&self) -> bool {
        self.stream.ended()
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
        if self.http.is_some() {
            return self.turn_http(memory, to, now, may_inflate, reject);
        }
        let memory = &mut memory.lines;
        self.stream.borrow(memory);
        if std::mem::take(&mut self.is_ready) && self.is_open() {
            self.read(now);
        }
        let turn = self.take(to, reject);
        self.stream.give_back(memory);
        self.is_blocked = matches!(turn, Turn::NoRoom);
        turn
    }

    fn turn_http(
        &mut self,
        memory: &mut Memory,
        to: &mut Intake<'_>,
        now: Instant,
        may_inflate: bool,
        reject: Reject<'_>,
    ) -> Turn {
        let reads = std::mem::take(&mut self.is_ready) && self.is_open();
        let fd = self.fd();
        let Some(http) = &mut self.http else {
            return Turn::Done;
        };
        self.stream.borrow(&mut memory.lines);
        http.borrow(&mut memory.wire);
        if reads {
            match http.read(now, |buffer| sys::read(fd, buffer)) {
                Ok(()) => self.active = now,
                Err(e) if sys::is_passing(&e) => {}
                Err(_) => http.cut(),
            }
            self.arrived_ns = sys::clock_ns(sys::Clock::Real);
        }
        let now = Now {
            time: now,
            arrived_ns: self.arrived_ns,
            may_inflate,
        };
        let progress = http.take(&mut self.stream, to, now, reject);
        self.stream.give_back(&mut memory.lines);
        http.give_back(&mut memory.wire);
        self.is_blocked = progress == Progress::NoRoom;
        match http.take_complaint() {
            _ if self.is_blocked => Turn::NoRoom,
            Some(reason) => Turn::Refused(reason),
            None => Turn::Done,
        }
    }

    fn read(&mut self, now: Instant) {
        let fd = self.fd();
        let read = self.stream.fill(|buffer| sys::read(fd, buffer));
        self.arrived_ns = sys::clock_ns(sys::Clock::Real);
        match read {
            Ok(()) => {
                self.active = now;
                notices::watch_returns(&mut self.stream, &self.peer);
            }
            Err(e) if sys::is_passing(&e) => {}
            // A reset: whole lines before it count as any other.
            Err(e) => {
                notices::tell_reset(&self.peer, &e);
                self.stream.end();
                self.answers.close();
            }
        }
        if self.stream.ended() {
            self.ended.get_or_insert(now);
        }
    }

    fn take(&mut self, to: &mut Intake<'_>, reject: Reject<'_>) -> Turn {
        if self.is_over || self.awaits_resume {
            return Turn::Done;
        }
        if self.stream.lines() == 0 && self.name.is_none() {
            match opening(self.stream.waiting()) {
                Opening::More if !self.stream.ended() => return Turn::Done,
                Opening::More | Opening::Line => {}
                Opening::Client { name, used } => {
                    let name: Arc<str> = name.into();
                    self.stream.skip_hello(used);
                    self.name = Some(name.clone());
                    self.awaits_resume = true;
                    return Turn::Hello(Hello {
                        stream: self.id(),
                        name,
                        uid: self.uid,
                    });
                }
                Opening::Wrong(reason) => {
                    to.batch.counts.rejected += 1;
                    reject(1, Excerpt(self.stream.waiting()), &reason);
                    self.refuse(1, &reason);
                    return Turn::Refused(reason);
                }
            }
        }
        let (answers, fd) = (&mut self.answers, self.socket.as_raw_fd());
        let taken = self
            .stream
            .take(to, self.arrived_ns, &mut |line, text, reason| {
                reject(line, text, reason);
                if answers.is_full() {
                    answers.flush(|bytes| sys::write(fd, bytes));
                }
                answers.reject(line, reason);
            });
        match taken {
            Taken::All => Turn::Done,
            Taken::NoRoom => Turn::NoRoom,
        }
    }

    pub fn put(&mut self, ack: Ack) {
        match &mut self.http {
            Some(http) => http.settle(ack.lines()),
            None => self.answers.put(ack),
        }
    }

    /// Sends `resume`, with the lines that the writer looked up.
    pub fn resume(&mut self, resume: Resume) {
        if let Some(name) = self.name.clone()
            && std::mem::take(&mut self.awaits_resume)
        {
            let Some(lines) = resume.lines() else {
                self.refuse(1, &another_users(&name));
                return;
            };
            let uid = self.uid;
            self.stream.resume(reading::Client { name, lines, uid });
            self.answers.resume(lines);
            // Lines may be held already behind the name.
            self.is_blocked = true;
        }
    }

    /// Sends the reason, and closes. To a client that speaks HTTP no answer is the one that lets it send again.
    pub fn refuse(&mut self, line: u64, reason: &str) {
        if self.http.is_none() {
            self.answers.say(line, reason);
            self.flush(self.active);
        }
        self.close();
    }

    /// Writes answers, as far as the socket takes them.
    pub fn flush(&mut self, now: Instant) {
        if self.is_over {
            return;
        }
        let fd = self.socket.as_raw_fd();
        match &mut self.http {
            Some(http) => http.flush(now, |bytes| sys::write(fd, bytes)),
            None => self.answers.flush(|bytes| sys::write(fd, bytes)),
        }
    }

    /// Why the connection has to be closed although something is due to it.
    pub fn overdue(&self, now: Instant) -> Option<&'static str> {
        let (at, reason) = self.http()?.deadline(self.is_blocked)?;
        (at <= now).then_some(reason)
    }

    /// Closes a connection that has nothing more to say. Returns whether it is closed.
    pub fn settle(&mut self, now: Instant) -> bool {
        if let Some(http) = &self.http {
            if !self.is_over && http.is_over() && !self.is_blocked {
                self.close();
            }
            return self.is_over;
        }
        if !self.is_over && self.stream.ended() && !self.is_blocked && !self.awaits_resume {
            let is_settled = self.answers.settled() >= self.stream.marked();
            if is_settled && self.stream.take_torn() {
                self.answers.say(0, TORN);
                self.flush(now);
            }
            let is_told = is_settled && !self.answers.is_ready();
            let is_late = self.gives_up().is_some_and(|at| at <= now);
            if is_told || is_late || self.answers.is_closed() {
                self.close();
            }
        }
        self.is_over
    }

    /// When to close although the last ack was not read.
    pub fn gives_up(&self) -> Option<Instant> {
        if let Some(http) = self.http() {
            return http.deadline(self.is_blocked).map(|(at, _)| at);
        }
        let is_due = self.answers.is_ready() && !self.is_over;
        self.ended.filter(|_| is_due).map(|at| at + LAST_ACK_WAIT)
    }

    /// Closes the connection; what was written is delivered.
    pub fn close(&mut self) {
        self.is_over = true;
        // Now and not on drop: a thousand may be closed in one turn.
        self.stream.forget();
        sys::end_writing(self.fd());
        let mut discarded = [0; 4096];
        for _ in 0..DRAIN_READS_MAX {
            if !sys::read(self.fd(), &mut discarded).is_ok_and(|n| n > 0) {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_nobody_goes_on_with_keeps_no_place() {
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = Peer {
            name: "peer".into(),
            uid: None,
        };
        let now = Instant::now();
        let precision = Precision::Ns;
        let mut client = Client::new(socket.into(), 1, 0, precision, None, &peer, now);
        assert_eq!(client.idle_since(now), Some(now));
        let read = |buffer: &mut [u8]| {
            buffer[..3].copy_from_slice(b"m v");
            Ok(3)
        };
        client.stream.put(read).unwrap();
        assert_eq!(client.idle_since(now + LEFT_AFTER / 2), None);
        assert_eq!(client.idle_since(now + LEFT_AFTER), Some(now));
    }
}

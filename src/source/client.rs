//! One connection: its first line, its readings, and its answers.
//!
//! A connection that names its client is not read before the writer has looked up the lines of that client. It is
//! over when its input has ended and the last ack is written, or when it is refused with one line that gives
//! the reason.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::reading::line::{LINE_BYTES_MAX, Precision};
use crate::reading::stream::{Excerpt, Intake, Reject, Stream, Taken};
use crate::reading::{self, Hello};
use crate::source::answers::Answers;
use crate::store::ack::{Ack, Resume};
use crate::sys;

/// Upper bound on a client's name.
pub const NAME_BYTES_MAX: usize = 128;
/// Upper bound on the wait for a client to read its last ack.
const LAST_ACK_WAIT: Duration = Duration::from_secs(60);
/// Reads discarded before a close, because unread input would reset the connection and could lose the
/// last answer.
const DRAIN_READS_MAX: usize = 16;

const HELLO: &[u8] = b"# client ";
const SPEAKS: &str = "this port speaks InfluxDB line protocol over a plain stream";

const TORN: &str = "the input ended inside a quoted string of several lines: from its first line on \
    nothing is settled";

/// Kind of a connection's first line.
#[derive(Debug, PartialEq, Eq)]
enum Opening<'a> {
    /// Not whole yet.
    More,
    Line,
    Client {
        name: &'a str,
        used: usize,
    },
    Wrong(String),
}

fn opening(bytes: &[u8]) -> Opening<'_> {
    // A TLS handshake record; no line begins with such a byte, and no newline may ever come.
    if bytes.starts_with(&[0x16, 0x03]) {
        return Opening::Wrong(format!("{SPEAKS}, not TLS"));
    }
    let Some(newline) = bytes.iter().position(|&b| b == b'\n') else {
        return if bytes.len() > LINE_BYTES_MAX {
            Opening::Line
        } else {
            Opening::More
        };
    };
    let line = &bytes[..newline];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if let Some(name) = line.strip_prefix(HELLO) {
        return match client_name(name) {
            Some(name) => Opening::Client {
                name,
                used: newline + 1,
            },
            None => Opening::Wrong(format!(
                "a client's name is 1 to {NAME_BYTES_MAX} bytes of UTF-8 without spaces or control bytes"
            )),
        };
    }
    if is_http(line) {
        return Opening::Wrong(format!("{SPEAKS}, not HTTP"));
    }
    Opening::Line
}

fn client_name(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name.trim_ascii()).ok()?;
    let is_good = |c: char| !c.is_control() && !c.is_whitespace();
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    (fits && name.chars().all(is_good)).then_some(name)
}

/// A request line: its last word would be the timestamp, and is `HTTP/…`.
fn is_http(line: &[u8]) -> bool {
    let version = line.rsplit(|&b| b == b' ').next().unwrap_or_default();
    version.starts_with(b"HTTP/") && line.first().is_some_and(u8::is_ascii_uppercase)
}

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
    pub answers: Answers,
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
        peer: &Peer,
        now: Instant,
    ) -> Self {
        Client {
            socket,
            stream: Stream::of_connection(id, precision),
            answers: Answers::default(),
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
        self.stream.waiting().len()
    }

    pub fn is_blocked(&self) -> bool {
        self.is_blocked && !self.is_over
    }

    /// Time of the last read, if no answer is due and no unfinished line is held.
    pub fn idle_since(&self) -> Option<Instant> {
        let is_settled = self.answers.settled() >= self.stream.marked() && !self.answers.is_ready();
        (self.is_open() && is_settled && self.held_bytes() == 0).then_some(self.active)
    }

    /// It named its client and waits for `resume`.
    pub fn awaits_resume(&self) -> bool {
        self.awaits_resume && !self.is_over
    }

    /// It has input or lines to take.
    pub fn wants_turn(&self) -> bool {
        !self.is_over && (self.is_blocked || self.is_ready)
    }

    /// It may be read.
    pub fn is_open(&self) -> bool {
        let waits = self.awaits_resume || self.is_blocked;
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
        memory: &mut Vec<u8>,
        to: &mut Intake<'_>,
        now: Instant,
        reject: Reject<'_>,
    ) -> Turn {
        self.stream.borrow(memory);
        if std::mem::take(&mut self.is_ready) && self.is_open() {
            self.read(now);
        }
        let turn = self.take(to, reject);
        self.stream.give_back(memory);
        self.is_blocked = matches!(turn, Turn::NoRoom);
        turn
    }

    fn read(&mut self, now: Instant) {
        let fd = self.fd();
        let read = self.stream.fill(|buffer| sys::read(fd, buffer));
        self.arrived_ns = sys::clock_ns(sys::Clock::Real);
        match read {
            Ok(()) => self.active = now,
            Err(e) if sys::is_passing(&e) => {}
            // A reset: whole lines before it count as any other.
            Err(_) => {
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
        if self.stream.is_new() && self.name.is_none() {
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
        self.answers.put(ack);
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

    /// Sends the reason, and closes.
    pub fn refuse(&mut self, line: u64, reason: &str) {
        self.answers.say(line, reason);
        self.flush();
        self.close();
    }

    /// Writes answers, as far as the socket takes them.
    pub fn flush(&mut self) {
        if self.is_over {
            return;
        }
        let fd = self.socket.as_raw_fd();
        self.answers.flush(|bytes| sys::write(fd, bytes));
    }

    /// Closes a connection that has nothing more to say. Returns whether it is closed.
    pub fn settle(&mut self, now: Instant) -> bool {
        if !self.is_over && self.stream.ended() && !self.is_blocked && !self.awaits_resume {
            let is_settled = self.answers.settled() >= self.stream.marked();
            if is_settled && self.stream.take_torn() {
                self.answers.say(0, TORN);
                self.flush();
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
    fn a_connection_is_known_by_its_first_line() {
        let client = |name, used| Opening::Client { name, used };
        assert_eq!(opening(b"# client a-1\nm v=1\n"), client("a-1", 13));
        assert_eq!(opening(b"# client a-1\r\n"), client("a-1", 14));
        assert_eq!(opening(b"# client gr\xc3\xbcn\n"), client("grün", 15));
        assert_eq!(opening(b"# client"), Opening::More);
        assert_eq!(opening(b"# clients are many\n"), Opening::Line);
        assert_eq!(opening(b"# comment\n"), Opening::Line);
        assert_eq!(opening(b"\n# client a\n"), Opening::Line);
        assert_eq!(opening(b"m v=1\n"), Opening::Line);
        for wrong in [
            &b"# client \n"[..],
            b"# client a b\n",
            b"# client \xff\n",
            b"GET /ping HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n",
            b"\x16\x03\x01\x02",
        ] {
            assert!(matches!(opening(wrong), Opening::Wrong(_)), "{wrong:?}");
        }
        assert!(matches!(
            opening(format!("# client {}\n", "n".repeat(NAME_BYTES_MAX + 1)).as_bytes()),
            Opening::Wrong(_)
        ));
        assert_eq!(opening(&vec![b'm'; LINE_BYTES_MAX]), Opening::More);
        assert_eq!(opening(&vec![b'm'; LINE_BYTES_MAX + 1]), Opening::Line);
    }
}

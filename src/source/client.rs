//! One connection: what it opens with, the lines that come of it, and what it is answered.
//!
//! A connection that gives a name is not read before the writer has told how far that name has come. It is
//! over when its input has ended and the last ack is written, or when it is refused with one line that says
//! why.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::reading::Hello;
use crate::reading::line::{LINE_BYTES_MAX, Precision};
use crate::reading::stream::{Intake, Reject, Stream, Taken};
use crate::source::answers::Answers;
use crate::store::ack::{Ack, Resume};
use crate::sys;

/// Bytes of a client's name.
pub const NAME_BYTES_MAX: usize = 128;
/// How long a client that has ended its input may leave its last ack unread.
const LAST_ACK_WAIT: Duration = Duration::from_secs(60);
/// Read and thrown away before a close, because unread input would reset the connection and could take the
/// last answer with it.
const DRAIN_READS_MAX: usize = 16;

const HELLO: &[u8] = b"# client ";
const SPEAKS: &str = "this port speaks InfluxDB line protocol over a plain stream";

const TORN: &str = "the input ended inside a quoted string of several lines: from its first line on \
    nothing is settled";

/// What the first line of a connection turns out to be.
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

/// A request line: three words, of which the last would be the timestamp, and is none.
fn is_http(line: &[u8]) -> bool {
    let version = line.rsplit(|&b| b == b' ').next().unwrap_or_default();
    version.starts_with(b"HTTP/") && line.first().is_some_and(u8::is_ascii_uppercase)
}

/// What came of a client's turn.
#[derive(Debug)]
pub enum Turn {
    Done,
    /// The next line waits for room in the queue.
    NoRoom,
    /// It gave its name.
    Hello(Hello),
    /// It does not speak what is spoken here, and was told.
    Refused(String),
}

#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    stream: Stream,
    pub answers: Answers,
    /// Shared, so that a turn has it beside the client and allocates nothing.
    pub peer: Rc<str>,
    /// Of the listener that it came by.
    pub source: usize,
    arrived_ns: i64,
    /// Its last line, or its connection.
    active: Instant,
    /// Lines that were read may wait for room in the queue.
    is_blocked: bool,
    /// The kernel says that there is something to read.
    pub is_ready: bool,
    name: Option<Arc<str>>,
    /// The name is given and not yet answered.
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
        peer: &str,
        now: Instant,
    ) -> Self {
        Client {
            socket,
            stream: Stream::of_connection(id, precision),
            answers: Answers::default(),
            peer: peer.into(),
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

    /// Since when nothing came of it and nothing is due to it; `None` while something is.
    pub fn idle_since(&self) -> Option<Instant> {
        let is_settled = self.answers.settled() >= self.stream.marked() && !self.answers.is_ready();
        (self.is_open() && is_settled && self.held_bytes() == 0).then_some(self.active)
    }

    /// It has said its name and was not told yet how far it has come.
    pub fn awaits_resume(&self) -> bool {
        self.awaits_resume && !self.is_over
    }

    /// A turn would move it on.
    pub fn wants_turn(&self) -> bool {
        !self.is_over && (self.is_blocked || self.is_ready)
    }

    /// More of its input would be taken.
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

    /// Reads once into `memory` if `read` says so, and moves whole lines on.
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
            // A reset: what came before it is whole lines as any other.
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
                    });
                }
                Opening::Wrong(reason) => {
                    to.batch.counts.rejected += 1;
                    reject(1, &reason);
                    self.refuse(1, &reason);
                    return Turn::Refused(reason);
                }
            }
        }
        let (answers, fd) = (&mut self.answers, self.socket.as_raw_fd());
        let taken = self.stream.take(to, self.arrived_ns, &mut |line, reason| {
            reject(line, reason);
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

    /// The writer has told how far the client has come.
    pub fn resume(&mut self, resume: Resume) {
        if let Some(name) = self.name.clone()
            && std::mem::take(&mut self.awaits_resume)
        {
            self.stream.resume(name, resume.lines());
            self.answers.resume(resume);
            // Lines may have come behind the name already.
            self.is_blocked = true;
        }
    }

    /// Says why, and ends.
    pub fn refuse(&mut self, line: u64, reason: &str) {
        self.answers.say(line, reason);
        self.flush();
        self.close();
    }

    /// Writes what can be told. Over when nothing more will be.
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

    /// When the last ack is no longer waited for.
    pub fn gives_up(&self) -> Option<Instant> {
        let is_due = self.answers.is_ready() && !self.is_over;
        self.ended.filter(|_| is_due).map(|at| at + LAST_ACK_WAIT)
    }

    /// The end of the connection: what was written is delivered, whatever was not read.
    pub fn close(&mut self) {
        self.is_over = true;
        // Not when it is taken off the list: a thousand may be closed in one turn.
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

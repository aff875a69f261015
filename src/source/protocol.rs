//! Protocols of a connection: `Lines` or `Http`. Neither reads the socket itself, so that both are tested without one.

use std::fmt::Debug;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::reading::Hello;
use crate::reading::stream::{Intake, Reject};
use crate::store::ack::Ack;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    pub name: Rc<str>,
    /// Known for a unix socket.
    pub uid: Option<u32>,
}

/// Memory to read into, shared by all connections.
#[derive(Debug, Default)]
pub struct Memory {
    pub lines: Vec<u8>,
    /// HTTP, before it is decoded.
    pub wire: Vec<u8>,
}

/// The clocks of a turn, and what is free.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub time: Instant,
    /// When the bytes came, for lines without a time.
    pub arrived_ns: i64,
    pub may_inflate: bool,
}

/// Result of a connection's turn.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// More has to come, or an answer is due first.
    Done,
    /// The next line waits for room in the queue.
    NoRoom,
    /// It named its client.
    Hello(Hello),
    /// It speaks another protocol, or a request was answered with an error.
    Refused(String),
}

/// Reads or writes once.
pub type Read<'a> = &'a mut dyn FnMut(&mut [u8]) -> io::Result<usize>;
pub type Write<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<usize>;

pub trait Protocol: Debug {
    /// All that grows with what a client sends and does not read.
    fn held_bytes(&self) -> usize;

    /// It may be read.
    fn is_open(&self) -> bool;

    /// No answer is due, and nothing is held that anybody goes on with after such a silence.
    fn is_idle(&self, silence: Duration) -> bool;

    /// Reads into `memory` from here on.
    fn borrow(&mut self, memory: &mut Memory);

    /// Returns the memory and keeps what waits.
    fn give_back(&mut self, memory: &mut Memory);

    /// Reads once. No byte is the end of the input.
    fn read(&mut self, now: Instant, read: Read<'_>) -> io::Result<()>;

    /// The connection is broken.
    fn cut(&mut self, now: Instant, error: &io::Error);

    /// Takes what was read, as far as there is room.
    fn take(&mut self, to: &mut Intake<'_>, now: Now, reject: Reject<'_>) -> Turn;

    fn put(&mut self, ack: Ack);

    /// An answer can be written.
    fn has_answer(&self) -> bool;

    /// Writes as much as `write` takes.
    fn flush(&mut self, now: Instant, write: Write<'_>);

    /// Everything that was read is answered, and nothing more will be read.
    fn is_over(&mut self, now: Instant) -> bool;

    /// When to close although something is due. `is_blocked`: lines wait for room.
    fn gives_up(&self, is_blocked: bool) -> Option<Instant>;

    /// Drops what is held.
    fn forget(&mut self);
}

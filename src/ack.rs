//! Acks: what a sender is told, and only of what is committed.

use crate::db::Committed;
use crate::reading::Mark;

/// The first `lines` lines of a stream are settled. Made from a commit and from nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    stream: u32,
    lines: u64,
}

impl Ack {
    /// The marks of a batch, settled by the commit of that batch.
    pub fn new(_proof: &Committed, mark: Mark) -> Self {
        Ack {
            stream: mark.stream,
            lines: mark.lines,
        }
    }

    pub fn stream(&self) -> u32 {
        self.stream
    }
}

/// What is still to be told on one output. Acks are cumulative: while the reader is slow, only the newest
/// is kept, so that a reader who never reads costs nothing.
#[derive(Debug, Default)]
pub struct Outbox {
    newest: Option<Ack>,
    /// A line of which the output has taken only a part.
    rest: Vec<u8>,
    closed: bool,
}

impl Outbox {
    pub fn put(&mut self, ack: Ack) {
        if !self.closed {
            self.newest = Some(ack);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.newest.is_none() && self.rest.is_empty()
    }

    /// Nobody will read any more.
    pub fn close(&mut self) {
        *self = Outbox {
            closed: true,
            ..Outbox::default()
        };
    }

    /// Writes what `write` takes; it is called only while there is something to write, and may take less.
    pub fn flush(&mut self, mut write: impl FnMut(&[u8]) -> std::io::Result<usize>) {
        if self.rest.is_empty()
            && let Some(ack) = self.newest.take()
        {
            self.rest = format!("ack {}\n", ack.lines).into_bytes();
        }
        if self.rest.is_empty() {
            return;
        }
        match write(&self.rest) {
            Ok(n) => drop(self.rest.drain(..n.min(self.rest.len()))),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.close(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(lines: u64) -> Ack {
        Ack { stream: 0, lines }
    }

    #[test]
    fn a_slow_reader_gets_fewer_acks_and_whole_lines() {
        let mut outbox = Outbox::default();
        let mut told: Vec<u8> = Vec::new();
        outbox.put(ack(1));
        outbox.flush(|bytes| {
            told.extend(&bytes[..2]);
            Ok(2)
        });
        outbox.put(ack(2));
        outbox.put(ack(3));
        while !outbox.is_empty() {
            outbox.flush(|bytes| {
                told.extend(bytes);
                Ok(bytes.len())
            });
        }
        assert_eq!(told, b"ack 1\nack 3\n");
    }

    #[test]
    fn a_closed_output_is_given_up() {
        let mut outbox = Outbox::default();
        outbox.put(ack(1));
        outbox.flush(|_| Err(std::io::ErrorKind::BrokenPipe.into()));
        outbox.put(ack(2));
        assert!(outbox.is_empty());
    }
}

//! Acks: what a sender is told, and only of what is committed.

use super::ledger::Committed;

/// The first `lines` lines of a stream are settled. Made from a commit and from nothing else:
///
/// ```compile_fail,E0451
/// let early = seawall::store::ack::Ack { stream: 0, lines: 1 };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    stream: u64,
    lines: u64,
}

impl Ack {
    /// What a commit settled.
    pub fn all(committed: &Committed) -> impl Iterator<Item = Ack> {
        committed.marks().iter().map(|mark| Ack {
            stream: mark.stream,
            lines: mark.lines,
        })
    }

    pub fn stream(&self) -> u64 {
        self.stream
    }

    pub fn lines(&self) -> u64 {
        self.lines
    }
}

/// How many lines of a stream's client are settled over all its connections; made from a commit too.
#[derive(Clone, Copy, Debug)]
pub struct Resume {
    stream: u64,
    lines: u64,
}

impl Resume {
    pub fn all(committed: &Committed) -> impl Iterator<Item = Resume> {
        committed.resumes().iter().map(|mark| Resume {
            stream: mark.stream,
            lines: mark.lines,
        })
    }

    pub fn stream(&self) -> u64 {
        self.stream
    }

    pub fn lines(&self) -> u64 {
        self.lines
    }
}

/// What is still to be told on one output. Acks are cumulative: while the reader is slow, only the newest
/// is kept, so that a reader who never reads costs nothing.
#[derive(Debug, Default)]
pub struct Outbox {
    newest: Option<Ack>,
    closed: bool,
}

impl Outbox {
    pub fn put(&mut self, ack: Ack) {
        if !self.closed {
            self.newest = Some(ack);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    /// Nobody will read any more.
    pub fn close(&mut self) {
        self.newest = None;
        self.closed = true;
    }

    /// Writes the newest ack, if `write` takes it.
    pub fn flush(&mut self, write: impl FnOnce(&[u8]) -> std::io::Result<()>) {
        let Some(ack) = self.newest else {
            return;
        };
        match write(format!("ack {}\n", ack.lines).as_bytes()) {
            Ok(()) => self.newest = None,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.close(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    fn ack(lines: u64) -> Ack {
        Ack { stream: 0, lines }
    }

    #[test]
    fn a_slow_reader_gets_fewer_acks() {
        let mut outbox = Outbox::default();
        outbox.put(ack(1));
        outbox.flush(|_| Err(ErrorKind::WouldBlock.into()));
        outbox.put(ack(2));
        outbox.put(ack(3));
        let mut told: Vec<u8> = Vec::new();
        outbox.flush(|bytes| {
            told.extend(bytes);
            Ok(())
        });
        assert!(outbox.is_empty());
        assert_eq!(told, b"ack 3\n");
    }

    #[test]
    fn a_closed_output_is_given_up() {
        let mut outbox = Outbox::default();
        outbox.put(ack(1));
        outbox.flush(|_| Err(ErrorKind::BrokenPipe.into()));
        outbox.put(ack(2));
        assert!(outbox.is_empty());
    }
}

//! The answers that are due to a connection, in the order of its requests: each waits for the commit of the lines before
//! it, and for the one before it to be written, so that what nobody reads stays small.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Instant;

use super::reply::{Health, Reply, ReplyForm, Wanted};

#[derive(Debug)]
pub enum Answer {
    Reply(Reply),
    Status(Wanted),
    Continue,
}

impl Answer {
    fn text_bytes(&self) -> usize {
        match self {
            Answer::Reply(reply) => reply.body.len(),
            Answer::Status(_) | Answer::Continue => 0,
        }
    }
}

/// An answer in its place.
#[derive(Debug)]
pub struct Due {
    /// Lines of the stream that have to be settled before.
    pub lines: u64,
    pub since: Instant,
    pub form: ReplyForm,
    pub answer: Answer,
}

#[derive(Debug, Default)]
pub struct Dues {
    queue: VecDeque<Due>,
    /// In these.
    text_bytes: usize,
    /// Being written.
    out: Vec<u8>,
    /// Lines settled by the newest ack.
    settled: u64,
}

impl Dues {
    pub fn push(&mut self, due: Due) {
        self.text_bytes += due.answer.text_bytes();
        self.queue.push_back(due);
    }

    /// So many lines are on the disk.
    pub fn settle(&mut self, lines: u64) {
        self.settled = lines;
    }

    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Answers that are not being written yet.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.out.is_empty()
    }

    /// An answer was not written whole.
    pub fn is_unread(&self) -> bool {
        !self.out.is_empty()
    }

    pub fn held_bytes(&self) -> usize {
        self.queue.capacity() * size_of::<Due>() + self.text_bytes + self.out.len()
    }

    /// Since when the next answer waits for its commit.
    pub fn unsettled_since(&self) -> Option<Instant> {
        let first = self.queue.front().filter(|due| due.lines > self.settled);
        first.map(|due| due.since)
    }

    fn first(&self) -> Option<&Due> {
        let first = self.queue.front().filter(|_| self.out.is_empty());
        first.filter(|due| due.lines <= self.settled)
    }

    fn take_first(&mut self) -> Option<Due> {
        self.first()?;
        let due = self.queue.pop_front()?;
        self.text_bytes -= due.answer.text_bytes();
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        Some(due)
    }

    /// The next answer is the health or the metrics.
    pub fn asks(&self) -> bool {
        let first = self.first();
        first.is_some_and(|due| matches!(due.answer, Answer::Status(_)))
    }

    pub fn answer(&mut self, health: &Health) {
        if self.asks()
            && let Some(due) = self.take_first()
            && let Answer::Status(wanted) = due.answer
        {
            Reply::of_health(wanted, health).render(due.form, &mut self.out);
        }
    }

    /// Something can be written.
    pub fn is_ready(&self) -> bool {
        !self.out.is_empty() || (self.first().is_some() && !self.asks())
    }

    /// Writes as much as `write` takes. Returns whether it took anything; an error where the connection is broken.
    pub fn flush(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<bool> {
        let mut has_written = false;
        while self.is_ready() {
            if !self.asks()
                && let Some(due) = self.take_first()
            {
                match due.answer {
                    Answer::Reply(reply) => reply.render(due.form, &mut self.out),
                    Answer::Continue => {
                        self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    Answer::Status(_) => {}
                }
            }
            match write(&self.out) {
                Ok(n) => {
                    self.out.drain(..n);
                    has_written = true;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(has_written),
                Err(e) => return Err(e),
            }
        }
        self.out = Vec::new();
        Ok(has_written)
    }
}

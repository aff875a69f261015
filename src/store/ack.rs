//! Acks, which can be made of commits only.

use super::ledger::Committed;
use crate::reading::{Resumed, StreamMark};

/// So many lines of a stream are settled. Made from a commit and from nothing else:
///
/// ```compile_fail,E0423
/// let early = seawall::store::ack::Ack(seawall::reading::StreamMark { stream: 0, lines: 1 });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ack(StreamMark);

impl Ack {
    /// Acks of a commit.
    pub fn all(committed: &Committed) -> impl Iterator<Item = Ack> {
        committed.marks().iter().copied().map(Ack)
    }

    pub fn stream(&self) -> u64 {
        self.0.stream
    }

    pub fn lines(&self) -> u64 {
        self.0.lines
    }
}

/// How many lines of a stream's client are settled over all its connections; made from a commit too.
#[derive(Clone, Copy, Debug)]
pub struct Resume(Resumed);

impl Resume {
    pub fn all(committed: &Committed) -> impl Iterator<Item = Resume> {
        committed.resumes().iter().copied().map(Resume)
    }

    pub fn stream(&self) -> u64 {
        self.0.stream
    }

    /// `None`: the name is another user's.
    pub fn lines(&self) -> Option<u64> {
        self.0.lines
    }
}

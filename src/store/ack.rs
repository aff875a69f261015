//! Acks, which can be made of commits only.

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
    /// Acks of a commit.
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
    lines: Option<u64>,
}

impl Resume {
    pub fn all(committed: &Committed) -> impl Iterator<Item = Resume> {
        committed.resumes().iter().map(|resumed| Resume {
            stream: resumed.stream,
            lines: resumed.lines,
        })
    }

    pub fn stream(&self) -> u64 {
        self.stream
    }

    /// `None`: the name is another user's.
    pub fn lines(&self) -> Option<u64> {
        self.lines
    }
}

//! Bytes that were read and not used yet. Of many connections only one is read at a time, so that they share
//! the memory to read into, and each holds only what it could not use yet.

use std::io;

/// Upper bound on one read.
pub const READ_BYTES: usize = 64 * 1024;

#[derive(Debug, Default)]
pub struct Buffer {
    /// Grows and never shrinks, so that no read has to clear it first.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// Bytes read and not used yet.
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The first `used` bytes that wait are used up.
    pub fn advance(&mut self, used: usize) {
        self.start += used;
    }

    /// Keeps only the first `count` bytes that wait.
    pub fn truncate(&mut self, count: usize) {
        self.end = self.start + count;
    }

    /// Reads once, behind the bytes that wait. Returns where the new ones begin among these, and their number.
    pub fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<(usize, usize)> {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let (held, full) = (self.end, self.end + READ_BYTES);
        if self.bytes.len() < full {
            self.bytes.resize(full, 0);
        }
        let count = read(&mut self.bytes[held..full])?;
        self.end += count;
        Ok((held, count))
    }

    /// Reads into `memory` from here on.
    pub fn borrow(&mut self, memory: &mut Vec<u8>) {
        let held = self.waiting().len();
        if memory.len() < held {
            memory.resize(held, 0);
        }
        memory[..held].copy_from_slice(self.waiting());
        (self.start, self.end) = (0, held);
        self.bytes = std::mem::take(memory);
    }

    /// Returns the memory and keeps what waits.
    pub fn give_back(&mut self, memory: &mut Vec<u8>) {
        let rest = self.waiting().to_vec();
        (self.start, self.end) = (0, rest.len());
        *memory = std::mem::replace(&mut self.bytes, rest);
    }

    /// Drops what is held.
    pub fn forget(&mut self) {
        *self = Buffer::default();
    }
}

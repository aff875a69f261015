//! A stream of line protocol: bytes in, whole lines out, in order, each accepted or rejected.
//!
//! It holds at most one line that is not whole and one read beyond it. Nothing is consumed before there
//! is room for it, so that a full queue is felt by the sender.

use std::fmt::Display;
use std::io;

use crate::line::{self, LINE_BYTES_MAX, Line, Outcome, Precision, Reason};
use crate::queue::Room;
use crate::reading::{Batch, Mark};
use crate::series::Interner;

const READ_BYTES: usize = 64 * 1024;

/// Why `take` came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All whole lines are taken.
    All,
    /// The next line waits for room.
    NoRoom,
}

#[derive(Debug)]
pub struct Stream {
    id: u32,
    precision: Precision,
    /// Somebody wants to know when lines are settled.
    awaited: bool,
    buffer: Vec<u8>,
    start: usize,
    /// Whether there may be a whole line in the buffer.
    fresh: bool,
    /// Lines taken so far.
    lines: u64,
    /// Within a line that was too long and is told already.
    skipping: bool,
    ended: bool,
    line: Line,
}

impl Stream {
    pub fn new(id: u32, precision: Precision, awaited: bool) -> Self {
        Stream {
            id,
            precision,
            awaited,
            buffer: Vec::new(),
            start: 0,
            fresh: false,
            lines: 0,
            skipping: false,
            ended: false,
            line: Line::default(),
        }
    }

    /// The end of the input was seen.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Reads once. The caller knows that the source is ready.
    pub fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let held = self.buffer.len();
        self.buffer.resize(held + READ_BYTES, 0);
        let result = read(&mut self.buffer[held..]);
        let got = *result.as_ref().unwrap_or(&0);
        self.buffer.truncate(held + got);
        self.ended |= result? == 0;
        // A sender of single bytes must not have the same line parsed again for each of them.
        self.fresh |= self.ended
            || self.skipping
            || self.buffer.len() > LINE_BYTES_MAX
            || self.buffer[held..].contains(&b'\n');
        Ok(())
    }

    /// Moves whole lines into `batch` while they fit. A record without a time gets `now_ns`. Each
    /// rejected line is told to `reject` with its number.
    pub fn take(
        &mut self,
        batch: &mut Batch,
        interner: &mut Interner,
        (room, rows_max): (Room, usize),
        now_ns: i64,
        reject: &mut dyn FnMut(u64, &dyn Display),
    ) -> Taken {
        let before = self.lines;
        let taken = self.take_lines(batch, interner, (room, rows_max), now_ns, reject);
        if self.awaited && self.lines > before {
            batch.awaited = true;
            batch.mark(Mark {
                stream: self.id,
                lines: self.lines,
            });
        }
        taken
    }

    fn take_lines(
        &mut self,
        batch: &mut Batch,
        interner: &mut Interner,
        (room, rows_max): (Room, usize),
        now_ns: i64,
        reject: &mut dyn FnMut(u64, &dyn Display),
    ) -> Taken {
        if !std::mem::take(&mut self.fresh) {
            return Taken::All;
        }
        loop {
            if self.skipping {
                self.skip_to_newline();
            }
            let input = &self.buffer[self.start..];
            if input.is_empty() {
                return Taken::All;
            }
            let number = self.lines + 1;
            match line::parse(input, self.ended, self.precision, &mut self.line) {
                Outcome::Incomplete => return Taken::All,
                Outcome::Nothing { used } => self.advance(used, 1),
                Outcome::Rejected { used, reason } => {
                    batch.counts.rejected += 1;
                    reject(number, &reason);
                    self.advance(used, 1);
                }
                Outcome::TooLong { used } => {
                    batch.counts.rejected += 1;
                    reject(number, &Reason::TOO_LONG);
                    self.start += used;
                    self.lines += 1;
                    self.skipping = true;
                }
                Outcome::Record { used, lines } => {
                    let fields = self.line.fields().len();
                    if fields > rows_max {
                        batch.counts.rejected += 1;
                        reject(
                            number,
                            &format_args!(
                                "{fields} readings in one line, --queue-rows is {rows_max}"
                            ),
                        );
                    } else if !room.fits(batch.rows().len() + fields, batch.text_bytes() + used) {
                        self.fresh = true;
                        return Taken::NoRoom;
                    } else {
                        self.accept(used, batch, interner, now_ns);
                    }
                    self.advance(used, lines);
                }
            }
        }
    }

    fn accept(&self, used: usize, batch: &mut Batch, interner: &mut Interner, now_ns: i64) {
        let input = &self.buffer[self.start..self.start + used];
        let line = &self.line;
        let time_ns = line.time_ns().unwrap_or(now_ns);
        let sensor = line.sensor(input);
        for field in line.fields() {
            let key = line.field_key(input, field);
            let slot = interner.slot(batch, sensor, key, field.kind, || {
                let name = line.field_name(input, field);
                (line.canonical_sensor(input).into(), name.into())
            });
            batch.push(time_ns, slot, line.value(field));
        }
    }

    fn advance(&mut self, used: usize, lines: u32) {
        self.start += used;
        self.lines += u64::from(lines);
    }

    /// The line was counted when it was found too long.
    fn skip_to_newline(&mut self) {
        let input = &self.buffer[self.start..];
        match input.iter().position(|&b| b == b'\n') {
            Some(newline) => {
                self.start += newline + 1;
                self.skipping = false;
            }
            None => self.start = self.buffer.len(),
        }
    }
}

const _: () = assert!(READ_BYTES >= LINE_BYTES_MAX);

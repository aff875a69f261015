//! Inflates gzip (RFC 1951, RFC 1952) as it arrives: bytes in, bytes out, cut anywhere.
//!
//! It accepts what zlib accepts: whole members, one behind another, with the right checksums and lengths. Work and
//! memory are bounded by the bytes given and the room for the result. Called for the bodies of requests. Pure.

mod code;
mod crc;

use code::{Bits, Code, Pause, SYMBOLS_MAX, check};
use crc::crc32;

const WINDOW_BYTES: usize = 32 * 1024;
const LITERALS: usize = 286;
const DISTANCES: usize = 30;
const END_OF_BLOCK: usize = 256;
/// The longest symbol: a length of 15 bits and 5 more, a distance of 15 and 13 more.
const SYMBOL_BITS_MAX: i32 = 48;

const HAS_SUM: u8 = 2;
const HAS_EXTRA: u8 = 4;
const HAS_TEXTS: u8 = 8 | 16;
const RESERVED: u8 = 0xe0;

/// Order of the lengths of the code that the other codes' lengths are written in.
const ORDER: [u8; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// Part of a member that comes next, in order.
#[derive(Clone, Copy, Debug)]
enum MemberPart {
    /// With the bytes of the header so far.
    Header(usize),
    ExtraLength,
    Extra(usize),
    /// The file's name and a comment, as far as they are there.
    Texts(u32),
    HeaderSum,
    Block,
    StoredLength,
    Stored(usize),
    Counts,
    /// The code that the other codes' lengths are written in.
    CodeLengths,
    Lengths,
    Symbols,
    Sum,
    Length,
    Damaged(&'static str),
}

/// One call's input that is left, and its output.
struct Flow<'a> {
    input: &'a [u8],
    out: &'a mut [u8],
    /// Written.
    at: usize,
    /// Written, and in the member's sum and length.
    summed: usize,
}

/// A gzip body on its way through.
#[derive(Debug)]
pub struct Inflate {
    part: MemberPart,
    bits: Bits,
    members: u64,
    flags: u8,
    /// CRC-32 of the header, then of the output of the member.
    sum: u32,
    length: u64,
    is_last_block: bool,
    /// The codes are those of fixed blocks, which a bomb of empty ones must not have built for each.
    is_fixed: bool,
    counts: [usize; 3],
    lengths: [u8; LITERALS + DISTANCES],
    lengths_known: usize,
    literals: Code,
    distances: Code,
    /// Bytes that are still to be copied from so far back.
    copies: usize,
    distance: usize,
    /// The last of the output before this call, as a ring that ends at `window_end`.
    window: Vec<u8>,
    window_end: usize,
}

impl Inflate {
    pub fn new() -> Box<Inflate> {
        Box::new(Inflate {
            part: MemberPart::Header(0),
            bits: Bits::default(),
            members: 0,
            flags: 0,
            sum: 0,
            length: 0,
            is_last_block: false,
            is_fixed: false,
            counts: [0; 3],
            lengths: [0; LITERALS + DISTANCES],
            lengths_known: 0,
            literals: Code::EMPTY,
            distances: Code::EMPTY,
            copies: 0,
            distance: 0,
            window: vec![0; WINDOW_BYTES],
            window_end: 0,
        })
    }

    /// The input so far is one or more whole members, and nothing behind them.
    pub fn is_whole(&self) -> bool {
        self.members > 0 && matches!(self.part, MemberPart::Header(0)) && self.bits.held == 0
    }

    /// Inflates from the beginning of `input` into `out`. Returns the bytes used of `input` and written to `out`;
    /// what lies behind these in `out` may be written over. Returns only when `input` is used up and everything that
    /// can be decoded from it was written, or `out` is full: then there may be more without any input.
    pub fn inflate(
        &mut self,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<(usize, usize), &'static str> {
        let mut flow = Flow {
            input,
            out,
            at: 0,
            summed: 0,
        };
        loop {
            match self.part(&mut flow) {
                Ok(()) => {}
                Err(Pause::Waits) => break,
                Err(Pause::Damaged(reason)) => {
                    self.part = MemberPart::Damaged(reason);
                    return Err(reason);
                }
            }
        }
        self.count(&mut flow);
        self.keep(&flow.out[..flow.at]);
        Ok((input.len() - flow.input.len(), flow.at))
    }

    fn part(&mut self, flow: &mut Flow) -> Result<(), Pause> {
        let part = self.part;
        self.part = match part {
            MemberPart::Header(at) => {
                if at == 0 {
                    (self.sum, self.length) = (0, 0);
                }
                let byte = self.header_bytes(1, flow)? as u8;
                let is_gzip = at > 1 || byte == [0x1f, 0x8b][at];
                check(is_gzip, "gzip: this is no gzip")?;
                check(at != 2 || byte == 8, "gzip: the method is unknown")?;
                if at == 3 {
                    check(byte & RESERVED == 0, "gzip: the flags are unknown")?;
                    self.flags = byte;
                }
                if at < 9 {
                    MemberPart::Header(at + 1)
                } else {
                    MemberPart::ExtraLength
                }
            }
            MemberPart::ExtraLength if self.flags & HAS_EXTRA != 0 => {
                MemberPart::Extra(self.header_bytes(2, flow)?)
            }
            MemberPart::ExtraLength | MemberPart::Extra(0) => {
                MemberPart::Texts((self.flags & HAS_TEXTS).count_ones())
            }
            MemberPart::Extra(left) => {
                self.header_bytes(1, flow)?;
                MemberPart::Extra(left - 1)
            }
            MemberPart::Texts(0) => MemberPart::HeaderSum,
            MemberPart::Texts(left) if self.header_bytes(1, flow)? == 0 => {
                MemberPart::Texts(left - 1)
            }
            MemberPart::Texts(left) => MemberPart::Texts(left),
            MemberPart::HeaderSum => {
                let sum = self.sum as u16;
                let is_right = self.flags & HAS_SUM == 0 || self.take(16, flow)? == sum.into();
                check(is_right, "gzip: the header's checksum differs")?;
                self.sum = 0;
                MemberPart::Block
            }
            MemberPart::Block => {
                let head = self.take(3, flow)?;
                self.is_last_block = head & 1 != 0;
                match head >> 1 {
                    0 => {
                        self.align();
                        MemberPart::StoredLength
                    }
                    1 => {
                        self.fix()?;
                        MemberPart::Symbols
                    }
                    2 => MemberPart::Counts,
                    _ => return Err("gzip: the kind of a block is unknown".into()),
                }
            }
            MemberPart::StoredLength => {
                let both = self.take(32, flow)?;
                let is_right = both & 0xffff == !both >> 16 & 0xffff;
                check(is_right, "gzip: the length of a stored block is damaged")?;
                MemberPart::Stored(both & 0xffff)
            }
            MemberPart::Stored(0) => self.end_block(),
            MemberPart::Stored(left) => MemberPart::Stored(left - self.stored(left, flow)?),
            MemberPart::Counts => {
                let counts = self.take(14, flow)?;
                self.counts = [
                    257 + (counts & 31),
                    1 + (counts >> 5 & 31),
                    4 + (counts >> 10),
                ];
                let are_few = self.counts[0] <= LITERALS && self.counts[1] <= DISTANCES;
                check(are_few, "gzip: a block has too many symbols")?;
                self.is_fixed = false;
                self.lengths = [0; LITERALS + DISTANCES];
                self.lengths_known = 0;
                MemberPart::CodeLengths
            }
            MemberPart::CodeLengths => {
                while self.lengths_known < self.counts[2] {
                    let place = usize::from(ORDER[self.lengths_known]);
                    self.lengths[place] = self.take(3, flow)? as u8;
                    self.lengths_known += 1;
                }
                // It takes the place of a code that is not known yet.
                let is_complete = self.distances.build(&self.lengths[..ORDER.len()])?;
                check(is_complete, "gzip: a block's code is incomplete")?;
                self.lengths_known = 0;
                MemberPart::Lengths
            }
            MemberPart::Lengths => self.lengths(flow)?,
            MemberPart::Symbols => self.symbols(flow)?,
            MemberPart::Sum => {
                let sum = self.take(32, flow)?;
                self.count(flow);
                check(sum == self.sum as usize, "gzip: the checksum differs")?;
                MemberPart::Length
            }
            MemberPart::Length => {
                let length = self.take(32, flow)?;
                check(
                    length == self.length as u32 as usize,
                    "gzip: the length differs",
                )?;
                self.members += 1;
                MemberPart::Header(0)
            }
            MemberPart::Damaged(reason) => return Err(reason.into()),
        };
        Ok(())
    }

    /// Takes so many bits, or none of them.
    fn take(&mut self, count: u32, flow: &mut Flow) -> Result<usize, Pause> {
        self.bits.fill(&mut flow.input);
        let mut bits = self.bits;
        let taken = bits.take(count);
        self.bits = bits.enough()?;
        Ok(taken)
    }

    fn header_bytes(&mut self, count: usize, flow: &mut Flow) -> Result<usize, Pause> {
        let value = self.take(8 * count as u32, flow)?;
        self.sum = crc32(self.sum, &value.to_le_bytes()[..count]);
        Ok(value)
    }

    /// Drops the bits up to the next byte.
    fn align(&mut self) {
        self.bits.take(self.bits.held as u32 % 8);
    }

    fn end_block(&mut self) -> MemberPart {
        if !self.is_last_block {
            return MemberPart::Block;
        }
        self.align();
        MemberPart::Sum
    }

    /// Adds what was written to the member's sum and length.
    fn count(&mut self, flow: &mut Flow) {
        let new = &flow.out[flow.summed..flow.at];
        self.sum = crc32(self.sum, new);
        self.length += new.len() as u64;
        flow.summed = flow.at;
    }

    fn stored(&mut self, left: usize, flow: &mut Flow) -> Result<usize, Pause> {
        let room = &mut flow.out[flow.at..];
        let copied = if self.bits.held > 0 && !room.is_empty() {
            room[0] = self.bits.take(8) as u8;
            1
        } else {
            let copied = left.min(room.len()).min(flow.input.len());
            room[..copied].copy_from_slice(&flow.input[..copied]);
            flow.input = &flow.input[copied..];
            copied
        };
        flow.at += copied;
        if copied == 0 {
            return Err(Pause::Waits);
        }
        Ok(copied)
    }

    fn lengths(&mut self, flow: &mut Flow) -> Result<MemberPart, Pause> {
        let [literals, distances, _] = self.counts;
        let all = literals + distances;
        while self.lengths_known < all {
            let known = self.lengths_known;
            self.bits.fill(&mut flow.input);
            let mut bits = self.bits;
            let symbol = bits.symbol(&self.distances);
            let (length, times) = match symbol {
                16 if known == 0 => (Err("gzip: a block's first length repeats"), 3),
                16 => (Ok(self.lengths[known - 1]), 3 + bits.take(2)),
                17 => (Ok(0), 3 + bits.take(3)),
                18 => (Ok(0), 11 + bits.take(7)),
                length => (Ok(length as u8 & 15), 1),
            };
            self.bits = bits.enough()?;
            let places = self.lengths[..all].get_mut(known..known + times);
            places
                .ok_or("gzip: a block has too many lengths")?
                .fill(length?);
            self.lengths_known += times;
        }
        let (lengths, others) = self.lengths[..all].split_at(literals);
        check(lengths[END_OF_BLOCK] > 0, "gzip: a block has no end")?;
        let both = [(&mut self.literals, lengths), (&mut self.distances, others)];
        for (code, lengths) in both {
            let is_complete = code.build(lengths)?;
            check(
                is_complete || code.is_single(),
                "gzip: a block's code is incomplete",
            )?;
        }
        Ok(MemberPart::Symbols)
    }

    /// The codes of fixed blocks.
    fn fix(&mut self) -> Result<(), Pause> {
        if std::mem::replace(&mut self.is_fixed, true) {
            return Ok(());
        }
        self.lengths = [8; LITERALS + DISTANCES];
        self.lengths[144..END_OF_BLOCK].fill(9);
        self.lengths[END_OF_BLOCK..280].fill(7);
        self.literals.build(&self.lengths[..SYMBOLS_MAX])?;
        self.distances.build(&[5; 32])?;
        Ok(())
    }

    /// Decodes to the end of the block. A symbol is decoded whole or not at all.
    fn symbols(&mut self, flow: &mut Flow) -> Result<MemberPart, Pause> {
        loop {
            self.copy(flow);
            if self.copies > 0 {
                return Err(Pause::Waits);
            }
            if self.bits.held < SYMBOL_BITS_MAX {
                self.bits.fill(&mut flow.input);
            }
            let mut bits = self.bits;
            let mut symbol = bits.symbol(&self.literals);
            while symbol < END_OF_BLOCK {
                let Some(byte) = flow.out.get_mut(flow.at).filter(|_| bits.held >= 0) else {
                    return Err(Pause::Waits);
                };
                *byte = symbol as u8;
                flow.at += 1;
                self.bits = bits;
                if bits.held < SYMBOL_BITS_MAX {
                    self.bits.fill(&mut flow.input);
                    bits = self.bits;
                }
                symbol = bits.symbol(&self.literals);
            }
            bits = bits.enough()?;
            if symbol == END_OF_BLOCK {
                self.bits = bits;
                return Ok(self.end_block());
            }
            let length = match symbol - END_OF_BLOCK - 1 {
                symbol @ 0..28 => 3 + bits.within(symbol, 2),
                28 => 258,
                _ => return Err("gzip: a symbol is unknown".into()),
            };
            let symbol = bits.symbol(&self.distances);
            bits = bits.enough()?;
            check(symbol < DISTANCES, "gzip: a distance is unknown")?;
            let distance = 1 + bits.within(symbol, 1);
            self.bits = bits.enough()?;
            let written = self.length + (flow.at - flow.summed) as u64;
            let is_there = distance as u64 <= written;
            check(is_there, "gzip: a distance goes back before the beginning")?;
            (self.copies, self.distance) = (length, distance);
        }
    }

    /// Copies what was written before, as far as there is room.
    fn copy(&mut self, flow: &mut Flow) {
        let out = &mut *flow.out;
        if (8..=flow.at).contains(&self.distance) && flow.at + self.copies + 8 <= out.len() {
            // Most copies are so short that steps of a fixed size are faster than the right size.
            let (mut at, end) = (flow.at, flow.at + self.copies);
            while at < end {
                let bytes: Option<[u8; 8]> = out[at - self.distance..].first_chunk().copied();
                if let (Some(to), Some(bytes)) = (out[at..].first_chunk_mut(), bytes) {
                    *to = bytes;
                }
                at += 8;
            }
            (flow.at, self.copies) = (end, 0);
        }
        while self.copies > 0 && flow.at < out.len() {
            let room = self.copies.min(out.len() - flow.at);
            let copied = if self.distance > flow.at {
                let back = self.distance - flow.at;
                let from = (WINDOW_BYTES + self.window_end - back) % WINDOW_BYTES;
                let copied = room.min(back).min(WINDOW_BYTES - from);
                out[flow.at..flow.at + copied].copy_from_slice(&self.window[from..from + copied]);
                copied
            } else {
                let from = flow.at - self.distance;
                let copied = room.min(self.distance);
                out.copy_within(from..from + copied, flow.at);
                if copied == self.distance {
                    // The output repeats after twice the distance too.
                    self.distance *= 2;
                }
                copied
            };
            flow.at += copied;
            self.copies -= copied;
        }
    }

    /// Keeps the end of the output for the next call.
    fn keep(&mut self, out: &[u8]) {
        let end = &out[out.len().saturating_sub(WINDOW_BYTES)..];
        let (first, rest) = end.split_at(end.len().min(WINDOW_BYTES - self.window_end));
        self.window[self.window_end..self.window_end + first.len()].copy_from_slice(first);
        self.window[..rest.len()].copy_from_slice(rest);
        self.window_end = (self.window_end + end.len()) % WINDOW_BYTES;
    }
}

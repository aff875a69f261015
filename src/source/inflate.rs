//! Inflates gzip (RFC 1951, RFC 1952) as it arrives: bytes in, bytes out, cut anywhere.
//!
//! It accepts what zlib accepts: whole members, one behind another, with the right checksums and lengths. Work and
//! memory are bounded by the bytes given and the room for the result. Called for the bodies of requests. Pure.

const WINDOW_BYTES: usize = 32 * 1024;
/// Codes of up to so many bits are looked up at once.
const FAST_BITS: u32 = 9;
const SYMBOLS_MAX: usize = 288;
const LENGTHS_MAX: usize = 286 + 30;
const END_OF_BLOCK: usize = 256;
/// Stands for bits that are no code.
const NO_SYMBOL: usize = 0xfff;
/// The longest symbol: a length of 15 bits and 5 more, a distance of 15 and 13 more.
const SYMBOL_BITS_MAX: i32 = 48;

const HAS_SUM: u8 = 2;
const HAS_EXTRA: u8 = 4;
const HAS_NAME: u8 = 8;
const HAS_COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

/// By symbol: the first of a range, and the number of bits that say where in the range.
type Ranges<const N: usize> = [(u16, u8); N];

/// Lengths, by symbol from 257 on.
const LENGTHS: Ranges<29> = {
    let mut ranges = ranges(3, 4);
    // The longest has a symbol of its own.
    ranges[28] = (258, 0);
    ranges
};
const DISTANCES: Ranges<30> = ranges(1, 2);
/// Order of the lengths of the code that the other codes' lengths are written in.
const ORDER: [u8; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];
const CRC: [u32; 256] = crc_table();

/// Ranges without a gap, in groups of which each but the second has one bit more than the one before.
const fn ranges<const N: usize>(first: u16, group: usize) -> Ranges<N> {
    let mut ranges = [(first, 0); N];
    let mut n = 1;
    while n < N {
        let (start, bits) = ranges[n - 1];
        ranges[n] = (start + (1 << bits), (n / group).saturating_sub(1) as u8);
        n += 1;
    }
    ranges
}

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let (mut sum, mut bit) = (n as u32, 0);
        while bit < 8 {
            sum = (sum >> 1) ^ (0xedb8_8320 * (sum & 1));
            bit += 1;
        }
        table[n] = sum;
        n += 1;
    }
    table
}

fn crc32(sum: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!sum, |sum, &byte| {
        sum >> 8 ^ CRC[usize::from(sum as u8 ^ byte)]
    })
}

/// Why a step did not finish.
enum Pause {
    /// It waits for input, or for room.
    Waits,
    Damaged(&'static str),
}

fn damaged<T>(reason: &'static str) -> Result<T, Pause> {
    Err(Pause::Damaged(reason))
}

/// Bits that were taken from the input, the first one lowest.
#[derive(Clone, Copy, Debug, Default)]
struct Bits {
    word: u64,
    /// Negative where more were skipped than there are.
    held: i32,
}

impl Bits {
    /// Takes bytes from the input until it is empty or more than 55 bits are held.
    fn fill(&mut self, input: &mut &[u8]) {
        if let Some(next) = input.first_chunk() {
            self.word |= u64::from_le_bytes(*next) << self.held;
            let bytes = (63 - self.held) / 8;
            self.held += bytes * 8;
            self.word &= (1 << self.held) - 1;
            *input = &input[bytes as usize..];
        }
        while self.held <= 55
            && let Some((byte, rest)) = input.split_first()
        {
            self.word |= u64::from(*byte) << self.held;
            self.held += 8;
            *input = rest;
        }
    }

    /// Zeros stand for bits that are not held.
    fn take(&mut self, count: u32) -> usize {
        let taken = self.word & ((1 << count) - 1);
        self.word >>= count;
        self.held -= count as i32;
        taken as usize
    }

    fn symbol(&mut self, code: &Code) -> usize {
        let entry = code.fast[self.word as usize % code.fast.len()];
        if entry == 0 {
            return code.slow(self);
        }
        self.take(u32::from(entry & 15));
        usize::from(entry >> 4)
    }
}

/// A canonical Huffman code.
#[derive(Debug)]
struct Code {
    /// Symbol and length by the next bits; 0 where the code is longer, or there is none.
    fast: [u16; 1 << FAST_BITS],
    /// Number of codes by length.
    counts: [u16; 16],
    /// In the order of their codes.
    symbols: [u16; SYMBOLS_MAX],
}

impl Code {
    const EMPTY: Code = Code {
        fast: [0; 1 << FAST_BITS],
        counts: [0; 16],
        symbols: [0; SYMBOLS_MAX],
    };

    /// Whether each sequence of bits is a code; none for lengths that no code has.
    fn build(&mut self, lengths: &[u8]) -> Option<bool> {
        self.counts = [0; 16];
        for &length in lengths {
            self.counts[usize::from(length)] += 1;
        }
        self.counts[0] = 0;
        let (mut left, mut code, mut index) = (1, 0, 0);
        let (mut codes, mut indices) = ([0u16; 16], [0; 16]);
        for (length, &count) in self.counts.iter().enumerate().skip(1) {
            left = left * 2 - i32::from(count);
            if left < 0 {
                return None;
            }
            code *= 2;
            (codes[length], indices[length]) = (code, index);
            code += count;
            index += usize::from(count);
        }
        self.fast.fill(0);
        for (symbol, &length) in lengths
            .iter()
            .enumerate()
            .filter(|(_, length)| **length > 0)
        {
            let (n, bits) = (usize::from(length), u32::from(length));
            self.symbols[indices[n]] = symbol as u16;
            indices[n] += 1;
            if bits <= FAST_BITS {
                let first = usize::from(codes[n].reverse_bits() >> (16 - bits));
                for entry in self.fast.iter_mut().skip(first).step_by(1 << bits) {
                    *entry = (symbol as u16) << 4 | u16::from(length);
                }
                codes[n] += 1;
            }
        }
        Some(left == 0)
    }

    /// At most one code, of one bit: the only ones that may leave bits without a symbol.
    fn is_single(&self) -> bool {
        self.counts[1] < 2 && self.counts[2..].iter().all(|&count| count == 0)
    }

    #[cold]
    #[inline(never)]
    fn slow(&self, bits: &mut Bits) -> usize {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for (length, &count) in self.counts.iter().enumerate().skip(1) {
            let count = usize::from(count);
            code += (bits.word >> (length - 1)) as usize & 1;
            if code < first + count {
                bits.take(length as u32);
                let symbol = self.symbols.get(index + code - first);
                return symbol.map_or(NO_SYMBOL, |&symbol| usize::from(symbol));
            }
            index += count;
            (first, code) = ((first + count) * 2, code * 2);
        }
        bits.take(1);
        NO_SYMBOL
    }
}

/// What comes next, in the order of a member.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// With the bytes of the header so far.
    Header(usize),
    ExtraLength,
    Extra(usize),
    Name,
    Comment,
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
    /// Of these the member's sum and length know.
    summed: usize,
}

/// A gzip body on its way through.
#[derive(Debug)]
pub struct Inflate {
    step: Step,
    bits: Bits,
    members: u64,
    flags: u8,
    /// Of the header, then of the output of the member.
    sum: u32,
    length: u64,
    is_last_block: bool,
    /// The codes are those of fixed blocks, which a bomb of empty ones must not have built for each.
    is_fixed: bool,
    counts: [usize; 3],
    lengths: [u8; LENGTHS_MAX],
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
            step: Step::Header(0),
            bits: Bits::default(),
            members: 0,
            flags: 0,
            sum: 0,
            length: 0,
            is_last_block: false,
            is_fixed: false,
            counts: [0; 3],
            lengths: [0; LENGTHS_MAX],
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
        self.members > 0 && matches!(self.step, Step::Header(0)) && self.bits.held == 0
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
            match self.step(&mut flow) {
                Ok(()) => {}
                Err(Pause::Waits) => break,
                Err(Pause::Damaged(reason)) => {
                    self.step = Step::Damaged(reason);
                    return Err(reason);
                }
            }
        }
        self.count(&mut flow);
        self.keep(&flow.out[..flow.at]);
        Ok((input.len() - flow.input.len(), flow.at))
    }

    fn step(&mut self, flow: &mut Flow) -> Result<(), Pause> {
        self.step = match self.step {
            Step::Header(at) => {
                if at == 0 {
                    (self.sum, self.length) = (0, 0);
                }
                let byte = self.header_bytes(1, flow)? as u8;
                match at {
                    0 if byte != 0x1f => return damaged("gzip: this is no gzip"),
                    1 if byte != 0x8b => return damaged("gzip: this is no gzip"),
                    2 if byte != 8 => return damaged("gzip: the method is unknown"),
                    3 if byte & RESERVED != 0 => return damaged("gzip: the flags are unknown"),
                    3 => self.flags = byte,
                    _ => {}
                }
                if at < 9 {
                    Step::Header(at + 1)
                } else {
                    Step::ExtraLength
                }
            }
            Step::ExtraLength if self.flags & HAS_EXTRA != 0 => {
                Step::Extra(self.header_bytes(2, flow)?)
            }
            Step::ExtraLength | Step::Extra(0) => Step::Name,
            Step::Extra(left) => {
                self.header_bytes(1, flow)?;
                Step::Extra(left - 1)
            }
            Step::Name => {
                if self.flags & HAS_NAME == 0 || self.header_bytes(1, flow)? == 0 {
                    Step::Comment
                } else {
                    Step::Name
                }
            }
            Step::Comment => {
                if self.flags & HAS_COMMENT == 0 || self.header_bytes(1, flow)? == 0 {
                    Step::HeaderSum
                } else {
                    Step::Comment
                }
            }
            Step::HeaderSum => {
                let sum = self.sum as u16;
                if self.flags & HAS_SUM != 0 && self.take(16, flow)? != usize::from(sum) {
                    return damaged("gzip: the header's checksum differs");
                }
                self.sum = 0;
                Step::Block
            }
            Step::Block => {
                let head = self.take(3, flow)?;
                self.is_last_block = head & 1 != 0;
                match head >> 1 {
                    0 => {
                        self.align();
                        Step::StoredLength
                    }
                    1 => {
                        self.fix();
                        Step::Symbols
                    }
                    2 => Step::Counts,
                    _ => return damaged("gzip: the kind of a block is unknown"),
                }
            }
            Step::StoredLength => {
                let both = self.take(32, flow)?;
                if both & 0xffff != !both >> 16 & 0xffff {
                    return damaged("gzip: the length of a stored block is damaged");
                }
                Step::Stored(both & 0xffff)
            }
            Step::Stored(0) => self.end_block(),
            Step::Stored(left) => Step::Stored(left - self.stored(left, flow)?),
            Step::Counts => {
                let counts = self.take(14, flow)?;
                self.counts = [
                    257 + (counts & 31),
                    1 + (counts >> 5 & 31),
                    4 + (counts >> 10),
                ];
                if self.counts[0] > 286 || self.counts[1] > 30 {
                    return damaged("gzip: a block has too many symbols");
                }
                self.is_fixed = false;
                self.lengths = [0; LENGTHS_MAX];
                self.lengths_known = 0;
                Step::CodeLengths
            }
            Step::CodeLengths => {
                while self.lengths_known < self.counts[2] {
                    let place = usize::from(ORDER[self.lengths_known]);
                    self.lengths[place] = self.take(3, flow)? as u8;
                    self.lengths_known += 1;
                }
                // It takes the place of a code that is not known yet.
                if self.distances.build(&self.lengths[..ORDER.len()]) != Some(true) {
                    return damaged("gzip: the code of the lengths is damaged");
                }
                self.lengths_known = 0;
                Step::Lengths
            }
            Step::Lengths => self.lengths(flow)?,
            Step::Symbols => self.symbols(flow)?,
            Step::Sum => {
                let sum = self.take(32, flow)?;
                self.count(flow);
                if sum != self.sum as usize {
                    return damaged("gzip: the checksum differs");
                }
                Step::Length
            }
            Step::Length => {
                if self.take(32, flow)? != self.length as u32 as usize {
                    return damaged("gzip: the length differs");
                }
                self.members += 1;
                Step::Header(0)
            }
            Step::Damaged(reason) => return damaged(reason),
        };
        Ok(())
    }

    /// Takes so many bits, or none of them.
    fn take(&mut self, count: u32, flow: &mut Flow) -> Result<usize, Pause> {
        self.bits.fill(&mut flow.input);
        if self.bits.held < count as i32 {
            return Err(Pause::Waits);
        }
        Ok(self.bits.take(count))
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

    fn end_block(&mut self) -> Step {
        if !self.is_last_block {
            return Step::Block;
        }
        self.align();
        Step::Sum
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

    fn lengths(&mut self, flow: &mut Flow) -> Result<Step, Pause> {
        let [literals, distances, _] = self.counts;
        let all = literals + distances;
        while self.lengths_known < all {
            let known = self.lengths_known;
            self.bits.fill(&mut flow.input);
            let mut bits = self.bits;
            let symbol = bits.symbol(&self.distances);
            let (length, times) = match symbol {
                16 if known == 0 && bits.held >= 0 => {
                    return damaged("gzip: no length is there to be repeated");
                }
                16 => (self.lengths[known.saturating_sub(1)], 3 + bits.take(2)),
                17 => (0, 3 + bits.take(3)),
                18 => (0, 11 + bits.take(7)),
                length => (length as u8, 1),
            };
            if bits.held < 0 {
                return Err(Pause::Waits);
            }
            let Some(lengths) = self.lengths[..all].get_mut(known..known + times) else {
                return damaged("gzip: a block has too many lengths");
            };
            lengths.fill(length);
            self.lengths_known += times;
            self.bits = bits;
        }
        let (lengths, others) = self.lengths[..all].split_at(literals);
        for (code, lengths) in [(&mut self.literals, lengths), (&mut self.distances, others)] {
            let Some(is_complete) = code.build(lengths) else {
                return damaged("gzip: a block's code is damaged");
            };
            if !is_complete && !code.is_single() {
                return damaged("gzip: a block's code is incomplete");
            }
        }
        if lengths[END_OF_BLOCK] == 0 {
            return damaged("gzip: a block has no end");
        }
        Ok(Step::Symbols)
    }

    /// The codes of fixed blocks.
    fn fix(&mut self) {
        if std::mem::replace(&mut self.is_fixed, true) {
            return;
        }
        self.lengths = [8; LENGTHS_MAX];
        self.lengths[144..END_OF_BLOCK].fill(9);
        self.lengths[END_OF_BLOCK..280].fill(7);
        self.literals.build(&self.lengths[..SYMBOLS_MAX]);
        self.distances.build(&[5; 32]);
    }

    /// Decodes to the end of the block. A symbol is decoded whole or not at all.
    fn symbols(&mut self, flow: &mut Flow) -> Result<Step, Pause> {
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
            if bits.held < 0 {
                return Err(Pause::Waits);
            }
            if symbol == END_OF_BLOCK {
                self.bits = bits;
                return Ok(self.end_block());
            }
            let Some(&(length, more)) = LENGTHS.get(symbol - END_OF_BLOCK - 1) else {
                return damaged("gzip: a symbol is unknown");
            };
            let length = usize::from(length) + bits.take(u32::from(more));
            let symbol = bits.symbol(&self.distances);
            if bits.held < 0 {
                return Err(Pause::Waits);
            }
            let Some(&(distance, more)) = DISTANCES.get(symbol) else {
                return damaged("gzip: a distance is unknown");
            };
            let distance = usize::from(distance) + bits.take(u32::from(more));
            if bits.held < 0 {
                return Err(Pause::Waits);
            }
            let written = self.length + (flow.at - flow.summed) as u64;
            if distance as u64 > written {
                return damaged("gzip: a distance goes back before the beginning");
            }
            self.bits = bits;
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
                let from = at - self.distance;
                out.copy_within(from..from + 8, at);
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
                    // What repeats does so after twice the distance too.
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

//! Bits of a deflate stream, and its Huffman codes.

/// Codes of up to so many bits are looked up at once.
const FAST_BITS: u32 = 9;
pub const SYMBOLS_MAX: usize = 288;
/// Stands for bits that are no code.
const NO_SYMBOL: usize = 0xfff;

/// Why a step did not finish.
pub enum Pause {
    /// It waits for input, or for room.
    Waits,
    Damaged(&'static str),
}

impl From<&'static str> for Pause {
    fn from(reason: &'static str) -> Pause {
        Pause::Damaged(reason)
    }
}

pub fn check(is_right: bool, reason: &'static str) -> Result<(), Pause> {
    is_right.then_some(()).ok_or(Pause::Damaged(reason))
}

/// Bits that were taken from the input, the first one lowest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bits {
    word: u64,
    /// Negative where more were skipped than there are.
    pub held: i32,
}

impl Bits {
    /// Takes bytes from the input until it is empty or more than 55 bits are held.
    pub fn fill(&mut self, input: &mut &[u8]) {
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

    /// No more were skipped than there are.
    pub fn enough(self) -> Result<Bits, Pause> {
        (self.held >= 0).then_some(self).ok_or(Pause::Waits)
    }

    /// Zeros stand for bits that are not held.
    pub fn take(&mut self, count: u32) -> usize {
        let taken = self.word & ((1 << count) - 1);
        self.word >>= count;
        self.held -= count as i32;
        taken as usize
    }

    /// A number in the range of a symbol. The ranges lie without a gap, in groups of `1 << group`, and have a bit more
    /// in each group behind the second.
    pub fn within(&mut self, symbol: usize, group: u32) -> usize {
        let more = (symbol >> group).saturating_sub(1);
        ((symbol - (more << group)) << more) + self.take(more as u32)
    }

    pub fn symbol(&mut self, code: &Code) -> usize {
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
pub struct Code {
    /// Symbol and length by the next bits; 0 where the code is longer, or there is none.
    fast: [u16; 1 << FAST_BITS],
    /// Number of codes by length.
    counts: [u16; 16],
    /// In the order of their codes.
    symbols: [u16; SYMBOLS_MAX],
}

impl Code {
    pub const EMPTY: Code = Code {
        fast: [0; 1 << FAST_BITS],
        counts: [0; 16],
        symbols: [0; SYMBOLS_MAX],
    };

    /// Returns whether there are no bits without a symbol.
    pub fn build(&mut self, lengths: &[u8]) -> Result<bool, Pause> {
        self.counts = [0; 16];
        for &length in lengths {
            self.counts[usize::from(length)] += 1;
        }
        self.counts[0] = 0;
        let (mut left, mut code, mut index) = (1, 0, 0);
        let (mut codes, mut indices) = ([0u16; 16], [0; 16]);
        for (length, &count) in self.counts.iter().enumerate().skip(1) {
            left = left * 2 - i32::from(count);
            check(left >= 0, "gzip: a block's code has too many symbols")?;
            code *= 2;
            (codes[length], indices[length]) = (code, index);
            code += count;
            index += usize::from(count);
        }
        self.fast.fill(0);
        let used = lengths.iter().enumerate();
        for (symbol, &length) in used.filter(|(_, length)| **length > 0) {
            let (n, bits) = (usize::from(length), u32::from(length));
            self.symbols[indices[n]] = symbol as u16;
            indices[n] += 1;
            if bits <= FAST_BITS {
                let mut at = usize::from(codes[n].reverse_bits() >> (16 - bits));
                while let Some(entry) = self.fast.get_mut(at) {
                    *entry = (symbol as u16) << 4 | u16::from(length);
                    at += 1 << bits;
                }
                codes[n] += 1;
            }
        }
        Ok(left == 0)
    }

    /// At most one code, of one bit: the only ones that may leave bits without a symbol.
    pub fn is_single(&self) -> bool {
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

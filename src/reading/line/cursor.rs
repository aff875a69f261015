//! A cursor over the input: classes of bytes, and steps over names, quotes and spaces.

use std::borrow::Cow;

use super::reason::{Fault, LineError};

/// Bytes by their offsets in the input, or in the text of a `ParsedLine`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByteRange {
    pub(super) start: u32,
    end: u32,
}

impl ByteRange {
    // Offsets stay below LINE_BYTES_MAX + 2 and fit.
    pub(super) fn new(start: usize, end: usize) -> ByteRange {
        ByteRange {
            start: start as u32,
            end: end as u32,
        }
    }

    pub(super) fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub(super) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(super) fn of(self, input: &[u8]) -> &[u8] {
        input.get(self.range()).unwrap_or_default()
    }
}

// Classes of a byte by the places where it may stand; several at once.
pub(super) const CONTROL: u8 = 1;
pub(super) const MEASUREMENT_END: u8 = 1 << 1;
pub(super) const MEASUREMENT_SPECIAL: u8 = 1 << 2;
pub(super) const KEY_END: u8 = 1 << 3;
pub(super) const KEY_SPECIAL: u8 = 1 << 4;
pub(super) const TAG_VALUE_END: u8 = 1 << 5;
pub(super) const QUOTED_END: u8 = 1 << 6;
pub(super) const QUOTED_SPECIAL: u8 = 1 << 7;
pub(super) const VALUE_END: u8 = CONTROL | KEY_SPECIAL;

/// The `…_END` classes hold the backslash too, so that the loops over plain bytes test one bit.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'\n' | b'\r' => CONTROL | MEASUREMENT_END | KEY_END | TAG_VALUE_END,
            0x00..=0x1f | 0x7f => CONTROL | MEASUREMENT_END | KEY_END,
            b',' | b' ' => {
                MEASUREMENT_END | MEASUREMENT_SPECIAL | KEY_END | KEY_SPECIAL | TAG_VALUE_END
            }
            b'=' => KEY_END | KEY_SPECIAL | TAG_VALUE_END,
            b'"' => QUOTED_END | QUOTED_SPECIAL,
            b'\\' => MEASUREMENT_END | KEY_END | TAG_VALUE_END | QUOTED_END | QUOTED_SPECIAL,
            _ => 0,
        };
        byte += 1;
    }
    classes[b'\n' as usize] |= QUOTED_END;
    classes
};

pub(super) fn is(byte: u8, classes: u8) -> bool {
    CLASSES[byte as usize] & classes != 0
}

/// Undoes the escapes of a name: a backslash goes where a byte of `special` follows it.
pub(super) fn unescape(raw: &[u8], special: u8) -> Cow<'_, str> {
    if !raw.contains(&b'\\') {
        return String::from_utf8_lossy(raw);
    }
    let mut name = Vec::with_capacity(raw.len());
    for (n, &byte) in raw.iter().enumerate() {
        if byte != b'\\' || !raw.get(n + 1).is_some_and(|&next| is(next, special)) {
            name.push(byte);
        }
    }
    Cow::Owned(String::from_utf8_lossy(&name).into_owned())
}

pub(super) fn push_escaped(out: &mut String, text: &str, special: u8) {
    for c in text.chars() {
        if u8::try_from(c).is_ok_and(|b| is(b, special)) {
            out.push('\\');
        }
        out.push(c);
    }
}

/// Position in the input, with the line breaks passed.
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    /// Nothing comes after `bytes`.
    pub(super) last: bool,
    /// Physical lines begun.
    pub(super) lines: u32,
    /// The opening quote of the string that holds the first newline.
    pub(super) runs_over: Option<usize>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], last: bool) -> Self {
        Cursor {
            bytes,
            at: 0,
            last,
            lines: 1,
            runs_over: None,
        }
    }

    #[inline(always)]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline(always)]
    pub(super) fn skip(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    #[inline(always)]
    pub(super) fn skip_spaces(&mut self) -> bool {
        let start = self.at;
        while self.skip(b' ') {}
        self.at > start
    }

    #[inline(always)]
    pub(super) fn skip_until(&mut self, end: u8) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|&b| is(b, end)).unwrap_or(rest.len());
    }

    /// Length of the line ending here; `None` if there is none.
    #[inline(always)]
    pub(super) fn line_ending(&self) -> Option<usize> {
        match self.bytes.get(self.at..).unwrap_or_default() {
            [b'\n', ..] => Some(1),
            [b'\r', b'\n', ..] => Some(2),
            [b'\r'] if self.last => Some(1),
            [] if self.last => Some(0),
            _ => None,
        }
    }

    /// More bytes are needed.
    pub(super) fn is_starved(&self) -> bool {
        !self.last && matches!(self.bytes.get(self.at..), None | Some([] | [b'\r']))
    }

    pub(super) fn name(&mut self, end: u8, special: u8) -> ByteRange {
        let start = self.at;
        loop {
            self.skip_until(end);
            if !self.skip(b'\\') {
                return ByteRange::new(start, self.at);
            }
            self.at += usize::from(self.peek().is_some_and(|b| is(b, special)));
        }
    }

    /// The text between the quote here and the next unescaped one.
    pub(super) fn quoted(&mut self) -> Result<ByteRange, Fault> {
        let quote = self.at;
        self.at += 1;
        loop {
            self.skip_until(QUOTED_END);
            let Some(byte) = self.peek() else {
                return Err(LineError::OpenQuote.at(quote));
            };
            self.at += 1;
            match byte {
                b'"' => return Ok(ByteRange::new(quote + 1, self.at - 1)),
                b'\n' => {
                    self.lines += 1;
                    self.runs_over.get_or_insert(quote);
                }
                _ => {
                    let escapes = self.peek().is_some_and(|b| is(b, QUOTED_SPECIAL));
                    self.at += usize::from(escapes);
                }
            }
        }
    }

    pub(super) fn so_far_as_text(&self) -> Result<&'a str, Fault> {
        let so_far = self.bytes.get(..self.at).unwrap_or_default();
        str::from_utf8(so_far).map_err(|e| LineError::Utf8.at(e.valid_up_to()))
    }

    /// `cause` at this byte, unless the byte is one that may not stand here whatever was missing.
    pub(super) fn fault(&self, cause: LineError) -> Fault {
        let stray = self.peek().is_some_and(|b| is(b, CONTROL)) && self.line_ending().is_none();
        if stray { LineError::ControlByte } else { cause }.at(self.at)
    }
}

//! Where the body of a request ends: by its length, or by its chunks (RFC 9112, 7.1). Pure.

use super::head::{Length, Refusal};

/// Digits of a chunk's size: more than 2^60 bytes are no chunk.
const SIZE_DIGITS_MAX: u8 = 15;
/// Upper bound on a chunk's extensions, and on the trailers.
const IGNORED_BYTES_MAX: u16 = 4096;

const BAD_SIZE: Refusal = (400, "a chunk has no size in hexadecimal digits");
const BAD_END: Refusal = (400, "a chunk does not end with CR and LF");
const TOO_LONG: Refusal = (
    400,
    "extensions or trailers of the chunks are longer than 4096 bytes",
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyPart {
    /// Before the first digit of a size, and within the digits.
    Size(u8),
    /// Behind the size: white space, before an extension or the line end.
    Space,
    /// Up to the line end.
    Extension,
    /// The CR was read.
    SizeEnd,
    Data,
    /// Behind the data: CR, then LF.
    DataEnd,
    DataEndLf,
    /// A line of the trailers, and how long it is.
    Trailer(u16),
    TrailerLf(u16),
    End,
}

#[derive(Debug)]
pub struct Framing {
    part: BodyPart,
    is_chunked: bool,
    /// Bytes of data that are left, of the body or of the chunk.
    left: u64,
    /// Bytes of extensions and trailers so far.
    ignored: u16,
}

impl Framing {
    pub fn new(length: Length) -> Self {
        let (part, left) = match length {
            Length::Bytes(0) => (BodyPart::End, 0),
            Length::Bytes(bytes) => (BodyPart::Data, bytes),
            Length::Chunked => (BodyPart::Size(0), 0),
        };
        Framing {
            part,
            is_chunked: length == Length::Chunked,
            left,
            ignored: 0,
        }
    }

    /// The whole body was passed.
    pub fn is_over(&self) -> bool {
        self.part == BodyPart::End
    }

    /// Passes framing at the beginning of `bytes`. Returns its length, and the length of the data behind it.
    pub fn next(&mut self, bytes: &[u8]) -> Result<(usize, usize), Refusal> {
        for (at, &byte) in bytes.iter().enumerate() {
            match self.part {
                BodyPart::Data => {
                    let here = (bytes.len() - at) as u64;
                    return Ok((at, here.min(self.left) as usize));
                }
                BodyPart::End => return Ok((at, 0)),
                _ => self.part = self.pass(byte)?,
            }
        }
        Ok((bytes.len(), 0))
    }

    /// So much of the data was used.
    pub fn advance(&mut self, used: usize) {
        self.left -= used as u64;
        if self.left == 0 && self.part == BodyPart::Data {
            self.part = match self.is_chunked {
                true => BodyPart::DataEnd,
                false => BodyPart::End,
            };
        }
    }

    fn pass(&mut self, byte: u8) -> Result<BodyPart, Refusal> {
        Ok(match (self.part, byte) {
            (BodyPart::Size(digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == SIZE_DIGITS_MAX {
                    return Err(BAD_SIZE);
                }
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                self.left = self.left << 4 | u64::from(digit);
                BodyPart::Size(digits + 1)
            }
            (BodyPart::Size(1..) | BodyPart::Space | BodyPart::Extension, b'\r') => {
                BodyPart::SizeEnd
            }
            (BodyPart::Size(1..) | BodyPart::Space, b';') => BodyPart::Extension,
            (BodyPart::Size(1..) | BodyPart::Space, b' ' | b'\t') => {
                self.ignore()?;
                BodyPart::Space
            }
            (BodyPart::Extension, b'\n') => return Err(BAD_END),
            (BodyPart::Extension, _) => {
                self.ignore()?;
                BodyPart::Extension
            }
            (BodyPart::SizeEnd, b'\n') if self.left == 0 => BodyPart::Trailer(0),
            (BodyPart::SizeEnd, b'\n') => BodyPart::Data,
            (BodyPart::DataEnd, b'\r') => BodyPart::DataEndLf,
            (BodyPart::DataEndLf, b'\n') => BodyPart::Size(0),
            (BodyPart::Trailer(length), b'\r') => BodyPart::TrailerLf(length),
            (BodyPart::TrailerLf(0), b'\n') => BodyPart::End,
            (BodyPart::TrailerLf(_), b'\n') => BodyPart::Trailer(0),
            (BodyPart::Trailer(length), _) if byte != b'\n' => {
                self.ignore()?;
                BodyPart::Trailer(length + 1)
            }
            (BodyPart::Size(_) | BodyPart::Space, _) => return Err(BAD_SIZE),
            _ => return Err(BAD_END),
        })
    }

    fn ignore(&mut self) -> Result<(), Refusal> {
        self.ignored += 1;
        match self.ignored > IGNORED_BYTES_MAX {
            true => Err(TOO_LONG),
            false => Ok(()),
        }
    }
}

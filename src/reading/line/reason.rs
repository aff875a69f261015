//! Why a line was rejected, in words for the person who wrote it.

use std::fmt;

use crate::reading::number;

/// The longest record, its line ending not counted. A caller's buffer holds two bytes more than this, so
/// that the line ending is seen: with so many bytes `parse` never asks for more.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Why a line was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    pub cause: LineError,
    /// The byte of the first physical line where it went wrong, counted from 1.
    pub column: u32,
    /// It went wrong further down, after the quote at `column` ran over the end of the line.
    pub runs_over: bool,
    /// Form that the line was meant in, where that shows; begins with a semicolon.
    pub hint: &'static str,
}

/// The form of a line, for those that have another.
const FORM: &str = "a line is: measurement,tag=value field=value timestamp";

impl Reason {
    /// The reason that goes with `Parsed::TooLong`.
    pub const TOO_LONG: Reason = Reason {
        cause: LineError::TooLong,
        column: LINE_BYTES_MAX as u32 + 1,
        runs_over: false,
        hint: "",
    };
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: ", self.column)?;
        if self.runs_over {
            f.write_str("this quote runs over the end of the line, and then: ")?;
        }
        f.write_str(self.cause.words())?;
        f.write_str(self.hint)?;
        match self.cause.is_of_form() {
            true => write!(f, " ({FORM})"),
            false => Ok(()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineError {
    NoMeasurement,
    NoTagKey,
    NoTagEquals,
    NoTagValue,
    TagValueEquals,
    TagTwice,
    NoField,
    NoFieldKey,
    NoFieldEquals,
    NoFieldValue,
    FieldValue,
    Number(number::NumberError),
    AfterFieldValue,
    OpenQuote,
    Timestamp,
    TimestampRange,
    AfterTimestamp,
    ControlByte,
    Utf8,
    TooLong,
}

impl LineError {
    pub fn words(self) -> &'static str {
        match self {
            LineError::NoMeasurement => "no measurement",
            LineError::NoTagKey => r#"no tag key after ",""#,
            LineError::NoTagEquals => r#"no "=" after the tag key"#,
            LineError::NoTagValue => r#"no tag value after "=""#,
            LineError::TagValueEquals => r#"an "=" in a tag value needs a backslash before it"#,
            LineError::TagTwice => "this tag key is there twice",
            LineError::NoField => "no field",
            LineError::NoFieldKey => "no field key",
            LineError::NoFieldEquals => r#"no "=" after the field key"#,
            LineError::NoFieldValue => r#"no field value after "=""#,
            LineError::FieldValue => r#"not a number, true, false or "string""#,
            LineError::Number(wrong) => wrong.words(),
            LineError::AfterFieldValue => r#"neither "," nor a space after the field value"#,
            LineError::OpenQuote => "no closing quote",
            LineError::Timestamp => "the timestamp is not a whole number",
            LineError::TimestampRange => "the timestamp is out of the range of 64-bit nanoseconds",
            LineError::AfterTimestamp => "something follows the timestamp",
            LineError::ControlByte => "a control byte (0x00 to 0x1f, 0x7f)",
            LineError::Utf8 => "not UTF-8",
            LineError::TooLong => "longer than 64 KiB",
        }
    }

    /// The line as a whole has another form.
    fn is_of_form(self) -> bool {
        matches!(
            self,
            LineError::NoMeasurement
                | LineError::NoTagKey
                | LineError::NoTagEquals
                | LineError::NoField
                | LineError::NoFieldKey
                | LineError::NoFieldEquals
        )
    }

    /// Guesses the meant form of a line that went wrong at this byte.
    pub(super) fn hint(self, line: &[u8], at: usize) -> &'static str {
        if !self.is_of_form() {
            return "";
        }
        let (before, rest) = line.split_at_checked(at).unwrap_or_default();
        let line = line.trim_ascii_start();
        let has = |byte| line.contains(&byte);
        let second = line.splitn(3, |byte| *byte == b' ').nth(1);
        let is_value = |word: &[u8]| word.first().is_some_and(|b| b"-0123456789".contains(b));
        match line.first() {
            Some(b'{' | b'[') => "; this looks like JSON",
            _ if has(b'{') && has(b'}') => "; this looks like Prometheus text",
            _ if !has(b'=') && has(b',') => "; this looks like CSV",
            _ if !has(b'=') && second.is_some_and(is_value) => "; this looks like Prometheus text",
            _ if ends_in_decimals(before) => "; a number has a decimal point, and no comma",
            _ if rest.starts_with(b" ") && rest.contains(&b'=') => {
                r#"; a space in a name or in a tag value is written "\ ""#
            }
            _ => "",
        }
    }

    pub(super) fn at(self, at: usize) -> Fault {
        Fault { cause: self, at }
    }
}

/// A digit, a comma and more digits.
fn ends_in_decimals(text: &[u8]) -> bool {
    let digits = text.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let (whole, decimals) = text.split_at(text.len() - digits);
    matches!(whole, [.., b'0'..=b'9', b',']) && !decimals.is_empty()
}

pub(super) struct Fault {
    pub(super) cause: LineError,
    pub(super) at: usize,
}

//! One record, comment or empty line off the front of a buffer, taken apart into its fields.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::cursor::{
    ByteRange, CONTROL, Cursor, KEY_END, KEY_SPECIAL, MEASUREMENT_END, MEASUREMENT_SPECIAL,
    TAG_VALUE_END, VALUE_END, is, unescape,
};
use super::reason::{Fault, LINE_BYTES_MAX, LineError, Reason};
use crate::reading::batch::{Kind, Value};
use crate::reading::number::{self, Number};
use crate::reading::series::{self, Beginning};

/// Up to this many tags are compared each with each; more are sorted.
const TAGS_PAIRWISE_MAX: usize = 8;

/// Unit of a timestamp, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Precision {
    Ns = 1,
    Us = 1_000,
    Ms = 1_000_000,
    S = 1_000_000_000,
    /// Only from clients of InfluxDB, as hours are.
    M = 60_000_000_000,
    H = 3_600_000_000_000,
}

impl Precision {
    pub fn name(self) -> &'static str {
        match self {
            Precision::Ns => "ns",
            Precision::Us => "us",
            Precision::Ms => "ms",
            Precision::S => "s",
            Precision::M => "m",
            Precision::H => "h",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "ns" => Some(Precision::Ns),
            "us" => Some(Precision::Us),
            "ms" => Some(Precision::Ms),
            "s" => Some(Precision::S),
            _ => None,
        }
    }
}

/// Result of parsing the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not a whole record yet, and more may come (or there was no input at all).
    Incomplete,
    /// An empty line or a comment.
    Nothing { used: usize },
    /// A record; its parts are in `ParsedLine`. It took `lines` physical lines: a string may hold newlines.
    Record { used: usize, lines: u32 },
    /// No record; `used` is the first physical line of it, and reading resumes behind that.
    Rejected { used: usize, reason: Reason },
    /// The line goes on past `LINE_BYTES_MAX`: the caller discards `used` bytes and then everything up to
    /// and with the next newline, which `used` never includes.
    TooLong { used: usize },
}

#[derive(Clone, Copy, Debug)]
struct Tag {
    key: ByteRange,
    value: ByteRange,
}

/// One field of a record; its parts are reached through the `ParsedLine`.
#[derive(Clone, Copy, Debug)]
pub struct ParsedField {
    pub kind: Kind,
    key: ByteRange,
    stored: Stored,
}

#[derive(Clone, Copy, Debug)]
enum Stored {
    Real(f64),
    Integer(i64),
    /// In the text of the `ParsedLine`; in the input while the record is not known to be UTF-8.
    Text(ByteRange),
}

/// The parts of the record that `parse` found last, to be reused for the next. The methods that take
/// `input` want the same bytes that `parse` was given.
#[derive(Debug, Default)]
pub struct ParsedLine {
    /// It begins as the caller expected. Measurement and tags were not taken apart then.
    pub is_expected: bool,
    measurement: ByteRange,
    sensor: ByteRange,
    tags: Vec<Tag>,
    fields: Vec<ParsedField>,
    text: String,
    time_ns: Option<i64>,
}

impl ParsedLine {
    /// Measurement and tags exactly as they were sent.
    pub fn sensor<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        self.sensor.of(input)
    }

    /// Measurement and tags under the name that the database knows.
    pub fn canonical_sensor(&self, input: &[u8]) -> String {
        let sensor = self.sensor.of(input);
        let mut line = ParsedLine::default();
        // Only new names get here: the parts of an expected line were not looked at. There is no fault in them.
        let _ = line.read_sensor(&mut Cursor::new(sensor, true));
        let name = |key: ByteRange| unescape(key.of(sensor), KEY_SPECIAL);
        let measurement = unescape(line.measurement.of(sensor), MEASUREMENT_SPECIAL);
        let tags = line.tags.iter().map(|t| (name(t.key), name(t.value)));
        series::canonical(&measurement, &tags.collect::<Vec<_>>())
    }

    pub fn fields(&self) -> &[ParsedField] {
        &self.fields
    }

    /// The field's key exactly as it was sent.
    pub fn field_key<'a>(&self, input: &'a [u8], field: &ParsedField) -> &'a [u8] {
        field.key.of(input)
    }

    /// The field's key, escapes undone.
    pub fn field_name<'a>(&self, input: &'a [u8], field: &ParsedField) -> Cow<'a, str> {
        unescape(field.key.of(input), KEY_SPECIAL)
    }

    pub fn value(&self, field: &ParsedField) -> Value<'_> {
        match field.stored {
            Stored::Real(v) => Value::Real(v),
            Stored::Integer(v) => Value::Integer(v),
            Stored::Text(span) => Value::Text(self.text.get(span.range()).unwrap_or_default()),
        }
    }

    /// The record's timestamp; none when it is to have the time of its arrival.
    pub fn time_ns(&self) -> Option<i64> {
        self.time_ns
    }

    fn clear(&mut self) {
        self.is_expected = false;
        self.tags.clear();
        self.fields.clear();
        self.text.clear();
        self.time_ns = None;
    }

    /// The key of the first field, where the line begins as expected.
    fn skip_beginning(
        &mut self,
        c: &mut Cursor<'_>,
        expected: Option<Beginning<'_>>,
    ) -> Option<ByteRange> {
        let expected = expected.filter(|expected| starts_with(c.bytes, expected.bytes))?;
        self.is_expected = true;
        self.sensor = ByteRange::new(0, expected.sensor_bytes);
        c.at = expected.bytes.len();
        Some(ByteRange::new(expected.sensor_bytes + 1, c.at - 1))
    }

    /// Reads as far as the first field's value, whose key it returns. None before the ending of a line without a field.
    fn read_beginning(&mut self, c: &mut Cursor<'_>) -> Result<Option<ByteRange>, Fault> {
        c.skip_spaces();
        if c.line_ending().is_some() {
            return Ok(None);
        }
        if c.peek() == Some(b'#') {
            c.skip_until(CONTROL);
            if c.line_ending().is_none() {
                return Err(c.fault(LineError::ControlByte));
            }
            return c.so_far_as_text().map(|_| None);
        }
        self.read_sensor(c)?;
        if !c.skip_spaces() || c.line_ending().is_some() {
            return Err(c.fault(LineError::NoField));
        }
        read_key(c).map(Some)
    }

    /// Reads up to the line ending and leaves the cursor there. A record has a field, nothing has none.
    fn read(
        &mut self,
        c: &mut Cursor<'_>,
        precision: Precision,
        expected: Option<Beginning<'_>>,
    ) -> Result<(), Fault> {
        let mut key = match self.skip_beginning(c, expected) {
            Some(key) => key,
            None => match self.read_beginning(c)? {
                Some(key) => key,
                None => return Ok(()),
            },
        };
        loop {
            let field = self.read_value(c, key)?;
            self.fields.push(field);
            if !c.skip(b',') {
                break;
            }
            key = read_key(c)?;
        }
        let apart = c.skip_spaces();
        if c.line_ending().is_none() {
            if !apart {
                return Err(c.fault(LineError::AfterFieldValue));
            }
            self.time_ns = Some(read_timestamp(c, precision)?);
        }
        self.keep_strings(c.so_far_as_text()?);
        Ok(())
    }

    fn read_sensor(&mut self, c: &mut Cursor<'_>) -> Result<(), Fault> {
        let start = c.at;
        self.measurement = c.name(MEASUREMENT_END, MEASUREMENT_SPECIAL);
        if self.measurement.is_empty() {
            return Err(c.fault(LineError::NoMeasurement));
        }
        while c.skip(b',') {
            let key = c.name(KEY_END, KEY_SPECIAL);
            if key.is_empty() {
                return Err(c.fault(LineError::NoTagKey));
            }
            if !c.skip(b'=') {
                return Err(c.fault(LineError::NoTagEquals));
            }
            let value = c.name(TAG_VALUE_END, KEY_SPECIAL);
            if c.peek() == Some(b'=') {
                return Err(c.fault(LineError::TagValueEquals));
            }
            if value.is_empty() {
                return Err(c.fault(LineError::NoTagValue));
            }
            self.tags.push(Tag { key, value });
        }
        self.sensor = ByteRange::new(start, c.at);
        match self.tag_key_twice(c.bytes) {
            Some(at) => Err(LineError::TagTwice.at(at)),
            None => Ok(()),
        }
    }

    /// Where the first tag key stands that was there before. In a key each special byte has one backslash
    /// before it, and only that is taken away, so keys as sent are equal exactly when their names are.
    fn tag_key_twice(&mut self, input: &[u8]) -> Option<usize> {
        let key = |tag: &Tag| tag.key.of(input);
        if self.tags.len() <= TAGS_PAIRWISE_MAX {
            let mut tags = self.tags.iter().enumerate();
            let twice = tags.find(|(n, tag)| self.tags.iter().take(*n).any(|t| key(t) == key(tag)));
            return twice.map(|(_, tag)| tag.key.start as usize);
        }
        // The order of tags carries no meaning: `canonical_sensor` sorts them anyway.
        let tags = &mut self.tags;
        let place = |tag: &Tag| (tag.key.of(input), tag.key.start);
        tags.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
        let pairs = tags.iter().zip(tags.iter().skip(1));
        let twice = pairs.filter(|(a, b)| key(a) == key(b)).map(|(_, b)| b.key);
        twice.map(|key| key.start as usize).min()
    }

    fn read_value(&mut self, c: &mut Cursor<'_>, key: ByteRange) -> Result<ParsedField, Fault> {
        let at = c.at;
        let (kind, stored) = match c.peek() {
            Some(b'0'..=b'9' | b'-' | b'.') => {
                let number = number::take(c.bytes, &mut c.at);
                if c.peek().is_some_and(|b| !is(b, VALUE_END)) {
                    return Err(LineError::Number(number::NumberError::Form).at(at));
                }
                match number.map_err(|wrong| LineError::Number(wrong).at(at))? {
                    Number::Float(v) => (Kind::Float, Stored::Real(v)),
                    Number::Integer(v) => (Kind::Integer, Stored::Integer(v)),
                    Number::Unsigned(v) => (Kind::Unsigned, self.unsigned(v)),
                }
            }
            Some(b'"') => (Kind::String, Stored::Text(c.quoted()?)),
            _ => {
                c.skip_until(VALUE_END);
                let truth = match ByteRange::new(at, c.at).of(c.bytes) {
                    b"t" | b"T" | b"true" | b"True" | b"TRUE" => 1,
                    b"f" | b"F" | b"false" | b"False" | b"FALSE" => 0,
                    b"" => return Err(c.fault(LineError::NoFieldValue)),
                    _ => return Err(LineError::FieldValue.at(at)),
                };
                (Kind::Boolean, Stored::Integer(truth))
            }
        };
        Ok(ParsedField { kind, key, stored })
    }

    /// SQLite has no integer above `i64::MAX`: such a one is kept as its digits.
    fn unsigned(&mut self, value: u64) -> Stored {
        if let Ok(value) = i64::try_from(value) {
            return Stored::Integer(value);
        }
        let start = self.text.len();
        let _ = write!(self.text, "{value}");
        Stored::Text(ByteRange::new(start, self.text.len()))
    }

    /// Copies the strings of a record, escapes undone, out of the input.
    fn keep_strings(&mut self, record: &str) {
        for field in self.fields.iter_mut().filter(|f| f.kind == Kind::String) {
            let Stored::Text(span) = &mut field.stored else {
                continue;
            };
            let start = self.text.len();
            let mut rest = record.get(span.range()).unwrap_or_default();
            while let Some((plain, escape)) = rest.split_once('\\') {
                self.text.push_str(plain);
                let escaped = escape.starts_with(['"', '\\']);
                let (taken, left) = escape.split_at(usize::from(escaped));
                self.text.push_str(if escaped { taken } else { "\\" });
                rest = left;
            }
            self.text.push_str(rest);
            *span = ByteRange::new(start, self.text.len());
        }
    }
}

/// Eight bytes at once: musl compares single ones.
fn starts_with(bytes: &[u8], start: &[u8]) -> bool {
    let Some(bytes) = bytes.get(..start.len()) else {
        return false;
    };
    let (bytes, rest) = bytes.as_chunks::<8>();
    let (start, rest_of_start) = start.as_chunks();
    bytes.iter().zip(start).all(|(a, b)| a == b) && rest == rest_of_start
}

/// The key of a field and the "=" behind it.
fn read_key(c: &mut Cursor<'_>) -> Result<ByteRange, Fault> {
    let key = c.name(KEY_END, KEY_SPECIAL);
    if key.is_empty() {
        return Err(c.fault(LineError::NoFieldKey));
    }
    if !c.skip(b'=') {
        return Err(c.fault(LineError::NoFieldEquals));
    }
    Ok(key)
}

fn read_timestamp(c: &mut Cursor<'_>, precision: Precision) -> Result<i64, Fault> {
    let at = c.at;
    let count = number::take_integer(c.bytes, &mut c.at);
    if count == Err(number::NumberError::Form) || c.peek().is_some_and(|b| !is(b, VALUE_END)) {
        return Err(LineError::Timestamp.at(at));
    }
    c.skip_spaces();
    if c.line_ending().is_none() {
        return Err(c.fault(LineError::AfterTimestamp));
    }
    let time_ns = count.ok().and_then(|n| n.checked_mul(precision as i64));
    time_ns.ok_or(LineError::TimestampRange.at(at))
}

/// Takes one record, comment or empty line off the front of `input`. `end` says that nothing comes after
/// `input`, so that a last line needs no newline. `expected` is what an earlier record began with.
pub fn parse(
    input: &[u8],
    end: bool,
    precision: Precision,
    expected: Option<Beginning<'_>>,
    line: &mut ParsedLine,
) -> Parsed {
    line.clear();
    if input.is_empty() {
        return Parsed::Incomplete;
    }
    let window = input.get(..LINE_BYTES_MAX + 2).unwrap_or(input);
    let mut cursor = Cursor::new(window, end && window.len() == input.len());
    let read = line.read(&mut cursor, precision, expected);
    let used = cursor.at + cursor.line_ending().unwrap_or_default();
    match read {
        _ if cursor.at > LINE_BYTES_MAX => refuse(input, &cursor, LineError::TooLong.at(cursor.at)),
        Ok(()) if line.fields.is_empty() => Parsed::Nothing { used },
        Ok(()) => Parsed::Record {
            used,
            lines: cursor.lines,
        },
        Err(_) if cursor.is_starved() => Parsed::Incomplete,
        Err(fault) => refuse(input, &cursor, fault),
    }
}

/// No record comes of this; all that is left to know is where its first physical line ends.
#[cold]
fn refuse(input: &[u8], cursor: &Cursor<'_>, fault: Fault) -> Parsed {
    let newline = cursor.bytes.iter().position(|&b| b == b'\n');
    let length = newline.unwrap_or(cursor.bytes.len());
    let physical = cursor.bytes.get(..length).unwrap_or_default();
    let content = physical.strip_suffix(b"\r").unwrap_or(physical);
    if content.len() > LINE_BYTES_MAX {
        let newline = input.iter().position(|&b| b == b'\n');
        let used = newline.unwrap_or(input.len());
        return Parsed::TooLong { used };
    }
    if newline.is_none() && !cursor.last {
        return Parsed::Incomplete;
    }
    // A fault further down would have no column in the line that is refused for it.
    let quote = cursor.runs_over.filter(|_| fault.at > length);
    Parsed::Rejected {
        used: length + usize::from(newline.is_some()),
        reason: Reason {
            cause: fault.cause,
            column: quote.unwrap_or(fault.at) as u32 + 1,
            runs_over: quote.is_some(),
            hint: fault.cause.hint(content, fault.at),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(input: &[u8]) -> (Parsed, ParsedLine) {
        let mut line = ParsedLine::default();
        let outcome = parse(input, true, Precision::Ns, None, &mut line);
        (outcome, line)
    }

    #[test]
    fn nothing_is_left_of_the_record_before() {
        let (_, mut line) = parse_all(b"m,a=b f=\"c\",g=18446744073709551615u 7");
        let outcome = parse(b"n h=1\n", false, Precision::Ns, None, &mut line);
        let (used, lines) = (6, 1);
        assert_eq!(outcome, Parsed::Record { used, lines });
        assert_eq!((line.tags.len(), line.fields.len()), (0, 1));
        assert_eq!((line.text.len(), line.time_ns), (0, None));
    }

    #[test]
    fn a_reason_names_the_column() {
        let reason = |input: &[u8]| match parse_all(input).0 {
            Parsed::Rejected { reason, .. } => reason.to_string(),
            other => format!("{other:?}"),
        };
        let one_line = reason(b"m,a=b field= 1");
        assert_eq!(one_line, r#"column 13: no field value after "=""#);
        for (line, words) in [
            (&b"{\"temp\": 21.5}"[..], "; this looks like JSON"),
            (b"[{\"a\":1,\"b\":2}]", "; this looks like JSON"),
            (b"time,room,value", "; this looks like CSV"),
            (b"2026-01-31 12:00:00,kitchen,21.5", "; this looks like CSV"),
            (
                b"up{job=\"a b\",x=\"y\"} 1 1395066363000",
                "; this looks like Prometheus text",
            ),
            (b"node_load1 0.21", "; this looks like Prometheus text"),
            (b"temp,room=living room value=21", r#" is written "\ ""#),
            (b"living room value=21", r#" is written "\ ""#),
            (
                b"m v=21,5 1",
                "; a number has a decimal point, and no comma",
            ),
            (b"m v=21,w5", r#"no "=" after the field key"#),
            (b"21.5", "no field"),
            (b"m,a=b v 1", r#"no "=" after the field key"#),
        ] {
            let reason = reason(line);
            let form = " (a line is: measurement,tag=value field=value timestamp)";
            assert!(reason.ends_with(&format!("{words}{form}")), "{reason}");
        }
        let two_lines = reason(b"m f=\"a\nm f=\"b\n");
        assert!(two_lines.starts_with("column 5: this quote runs over the end of the line"));
        assert!(two_lines.ends_with("after the field value"));
    }
}

//! A reading as one row of text: CSV, a line of JSON, or line protocol. Exact: a number is written with as
//! many digits as it takes to read the same number back, and text is distinct from numbers. Pure; `export` calls
//! it.

use std::io::Write;

use crate::reading::line;
use crate::reading::{Kind, Value};
use crate::store::Reading;
use crate::time::Stamper;
use crate::words::words;

words!(ExportFormat: Csv = "csv", Ndjson = "ndjson", Influx = "influx");

/// Stands for a NUL in CSV, which PostgreSQL, and others that read CSV, cannot take: meters pad texts with it.
const CSV_NUL: &str = "\u{2400}";

pub const HEADER: &str = "device,id,time_ns,timestamp,sensor,field,value,run\r\n";

/// Parts that all rows of a series share.
pub struct Named {
    kind: Kind,
    /// Sensor and field as the format writes them, with what stands between the timestamp and the value.
    text: String,
    sensor: Box<str>,
    field: Box<str>,
}

/// Writes rows.
pub struct Rows {
    format: ExportFormat,
    stamper: Stamper,
    line: String,
}

impl Rows {
    pub fn new(format: ExportFormat) -> Self {
        Rows {
            format,
            stamper: Stamper::default(),
            line: String::new(),
        }
    }

    pub fn name(format: ExportFormat, sensor: &str, field: &str, kind: Kind) -> Named {
        let text = match format {
            ExportFormat::Csv => format!(",{},{},", csv(sensor), csv(field)),
            ExportFormat::Ndjson => format!(
                "\",\"sensor\":{},\"field\":{},\"value\":",
                json(sensor),
                json(field)
            ),
            ExportFormat::Influx => String::new(),
        };
        let keep = |name: &str| match format {
            ExportFormat::Influx => name.into(),
            _ => Box::default(),
        };
        Named {
            kind,
            text,
            sensor: keep(sensor),
            field: keep(field),
        }
    }

    pub fn write(&mut self, out: &mut Vec<u8>, reading: &Reading<'_>, named: &Named) {
        let Reading {
            id,
            time_ns,
            run,
            device,
            ..
        } = *reading;
        match self.format {
            ExportFormat::Csv => {
                out.extend_from_slice(device.as_bytes());
                out.push(b',');
                integer(out, id);
                out.push(b',');
                integer(out, time_ns);
                out.push(b',');
                self.stamper.write(out, time_ns);
                out.extend_from_slice(named.text.as_bytes());
                match reading.value {
                    Value::Text(text) if named.kind == Kind::String => csv_text(out, text),
                    value => number(out, value, "Infinity"),
                }
                out.push(b',');
                integer(out, run);
                out.extend_from_slice(b"\r\n");
            }
            ExportFormat::Ndjson => {
                out.extend_from_slice(b"{\"device\":\"");
                out.extend_from_slice(device.as_bytes());
                out.extend_from_slice(b"\",\"id\":");
                integer(out, id);
                out.extend_from_slice(b",\"time_ns\":");
                integer(out, time_ns);
                out.extend_from_slice(b",\"timestamp\":\"");
                self.stamper.write(out, time_ns);
                out.extend_from_slice(named.text.as_bytes());
                match reading.value {
                    Value::Text(text) if named.kind == Kind::String => {
                        out.extend_from_slice(json(text).as_bytes());
                    }
                    // JSON has no infinity; this is read as one.
                    value => number(out, value, "1e999"),
                }
                out.extend_from_slice(b",\"run\":");
                integer(out, run);
                out.extend_from_slice(b"}\n");
            }
            ExportFormat::Influx => {
                self.line.clear();
                line::write_reading(
                    &mut self.line,
                    &named.sensor,
                    &named.field,
                    named.kind,
                    reading.value,
                    time_ns,
                );
                out.extend_from_slice(self.line.as_bytes());
            }
        }
    }
}

fn number(out: &mut Vec<u8>, value: Value<'_>, infinity: &str) {
    match value {
        Value::Integer(v) => integer(out, v),
        Value::Real(v) if v.is_infinite() => {
            if v < 0.0 {
                out.push(b'-');
            }
            out.extend_from_slice(infinity.as_bytes());
        }
        // The shortest that reads back as the same; writing to a Vec does not fail.
        Value::Real(v) => drop(write!(out, "{v:?}")),
        // An unsigned that 63 bits do not hold.
        Value::Text(v) => out.extend_from_slice(v.as_bytes()),
    }
}

/// Prints an integer. `write!` of the standard library costs an export 14 % more instructions (3,025 a row in
/// place of 2,652) and 7 % more time: hence these lines. Built for size, a division by a constant is the
/// processor's own, some ten times a multiplication: there is one for each nine digits.
fn integer(out: &mut Vec<u8>, value: i64) {
    /// A sign and 19 digits.
    const LENGTH_MAX: usize = 20;
    const NINE_DIGITS: u64 = 1_000_000_000;
    let mut digits = [b'0'; LENGTH_MAX];
    let mut at = LENGTH_MAX;
    let mut rest = value.unsigned_abs();
    while rest >= NINE_DIGITS {
        let higher = rest / NINE_DIGITS;
        let mut nine = (rest - higher * NINE_DIGITS) as u32;
        at -= 9;
        for digit in digits[at..at + 9].iter_mut().rev() {
            (nine, *digit) = last_digit(nine);
        }
        rest = higher;
    }
    let mut rest = rest as u32;
    loop {
        at -= 1;
        (rest, digits[at]) = last_digit(rest);
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.extend_from_slice(&digits[at..]);
}

/// The number without its last digit, and that digit.
fn last_digit(number: u32) -> (u32, u8) {
    // 2^35 over ten, rounded up: exact for 32 bits.
    let tenth = ((u64::from(number) * 0xCCCC_CCCD) >> 35) as u32;
    (tenth, b'0' + (number - tenth * 10) as u8)
}

/// A name, in quotes where it needs them.
fn csv(text: &str) -> String {
    if !text.contains([',', '"', '\r', '\n', '\0']) {
        return text.to_owned();
    }
    let mut out = Vec::new();
    csv_text(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

/// Always in quotes, so that "1" is text and 1 is a number.
fn csv_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for part in text.split_inclusive(['"', '\0']) {
        match part.strip_suffix('\0') {
            Some(before) => {
                out.extend_from_slice(before.as_bytes());
                out.extend_from_slice(CSV_NUL.as_bytes());
            }
            None => out.extend_from_slice(part.as_bytes()),
        }
        if part.ends_with('"') {
            out.push(b'"');
        }
    }
    out.push(b'"');
}

fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' | '\x7f' => out.push_str(&format!("\\u{:04x}", c as u32)),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that no sender can make, or that Python's CSV reads as something else.
    #[test]
    fn infinities_and_nuls_are_written_so_that_others_can_read_them() {
        let (infinite, padded) = (Value::Real(f64::NEG_INFINITY), Value::Text("a\0\0"));
        for (format, kind, value, expected) in [
            (ExportFormat::Csv, Kind::Float, infinite, ",-Infinity,"),
            (ExportFormat::Ndjson, Kind::Float, infinite, ":-1e999,"),
            (ExportFormat::Csv, Kind::String, padded, ",\"a␀␀\","),
        ] {
            let named = Rows::name(format, "m", "f", kind);
            let reading = Reading {
                id: 7,
                time_ns: -1,
                value,
                run: 2,
                device: "d0",
            };
            let mut out = Vec::new();
            Rows::new(format).write(&mut out, &reading, &named);
            let row = String::from_utf8(out).unwrap();
            assert!(row.contains(expected), "{row}");
        }
    }

    #[test]
    fn integers_are_those_of_the_standard_library() {
        let mut rng = fastrand::Rng::with_seed(1);
        let powers = (0..19).map(|n| 10i64.pow(n));
        let edges = powers.flat_map(|n| [n - 1, n, -n, 1 - n]);
        let random = (0..100_000).map(|n| rng.i64(..) >> (n % 64));
        for value in edges.chain([i64::MIN, i64::MAX]).chain(random) {
            let mut out = Vec::new();
            integer(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}

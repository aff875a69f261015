//! Numbers of line protocol, parsed by hand because they are most of the input.
//!
//! Exact or an error: no value is rounded more than `f64` must, none wraps.

/// A number with the type of its spelling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Float(f64),
    Integer(i64),
    Unsigned(u64),
}

/// Why the text is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    Form,
    FloatRange,
    IntegerRange,
    UnsignedRange,
}

impl NumberError {
    pub fn words(self) -> &'static str {
        match self {
            NumberError::Form => "not a number (numbers are written 1.5, 12i or 12u)",
            NumberError::FloatRange => "float too large for 64 bits",
            NumberError::IntegerRange => "integer out of the range of 64 bits",
            NumberError::UnsignedRange => "unsigned out of the range of 64 bits",
        }
    }
}

/// Number of digits that always fit into a `u64`.
const DIGITS_SURE: usize = 19;
/// Largest integer below which all are exact as `f64`.
const MANTISSA_EXACT_MAX: u64 = 1 << 53;
/// Powers of ten that are exact as `f64`.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Reads the number at `at` and moves `at` behind it. The caller checks what follows.
pub fn take(bytes: &[u8], at: &mut usize) -> Result<Number, NumberError> {
    let start = *at;
    let negative = skip(bytes, at, b'-');
    let whole_at = *at;
    let mut mantissa = digits(bytes, at, 0);
    let whole = *at - whole_at;
    if whole > 0 && skip(bytes, at, b'i') {
        let magnitude = exact(bytes, whole_at, whole, mantissa);
        let signed = magnitude.and_then(|m| with_sign(m, negative));
        return signed.map(Number::Integer).ok_or(NumberError::IntegerRange);
    }
    if whole > 0 && !negative && skip(bytes, at, b'u') {
        let magnitude = exact(bytes, whole_at, whole, mantissa);
        return magnitude
            .map(Number::Unsigned)
            .ok_or(NumberError::UnsignedRange);
    }
    let mut fraction = 0;
    if skip(bytes, at, b'.') {
        let fraction_at = *at;
        mantissa = digits(bytes, at, mantissa);
        fraction = *at - fraction_at;
    }
    if whole + fraction == 0 {
        return Err(NumberError::Form);
    }
    let mut power = Some(0);
    if skip(bytes, at, b'e') || skip(bytes, at, b'E') {
        let shrinks = skip(bytes, at, b'-');
        if !shrinks {
            skip(bytes, at, b'+');
        }
        let power_at = *at;
        let magnitude = digits(bytes, at, 0);
        let count = *at - power_at;
        if count == 0 {
            return Err(NumberError::Form);
        }
        power = exact(bytes, power_at, count, magnitude).and_then(|m| with_sign(m, shrinks));
    }
    let power = power.and_then(|p| p.checked_sub(fraction as i64));
    let scale = power.and_then(|p| POWERS.get(usize::try_from(p.unsigned_abs()).ok()?));
    // Both operands exact, so that the one operation rounds correctly.
    if let (Some(power), Some(scale)) = (power, scale)
        && whole + fraction <= DIGITS_SURE
        && mantissa <= MANTISSA_EXACT_MAX
    {
        let mantissa = mantissa as f64;
        let magnitude = if power < 0 {
            mantissa / scale
        } else {
            mantissa * scale
        };
        return Ok(Number::Float(if negative { -magnitude } else { magnitude }));
    }
    take_any_float(bytes.get(start..*at).unwrap_or_default())
}

/// Reads the whole number at `at` and moves `at` behind it.
pub fn take_integer(bytes: &[u8], at: &mut usize) -> Result<i64, NumberError> {
    let negative = skip(bytes, at, b'-');
    let start = *at;
    let magnitude = digits(bytes, at, 0);
    let count = *at - start;
    if count == 0 {
        return Err(NumberError::Form);
    }
    exact(bytes, start, count, magnitude)
        .and_then(|m| with_sign(m, negative))
        .ok_or(NumberError::IntegerRange)
}

#[cold]
fn take_any_float(literal: &[u8]) -> Result<Number, NumberError> {
    let float: Option<f64> = str::from_utf8(literal).ok().and_then(|s| s.parse().ok());
    match float {
        Some(float) if float.is_finite() => Ok(Number::Float(float)),
        Some(_) => Err(NumberError::FloatRange),
        None => Err(NumberError::Form),
    }
}

#[inline(always)]
fn skip(bytes: &[u8], at: &mut usize, byte: u8) -> bool {
    let found = bytes.get(*at) == Some(&byte);
    *at += usize::from(found);
    found
}

fn with_sign(magnitude: u64, negative: bool) -> Option<i64> {
    if negative {
        0i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// The value of `count` digits at `start`, which `digits` read as `value`.
fn exact(bytes: &[u8], start: usize, count: usize, value: u64) -> Option<u64> {
    if count <= DIGITS_SURE {
        return Some(value);
    }
    let digits = bytes.get(start..start + count)?;
    digits.iter().try_fold(0u64, |value, digit| {
        value
            .checked_mul(10)?
            .checked_add(u64::from(digit.wrapping_sub(b'0')))
    })
}

/// Appends the digits at `at` to `value`, modulo 2^64: right for `DIGITS_SURE` digits altogether.
fn digits(bytes: &[u8], at: &mut usize, mut value: u64) -> u64 {
    let mut here = *at;
    while let Some(chunk) = bytes.get(here..).and_then(|rest| rest.first_chunk())
        && let Some(eight) = eight_digits(u64::from_le_bytes(*chunk))
    {
        value = value.wrapping_mul(100_000_000).wrapping_add(eight);
        here += 8;
    }
    while let Some(digit) = bytes.get(here).map(|b| b.wrapping_sub(b'0'))
        && digit < 10
    {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        here += 1;
    }
    *at = here;
    value
}

/// Eight digits at once, the first in the lowest byte: neighbours are joined to pairs, these to fours.
fn eight_digits(chunk: u64) -> Option<u64> {
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    let above_nine = chunk.wrapping_add(0x0606_0606_0606_0606) & HIGH;
    if (chunk & HIGH) | (above_nine >> 4) != 0x3333_3333_3333_3333 {
        return None;
    }
    let ones = chunk & !HIGH;
    let pairs = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours * 10_000 + (fours >> 32)) & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(literal: &str) -> Result<Number, NumberError> {
        let mut at = 0;
        let number = take(literal.as_bytes(), &mut at)?;
        if at == literal.len() {
            Ok(number)
        } else {
            Err(NumberError::Form)
        }
    }

    #[test]
    fn eight_digits_are_read_at_once_and_nothing_else_is() {
        let read = |s: &[u8; 8]| eight_digits(u64::from_le_bytes(*s));
        assert_eq!(read(b"00000000"), Some(0));
        assert_eq!(read(b"12345678"), Some(12_345_678));
        assert_eq!(read(b"99999999"), Some(99_999_999));
        for at in 0..8 {
            for byte in (0..=u8::MAX).filter(|b| !b.is_ascii_digit()) {
                let mut text = *b"12345678";
                text[at] = byte;
                assert_eq!(read(&text), None, "{text:?}");
            }
        }
    }

    #[test]
    fn floats_are_those_of_the_standard_library_to_the_bit() {
        for mantissa in ["0", "39.4", ".5", "1.", "123456.789", "9007199254740993"] {
            for power in (-345..=292).map(|p| format!("e{p}")).chain([String::new()]) {
                for sign in ["", "-"] {
                    let literal = format!("{sign}{mantissa}{power}");
                    let expected: f64 = literal.parse().unwrap();
                    match all(&literal) {
                        Ok(Number::Float(f)) => assert_eq!(f.to_bits(), expected.to_bits()),
                        other => panic!("{literal}: {other:?}"),
                    }
                }
            }
        }
    }
}

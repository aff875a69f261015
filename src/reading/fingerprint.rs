//! Checksum of readings.
//!
//! SQLite has no checksum over what it stores: a flipped bit in a value passes its integrity check. So each span's row
//! holds the sum of its readings' fingerprints, and the last run's row that of the readings after the last span, kept up in
//! the same transaction, and `check` adds them up again. It guards against accidents and not against a forger. Pure.

use crate::reading::batch::{Kind, Value};

/// A permutation of 64 bits (the finalizer of splitmix64): every bit of the input reaches every bit of
/// the output.
fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// FNV-1a: each step is a permutation, so that one changed byte always changes the result.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed ^ 0xcbf2_9ce4_8422_2325, |h, &b| {
        (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Fingerprints a series' name; the readings' fingerprints build on it, so that a changed name is noticed too.
pub fn series(sensor: &str, field: &str, kind: Kind) -> u64 {
    mix(hash(
        mix(hash(kind as u64, sensor.as_bytes())),
        field.as_bytes(),
    ))
}

/// Fingerprints a name that is not a series'.
pub fn name(name: &str) -> u64 {
    mix(hash(0, name.as_bytes()))
}

pub fn fingerprint(id: i64, time_ns: i64, series: u64, value: Value<'_>) -> u64 {
    let value = match value {
        Value::Real(v) => v.to_bits(),
        Value::Integer(v) => (v as u64).wrapping_add(1).rotate_left(32),
        Value::Text(v) => hash(2, v.as_bytes()),
    };
    let place = mix((id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ series);
    mix(place.wrapping_add(mix(time_ns as u64 ^ value.rotate_left(17) ^ place)) ^ value)
}

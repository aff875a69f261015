//! Guards against a flipped bit that `check` would not see.

use seawall::reading::fingerprint::{fingerprint, series};
use seawall::reading::{Kind, Value};

#[test]
fn every_single_bit_counts() {
    let name = series("weather,station=sf", "temperature_f", Kind::Float);
    let (id, time, bits) = (12_345i64, 1_262_304_000_000_000_000i64, 47.8f64.to_bits());
    let of = |id, time, bits| fingerprint(id, time, name, Value::Real(f64::from_bits(bits)));
    let whole = of(id, time, bits);
    for bit in 0..64 {
        assert_ne!(of(id ^ 1 << bit, time, bits), whole);
        assert_ne!(of(id, time ^ 1 << bit, bits), whole);
        assert_ne!(of(id, time, bits ^ 1 << bit), whole);
    }
    assert_ne!(
        fingerprint(id, time, name, Value::Text("a")),
        fingerprint(id, time, name, Value::Text("b"))
    );
    assert_ne!(
        series("a", "bc", Kind::Float),
        series("ab", "c", Kind::Float)
    );
    assert_ne!(
        series("a", "b", Kind::Float),
        series("a", "b", Kind::Integer)
    );
}

//! The way back: a reading as a line of line protocol.

use std::fmt::Write as _;

use super::cursor::{KEY_SPECIAL, QUOTED_SPECIAL, push_escaped};
use crate::reading::batch::{Kind, Value};

/// Writes one reading as a line that `parse` reads back as the same reading. Names are such as `parse` or
/// `series::canonical` give, `sensor` in canonical form, `field` without escapes; a float is finite.
pub fn write_reading(
    out: &mut String,
    sensor: &str,
    field: &str,
    kind: Kind,
    value: Value<'_>,
    time_ns: i64,
) {
    out.push_str(sensor);
    out.push(' ');
    push_escaped(out, field, KEY_SPECIAL);
    out.push('=');
    // Writing to a String does not fail.
    let _ = match (value, kind) {
        (Value::Real(v), _) => write!(out, "{v:?}"),
        (Value::Integer(v), Kind::Float) => write!(out, "{v}"),
        (Value::Integer(v), Kind::Unsigned) => write!(out, "{v}u"),
        (Value::Integer(v), Kind::Boolean) => write!(out, "{}", v != 0),
        (Value::Integer(v), Kind::Integer | Kind::String) => write!(out, "{v}i"),
        (Value::Text(v), Kind::Unsigned) => write!(out, "{v}u"),
        (Value::Text(v), _) => {
            out.push('"');
            push_escaped(out, v, QUOTED_SPECIAL);
            out.write_str("\"")
        }
    };
    let _ = writeln!(out, " {time_ns}");
}

//! Line protocol, read and written as docs/line-protocol.md says.
//!
//! `parse` takes one record off the front of a buffer in one pass and says how many bytes it took, a bad
//! line being one line. It keeps no state, does no I/O and has no panic in it for any input; once `ParsedLine`
//! is warm it allocates nothing. It does not repair what is wrong. Called by every source that is sent
//! line protocol; `write_reading` is the way back, for export.

mod cursor;
mod parse;
mod reason;
mod write;

pub use parse::{Parsed, ParsedField, ParsedLine, Precision, parse};
pub use reason::{LINE_BYTES_MAX, LineError, Reason};
pub use write::write_reading;

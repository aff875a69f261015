//! SQLite, and nothing of readings: its C interface, its pragmas, its checkpoints, its errors.
//!
//! A `Connection` has one owner. SQL is the caller's; pragmas and checkpoints are here. `store` is the only room
//! that calls it.

pub mod checkpoint;
pub mod error;
mod files;
pub mod pragma;
pub mod raw;
#[cfg(test)]
mod tests;
pub mod transaction;
mod value;

pub use error::{Cause, Class, Error};
pub use value::SqlValue;

//! SQLite: its C interface, its pragmas, its errors.

pub mod checkpoint;
pub mod error;
pub mod pragma;
pub mod raw;

pub use error::{Class, Error};

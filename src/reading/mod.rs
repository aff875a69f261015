//! Readings and line protocol. Knows neither sources nor the database.

mod batch;
mod buffer;
pub mod fingerprint;
pub mod glob;
pub mod line;
pub mod number;
pub mod series;
pub mod stream;

pub use batch::*;
pub use buffer::Buffer;

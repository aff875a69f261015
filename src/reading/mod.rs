//! What a reading is, and how it comes as text. Nothing here knows where readings come from or go to.

mod batch;
pub mod fingerprint;
pub mod glob;
pub mod line;
pub mod number;
pub mod series;
pub mod stream;

pub use batch::*;

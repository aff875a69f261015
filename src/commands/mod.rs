//! The commands that look at a database, or work on it for a moment: one file each, with its settings.

pub mod answer;
pub mod backup;
pub mod check;
pub mod checkpoint;
pub mod export;
mod progress;
pub mod show;
pub mod sink;
pub mod status;

//! Recording: the thread that takes readings and listens to signals, the thread that owns the database, and
//! what they share.

pub mod expiry;
pub mod queue;
pub mod recorder;
pub mod retry;
pub mod settings;
pub mod status;
pub mod stop;
pub mod terminal;
pub mod writer;

//! The recorder's report on itself: the facts, the report made of them, and the socket that it is read from.

pub mod facts;
pub mod report;
pub mod server;

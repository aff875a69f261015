//! SQLite's C interface, one method for each call that seawall makes; all of `unsafe` that SQL needs.
//!
//! A `Connection` owns its statements and lends none of them, so that every call goes through one `&mut`
//! and no two threads can be inside SQLite on the same connection. It may move between threads.

mod bulk;
mod callbacks;
mod connection;
mod row;
mod statement;

pub use callbacks::{BULK_COLUMNS, NewRow};
pub use connection::{Access, Connection, version};
pub use row::Row;
pub use statement::Statement;

//! The database: all of SQL, pragmas and checkpoints, behind methods that say what they promise.
//!
//! One `Db` is one connection with one owner. A commit is whole or not there; only `commit` makes a
//! `Committed`, which is what an ack is made of. Called by the writer thread; `audit` and `checkpoint`
//! serve the commands of these names.

pub mod ack;
mod backup;
mod check;
mod checkpoint;
mod clients;
mod expiry;
mod identify;
mod insert;
mod ledger;
mod read;
mod room;
mod runs;
mod schema;
mod spans;
mod start;
#[cfg(test)]
mod tests;
mod values;

pub use crate::db::checkpoint::{Checkpoint, wal_bytes, wal_frames_of};
pub use crate::db::pragma::{PAGE_BYTES, Sync, WAL_BYTES_KEPT};
pub use crate::db::raw::version;
pub use crate::db::{Class, Error};
pub use backup::Snapshot;
pub use check::{Audit, audit};
pub use checkpoint::checkpoint_file;
pub use expiry::{OldestSpan, Pages, Surplus};
pub use identify::{HEADER_BYTES, is_seawall};
pub use ledger::{Committed, Db};
pub use read::{Names, Position, Reader, Reading, Times, look_before_reading};
pub use room::look_for_room;
pub use start::{Start, Unclean};

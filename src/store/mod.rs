//! The ledger of readings in tables: all SQL about readings, runs, series and clients.
//!
//! One `Db` is one connection with one owner. A commit is whole or not there; only `commit` makes a
//! `Committed`, of which acks are made. Called by the writer's thread; `check` and `checkpoint`
//! serve the commands of these names.

pub mod ack;
mod age;
mod backup;
mod check;
mod checkpoint;
mod clients;
mod expiry;
mod identify;
mod insert;
mod ledger;
mod names;
mod objects;
mod open;
mod overview;
mod read;
mod repeats;
mod room;
mod runs;
mod salvage;
mod schema;
mod spans;
mod start;
mod values;

pub use crate::db::checkpoint::{Checkpoint, wal_bytes, wal_frames_of};
pub use crate::db::pragma::{Durability, PAGE_BYTES, WAL_BYTES_KEPT};
pub use crate::db::raw::version;
pub use crate::db::{Cause, Class, Error};
pub use age::{DAY, Moment};
pub use backup::Snapshot;
pub use check::{Audit, audit};
pub use checkpoint::checkpoint_file;
pub use expiry::{Expired, OldestSpan, Pages, Surplus};
pub use identify::{is_seawall, was_seawall};
pub use ledger::{Committed, Db};
pub use names::Names;
pub use open::{Beside, look_before_reading};
pub use overview::MARKS_MAX;
pub use read::{Position, Reader, Reading, Times};
pub use room::look_for_room;
pub use salvage::Salvage;
pub use start::{Start, Unclean, look_at_wal};

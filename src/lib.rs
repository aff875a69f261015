//! seawall records sensor readings into one SQLite file and loses nothing that it said it has.
//!
//! Two stories, each readable from top to bottom. Data: source → reading → queue → batch → db →
//! committed → ack. Stop: signal → drain → commit → ack → checkpoint → close → exit status. The files are
//! named after the nouns. Decisions meet in `recorder` (the thread that takes readings) and `writer` (the
//! thread that owns the database); the rest are leaves, and most of those are pure.
//!
//! This library is for the program and its tests; its interface is not stable.

pub mod ack;
pub mod answers;
pub mod commands;
#[cfg(target_arch = "x86_64")]
pub mod copy;
pub mod damage;
pub mod db;
pub mod evidence;
pub mod exit;
pub mod glob;
pub mod ledger;
pub mod line;
pub mod log;
pub mod number;
pub mod options;
pub mod output;
pub mod patience;
pub mod place;
pub mod queue;
pub mod reading;
pub mod recorder;
pub mod retention;
pub mod rows;
pub mod series;
pub mod sink;
pub mod sort;
pub mod source;
pub mod source_spec;
pub mod status;
pub mod stop;
pub mod stream;
pub mod sys;
pub mod table;
pub mod terminal;
pub mod time;
pub mod units;
pub mod wal;
pub mod writer;

/// With the commit that it was built from.
pub const VERSION: &str = env!("VERSION_AND_COMMIT");

//! seawall records sensor readings into one SQLite file and loses nothing that it said it has.
//!
//! Two stories, each readable from top to bottom. Data: source → reading → queue → batch → db →
//! committed → ack. Stop: signal → drain → commit → ack → checkpoint → close → exit status. The files are
//! named after the nouns. Decisions meet in `record::recorder` (the thread that takes readings) and
//! `record::writer` (the thread that owns the database); the rest are leaves, and most of those are pure.
//!
//! The rooms, from the ground up; a room imports only from those above it in this list.
//! This library is for the program and its tests; its interface is not stable.

pub mod exit;
pub mod log;
pub mod order;
pub mod output;
pub mod sys;
pub mod time;
pub mod units;
pub mod values;
pub mod words;

pub mod reading;

pub mod db;

pub mod place;

pub mod store;

pub mod source;

pub mod record;

pub mod commands;

pub mod cli;

/// With the commit that it was built from.
pub const VERSION: &str = env!("VERSION_AND_COMMIT");

//! Settings of a recording, as typed values. The command line fills and checks them.

use std::path::PathBuf;
use std::time::Duration;

use crate::db::checkpoint::CheckpointMode;
use crate::log::Level;
use crate::place::Create;
use crate::place::set_aside::OnDamage;
use crate::source::spec::SourceSpec;
use crate::words::words;

#[derive(Clone, Debug, PartialEq)]
pub struct RecordSettings {
    pub db: PathBuf,
    pub sources: Vec<SourceSpec>,
    pub commit_interval: Duration,
    pub commit_rows: usize,
    pub queue_rows: usize,
    pub synchronous: Synchronous,
    /// `None`: no periodic checkpoints.
    pub checkpoint_interval: Option<Duration>,
    pub checkpoint_mode: CheckpointMode,
    /// In pages of the WAL; 0 is off.
    pub wal_autocheckpoint: u32,
    pub busy_timeout: Duration,
    pub stop_timeout: Duration,
    /// How long a request over HTTP is held whose commit does not come.
    pub http_wait: Duration,
    /// `None`: readings are kept however old they are.
    pub retain: Option<Duration>,
    /// Upper bound on the database and its -wal together.
    pub max_size_bytes: Option<u64>,
    pub min_free_bytes: u64,
    pub create: Create,
    pub on_damage: OnDamage,
    pub ack: bool,
    pub log_level: Level,
}

words!(
    /// Which commits are synced to the disk: those whose readings are to be acknowledged, none (the next
    /// checkpoint syncs them), or every one.
    Synchronous: Auto = "auto", Normal = "normal", Full = "full"
);

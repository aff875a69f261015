//! Checkpoints: the modes that SQLite knows.

use crate::words::words;

words!(CheckpointMode: Passive = "passive", Full = "full", Restart = "restart", Truncate = "truncate");

//! The place of the database: its folder, its filesystem, and the lock that keeps a second
//! recorder out. `prepare` goes through them in order, before SQLite writes anything.

pub mod filesystem;
pub mod foreign_wal;
pub mod identity;
pub mod lock;
pub mod machine;
pub mod mark;
pub mod paths;
mod refusal;
pub mod set_aside;
pub mod side_files;

use std::fs;
use std::path::{Path, PathBuf};

pub use filesystem::free_bytes;
pub use identity::inode;
pub use lock::{Lock, is_recorded, lock};
pub use paths::{folder_of, follow_links, wal_of, with_end};

use crate::sys;
use filesystem::Verdict;
use paths::make_folders;
use refusal::refused;
use set_aside::OnDamage;

/// A place that passed all checks.
#[derive(Debug)]
pub struct Place {
    /// Path with symlinks resolved: SQLite puts the -wal beside the file itself.
    pub path: PathBuf,
    pub lock: Lock,
    pub warning: Option<&'static str>,
}

/// Makes the folders that are missing, refuses a place where a recording would be lost or in the way of
/// another, and takes the lock. The message of a refusal says all that the user needs.
pub fn prepare(given: &Path, on_damage: OnDamage) -> Result<Place, String> {
    let real = follow_links(given);
    prepare_real(&real, on_damage).map_err(|message| {
        if real == given {
            message
        } else {
            format!("{message} (given as {})", given.display())
        }
    })
}

fn prepare_real(db: &Path, on_damage: OnDamage) -> Result<Place, String> {
    let folder = folder_of(db);
    make_folders(&folder).map_err(|e| refused("make the folder", &folder, &e))?;
    let verdict = filesystem::verdict(&folder).map_err(|e| refused("look at", &folder, &e))?;
    let warning = match verdict {
        Verdict::Good => None,
        Verdict::Fleeting(warning) => Some(warning),
        Verdict::Network(name) => {
            return Err(format!(
                "cannot record to {}: it is on {name}, a network filesystem, where SQLite's WAL mode cannot work (it needs memory that all processes on the file share); give a --db on a local disk",
                db.display()
            ));
        }
    };
    // SQLite makes its -wal and -shm beside the file.
    sys::may_write(&folder).map_err(|e| refused("write in", &folder, &e))?;
    side_files::refuse_strange(db)
        .map_err(|reason| format!("cannot record to {}: {reason}", db.display()))?;
    may_write_side_files(db)?;
    save_orphan(db, on_damage)?;
    Ok(Place {
        path: db.to_owned(),
        lock: lock(db)?,
        warning,
    })
}

/// SQLite's own error for a -shm that this user may not write names the database.
fn may_write_side_files(db: &Path) -> Result<(), String> {
    for end in ["-wal", "-shm"] {
        let path = with_end(db, end);
        let written = match fs::metadata(&path) {
            Ok(_) => sys::may_write(&path),
            Err(_) => Ok(()),
        };
        written.map_err(|e| refused("write", &path, &e))?;
    }
    Ok(())
}

/// A -wal without its database: SQLite would delete it, with all that is in it, once there is an empty file
/// of that name.
fn save_orphan(db: &Path, on_damage: OnDamage) -> Result<(), String> {
    let wal = wal_of(db);
    let is_orphan = !db.exists() && fs::metadata(&wal).is_ok_and(|m| m.len() > 0);
    match on_damage {
        _ if !is_orphan => Ok(()),
        OnDamage::Refuse => Err(format!(
            "cannot record to {}: there is a -wal beside it with readings in it, but no database; bring both back together, or take the -wal away",
            db.display()
        )),
        OnDamage::SetAside => set_aside::set_aside(db, sys::clock_ns(sys::Clock::Real))
            .map(drop)
            .map_err(|e| refused("set aside", &wal, &e)),
    }
}

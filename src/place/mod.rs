//! The place of the database: its folder, its filesystem, and the lock that keeps a second
//! recorder out. `prepare` goes through them in order, before SQLite writes anything.

pub mod filesystem;
pub mod foreign_wal;
pub mod header;
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

pub use lock::{Lock, is_recorded, lock};
pub use paths::{folder_of, follow_links, wal_of};

use crate::sys;
use crate::words::words;
use filesystem::Verdict;
use paths::make_folders;
use refusal::refused;
use set_aside::OnDamage;

words!(
    /// Whether a database that is not there is made.
    Create: Always = "always", Never = "never"
);

/// A place that passed all checks.
#[derive(Debug)]
pub struct Place {
    /// Path with symlinks resolved: SQLite puts the -wal beside the file itself.
    pub path: PathBuf,
    pub lock: Lock,
    /// Why a recording here may be lost, each with what to do.
    pub warnings: Vec<String>,
}

/// Makes the folders that are missing, refuses a place where a recording would be lost or in the way of
/// another, and takes the lock. The message of a refusal says all that the user needs.
pub fn prepare(given: &Path, create: Create, on_damage: OnDamage) -> Result<Place, String> {
    let real = follow_links(given);
    prepare_real(&real, create, on_damage).map_err(|message| {
        if real == given {
            message
        } else {
            format!("{message} (given as {})", given.display())
        }
    })
}

fn prepare_real(db: &Path, create: Create, on_damage: OnDamage) -> Result<Place, String> {
    let folder = folder_of(db);
    let cannot = |reason: String| format!("cannot record to {}: {reason}", db.display());
    if create == Create::Never && !db.exists() {
        return Err(format!(
            "there is no database at {}, and --create never: if it is on a disk of its own, is that mounted?",
            db.display()
        ));
    }
    let mut warnings = Vec::new();
    if !folder.exists() {
        warnings.push(format!(
            "{} was not there and is made: if it is meant to be on a disk of its own, that is not mounted; --create never then refuses to start",
            folder.display()
        ));
    }
    make_folders(&folder).map_err(|e| refused("make the folder", &folder, &e))?;
    let verdict = filesystem::verdict(&folder).map_err(|e| refused("look at", &folder, &e))?;
    match verdict {
        Verdict::Good => {}
        Verdict::Warning(warning) => warnings.push(warning),
        Verdict::Refused(reason) => return Err(cannot(reason)),
    }
    if filesystem::is_mounted_alone(db) {
        warnings.push(
            "the file is mounted without its folder: its -wal stays on this side and goes with the container, and the newest readings with it; mount the folder".into(),
        );
    }
    // SQLite makes its -wal and -shm beside the file.
    sys::may_write(&folder).map_err(|e| refused("write in", &folder, &e))?;
    side_files::refuse_strange(db).map_err(cannot)?;
    side_files::may_write(db)?;
    warnings.extend(side_files::look_at_names(db).map_err(cannot)?);
    save_orphan(db, on_damage)?;
    Ok(Place {
        path: db.to_owned(),
        lock: lock(db)?,
        warnings,
    })
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

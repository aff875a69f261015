//! The lock that keeps a second recorder out.

use std::fs::{self, File};
use std::mem::ManuallyDrop;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::refusal::refused;
use crate::sys;

/// Wait for a command that holds the lock for a moment to look.
const LOCK_TRIES: u32 = 5;
const LOCK_AGAIN: Duration = Duration::from_millis(20);

/// The lock that keeps a second recorder out, held until the process ends, whichever way it does.
///
/// Never closed while SQLite has the file open: closing any descriptor of a file drops the process's POSIX
/// locks on it, and SQLite's are of that kind.
#[derive(Debug, Default)]
pub struct Lock {
    _file: Option<ManuallyDrop<File>>,
}

/// Whether a recorder has the database. Call it only while this process has not opened it: closing any
/// descriptor of a file drops the process's POSIX locks on it.
pub fn is_recorded(db: &Path) -> bool {
    // To open a pipe would wait for its other end.
    fs::metadata(db).is_ok_and(|file| file.is_file())
        && File::open(db).is_ok_and(|file| sys::try_lock(&file).is_ok_and(|is_free| !is_free))
}

/// Takes the lock of the file at `db`, which is made if it is not there.
pub fn lock(db: &Path) -> Result<Lock, String> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(db)
        .map_err(|e| refused("open", db, &e))?;
    let metadata = file.metadata().map_err(|e| refused("look at", db, &e))?;
    if !metadata.is_file() {
        return Err(format!(
            "cannot record to {}: it is not a file",
            db.display()
        ));
    }
    let mut locked = sys::try_lock(&file);
    for _ in 0..LOCK_TRIES {
        if !locked.as_ref().is_ok_and(|locked| !locked) {
            break;
        }
        std::thread::sleep(LOCK_AGAIN);
        locked = sys::try_lock(&file);
    }
    match locked {
        Ok(true) => Ok(Lock {
            _file: Some(ManuallyDrop::new(file)),
        }),
        Ok(false) => {
            let holder = fs::read_to_string("/proc/locks")
                .ok()
                .and_then(|locks| holder(&locks, metadata.ino()));
            Err(match holder {
                Some(pid) => format!(
                    "cannot record to {}: process {pid} is recording to it",
                    db.display()
                ),
                None => format!(
                    "cannot record to {}: a recorder in another container is recording to it",
                    db.display()
                ),
            })
        }
        Err(e) => Err(refused("lock", db, &e)),
    }
}

/// The process that holds the whole-file lock of an inode, from the text of /proc/locks. Processes of
/// other containers are not listed there.
fn holder(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        if words.next()? != "FLOCK" {
            return None;
        }
        let pid = words.nth(2)?.parse().ok()?;
        let file = words.next()?.rsplit(':').next()?;
        (file.parse() == Ok(inode)).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_among_others() {
        let locks = "\
1: POSIX  ADVISORY  WRITE 301 fe:01:77 128 128
2: FLOCK  ADVISORY  WRITE 302 fe:01:7 0 EOF
3: -> FLOCK  ADVISORY  WRITE 400 fe:01:77 0 EOF
4: FLOCK  ADVISORY  WRITE 303 fe:01:77 0 EOF
bad line
";
        assert_eq!(holder(locks, 77), Some(303));
        assert_eq!(holder(locks, 78), None);
    }
}

//! The files beside a database that SQLite would read or write: `-wal`, `-shm` and `-journal`. SQLite replays a log
//! and rolls back a journal whoever made it, so that in a folder in which others may make files the database would be
//! theirs. Looked at before SQLite opens anything, and without opening them: a FIFO would wait for its other end.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::header::{MODE_BYTES, NOT_WAL};
use super::paths::{follow_links, refuse_link, wal_of, with_end};
use super::refusal::refused;
use crate::sys;

const ENDS: [&str; 3] = ["-wal", "-shm", "-journal"];
const ROOT: u32 = 0;

/// Refuses a link of somebody else, and side files that are no files, or that neither this user nor the owner of the database has put there. The
/// message says all that the user needs.
pub fn refuse_strange(db: &Path) -> Result<(), String> {
    let db = follow_links(db);
    refuse_link(&db)?;
    let (uid, _) = sys::user_and_group();
    // Without a database nobody else has a right to put files beside it.
    let owner = fs::metadata(&db).map_or(uid, |file| file.uid());
    for end in ENDS {
        let path = with_end(&db, end);
        let Ok(file) = fs::symlink_metadata(&path) else {
            continue;
        };
        let path = path.display();
        if !file.is_file() {
            return Err(format!(
                "{path} is not a file, and SQLite would use it with the database; take it away"
            ));
        }
        if ![uid, owner, ROOT].contains(&file.uid()) {
            return Err(format!(
                "{path} belongs to user {}, and neither to this user ({uid}) nor to the owner of the database ({owner}): \
                 somebody else put it there, or recorded as another user; have a look at it, and take it away or chown it",
                file.uid()
            ));
        }
    }
    Ok(())
}

/// SQLite finds the -wal by the name of the database, so that of a file with several names each has one of its own.
/// Returns a warning for such a file; refuses one whose -wal must lie beside another of its names.
pub fn look_at_names(db: &Path) -> Result<Option<String>, String> {
    let names = fs::metadata(db).map_or(1, |file| file.nlink());
    if names < 2 {
        return Ok(None);
    }
    let what = format!(
        "the file has {names} names (hard links, as of cp -al), and its -wal lies beside one of them alone"
    );
    let alone = "to part it from the others: cp it, and mv the copy over it";
    if is_in_wal_mode(db) && !wal_of(db).exists() {
        return Err(format!(
            "{what}, not this one; record to it under that name; or, if no name has a -wal, {alone}"
        ));
    }
    Ok(Some(format!(
        "{what}: whoever opens it under another name ruins it; {alone}"
    )))
}

/// Whether the header says so; what is no file does not.
pub fn is_in_wal_mode(db: &Path) -> bool {
    let mut head = [0; MODE_BYTES.end];
    if !db.is_file() {
        return false;
    }
    let read = File::open(db).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head[MODE_BYTES] != NOT_WAL
}

/// Refuses side files that this user may not write: SQLite's own error for them names the database.
pub fn may_write(db: &Path) -> Result<(), String> {
    for end in ["-wal", "-shm"] {
        let path = with_end(db, end);
        match sys::may_write(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(refused("write", &path, &e));
            }
            _ => {}
        }
    }
    Ok(())
}

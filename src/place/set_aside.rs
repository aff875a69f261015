//! A database that was found damaged is set aside whole: renamed with the files beside it, never written to,
//! never deleted, and reported at every start until somebody takes it away.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::filesystem::is_mounted_alone;
use super::paths::{folder_of, wal_of, with_end};
use crate::time::timestamp;
use crate::words::words;

words!(OnDamage: SetAside = "set-aside", Refuse = "refuse");

const WORD: &str = ".damaged-";

/// Renames the files of a database. Returns the new name of the database itself.
pub fn set_aside(db: &Path, now_ns: i64) -> io::Result<PathBuf> {
    // The database last: as long as it is at its place it is found damaged again, whereas SQLite would
    // delete a -wal that it finds beside nothing.
    rename(db, now_ns, &["-wal", "-shm", "-mark", ""])
}

/// Renames a -wal that is not of the database beside it, and the -shm made from it. Returns the name that the
/// database itself would have got.
pub fn set_wal_aside(db: &Path, now_ns: i64) -> io::Result<PathBuf> {
    // The -wal last: as long as it is at its place it is found again.
    rename(db, now_ns, &["-shm", "-wal"])
}

fn rename(db: &Path, now_ns: i64, ends: &[&str]) -> io::Result<PathBuf> {
    if is_mounted_alone(db) {
        // Before anything is renamed: the others would be parted from it.
        return Err(io::Error::other(
            "it is mounted without its folder, so that it cannot be renamed; stop the recorder, move it away where it is mounted from, and mount the folder",
        ));
    }
    let aside = free_name(db, now_ns);
    for end in ends {
        match fs::rename(with_end(db, end), with_end(&aside, end)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
    }
    File::open(folder_of(db))?.sync_all()?;
    Ok(aside)
}

fn free_name(db: &Path, now_ns: i64) -> PathBuf {
    // Compact, as colons are not welcome in file names everywhere.
    let time = timestamp(now_ns).replace(['-', ':'], "");
    let mut aside = with_end(db, &format!("{WORD}{time}"));
    // Twice within a millisecond: nothing set aside is overwritten.
    while aside.exists() || wal_of(&aside).exists() {
        aside = with_end(&aside, "+");
    }
    aside
}

/// The databases that were set aside and are still there.
pub fn still_aside(db: &Path) -> Vec<PathBuf> {
    let Some(name) = db.file_name() else {
        return Vec::new();
    };
    let mut start = name.to_owned();
    start.push(WORD);
    let folder = folder_of(db);
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.file_name())
        .filter(|name| name.as_bytes().starts_with(start.as_bytes()))
        .map(|name| folder.join(without_end(name)))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The name of the database to which a file belongs.
fn without_end(name: OsString) -> OsString {
    let ends = [&b"-wal"[..], b"-shm", b"-mark"];
    let base = ends
        .into_iter()
        .find_map(|end| name.as_bytes().strip_suffix(end));
    base.map_or_else(|| name.clone(), |base| OsStr::from_bytes(base).to_owned())
}

//! A database that was found damaged is set aside whole: renamed with the files beside it, never written to,
//! never deleted, and reported at every start until somebody takes it away.

use std::ffi::OsStr;
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
/// Upper bound on the names that are told.
const NAMED_MAX: usize = 8;

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
#[derive(Debug, Default)]
pub struct Aside {
    pub count: usize,
    /// The newest, in order; a device that sets one aside at each start would be told of nothing else.
    pub newest: Vec<PathBuf>,
}

impl Aside {
    pub fn unnamed(&self) -> usize {
        self.count - self.newest.len()
    }
}

pub fn still_aside(db: &Path) -> Aside {
    let mut aside = Aside::default();
    let Some(name) = db.file_name() else {
        return aside;
    };
    let mut start = name.to_owned();
    start.push(WORD);
    let folder = folder_of(db);
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.as_bytes().starts_with(start.as_bytes()) {
            continue;
        }
        let (base, ends_before) = base_and_ends(&name);
        let path = folder.join(base);
        // Files that belong together count as one.
        let is_there = |end: &str| fs::symlink_metadata(with_end(&path, end)).is_ok();
        if ends_before.iter().any(|end| is_there(end)) {
            continue;
        }
        aside.count += 1;
        let newest = &mut aside.newest;
        // By their bytes; the folder is the same.
        let is_older = |other: &&PathBuf| other.as_os_str() < path.as_os_str();
        let place = newest.iter().take_while(is_older).count();
        newest.insert(place, path);
        if newest.len() > NAMED_MAX {
            newest.remove(0);
        }
    }
    aside
}

/// Endings of the files of a database.
const ALL_ENDS: [&str; 4] = ["", "-wal", "-shm", "-mark"];

/// The name of the database to which a file belongs, and the endings before its own.
fn base_and_ends(name: &OsStr) -> (&OsStr, &'static [&'static str]) {
    let name = name.as_bytes();
    let found = ALL_ENDS.iter().enumerate().skip(1);
    let mut found = found.filter_map(|(n, end)| Some((name.strip_suffix(end.as_bytes())?, n)));
    let (base, n) = found.next().unwrap_or((name, 0));
    (OsStr::from_bytes(base), &ALL_ENDS[..n])
}

//! Paths around a database: its folder, the files that lie beside it, the file that a symlink leads to.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

pub fn wal_of(db: &Path) -> PathBuf {
    with_end(db, "-wal")
}

pub fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

pub fn folder_of(db: &Path) -> PathBuf {
    match db.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Resolves symlinks, whether the file exists yet or not.
pub fn follow_links(db: &Path) -> PathBuf {
    const LINKS_MAX: usize = 40;
    let mut path = db.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(target) => path = folder_of(&path).join(target),
            Err(_) => break,
        }
    }
    path
}

/// Makes a folder and those above it, each on the disk before the next.
pub fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder_of(folder);
    if !folder.as_os_str().is_empty() {
        make_folders(&above)?;
    }
    match fs::create_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made.and_then(|()| File::open(&above)?.sync_all()),
    }
}

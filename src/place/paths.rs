//! Paths around a database: its folder, the files that lie beside it, the file that a symlink leads to.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sys;

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

/// Resolves symlinks, whether the file exists yet or not; up to one that `refuse_link` refuses.
pub fn follow_links(db: &Path) -> PathBuf {
    const LINKS_MAX: usize = 40;
    let mut path = db.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(target) if refuse_link(&path).is_ok() => path = folder_of(&path).join(target),
            _ => break,
        }
    }
    path
}

/// An error for a link that somebody else put into a folder in which everybody may make files, whatever
/// `fs.protected_symlinks` is: it would choose the file that this user writes.
pub fn refuse_link(path: &Path) -> Result<(), String> {
    const OPEN_TO_ALL: u32 = 0o1002;
    let (Ok(link), Ok(folder)) = (fs::symlink_metadata(path), fs::metadata(folder_of(path))) else {
        return Ok(());
    };
    let is_trusted = [sys::user_and_group().0, folder.uid()].contains(&link.uid());
    if !link.is_symlink() || is_trusted || folder.mode() & OPEN_TO_ALL != OPEN_TO_ALL {
        return Ok(());
    }
    Err(format!(
        "{} is a link that user {} put into a folder in which everybody may make files, and is not followed; name the file itself",
        path.display(),
        link.uid()
    ))
}

/// Makes a folder and those above it, each on the disk before the next.
pub fn make_folders(folder: &Path) -> io::Result<()> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.is_dir();
    let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            // Its own error says more where it is there and is none, or may not be looked at.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if !fs::metadata(folder)?.is_dir() {
                    return Err(e);
                }
            }
            made => made.and_then(|()| File::open(folder_of(folder))?.sync_all())?,
        }
    }
    Ok(())
}

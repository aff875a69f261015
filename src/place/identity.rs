//! Which files a recording goes into, by device and inode.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::paths::wal_of;

/// The files that a recording goes into, by device and inode: `rm` or `mv` on a live database leaves SQLite
/// writing on into nothing, and nothing but a look at the folder tells.
#[derive(Debug)]
pub struct Identity {
    files: Vec<(PathBuf, (u64, u64))>,
}

impl Identity {
    /// Of the database and its -wal, as they are now.
    pub fn of(db: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        for path in [db.to_owned(), wal_of(db)] {
            let id = inode(&path)?;
            files.push((path, id));
        }
        Ok(Identity { files })
    }

    /// The path of a file that is no longer at its place, if any.
    pub fn missing(&self) -> Option<&Path> {
        let gone = |(path, id): &&(PathBuf, (u64, u64))| inode(path).ok() != Some(*id);
        self.files.iter().find(gone).map(|(path, _)| path.as_path())
    }
}

/// Device and inode.
pub fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|m| (m.dev(), m.ino()))
}

//! Names of the files that SQLite makes beside a database.

use std::path::{Path, PathBuf};

pub fn wal_of(db: &Path) -> PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

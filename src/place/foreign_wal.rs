//! A `-wal` that is not the database's own, looked for before SQLite opens anything: SQLite replays any `-wal`
//! that is whole in itself, that of another database too, which ruins the file.
//!
//! A database that ended cleanly says in its header that it is not in WAL mode, and has no `-wal`. So one beside
//! it is another's, and is set aside. One without a frame is what a power cut left on the way into WAL mode or out
//! of it, and is removed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::paths::{wal_of, with_end};

/// A `-wal` that is no longer than its header holds no frame.
const WAL_HEADER_BYTES: u64 = 32;
/// Where the file's header says whether it is in WAL mode.
const MODE_BYTES: std::ops::Range<usize> = 18..20;
const NOT_WAL: [u8; 2] = [1, 1];

/// What to do with the `-wal` before SQLite sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It is the database's own, or there is none.
    Leave,
    /// It is not this database's.
    SetAside,
    /// It holds no frame. SQLite would go on in WAL mode, and the file would say for ever that it is in another.
    Remove,
}

/// Looks at the files of a database that nobody has open here.
pub fn look(db: &Path) -> io::Result<Treatment> {
    let wal_bytes = match fs::metadata(wal_of(db)) {
        Ok(file) => file.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Treatment::Leave),
        Err(e) => return Err(e),
    };
    let is_blank = wal_bytes <= WAL_HEADER_BYTES;
    if is_blank && with_end(db, "-journal").exists() {
        return Ok(Treatment::Remove);
    }
    // After the -wal: a file that leaves WAL mode loses its -wal first.
    let mut head = Vec::new();
    File::open(db)?.take(100).read_to_end(&mut head)?;
    if head.is_empty() && wal_bytes > 0 {
        return Ok(Treatment::SetAside);
    }
    if head.get(MODE_BYTES) != Some(&NOT_WAL) {
        return Ok(Treatment::Leave);
    }
    Ok(if is_blank {
        Treatment::Remove
    } else {
        Treatment::SetAside
    })
}

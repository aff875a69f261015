//! A `-wal` that is not the database's own, looked for before SQLite opens anything: SQLite replays any `-wal`
//! that is whole in itself, that of another database too, which ruins the file.
//!
//! A database that ended cleanly says in its header that it is not in WAL mode, and has no `-wal`: it is in WAL mode
//! before it has one, and all of the `-wal` is in it before it leaves that mode. So one beside it is another's, and
//! is set aside: it may hold acknowledged readings, where a backup was copied over the file after a kill. Two kinds are
//! its own, and nothing in them is needed, so they are removed: one without a frame, which a power cut left on the way
//! into WAL mode or out of it; and one that a power cut has brought back after a clean stop. That one has the mark of
//! the file's last run beside it, as the mark is removed after the `-wal`, and that run has ended in the file.
//!
//! A file in WAL mode (after a kill, or a stop with status 3) may need its `-wal`. Where another's was put in its
//! place, only the damage or the mark shows that afterwards.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::header::{HEADER_BYTES, MODE_BYTES, NOT_WAL};
use super::mark::{self, Reached};
use super::paths::{wal_of, with_end};

/// A `-wal` that is no longer than its header holds no frame.
const WAL_HEADER_BYTES: u64 = 32;

/// Treatment of the `-wal` before SQLite sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It is the database's own, or there is none.
    Leave,
    /// It is not this database's.
    SetAside,
    /// Nothing is in it, or nothing that the file lacks. SQLite would go on in WAL mode, and the file would say for
    /// ever that it is in another.
    Remove { is_blank: bool },
}

/// Whether a -wal with a frame lies beside a database.
pub fn has_frames(db: &Path) -> bool {
    fs::metadata(wal_of(db)).is_ok_and(|file| file.len() > WAL_HEADER_BYTES)
}

/// Looks at the files of a database that nobody has open here. `is_ours` recognises the header of a database that
/// a recorder made; the files of others are left alone. `has_all_of` says whether the file without its -wal ends with
/// the run of a mark, ended, and holds all that the mark says.
pub fn look(
    db: &Path,
    is_ours: impl FnOnce(&[u8; HEADER_BYTES]) -> bool,
    has_all_of: impl FnOnce(&Reached) -> bool,
) -> io::Result<Treatment> {
    let wal_bytes = match fs::metadata(wal_of(db)) {
        Ok(file) => file.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Treatment::Leave),
        Err(e) => return Err(e),
    };
    let is_blank = wal_bytes <= WAL_HEADER_BYTES;
    if is_blank && with_end(db, "-journal").exists() {
        return Ok(Treatment::Remove { is_blank });
    }
    // After the -wal: a file that leaves WAL mode loses its -wal first.
    let mut head = Vec::new();
    File::open(db)?
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut head)?;
    if head.is_empty() && wal_bytes > 0 {
        return Ok(Treatment::SetAside);
    }
    let Ok(head) = <[u8; HEADER_BYTES]>::try_from(head) else {
        return Ok(Treatment::Leave);
    };
    if head[MODE_BYTES] != NOT_WAL || !is_ours(&head) {
        return Ok(Treatment::Leave);
    }
    Ok(
        if is_blank || mark::read(db).as_ref().is_some_and(has_all_of) {
            Treatment::Remove { is_blank }
        } else {
            Treatment::SetAside
        },
    )
}

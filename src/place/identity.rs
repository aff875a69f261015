//! Whether the files that a recording goes into are still those, and what was written to them. `rm`, `mv`, `truncate` or
//! `cp` on a live database leaves SQLite writing on, and nothing but a look at the files tells.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::header::{HEADER_BYTES, WAL_MAGIC};
use super::paths::{wal_of, with_end};

/// Sizes that SQLite expects of its files.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub page_bytes: u64,
    /// Bytes that the frames of the last commit end at; 0 if there is none.
    pub wal_bytes: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Look<'a> {
    Sound,
    /// This file was taken away, replaced or overwritten.
    Lost(&'a Path),
    /// The `-wal` is too short; another program's checkpoint may have truncated it just now.
    ShortWal,
}

/// Inodes of database, `-wal` and `-shm`, length and header of the database.
#[derive(Debug)]
pub struct Identity {
    files: [(PathBuf, (u64, u64)); 3],
    /// Nobody holds locks on it, so that it may be open beside SQLite.
    wal: File,
    /// Never closed, which would drop SQLite's locks.
    db: ManuallyDrop<File>,
    db_bytes: u64,
    head: [u8; HEADER_BYTES],
}

impl Identity {
    /// Identity of the files as they are now.
    pub fn of(db: &Path) -> io::Result<Self> {
        let file = |path: PathBuf| {
            let inode = inode(&path)?;
            Ok::<_, io::Error>((path, inode))
        };
        let wal = wal_of(db);
        let open = ManuallyDrop::new(File::open(db)?);
        let mut head = [0; HEADER_BYTES];
        open.read_exact_at(&mut head, 0)?;
        Ok(Identity {
            db: open,
            head,
            wal: File::open(&wal)?,
            files: [
                file(db.to_owned())?,
                file(wal)?,
                file(with_end(db, "-shm"))?,
            ],
            db_bytes: fs::metadata(db)?.len(),
        })
    }

    /// `pages` gives the pages of the database, those included that are only in the `-wal`; `None` for now, so that the
    /// length is looked at the next time.
    pub fn look(&mut self, expected: Expected, pages: &mut dyn FnMut() -> Option<u64>) -> Look<'_> {
        let [db, wal, _] = &self.files;
        let gone = |(path, id): &&(PathBuf, (u64, u64))| inode(path).ok() != Some(*id);
        if let Some((path, _)) = self.files.iter().find(gone) {
            return Look::Lost(path);
        }
        let Ok(db_bytes) = fs::metadata(&db.0).map(|file| file.len()) else {
            return Look::Lost(&db.0);
        };
        if db_bytes != self.db_bytes
            && let Some(pages) = pages()
        {
            let before = std::mem::replace(&mut self.db_bytes, db_bytes);
            if !is_length_sound(before, db_bytes, pages, expected.page_bytes) {
                return Look::Lost(&db.0);
            }
        }
        let mut head = [0; HEADER_BYTES];
        // SQLite's own calls report an error better.
        if self.db.read_exact_at(&mut head, 0).is_ok() {
            if !is_head_sound(&self.head, &head) {
                return Look::Lost(&db.0);
            }
            self.head = head;
        }
        let wal_bytes = self.wal.metadata().map_or(0, |file| file.len());
        if wal_bytes < expected.wal_bytes {
            return Look::ShortWal;
        }
        let mut magic = [0; 4];
        if expected.wal_bytes > 0
            && !(self.wal.read_exact_at(&mut magic, 0).is_ok() && WAL_MAGIC.contains(&magic))
        {
            return Look::Lost(&wal.0);
        }
        Look::Sound
    }

    pub fn wal(&self) -> &Path {
        &self.files[1].0
    }
}

/// Only checkpoints change the length of the database: they make it as long as SQLite says, and shorter only after
/// somebody's VACUUM.
fn is_length_sound(before: u64, now: u64, pages: u64, page_bytes: u64) -> bool {
    let said = pages * page_bytes;
    match now.cmp(&before) {
        Ordering::Less => said < before,
        Ordering::Equal => true,
        // A checkpoint that met a full disk may have left a part of a page.
        Ordering::Greater => now <= said,
    }
}

/// Magic, page size and WAL mode stay, and so does the application's id once the file has it. The change counter only
/// grows. A database that is not being recorded is not in WAL mode, a copy of this one has an older counter.
fn is_head_sound(before: &[u8; HEADER_BYTES], now: &[u8; HEADER_BYTES]) -> bool {
    let id = |head: &[u8; HEADER_BYTES]| head[68..] != [0; 4];
    // The bytes of the counter are in the order in which they compare.
    now[..24] == before[..24]
        && now[24..28] >= before[24..28]
        && (now[68..] == before[68..] || !id(before))
}

/// Device and inode.
pub fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|m| (m.dev(), m.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_database_keeps_its_mode_and_its_counter_grows() {
        let mut made = [0; HEADER_BYTES];
        made[..20].copy_from_slice(b"SQLite format 3\0\x10\0\x02\x02");
        let with = |head: &[u8; HEADER_BYTES], at: usize, byte| {
            let mut head = *head;
            head[at] = byte;
            head
        };
        let first = with(&with(&made, 71, 0x57), 26, 1);
        let later = with(&first, 26, 2);
        assert!(is_head_sound(&made, &made) && is_head_sound(&made, &first));
        assert!(is_head_sound(&first, &later));
        // An older copy; one that ended cleanly; another's; none.
        assert!(!is_head_sound(&later, &first) && !is_head_sound(&first, &with(&later, 18, 1)));
        assert!(!is_head_sound(&first, &with(&later, 71, 0)));
        assert!(!is_head_sound(&first, &[0; HEADER_BYTES]));
    }

    #[test]
    fn a_database_grows_to_what_sqlite_says_and_shrinks_only_with_it() {
        let sound =
            |before: u64, now: u64, pages| is_length_sound(before * 1024, now * 1024, pages, 1024);
        assert!(sound(10, 10, 10) && sound(10, 10, 50) && sound(10, 10, 4));
        assert!(sound(10, 50, 50) && sound(10, 20, 50));
        // A VACUUM, and its checkpoint.
        assert!(sound(50, 4, 4));
        // `truncate`, and `cp` of another database.
        assert!(!sound(10, 0, 10) && !sound(10, 9, 12) && !sound(10, 13, 12));
        assert!(!is_length_sound(10 * 1024, 5000, 10, 1024));
    }
}

//! The mark: a small file beside the database with the newest committed id, by which the next start
//! notices a lost `-wal`.
//!
//! SQLite recovers a database whose `-wal` was deleted, cut off or damaged inside without an error: the commits
//! that were in it are gone in silence. So the writer rewrites this file after each commit and before anybody
//! is acknowledged, with one write and no sync. It never claims more than a commit that returned OK. A file
//! that holds fewer ids than were synced has lost readings for certain; fewer than were committed too, unless
//! the machine was booted in between. The mark is evidence and no data: where it cannot be written or read,
//! recording goes on and a loss is not noticed.
//!
//! It is removed at the end of a clean stop, after the `-wal`, and only when that is gone from the disk: where a
//! power cut brings a removed `-wal` back, the mark is still there and says that it is this database's own.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::paths::{folder_of, with_end};

/// Length of the file: a line of text, padded with spaces, so that each write replaces all of it.
const MARK_BYTES: usize = 256;
/// Above every id that a device could use; leaves room for additions.
const ID_MAX: i64 = i64::MAX / 4;

/// Contents of the mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The database's own id.
    pub device: String,
    pub run: i64,
    /// When the run started: a copy of the file that was recorded onto may have another run of this number.
    pub started_ns: i64,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Newest id committed.
    pub committed: i64,
    /// Newest id committed and synced.
    pub synced: i64,
}

impl Reached {
    /// Text of the file, made without allocating, since it is written after each commit.
    fn record(&self) -> [u8; MARK_BYTES] {
        let Reached {
            device,
            run,
            started_ns,
            boot_id,
            committed,
            synced,
        } = self;
        let mut bytes = [b' '; MARK_BYTES];
        let mut rest = &mut bytes[..];
        // A device's id that somebody made longer leaves no room for the sum: then there is no valid mark.
        let _ = write!(
            rest,
            "seawall device={device} run={run} started={started_ns} committed={committed} synced={synced} boot={boot_id}"
        );
        let end = MARK_BYTES - rest.len();
        let sum = sum(&bytes[..end]);
        let _ = write!(&mut bytes[end..], " sum={sum:016x}");
        bytes
    }

    fn parse(text: &str) -> Option<Self> {
        let (words, told) = text.trim_end().rsplit_once(" sum=")?;
        if u64::from_str_radix(told, 16).ok()? != sum(words.as_bytes()) {
            return None;
        }
        // The boot id comes last: it may be any text.
        let mut words = words.strip_prefix("seawall ")?.splitn(6, ' ');
        let mut value = |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=');
        let reached = Reached {
            device: value("device")?.to_owned(),
            run: value("run")?.parse().ok()?,
            started_ns: value("started")?.parse().ok()?,
            committed: value("committed")?.parse().ok()?,
            synced: value("synced")?.parse().ok()?,
            boot_id: value("boot")?.to_owned(),
        };
        (reached.committed.max(reached.synced) <= ID_MAX).then_some(reached)
    }

    /// Whether it is of this run. If not, it is of another database, or of a run that this file, a backup perhaps,
    /// does not end with.
    pub fn is_of(&self, device: &str, run: i64, started_ns: i64) -> bool {
        self.device == device && (self.run, self.started_ns) == (run, started_ns)
    }

    /// The ids that were committed and are not in the file, which ends with the run of the mark and knows of no id
    /// from `next_id` on.
    pub fn missing(&self, next_id: i64, boot_id: Option<&str>) -> Option<RangeInclusive<i64>> {
        // A kernel that has no boot id is never known to be the same.
        let is_same_boot = !self.boot_id.is_empty() && boot_id == Some(self.boot_id.as_str());
        let newest = if is_same_boot {
            self.committed
        } else {
            self.synced
        };
        (newest >= next_id).then_some(next_id..=newest)
    }
}

/// FNV-1a: tells a write that was torn.
fn sum(words: &[u8]) -> u64 {
    words.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

pub fn path_of(db: &Path) -> PathBuf {
    with_end(db, "-mark")
}

/// Reads the mark beside a database; `None` without a valid one.
pub fn read(db: &Path) -> Option<Reached> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path_of(db))
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(MARK_BYTES as u64)
        .read_to_string(&mut text)
        .ok()?;
    Reached::parse(&text)
}

/// The mark of the run that is recording.
#[derive(Debug)]
pub struct Mark {
    file: File,
    reached: Reached,
}

impl Mark {
    /// Replaces the mark of the run before. All of the file is on the disk when this returns, so that to write
    /// it again takes no room.
    pub fn create(db: &Path, reached: Reached) -> io::Result<Self> {
        let path = path_of(db);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        // Nobody else can have made it, and no link is followed.
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        // As SQLite does for the -wal: whoever may read the database may read this.
        let (database, own) = (fs::metadata(db)?, file.metadata()?);
        if (own.uid(), own.gid()) != (database.uid(), database.gid()) {
            // Only root may; it stays as it is for everybody else.
            let _ = fchown(&file, Some(database.uid()), Some(database.gid()));
        }
        file.set_permissions(Permissions::from_mode(database.mode() & 0o666))?;
        let mark = Mark { file, reached };
        mark.write()?;
        mark.file.sync_all()?;
        Ok(mark)
    }

    /// Writes the newest ids that are committed and synced, where they are others than before.
    pub fn advance(&mut self, committed: i64, synced: i64) -> io::Result<()> {
        if (self.reached.committed, self.reached.synced) == (committed, synced) {
            return Ok(());
        }
        self.reached.committed = committed;
        self.reached.synced = synced;
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        self.file.write_all_at(&self.reached.record(), 0)
    }
}

/// Removes the mark of a database that is complete by itself. Only after the -wal was removed.
pub fn remove(db: &Path) -> io::Result<()> {
    let path = path_of(db);
    if fs::symlink_metadata(&path).is_err() {
        return Ok(());
    }
    // Syncs the removal of the -wal.
    File::open(folder_of(db))?.sync_all()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached() -> Reached {
        Reached {
            device: "0123456789abcdef0123456789abcdef".into(),
            run: 3,
            started_ns: 1_795_000_000_000_000_000,
            boot_id: "7c5b5b2e-2d1f-4f3c 9d57-0d7b6a1f9a10".into(),
            committed: 200,
            synced: 120,
        }
    }

    #[test]
    fn a_mark_is_read_back_and_a_torn_one_is_not() {
        let longest = Reached {
            run: i64::MAX,
            started_ns: i64::MIN,
            committed: ID_MAX,
            synced: i64::MIN,
            ..reached()
        };
        for reached in [reached(), longest] {
            let text = String::from_utf8(reached.record().to_vec()).unwrap();
            let text = text.trim_end().to_owned();
            assert!(text.len() <= MARK_BYTES, "{}", text.len());
            assert_eq!(Reached::parse(&text), Some(reached.clone()));
            for end in 0..text.len() {
                assert_eq!(Reached::parse(&text[..end]), None, "{end}");
            }
            for at in 0..text.len() {
                let mut torn = text.clone().into_bytes();
                torn[at] ^= 1;
                let torn = String::from_utf8(torn).unwrap();
                assert_ne!(Reached::parse(&torn), Some(reached.clone()), "{at}");
            }
        }
    }
}

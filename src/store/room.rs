//! Free space that SQLite does not check for.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::db::Error;
use crate::place;
use crate::sys;

/// An error when less than `keep_free_bytes` is free, or so little that SQLite's shared memory could end the
/// process: SQLite makes sure of one block for each 4096 bytes of the -shm, and where blocks are smaller,
/// writing to the others through the map is a SIGBUS when the disk is full.
pub fn look_for_room(path: &Path, keep_free_bytes: u64) -> Result<(), Error> {
    const SHM_PAGE_BYTES: u64 = 4096;
    /// The -shm of a WAL of 16,000 frames, the least that is kept free.
    const SHM_BYTES: u64 = 128 * 1024;
    /// The -shm has 32 KiB for each 4096 frames; a page has 512 bytes or more.
    const WAL_BYTES_PER_SHM_BYTE: u64 = 64;
    let Ok(disk) = sys::filesystem(&place::paths::folder_of(path)) else {
        // If statfs fails, SQLite's own calls report the cause better.
        return Ok(());
    };
    let for_shm = if disk.block_bytes < SHM_PAGE_BYTES {
        // A longer -wal, as a reader or `--wal-autocheckpoint 0` leaves behind, needs more when it is recovered.
        let wal_bytes = std::fs::metadata(place::paths::wal_of(path)).map_or(0, |file| file.len());
        let there = std::fs::metadata(place::paths::with_end(path, "-shm"))
            .map_or(0, |file| file.blocks() * 512);
        SHM_BYTES.max((wal_bytes / WAL_BYTES_PER_SHM_BYTE).saturating_sub(there))
    } else {
        0
    };
    let keep = keep_free_bytes.max(for_shm);
    if disk.free_bytes < keep {
        return Err(Error::little_room(path, disk.free_bytes, keep));
    }
    Ok(())
}

/// An error when the -wal cannot be made for want of an inode: SQLite's own says only that it cannot open.
pub(super) fn look_for_inodes(path: &Path) -> Result<(), Error> {
    match sys::filesystem(&place::paths::folder_of(path)) {
        Ok(disk) if disk.is_out_of_inodes && !place::paths::wal_of(path).exists() => {
            Err(Error::no_inodes(path))
        }
        _ => Ok(()),
    }
}

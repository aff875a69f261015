//! The first bytes of SQLite's files, which are looked at without SQLite.

use std::ops::Range;

/// As much of a database's header as is looked at. It ends with the application's id.
pub const HEADER_BYTES: usize = 72;
pub const MAGIC: &[u8] = b"SQLite format 3\0";
/// Where the header says whether the file is in WAL mode.
pub const MODE_BYTES: Range<usize> = 18..20;
pub const NOT_WAL: [u8; 2] = [1, 1];
/// First bytes of a `-wal`, in either byte order of its checksums.
pub const WAL_MAGIC: [[u8; 4]; 2] = [[0x37, 0x7f, 0x06, 0x82], [0x37, 0x7f, 0x06, 0x83]];

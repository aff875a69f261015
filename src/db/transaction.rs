//! The statements of a transaction, and of the sizes of the file.

use std::ffi::CStr;

/// Takes the write lock at once, so that no later statement fails for want of it.
pub const BEGIN_WRITE: &CStr = c"BEGIN IMMEDIATE";
/// The first query after it takes the snapshot.
pub const BEGIN_READ: &CStr = c"BEGIN";
pub const COMMIT: &CStr = c"COMMIT";
pub const ROLLBACK: &CStr = c"ROLLBACK";

pub const PAGE_COUNT: &CStr = c"PRAGMA page_count";
pub const FREELIST_COUNT: &CStr = c"PRAGMA freelist_count";

//! A copy of the database as it is at one moment, for `backup`.
//!
//! One read transaction spans the copy. SQLite begins a copy anew whenever another connection commits
//! between two of its steps, which beside a recorder is every second: without the snapshot a large copy would
//! never end. The recorder goes on; only its WAL cannot start again from the beginning until then.

use std::ffi::CStr;
use std::path::Path;
use std::time::Duration;

use super::open::{Beside, open};
use super::schema;
use crate::db::Error;
use crate::db::pragma;
use crate::db::raw::{Access, Connection};
use crate::db::transaction;

/// Pages copied in one step, between which a signal is heard and progress told: 1 MiB.
const STEP_PAGES: i32 = 256;

const PAGE_SIZE: &CStr = c"PRAGMA page_size";
const PAGES: &CStr = c"SELECT data FROM sqlite_dbpage";

/// Offsets of the two bytes of the first page that say whether the file is in WAL mode.
const MODE_BYTES: std::ops::Range<usize> = 18..20;
const NOT_WAL: [u8; 2] = [1, 1];

pub struct Snapshot {
    raw: Connection,
    pages: u64,
    page_bytes: u64,
}

impl Snapshot {
    pub fn take(path: &Path, busy_timeout: Duration) -> Result<Self, Error> {
        let operation = "copy";
        let mut raw = open(path, busy_timeout)?;
        raw.execute(operation, transaction::BEGIN_READ)?;
        // The first query takes the snapshot.
        raw.answer(operation, schema::GET_DEVICE)?;
        let number = |raw: &mut Connection, sql| -> Result<u64, Error> {
            Ok(raw.answer(operation, sql)?.parse().unwrap_or(0))
        };
        Ok(Snapshot {
            pages: number(&mut raw, transaction::PAGE_COUNT)?,
            page_bytes: number(&mut raw, PAGE_SIZE)?,
            raw,
        })
    }

    /// What the file lacks of its last run, in words. An error comes again where the readings are read.
    pub fn missing(&mut self, beside: &Beside) -> Option<String> {
        beside.missing(&mut self.raw).unwrap_or(None)
    }

    /// Pages of the copy.
    pub fn bytes(&self) -> u64 {
        self.pages * self.page_bytes
    }

    /// Writes the copy into an empty file. Calls `go_on` with the bytes copied and all bytes; false ends the copy
    /// early, and so does this function return false.
    pub fn copy_to(
        &mut self,
        dest: &Path,
        mut go_on: impl FnMut(u64) -> bool,
    ) -> Result<bool, Error> {
        let page_bytes = self.page_bytes;
        let mut to = Connection::open(dest, Access::ReadWrite)?;
        pragma::set_for_copy(&mut to)?;
        let mut copy = self.raw.copy_to(&mut to)?;
        loop {
            let is_done = copy.step(STEP_PAGES)?;
            if !go_on(u64::from(copy.pages()) * page_bytes) {
                return Ok(false);
            }
            if is_done {
                break;
            }
        }
        copy.finish()?;
        if !pragma::leave_wal(&mut to)? {
            return Err(Error::busy("take out of WAL mode", dest));
        }
        to.close()?;
        Ok(true)
    }

    /// Hands the pages of the copy to `each`, in order, until it returns false.
    pub fn pages(&mut self, mut each: impl FnMut(&[u8]) -> bool) -> Result<(), Error> {
        let mut is_first = true;
        self.raw.rows("copy", PAGES, |row| {
            let page = row.blob(0);
            if !is_first {
                return each(page);
            }
            is_first = false;
            let mut page = page.to_vec();
            if let Some(mode) = page.get_mut(MODE_BYTES) {
                mode.copy_from_slice(&NOT_WAL);
            }
            each(&page)
        })
    }
}

//! A copy of the database as it is at one moment, for `backup`.
//!
//! One read transaction spans the copy. The recorder goes on; only its WAL cannot start again from the beginning until
//! then. The pages are handed out, not written by SQLite: it would open the copy by its name, and whatever lies there
//! or beside it by then.

use std::ffi::CStr;
use std::path::Path;
use std::time::Duration;

use super::open::{Beside, open};
use super::schema;
use super::start::COPY;
use crate::db::Error;
use crate::db::raw::Connection;
use crate::db::transaction;
use crate::place::header::{MODE_BYTES, NOT_WAL};

const PAGE_SIZE: &CStr = c"PRAGMA page_size";
/// The table has one row, and so one page.
const DEVICE_PAGE: &CStr = c"SELECT rootpage FROM sqlite_master WHERE name = 'device'";
const PAGES: &CStr = c"SELECT data FROM sqlite_dbpage";

/// Puts the word for a copy in the place of the machine's names, in the page that holds them. Of the same length, as
/// the page is handed out as it is otherwise.
fn name_a_copy(page: &mut [u8], machine: &[u8]) {
    // Also where the row lay before, which may come first.
    for at in 0..page.len() {
        if machine.len() >= COPY.len() && page[at..].starts_with(machine) {
            let text = &mut page[at..at + machine.len()];
            text.fill(b' ');
            text[..COPY.len()].copy_from_slice(COPY.as_bytes());
        }
    }
}

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

    /// Describes the readings of the last run that the file lacks. An error comes again where the readings are read.
    pub fn missing(&mut self, beside: &Beside) -> Option<String> {
        beside.missing(&mut self.raw).unwrap_or(None)
    }

    /// Pages of the copy.
    pub fn bytes(&self) -> u64 {
        self.pages * self.page_bytes
    }

    /// Hands the pages of the copy to `each`, in order, until it returns false. The copy is not in WAL mode, and names
    /// no machine but that it is a copy: recorded onto, it takes a device id of its own.
    pub fn pages(&mut self, mut each: impl FnMut(&[u8]) -> bool) -> Result<(), Error> {
        let operation = "copy";
        let machine = self.raw.answer(operation, schema::GET_MACHINE)?;
        let machine_page = self.raw.answer(operation, DEVICE_PAGE)?;
        let machine_page = machine_page.parse().unwrap_or(0);
        let mut number = 0_u64;
        self.raw.rows(operation, PAGES, |row| {
            number += 1;
            let page = row.blob(0);
            if number != 1 && number != machine_page {
                return each(page);
            }
            let mut page = page.to_vec();
            if number == 1
                && let Some(mode) = page.get_mut(MODE_BYTES)
            {
                mode.copy_from_slice(&NOT_WAL);
            }
            if number == machine_page {
                name_a_copy(&mut page, machine.as_bytes());
            }
            each(&page)
        })
    }
}

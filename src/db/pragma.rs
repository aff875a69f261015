//! The pragmas as one table. Each is set and read back: SQLite ignores what it does not understand.

use std::ffi::CString;
use std::time::Duration;

use super::error::{Cause, Error};
use super::raw::Connection;

/// Page size of a new file. A commit writes whole pages: a device that commits ten readings a second writes half of
/// what it would with SQLite's 4096, and reading all of a large file takes a tenth longer.
pub const PAGE_BYTES: u64 = 1024;
/// Bytes to which a WAL that has grown is cut back when it starts again from its beginning: with pages of 1 KiB
/// several times its size at an automatic checkpoint, so that in daily work it is neither cut nor grown anew.
pub const WAL_BYTES_KEPT: u64 = 8 * 1024 * 1024;
/// Memory for pages; a commit that changes more spills into the WAL early, which costs no safety.
const CACHE_KIB: i64 = 512;

/// Under which the file goes into WAL mode and out of it: that changes a few bytes of the header, within
/// one sector, which the device writes whole or not at all. A journal would guard nothing, and cost four
/// syncs and the room for it on a disk that may be full.
const FLIP: &str = "memory";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Normal,
    Full,
}

pub struct Pragma {
    name: &'static str,
    value: String,
    answer: String,
}

pub fn pragma(name: &'static str, value: impl ToString, answer: impl ToString) -> Pragma {
    Pragma {
        name,
        value: value.to_string(),
        answer: answer.to_string(),
    }
}

/// Pragmas of a recorder, in order.
pub fn set_all(
    connection: &mut Connection,
    busy_timeout: Duration,
    wal_autocheckpoint: u32,
) -> Result<(), Error> {
    let busy_ms = busy_timeout.as_millis().min(i32::MAX as u128);
    // First, because already the next may meet another process's lock.
    set(connection, &pragma("busy_timeout", busy_ms, busy_ms))?;
    // From WAL this would be the way out of it; and the first page of a new file is not yet there to be
    // changed by one sector.
    let is_wal = connection.answer("configure", c"PRAGMA journal_mode")? == "wal";
    let is_empty = connection.answer("configure", c"PRAGMA page_count")? == "0";
    if is_empty {
        set(connection, &pragma("page_size", PAGE_BYTES, PAGE_BYTES))?;
    } else if !is_wal {
        set(connection, &pragma("journal_mode", FLIP, FLIP))?;
    }
    let table = [
        // Readers never wait for the writer, nor it for them; survives in the file.
        pragma("journal_mode", "WAL", "wal"),
        // The default of a new connection, said all the same; commits choose, see `Db::commit`.
        pragma("synchronous", "FULL", 2),
        // Until `count_frames` takes over: SQLite's own hook throws the checkpoint's errors away.
        pragma("wal_autocheckpoint", wal_autocheckpoint, wal_autocheckpoint),
        // There is no /tmp in a scratch image.
        pragma("temp_store", "MEMORY", 2),
        pragma("journal_size_limit", WAL_BYTES_KEPT, WAL_BYTES_KEPT),
        pragma("cache_size", -CACHE_KIB, -CACHE_KIB),
        // A damaged page is noticed when it is read and not after it was built upon.
        pragma("cell_size_check", "ON", 1),
        // Nothing that somebody wrote into the file's schema may run functions with side effects.
        pragma("trusted_schema", "OFF", 0),
    ];
    for row in table {
        set(connection, &row)?;
    }
    Ok(())
}

/// The most pages that SQLite lets a file have.
const PAGES_MAX: u64 = 0xffff_fffe;

pub fn page_bytes(connection: &mut Connection) -> Result<u64, Error> {
    let answer = connection.answer("read", c"PRAGMA page_size")?;
    Ok(answer.parse().unwrap_or(PAGE_BYTES))
}

/// The length that the file may have, in pages. A file that is longer already keeps its length, and no limit
/// is more than SQLite's own.
pub fn set_pages_max(connection: &mut Connection, pages: u64) -> Result<(), Error> {
    let pages = pages.clamp(1, PAGES_MAX);
    let sql = CString::new(format!("PRAGMA max_page_count = {pages}"));
    let sql = sql.unwrap_or_default();
    let answer = connection.answer("limit the length of", &sql)?;
    match answer.parse::<u64>() {
        Ok(got) if got >= pages => Ok(()),
        _ => Err(Error::new(
            "limit the length of",
            connection.path(),
            Cause::PragmaRefused,
            format!("max_page_count = {pages} was answered by {answer}"),
        )),
    }
}

/// Pragmas of readers.
pub fn set_for_reading(connection: &mut Connection, cache_kib: i64) -> Result<(), Error> {
    for row in [
        pragma("temp_store", "MEMORY", 2),
        pragma("cache_size", -cache_kib, -cache_kib),
        pragma("cell_size_check", "ON", 1),
        pragma("trusted_schema", "OFF", 0),
    ] {
        set(connection, &row)?;
    }
    Ok(())
}

/// Reads the pages that are there of a file that lacks some at its end. It is for reading alone.
pub fn allow_a_file_cut_short(connection: &mut Connection) -> Result<(), Error> {
    set(connection, &pragma("writable_schema", "ON", 1))
}

/// May not be called within a transaction.
pub fn set_synchronous(connection: &mut Connection, durability: Durability) -> Result<(), Error> {
    let (value, answer) = match durability {
        Durability::Normal => ("NORMAL", 1),
        Durability::Full => ("FULL", 2),
    };
    set(connection, &pragma("synchronous", value, answer))
}

/// Takes the file out of WAL mode; false where another process has it open.
pub fn leave_wal(connection: &mut Connection) -> Result<bool, Error> {
    let operation = "take out of WAL mode";
    match connection.answer(operation, c"PRAGMA journal_mode = MEMORY") {
        Ok(mode) => Ok(mode == FLIP),
        Err(e) if e.is_busy() => Ok(false),
        Err(e) => Err(e),
    }
}

pub fn set(connection: &mut Connection, row: &Pragma) -> Result<(), Error> {
    let Pragma {
        name,
        value,
        answer,
    } = row;
    let sql = |text: String| {
        CString::new(text)
            .map_err(|_| Error::new("set", connection.path(), Cause::PragmaRefused, "NUL"))
    };
    let (write, read) = (
        sql(format!("PRAGMA {name} = {value}"))?,
        sql(format!("PRAGMA {name}"))?,
    );
    connection.answer("configure", &write)?;
    let got = connection.answer("configure", &read)?;
    if got != *answer {
        return Err(Error::new(
            "configure",
            connection.path(),
            Cause::PragmaRefused,
            format!("{name} = {value} was answered by {got}"),
        ));
    }
    Ok(())
}

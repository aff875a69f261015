//! Whether a file is a seawall database that this version may write, and sound where it will be written.

use std::ffi::c_int;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use libsqlite3_sys as ffi;

use super::{objects, schema};
use crate::db::raw::Connection;
use crate::db::{Cause, Error, error};
use crate::place::header::{HEADER_BYTES, MAGIC, WAL_MAGIC};
use crate::place::mark;
use crate::place::paths::wal_of;

/// Start of a file that holds its schema.
const SCHEMA_BYTES: u64 = 64 * 1024;
/// The smallest page.
const SQLITE_BYTES_MIN: u64 = 512;
/// A number that no later version will reach shows a damaged header.
const LAYOUT_MAX: i64 = 1 << 20;

/// Whether a file that begins so is a seawall database, of whichever layout.
pub fn is_seawall(header: &[u8; HEADER_BYTES]) -> bool {
    header.starts_with(MAGIC) && header.ends_with(&(schema::APPLICATION_ID as u32).to_be_bytes())
}

/// Whether a damaged file shows that it was a seawall database: by its header, by the schema in its first pages, or by
/// the mark beside it. A -wal beside it shows that too, unless the file is another's database, whose -wal it is then.
/// Nothing else is renamed, whatever file `--db` names.
pub fn was_seawall(path: &Path) -> bool {
    const SCHEMA: &[u8] = b"CREATE TABLE readings(";
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SCHEMA_BYTES).read_to_end(&mut start));
    if read.is_err() {
        return false;
    }
    let id = (schema::APPLICATION_ID as u32).to_be_bytes();
    start
        .get(..HEADER_BYTES)
        .is_some_and(|header| header.ends_with(&id))
        || start.windows(SCHEMA.len()).any(|text| text == SCHEMA)
        || mark::read(path).is_some()
        || (!start.starts_with(MAGIC) && is_wal(&wal_of(path)))
}

/// Looks at the first bytes of a file before SQLite does. An error for a few bytes that are no database: SQLite takes
/// a file shorter than a page for empty. And for damage that SQLite gives another name. Before SQLite
/// has the file open, because closing it here would drop SQLite's locks.
pub(super) fn look_at_header(path: &Path) -> Result<(), Error> {
    let mut start = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(SQLITE_BYTES_MIN).read_to_end(&mut start));
    // If this fails, SQLite's own calls report the cause better.
    if read.is_err() || start.iter().all(|&byte| byte == 0) {
        return Ok(());
    }
    let is_short = (start.len() as u64) < SQLITE_BYTES_MIN;
    if is_short && !start.starts_with(b"SQLite format 3") {
        let message = "it holds something else";
        return Err(Error::new("use", path, Cause::NotSeawall, message));
    }
    let (versions, schema_format) = (start.get(18..20), start.get(44..48));
    let is_known = versions.is_none_or(|versions| versions.iter().all(|v| (1..=2).contains(v)))
        && schema_format.is_none_or(|format| format[..3] == [0; 3] && format[3] <= 4);
    if !is_known && was_seawall(path) {
        let message = "its header is damaged (file format)".to_owned();
        return Err(error::corrupt("use", path, message));
    }
    Ok(())
}

/// Whether a file begins as SQLite's logs do.
fn is_wal(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && WAL_MAGIC.contains(&magic)
}

/// Whether the file is new; an error if it is not seawall's, or of a layout that this version cannot know.
pub(super) fn identify(raw: &mut Connection) -> Result<bool, Error> {
    let operation = "read";
    let mut ask = || {
        // In this order: a recorder writes all three at once into a new file, so a file that is not
        // empty has the other two.
        let is_empty = raw.answer(operation, schema::IS_EMPTY)? == "1";
        let application = raw.answer(operation, schema::GET_APPLICATION_ID)?;
        let layout = raw.answer(operation, schema::GET_LAYOUT)?;
        Ok((is_empty, application, layout))
    };
    let (mut is_empty, mut application, mut layout) = ask()?;
    if is_empty && (&*application, &*layout) != ("0", "0") {
        // It was created between two of the queries.
        (is_empty, application, layout) = ask()?;
    }
    if is_empty && application == "0" && layout == "0" {
        return Ok(true);
    }
    let is_ours = application == schema::APPLICATION_ID.to_string();
    let is_layout = layout == schema::LAYOUT.to_string();
    let is_damaged = !(is_ours && is_layout) && {
        let objects = objects::compare(raw)?;
        // Additions of a later layout would look like another tool's, unless its number is past every layout's.
        let may_be_later = layout.parse().is_ok_and(|n| (1..=LAYOUT_MAX).contains(&n));
        objects.wrong.is_empty() && !(is_ours && may_be_later && objects.has_others)
    };
    if is_damaged && application == "0" && layout == "0" {
        let message = format!(
            "it has the tables of a seawall database and not its two numbers, as after sqlite3's .dump or .recover; to set them: sqlite3 FILE \"PRAGMA application_id = {}; PRAGMA user_version = {}\"",
            schema::APPLICATION_ID,
            schema::LAYOUT
        );
        return Err(Error::new("use", raw.path(), Cause::Strange, message));
    }
    if is_damaged {
        // One bit of the header is enough.
        let message =
            format!("its header is damaged (application_id {application}, user_version {layout})");
        return Err(error::corrupt("use", raw.path(), message));
    }
    if !is_ours {
        return Err(Error::new(
            "use",
            raw.path(),
            Cause::NotSeawall,
            format!("it is not a seawall database (application_id {application})"),
        ));
    }
    if !is_layout {
        let is_newer = layout
            .parse::<i64>()
            .is_ok_and(|layout| layout > schema::LAYOUT);
        return Err(Error::new(
            "use",
            raw.path(),
            if is_newer {
                Cause::NewerLayout
            } else {
                Cause::NotSeawall
            },
            if layout == "1" {
                "it was written by an unreleased version of seawall (layout 1), which this one does not read; record to a new file".to_owned()
            } else {
                format!(
                    "its layout is version {layout}, this seawall knows version {}",
                    schema::LAYOUT
                )
            },
        ));
    }
    Ok(false)
}

/// Damage where the recorder will write is an error, found before the first write. The rest of the file is
/// left to `check`: a start has to be quick.
pub(super) fn look_where_written(raw: &mut Connection) -> Result<(), Error> {
    let operation = "use";
    for sql in schema::LOOK_WHERE_WRITTEN {
        let found = raw.answer(operation, sql)?;
        if found != "ok" {
            let code = code_in(&found).unwrap_or(ffi::SQLITE_CORRUPT);
            return Err(Error::new(operation, raw.path(), code, found));
        }
    }
    raw.answer(operation, schema::NEXT_ID)?;
    raw.answer(operation, schema::LIST_TAIL)?;
    raw.answer(operation, schema::GET_DEVICE).map(drop)
}

/// SQLite's check tells of a page that it could not read, for an I/O error or for want of memory, in the
/// same words as of a damaged one, and only the number in them differs. Of a page that a long text goes on
/// in, it tells no number: one that is damaged has other words.
pub(super) fn code_in(finding: &str) -> Option<c_int> {
    if finding.contains("failed to get page") {
        return Some(ffi::SQLITE_NOMEM);
    }
    let (_, tail) = finding.split_once("error code")?;
    let digits = tail.trim_start_matches(['=', ' ']);
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().ok()
}

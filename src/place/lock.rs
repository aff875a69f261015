//! The lock that keeps a second recorder out.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::mem::ManuallyDrop;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::paths::with_end;
use super::refusal::refused;
use crate::sys;

/// Wait for a command that holds the lock for a moment to look.
const LOCK_TRIES: u32 = 5;
const LOCK_AGAIN: Duration = Duration::from_millis(20);
/// How often the list of locks is read until the holder is in it.
const LOOKS: u32 = 3;

/// The lock that keeps a second recorder out, held until the process ends, whichever way it does.
///
/// Never closed while SQLite has the file open: closing any descriptor of a file drops the process's POSIX
/// locks on it, and SQLite's are of that kind.
#[derive(Debug, Default)]
pub struct Lock {
    _file: Option<ManuallyDrop<File>>,
}

/// Whether a recorder has the database. Call it only while this process has not opened it: closing any
/// descriptor of a file drops the process's POSIX locks on it.
pub fn is_recorded(db: &Path) -> bool {
    // To open a pipe would wait for its other end.
    fs::metadata(db).is_ok_and(|file| file.is_file())
        && File::open(db).is_ok_and(|file| sys::try_lock(&file).is_ok_and(|is_free| !is_free))
}

/// Takes the lock of the file at `db`, which is made if it is not there.
pub fn lock(db: &Path) -> Result<Lock, String> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(db)
        .map_err(|e| refused("open", db, &e))?;
    let metadata = file.metadata().map_err(|e| refused("look at", db, &e))?;
    if !metadata.is_file() {
        return Err(format!(
            "cannot record to {}: it is not a file",
            db.display()
        ));
    }
    let mut locked = sys::try_lock(&file);
    for _ in 0..LOCK_TRIES {
        if !locked.as_ref().is_ok_and(|locked| !locked) {
            break;
        }
        std::thread::sleep(LOCK_AGAIN);
        locked = sys::try_lock(&file);
    }
    match locked {
        Ok(true) => Ok(Lock {
            _file: Some(ManuallyDrop::new(file)),
        }),
        Ok(false) => Err(format!(
            "cannot record to {}: {}",
            db.display(),
            who_records(&metadata)
        )),
        Err(e) => Err(refused("lock", db, &e)),
    }
}

/// Who has the lock of a database, in words.
pub fn who_records(file: &Metadata) -> String {
    match holder(file) {
        Some(holder) if holder.is_recorder() => {
            format!("process {} is recording to it", holder.pid)
        }
        Some(holder) => format!(
            "{holder} holds the lock (flock) by which a recorder keeps others out, and is none; end it"
        ),
        None => "a recorder in another container is recording to it, or another process there holds its lock (flock)".into(),
    }
}

/// The process that holds the whole-file lock of a file.
#[derive(Debug)]
pub struct Holder {
    pid: u32,
    /// Empty for one that has ended: a child of it goes on with the lock.
    name: String,
}

impl Holder {
    pub fn is_recorder(&self) -> bool {
        self.name == "seawall"
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &*self.name {
            "" => "or a child of it",
            name => name,
        };
        write!(f, "process {} ({name})", self.pid)
    }
}

/// `None` where it is not listed, as processes of other containers are not.
pub fn holder(file: &Metadata) -> Option<Holder> {
    find(file, None)
}

/// Another process that keeps SQLite from writing: that byte of the -shm is the lock of the one who writes, and whoever
/// may read the file can lock it for reading.
pub fn who_writes(db: &Path) -> Option<Holder> {
    const WRITE_LOCK_BYTE: u64 = 120;
    find(
        &fs::metadata(with_end(db, "-shm")).ok()?,
        Some(WRITE_LOCK_BYTE),
    )
}

fn find(file: &Metadata, byte: Option<u64>) -> Option<Holder> {
    let (major, minor) = sys::device_numbers(file.dev());
    let exact = format!("{major:02x}:{minor:02x}:{}", file.ino());
    // The kernel passes over a line where many locks come and go while it is read.
    let pid = (0..LOOKS).find_map(|_| {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        // Some filesystems have another device there than they say.
        holder_in(&locks, &exact, byte)
            .or_else(|| holder_in(&locks, &format!(":{}", file.ino()), byte))
    })?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = name.trim_end().to_owned();
    Some(Holder { pid, name })
}

/// The process in a line of /proc/locks whose file ends so: of the lock of a whole file, or of a byte, if it is not
/// this process.
fn holder_in(locks: &str, file: &str, byte: Option<u64>) -> Option<u32> {
    let kind = if byte.is_some() { "POSIX" } else { "FLOCK" };
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        if words.next()? != kind {
            return None;
        }
        let pid = words.nth(2)?.parse().ok()?;
        if !words.next()?.ends_with(file) {
            return None;
        }
        let (first, last) = (words.next()?.parse().ok()?, words.next()?);
        let has = |byte: u64| (first..=last.parse().unwrap_or(u64::MAX)).contains(&byte);
        let is_it = byte.is_none_or(|byte| has(byte) && pid != std::process::id());
        is_it.then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_among_others() {
        let locks = "\
1: POSIX  ADVISORY  WRITE 301 fe:01:77 128 128
2: FLOCK  ADVISORY  WRITE 302 fe:01:7 0 EOF
3: -> FLOCK  ADVISORY  WRITE 400 fe:01:77 0 EOF
4: FLOCK  ADVISORY  READ  305 00:1f:77 0 EOF
5: FLOCK  ADVISORY  WRITE 303 fe:01:77 0 EOF
bad line
";
        assert_eq!(holder_in(locks, "fe:01:77", None), Some(303));
        assert_eq!(holder_in(locks, ":77", None), Some(305));
        assert_eq!(holder_in(locks, ":78", None), None);
        assert_eq!(holder_in(locks, "fe:01:77", Some(128)), Some(301));
        assert_eq!(holder_in(locks, "fe:01:77", Some(129)), None);
    }
}

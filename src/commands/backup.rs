//! `backup`: a copy of the database as it is now. The file DEST appears whole, checked and on the disk, or
//! stays as it was; whatever ends the copy, at most a temporary file is left beside it, and the next backup to
//! the same DEST removes that.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::answer::{complain, print, warn_of_missing};
use super::progress::ProgressLine;
use crate::exit::Status;
use crate::place;
use crate::place::identity::inode;
use crate::place::paths::{folder_of, follow_links, refuse_link, wal_of, with_end};
use crate::store::{self, Reader, Snapshot};
use crate::sys::{self, signals};

/// Ending of the temporary file: DEST and this.
const TEMPORARY: &str = ".seawall-backup";
/// Endings of the files that SQLite makes beside a database.
const BESIDE: [&str; 3] = ["-journal", "-wal", "-shm"];
/// Permissions of the temporary file until it has those of the database.
const OWNER_ALONE: u32 = 0o600;
/// Bytes written at a time, between which a signal is heard and progress told.
const STREAM_BYTES: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub struct BackupSettings {
    pub db: PathBuf,
    /// None: stdout.
    pub dest: Option<PathBuf>,
    pub min_free_bytes: u64,
    pub busy_timeout: Duration,
}

pub fn run(settings: &BackupSettings) -> Status {
    let db = follow_links(&settings.db);
    let Some(dest) = &settings.dest else {
        return to_stdout(&db, settings);
    };
    // A signal is noticed between two steps, and while stdout or stderr takes nothing.
    if let Err(e) = signals::block_signals() {
        return complain(format_args!("cannot block signals: {e}"));
    }
    match to_file(&db, settings, &follow_links(dest)) {
        Ok(line) => print(line),
        Err(words) => complain(words),
    }
}

fn take(db: &Path, settings: &BackupSettings) -> Result<Snapshot, store::Error> {
    let beside = store::look_before_reading(db)?;
    let mut snapshot = Snapshot::take(db, settings.busy_timeout)?;
    warn_of_missing(db, snapshot.missing(&beside));
    Ok(snapshot)
}

fn to_stdout(db: &Path, settings: &BackupSettings) -> Status {
    if sys::is_terminal(sys::STDOUT) {
        return complain("cannot write a database to a terminal; send stdout to a file or a pipe");
    }
    let mut snapshot = match take(db, settings) {
        Ok(snapshot) => snapshot,
        Err(e) => return complain(e),
    };
    let mut progress = ProgressLine::of_copy(snapshot.bytes());
    let stdout = &mut io::stdout().lock();
    // Even if nobody reads on: what was written is no database.
    let failed = |e: &_| format!("cannot write all of the copy to stdout: {e}");
    let poured = pour(&mut snapshot, &mut progress, stdout, &failed);
    drop(progress);
    match poured {
        Err(words) => complain(words),
        Ok(_) => Status::Done,
    }
}

/// Writes the copy; false after a signal.
fn pour(
    snapshot: &mut Snapshot,
    progress: &mut ProgressLine,
    to: &mut dyn Write,
    failed: &dyn Fn(&io::Error) -> String,
) -> Result<bool, String> {
    let all = snapshot.bytes();
    let mut buffer = Vec::with_capacity(STREAM_BYTES);
    let mut written = Ok(());
    let mut bytes = 0;
    let copied = snapshot.pages(|page| {
        buffer.extend_from_slice(page);
        bytes += page.len() as u64;
        if buffer.len() < STREAM_BYTES {
            return true;
        }
        written = to.write_all(&buffer);
        buffer.clear();
        progress.copied(bytes);
        written.is_ok() && !signals::stop_pending()
    });
    let written = written
        .and_then(|()| to.write_all(&buffer))
        .and_then(|()| to.flush());
    copied.map_err(|e| e.to_string())?;
    written.map_err(|e| failed(&e))?;
    Ok(bytes == all)
}

/// Returns the line to print about the copy.
fn to_file(db: &Path, settings: &BackupSettings, dest: &Path) -> Result<String, String> {
    let mut snapshot = take(db, settings).map_err(|e| e.to_string())?;
    refuse_dest(dest, db)?;
    refuse_other(dest, db, settings.busy_timeout)?;
    let bytes = snapshot.bytes();
    let temporary = Temporary::make(dest)?;
    // After the temporary file of a backup that was killed was removed, so that its room counts as free.
    let folder = folder_of(dest);
    let disk = sys::filesystem(&folder).map_err(|e| cannot("look at", &folder, &e))?;
    if disk.free_bytes.saturating_sub(settings.min_free_bytes) < bytes {
        return Err(format!(
            "cannot copy to {}: {bytes} bytes are needed and {} are free, of which {} are to be kept so (--min-free); free some space",
            dest.display(),
            disk.free_bytes,
            settings.min_free_bytes
        ));
    }

    let mut progress = ProgressLine::of_copy(bytes);
    let failed = |e: &_| cannot("write", &temporary.path, e);
    if !pour(&mut snapshot, &mut progress, &mut &temporary.file, &failed)? {
        return Err(interrupted(dest));
    }
    // The recorder's WAL may start again while the copy is checked.
    drop(snapshot);
    let audit = store::audit(
        &temporary.path,
        false,
        settings.busy_timeout,
        &mut |readings| progress.checked(readings),
    );
    let audit = audit.map_err(|e| e.to_string())?;
    if let Some(finding) = audit.damaged.iter().chain(&audit.missing).next() {
        return Err(format!(
            "cannot copy {} to {}: the copy is not sound ({finding}); to keep the files as they are, copy .db and -wal together while nobody records",
            db.display(),
            dest.display()
        ));
    }
    if signals::stop_pending() {
        return Err(interrupted(dest));
    }
    temporary.take_access_from(db)?;
    progress.say("syncing…");
    temporary.become_dest(dest)?;
    Ok(format!(
        "copied readings={} runs={} bytes={bytes}",
        audit.readings, audit.runs
    ))
}

fn interrupted(dest: &Path) -> String {
    format!("interrupted; {} is as it was", dest.display())
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> String {
    let (uid, gid) = sys::user_and_group();
    format!(
        "cannot {verb} {}: {error} (uid {uid}, gid {gid})",
        path.display()
    )
}

/// Refuses a DEST that would be a loss: the database itself, one that is in use, a file of somebody else.
fn refuse_dest(dest: &Path, db: &Path) -> Result<(), String> {
    let refuse = |why: &str| {
        Err(format!(
            "cannot copy to {}: {why}; give another DEST",
            dest.display()
        ))
    };
    refuse_link(dest).map_err(|why| format!("cannot copy: {why}"))?;
    for end in ["-wal", "-journal"] {
        let beside = with_end(dest, end);
        if fs::metadata(&beside).is_ok_and(|file| file.len() > 0) {
            return refuse(&format!(
                "there is a {end} beside it, which would be read into the copy"
            ));
        }
    }
    let is_companion = dest.file_name().is_some_and(|name| {
        BESIDE
            .iter()
            .any(|end| with_end(db, end).file_name() == Some(name))
    }) && is_same_folder(&folder_of(dest), &folder_of(db));
    if is_companion {
        return refuse("SQLite takes a file of this name for a part of the database itself");
    }
    let there = match fs::metadata(dest) {
        Ok(there) => there,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(cannot("copy to", dest, &e)),
    };
    if there.is_dir() {
        return refuse("it is a folder");
    }
    if !there.is_file() {
        return refuse("it is not a file");
    }
    let is_same = |own: &PathBuf| inode(own).is_ok_and(|own| own == (there.dev(), there.ino()));
    if [db.to_owned(), wal_of(db)].iter().any(is_same) {
        return refuse("it is the database itself");
    }
    if there.len() == 0 {
        return Ok(());
    }
    let mut file = File::open(dest).map_err(|e| cannot("open", dest, &e))?;
    let mut header = [0; place::header::HEADER_BYTES];
    let is_ours = file.read_exact(&mut header).is_ok() && store::is_seawall(&header);
    if !is_ours {
        return refuse("it is there already, and no seawall database");
    }
    match sys::try_lock(&file) {
        Ok(false) => refuse(&place::lock::who_records(&there)),
        _ => Ok(()),
    }
}

/// Refuses a DEST that is no older state of the database, as where the database was given in its place. One that
/// cannot be read is replaced.
fn refuse_other(dest: &Path, db: &Path, busy_timeout: Duration) -> Result<(), String> {
    let state = |path: &Path| {
        let mut reader = Reader::open(path, busy_timeout).ok()?;
        let newest = reader.newest().ok()?;
        Some((reader.device().ok()?, newest.map_or(0, |(id, _)| id)))
    };
    let is_there = fs::metadata(dest).is_ok_and(|there| there.len() > 0);
    let Some((theirs, ours)) = is_there.then(|| state(dest).zip(state(db))).flatten() else {
        return Ok(());
    };
    let why = if theirs.0 != ours.0 {
        "it is there already, and the database of another device, or a backup that was recorded onto"
    } else if theirs.1 > ours.1 {
        "it is there already, and holds newer readings"
    } else {
        return Ok(());
    };
    Err(format!(
        "cannot copy to {}: {why}; give another DEST; the database to copy is {}, or the one that --db names",
        dest.display(),
        db.display()
    ))
}

/// Whether a path still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    file.metadata().is_ok_and(|ours| {
        fs::symlink_metadata(path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
    })
}

fn take_away(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(cannot("remove", path, &e)),
        _ => Ok(()),
    }
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    inode(one).is_ok_and(|one| inode(other).is_ok_and(|other| one == other))
}

/// The file that becomes DEST; removed unless it does.
struct Temporary {
    path: PathBuf,
    /// Held to the end, so that no other backup takes the file for one that was left behind. To close it
    /// drops SQLite's locks on the file.
    file: File,
    is_dest: bool,
}

impl Temporary {
    /// Makes the file anew: one that somebody made beforehand would stay theirs to write, and a link would choose
    /// the file that is written.
    fn make(dest: &Path) -> Result<Self, String> {
        let path = with_end(dest, TEMPORARY);
        loop {
            let mut options = File::options();
            options.read(true).mode(OWNER_ALONE);
            let made = options.clone().write(true).create_new(true).open(&path);
            let is_left = matches!(&made, Err(e) if e.kind() == io::ErrorKind::AlreadyExists);
            let file = match made {
                Ok(file) => file,
                Err(e) if !is_left => return Err(cannot("make", &path, &e)),
                Err(_) => {
                    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
                    match options.open(&path) {
                        Ok(file) => file,
                        // A link, or nothing that could be locked.
                        Err(_) => {
                            take_away(&path)?;
                            continue;
                        }
                    }
                }
            };
            if !sys::try_lock(&file).map_err(|e| cannot("lock", &path, &e))? {
                let holder = file
                    .metadata()
                    .ok()
                    .and_then(|file| place::lock::holder(&file));
                let by = holder.map_or(String::new(), |by| format!(" ({by})"));
                return Err(format!(
                    "cannot copy to {}: another backup to it is going on{by}",
                    dest.display()
                ));
            }
            // Another backup may have finished in between, and this be DEST.
            if !is_at(&file, &path) {
                continue;
            }
            if is_left {
                take_away(&path)?;
                continue;
            }
            for end in BESIDE {
                take_away(&with_end(&path, end))?;
            }
            let is_dest = false;
            return Ok(Temporary {
                path,
                file,
                is_dest,
            });
        }
    }

    /// Lets the same users read the copy as the database, and nobody else.
    fn take_access_from(&self, db: &Path) -> Result<(), String> {
        let of = fs::metadata(db).map_err(|e| cannot("look at", db, &e))?;
        // Only root may give the file away; anybody may give it to a group of their own.
        if fchown(&self.file, Some(of.uid()), Some(of.gid())).is_err() {
            let _ = fchown(&self.file, None, Some(of.gid()));
        }
        let ours = self.file.metadata();
        let ours = ours.map_err(|e| cannot("look at", &self.path, &e))?;
        let mut mode = of.mode() & 0o777;
        if ours.gid() != of.gid() {
            // Another group gets no more than everybody.
            mode &= !0o070 | (mode & 0o007) << 3;
        }
        self.file
            .set_permissions(fs::Permissions::from_mode(mode))
            .map_err(|e| cannot("set the permissions of", &self.path, &e))
    }

    fn become_dest(mut self, dest: &Path) -> Result<(), String> {
        let synced = self.file.sync_all();
        synced.map_err(|e| cannot("sync", &self.path, &e))?;
        if !is_at(&self.file, &self.path) {
            return Err(format!(
                "cannot copy to {}: somebody took {} away; give a DEST in a folder of your own",
                dest.display(),
                self.path.display()
            ));
        }
        fs::rename(&self.path, dest).map_err(|e| cannot("rename to", dest, &e))?;
        self.is_dest = true;
        let folder = folder_of(dest);
        File::open(&folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|e| cannot("sync", &folder, &e))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // From then on the name may be that of another backup's.
        if self.is_dest {
            return;
        }
        let _ = fs::remove_file(&self.path);
        for end in BESIDE {
            let _ = fs::remove_file(with_end(&self.path, end));
        }
    }
}

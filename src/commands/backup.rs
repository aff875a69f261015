//! `backup`: a copy of the database as it is now. The file DEST appears whole, checked and on the disk, or
//! stays as it was; whatever ends the copy, at most a temporary file is left beside it, and the next backup to
//! the same DEST takes that over.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::answer::{complain, print, unwritten};
use crate::exit::Status;
use crate::place::{folder_of, follow_links, wal_of, with_end};
use crate::record::terminal;
use crate::store::{self, Snapshot};
use crate::sys;

/// What the temporary file has behind the name of DEST.
const TEMPORARY: &str = ".seawall-backup";
/// What SQLite may have put beside it.
const BESIDE: [&str; 3] = ["-journal", "-wal", "-shm"];
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes handed to stdout at a time.
const STREAM_BYTES: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub db: PathBuf,
    /// None: stdout.
    pub dest: Option<PathBuf>,
    pub min_free_bytes: u64,
    pub busy_timeout: Duration,
}

pub fn run(settings: &Settings) -> Status {
    let Some(dest) = &settings.dest else {
        return to_stdout(settings);
    };
    match to_file(settings, &follow_links(dest)) {
        Ok(told) => print(told),
        Err(words) => complain(words),
    }
}

fn to_stdout(settings: &Settings) -> Status {
    if sys::is_terminal(sys::STDOUT) {
        return complain("cannot write a database to a terminal; send stdout to a file or a pipe");
    }
    let taken = store::look_before_reading(&settings.db)
        .and_then(|()| Snapshot::take(&settings.db, settings.busy_timeout));
    let mut snapshot = match taken {
        Ok(snapshot) => snapshot,
        Err(e) => return complain(e),
    };
    let mut progress = Progress::new(snapshot.bytes());
    let mut stdout = io::BufWriter::with_capacity(STREAM_BYTES, io::stdout().lock());
    let mut written = Ok(());
    let mut bytes = 0;
    let copied = snapshot.pages(|page| {
        written = stdout.write_all(page);
        bytes += page.len() as u64;
        progress.at(bytes);
        written.is_ok()
    });
    let written = written.and_then(|()| stdout.flush());
    drop(progress);
    match (copied, written) {
        (Err(e), _) => complain(e),
        (Ok(()), Err(e)) => unwritten(&e),
        (Ok(()), Ok(())) => Status::Done,
    }
}

/// Gives the line that tells of the copy.
fn to_file(settings: &Settings, dest: &Path) -> Result<String, String> {
    let taken = store::look_before_reading(&settings.db)
        .and_then(|()| Snapshot::take(&settings.db, settings.busy_timeout));
    let mut snapshot = taken.map_err(|e| e.to_string())?;
    look_at(dest, settings)?;
    let bytes = snapshot.bytes();
    let temporary = Temporary::make(dest)?;
    // Now that what a backup that was killed had taken is free again.
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

    let mut progress = Progress::new(bytes);
    let whole = snapshot.copy_to(&temporary.path, |copied| {
        progress.at(copied);
        !sys::stop_pending()
    });
    drop(progress);
    // The recorder's WAL may start again while the copy is looked at.
    drop(snapshot);
    if !whole.map_err(|e| e.to_string())? {
        return Err(interrupted(dest));
    }
    let audit = store::audit(&temporary.path, false, settings.busy_timeout);
    let audit = audit.map_err(|e| e.to_string())?;
    if let Some(finding) = audit.damaged.iter().chain(&audit.missing).next() {
        return Err(format!(
            "cannot copy {} to {}: the copy is not sound ({finding}); see `seawall check`, and copy .db and -wal together while nobody records, to keep them as they are",
            settings.db.display(),
            dest.display()
        ));
    }
    if sys::stop_pending() {
        return Err(interrupted(dest));
    }
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
fn look_at(dest: &Path, settings: &Settings) -> Result<(), String> {
    let refuse = |why: &str| {
        Err(format!(
            "cannot copy to {}: {why}; give another DEST",
            dest.display()
        ))
    };
    for end in ["-wal", "-journal"] {
        let beside = with_end(dest, end);
        if fs::metadata(&beside).is_ok_and(|file| file.len() > 0) {
            return refuse(&format!(
                "there is a {end} beside it, which would be read into the copy"
            ));
        }
    }
    let db = follow_links(&settings.db);
    let is_companion = dest.file_name().is_some_and(|name| {
        BESIDE
            .iter()
            .any(|end| with_end(&db, end).file_name() == Some(name))
    }) && is_same_folder(&folder_of(dest), &folder_of(&db));
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
    let is_itself = [settings.db.clone(), wal_of(&settings.db)]
        .iter()
        .any(|own| {
            fs::metadata(own).is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
        });
    if is_itself {
        return refuse("it is the database itself");
    }
    if there.len() == 0 {
        return Ok(());
    }
    let mut file = File::open(dest).map_err(|e| cannot("open", dest, &e))?;
    let mut header = [0; store::HEADER_BYTES];
    let is_ours = file.read_exact(&mut header).is_ok() && store::is_seawall(&header);
    if !is_ours {
        return refuse("it is there already, and no seawall database");
    }
    match sys::try_lock(&file) {
        Ok(false) => refuse("a recorder is recording to it"),
        _ => Ok(()),
    }
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    let of = |folder: &Path| fs::metadata(folder).map(|f| (f.dev(), f.ino())).ok();
    of(one).is_some() && of(one) == of(other)
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
    fn make(dest: &Path) -> Result<Self, String> {
        let path = with_end(dest, TEMPORARY);
        loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)
                .map_err(|e| cannot("make", &path, &e))?;
            let lock = sys::try_lock(&file).map_err(|e| cannot("lock", &path, &e))?;
            if !lock {
                return Err(format!(
                    "cannot copy to {}: another backup to it is going on",
                    dest.display()
                ));
            }
            // Another backup may have finished in between, and this be DEST.
            let is_there = file.metadata().is_ok_and(|ours| {
                fs::symlink_metadata(&path)
                    .is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
            });
            if !is_there {
                continue;
            }
            let temporary = Temporary {
                path,
                file,
                is_dest: false,
            };
            let path = &temporary.path;
            for end in BESIDE {
                let _ = fs::remove_file(with_end(path, end));
            }
            let emptied = temporary.file.set_len(0);
            emptied.map_err(|e| cannot("empty", path, &e))?;
            return Ok(temporary);
        }
    }

    fn become_dest(mut self, dest: &Path) -> Result<(), String> {
        let synced = self.file.sync_all();
        synced.map_err(|e| cannot("sync", &self.path, &e))?;
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

/// The line on a terminal that tells how far the copy is; gone with the value.
struct Progress {
    all: u64,
    began: Instant,
    told: Option<Instant>,
    columns: Option<usize>,
}

impl Progress {
    fn new(all: u64) -> Self {
        let columns =
            sys::is_terminal(sys::STDERR).then(|| sys::terminal_columns(sys::STDERR).unwrap_or(80));
        Progress {
            all,
            began: Instant::now(),
            told: None,
            columns,
        }
    }

    fn at(&mut self, done: u64) {
        let Some(columns) = self.columns else {
            return;
        };
        if self
            .told
            .is_some_and(|told| told.elapsed() < PROGRESS_INTERVAL)
        {
            return;
        }
        self.told = Some(Instant::now());
        let line = terminal::progress(done, self.all, self.began.elapsed(), columns);
        let _ = write!(io::stderr(), "\r{line}\x1b[K");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.told.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

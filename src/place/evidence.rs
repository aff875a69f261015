//! What the files tell of a run that never ended, before SQLite opens them and cleans it away.
//!
//! SQLite takes a database whose -wal was lost, or damaged inside, for a whole one: the commits that were in
//! it are gone without a word. It also replays any -wal that is whole in itself, that of another database
//! too, which ruins the file. So the writer looks first, under the recorder's lock, with nothing open. What
//! is said of a loss has to be certain; where it is not, nothing is said.
//!
//! The mark: the run's row holds a time, `sealed_ns`, that a complete checkpoint brought into the database
//! file. The first commit after that gives the file this time as its mtime. Whoever writes to the file
//! breaks the mark, and whoever brings the log in writes to it. So a file with the mark lacks commits that
//! are in the log alone, and a log that has gone on from the seal, as its salt shows, is the one that has
//! them. A file without the mark may lack something or not.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::paths::{wal_of, with_end};
use super::wal::{self, Frames, Header, Index};

/// The last run, as the database file has it without its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastRun {
    pub boot_id: Option<String>,
    /// Time of the last seal.
    pub sealed_ns: Option<i64>,
    /// The log's first salt at that seal.
    pub wal_salt: Option<i64>,
    /// It has not ended.
    pub is_open: bool,
}

/// What became of the log of a run that never ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Missing,
    Damaged,
}

impl Loss {
    /// As `runs.reason` has it.
    pub fn reason(self) -> &'static str {
        match self {
            Loss::Missing => "wal-missing",
            Loss::Damaged => "wal-damaged",
        }
    }
}

/// What to do before SQLite opens the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub loss: Option<Loss>,
    pub wal: Treatment,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Treatment {
    #[default]
    Leave,
    /// SQLite recovers what it can from it; a copy shows what it was.
    Copy,
    /// It is not this file's, and SQLite must not see it.
    Remove,
    /// There is nothing in it that the file lacks, and SQLite must not see it: the power went while the file
    /// was brought into WAL mode or out of it. Where there is a -wal SQLite goes on in WAL mode, so that the
    /// file would say for ever that it is in another.
    Clear,
}

/// What there is in the place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Log {
    Absent,
    Empty,
    /// Something, but no log.
    Garbage,
    Frames(Header, Frames),
}

/// What the files show of an unfinished run.
struct Scene {
    run: LastRun,
    /// Within one boot what was written can be read again, synced or not. A power cut leaves holes.
    is_same_boot: bool,
    /// The database file has the mark.
    is_marked: bool,
    log: Log,
    has_shm: bool,
    index: Option<Index>,
}

/// A log may start again once after a seal; other programs may have it do so a few times while it is empty.
const RESTARTS_MAX: u32 = 1 << 16;

/// How often a log has started again since a seal; None where it is not the log that was sealed.
fn restarts(wal_salt: i64, header_salt: u32) -> Option<u32> {
    let restarts = header_salt.wrapping_sub(wal_salt as u32);
    (restarts < RESTARTS_MAX).then_some(restarts)
}

/// Whether the log beside a database, which SQLite may have open, is the one that was sealed.
pub fn is_sealed_log(db: &Path, sealed_salt: Option<i64>) -> bool {
    let (Some(sealed), Some(now)) = (sealed_salt, wal_salt(db)) else {
        return false;
    };
    restarts(sealed, now as u32).is_some()
}

/// Whether a file's mtime is the mark, as the filesystem keeps it: some have whole seconds only, or even ones.
fn is_mark(sealed_ns: i64, (seconds, ns): (i64, i64)) -> bool {
    let sealed_s = sealed_ns.div_euclid(1_000_000_000);
    if ns == 0 {
        return seconds == sealed_s || seconds == sealed_s & !1;
    }
    (seconds, ns) == (sealed_s, sealed_ns.rem_euclid(1_000_000_000))
}

fn judge(scene: &Scene) -> Verdict {
    let Scene {
        run,
        index,
        is_same_boot,
        ..
    } = scene;
    let is_same_boot = *is_same_boot;
    let lost = |loss, wal| Verdict {
        loss: Some(loss),
        wal,
    };
    match &scene.log {
        Log::Absent if scene.is_marked => lost(Loss::Missing, Treatment::Leave),
        // SQLite takes away both, the -shm first.
        Log::Absent if scene.has_shm && is_same_boot => lost(Loss::Missing, Treatment::Leave),
        Log::Empty if scene.is_marked && is_same_boot => lost(Loss::Missing, Treatment::Leave),
        Log::Garbage if is_same_boot => lost(Loss::Damaged, Treatment::Copy),
        Log::Frames(header, frames) => {
            let restarts = run
                .wal_salt
                .and_then(|salt| restarts(salt, header.salts[0]));
            if scene.is_marked && restarts.is_none() {
                return lost(Loss::Missing, Treatment::Remove);
            }
            if !is_same_boot {
                return Verdict::default();
            }
            // The -shm outlives the process and tells where the last commit ended. What lies behind that may
            // well look like a commit: of one that a kill cut short, while somebody else had the file open.
            let index = index.filter(|index| index.salts == header.salts);
            let is_lossy = match index {
                Some(index) => index.frames > frames.recovered,
                // In a log that was begun by this run: an older one may have a hole from a power cut.
                None => frames.is_broken && restarts.is_some_and(|times| times > 0),
            };
            if is_lossy {
                return lost(Loss::Damaged, Treatment::Copy);
            }
            Verdict::default()
        }
        _ => Verdict::default(),
    }
}

/// Looks at the files of a database that nobody has open here. `last_run` asks the database file alone.
pub fn look(
    db: &Path,
    boot_id: Option<&str>,
    last_run: impl FnOnce() -> Option<LastRun>,
) -> io::Result<Verdict> {
    let log_bytes = match fs::metadata(wal_of(db)) {
        Ok(file) => Some(file.len()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    let is_blank = log_bytes.is_some_and(|len| len <= wal::HEADER_BYTES as u64);
    if is_blank && with_end(db, "-journal").exists() {
        return Ok(Verdict {
            loss: None,
            wal: Treatment::Clear,
        });
    }
    // After the log: a file that leaves WAL mode loses its log first.
    let mut head = Vec::new();
    File::open(db)?.take(100).read_to_end(&mut head)?;
    let is_another = |wal| Verdict { loss: None, wal };
    let has_frames = log_bytes.is_some_and(|len| len > 0);
    if head.is_empty() && has_frames {
        return Ok(is_another(Treatment::Remove));
    }
    let before = fs::metadata(db)?;
    let Some(run) = last_run() else {
        return Ok(Verdict::default());
    };
    let is_same_boot = run.boot_id.is_some() && run.boot_id.as_deref() == boot_id;
    let leaves_wal = head.len() == 100 && head[18..20] == [1, 1];
    // Such a file needs no log: it has said that it is in WAL mode before there is one, and all of the log
    // is in it before it says so no more. Yet a power cut may bring back a log that was deleted.
    if leaves_wal && log_bytes.is_some() {
        let is_own = is_blank || !is_same_boot && is_brought_in(db)?;
        return Ok(is_another(if is_own {
            Treatment::Clear
        } else {
            Treatment::Remove
        }));
    }
    if !run.is_open {
        return Ok(Verdict::default());
    }
    let after = fs::metadata(db)?;
    let mtime = |file: &fs::Metadata| (file.mtime(), file.mtime_nsec());
    if mtime(&before) != mtime(&after) {
        // Somebody brings the log in at this moment.
        return Ok(Verdict::default());
    }
    let shm = File::open(with_end(db, "-shm"));
    Ok(judge(&Scene {
        is_marked: run
            .sealed_ns
            .is_some_and(|sealed_ns| is_mark(sealed_ns, mtime(&after))),
        run,
        is_same_boot,
        log: read_log(db, is_same_boot)?,
        has_shm: shm.is_ok(),
        index: shm.ok().and_then(|mut shm| {
            let mut bytes = [0; wal::INDEX_BYTES];
            shm.read_exact(&mut bytes).ok()?;
            wal::index(&bytes)
        }),
    }))
}

/// Whether SQLite would find in the log what it finds in the file.
fn is_brought_in(db: &Path) -> io::Result<bool> {
    /// Of the first page, what a change of the journal mode changes: the mode, the count of changes, and
    /// by whom.
    const CHANGED: [Range<usize>; 3] = [18..20, 24..28, 92..100];
    let log = match File::open(wal_of(db)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
        log => log?,
    };
    let mut reader = BufReader::with_capacity(1 << 16, &log);
    let mut head = [0; wal::HEADER_BYTES];
    reader.read_exact(&mut head)?;
    let Some(header) = wal::header(&head) else {
        return Ok(head == [0; wal::HEADER_BYTES]);
    };
    let outcome = wal::outcome(header, reader)?;
    if outcome.pages == 0 {
        return Ok(true);
    }
    let file = File::open(db)?;
    let page_bytes = header.page_bytes;
    if file.metadata()?.len() != u64::from(outcome.pages) * page_bytes as u64 {
        return Ok(false);
    }
    let mut image = vec![0; page_bytes];
    let mut page = vec![0; page_bytes];
    for (number, at) in outcome.images {
        log.read_exact_at(&mut image, at)?;
        file.read_exact_at(&mut page, u64::from(number - 1) * page_bytes as u64)?;
        if number == 1 {
            for range in CHANGED {
                image[range.clone()].fill(0);
                page[range].fill(0);
            }
        }
        if image != page {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The frames are read only where they can tell something.
fn read_log(db: &Path, with_frames: bool) -> io::Result<Log> {
    let file = match File::open(wal_of(db)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Log::Absent),
        file => file?,
    };
    if file.metadata()?.len() == 0 {
        return Ok(Log::Empty);
    }
    let mut file = BufReader::with_capacity(1 << 16, file);
    let mut head = [0; wal::HEADER_BYTES];
    match file.read_exact(&mut head) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(Log::Garbage),
        read => read?,
    }
    let Some(header) = wal::header(&head) else {
        return Ok(Log::Garbage);
    };
    let frames = if with_frames {
        wal::frames(header, file)?
    } else {
        Frames::default()
    };
    Ok(Log::Frames(header, frames))
}

/// The first salt of the log beside a database; SQLite may have both open.
pub fn wal_salt(db: &Path) -> Option<i64> {
    let mut head = [0; wal::HEADER_BYTES];
    File::open(wal_of(db)).ok()?.read_exact(&mut head).ok()?;
    wal::header(&head).map(|header| i64::from(header.salts[0]))
}

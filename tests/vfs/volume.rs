//! A folder whose files the test has in its hand: what is to fail there, and the journal of what was
//! written.
//!
//! Each entry of the journal carries what the recorder had promised by then (`Note`), asked for at the
//! very call, so that a cut before the call is held to exactly that.

use std::collections::{BTreeMap, HashMap};
use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libsqlite3_sys as ffi;

/// The kinds of calls that SQLite makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Open,
    Read,
    Write,
    Truncate,
    Sync,
    FileSize,
    Lock,
    Unlock,
    CheckReservedLock,
    ShmMap,
    ShmLock,
    Delete,
    Access,
    FullPathname,
}

/// What a file is to SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Db,
    Wal,
    Journal,
}

impl Role {
    pub fn of(path: &Path) -> Self {
        let name = path.as_os_str().as_encoded_bytes();
        if name.ends_with(b"-wal") {
            Role::Wal
        } else if name.ends_with(b"-journal") {
            Role::Journal
        } else {
            Role::Db
        }
    }
}

/// A way for a call to fail.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub call: Call,
    /// SQLite's extended result code.
    pub code: c_int,
    /// The system's number for it.
    pub errno: i32,
    /// Half of the bytes are written before it fails.
    pub half: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub fault: Fault,
    /// Which call of its kind fails, from 1.
    pub nth: u64,
    /// All later ones too, until `lift`.
    pub for_good: bool,
}

/// What is known outside the file at the time of a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Note {
    /// Readings that were acknowledged.
    pub acked: u64,
    /// Readings that the recorder says are committed.
    pub committed: u64,
    /// Readings that were handed over.
    pub sent: u64,
    /// The last state of the file that is known to have been committed, by its number.
    pub state: usize,
}

#[derive(Clone, Debug)]
pub enum Effect {
    Link {
        name: String,
        inode: u64,
    },
    Unlink {
        name: String,
        synced: bool,
    },
    Write {
        inode: u64,
        offset: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        inode: u64,
        size: usize,
    },
    /// The file's bytes, and if so the folder's entries, are on the device.
    Sync {
        inode: u64,
        folder: bool,
    },
    /// What was to be synced is in the page cache, taken for clean, and will never reach the device.
    SyncFailed {
        inode: u64,
    },
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub effect: Effect,
    /// Before the call.
    pub note: Note,
    /// What the mark beside the database said before the call. It is written beside SQLite, so it is no call of
    /// the journal; it is taken to be on the device at once, which is when it claims most.
    pub mark: Option<Vec<u8>>,
}

/// A call that was made to fail.
#[derive(Clone, Copy, Debug)]
pub struct Fired {
    pub role: Role,
    pub code: c_int,
    pub errno: i32,
    pub half: bool,
    pub note: Note,
    /// Entries in the journal before it.
    pub at: usize,
}

pub enum Gate {
    Pass(Note),
    Fail(Fired),
}

/// What the device claims; None: what the real VFS claims.
#[derive(Clone, Copy, Debug, Default)]
pub struct Device {
    pub sector_bytes: Option<c_int>,
    pub characteristics: Option<c_int>,
}

impl Device {
    /// As the program runs on it.
    pub const REAL: Device = Device {
        sector_bytes: None,
        characteristics: None,
    };
    /// Promises nothing: not even that a write leaves the bytes beside it alone.
    pub const WEAK: Device = Device {
        sector_bytes: Some(4096),
        characteristics: Some(0),
    };
    pub const WEAK_SMALL_SECTORS: Device = Device {
        sector_bytes: Some(512),
        characteristics: Some(0),
    };
}

type Observer = Box<dyn Fn() -> Note + Send>;

#[derive(Default)]
struct Inner {
    plan: Option<Plan>,
    /// Of the planned kind.
    planned_calls: u64,
    calls: u64,
    fired: Vec<Fired>,
    fired_count: u64,
    dead: bool,
    observer: Option<Observer>,
    journal: Vec<Entry>,
    /// The mark at the last entry of the journal.
    mark: Option<Vec<u8>>,
    inodes: HashMap<PathBuf, u64>,
    next_inode: u64,
    /// Open connections by the address of their main file.
    connections: Vec<(usize, usize)>,
}

pub struct Volume {
    folder: PathBuf,
    device: Device,
    /// Counts power cuts: what was written and not synced outlives a kill alone.
    boot: AtomicU64,
    inner: Mutex<Inner>,
}

/// The names of the files in the folder of each volume.
pub const DB: &str = "x.db";
const MARK: &str = "x.db-mark";

impl Inner {
    fn push(&mut self, folder: &Path, effect: Effect, note: Note) {
        let mark = self.see_mark(folder, note);
        self.journal.push(Entry { effect, note, mark });
    }

    /// The recorder syncs the folder before it removes the mark; that is written down as a call of its own.
    fn see_mark(&mut self, folder: &Path, note: Note) -> Option<Vec<u8>> {
        // A start makes it anew: it may be gone by now, or empty.
        let mark = std::fs::read(folder.join(MARK)).ok();
        let before = std::mem::replace(&mut self.mark, mark.clone());
        if before.is_some() && mark.is_none() {
            let effect = Effect::Unlink {
                name: MARK.to_owned(),
                synced: true,
            };
            self.journal.push(Entry {
                effect,
                note,
                mark: before,
            });
        }
        mark
    }
}

static VOLUMES: Mutex<Vec<(PathBuf, Arc<Volume>)>> = Mutex::new(Vec::new());

fn volumes() -> MutexGuard<'static, Vec<(PathBuf, Arc<Volume>)>> {
    VOLUMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The volume that a path is on.
pub fn of(path: &Path) -> Option<Arc<Volume>> {
    let folder = path.parent()?;
    let volumes = volumes();
    let found = volumes.iter().find(|(known, _)| known == folder)?;
    Some(found.1.clone())
}

/// A folder that is a volume for as long as this lives.
pub struct Mounted(Arc<Volume>);

impl std::ops::Deref for Mounted {
    type Target = Arc<Volume>;

    fn deref(&self) -> &Arc<Volume> {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        volumes().retain(|(_, volume)| !Arc::ptr_eq(volume, &self.0));
    }
}

impl Volume {
    pub fn mount(folder: &Path, device: Device) -> Mounted {
        super::install();
        let volume = Arc::new(Volume {
            folder: folder.to_owned(),
            device,
            boot: AtomicU64::new(0),
            inner: Mutex::default(),
        });
        volumes().push((folder.to_owned(), volume.clone()));
        Mounted(volume)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The kernel's boot id, as a recorder on this volume is told it.
    pub fn boot_id(&self) -> String {
        format!("boot {}", self.boot.load(Ordering::SeqCst))
    }

    /// The power has come back.
    pub fn boot_anew(&self) {
        static BOOTS: AtomicU64 = AtomicU64::new(1);
        let boot = BOOTS.fetch_add(1, Ordering::SeqCst);
        self.boot.store(boot, Ordering::SeqCst);
    }

    pub fn device(&self) -> Device {
        self.device
    }

    pub fn arm(&self, plan: Plan) {
        let mut inner = self.lock();
        inner.plan = Some(plan);
        inner.planned_calls = 0;
    }

    /// Nothing fails from here on.
    pub fn lift(&self) {
        self.lock().plan = None;
    }

    pub fn observe(&self, observer: impl Fn() -> Note + Send + 'static) {
        self.lock().observer = Some(Box::new(observer));
    }

    /// The calls that were made to fail: the first and the last of them at least.
    pub fn fired(&self) -> Vec<Fired> {
        self.lock().fired.clone()
    }

    pub fn fired_count(&self) -> u64 {
        self.lock().fired_count
    }

    /// Calls of any kind so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    pub fn journal(&self) -> Vec<Entry> {
        let mut inner = self.lock();
        let note = inner
            .journal
            .last()
            .map_or(Note::default(), |last| last.note);
        inner.see_mark(&self.folder, note);
        inner.journal.clone()
    }

    /// As it was at the last entry of the journal.
    pub fn mark(&self) -> Option<Vec<u8>> {
        self.lock().mark.clone()
    }

    pub fn journal_len(&self) -> usize {
        self.lock().journal.len()
    }

    /// From here on every call fails and none changes a file, as if its process were gone.
    pub fn kill(&self) {
        self.lock().dead = true;
    }

    pub fn revive(&self) {
        self.lock().dead = false;
    }

    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Whether this call is to fail; counts it.
    pub fn enter(&self, call: Call, role: Role) -> Gate {
        let mut inner = self.lock();
        let note = inner.observer.as_ref().map_or(Note::default(), |ask| ask());
        inner.calls += 1;
        if inner.dead {
            let harmless = matches!(call, Call::Unlock | Call::FullPathname);
            return if harmless {
                Gate::Pass(note)
            } else {
                Gate::Fail(Fired {
                    role,
                    code: ffi::SQLITE_IOERR,
                    errno: 0,
                    half: false,
                    note,
                    at: 0,
                })
            };
        }
        let Some(plan) = inner.plan.filter(|plan| plan.fault.call == call) else {
            return Gate::Pass(note);
        };
        inner.planned_calls += 1;
        let hit = if plan.for_good {
            inner.planned_calls >= plan.nth
        } else {
            inner.planned_calls == plan.nth
        };
        if !hit {
            return Gate::Pass(note);
        }
        let fired = Fired {
            role,
            code: plan.fault.code,
            errno: plan.fault.errno,
            half: plan.fault.half,
            note,
            at: inner.journal.len(),
        };
        inner.fired_count += 1;
        if inner.fired.len() > 1 {
            inner.fired.pop();
        }
        inner.fired.push(fired);
        Gate::Fail(fired)
    }

    /// A call that was let pass has had its effect: also when the process was taken to be dead meanwhile.
    pub fn did(&self, effect: Effect, note: Note) {
        self.lock().push(&self.folder, effect, note);
    }

    /// A file was opened, and was made if it is new; gives its number.
    pub fn opened(&self, path: &Path, is_new: bool) -> u64 {
        let mut inner = self.lock();
        if !is_new && let Some(&inode) = inner.inodes.get(path) {
            return inode;
        }
        inner.next_inode += 1;
        let inode = inner.next_inode;
        inner.inodes.insert(path.to_owned(), inode);
        let note = inner.observer.as_ref().map_or(Note::default(), |ask| ask());
        let name = name_of(path);
        inner.push(&self.folder, Effect::Link { name, inode }, note);
        inode
    }

    /// Numbers the files that are there already.
    pub fn adopt(&self) -> BTreeMap<u64, (String, Vec<u8>)> {
        let mut inner = self.lock();
        let entries = std::fs::read_dir(&self.folder).unwrap();
        let mut files = BTreeMap::new();
        let paths = entries.map(|entry| entry.unwrap().path());
        for path in paths.filter(|path| name_of(path) != MARK) {
            inner.next_inode += 1;
            let inode = inner.next_inode;
            files.insert(inode, (name_of(&path), std::fs::read(&path).unwrap()));
            inner.inodes.insert(path, inode);
        }
        files
    }

    pub fn deleted(&self, path: &Path, synced: bool, note: Note) {
        let mut inner = self.lock();
        inner.inodes.remove(path);
        let name = name_of(path);
        inner.push(&self.folder, Effect::Unlink { name, synced }, note);
    }

    pub fn connected(&self, file: usize, connection: usize) {
        self.lock().connections.push((file, connection));
    }

    pub fn closed(&self, file: usize) {
        self.lock().connections.retain(|(open, _)| *open != file);
    }

    /// Connections whose file is still open.
    pub fn connections(&self) -> Vec<usize> {
        let inner = self.lock();
        inner.connections.iter().map(|(_, db)| *db).collect()
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

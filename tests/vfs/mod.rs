//! An SQLite VFS for tests: it forwards to the real one, counts every call, fails the one that it is told
//! to fail, and writes down what was written, so that a power cut can be played afterwards.
//!
//! It is the default VFS of a test's process, so that the library runs on it unchanged; nothing of it is
//! in the program. What it does to a file is decided by the file's folder: one that is no `Volume` is the
//! real VFS's alone, so that trials can run beside each other. Syncs are written down and not made: what
//! the power takes is decided by `disk`, and no power is cut here.
#![allow(dead_code)]

pub mod disk;
pub mod recording;
pub mod sql;
pub mod story;
pub mod trials;
pub mod verdict;
pub mod volume;
pub mod workload;

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, OnceLock};

use libsqlite3_sys as ffi;

use volume::{Call, Effect, Gate, Role, Volume};

/// The real VFS under its own name.
pub const REAL: &CStr = c"unix";

/// What SQLite holds of a file; the real VFS's part follows it.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    state: *mut State,
}

struct State {
    volume: Arc<Volume>,
    role: Role,
    inode: u64,
    /// Its first sync syncs the folder too, as the real VFS does for a log that it has just made.
    syncs_folder: bool,
}

const FILE_BYTES: usize = size_of::<File>().next_multiple_of(16);

struct Real(*mut ffi::sqlite3_vfs);

// SAFETY: SQLite's own VFS structures are read-only once registered, and may be used by any thread.
unsafe impl Send for Real {}
// SAFETY: as above.
unsafe impl Sync for Real {}

static REAL_VFS: OnceLock<Real> = OnceLock::new();

thread_local! {
    /// What the next question for the system's error number is answered with.
    static ERRNO: Cell<i32> = const { Cell::new(0) };
}

/// Makes the VFS the default of this process.
pub fn install() {
    REAL_VFS.get_or_init(|| {
        // SAFETY: the name ends in NUL; finding initialises SQLite. The copy lives for ever, and differs
        // from the original only in the size of a file and in functions of the same types.
        unsafe {
            let real = ffi::sqlite3_vfs_find(REAL.as_ptr());
            assert!(!real.is_null());
            let shim = Box::leak(Box::new(ffi::sqlite3_vfs {
                szOsFile: (*real).szOsFile + FILE_BYTES as c_int,
                pNext: ptr::null_mut(),
                zName: c"seawall-tests".as_ptr(),
                xOpen: Some(open),
                xDelete: Some(delete),
                xAccess: Some(access),
                xFullPathname: Some(full_pathname),
                xSleep: Some(sleep),
                xGetLastError: Some(last_error),
                ..*real
            }));
            assert_eq!(ffi::sqlite3_vfs_register(shim, 1), ffi::SQLITE_OK);
            Real(real)
        }
    });
}

fn real() -> *mut ffi::sqlite3_vfs {
    REAL_VFS.get().expect("the VFS is installed").0
}

/// Calls a method of the real VFS.
macro_rules! forward {
    ($method:ident($($arg:expr),*)) => {{
        let real = real();
        // SAFETY: SQLite called this VFS with these arguments, which are valid for the real one as well;
        // the unix VFS has every method.
        unsafe { (*real).$method.unwrap()(real, $($arg),*) }
    }};
}

/// Calls a method of the real file that is behind one of ours.
macro_rules! forward_file {
    ($file:ident.$method:ident($($arg:expr),*)) => {{
        let real = real_file($file);
        // SAFETY: the real file was opened with ours and is closed with it, so that it has its methods.
        unsafe { (*(*real).pMethods).$method.unwrap()(real, $($arg),*) }
    }};
}

fn real_file(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: SQLite allocates `szOsFile` bytes, of which the real VFS's follow the first FILE_BYTES.
    unsafe { file.cast::<u8>().add(FILE_BYTES).cast() }
}

fn state<'a>(file: *mut ffi::sqlite3_file) -> &'a mut State {
    // SAFETY: called only from the methods that `open` set after it had made the state, which `close`
    // frees; SQLite lets no two threads use one file at once.
    unsafe { &mut *(*file.cast::<File>()).state }
}

fn path_of<'a>(name: *const c_char) -> Option<&'a Path> {
    if name.is_null() {
        return None;
    }
    // SAFETY: SQLite gives names that end in NUL and outlive the call.
    let name = unsafe { CStr::from_ptr(name) };
    Some(Path::new(name.to_str().ok()?))
}

/// The code of a failed call, with the system's number for it.
fn fail(code: c_int, errno: i32) -> c_int {
    ERRNO.set(errno);
    code
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let path = path_of(name);
    let Some((path, volume)) = path.and_then(|path| Some((path, volume::of(path)?))) else {
        return forward!(xOpen(name, file, flags, out_flags));
    };
    // SAFETY: `file` is ours to fill; without methods SQLite does not close it.
    unsafe { (*file).pMethods = ptr::null() };
    let role = Role::of(path);
    if let Gate::Fail(fault) = volume.enter(Call::Open, role) {
        return fail(fault.code, fault.errno);
    }
    let existed = path.exists();
    let code = forward!(xOpen(name, real_file(file), flags, out_flags));
    if code != ffi::SQLITE_OK {
        return code;
    }
    let inode = volume.opened(path, !existed);
    let is_log = flags & (ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_WAL) != 0;
    let state = Box::new(State {
        role,
        inode,
        syncs_folder: is_log && flags & ffi::SQLITE_OPEN_CREATE != 0,
        volume,
    });
    // SAFETY: as above.
    unsafe {
        (*file.cast::<File>()).state = Box::into_raw(state);
        (*file).pMethods = &raw const METHODS;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    sync_folder: c_int,
) -> c_int {
    let path = path_of(name);
    let Some((path, volume)) = path.and_then(|path| Some((path, volume::of(path)?))) else {
        return forward!(xDelete(name, sync_folder));
    };
    let note = match volume.enter(Call::Delete, Role::of(path)) {
        Gate::Pass(note) => note,
        Gate::Fail(fault) => return fail(fault.code, fault.errno),
    };
    let code = forward!(xDelete(name, sync_folder));
    if code == ffi::SQLITE_OK {
        volume.deleted(path, sync_folder != 0, note);
    }
    code
}

unsafe extern "C" fn access(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    if let Some(path) = path_of(name)
        && let Some(volume) = volume::of(path)
        && let Gate::Fail(fault) = volume.enter(Call::Access, Role::of(path))
    {
        return fail(fault.code, fault.errno);
    }
    forward!(xAccess(name, flags, out))
}

unsafe extern "C" fn full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    len: c_int,
    out: *mut c_char,
) -> c_int {
    if let Some(path) = path_of(name)
        && let Some(volume) = volume::of(path)
        && let Gate::Fail(fault) = volume.enter(Call::FullPathname, Role::of(path))
    {
        return fail(fault.code, fault.errno);
    }
    forward!(xFullPathname(name, len, out))
}

/// SQLite waits between its tries for a lock; here, a fiftieth of that.
unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, us: c_int) -> c_int {
    forward!(xSleep((us / 50).max(1)));
    us
}

unsafe extern "C" fn last_error(_: *mut ffi::sqlite3_vfs, len: c_int, out: *mut c_char) -> c_int {
    match ERRNO.take() {
        0 => forward!(xGetLastError(len, out)),
        errno => errno,
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    // Without version 3's memory-mapped reading, which the program does not use.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the state was made by `open` and is used no more: SQLite closes a file once.
    let state = unsafe { Box::from_raw((*file.cast::<File>()).state) };
    if state.role == Role::Db {
        state.volume.closed(file as usize);
    }
    forward_file!(file.xClose())
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    len: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    match state(file).enter(Call::Read) {
        Gate::Pass(_) => forward_file!(file.xRead(buffer, len, offset)),
        Gate::Fail(fault) => fail(fault.code, fault.errno),
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    data: *const c_void,
    len: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let state = state(file);
    let gate = state.enter(Call::Write);
    let (len, note) = match &gate {
        Gate::Pass(note) => (len, *note),
        Gate::Fail(fault) if fault.half => (len / 2, fault.note),
        Gate::Fail(fault) => return fail(fault.code, fault.errno),
    };
    let code = forward_file!(file.xWrite(data, len, offset));
    if code == ffi::SQLITE_OK {
        // SAFETY: SQLite gives `len` bytes at least.
        let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len as usize) };
        let (inode, offset) = (state.inode, offset as usize);
        let bytes = bytes.to_vec();
        state.did(
            Effect::Write {
                inode,
                offset,
                bytes,
            },
            note,
        );
    }
    match gate {
        Gate::Fail(fault) => fail(fault.code, fault.errno),
        Gate::Pass(_) => code,
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    let state = state(file);
    let note = match state.enter(Call::Truncate) {
        Gate::Pass(note) => note,
        Gate::Fail(fault) => return fail(fault.code, fault.errno),
    };
    let code = forward_file!(file.xTruncate(size));
    if code == ffi::SQLITE_OK {
        let (inode, size) = (state.inode, size as usize);
        state.did(Effect::Truncate { inode, size }, note);
    }
    code
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    let state = state(file);
    let inode = state.inode;
    match state.enter(Call::Sync) {
        Gate::Pass(note) => {
            let folder = std::mem::take(&mut state.syncs_folder);
            state.did(Effect::Sync { inode, folder }, note);
            ffi::SQLITE_OK
        }
        Gate::Fail(fault) => {
            state.did(Effect::SyncFailed { inode }, fault.note);
            fail(fault.code, fault.errno)
        }
    }
}

unsafe extern "C" fn file_size(
    file: *mut ffi::sqlite3_file,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    match state(file).enter(Call::FileSize) {
        Gate::Pass(_) => forward_file!(file.xFileSize(out)),
        Gate::Fail(fault) => fail(fault.code, fault.errno),
    }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    match state(file).enter(Call::Lock) {
        Gate::Pass(_) => forward_file!(file.xLock(level)),
        Gate::Fail(fault) => fail(fault.code, fault.errno),
    }
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    match state(file).enter(Call::Unlock) {
        Gate::Pass(_) => forward_file!(file.xUnlock(level)),
        Gate::Fail(fault) => fail(fault.code, fault.errno),
    }
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    match state(file).enter(Call::CheckReservedLock) {
        Gate::Pass(_) => forward_file!(file.xCheckReservedLock(out)),
        Gate::Fail(fault) => fail(fault.code, fault.errno),
    }
}

unsafe extern "C" fn file_control(
    file: *mut ffi::sqlite3_file,
    operation: c_int,
    argument: *mut c_void,
) -> c_int {
    let state = state(file);
    if operation == ffi::SQLITE_FCNTL_PDB && state.role == Role::Db {
        // SAFETY: this control's argument points to the connection that opened the file.
        let connection = unsafe { *argument.cast::<*mut ffi::sqlite3>() };
        state.volume.connected(file as usize, connection as usize);
    }
    forward_file!(file.xFileControl(operation, argument))
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    let claimed = state(file).volume.device().sector_bytes;
    claimed.unwrap_or_else(|| forward_file!(file.xSectorSize()))
}

unsafe extern "C" fn device_characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    let claimed = state(file).volume.device().characteristics;
    claimed.unwrap_or_else(|| forward_file!(file.xDeviceCharacteristics()))
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    match state(file).enter(Call::ShmMap) {
        Gate::Pass(_) => forward_file!(file.xShmMap(region, bytes, extend, out)),
        Gate::Fail(fault) => {
            // SAFETY: SQLite gives a place for the answer.
            unsafe { *out = ptr::null_mut() };
            fail(fault.code, fault.errno)
        }
    }
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    offset: c_int,
    n: c_int,
    flags: c_int,
) -> c_int {
    // Giving a lock back cannot fail in any way that SQLite would hear of.
    if flags & ffi::SQLITE_SHM_LOCK != 0
        && let Gate::Fail(fault) = state(file).enter(Call::ShmLock)
    {
        return fail(fault.code, fault.errno);
    }
    forward_file!(file.xShmLock(offset, n, flags))
}

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    forward_file!(file.xShmBarrier());
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    let delete = if state(file).volume.is_dead() {
        0
    } else {
        delete
    };
    forward_file!(file.xShmUnmap(delete))
}

impl State {
    fn enter(&self, call: Call) -> Gate {
        self.volume.enter(call, self.role)
    }

    fn did(&self, effect: Effect, note: volume::Note) {
        self.volume.did(effect, note);
    }
}

/// Closes the connections and the database that were left open on a volume whose process is taken to be dead, so
/// that a sweep does not run out of descriptors. Nothing of it reaches the files.
///
/// # Safety
///
/// Whoever opened them never uses them again.
pub unsafe fn bury(volume: &Volume) {
    volume.kill();
    for connection in volume.connections() {
        let connection = connection as *mut ffi::sqlite3;
        // SAFETY: SQLite told of this connection and has not closed its file; the caller vouches that
        // nobody uses it again.
        unsafe {
            loop {
                let statement = ffi::sqlite3_next_stmt(connection, ptr::null_mut());
                if statement.is_null() {
                    break;
                }
                ffi::sqlite3_finalize(statement);
            }
            assert_eq!(ffi::sqlite3_close(connection), ffi::SQLITE_OK);
        }
    }
    // The recorder's own, which it leaves to the end of its process.
    let db = volume.folder().join(volume::DB);
    for link in fs::read_dir("/proc/self/fd").unwrap().map(Result::unwrap) {
        if fs::read_link(link.path()).is_ok_and(|path| path == db) {
            let fd = link.file_name().to_str().unwrap().parse().unwrap();
            // SAFETY: the caller vouches that nobody uses it again.
            unsafe { libc::close(fd) };
        }
    }
}

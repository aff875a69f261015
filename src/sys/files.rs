//! Files: locks, filesystems and permissions.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::check::check;

/// Takes the whole-file lock without waiting; false when another process has it. It goes with the
/// descriptor, so that a killed process leaves none behind.
pub fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: no pointers; the descriptor is open.
    match check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(e),
    }
}

/// A descriptor of whatever is at the path, a link or a socket too, which opens nothing of it. The standard library
/// takes O_PATH for an access mode where the C library is musl, and leaves it out.
pub fn open_path(path: &Path) -> io::Result<File> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the path ends in NUL; a descriptor that open returned is owned by nobody else.
    unsafe { Ok(File::from_raw_fd(check(libc::open(path.as_ptr(), flags))?)) }
}

/// Whether stdin is a pipe or a file, and so brings something.
pub fn has_input() -> bool {
    let stdin = std::fs::metadata("/proc/self/fd/0");
    stdin.is_ok_and(|file| file.is_file() || file.file_type().is_fifo())
}

/// Answer of `statfs` about the filesystem that holds a path.
pub struct Filesystem {
    pub magic: u64,
    /// Bytes that this user may still write.
    pub free_bytes: u64,
    pub block_bytes: u64,
    /// Whether no further file can be made; some filesystems have no such limit.
    pub is_out_of_inodes: bool,
}

pub fn filesystem(path: &Path) -> io::Result<Filesystem> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path ends in NUL, and statfs fills the struct when it returns 0.
    let stat = unsafe {
        check(libc::statfs(path.as_ptr(), stat.as_mut_ptr()))?;
        stat.assume_init()
    };
    Ok(Filesystem {
        magic: stat.f_type as u64 & 0xffff_ffff,
        free_bytes: (stat.f_bavail as u64).saturating_mul(stat.f_bsize as u64),
        block_bytes: stat.f_bsize as u64,
        is_out_of_inodes: stat.f_files > 0 && stat.f_ffree == 0,
    })
}

/// Major and minor number of a device, as /proc/self/mountinfo has them.
pub fn device_numbers(device: u64) -> (u32, u32) {
    (libc::major(device), libc::minor(device))
}

/// Whether the effective user may make files in a folder. A seccomp filter older than faccessat2(2) answers EPERM
/// where it means ENOSYS: then the first write decides.
pub fn may_write(place: &Path) -> io::Result<()> {
    let path = CString::new(place.as_os_str().as_bytes())?;
    let search = if place.is_dir() { libc::X_OK } else { 0 };
    // SAFETY: the path ends in NUL.
    let result = check(unsafe {
        libc::faccessat(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::W_OK | search,
            libc::AT_EACCESS,
        )
    });
    match result {
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => Ok(()),
        result => result.map(drop),
    }
}

//! The kernel's calls that the standard library does not wrap, and the only `unsafe` outside `db/raw.rs`.
//!
//! Each function is one call with its errors as `io::Error`. No decision is taken here.

pub mod bus_error;
mod check;
#[cfg(target_arch = "x86_64")]
pub mod copy;
mod files;
pub mod signals;
mod sockets;
#[cfg(all(target_env = "musl", panic = "abort"))]
mod unwind;

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use check::check;
pub use files::{
    Filesystem, device_numbers, filesystem, has_input, may_write, open_path, try_lock,
};
pub use sockets::{
    Credentials, connect_now, datagrams_dropped, end_writing, enlarge_receive_buffer, keep_alive,
    peer_credentials, send_datagram,
};

pub const STDIN: RawFd = libc::STDIN_FILENO;
pub const STDOUT: RawFd = libc::STDOUT_FILENO;
pub const STDERR: RawFd = libc::STDERR_FILENO;

/// No descriptor: `wait` passes over it, so that the others keep their places in the list.
pub const NO_FD: RawFd = -1;

/// One descriptor to wait for.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Watch(libc::pollfd);

impl Watch {
    pub fn readable(fd: RawFd) -> Self {
        Self::new(fd, libc::POLLIN)
    }

    pub fn writable(fd: RawFd) -> Self {
        Self::new(fd, libc::POLLOUT)
    }

    /// Ready only when what it writes to has gone.
    pub fn broken(fd: RawFd) -> Self {
        Self::new(fd, 0)
    }

    /// None when neither is wanted.
    pub fn of(fd: RawFd, reads: bool, writes: bool) -> Option<Self> {
        let events = if reads { libc::POLLIN } else { 0 } | if writes { libc::POLLOUT } else { 0 };
        (events != 0).then(|| Self::new(fd, events))
    }

    fn new(fd: RawFd, events: libc::c_short) -> Self {
        Watch(libc::pollfd {
            fd,
            events,
            revents: 0,
        })
    }

    /// Ready, or broken in a way that the next call on it will tell.
    pub fn ready(&self) -> bool {
        self.0.revents != 0
    }

    /// As `ready`, where it was asked whether there is something to read.
    pub fn is_readable(&self) -> bool {
        self.0.events & libc::POLLIN != 0 && self.0.revents & !libc::POLLOUT != 0
    }
}

/// Waits until a descriptor is ready, a signal comes or the time is over. Signals come in here and
/// nowhere else, so that none is lost between the look at the flags and the sleep.
pub fn wait(watches: &mut [Watch], timeout: Option<Duration>) -> io::Result<()> {
    if poll(watches, timeout)? > 0 {
        // The kernel lets a signal in only where ppoll would have nothing to report, so that one that came
        // to a busy input would never be heard.
        poll(&mut [], Some(Duration::ZERO))?;
    }
    Ok(())
}

/// How many descriptors are ready; none after a signal.
fn poll(watches: &mut [Watch], timeout: Option<Duration>) -> io::Result<usize> {
    let timeout = timeout.map(timespec);
    let timeout = timeout.as_ref().map_or(std::ptr::null(), |t| t as *const _);
    // SAFETY: `Watch` is a transparent pollfd, so pointer and length describe `watches`; the timeout is
    // null or points to a local; sigemptyset initialises the mask.
    let result = unsafe {
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::ppoll(
            watches.as_mut_ptr().cast(),
            watches.len() as libc::nfds_t,
            timeout,
            none.as_ptr(),
        )
    };
    match check(result) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => {
            watches.iter_mut().for_each(|w| w.0.revents = 0);
            Ok(0)
        }
        other => other.map(|n| n as usize),
    }
}

/// Whether a write of up to `PIPE_BUF` bytes would go through without waiting.
pub fn is_writable(fd: RawFd, timeout: Duration) -> bool {
    let mut watch = Watch::writable(fd).0;
    let ms = timeout.as_millis().min(i32::MAX as u128) as libc::c_int;
    // SAFETY: one valid pollfd, and the length says one.
    let ready = unsafe { libc::poll(&mut watch, 1, ms) };
    ready == 1 && watch.revents & libc::POLLOUT != 0
}

/// Whether a read or a write has only to be tried again.
pub fn is_passing(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// POSIX promises that a write of up to this many bytes to a pipe is whole or not at all.
pub const PIPE_BUF_BYTES: usize = libc::PIPE_BUF;

pub fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe `buffer`, which is ours to write.
    let n = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

pub fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe `bytes`.
    let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// How one thread wakes another that waits in `wait`.
pub struct Bell(OwnedFd);

impl Bell {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the descriptor returned is ours alone.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        check(fd)?;
        // SAFETY: `fd` is open and owned by nobody else.
        Ok(Bell(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn ring(&self) {
        // Fails only when the counter is full, and then the bell is ringing.
        let _ = write(self.0.as_raw_fd(), &1u64.to_ne_bytes());
    }

    pub fn silence(&self) {
        // Fails only when nobody rang.
        let _ = read(self.0.as_raw_fd(), &mut [0; 8]);
    }

    pub fn watch(&self) -> Watch {
        Watch::readable(self.0.as_raw_fd())
    }
}

#[derive(Clone, Copy)]
pub enum Clock {
    /// The time of day; may be set.
    Real,
    /// Since boot.
    Boot,
    /// Processor time of one thread of this process; stands at 0 once it has ended.
    Thread(libc::clockid_t),
}

impl Clock {
    pub fn of_this_thread() -> Self {
        const PER_THREAD_SCHED: libc::clockid_t = 6;
        // SAFETY: no pointers, cannot fail.
        let thread = unsafe { libc::gettid() };
        // As pthread_getcpuclockid(3) makes it, which the libc crate lacks for Linux.
        Clock::Thread((!thread << 3) | PER_THREAD_SCHED)
    }
}

pub fn clock_ns(clock: Clock) -> i64 {
    let id = match clock {
        Clock::Real => libc::CLOCK_REALTIME,
        Clock::Boot => libc::CLOCK_BOOTTIME,
        Clock::Thread(id) => id,
    };
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec; the first two clocks exist on every Linux, so that it is filled.
    unsafe { libc::clock_gettime(id, &mut now) };
    now.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(now.tv_nsec)
}

/// The time of day less the time since boot. None when the thread was held up between the two looks, so
/// that the difference would mean nothing.
pub fn clock_offset_ns() -> Option<i64> {
    const HELD_UP_NS: i64 = 10_000_000;
    let before = clock_ns(Clock::Boot);
    let real = clock_ns(Clock::Real);
    (clock_ns(Clock::Boot) - before < HELD_UP_NS).then(|| real - before)
}

/// This moment by both clocks: where the thread was held up between the two looks, of some tries the best.
pub fn moment() -> (Instant, i64) {
    const HELD_UP: Duration = Duration::from_micros(5);
    const TRIES: usize = 5;
    let look = || {
        let before = Instant::now();
        let real_ns = clock_ns(Clock::Real);
        (before.elapsed(), before, real_ns)
    };
    let mut best = look();
    for _ in 1..TRIES {
        if best.0 <= HELD_UP {
            break;
        }
        let again = look();
        if again.0 < best.0 {
            best = again;
        }
    }
    (best.1, best.2)
}

/// Starts a thread that nobody joins. Boxed: the standard library's code for it is then there once.
pub fn spawn(name: &str, run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.into());
    thread.spawn(run).map(drop)
}

pub fn is_terminal(fd: RawFd) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::isatty(fd) == 1 }
}

pub fn terminal_columns(fd: RawFd) -> Option<usize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one winsize.
    let result = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &mut size) };
    (result == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// The effective user and group.
pub fn user_and_group() -> (u32, u32) {
    // SAFETY: no pointers, cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Leaves at once, whatever the other threads are doing.
pub fn leave(status: u8) -> ! {
    // SAFETY: no pointers. Nothing is flushed, and nothing here is buffered.
    unsafe { libc::_exit(libc::c_int::from(status)) }
}

/// The kernel's name for the time since it started.
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// Bytes that this process has caused to be written to storage since it started; `None` where the kernel does not
/// count them.
pub fn written_bytes() -> Option<u64> {
    let mut counts = [0; 256];
    let len = File::open("/proc/self/io").ok()?.read(&mut counts).ok()?;
    let counts = str::from_utf8(counts.get(..len)?).ok()?;
    let bytes = counts.split("\nwrite_bytes: ").nth(1)?;
    bytes.lines().next()?.parse().ok()
}

/// Sets the permissions that new files do not get; gives those before. Of the whole process: only while
/// there is one thread.
pub fn set_umask(mask: u32) -> u32 {
    // SAFETY: no pointers, cannot fail.
    unsafe { libc::umask(mask as libc::mode_t) as u32 }
}

/// Raises the limit on descriptors to `count`, as far as the hard limit goes. Returns the new limit.
pub fn allow_descriptors(count: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls are given a valid rlimit.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        if limit.rlim_cur < count {
            limit.rlim_cur = count.min(limit.rlim_max);
            check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))?;
        }
    }
    Ok(limit.rlim_cur)
}

/// A description of our own of a terminal or a pipe, which may be made non-blocking without doing so to the
/// processes that share it. None where there is no way to one.
pub fn reopen_nonblocking(fd: RawFd) -> Option<OwnedFd> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills the struct when it returns 0, and only then is it read.
    let mode = unsafe {
        check(libc::fstat(fd, stat.as_mut_ptr())).ok()?;
        stat.assume_init().st_mode
    };
    // A file would be written from its beginning.
    if mode & libc::S_IFMT != libc::S_IFIFO && !is_terminal(fd) {
        return None;
    }
    File::options()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{fd}"))
        .ok()
        .map(OwnedFd::from)
}

fn timespec(d: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: d.as_secs().min(i32::MAX as u64) as _,
        tv_nsec: d.subsec_nanos() as _,
    }
}

/// In place of musl's, which writes to a file by way of `printf` and so brings 15 KB of that along. A thread
/// names only itself in this program.
#[cfg(target_env = "musl")]
// SAFETY: the name and the signature are those of the C library.
#[unsafe(no_mangle)]
extern "C" fn pthread_setname_np(_: libc::pthread_t, name: *const libc::c_char) -> libc::c_int {
    // SAFETY: the standard library, which alone calls this, hands over a C string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name) }
}

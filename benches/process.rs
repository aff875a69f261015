//! What the kernel tells of a process: its memory, its time, its wakeups, and what it wrote.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The number after `key:` in a file of /proc.
fn number(path: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn memory(pid: u32, key: &str) -> Option<f64> {
    let kib = number(&format!("/proc/{pid}/status"), key)?;
    Some(kib as f64 / 1024.0)
}

/// MiB that are resident now.
pub fn resident_mib(pid: u32) -> f64 {
    memory(pid, "VmRSS").expect("a process that runs")
}

/// MiB that were resident at most.
pub fn peak_mib(pid: u32) -> Option<f64> {
    memory(pid, "VmHWM")
}

/// Seconds of processor time of all its threads.
pub fn cpu_s(pid: u32) -> f64 {
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both pointers are to live locals.
    unsafe {
        assert_eq!(libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock), 0);
        assert_eq!(libc::clock_gettime(clock, &mut time), 0);
    }
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// How often its threads have gone to sleep by themselves, and so were woken.
pub fn wakeups(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process that runs");
    let each = tasks.flatten().map(|task| {
        let status = task.path().join("status");
        number(status.to_str().unwrap(), "voluntary_ctxt_switches")
    });
    each.flatten().sum()
}

/// Bytes that it had written to disks; 0 where the kernel does not count them.
pub fn written_bytes(pid: u32) -> u64 {
    number(&format!("/proc/{pid}/io"), "write_bytes").unwrap_or(0)
}

/// How long a command took from its start to its exit, and MiB that were resident at most.
pub fn run(command: &mut Command) -> (Duration, f64) {
    const LOOK_EVERY: Duration = Duration::from_millis(5);
    let start = Instant::now();
    let mut child = command.spawn().expect("run a command");
    let (pid, ended) = (child.id(), AtomicBool::new(false));
    thread::scope(|scope| {
        let peak = scope.spawn(|| {
            let mut peak = 0.0;
            while !ended.load(Ordering::Relaxed) {
                peak = peak_mib(pid).unwrap_or(peak);
                thread::sleep(LOOK_EVERY);
            }
            peak
        });
        let status = child.wait().expect("wait for a command");
        let took = start.elapsed();
        ended.store(true, Ordering::Relaxed);
        assert!(status.success(), "{command:?}: {status}");
        (took, peak.join().unwrap())
    })
}

/// Milliseconds from SIGTERM to the exit.
pub fn terminate(child: &mut Child) -> f64 {
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
    let start = Instant::now();
    child.wait().expect("wait for a process");
    start.elapsed().as_secs_f64() * 1e3
}

/// Bytes that are free for files in a folder.
pub fn free_bytes(folder: &Path) -> u64 {
    let path = std::ffi::CString::new(folder.to_str().unwrap()).unwrap();
    // SAFETY: a structure of numbers, for which zero is a value; both pointers are to live locals.
    unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        assert_eq!(libc::statvfs(path.as_ptr(), &mut found), 0);
        found.f_bavail as u64 * found.f_frsize as u64
    }
}

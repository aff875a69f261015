//! What the tests of stopping, killing and recording share: a stop that is timed, and one place that holds
//! the end of a recorder to everything that the contract says of it.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{BINARY, Ended, Holder, Running, assert_sound, python3, seawall, sql, try_sql, until};

/// What this process may take to notice that another has ended, and the kernel to take that one down. Less
/// than any wait that the recorder could add to its own deadline.
pub const SCHEDULING: Duration = Duration::from_millis(60);
/// `--stop-timeout` where none is given.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub const NOBODY: u32 = 65534;

/// Starts a recorder and waits until it records.
pub fn record(db: &Path, options: &str) -> Running {
    let running = record_at_once(db, options);
    running.wait_for("ready");
    running
}

/// Starts a recorder. Its options are parted by spaces.
pub fn record_at_once(db: &Path, options: &str) -> Running {
    Running::on(
        db,
        options,
        [Stdio::piped(), Stdio::piped(), Stdio::piped()],
    )
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Lines of one reading each, the values numbered.
pub fn lines(values: std::ops::Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        writeln!(bytes, "m,k=a v={value}i").unwrap();
    }
    bytes
}

/// Sends lines until the recorder stops reading them.
pub struct Flood(JoinHandle<u64>);

impl Flood {
    pub fn start(mut stdin: ChildStdin) -> Self {
        Flood(thread::spawn(move || {
            const AT_ONCE: u64 = 100;
            let mut sent = 0;
            while stdin.write_all(&lines(sent..sent + AT_ONCE)).is_ok() {
                sent += AT_ONCE;
            }
            sent
        }))
    }

    /// Lines that the pipe took, to a hundred.
    pub fn end(self) -> u64 {
        self.0.join().unwrap()
    }
}

/// Waits until a pipe holds much and nobody reads on: its reader is waiting for something else.
pub fn wait_until_stuck(fd: RawFd) {
    const MUCH_BYTES: usize = 32 * 1024;
    until("the pipe is full and no longer read", || {
        let before = unread(fd);
        thread::sleep(Duration::from_millis(50));
        (before > MUCH_BYTES && unread(fd) == before).then_some(())
    });
}

/// Bytes in a pipe that nobody has read yet; either end will do.
pub fn unread(fd: RawFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    assert_eq!(unsafe { libc::ioctl(fd, libc::FIONREAD, &mut bytes) }, 0);
    bytes as usize
}

impl Running {
    /// A recorder with streams of the test's own; those that are piped are read as usual.
    pub fn on(db: &Path, options: &str, [stdin, stdout, stderr]: [Stdio; 3]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["record", "--db", text(db)]);
        command.args(options.split_whitespace());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SEAWALL_") {
                command.env_remove(name);
            }
        }
        let child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn();
        let mut child = child.expect("start seawall");
        let (log, out) = <(Arc<Mutex<Vec<String>>>, Arc<Mutex<Vec<String>>>)>::default();
        let mut readers = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            readers.push(super::collect(stderr, log.clone()));
        }
        if let Some(stdout) = child.stdout.take() {
            readers.push(super::collect(stdout, out.clone()));
        }
        Running {
            stdin: child.stdin.take(),
            child,
            log,
            out,
            readers,
        }
    }

    /// Waits until everything sent was read. What was read is accepted before the next signal is heard.
    pub fn wait_until_read(&self) {
        let fd = self.stdin.as_ref().expect("stdin is open").as_raw_fd();
        until("all that was sent is read", || {
            (unread(fd) == 0).then_some(())
        });
    }

    pub fn wait_for_ack(&self, lines: u64) {
        until(&format!("ack {lines}"), || {
            (self.acked() >= lines).then_some(())
        });
    }

    /// Waits until the process has a handler for the signal: before that, the signal would end it.
    pub fn wait_until_handled(&self, signal: i32) {
        until("the signals are handled", || {
            has_signal(self.pid(), "SigCgt", signal).then_some(())
        });
    }

    /// Waits until a signal was taken notice of.
    pub fn wait_until_heard(&self, signal: i32) {
        until("the signal is heard", || {
            (!has_signal(self.pid(), "ShdPnd", signal)).then_some(())
        });
    }

    /// Waits for the end, and says how long it took from now.
    pub fn wait_timed(mut self) -> (Ended, Duration) {
        let start = Instant::now();
        until("seawall ends", || self.has_ended().then_some(()));
        let took = start.elapsed();
        (self.wait(), took)
    }

    /// Stops it by a signal; fails when that takes longer than `--stop-timeout`. Time in which it was ready
    /// to run and the processors ran others is not its own, nor is ours.
    pub fn stop_within(self, signal: i32, timeout: Duration) -> Ended {
        /// When to give up on one that hangs.
        const HOPELESS: Duration = Duration::from_secs(10);
        let its = format!("/proc/{}/schedstat", self.pid());
        let waited = || run_delay(&its) + run_delay("/proc/thread-self/schedstat");
        let (start, waited_before) = (Instant::now(), waited());
        self.signal(signal);
        // Until it is reaped, the kernel tells how long it waited.
        let exited = has_exited_within(self.pid(), timeout + HOPELESS);
        assert!(exited, "it hangs: {:#?}", self.log());
        let took = start.elapsed();
        let waited = waited().saturating_sub(waited_before);
        let ended = self.wait();
        assert!(
            took <= timeout + SCHEDULING + waited,
            "--stop-timeout {timeout:?}, and it took {took:?}, {waited:?} of it for others: {:#?}",
            ended.log
        );
        ended
    }
}

/// How long a thread was ready to run without running.
fn run_delay(schedstat: &str) -> Duration {
    let text = fs::read_to_string(schedstat).unwrap_or_default();
    let ns = text.split(' ').nth(1).and_then(|ns| ns.parse().ok());
    Duration::from_nanos(ns.unwrap_or(0))
}

/// Waits for a child to end, in one sleep; it stays as it is.
fn has_exited_within(pid: u32, limit: Duration) -> bool {
    // SAFETY: no pointers; the descriptor returned is ours.
    let process = unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd as RawFd)
    };
    let mut watch = libc::pollfd {
        fd: process.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd, and the length says one.
    unsafe { libc::poll(&mut watch, 1, limit.as_millis() as libc::c_int) == 1 }
}

/// Has the command started with a signal blocked.
pub fn block_at_start(command: &mut Command, signal: i32) {
    // SAFETY: all calls are async-signal-safe; sigemptyset fills the set.
    unsafe {
        command.pre_exec(move || {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, signal);
            libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            Ok(())
        });
    }
}

/// Whether a signal is in one of the masks of /proc/PID/status.
pub fn has_signal(pid: u32, mask: &str, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(mask)?.strip_prefix(":\t"));
    let mask = line.map_or(0, |hex| u64::from_str_radix(hex, 16).unwrap());
    mask & 1 << (signal - 1) != 0
}

impl Holder {
    /// Ends the process as a crash does: SQLite does not tidy up behind it.
    pub fn kill(mut self) {
        self.0.kill().expect("kill the holder");
    }
}

/// The last line, in numbers.
#[derive(Clone, Copy, Debug)]
pub struct Stopped {
    pub committed: u64,
    pub dropped: u64,
    pub rejected: u64,
    pub uncommitted: u64,
    pub wal_frames: u64,
}

/// A page and its header in the `-wal`.
pub const FRAME_BYTES: u64 = seawall::store::PAGE_BYTES + 24;

const LAST_LINE: [&str; 7] = [
    "reason",
    "committed",
    "dropped",
    "rejected",
    "uncommitted",
    "wal_frames",
    "stop_ms",
];

/// The last line of a log, which is there once, and has exactly the form of the contract.
pub fn assert_last_line(log: &[String], reason: &str) -> Stopped {
    let last = log.last().expect("a log");
    let stops = log
        .iter()
        .filter(|line| line.contains(" event=stopped "))
        .count();
    assert_eq!(stops, 1, "{log:#?}");
    let keys: Vec<_> = last
        .split(' ')
        .map(|pair| pair.split('=').next().unwrap())
        .collect();
    assert_eq!(keys[..3], ["ts", "level", "event"], "{last}");
    assert_eq!(keys[3..], LAST_LINE, "{last}");
    let fields = super::fields(last);
    let is_all_rejected =
        reason == "eof" && fields["committed"] == "0" && fields["rejected"] != "0";
    let level = if is_all_rejected { "warn" } else { "info" };
    assert_eq!(
        (&*fields["level"], &*fields["event"], &*fields["reason"]),
        (level, "stopped", reason),
        "{last}"
    );
    let number = |key: &str| -> u64 {
        fields[key]
            .parse()
            .unwrap_or_else(|_| panic!("{key} in {last}"))
    };
    number("stop_ms");
    Stopped {
        committed: number("committed"),
        dropped: number("dropped"),
        rejected: number("rejected"),
        uncommitted: number("uncommitted"),
        wal_frames: number("wal_frames"),
    }
}

/// Holds the end of a recorder to all that is said of it: its exit status, its last line, its row in the
/// file, the ledger, the soundness of the file, and what lies beside it.
pub fn assert_stopped(db: &Path, ended: &Ended, status: i32, reason: &str) -> Stopped {
    assert_eq!(ended.code(), status, "{:#?}", ended.log);
    let last = assert_last_line(&ended.log, reason);
    let context = || format!("{last:?} {:#?}", ended.log);
    assert_eq!(last.uncommitted > 0, status == 4, "{}", context());
    if status == 0 {
        assert_eq!(last.wal_frames, 0, "{}", context());
        assert_one_file(db);
    }
    if status == 3 {
        assert!(last.wal_frames > 0, "{}", context());
    }
    let row = ledger(db);
    assert_eq!(row.readings, row.committed, "count(*) and sum(committed)");
    assert_eq!(row.last_committed, last.committed, "{}", context());
    if status != 4 {
        assert_eq!(
            (&*row.last_reason, row.last_ended),
            (reason, true),
            "{}",
            context()
        );
        let of_last = (row.last_dropped, row.last_rejected);
        assert_eq!(of_last, (last.dropped, last.rejected), "{}", context());
    }
    assert_sound(db);
    if status == 0 {
        assert_opens_read_only(db, row.readings);
    }
    last
}

/// The `-wal` holds the frames that the last line tells of. Where nobody but a second signal was in the way
/// it need not: the last line may be written while the checkpoint comes to its end all the same.
pub fn assert_frames_remain(db: &Path, last: &Stopped) {
    let wal = fs::metadata(beside(db, "-wal")).expect("a -wal").len();
    assert!(
        last.wal_frames <= wal / FRAME_BYTES,
        "{last:?}, {wal} bytes"
    );
}

/// What the file says of itself.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub readings: u64,
    /// Over all runs.
    pub committed: u64,
    pub runs: u64,
    pub last_committed: u64,
    pub last_dropped: u64,
    pub last_rejected: u64,
    pub last_errors: u64,
    /// `None` where there is none.
    pub last_reason: String,
    pub last_ended: bool,
}

pub fn ledger(db: &Path) -> Ledger {
    let row = sql(
        db,
        "SELECT (SELECT count(*) FROM sensor_readings), (SELECT sum(committed) FROM runs),
           (SELECT count(*) FROM runs), committed, dropped, rejected, errors, reason,
           ended_ns IS NOT NULL
         FROM runs ORDER BY id DESC LIMIT 1",
    );
    let columns: Vec<&str> = row.split('|').collect();
    let number = |n: usize| {
        columns[n]
            .parse()
            .unwrap_or_else(|_| panic!("column {n} of {row}"))
    };
    Ledger {
        readings: number(0),
        committed: number(1),
        runs: number(2),
        last_committed: number(3),
        last_dropped: number(4),
        last_rejected: number(5),
        last_errors: number(6),
        last_reason: columns[7].to_owned(),
        last_ended: columns[8] == "1",
    }
}

/// Readings in a file that may not be one yet.
pub fn try_count(db: &Path) -> Option<u64> {
    if !db.exists() {
        return None;
    }
    let count = try_sql(db, "SELECT count(*) FROM sensor_readings");
    count.ok()?.parse().ok()
}

/// The path of `-wal` or `-shm`.
pub fn beside(db: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", text(db)))
}

/// Nothing lies beside the file, and it is not in WAL mode.
pub fn assert_one_file(db: &Path) {
    for ending in ["-wal", "-shm", "-journal", "-mark"] {
        assert!(!beside(db, ending).exists(), "{ending} is there");
    }
    let mut header = [0; 20];
    fs::File::open(db).unwrap().read_exact(&mut header).unwrap();
    assert_eq!(header[18..], [1, 1], "the file's format, 2 being WAL");
}

/// The `.db` alone, in a folder where nobody may write, gives `readings` to a user who owns nothing there.
pub fn assert_opens_read_only(db: &Path, readings: u64) {
    let folder = PublicDir::new();
    let copy = folder.0.join("copy.db");
    fs::copy(db, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o555)).unwrap();
    let script = "
import os, sqlite3, sys
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
connection = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True)
print(connection.execute('SELECT count(*) FROM sensor_readings').fetchone()[0])
print(connection.execute('PRAGMA journal_mode').fetchone()[0])
";
    let output = python3()
        .args(["-c", script])
        .arg(&copy)
        .output()
        .expect("run python3");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(out, format!("{readings}\ndelete\n"), "{err}");
    let left: Vec<_> = fs::read_dir(&folder.0)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["copy.db"]);
}

/// A folder that any user reaches, which one under `target` need not be.
pub struct PublicDir(pub PathBuf);

impl PublicDir {
    pub fn new() -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("seawall-public-{}-{n}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        PublicDir(folder)
    }

    /// The program, where any user may run it.
    pub fn binary(&self) -> PathBuf {
        copy_of_the_program(&self.0)
    }
}

pub fn copy_of_the_program(folder: &Path) -> PathBuf {
    let copy = folder.join("seawall");
    // By a process of its own: a descriptor of this one that writes to the copy would be in what another test starts
    // at that moment, and the copy could not be run until that is gone (ETXTBSY).
    let status = Command::new("install")
        .args(["-m", "755"])
        .args([BINARY.as_ref(), copy.as_os_str()])
        .status();
    assert!(status.unwrap().success());
    copy
}

impl Drop for PublicDir {
    fn drop(&mut self) {
        let _ = fs::set_permissions(&self.0, fs::Permissions::from_mode(0o755));
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A copy of the file with what lies beside it, as after a crash.
pub fn copy_with_wal(db: &Path, to: &Path) {
    fs::copy(db, to).unwrap();
    let wal = beside(db, "-wal");
    if wal.exists() {
        fs::copy(wal, beside(to, "-wal")).unwrap();
    }
}

/// `seawall checkpoint`; its status, and what it says of the frames.
pub fn checkpoint(db: &Path, options: &str) -> (i32, Frames) {
    let mut args = vec!["checkpoint", "--db", text(db)];
    args.extend(options.split_whitespace());
    let (status, out, err) = seawall(&args);
    let keys: Vec<_> = out
        .split_whitespace()
        .map(|pair| pair.split('=').next().unwrap())
        .collect();
    assert_eq!(keys, ["busy", "log", "checkpointed"], "{out}{err}");
    assert!(out.ends_with('\n') && out.lines().count() == 1, "{out}");
    let fields = super::fields(out.trim_end());
    let number = |key: &str| fields[key].parse().unwrap();
    (
        status,
        Frames {
            busy: number("busy"),
            log: number("log"),
            checkpointed: number("checkpointed"),
        },
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    pub busy: u64,
    pub log: u64,
    pub checkpointed: u64,
}

/// From SEAWALL_TEST_SEED, or a new one; printed, so that a failure can be had again.
pub fn seed() -> u64 {
    let seed = match std::env::var("SEAWALL_TEST_SEED") {
        Ok(text) => text.parse().expect("SEAWALL_TEST_SEED is a number"),
        Err(_) => getrandom::u64().unwrap(),
    };
    println!("SEAWALL_TEST_SEED={seed}");
    seed
}

pub const SIGNALS: [(i32, &str); 8] = [
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGPWR, "SIGPWR"),
    (libc::SIGXCPU, "SIGXCPU"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGUSR2, "SIGUSR2"),
];

pub const READER: &str = "BEGIN; SELECT count(*) FROM readings";

pub const WRITER: &str = "BEGIN IMMEDIATE";

/// Commits come only when they are asked for.
pub const AWAITED_WITHOUT_COMMITS: &str =
    "--source stdin --ack --commit-interval 1h --commit-rows 1000000";

/// The file holds the first `n` of the numbered lines, each once.
pub fn assert_holds_first(db: &Path, n: u64) {
    let found = sql(
        db,
        "SELECT count(*), count(DISTINCT value), min(value), max(value) FROM sensor_readings
         WHERE sensor = 'm,k=a'",
    );
    let expected = match n.checked_sub(1) {
        Some(last) => format!("{n}|{n}|0|{last}"),
        None => "0|0|None|None".to_owned(),
    };
    assert_eq!(found, expected, "count, distinct, least and greatest value");
}

pub fn run_has_ended(db: &Path) -> Option<()> {
    ledger(db).last_ended.then_some(())
}

/// A recorder of 200 lines whose stop has ended the run and waits for a reader.
pub fn stopping_beside_a_reader(db: &Path) -> (Running, Holder) {
    let mut running = record(
        db,
        "--source stdin --ack --commit-interval 10ms --stop-timeout 10m",
    );
    running.send(&lines(0..100));
    running.wait_for_ack(100);
    let reader = Holder::start(db, READER);
    running.send(&lines(100..200));
    running.wait_until_read();
    running.signal(libc::SIGTERM);
    until("the run has ended in the file", || run_has_ended(db));
    (running, reader)
}

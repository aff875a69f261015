//! Guards against memory that is asked for anew with each reading: the recorder would wear its heap out over
//! months, and cost more than it says.
//!
//! The whole recorder runs in this process, on allocators that count, Rust's and SQLite's. What a longer run
//! allocates more than a shorter one is by the commit, by the page or by the checkpoint.

#[path = "support/allocator.rs"]
mod allocator;
mod support;
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::thread::JoinHandleExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use seawall::cli::{self, Invocation};
use seawall::exit::Status;
use seawall::record::recorder;
use seawall::sys;

use support::{Dir, PATIENCE, until};

static IN_RUST: AtomicU64 = AtomicU64::new(0);
static IN_SQLITE: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all is the system's allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_RUST.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        IN_RUST.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(at, layout, bytes) }
    }
}

fn count_those_of_sqlite() {
    allocator::install(|| {
        IN_SQLITE.fetch_add(1, Ordering::Relaxed);
        true
    });
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    in_rust: u64,
    in_sqlite: u64,
}

fn count(run: impl FnOnce()) -> Counted {
    let now = || Counted {
        in_rust: IN_RUST.load(Ordering::SeqCst),
        in_sqlite: IN_SQLITE.load(Ordering::SeqCst),
    };
    let before = now();
    run();
    let after = now();
    Counted {
        in_rust: after.in_rust - before.in_rust,
        in_sqlite: after.in_sqlite - before.in_sqlite,
    }
}

/// What is counted is the process's: one test after the other.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `run` allocates more for `more` readings on top of `first`.
fn allocated_by(first: u64, more: u64, run: impl Fn(u64) -> Counted) -> Counted {
    // What is made once for the process is counted with neither.
    run(100);
    let (short, long) = (run(first), run(first + more));
    println!("{first} readings: {short:?}; {more} more: {long:?}");
    Counted {
        in_rust: long.in_rust.saturating_sub(short.in_rust),
        in_sqlite: long.in_sqlite.saturating_sub(short.in_sqlite),
    }
}

/// Of 100,000 readings.
fn assert_few(run: impl Fn(u64) -> Counted) {
    // Enough to fill SQLite's cache, of which each page is allocated once.
    let counted = allocated_by(60_000, 100_000, run);
    // Of some hundred commits, each three or four in Rust and seven in SQLite, and what a checkpoint and its line
    // in the log take.
    assert!(counted.in_rust <= 700, "{counted:?}");
    assert!(counted.in_sqlite <= 1200, "{counted:?}");
}

fn start(db: &Path, args: &[&str]) -> JoinHandle<Status> {
    count_those_of_sqlite();
    let db = db.to_str().unwrap();
    let fixed = ["record", "--log-level=error", "--min-free=0", "--db", db];
    let args = fixed.iter().chain(args).map(Into::into);
    let Ok(Invocation::Record(settings)) = cli::parse(args, &|_| None) else {
        panic!("the settings are wrong");
    };
    thread::spawn(|| recorder::record(settings))
}

fn lines(readings: u64) -> Vec<u8> {
    let mut lines = Vec::new();
    for n in 0..readings {
        let (station, temperature) = (n % 8, n % 50);
        writeln!(
            lines,
            "weather,station={station} temperature={temperature}.5 {n}"
        )
        .unwrap();
    }
    lines
}

fn from_source(source: &str, readings: u64) -> Counted {
    let dir = Dir::new("allocations");
    let db = dir.file("x.db");
    let counted = count(|| {
        let status = start(&db, &["--source", source]).join().unwrap();
        assert_eq!(status as u8, Status::Done as u8);
    });
    assert_eq!(support::count(&db), readings);
    counted
}

fn on_stdin(readings: u64) -> Counted {
    let dir = Dir::new("allocations-input");
    let path = dir.file("lines");
    fs::write(&path, lines(readings)).unwrap();
    let input = File::open(&path).unwrap();
    // SAFETY: both descriptors are open, and nobody else in this process reads from the second.
    let stdin = unsafe { libc::dup2(input.as_raw_fd(), libc::STDIN_FILENO) };
    assert_eq!(stdin, libc::STDIN_FILENO);
    from_source("stdin", readings)
}

/// What a client's lines allocate once it is connected.
fn over_a_socket(
    readings: u64,
    commit_interval: &str,
    send: impl FnOnce(&mut UnixStream, &[u8]),
) -> Counted {
    let dir = Dir::new("allocations");
    let (db, path) = (dir.file("x.db"), dir.file("s"));
    let lines = lines(readings);
    let source = format!("unix:{}", path.display());
    sys::signals::handle_signals().unwrap();
    let recorder = start(&db, &[commit_interval, "--source", &source]);
    let mut client = until("it listens", || UnixStream::connect(&path).ok());
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"first reading=1\n").unwrap();
    await_answer(&mut client);
    let counted = count(|| send(&mut client, &lines));
    // SAFETY: the thread is not joined yet.
    unsafe { libc::pthread_kill(recorder.as_pthread_t(), libc::SIGTERM) };
    let status = recorder.join().unwrap();
    assert_eq!(status as u8, Status::Done as u8);
    assert_eq!(support::count(&db), 1 + readings);
    counted
}

fn await_answer(client: &mut UnixStream) -> usize {
    client.read(&mut [0; 4096]).unwrap()
}

fn at_once(client: &mut UnixStream, lines: &[u8]) {
    client.write_all(lines).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    while await_answer(client) > 0 {}
}

fn one_by_one(client: &mut UnixStream, lines: &[u8]) {
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        client.write_all(line).unwrap();
        await_answer(client);
    }
}

#[test]
fn lines_on_stdin_allocate_nothing_each() {
    let _alone = alone();
    assert_few(on_stdin);
}

#[test]
fn simulated_readings_allocate_nothing_each() {
    let _alone = alone();
    assert_few(|readings| from_source(&format!("sim:rate=max,count={readings}"), readings));
}

#[test]
fn lines_of_a_client_allocate_nothing_each() {
    let _alone = alone();
    assert_few(|readings| over_a_socket(readings, "--commit-interval=100ms", at_once));
}

#[test]
fn samples_for_which_the_recorder_wakes_allocate_nothing_each() {
    let _alone = alone();
    let sim = |readings| {
        from_source(
            &format!("sim:sensors=1,rate=1000,count={readings}"),
            readings,
        )
    };
    let counted = allocated_by(1000, 3000, sim);
    // A commit a second, and one page for more than thirty readings.
    assert!(counted.in_rust <= 40, "{counted:?}");
    assert!(counted.in_sqlite <= 150, "{counted:?}");
}

#[test]
fn a_line_that_is_a_commit_by_itself_allocates_no_more_than_a_commit() {
    let _alone = alone();
    let counted = allocated_by(1000, 1000, |readings| {
        over_a_socket(readings, "--commit-interval=0", one_by_one)
    });
    // The folder's name twice, to ask how much room there is on its disk, and the list of acks.
    assert!(counted.in_rust <= 3200, "{counted:?}");
    // The cursors of its statements, that over the row to insert among them, and room for the row.
    assert!(counted.in_sqlite <= 6200, "{counted:?}");
}

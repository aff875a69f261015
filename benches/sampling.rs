//! How true the times of samples are at 1 kHz, whatever the disk does, beside a bare loop that sleeps to the same
//! grid and takes the time.
//!
//! A reading is due a whole number of milliseconds after the first. What is given is how far its time lies after
//! that, to the reading that came closest. A simulated reading carries the time at which it was due, so this is
//! the error of that time, and not how late a sensor would have been read; the bare loop's is both.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::bare::{Pages, Sqlite};
use super::recorder::{Recorder, remove};
use super::support::mounts::Mount;
use super::support::shim::Shim;
use super::table;

const SECONDS: u64 = 8;
const STEP_NS: i64 = 1_000_000;
const STALL: Duration = Duration::from_secs(2);
/// For as long each sync takes `STALL`. With a commit each second one is in it.
const STALLED_FOR: Duration = Duration::from_millis(1200);

pub fn measure(folder: &Path) {
    let second = Duration::from_secs(1);
    sample("disk idle", folder, |_| ());
    sample("disk busy", folder, |over| {
        let mut pages = Pages::new(folder);
        while !over.load(Ordering::Relaxed) {
            for _ in 0..250 {
                pages.write_one();
            }
            pages.rewind();
            pages.sync_one();
        }
    });
    let shim = Shim::make("sync");
    let Some(mount) = Mount::fuse("subtype=slow", |command| shim.preload(command)) else {
        return table::skip(
            "sampling at 1 kHz, disk stalls",
            "FUSE filesystems need bindfs, and root",
        );
    };
    let log = sample("disk stalls for 2 s", mount.at(), |_| {
        thread::sleep(3 * second);
        shim.set(STALL.as_millis() as i64);
        thread::sleep(STALLED_FOR);
        shim.set(0);
    });
    let commits = log.iter().filter(|line| line.contains(" event=commit "));
    let ms = commits.filter_map(|line| line.split(" ms=").nth(1)?.split(' ').next()?.parse().ok());
    let longest = ms.fold(0.0, f64::max);
    assert!(
        longest >= STALL.as_secs_f64() * 1e3,
        "no commit waited for the disk: {longest} ms"
    );
}

/// Both take samples for `SECONDS`, while something is done to the disk. Gives seawall's log.
fn sample(disk: &str, folder: &Path, disturb: impl FnOnce(&AtomicBool) + Send) -> Vec<String> {
    let db = folder.join("sampling.db");
    // Each commit is synced, so that it waits for the disk.
    let options = [
        "--source",
        "sim:sensors=1,rate=1000",
        "--synchronous",
        "full",
        "--log-level",
        "debug",
    ];
    let recorder = Recorder::start(&db, &options);
    let over = AtomicBool::new(false);
    let bare = thread::scope(|scope| {
        scope.spawn(|| disturb(&over));
        let bare = sample_bare();
        over.store(true, Ordering::Relaxed);
        bare
    });
    let stopped = recorder.stop();
    let sqlite = Sqlite::open(&db);
    let times = sqlite.integers(c"SELECT time_ns FROM readings ORDER BY id");
    let dropped = sqlite.integers(c"SELECT dropped FROM runs")[0];
    drop(sqlite);
    remove(&db);
    let name = format!("time of a sample at 1 kHz, {disk}");
    let (ours, theirs) = (deviations(&times), deviations(&bare));
    table::percentiles(
        &[50, 99, 100],
        "µs",
        (&name, &ours),
        ("bare clock loop", &theirs),
    );
    let missed = [(missed(&times) + dropped) as f64];
    let name = format!("samples missed in 8 s, {disk}");
    table::row("readings", (&name, &missed), ("bare clock loop", &[0.0]));
    stopped.log
}

fn sample_bare() -> Vec<i64> {
    let mut times = Vec::with_capacity(SECONDS as usize * 1000);
    let mut due = monotonic();
    for _ in 0..SECONDS * 1000 {
        sleep_until(due);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock that is set");
        times.push(now.as_nanos() as i64);
        due.tv_nsec += STEP_NS;
        if due.tv_nsec >= 1_000_000_000 {
            due.tv_sec += 1;
            due.tv_nsec -= 1_000_000_000;
        }
    }
    times
}

fn monotonic() -> libc::timespec {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live local.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now
}

fn sleep_until(due: libc::timespec) {
    // SAFETY: the pointer is to a live local; null, as a sleep until a time need not say what is left.
    while unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &due,
            std::ptr::null_mut(),
        )
    } != 0
    {}
}

/// Microseconds.
fn deviations(times: &[i64]) -> Vec<f64> {
    let lags = times
        .iter()
        .enumerate()
        .map(|(n, time)| time - n as i64 * STEP_NS);
    let least = lags.clone().min().expect("some samples");
    lags.map(|lag| (lag - least) as f64 / 1e3).collect()
}

/// Steps of the grid from the first reading to the last that have none.
fn missed(times: &[i64]) -> i64 {
    let (first, last) = (times[0], times[times.len() - 1]);
    (last - first + STEP_NS / 2) / STEP_NS + 1 - times.len() as i64
}

//! When samples at 1 kHz are taken and what time they carry, whatever the disk does, beside a bare loop that
//! sleeps to the same grid and takes the time.
//!
//! A simulated reading carries the time at which it was due. `wakes.c`, preloaded, tells when the recorder really
//! took it. What is given is how long after it was due that was, and how far the times in the file lie from a
//! grid of whole milliseconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::bare::{Pages, Sqlite};
use super::recorder::{self, BINARY, Recorder};
use super::support::mounts::Mount;
use super::support::shim::Shim;
use super::table;

const SECONDS: u64 = 8;
const STEP_NS: i64 = 1_000_000;
const STALL: Duration = Duration::from_secs(2);
/// A wake may seem to come before the time that it was for by as much as the clocks are read apart.
const CLOCKS_APART_NS: i64 = 10_000;

pub fn measure(folder: &Path) {
    let shim = make_wakes(folder);
    sample("disk idle", folder, &shim, |_| ());
    sample("disk busy", folder, &shim, |over| {
        let mut pages = Pages::new(folder);
        while !over.load(Ordering::Relaxed) {
            for _ in 0..250 {
                pages.write_one();
            }
            pages.rewind();
            pages.sync_one();
        }
    });
    let slow = Shim::make("sync");
    // One process of one thread serves this filesystem: nothing goes on there while it syncs.
    let Some(mount) = Mount::fuse("subtype=slow", |command| slow.preload(command)) else {
        return table::skip(
            "1 kHz, disk stalls 2 s",
            "it takes bindfs and the right to mount",
        );
    };
    sample("disk stalls 2 s", mount.at(), &shim, |_| {
        let mut pages = Pages::new(mount.at());
        thread::sleep(STALL);
        slow.set(STALL.as_millis() as i64);
        thread::scope(|scope| {
            let sync = scope.spawn(|| pages.sync_one());
            // By then that sync has begun, and is the only one that is slow.
            thread::sleep(STALL / 4);
            slow.set(0);
            let ms = sync.join().unwrap();
            assert!(
                ms >= STALL.as_secs_f64() * 1e3,
                "the disk stalled for {ms} ms"
            );
        });
    });
}

fn make_wakes(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/wakes.c");
    let shim = folder.join("wakes.so");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([&shim, &source])
        .arg("-ldl")
        .status();
    assert!(status.expect("run cc").success());
    shim
}

/// Both take samples for `SECONDS`, while something is done to the disk.
fn sample(disk: &str, folder: &Path, shim: &Path, disturb: impl FnOnce(&AtomicBool) + Send) {
    let (db, wakes) = (folder.join("sampling.db"), shim.with_file_name("wakes"));
    let mut command = Command::new(BINARY);
    command.env("LD_PRELOAD", shim).env("WAKES", &wakes);
    // Each commit is synced, so that it waits for the disk.
    let options = [
        "--source",
        "sim:sensors=1,rate=1000",
        "--synchronous",
        "full",
    ];
    let recorder = Recorder::spawn(command, &db, &options);
    let over = AtomicBool::new(false);
    let bare = thread::scope(|scope| {
        scope.spawn(|| disturb(&over));
        let bare = sample_bare();
        over.store(true, Ordering::Relaxed);
        bare
    });
    recorder.stop();
    let sqlite = Sqlite::open(&db);
    let times = sqlite.integers(c"SELECT time_ns FROM readings ORDER BY id");
    let dropped = sqlite.integers(c"SELECT dropped FROM runs")[0];
    drop(sqlite);
    recorder::remove(&db);

    let bare = ("bare clock loop", &*bare);
    let name = format!("1 kHz, {disk}: taken late by");
    table::percentiles(
        &[50, 99, 100],
        "µs",
        (&name, &lateness(&times, &wakes)),
        bare,
    );
    let name = format!("1 kHz, {disk}: time is off by");
    table::percentiles(&[100], "µs", (&name, &deviations(&times)), bare);
    let missed = [(missed(&times) + dropped) as f64];
    let name = format!("1 kHz, {disk}: missed in 8 s");
    table::row("readings", (&name, &missed), ("bare clock loop", &[0.0]));
}

/// Microseconds by which each time was taken late.
fn sample_bare() -> Vec<f64> {
    let mut due_ns = monotonic_ns();
    let late = (0..SECONDS * 1000).map(|_| {
        due_ns += STEP_NS;
        sleep_until(due_ns);
        (monotonic_ns() - due_ns) as f64 / 1e3
    });
    late.collect()
}

fn monotonic_ns() -> i64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live local.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

fn sleep_until(ns: i64) {
    let due = libc::timespec {
        tv_sec: ns / 1_000_000_000,
        tv_nsec: ns % 1_000_000_000,
    };
    let (clock, left) = (libc::CLOCK_MONOTONIC, std::ptr::null_mut());
    // SAFETY: the pointer is to a live local; a sleep until a time need not say what is left.
    while unsafe { libc::clock_nanosleep(clock, libc::TIMER_ABSTIME, &due, left) } != 0 {}
}

/// Microseconds from the time that each reading carries to the end of the wait after which it was taken.
fn lateness(times: &[i64], wakes: &Path) -> Vec<f64> {
    let bytes = fs::read(wakes).expect("the recorder's wakes");
    let wakes: Vec<i64> = bytes
        .chunks_exact(8)
        .map(|bytes| i64::from_ne_bytes(bytes.try_into().unwrap()))
        .collect();
    let late = times.iter().map(|time| {
        let at = wakes.partition_point(|wake| wake + CLOCKS_APART_NS < *time);
        (wakes[at] - time).max(0) as f64 / 1e3
    });
    late.collect()
}

/// Microseconds by which the times lie after a grid of milliseconds that begins where none lies before it.
fn deviations(times: &[i64]) -> Vec<f64> {
    let lags = times.iter().zip(0..).map(|(time, n)| time - n * STEP_NS);
    let least = lags.clone().min().expect("some samples");
    lags.map(|lag| (lag - least) as f64 / 1e3).collect()
}

/// Steps of the grid from the first reading to the last that have none.
fn missed(times: &[i64]) -> i64 {
    let (first, last) = (times[0], times[times.len() - 1]);
    (last - first + STEP_NS / 2) / STEP_NS + 1 - times.len() as i64
}

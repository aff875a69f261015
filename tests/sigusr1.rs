//! SIGUSR1: a checkpoint, and nothing else.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::stop::*;
use crate::support::*;

#[test]
fn sigusr1_runs_a_passive_checkpoint_and_logs_it() {
    let dir = Dir::new("usr1");
    let db = dir.file("usr1.db");
    let mut running = record(
        &db,
        "--source stdin --ack --commit-interval 10ms --checkpoint-interval 0",
    );
    running.send(&lines(0..100));
    running.wait_for_ack(100);
    running.signal(libc::SIGUSR1);
    let line = running.wait_for("checkpoint");
    let told = fields(&line);
    assert_eq!((&*told["mode"], &*told["busy"]), ("passive", "0"), "{line}");
    assert_eq!(told["log"], told["checkpointed"], "{line}");
    assert!(told["log"].parse::<u64>().unwrap() > 0, "{line}");
    assert!(told["ms"].parse::<f64>().unwrap() >= 0.0, "{line}");
    assert!(fs::metadata(&db).unwrap().len() > 0);
    let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_stopped(&db, &ended, 0, "SIGTERM");
}

#[test]
fn a_flood_of_sigusr1_holds_up_neither_the_recording_nor_the_stop() {
    let dir = Dir::new("usr1-flood");
    let db = dir.file("usr1-flood.db");
    let mut running = record(&db, "--source stdin --ack --commit-interval 0");
    // By a descriptor: a number could be another process's by the time that the flood ends.
    // SAFETY: no pointers; the descriptor returned is ours.
    let process = unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, running.pid() as libc::pid_t, 0);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd as i32)
    };
    let over = Arc::new(AtomicBool::new(false));
    let flood = thread::spawn({
        let over = over.clone();
        move || {
            let mut sent = 0u64;
            while !over.load(Ordering::Relaxed) {
                let null = std::ptr::null::<libc::siginfo_t>();
                let (fd, signal) = (process.as_raw_fd(), libc::SIGUSR1);
                // SAFETY: a null siginfo is allowed.
                sent += u64::from(unsafe {
                    libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, null, 0) == 0
                });
            }
            sent
        }
    });
    for n in 0..100 {
        running.send(&lines(n..n + 1));
        running.wait_for_ack(n + 1);
    }
    running.send(&lines(100..200));
    running.wait_until_read();
    let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    over.store(true, Ordering::Relaxed);
    println!("{} signals", flood.join().unwrap());
    assert_stopped(&db, &ended, 0, "SIGTERM");
    assert_holds_first(&db, 200);
    assert_eq!(ended.acked(), 200);
}

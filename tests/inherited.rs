//! What a process inherits from the one that starts it: signals that are ignored, and filters on system calls.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::stop::{SIGNALS, block_at_start, has_signal};
use crate::support::*;

/// A recorder that was started with these signals ignored.
fn started_ignoring(db: &std::path::Path, signals: &'static [i32]) -> Running {
    let mut command = command(db, &["--source", "sim:rate=100"]);
    // SAFETY: signal(2) is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            for &signal in signals {
                libc::signal(signal, libc::SIG_IGN);
            }
            Ok(())
        });
    }
    let run = Running::spawn(&mut command);
    run.wait_for("ready");
    run
}

/// As `nohup` does with SIGHUP, and a shell with SIGINT and SIGQUIT for a job in the background.
#[test]
fn a_signal_that_is_ignored_at_the_start_stays_ignored_except_sigterm() {
    let dir = Dir::new("nohup");
    let run = started_ignoring(
        &dir.file("x.db"),
        &[
            libc::SIGTERM,
            libc::SIGINT,
            libc::SIGHUP,
            libc::SIGQUIT,
            libc::SIGUSR1,
        ],
    );
    for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1] {
        assert!(has_signal(run.pid(), "SigIgn", signal), "{signal}");
        run.signal(signal);
    }
    let ended = run.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    assert_eq!(ended.stopped()["reason"], "SIGTERM");
    assert!(!ended.has("cause=signal"));
}

#[test]
fn commands_keep_ignoring_it_too() {
    let dir = Dir::new("nohup-command");
    let db = dir.file("x.db");
    record_lines(&db, "m v=1\n");
    let run = started_ignoring(&db, &[libc::SIGHUP]);
    let mut follow = Command::new("sh");
    follow.args(["-c", "trap '' HUP; exec \"$0\" export --follow --db \"$1\""]);
    follow.arg(BINARY).arg(&db);
    let follow = Running::spawn(&mut follow);
    until("it exports", || (follow.out().len() > 1).then_some(()));
    assert!(has_signal(follow.pid(), "SigIgn", libc::SIGHUP));
    follow.signal(libc::SIGHUP);
    let before = follow.out().len();
    until("it goes on", || (follow.out().len() > before).then_some(()));
    follow.kill();
    assert_eq!(run.stop(libc::SIGTERM).code(), 0);
}

/// The kernel holds an ignored signal back, too, where it is blocked, as commands block what they handle.
#[test]
fn a_signal_that_is_ignored_and_held_back_stops_no_command() {
    let dir = Dir::new("held-back");
    let db = dir.file("x.db");
    record_lines(&db, "m v=1\n");
    let copy = dir.file("copy.db");
    let mut backup = Command::new(BINARY);
    backup.arg("backup").arg(&copy).arg("--db").arg(&db);
    block_at_start(&mut backup, libc::SIGHUP);
    // SAFETY: both calls are async-signal-safe.
    unsafe {
        backup.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            libc::raise(libc::SIGHUP);
            Ok(())
        });
    }
    let ended = Running::spawn(&mut backup).wait();
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    assert_eq!(count(&copy), 1);
}

/// LXC stops a container by SIGPWR, and a UPS daemon sends it to process 1.
#[test]
fn sigpwr_is_a_stop() {
    assert!(SIGNALS.contains(&(libc::SIGPWR, "SIGPWR")));
    let dir = Dir::new("sigpwr");
    let run = start(&dir.file("x.db"), &["--source", "sim:rate=100"]);
    run.wait_for("ready");
    let ended = run.stop(libc::SIGPWR);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    assert_eq!(ended.stopped()["reason"], "SIGPWR");
}

/// Docker before 20.10 and old libseccomp answer EPERM to faccessat2(2), where ENOSYS is meant.
#[test]
fn a_filter_that_answers_eperm_to_faccessat2_costs_nothing() {
    let dir = Dir::new("eperm");
    let db = dir.file("folder/x.db");
    let mut command = command(&db, &["--source", "sim:rate=max,count=10"]);
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let jump = libc::sock_filter {
        jt: 0,
        jf: 1,
        ..statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            libc::SYS_faccessat2 as u32,
        )
    };
    let filter = [
        statement(LOAD, 0),
        jump,
        statement(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: prctl(2) is async-signal-safe here, and the program points to a copy that the closure owns.
    unsafe {
        command.pre_exec(move || {
            let mut filter = filter;
            let program = libc::sock_fprog {
                len: filter.len() as u16,
                filter: filter.as_mut_ptr(),
            };
            let mode = libc::SECCOMP_MODE_FILTER;
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, mode, &program) != 0
            {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let ended = Running::spawn(&mut command).wait();
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    assert_eq!(count(&db), 10);
}

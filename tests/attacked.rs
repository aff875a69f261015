//! Faults that were found by attacking the built program, each of them once real: what must not come back.

mod support;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use support::{BINARY, Dir, Holder, PATIENCE, Running, assert_sound, count, seawall, sql, until};

fn command(db: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("--db").arg(db).args(args);
    command
}

fn start(db: &Path, args: &[&str]) -> Running {
    Running::spawn(&mut command(db, args))
}

/// Runs with `input` as stdin, stops it, and gives the status.
fn stop_with_stdin(db: &Path, input: File) -> i32 {
    let mut child = command(db, &["--source", "stdin", "--log-level", "error"])
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("it records", || {
        (db.exists() && fs::metadata(db).unwrap().len() > 0).then_some(())
    });
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().expect("it was not killed");
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the stop was not heard");
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_stop_is_heard_while_the_input_never_pauses() {
    let dir = Dir::new("busy");
    // Zeros without a newline: always ready, and never a reading.
    let db = dir.file("zero.db");
    assert_eq!(stop_with_stdin(&db, File::open("/dev/zero").unwrap()), 0);
    assert_sound(&db);
}

#[test]
fn another_process_that_checkpoints_is_not_an_empty_wal() {
    let dir = Dir::new("ckpt-lock");
    let db = dir.file("x.db");
    let run = start(
        &db,
        &[
            "--source",
            "sim:rate=100",
            "--commit-interval",
            "0",
            "--stop-timeout",
            "1s",
        ],
    );
    run.wait_for("ready");
    until("something is recorded", || (count(&db) > 100).then_some(()));
    // SQLite's checkpoint lock is byte 121 of the -shm.
    let script = "
import fcntl, sys
shm = open(sys.argv[1], 'r+b')
fcntl.lockf(shm, fcntl.LOCK_EX, 1, 121)
print('held', flush=True)
sys.stdin.read()
";
    let mut holder = Command::new("python3")
        .args(["-c", script])
        .arg(dir.file("x.db-shm"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut word).unwrap();
    let ended = run.stop(libc::SIGTERM);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(ended.code(), 3, "{:#?}", ended.log);
    assert_ne!(ended.stopped()["wal_frames"], "0");
    assert_eq!(count(&db).to_string(), ended.stopped()["committed"]);
}

#[test]
fn long_names_of_many_series_are_bounded_in_memory() {
    let dir = Dir::new("names");
    let db = dir.file("x.db");
    let mut run = start(&db, &["--source", "stdin", "--commit-interval", "0"]);
    run.wait_for("ready");
    let writer = Holder::start(&db, "BEGIN IMMEDIATE");
    let pid = run.pid();
    let stdin = run.stdin.take().unwrap();
    let tag = "x".repeat(60_000);
    let sender = std::thread::spawn(move || {
        let mut stdin = stdin;
        for n in 0..300 {
            let line = format!("m,n={n}{tag} f=1 {n}\n");
            std::io::Write::write_all(&mut stdin, line.as_bytes()).unwrap();
        }
    });
    run.wait_for("commit-waiting");
    let high_water_kib = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    writer.release();
    sender.join().unwrap();
    let high = high_water_kib();
    let ended = run.wait();
    assert_eq!(ended.code(), 0);
    assert!(high < 32 * 1024, "{high} KiB");
    assert_eq!(count(&db), 300);
}

#[test]
fn a_stop_before_the_file_could_be_opened_is_no_success() {
    let dir = Dir::new("unopened");
    let db = dir.file("x.db");
    start(&db, &["--source", "sim:count=5"]).wait();
    let writer = Holder::start(&db, "BEGIN EXCLUSIVE");
    // The second signal does not wait for what is not there.
    let run = start(&db, &["--busy-timeout", "1h", "--stop-timeout", "1h"]);
    until("it handles signals", || handles(run.pid()).then_some(()));
    run.signal(libc::SIGTERM);
    until("the first is heard", || {
        run.log()
            .iter()
            .any(|l| l.contains("event=stopping"))
            .then_some(())
    });
    run.signal(libc::SIGTERM);
    let ended = run.wait();
    assert_eq!(ended.code(), 1, "{:#?}", ended.log);
    writer.release();
    assert_sound(&db);
}

/// SIGTERM is caught (bit 14 of the mask).
fn handles(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:\t"));
    caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << 14 != 0)
}

#[test]
fn samples_find_room_while_the_batch_before_them_is_committed() {
    let dir = Dir::new("room");
    let db = dir.file("x.db");
    let run = start(
        &db,
        &[
            "--source",
            "sim:sensors=10,rate=500,count=20000",
            "--queue-rows",
            "2000",
            "--commit-rows",
            "2000",
            "--commit-interval",
            "1h",
        ],
    );
    let ended = run.wait();
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.stopped()["dropped"], "0");
}

#[test]
fn a_limit_on_file_sizes_is_an_error_and_not_a_death() {
    let dir = Dir::new("fsize");
    let db = dir.file("x.db");
    let mut limited = command(&db, &["--source", "sim:rate=max"]);
    // Below what the first checkpoint makes of the file.
    let limit = libc::rlimit {
        rlim_cur: 300_000,
        rlim_max: 300_000,
    };
    unsafe {
        limited.pre_exec(move || {
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
            Ok(())
        });
    }
    let ended = Running::spawn(&mut limited).wait();
    assert_eq!(ended.code(), 4, "{:#?}", ended.log);
    let stopped = ended.stopped();
    assert_eq!(stopped["reason"], "error");
    assert_ne!(stopped["uncommitted"], "0");
    // Another start, without the limit, finds everything that was committed.
    assert_eq!(start(&db, &["--source", "sim:count=1"]).wait().code(), 0);
    assert_eq!(count(&db), stopped["committed"].parse::<u64>().unwrap() + 1);
    assert_sound(&db);
}

#[test]
fn check_rolls_back_what_a_kill_left_half_done() {
    let dir = Dir::new("hot-journal");
    let db = dir.file("x.db");
    start(&db, &["--source", "sim:rate=max,count=20000"]).wait();
    let script = "
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('PRAGMA cache_size = 1')
connection.execute('BEGIN')
connection.execute('UPDATE readings SET value = 0')
os._exit(0)
";
    let status = Command::new("python3")
        .args(["-c", script])
        .arg(&db)
        .status()
        .unwrap();
    assert!(status.success() && dir.file("x.db-journal").exists());
    assert_sound(&db);
    assert_eq!(count(&db), 20000);
}

#[test]
fn check_and_checkpoint_end_on_a_signal() {
    let dir = Dir::new("interrupt");
    let db = dir.file("x.db");
    start(&db, &["--source", "sim:count=5"]).wait();
    let writer = Holder::start(&db, "BEGIN EXCLUSIVE");
    for name in ["check", "checkpoint"] {
        let mut child = Command::new(BINARY)
            .arg(name)
            .args(["--busy-timeout", "1h", "--db"])
            .arg(&db)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("it handles signals", || handles(child.id()).then_some(()));
        unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
        let status = until("it ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(1), "{name}");
    }
    writer.release();
}

#[test]
fn a_trigger_of_somebody_else_does_not_decide_what_is_recorded() {
    let dir = Dir::new("trigger");
    let db = dir.file("x.db");
    start(&db, &["--source", "sim:count=5"]).wait();
    sql(
        &db,
        "CREATE TRIGGER t BEFORE INSERT ON readings BEGIN SELECT raise(IGNORE); END",
    );
    start(&db, &["--source", "sim:count=5"]).wait();
    assert_eq!(count(&db), 10);
}

#[test]
fn a_source_that_cannot_be_read_is_no_end_of_input() {
    let dir = Dir::new("unreadable");
    let db = dir.file("x.db");
    let mut child = command(&db, &["--source", "stdin"]);
    child
        .stdin(File::open(dir.path()).unwrap())
        .stderr(Stdio::piped());
    let output = child.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("event=source-failed"), "{log}");
    assert!(
        log.lines().last().unwrap().contains("reason=error"),
        "{log}"
    );
    assert_eq!(sql(&db, "SELECT reason FROM runs"), "error");
}

#[test]
fn a_report_that_cannot_be_written_is_an_error() {
    let dir = Dir::new("dev-full");
    let db = dir.file("x.db");
    start(&db, &["--source", "sim:count=5"]).wait();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for args in [&["check"][..], &["checkpoint"], &["--help"], &["--version"]] {
        let mut child = Command::new(BINARY);
        child
            .args(args)
            .env("SEAWALL_DB", &db)
            .stdout(full())
            .stderr(Stdio::null());
        assert_eq!(child.status().unwrap().code(), Some(1), "{args:?}");
    }
}

#[test]
fn a_wal_that_lost_its_database_is_set_aside_and_not_deleted() {
    let dir = Dir::new("orphan");
    let db = dir.file("x.db");
    let run = start(&db, &["--source", "sim:rate=100", "--commit-interval", "0"]);
    run.wait_for("ready");
    until("something is recorded", || (count(&db) > 0).then_some(()));
    run.kill();
    let wal = fs::read(dir.file("x.db-wal")).unwrap();
    fs::remove_file(&db).unwrap();
    let next = start(&db, &["--source", "sim:count=5"]).wait();
    assert_eq!(next.code(), 0);
    assert!(next.has("event=set-aside"), "{:#?}", next.log);
    let mut kept = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
    let kept = kept
        .find(|p| p.to_str().unwrap().ends_with("Z-wal"))
        .expect("the -wal is kept");
    assert!(fs::read(kept).unwrap() == wal);
}

#[test]
fn the_wal_lies_where_a_link_leads() {
    let dir = Dir::new("link");
    fs::create_dir(dir.file("real")).unwrap();
    std::os::unix::fs::symlink("real/x.db", dir.file("link.db")).unwrap();
    let run = start(&dir.file("link.db"), &["--source", "sim:rate=100"]);
    let line = run.wait_for("ready");
    assert!(line.contains("real/x.db"), "{line}");
    assert!(dir.file("real/x.db-wal").exists());
    assert_eq!(run.stop(libc::SIGTERM).code(), 0);
    assert_sound(&dir.file("link.db"));
}

#[test]
fn what_the_layout_has_is_checked_for() {
    for (change, finding) in [
        ("DROP VIEW sensor_readings", "sensor_readings of the layout"),
        (
            "DROP INDEX runs_by_first_id",
            "runs_by_first_id of the layout",
        ),
        ("DROP TABLE device", "device of the layout"),
        ("DELETE FROM device", "one id of 32 hex digits"),
        ("UPDATE device SET id = 'x'", "one id of 32 hex digits"),
        ("DELETE FROM runs WHERE id = 1; ", "runs 1 to 1"),
        (
            "UPDATE runs SET ended_ns = NULL WHERE id = 1",
            "run 1 has not ended",
        ),
    ] {
        let dir = Dir::new("layout");
        let db = dir.file("x.db");
        for _ in 0..2 {
            start(&db, &["--source", "sim:count=5"]).wait();
        }
        sql(&db, change);
        let (code, out, err) = seawall(&["check", "--db", db.to_str().unwrap()]);
        assert_eq!(code, 1, "{change}: {out}{err}");
        assert!(out.contains(finding), "{change}: {out}{err}");
    }
}

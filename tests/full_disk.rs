//! Guards against a recorder that drops what it accepted when the disk is full, or that needs somebody to
//! start it again afterwards.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::support::mounts::Mount;
use crate::support::*;

/// More than any disk has, so that it counts as full from the start.
const MORE_THAN_ANY: &str = "1000000000GiB";

#[test]
fn the_last_commit_may_use_what_is_kept_free() {
    let dir = Dir::new("min-free");
    let db = dir.file("x.db");
    let mut run = Running::start(&[
        "--db",
        db.to_str().unwrap(),
        "--source",
        "stdin",
        "--ack",
        "--min-free",
        MORE_THAN_ANY,
        "--commit-interval",
        "0",
    ]);
    run.wait_for("ready");
    run.send(b"m f=1 1\nm f=2 2\n");
    let line = run.wait_for("commit-waiting");
    assert!(line.contains("are to be kept so"), "{line}");
    assert_eq!((run.acked(), count(&db)), (0, 0));
    let ended = run.stop(libc::SIGTERM);
    assert_eq!((ended.code(), ended.acked(), count(&db)), (0, 2, 2));
    let errors: u64 = sql(&db, "SELECT errors FROM runs").parse().unwrap();
    assert!(errors > 0);
    assert_sound(&db);
}

fn recorder(db: &Path, more: &[&str]) -> Running {
    let run = start_stdin(db, more);
    run.wait_for("ready");
    run
}

#[test]
fn what_was_accepted_waits_for_room_and_recording_goes_on() {
    let Some(disk) = Mount::small_disk(24, "4096") else {
        return;
    };
    let db = disk.file("x.db");
    // Nothing is kept free, so that SQLite itself meets the full disk, in the middle of a commit.
    let mut run = recorder(&db, &["--min-free", "0"]);
    run.send(b"m f=0 0\n");
    until("the first line is acknowledged", || {
        (run.acked() == 1).then_some(())
    });
    let filler = disk.fill();
    let mut sent = 1;
    while !run.log().iter().any(|l| l.contains("event=commit-waiting")) {
        assert!(sent < 1_000_000, "the disk is not full");
        let lines: String = (0..100)
            .map(|n| format!("m f={} {}\n", sent + n, sent + n))
            .collect();
        run.send(lines.as_bytes());
        sent += 100;
    }
    assert!(run.wait_for("commit-waiting").contains("disk is full"));
    let before = run.acked();
    assert!(before < sent);
    fs::remove_file(filler).unwrap();
    until("all is acknowledged", || {
        (run.acked() == sent).then_some(())
    });
    run.wait_for("commit-resumed");
    run.close_stdin();
    let ended = run.wait();
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    assert_eq!(count(&db), sent);
    assert_eq!(
        sql(&db, "SELECT count(DISTINCT value) FROM readings"),
        sent.to_string()
    );
    assert_sound(&db);
}

/// The size is met first, then the disk is full as well: neither loses what was acknowledged.
#[test]
fn a_full_disk_and_a_full_size_together_lose_nothing() {
    let Some(disk) = Mount::small_disk(40, "4096") else {
        return;
    };
    let db = disk.file("x.db");
    let mut run = recorder(&db, &["--min-free", "0", "--max-size", "16MiB"]);
    let mut sent = 0;
    let mut send = |run: &mut Running, n: u64| {
        let text = "x".repeat(900);
        let lines: String = (sent..sent + n)
            .map(|n| format!("m f=\"{n} {text}\" {n}\n"))
            .collect();
        run.send(lines.as_bytes());
        sent += n;
        sent
    };
    // More than the file may hold, so that the oldest go.
    let all = send(&mut run, 20_000);
    until("all is acknowledged", || (run.acked() == all).then_some(()));
    // Commits may find room in the pages that retention frees, or wait for the disk: both is right.
    let filler = disk.fill();
    // No more than the queue holds: a recorder that waits takes no more, and the sender would wait too.
    let all = send(&mut run, 800).max(all);
    fs::remove_file(filler).unwrap();
    until("all is acknowledged", || (run.acked() == all).then_some(()));
    run.close_stdin();
    let ended = run.wait();
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    // What is gone is counted as such, and it is the oldest.
    let ledger = "SELECT sum(committed), sum(committed) - sum(expired),
        (SELECT max(id) - min(id) + 1 FROM readings), (SELECT max(id) FROM readings) FROM runs";
    let left = count(&db);
    assert_eq!(sql(&db, ledger), format!("{all}|{left}|{left}|{all}"));
    assert!(left < all);
    assert_sound(&db);
}

#[test]
fn a_stop_while_the_disk_is_full_says_exactly_what_it_left() {
    let Some(disk) = Mount::small_disk(24, "4096") else {
        return;
    };
    let db = disk.file("x.db");
    let mut run = recorder(
        &db,
        &[
            "--min-free",
            "0",
            "--stop-timeout",
            "1s",
            "--source",
            "sim:sensors=10,rate=1000",
        ],
    );
    until("something is recorded", || {
        (db.exists() && count(&db) > 0).then_some(())
    });
    let filler = disk.fill();
    run.send(b"m f=1 1\n");
    run.wait_for("commit-waiting");
    let ended = run.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 4, "{:#?}", ended.log);
    let stopped = ended.stopped();
    let number = |key: &str| stopped[key].parse::<u64>().unwrap();
    assert!(number("uncommitted") > 0);
    fs::remove_file(filler).unwrap();
    // The line may have been committed in what room the -wal had left. It was acknowledged if it was, and only then.
    let line = "SELECT count(*) FROM sensor_readings WHERE sensor = 'm'";
    assert_eq!(sql(&db, line), ended.acked().to_string());
    // What the last line says is there is there, and the next start needs no help.
    assert_eq!(count(&db), number("committed"));
    let next = Running::start(&[
        "--db",
        db.to_str().unwrap(),
        "--source",
        "sim:count=1",
        "--min-free",
        "0",
    ])
    .wait();
    assert_eq!(next.code(), 0);
    assert_eq!(count(&db), number("committed") + 1);
    assert_sound(&db);
}

#[test]
fn the_device_keeps_what_is_to_be_free() {
    let Some(disk) = Mount::small_disk(32, "4096") else {
        return;
    };
    let db = disk.file("x.db");
    let run = Running::start(&[
        "--db",
        db.to_str().unwrap(),
        "--source",
        "sim:rate=max",
        "--min-free",
        "12MiB",
    ]);
    let line = run.wait_for("commit-waiting");
    let held = fields(&line)["held"].parse::<u64>().unwrap();
    assert!(held > 0, "{line}");
    let ended = run.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    let free = Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(disk.at())
        .output()
        .unwrap();
    let free: u64 = String::from_utf8(free.stdout)
        .unwrap()
        .lines()
        .nth(1)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    // The last commit and the checkpoint took from it; the device still has room.
    assert!(free > 4 << 20, "{free}");
    assert_eq!(count(&db).to_string(), ended.stopped()["committed"]);
    assert_sound(&db);
}

/// SQLite makes sure of one block for each 4096 bytes of its shared memory. Where blocks are smaller, the
/// others are missing on a full disk, and the first write to them was a SIGBUS.
#[test]
fn a_full_disk_with_small_blocks_kills_nobody() {
    let Some(disk) = Mount::small_disk(8, "1024") else {
        return;
    };
    let db = disk.file("x.db");
    let mut run = recorder(&db, &["--min-free", "0"]);
    run.send(b"m f=1 1\n");
    until("the line is acknowledged", || {
        (run.acked() == 1).then_some(())
    });
    run.kill();
    // A start makes the shared memory anew.
    fs::remove_file(disk.file("x.db-shm")).unwrap();
    let filler = disk.fill();
    for name in ["check", "checkpoint"] {
        let (code, out, err) = crate::support::seawall(&[name, "--db", db.to_str().unwrap()]);
        assert_eq!(code, 1, "{name}: {out}{err}");
        assert!(err.contains("are free, "), "{name}: {err}");
    }
    let run = Running::start(&[
        "--db",
        db.to_str().unwrap(),
        "--source",
        "sim:count=5",
        "--min-free",
        "0",
    ]);
    run.wait_for("open-waiting");
    fs::remove_file(filler).unwrap();
    assert_eq!(run.wait().code(), 0);
    assert_eq!(count(&db), 6);
    assert_sound(&db);
}

/// A long -wal needs more shared memory, all of it as soon as it is recovered.
#[test]
fn a_long_wal_on_a_nearly_full_disk_with_small_blocks_kills_nobody() {
    let Some(disk) = Mount::small_disk(48, "1024") else {
        return;
    };
    let db = disk.file("x.db");
    let path = db.to_str().unwrap();
    let mut args = vec!["--db", path, "--source", "sim:rate=max", "--min-free", "0"];
    args.extend(["--wal-autocheckpoint", "0", "--checkpoint-interval", "0"]);
    let run = Running::start(&args);
    let wal = disk.file("x.db-wal");
    until("the -wal is long", || {
        let bytes = fs::metadata(&wal).map_or(0, |file| file.len());
        (bytes > 24 << 20).then_some(())
    });
    run.kill();
    fs::remove_file(disk.file("x.db-shm")).unwrap();
    let filler = disk.fill();
    let file = fs::File::options().write(true).open(&filler).unwrap();
    let bytes = file.metadata().unwrap().len();
    file.set_len(bytes - 140 * 1024).unwrap();
    file.sync_all().unwrap();
    drop(file);
    for name in ["check", "show"] {
        let (code, out, err) = seawall(&[name, "--db", path]);
        assert_eq!(code, 1, "{name}: {out}{err}");
        assert!(err.contains("are free, "), "{name}: {err}");
    }
    fs::remove_file(filler).unwrap();
    assert_sound(&db);
}

#[test]
fn a_start_waits_for_an_inode_as_for_any_other_room() {
    let Some(disk) = Mount::small_disk(4, "4096") else {
        return;
    };
    let db = disk.file("x.db");
    let room = ["--min-free", "0"];
    assert_eq!(recorder(&db, &room).stop(libc::SIGTERM).code(), 0);
    let fillers = disk.file("fillers");
    fs::create_dir(&fillers).unwrap();
    let mut made = 0;
    while fs::File::create(fillers.join(made.to_string())).is_ok() {
        made += 1;
    }
    let mut run = start_stdin(&db, &room);
    let line = run.wait_for("open-waiting");
    assert!(line.contains("no inode is free"), "{line}");
    fs::remove_dir_all(&fillers).unwrap();
    run.wait_for("ready");
    run.send(b"m f=1 1\n");
    let ended = run.stop(libc::SIGTERM);
    assert_eq!((ended.code(), count(&db)), (0, 1));
    assert_sound(&db);
}

#[test]
fn what_is_there_can_be_read_when_the_disk_is_full() {
    // Small blocks: there SQLite's shared memory needs room of its own.
    let Some(disk) = Mount::small_disk(24, "1024") else {
        return;
    };
    let db = disk.file("x.db");
    let mut run = recorder(&db, &["--min-free", "0"]);
    run.send(b"m f=1 1\nm f=2 2\n");
    until("both are acknowledged", || (run.acked() == 2).then_some(()));
    let filler = disk.fill();
    let dir = Dir::new("copy");
    let copy = dir.file("copy.db");
    let path = db.to_str().unwrap();
    let read = |when: &str| {
        for args in [
            &["check"] as &[&str],
            &["show", "--since", "none"],
            &["export"],
            &["backup", copy.to_str().unwrap(), "--min-free", "0"],
        ] {
            let (code, out, err) = seawall(&[args, &["--db", path]].concat());
            assert_eq!(code, 0, "{when}: {args:?}: {out}{err}");
        }
    };
    read("recorded");
    fs::remove_file(filler).unwrap();
    assert_eq!(run.stop(libc::SIGTERM).code(), 0);
    disk.fill();
    read("stopped");
}

#[test]
fn a_limit_on_file_sizes_is_waited_out_as_a_full_disk_is() {
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
    // As a full disk, or the 4 GiB of FAT: waited out.
    let running = Running::spawn(&mut limited);
    running.wait_for("commit-waiting");
    let ended = running.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 4, "{:#?}", ended.log);
    let stopped = ended.stopped();
    assert_eq!(stopped["reason"], "SIGTERM");
    assert_ne!(stopped["uncommitted"], "0");
    // Another start, without the limit, finds everything that was committed.
    let again = Running::spawn(&mut command(&db, &["--source", "sim:count=1"]));
    assert_eq!(again.wait().code(), 0);
    assert_eq!(count(&db), stopped["committed"].parse::<u64>().unwrap() + 1);
    assert_sound(&db);
}

//! Guards against a recorder that goes on acknowledging after its files were taken away: SQLite writes on
//! into files that no folder holds any more, and every commit succeeds.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::{Dir, Holder, Running, assert_sound, count, python, start_stdin, until};

fn recorder(db: &Path) -> Running {
    let mut run = start_stdin(db, &[]);
    run.wait_for("ready");
    run.send(b"m f=1 1\nm f=2 2\n");
    until("two lines are acknowledged", || {
        (run.acked() == 2).then_some(())
    });
    run
}

/// Takes the files away and sends more; nothing of that is acknowledged, and the status is 4.
fn assert_noticed(name: &str, take_away: impl FnOnce(&Dir, &Path)) {
    let dir = Dir::new(name);
    let db = dir.file("x.db");
    let mut run = recorder(&db);
    take_away(&dir, &db);
    run.send(b"m f=3 3\n");
    let ended = run.wait();
    assert_eq!((ended.code(), ended.acked()), (4, 2));
    assert!(ended.has("was removed, replaced, moved or overwritten while recording"));
    let stopped = ended.stopped();
    assert_eq!(
        (stopped["reason"].as_str(), stopped["committed"].as_str()),
        ("error", "2")
    );
    assert_eq!(stopped["uncommitted"], "1");
}

#[test]
fn a_database_that_is_removed_is_noticed_before_the_next_ack() {
    assert_noticed("removed", |_, db| fs::remove_file(db).unwrap());
}

#[test]
fn a_wal_that_is_removed_is_noticed_before_the_next_ack() {
    assert_noticed("wal-removed", |dir, _| {
        fs::remove_file(dir.file("x.db-wal")).unwrap()
    });
}

#[test]
fn a_database_that_is_moved_is_noticed_before_the_next_ack() {
    assert_noticed("moved", |dir, db| fs::rename(db, dir.file("y.db")).unwrap());
}

#[test]
fn a_database_that_is_replaced_is_noticed_before_the_next_ack() {
    assert_noticed("replaced", |dir, db| {
        fs::copy(db, dir.file("copy")).unwrap();
        fs::rename(dir.file("copy"), db).unwrap();
    });
}

#[test]
fn a_shm_that_is_removed_is_noticed_before_the_next_ack() {
    assert_noticed("shm-removed", |dir, _| {
        fs::remove_file(dir.file("x.db-shm")).unwrap();
    });
}

#[test]
fn a_database_or_a_wal_that_is_cut_short_is_noticed_before_the_next_ack() {
    let cut = |path: &Path, bytes: u64| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(bytes).unwrap();
    };
    for bytes in [0, 4096, 5000] {
        assert_noticed("truncated", |_, db| cut(db, bytes));
    }
    assert_noticed("wal-truncated", |dir, _| cut(&dir.file("x.db-wal"), 0));
}

#[test]
fn zeros_over_the_wal_are_noticed_before_the_next_ack() {
    assert_noticed("wal-zeros", |dir, _| {
        let wal = dir.file("x.db-wal");
        let bytes = fs::metadata(&wal).unwrap().len() as usize;
        let file = fs::File::options().write(true).open(wal).unwrap();
        file.write_all_at(&vec![0; bytes], 0).unwrap();
    });
}

#[test]
fn another_file_that_is_copied_onto_the_database_is_noticed_before_the_next_ack() {
    for bytes in [3_000, 300_000] {
        assert_noticed("copied-onto", |dir, db| {
            let other = dir.file("other");
            fs::write(&other, vec![7; bytes]).unwrap();
            // `cp` writes into the file that is there.
            let copied = std::process::Command::new("cp")
                .arg(&other)
                .arg(db)
                .status();
            assert!(copied.unwrap().success());
        });
    }
}

/// Of exactly the length of the database: one that ended cleanly, which every backup is, or one of an earlier run.
#[test]
fn a_database_that_is_copied_onto_one_of_its_length_is_noticed_before_the_next_ack() {
    for of_an_earlier_run in [false, true] {
        let dir = Dir::new("copied-alike");
        let (db, other) = (dir.file("x.db"), dir.file("other.db"));
        crate::support::record_lines(&db, "m f=1 1\n");
        fs::copy(&db, &other).unwrap();
        if of_an_earlier_run {
            python(&other, "c.execute('PRAGMA journal_mode = WAL')");
            for _ in 0..3 {
                crate::support::record_lines(&db, "m f=1 1\n");
            }
        }
        let mut run = recorder(&db);
        let bytes = |path| fs::metadata(path).unwrap().len();
        assert_eq!(bytes(&db), bytes(&other));
        fs::write(&db, fs::read(&other).unwrap()).unwrap();
        run.send(b"m f=3 3\n");
        let ended = run.wait();
        assert_eq!((ended.code(), ended.acked()), (4, 2));
        assert!(ended.has("x.db: it was removed, replaced, moved or overwritten"));
    }
}

/// Tools may checkpoint, truncate the -wal and rebuild the file while it is recorded to.
#[test]
fn what_other_programs_may_do_raises_no_alarm() {
    let dir = Dir::new("others");
    let db = dir.file("x.db");
    let mut run = recorder(&db);
    for round in 1..30 {
        let text: String = (0..300).map(|n| format!("m f={n} {n}\n")).collect();
        run.send(text.as_bytes());
        let script = match round % 3 {
            0 => "PRAGMA wal_checkpoint(TRUNCATE)",
            1 => "VACUUM",
            _ => "PRAGMA wal_checkpoint(PASSIVE)",
        };
        // Beside a commit it may find the database locked.
        let sqlite =
            format!("c.execute('PRAGMA busy_timeout = 10000'); c.execute({script:?}).fetchall()");
        python(&db, &sqlite);
        let wanted = 2 + round * 300;
        until("all is acknowledged", || {
            (run.acked() == wanted).then_some(())
        });
    }
    assert_eq!(run.stop(libc::SIGTERM).code(), 0);
    assert_sound(&db);
}

#[test]
fn an_idle_recorder_notices_too() {
    let dir = Dir::new("idle");
    let db = dir.file("data/x.db");
    let run = recorder(&db);
    // The whole folder, as when a volume is pulled.
    fs::rename(dir.file("data"), dir.file("elsewhere")).unwrap();
    let ended = run.wait();
    assert_eq!(ended.code(), 4);
    assert_eq!(ended.stopped()["uncommitted"], "0");
    // What was acknowledged is where the files went.
    assert_eq!(count(&dir.file("elsewhere/x.db")), 2);
}

#[test]
fn a_reader_that_pins_the_wal_is_told_of_and_the_wal_shrinks_when_it_goes() {
    let dir = Dir::new("pinned");
    let db = dir.file("x.db");
    let wal = dir.file("x.db-wal");
    let run = Running::start(&[
        "--db",
        db.to_str().unwrap(),
        "--source",
        // No more than a busy machine can do; each commit grows the WAL by its pages.
        "sim:sensors=100,rate=100",
        "--commit-interval",
        "0",
        "--wal-autocheckpoint",
        "500",
    ]);
    run.wait_for("ready");
    let reader = Holder::start(&db, "BEGIN;SELECT count(*) FROM readings");
    run.wait_for("wal-pinned");
    // Past what is kept of it, twice over.
    let kept = 8 * 1024 * 1024;
    let size = || fs::metadata(&wal).map_or(0, |m| m.len());
    until("the WAL has grown", || (size() > 2 * kept).then_some(()));
    reader.release();
    run.wait_for("wal-released");
    until("the WAL has shrunk", || (size() <= kept).then_some(()));
    let ended = run.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.stopped()["dropped"], "0");
    assert!(
        ended
            .log
            .iter()
            .any(|l| l.contains("event=wal-pinned") && l.contains(" bytes="))
    );
    assert_sound(&db);
}

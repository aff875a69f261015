//! Guards against a recorder that goes on acknowledging after its files were taken away: SQLite writes on
//! into files that no folder holds any more, and every commit succeeds.

mod support;
use std::fs;
use std::path::Path;

use support::{Dir, Holder, Running, assert_sound, count, start_stdin, until};

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
    assert!(ended.has("was removed, replaced or moved while recording"));
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

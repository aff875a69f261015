//! Guards against a copy that lacks its newest readings and passes for whole: `cp` takes the .db of a running
//! recorder and leaves the -wal behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::loss::{Recorder, beside, killed, remove};
use crate::support::{BINARY, Dir, assert_sound, count, seawall};

/// Status, stdout and stderr of a command on a database.
fn run(db: &Path, args: &[&str]) -> (i32, String, String) {
    seawall(&[args, &["--db", db.to_str().unwrap()]].concat())
}

fn check(db: &Path) -> (i32, String) {
    let (code, out, err) = run(db, &["check"]);
    assert_eq!(err, "");
    (code, out)
}

/// `check` fails, and the commands that read it say why and do their work.
#[track_caller]
fn assert_told(db: &Path, dir: &Dir, why: &str) {
    // Twice: SQLite leaves an empty -wal beside a file that it may only read.
    for _ in 0..2 {
        let (code, out) = check(db);
        assert_eq!(code, 1, "{out}");
        assert!(out.starts_with(&format!("gone: {why}")), "{out}");
        assert!(out.ends_with("runs=1 unclean=1\n"), "{out}");
    }
    let copy = dir.file("copied.db");
    let backup = ["backup", copy.to_str().unwrap(), "--min-free", "0"];
    for args in [&["show"][..], &["export"], &backup, &["backup", "-"]] {
        let mut command = Command::new(BINARY);
        let output = command.args(args).arg("--db").arg(db).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {err}");
        let says = format!("seawall: {}: gone: {why}", db.display());
        assert!(err.starts_with(&says), "{args:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{args:?}: {err}");
    }
}

#[test]
fn a_copy_of_the_db_of_a_running_recorder_is_not_sound() {
    let dir = Dir::new("copies");
    let db = dir.file("x.db");
    let mut recorder = Recorder::start(&db, &[]);
    recorder.record(5);
    recorder.checkpoint();
    recorder.record(3);
    let copy = dir.file("copy.db");
    fs::copy(&db, &copy).unwrap();
    // The database itself is, and so is a copy of both files, and one by `backup`.
    assert_eq!(
        check(&db),
        (0, "sound readings=8 runs=1 unclean=0\n".into())
    );
    let both = dir.file("both.db");
    fs::copy(&db, &both).unwrap();
    fs::copy(beside(&db, "-wal"), beside(&both, "-wal")).unwrap();
    assert_eq!(
        check(&both),
        (0, "sound readings=8 runs=1 unclean=1\n".into())
    );
    let backup = dir.file("backup.db");
    let (code, _, err) = run(
        &db,
        &["backup", backup.to_str().unwrap(), "--min-free", "0"],
    );
    assert_eq!((code, &*err), (0, ""));
    let whole = (0, "sound readings=8 runs=1 unclean=0\n".into());
    assert_eq!(check(&backup), whole);
    recorder.kill();
    assert_told(
        &copy,
        &dir,
        "run 1 has no end: killed, or a copy made while",
    );
    // Recorded onto, the copy is like a database after a kill.
    assert_eq!(crate::support::loss::next(&copy).code(), 0);
    assert_eq!(
        check(&copy),
        (0, "sound readings=6 runs=2 unclean=1\n".into())
    );
}

#[test]
fn a_database_that_lost_its_wal_after_a_kill_is_not_sound() {
    let dir = Dir::new("copies");
    let db = killed(&dir, 10);
    // With all of its files it is.
    assert_eq!(
        check(&db),
        (0, "sound readings=10 runs=1 unclean=1\n".into())
    );
    for args in [&["show"][..], &["export"]] {
        let (code, _, err) = run(&db, args);
        assert_eq!((code, &*err), (0, ""), "{args:?}");
    }
    remove(&db, "-wal");
    assert_told(
        &db,
        &dir,
        "readings 8 to 10 (3) of run 1: they were committed",
    );
    remove(&db, "-mark");
    assert_told(&db, &dir, "run 1 has no end: killed, or a copy made while");
}

/// Others leave WAL mode behind after a clean stop, and a clean file in WAL mode lacks nothing.
#[test]
fn a_file_in_wal_mode_whose_runs_have_ended_is_sound() {
    let dir = Dir::new("copies");
    let db: PathBuf = dir.file("x.db");
    crate::support::record_lines(&db, "m v=1 1\nm v=2 2\n");
    crate::support::sql(&db, "PRAGMA journal_mode = WAL");
    assert_eq!(count(&db), 2);
    assert_sound(&db);
    assert_eq!(
        check(&db),
        (0, "sound readings=2 runs=1 unclean=0\n".into())
    );
}

//! Guards against a file that has lost or changed readings and passes for whole: SQLite's own check says
//! ok to a deleted row, a wrong count and a changed value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::*;

/// A database of two runs: one that was stopped (`rows` readings), one that was killed (100 readings).
fn recorded(dir: &Dir, rows: u32) -> PathBuf {
    let db = dir.file("x.db");
    let spec = format!("sim:sensors=4,rate=max,count={rows},seed=1");
    let run = Running::start(&["--db", db.to_str().unwrap(), "--source", &spec]);
    assert_eq!(run.wait().code(), 0);
    let mut run = start_stdin(&db, &[]);
    for n in 0..100 {
        run.send(format!("door,name=front open=true,note=\"n{n}\" {n}\n").as_bytes());
    }
    crate::support::until("all is acknowledged", || (run.acked() == 100).then_some(()));
    run.kill();
    assert_eq!(crate::support::count(&db), u64::from(rows) + 200);
    db
}

fn check(db: &Path) -> (i32, String) {
    let (code, out, err) = seawall(&["check", "--db", db.to_str().unwrap()]);
    (code, out + &err)
}

/// The check fails, says `word` on its last line, and somewhere `detail`.
fn assert_found(db: &Path, word: &str, detail: &str) {
    let (code, out) = check(db);
    assert_eq!(code, 1, "{out}");
    let last = out.lines().last().unwrap();
    assert!(last.starts_with(&format!("{word} ")), "{out}");
    assert!(out.contains(detail), "{detail:?} is not in: {out}");
}

/// Where `bytes` stands in the file, the first time.
fn find(file: &[u8], bytes: &[u8]) -> usize {
    file.windows(bytes.len())
        .position(|w| w == bytes)
        .expect("the bytes are in the file")
}

fn flip(db: &Path, at: usize) {
    let mut bytes = fs::read(db).unwrap();
    bytes[at] ^= 0x10;
    fs::write(db, bytes).unwrap();
}

#[test]
fn a_sound_file_is_told_with_its_numbers() {
    let dir = Dir::new("check");
    let db = recorded(&dir, 5000);
    let (code, out) = check(&db);
    // The next start notes that the run was killed.
    assert_eq!(
        (code, out.as_str()),
        (0, "sound readings=5200 runs=2 unclean=1\n")
    );
    let next = Running::start(&["--db", db.to_str().unwrap(), "--source", "sim:count=1"]);
    assert_eq!(next.wait().code(), 0);
    let (code, out) = check(&db);
    assert_eq!(
        (code, out.as_str()),
        (0, "sound readings=5201 runs=3 unclean=1\n")
    );
    assert_sound(&db);
}

#[test]
fn a_file_that_is_being_recorded_is_sound() {
    let dir = Dir::new("check");
    let db = dir.file("x.db");
    let run = Running::start(&[
        "--db",
        db.to_str().unwrap(),
        "--source",
        "sim:sensors=8,rate=1000",
        "--commit-interval",
        "0",
    ]);
    crate::support::until("there are readings", || {
        db.exists().then(|| check(&db).0 == 0).filter(|&ok| ok)
    });
    for _ in 0..5 {
        assert_sound(&db);
    }
    assert_eq!(run.stop(libc::SIGTERM).code(), 0);
}

#[test]
fn fewer_readings_than_wanted_are_missing() {
    let dir = Dir::new("check");
    let db = recorded(&dir, 10);
    let at_least = |n| seawall(&["check", "--db", db.to_str().unwrap(), "--at-least", n]);
    assert_eq!(at_least("210").0, 0);
    let (code, out, _) = at_least("211");
    assert_eq!(
        (code, out.as_str()),
        (1, "missing readings=210 runs=2 unclean=1 at_least=211\n")
    );
}

#[test]
fn a_deleted_row_is_missing_wherever_it_was() {
    for (id, detail) in [
        (1, "1 of the 10 readings of run 1"),
        (7, "readings 7 to 7"),
        (10, "readings 10 to 10"),
        (210, "1 of the 200 readings of run 2"),
    ] {
        let dir = Dir::new("check");
        let db = recorded(&dir, 10);
        sql(&db, &format!("DELETE FROM readings WHERE id = {id}"));
        assert_found(&db, "missing", detail);
    }
}

#[test]
fn a_wrong_count_is_damage() {
    let dir = Dir::new("check");
    let db = recorded(&dir, 10);
    sql(&db, "UPDATE runs SET committed = 9 WHERE id = 1");
    assert_found(
        &db,
        "damaged",
        "run 1 has 10 readings and says that it committed 9",
    );
    sql(&db, "UPDATE runs SET committed = 11 WHERE id = 1");
    assert_found(
        &db,
        "damaged",
        "run 2 begins at reading 11 where the runs before it end at 12",
    );
}

#[test]
fn a_reading_of_an_unknown_sensor_is_damage() {
    let dir = Dir::new("check");
    let db = recorded(&dir, 10);
    sql(&db, "DELETE FROM series WHERE id = 2");
    assert_found(&db, "damaged", "is of series 2, which is not there");
}

#[test]
fn a_changed_value_time_or_name_is_damage() {
    for change in [
        "UPDATE readings SET value = value + 0.01 WHERE id = 5",
        "UPDATE readings SET time_ns = time_ns + 1 WHERE id = 5",
        "UPDATE readings SET series = 1 + series % 4 WHERE id = 5",
        "UPDATE readings SET value = 'n78' WHERE value = 'n77'",
        "UPDATE series SET sensor = 'sim,sensor=9' WHERE id = 3",
    ] {
        let dir = Dir::new("check");
        let db = recorded(&dir, 10);
        sql(&db, change);
        assert_found(&db, "damaged", "is not as it was recorded");
    }
}

#[test]
fn a_flipped_byte_is_damage_wherever_it_hits() {
    // In a value: SQLite has no checksum, and its own check is content.
    let dir = Dir::new("check");
    let db = recorded(&dir, 5000);
    sql(&db, "PRAGMA journal_mode = DELETE");
    let whole = fs::read(&db).unwrap();
    let value: f64 = sql(&db, "SELECT value FROM sensor_readings WHERE id = 2500")
        .parse()
        .unwrap();
    flip(&db, find(&whole, &value.to_be_bytes()) + 6);
    assert_eq!(sql(&db, "PRAGMA integrity_check"), "ok");
    assert_found(&db, "damaged", "is not as it was recorded");

    // In the name of a sensor.
    fs::write(&db, &whole).unwrap();
    flip(&db, find(&whole, b"door,name=front") + 3);
    assert_found(&db, "damaged", "");

    // In the head of a page of readings, and in a record's own head.
    let page_bytes = PAGE_BYTES;
    let root: usize = sql(
        &db,
        "SELECT rootpage FROM sqlite_master WHERE name = 'readings'",
    )
    .parse()
    .unwrap();
    fs::write(&db, &whole).unwrap();
    flip(&db, (root - 1) * page_bytes);
    assert_found(&db, "damaged", "");
    fs::write(&db, &whole).unwrap();
    flip(&db, (root - 1) * page_bytes + 3);
    assert_found(&db, "damaged", "");

    // In the file's head.
    fs::write(&db, &whole).unwrap();
    flip(&db, 3);
    assert_found(&db, "damaged", "file is not a database");
    fs::write(&db, &whole).unwrap();
    assert_eq!(check(&db).0, 0);
}

#[test]
fn a_truncated_file_is_damage() {
    let dir = Dir::new("check");
    let db = recorded(&dir, 5000);
    sql(&db, "PRAGMA journal_mode = DELETE");
    let whole = fs::read(&db).unwrap();
    for keep in [
        whole.len() - PAGE_BYTES,
        whole.len() / 2 / PAGE_BYTES * PAGE_BYTES,
        PAGE_BYTES,
        3 * PAGE_BYTES + 17,
        50,
    ] {
        fs::write(&db, &whole[..keep]).unwrap();
        assert_found(&db, "damaged", "");
    }
}

#[test]
fn what_is_no_seawall_database_is_refused() {
    let dir = Dir::new("check");
    let said = |db: &Path, text: &str| {
        let (code, out) = check(db);
        assert_eq!(code, 1);
        assert!(
            out.contains(text) && out.contains(db.to_str().unwrap()),
            "{out}"
        );
    };
    said(&dir.file("absent.db"), "no file is there");
    assert!(!dir.file("absent.db").exists());
    fs::write(dir.file("empty.db"), "").unwrap();
    said(&dir.file("empty.db"), "it is empty");
    sql(&dir.file("other.db"), "CREATE TABLE t(x)");
    said(&dir.file("other.db"), "not a seawall database");
    fs::write(dir.file("text.db"), "no database at all\n".repeat(500)).unwrap();
    said(&dir.file("text.db"), "file is not a database");
    said(dir.path(), "it is not a file");
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

    let status = python3().args(["-c", script]).arg(&db).status().unwrap();
    assert!(status.success() && dir.file("x.db-journal").exists());
    assert_sound(&db);
    assert_eq!(count(&db), 20000);
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
fn on_a_terminal_check_shows_how_far_it_is() {
    let dir = Dir::new("check-terminal");
    let db = dir.file("x.db");
    start(&db, &["--source", "sim:rate=max,count=70000"]).wait();
    let command = format!("{} check --full --db {}", &*BINARY, db.display());
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.starts_with("\rchecking…\x1b[K"), "{out:?}");
    assert!(
        out.ends_with("\r\x1b[Ksound readings=70000 runs=1 unclean=0\r\n"),
        "{out:?}"
    );
    // Without one there is the result alone.
    let (code, out, err) = seawall(&["check", "--db", db.to_str().unwrap()]);
    assert_eq!((code, &*err), (0, ""));
    assert_eq!(out.lines().count(), 1);
}

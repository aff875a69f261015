//! Guards against a command that hangs, panics, makes files or says nothing of use where there is no database
//! such as it expects: every command is run on every kind of place, and has to say a clear word, on one line,
//! with the right status.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use support::stop::{NOBODY, PublicDir, beside, record, text};
use support::*;

/// Each command with its operand, and how its output begins on a database that is as it should be.
const COMMANDS: [(&str, &str); 6] = [
    ("check", "sound readings=3 "),
    ("show --since none", "sensor "),
    ("export", "device,id,"),
    ("backup -", "SQLite format 3\0"),
    ("backup DEST", "copied readings=3 "),
    ("checkpoint", "busy=0 "),
];

/// Runs one on a database. DEST is a file that is not there yet, in `folder`.
fn run(
    program: &Path,
    command: &str,
    db: &Path,
    folder: &Path,
    user: Option<u32>,
) -> (i32, String, String) {
    let dest = folder.join("dest.db");
    let mut words = Command::new(program);
    words.args(command.split(' ').map(|word| match word {
        "DEST" => text(&dest),
        other => other,
    }));
    words.args(["--db", text(db)]);
    if let Some(user) = user.filter(|_| fs::metadata("/proc/self").unwrap().uid() == 0) {
        words.uid(user);
    }
    if command.starts_with("backup") {
        words.args(["--min-free", "0"]);
    }
    let output = words.stdin(Stdio::null()).output().unwrap();
    let _ = fs::remove_file(dest);
    (
        output.status.code().expect("not killed"),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Every command fails with one line that names the database and says why.
fn all_refuse(db: &Path, folder: &Path, why: &str) {
    for (command, _) in COMMANDS {
        let (code, out, err) = run(Path::new(&*BINARY), command, db, folder, None);
        assert_eq!((code, err.lines().count()), (1, 1), "{command}: {out}{err}");
        // `check` tells what it found on stdout.
        let told = format!("{out}{err}");
        assert!(
            told.contains(why) && told.contains(text(db)),
            "{command}: {told}"
        );
        assert!(out.is_empty(), "{command}: {out}");
    }
}

fn all_work(program: &Path, db: &Path, folder: &Path, user: Option<u32>) {
    for (command, begins) in COMMANDS {
        let (code, out, err) = run(program, command, db, folder, user);
        assert_eq!((code, err.as_str()), (0, ""), "{command}");
        assert!(out.starts_with(begins), "{command}: {out}");
    }
}

fn record_three(db: &Path) {
    let run = record(db, "--source sim:count=3,rate=max");
    assert_eq!(run.wait().code(), 0);
}

#[test]
fn where_there_is_no_database() {
    let dir = Dir::new("every");
    all_refuse(
        &dir.file("absent.db"),
        dir.path(),
        "No such file or directory",
    );
    all_refuse(
        &dir.file("no/folder/x.db"),
        dir.path(),
        "No such file or directory",
    );
    all_refuse(dir.path(), dir.path(), "it is not a file");
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing was made"
    );
}

#[test]
fn where_the_file_is_empty_or_of_another_program() {
    let dir = Dir::new("every");
    let empty = dir.file("empty.db");
    fs::write(&empty, "").unwrap();
    all_refuse(&empty, dir.path(), "it is empty");
    let other = dir.file("other.db");
    sql(&other, "CREATE TABLE t(x)");
    all_refuse(&other, dir.path(), "it is not a seawall database");
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        2,
        "nothing was made"
    );
}

#[test]
fn where_the_file_is_no_database_at_all() {
    let dir = Dir::new("every");
    let diary = dir.file("diary.txt");
    fs::write(&diary, "dear diary\n".repeat(500)).unwrap();
    for (command, _) in COMMANDS {
        let (code, out, err) = run(Path::new(&*BINARY), command, &diary, dir.path(), None);
        let told = format!("{out}{err}");
        assert_eq!(code, 1, "{command}: {told}");
        assert!(told.contains("file is not a database"), "{command}: {told}");
    }
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing was made"
    );
}

#[test]
fn where_the_database_was_stopped_and_where_it_is_being_recorded() {
    let dir = Dir::new("every");
    let db = dir.file("x.db");
    record_three(&db);
    all_work(Path::new(&*BINARY), &db, dir.path(), None);
    let recorder = record(&db, "--source stdin");
    all_work(Path::new(&*BINARY), &db, dir.path(), None);
    recorder.kill();
    // What a kill left.
    all_work(Path::new(&*BINARY), &db, dir.path(), None);
}

#[test]
fn where_a_damaged_one_was_set_aside() {
    let dir = Dir::new("every");
    let db = dir.file("x.db");
    fs::write(&db, "no database\n".repeat(500)).unwrap();
    record_three(&db);
    for (command, begins) in COMMANDS {
        let (code, out, err) = run(Path::new(&*BINARY), command, &db, dir.path(), None);
        if command == "check" {
            assert_eq!(code, 1);
            assert!(out.contains("was found damaged and set aside"), "{out}");
        } else {
            // They serve the new one.
            assert_eq!((code, err.as_str()), (0, ""), "{command}");
            assert!(out.starts_with(begins), "{command}: {out}");
        }
    }
}

#[test]
fn where_nothing_may_be_written() {
    let folder = PublicDir::new();
    let program = folder.binary();
    let (shut, open) = (folder.0.join("shut"), folder.0.join("open"));
    fs::create_dir(&shut).unwrap();
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let db = shut.join("x.db");
    record_three(&db);
    let close = || fs::set_permissions(&shut, fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(&db, fs::Permissions::from_mode(0o444)).unwrap();
    close();
    for (command, begins) in COMMANDS {
        let (code, out, err) = run(&program, command, &db, &open, Some(NOBODY));
        if command == "checkpoint" {
            // A file that is complete by itself needs none, which may be told either way.
            assert!(code == 0 || err.contains(text(&db)), "{out}{err}");
            continue;
        }
        assert_eq!((code, err.as_str()), (0, ""), "{command}");
        assert!(out.starts_with(begins), "{command}: {out}");
    }
    // A file that may not even be read.
    fs::set_permissions(&db, fs::Permissions::from_mode(0o000)).unwrap();
    for (command, _) in COMMANDS {
        let (code, out, err) = run(&program, command, &db, &open, Some(NOBODY));
        assert_eq!((code, out.as_str()), (1, ""), "{command}: {err}");
        assert!(
            err.contains(text(&db)) && err.lines().count() == 1,
            "{command}: {err}"
        );
    }
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn where_a_kill_left_a_wal_in_a_folder_that_may_not_be_written() {
    let folder = PublicDir::new();
    let program = folder.binary();
    let (shut, open) = (folder.0.join("shut"), folder.0.join("open"));
    fs::create_dir(&shut).unwrap();
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let db = shut.join("x.db");
    let mut recorder = record(&db, "--source stdin --ack --commit-interval 0");
    recorder.send(b"m f=1\nm f=2\nm f=3\n");
    until("all is acknowledged", || {
        (recorder.acked() == 3).then_some(())
    });
    recorder.kill();
    // As on a volume that is mounted read-only elsewhere.
    fs::remove_file(beside(&db, "-shm")).unwrap();
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o555)).unwrap();
    for (command, begins) in COMMANDS {
        let (code, out, err) = run(&program, command, &db, &open, Some(NOBODY));
        // Read whole, or refused in words; never read without what is in the -wal.
        if code == 0 {
            assert!(out.starts_with(begins), "{command}: {out}");
        } else {
            assert_eq!((code, out.as_str()), (1, ""), "{command}: {err}");
            assert!(
                err.contains(text(&db)) && err.lines().count() == 1,
                "{command}: {err}"
            );
        }
    }
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn status_says_in_every_place_whether_somebody_records_there() {
    let dir = Dir::new("every");
    let status = |db: &Path| {
        let (code, out, err) = seawall(&["status", "--db", text(db)]);
        assert_eq!(err, "");
        (code, out)
    };
    let nobody = |db: &Path| {
        let (code, out) = status(db);
        assert_eq!(code, 1, "{out}");
        assert!(
            out.starts_with("state=none\n") && out.contains(text(db)),
            "{out}"
        );
    };
    nobody(&dir.file("absent.db"));
    nobody(dir.path());
    let empty = dir.file("empty.db");
    fs::write(&empty, "").unwrap();
    nobody(&empty);
    let other = dir.file("other.db");
    sql(&other, "CREATE TABLE t(x)");
    nobody(&other);
    let db = dir.file("x.db");
    record_three(&db);
    nobody(&db);
    let recorder = record(&db, "--source stdin");
    let (code, out) = status(&db);
    assert!(code == 0 && out.contains("\nhealthy=yes\n"), "{out}");
    recorder.kill();
    nobody(&db);
}

#[test]
fn where_stdout_is_closed() {
    let dir = Dir::new("every");
    let db = dir.file("x.db");
    record_three(&db);
    for (command, _) in COMMANDS {
        let dest = dir.file("dest.db");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(BINARY)
            .args(command.split(' ').map(|word| match word {
                "DEST" => text(&dest),
                other => other,
            }))
            .args(["--db", text(&db)])
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*err), (Some(0), ""), "{command}");
    }
}

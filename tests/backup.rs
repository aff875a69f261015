//! Guards against backups that are none: a copy of the `.db` alone while its readings lie in the `-wal`, a
//! half-written file under the name of the last good one, a copy that another program cannot open; and
//! against a backup that stops the recording.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::stop::{
    NOBODY, PublicDir, assert_opens_read_only, record, record_at_once, text,
};
use crate::support::*;

fn backup(db: &Path, dest: &str) -> (i32, String, String) {
    seawall(&["backup", dest, "--db", text(db), "--min-free", "0"])
}

/// 28 bytes each: 60,000 of them are copied in two steps.
fn database(dir: &Dir, readings: u64) -> std::path::PathBuf {
    let db = dir.file("x.db");
    let spec = format!("--source sim:rate=max,count={readings}");
    let run = record(&db, &spec);
    assert_eq!(run.wait().code(), 0);
    db
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_backup_beside_a_recorder_holds_all_that_was_committed_and_opens_by_itself() {
    let dir = Dir::new("backup");
    let db = database(&dir, 60_000);
    let recorder = record_at_once(&db, "--source sim:rate=200 --commit-interval 10ms");
    recorder.wait_for("ready");
    let dest = dir.file("copy.db");
    for _ in 0..3 {
        let before = count(&db);
        let (code, out, err) = backup(&db, text(&dest));
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.starts_with("copied readings="), "{out}");
        let copied = count(&dest);
        assert!(before <= copied && copied <= count(&db), "{copied}");
        assert_sound(&dest);
        assert_opens_read_only(&dest, copied);
        until("recording goes on", || (count(&db) > copied).then_some(()));
    }
    assert_eq!(recorder.stop(libc::SIGTERM).code(), 0);
    assert_eq!(names(dir.path()), ["copy.db", "x.db"]);
}

#[test]
fn a_backup_through_a_pipe_is_the_same_and_leaves_nothing_on_the_disk() {
    let dir = Dir::new("backup");
    let db = database(&dir, 60_000);
    let recorder = record_at_once(&db, "--source sim:rate=200 --commit-interval 10ms");
    recorder.wait_for("ready");
    let before = count(&db);
    let copy = dir.file("copy.db");
    let output = Command::new(BINARY)
        .args(["backup", "-", "--db", text(&db)])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    fs::write(&copy, output.stdout).unwrap();
    assert_sound(&copy);
    assert!(count(&copy) >= before);
    assert_opens_read_only(&copy, count(&copy));
    assert_eq!(recorder.stop(libc::SIGTERM).code(), 0);
    assert_eq!(names(dir.path()), ["copy.db", "x.db"]);
}

#[test]
fn a_backup_through_a_pipe_takes_no_memory_of_the_size_of_the_database() {
    let dir = Dir::new("backup");
    let db = database(&dir, 200_000);
    let mut child = Command::new(BINARY)
        .args(["backup", "-", "--db", text(&db)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let bytes = fs::metadata(&db).unwrap().len();
    assert!(bytes > 5_000_000);
    // All but the last: then it has seen everything, and is still there to be asked.
    let mut most = vec![0; bytes as usize - 100_000];
    stdout.read_exact(&mut most).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 3_000, "{line}");
    stdout.read_to_end(&mut Vec::new()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn recording_goes_on_on_a_restored_copy() {
    let dir = Dir::new("backup");
    let db = dir.file("x.db");
    let mut recorder = record(&db, "--source stdin --ack --commit-interval 0");
    recorder.send(b"m f=1 1\nm f=2 2\n");
    until("both are acknowledged", || {
        (recorder.acked() == 2).then_some(())
    });
    let copy = dir.file("copy.db");
    assert_eq!(backup(&db, text(&copy)).0, 0);
    recorder.kill();
    // The run of which it is a copy had not ended.
    let (code, out, _) = seawall(&["check", "--db", text(&copy)]);
    assert_eq!(
        (code, out.as_str()),
        (0, "sound readings=2 runs=1 unclean=0\n")
    );
    let mut again = record(&copy, "--source stdin");
    again.send(b"m f=3 3\n");
    again.close_stdin();
    assert_eq!(again.wait().code(), 0);
    assert_sound(&copy);
    let rows = "SELECT group_concat(id || ' ' || run || ' ' || value, ', ') FROM sensor_readings";
    assert_eq!(sql(&copy, rows), "1 1 1.0, 2 1 2.0, 3 2 3.0");
    // From now on it is no backup, and no other takes its place.
    assert_eq!(backup(&db, text(&copy)).0, 1);
    assert_eq!(count(&copy), 3);
}

fn backing_up(db: &Path, dest: &Path) -> Child {
    Command::new(BINARY)
        .args(["backup", text(dest), "--db", text(db), "--min-free", "0"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_backup_that_is_killed_leaves_dest_as_it_was_and_the_next_one_clears_up() {
    let dir = Dir::new("backup");
    let (db, dest) = (dir.file("x.db"), dir.file("copy.db"));
    let record_all = |count: u64| {
        let source = format!("--source sim:rate=max,count={count}");
        assert_eq!(record(&db, &source).wait().code(), 0);
    };
    record_all(10);
    assert_eq!(backup(&db, text(&dest)).0, 0);
    let old = fs::read(&dest).unwrap();
    record_all(199_990);
    let all = fs::metadata(&db).unwrap().len();
    let temporary = dir.file("copy.db.seawall-backup");
    let mut left_behind = 0;
    // At many points of its way, by how far it has come; SIGTERM is as sudden to DEST.
    for n in 0..16 {
        let _ = fs::remove_file(&temporary);
        let mut child = backing_up(&db, &dest);
        let wanted = all * n / 15;
        until("it has come so far, or ended", || {
            let bytes = fs::metadata(&temporary).map_or(0, |file| file.len());
            (bytes >= wanted.max(1) || child.try_wait().unwrap().is_some()).then_some(())
        });
        let number = if n % 4 == 3 {
            libc::SIGTERM
        } else {
            libc::SIGKILL
        };
        unsafe { libc::kill(child.id() as libc::pid_t, number) };
        let status = child.wait().unwrap();
        if !status.success() {
            assert!(fs::read(&dest).unwrap() == old, "killed at {wanted} bytes");
        }
        left_behind += usize::from(temporary.exists());
        if number == libc::SIGTERM {
            assert!(!temporary.exists());
        }
        // One that had been renamed before it was killed is whole.
        assert_sound(&dest);
        fs::write(&dest, &old).unwrap();
    }
    assert!(left_behind > 0, "no kill came in time");
    assert_eq!(backup(&db, text(&dest)).0, 0);
    assert_eq!(count(&dest), 200_000);
    assert_eq!(names(dir.path()), ["copy.db", "x.db"]);
}

#[test]
fn what_a_killed_backup_left_beside_its_file_is_not_read_into_the_next() {
    let dir = Dir::new("backup");
    let db = dir.file("x.db");
    assert_eq!(
        record(&db, "--source sim:rate=max,count=10").wait().code(),
        0
    );
    for end in ["", "-journal", "-wal", "-shm"] {
        fs::write(dir.file(&format!("copy.db.seawall-backup{end}")), "rest").unwrap();
    }
    let dest = dir.file("copy.db");
    assert_eq!(backup(&db, text(&dest)).0, 0);
    assert_sound(&dest);
    assert_eq!(names(dir.path()), ["copy.db", "x.db"]);
}

#[test]
fn a_second_backup_to_the_same_file_waits_for_nobody_and_harms_nothing() {
    let dir = Dir::new("backup");
    let db = database(&dir, 60_000);
    let dest = dir.file("copy.db");
    let mut child = backing_up(&db, &dest);
    until("it has begun", || {
        dir.file("copy.db.seawall-backup").exists().then_some(())
    });
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGSTOP) };
    let (code, _, err) = backup(&db, text(&dest));
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGCONT) };
    // Unless it had ended before it could be stopped.
    if code != 0 {
        assert!(err.contains("another backup to it is going on"), "{err}");
    }
    assert!(child.wait().unwrap().success());
    assert_sound(&dest);
}

#[test]
fn a_dest_that_would_be_a_loss_is_refused() {
    let dir = Dir::new("backup");
    let db = dir.file("x.db");
    assert_eq!(
        record(&db, "--source sim:rate=max,count=10").wait().code(),
        0
    );
    let whole = fs::read(&db).unwrap();
    let refused = |dest: &Path, why: &str| {
        let (code, out, err) = backup(&db, text(dest));
        assert_eq!((code, out.as_str()), (1, ""), "{}", dest.display());
        assert!(
            err.contains(why) && err.lines().count() == 1,
            "{why}: {err}"
        );
    };
    refused(&db, "it is the database itself");
    let link = dir.file("link.db");
    std::os::unix::fs::symlink(&db, &link).unwrap();
    refused(&link, "it is the database itself");
    let hard = dir.file("hard.db");
    fs::hard_link(&db, &hard).unwrap();
    refused(&hard, "it is the database itself");
    refused(dir.path(), "it is a folder");
    refused(Path::new("/dev/null"), "it is not a file");
    refused(&dir.file("no/folder/x.db"), "No such file or directory");
    let other = dir.file("other.db");
    sql(&other, "CREATE TABLE t(x)");
    refused(&other, "it is there already, and no seawall database");
    assert_eq!(sql(&other, "SELECT count(*) FROM t"), "0");
    let text_file = dir.file("diary.txt");
    fs::write(&text_file, "dear diary").unwrap();
    refused(&text_file, "it is there already, and no seawall database");
    assert_eq!(fs::read(&text_file).unwrap(), b"dear diary");
    let live = dir.file("live.db");
    let recorder = record(&live, "--source stdin");
    refused(&live, "");
    assert_eq!(recorder.stop(libc::SIGTERM).code(), 0);
    assert_eq!(fs::read(&db).unwrap(), whole);
    let (code, _, err) = seawall(&["backup", "--db", text(&db)]);
    assert_eq!(code, 2);
    assert!(err.contains("needs a DEST"), "{err}");
    let (code, _, err) = seawall(&["backup", "a", "b"]);
    assert_eq!(code, 2);
    assert!(err.contains("unexpected argument \"b\""), "{err}");
}

#[test]
fn a_folder_that_may_not_be_written_and_a_disk_without_room_are_told() {
    let folder = PublicDir::new();
    let db = folder.0.join("x.db");
    assert_eq!(
        record(&db, "--source sim:rate=max,count=10").wait().code(),
        0
    );
    let shut = folder.0.join("shut");
    fs::create_dir(&shut).unwrap();
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = Command::new(folder.binary());
    command.args(["backup", text(&shut.join("copy.db")), "--db", text(&db)]);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        std::os::unix::process::CommandExt::uid(&mut command, NOBODY);
    }
    let output = command.output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err.contains("Permission denied (os error 13) (uid "),
        "{err}"
    );

    let dest = folder.0.join("copy.db");
    let options = ["--db", text(&db), "--min-free", "1000000GiB"];
    let (code, _, err) = seawall(&[&["backup", text(&dest)], &options[..]].concat());
    assert_eq!(code, 1);
    assert!(
        err.contains("bytes are needed and") && err.contains("--min-free"),
        "{err}"
    );
    assert_eq!(names(&folder.0).len(), 3, "{:?}", names(&folder.0));
}

#[test]
fn a_source_that_is_not_sound_replaces_no_backup() {
    let dir = Dir::new("backup");
    let db = dir.file("x.db");
    assert_eq!(
        record(&db, "--source sim:rate=max,count=10").wait().code(),
        0
    );
    let dest = dir.file("copy.db");
    assert_eq!(backup(&db, text(&dest)).0, 0);
    sql(&db, "DELETE FROM readings WHERE id = 5");
    let (code, _, err) = backup(&db, text(&dest));
    assert_eq!(code, 1);
    assert!(
        err.contains("the copy is not sound (readings 5 to 5)"),
        "{err}"
    );
    assert_eq!(count(&dest), 10);
    assert_eq!(names(dir.path()), ["copy.db", "x.db"]);
}

/// Half a database is none, whoever went away.
#[test]
fn a_consumer_that_goes_away_is_an_error() {
    let dir = Dir::new("backup");
    let db = database(&dir, 60_000);
    let mut child = Command::new(BINARY)
        .args(["backup", "-", "--db", text(&db)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot write all of the copy"), "{said}");
}

#[test]
fn a_terminal_is_told_how_far_the_copy_is_and_gets_no_database() {
    let dir = Dir::new("backup");
    let db = database(&dir, 60_000);
    // `script` gives it a terminal.
    let on_terminal = |arguments: &str| {
        let command = format!(
            "{} backup {arguments} --min-free 0 --db {}",
            &*BINARY,
            text(&db)
        );
        let output = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .stdin(File::open("/dev/null").unwrap())
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let (code, out) = on_terminal(text(&dir.file("copy.db")));
    assert_eq!(code, Some(0), "{out}");
    // To the end, and gone before the result.
    assert!(out.contains(" s left  ") && out.contains(" MiB/s"), "{out}");
    let phases = [
        "\rchecking…\x1b[K",
        "\rsyncing…\x1b[K",
        "\r\x1b[Kcopied readings=",
    ];
    let places = phases.map(|phase| {
        out.find(phase)
            .unwrap_or_else(|| panic!("{phase:?}: {out:?}"))
    });
    assert!(places.is_sorted(), "{out:?}");
    let (code, out) = on_terminal("-");
    assert_eq!(code, Some(1));
    assert!(
        out.contains("cannot write a database to a terminal"),
        "{out}"
    );
}

#[test]
fn a_name_that_sqlite_takes_for_a_part_of_the_database_is_no_dest() {
    let dir = Dir::new("backup-companion");
    let db = database(&dir, 10);
    for end in ["-wal", "-shm", "-journal"] {
        let (code, _, err) = backup(&db, &format!("{}{end}", text(&db)));
        assert_eq!(code, 1, "{end}: {err}");
        assert!(err.contains("a part of the database itself"), "{err}");
        assert!(!dir.file(&format!("x.db{end}")).exists());
    }
}

#[test]
fn a_copy_is_for_the_users_of_the_database_and_nobody_else_from_its_first_byte_on() {
    let dir = Dir::new("backup-mode");
    let db = database(&dir, 60_000);
    let (dest, temporary) = (dir.file("copy.db"), dir.file("copy.db.seawall-backup"));
    for mode in [0o600, 0o640, 0o444, 0o666] {
        fs::set_permissions(&db, fs::Permissions::from_mode(mode)).unwrap();
        // Left behind by a backup that was killed, of a database that all could read.
        fs::write(&temporary, "").unwrap();
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o666)).unwrap();
        let mut copying = Command::new(BINARY)
            .args(["backup", text(&dest), "--db", text(&db), "--min-free", "0"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut seen = Vec::new();
        let status = until("the copy is made", || {
            let there = fs::metadata(&temporary);
            seen.extend(there.ok().filter(|file| file.len() > 0));
            copying.try_wait().unwrap()
        });
        assert!(status.success());
        assert!(!seen.is_empty(), "the copy was over before it was seen");
        for file in seen {
            let is_closed = [0o600, mode].contains(&(file.mode() & 0o777));
            assert!(is_closed, "{:o} of {mode:o}", file.mode());
        }
        let copy = fs::metadata(&dest).unwrap();
        assert_eq!(copy.mode() & 0o777, mode);
        let source = fs::metadata(&db).unwrap();
        assert_eq!((copy.uid(), copy.gid()), (source.uid(), source.gid()));
    }
}

#[test]
fn a_copy_that_root_makes_belongs_to_the_owner_of_the_database() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return skip("only root may give files away");
    }
    let dir = Dir::new("backup-owner");
    let db = database(&dir, 10);
    fs::set_permissions(&db, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&db, Some(NOBODY), Some(NOBODY)).unwrap();
    let dest = dir.file("copy.db");
    assert_eq!(backup(&db, text(&dest)).0, 0);
    let copy = fs::metadata(&dest).unwrap();
    let found = (copy.uid(), copy.gid(), copy.mode() & 0o777);
    assert_eq!(found, (NOBODY, NOBODY, 0o640));
}

#[test]
fn a_copy_in_another_group_lets_that_group_do_no_more_than_everybody() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return skip("only root may run it as another user");
    }
    let folder = PublicDir::new();
    let db = folder.0.join("x.db");
    assert_eq!(
        record(&db, "--source sim:rate=max,count=10").wait().code(),
        0
    );
    fs::set_permissions(&db, fs::Permissions::from_mode(0o664)).unwrap();
    let open = folder.0.join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let dest = open.join("copy.db");
    let mut command = Command::new(folder.binary());
    command.args(["backup", text(&dest), "--db", text(&db), "--min-free", "0"]);
    std::os::unix::process::CommandExt::uid(&mut command, NOBODY);
    std::os::unix::process::CommandExt::gid(&mut command, NOBODY);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let copy = fs::metadata(&dest).unwrap();
    let found = (copy.uid(), copy.gid(), copy.mode() & 0o777);
    assert_eq!(found, (NOBODY, NOBODY, 0o644));
}

#[test]
fn a_database_that_is_no_older_state_of_this_one_is_not_replaced() {
    let dir = Dir::new("other-dest");
    let (db, other, copy) = (dir.file("x.db"), dir.file("other.db"), dir.file("copy.db"));
    record_lines(&db, "m v=1 1\n");
    record_lines(&other, "m v=1 1\nm v=2 2\n");
    let backup = |from: &Path, to: &Path| seawall(&["backup", "--db", text(from), text(to)]);
    // Given in the place of --db.
    let (code, _, said) = backup(&db, &other);
    assert!(code == 1 && said.contains("of another device"), "{said}");
    assert_eq!(count(&other), 2);
    assert_eq!(backup(&db, &copy).0, 0);
    record_lines(&db, "m v=2 2\n");
    assert_eq!(backup(&db, &copy).0, 0);
    assert_eq!(count(&copy), 2);
    // An older state does not take the place of a newer one.
    fs::copy(&copy, dir.file("old.db")).unwrap();
    record_lines(&db, "m v=3 3\n");
    assert_eq!(backup(&db, &copy).0, 0);
    let (code, _, said) = backup(&dir.file("old.db"), &copy);
    assert!(code == 1 && said.contains("newer readings"), "{said}");
    assert_eq!(count(&copy), 3);
}

//! Ownership: guards against a recorder that writes into a file that is not its own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::recording::*;
use crate::support::stop::*;
use crate::support::*;

/// Records to a place where it may not; gives the log, in which an error names `named`.
fn refused_as(db: &Path, named: &Path) -> Vec<String> {
    let ended = record_at_once(db, "--source stdin").wait();
    assert_eq!(ended.code(), 1, "{:#?}", ended.log);
    let last = assert_last_line(&ended.log, "error");
    assert_eq!((last.committed, last.uncommitted), (0, 0));
    assert!(!ended.has(" event=ready "));
    let error = ended
        .log
        .iter()
        .find(|line| line.contains("level=error"))
        .expect("an error");
    assert!(error.contains(text(named)), "{error}");
    ended.log
}

fn refused(db: &Path) -> Vec<String> {
    refused_as(db, db)
}

#[test]
fn a_second_recorder_is_refused_and_told_who_the_first_is() {
    let dir = Dir::new("second");
    let db = dir.file("second.db");
    let mut first = record(&db, "--source stdin --ack");
    let log = refused(&db);
    let pid = format!("process {} ", first.pid());
    assert!(
        log.iter().any(|line| line.contains(&pid)),
        "{pid}: {log:#?}"
    );
    // Under another name of the same file too.
    let link = dir.file("link.db");
    std::os::unix::fs::symlink(&db, &link).unwrap();
    let log = refused_as(&link, &db);
    assert!(
        log.iter().any(|line| line.contains(&pid)),
        "{pid}: {log:#?}"
    );
    // The first notices nothing.
    first.send(&lines(0..10));
    first.wait_for_ack(10);
    first.stop(libc::SIGKILL);
    // A lock does not outlive its holder.
    let (_, ended) = stop(&db, record(&db, "--source stdin"));
    assert!(
        ended.has(" event=recovered run=1 reason=unclean readings=10"),
        "{:#?}",
        ended.log
    );
}

/// Whoever may read a file may lock it.
#[test]
fn a_reader_that_keeps_a_recorder_out_by_its_lock_is_named() {
    let dir = Dir::new("locked");
    let db = dir.file("x.db");
    record_lines(&db, "m v=1 1\n");
    let socket = format!("--source unix:{}", text(&dir.file("s")));
    for (locked, source) in [(db.as_path(), "--source stdin"), (dir.path(), &*socket)] {
        let script = "
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(fd, fcntl.LOCK_SH)
print('locked', flush=True)
sys.stdin.read()
";
        let mut reader = hold(script, locked);
        let ended = record_at_once(&db, source).wait();
        assert_eq!(ended.code(), 1, "{:#?}", ended.log);
        let name = format!("process {} (python", reader.id());
        assert!(ended.has(&name), "{name}: {:#?}", ended.log);
        assert!(!ended.has("is recording to it"), "{:#?}", ended.log);
        if locked == db {
            let (code, out, _) = seawall(&["status", "--db", text(&db)]);
            assert!(code == 1 && out.contains("nobody records"), "{out}");
            assert!(out.contains(&name), "{out}");
        }
        drop(reader.stdin.take());
        reader.wait().unwrap();
    }
    record_lines(&db, "m v=2 2\n");
}

/// SQLite finds the -wal by the name of the file, so that under its other name a database that was killed lacks it.
#[test]
fn a_file_with_two_names_is_warned_of_and_refused_where_its_wal_is_beside_the_other() {
    let dir = Dir::new("names");
    let (db, other) = (dir.file("x.db"), dir.file("snapshot.db"));
    let (_, ended) = stop(&db, record(&db, "--source stdin"));
    assert!(!ended.has("hard links"), "{:#?}", ended.log);
    fs::hard_link(&db, &other).unwrap();
    let mut recorder = record(&db, "--source stdin --ack");
    recorder.send(&lines(0..10));
    recorder.wait_for_ack(10);
    let ended = recorder.stop(libc::SIGKILL);
    assert!(ended.has(" event=not-lasting ") && ended.has("2 names"));
    let before = [&db, &dir.file("x.db-wal")].map(|path| fs::read(path).unwrap());
    let log = refused(&other);
    assert!(log.iter().any(|line| line.contains("hard links")));
    assert!(before == [&db, &dir.file("x.db-wal")].map(|path| fs::read(path).unwrap()));
    let (_, ended) = stop(&db, record(&db, "--source stdin"));
    assert_eq!((ended.code(), count(&db)), (0, 10));
    // Stopped, each name is as good as the other.
    let (_, ended) = stop(&other, record(&other, "--source stdin"));
    assert_eq!(ended.code(), 0);
}

#[test]
fn of_many_that_start_at_once_one_records() {
    const MANY: usize = 8;
    let dir = Dir::new("many");
    let db = dir.file("new/folder/many.db");
    let mut all: Vec<_> = (0..MANY)
        .map(|_| record_at_once(&db, "--source stdin"))
        .collect();
    until("all others have ended", || {
        (all.iter_mut()
            .filter_map(|r| r.has_ended().then_some(()))
            .count()
            == MANY - 1)
            .then_some(())
    });
    let at = (0..MANY).find(|&n| !all[n].has_ended()).unwrap();
    let one = all.swap_remove(at);
    one.wait_for("ready");
    for other in all {
        let ended = other.wait();
        assert_eq!(ended.code(), 1, "{:#?}", ended.log);
        assert_last_line(&ended.log, "error");
    }
    stop(&db, one);
    assert_eq!(ledger(&db).runs, 1);
}

/// The files in a folder, byte for byte.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// The folder is as it was. An index of a -wal that SQLite made anew holds nothing, and may be there.
fn assert_untouched(folder: &Path, before: &BTreeMap<PathBuf, Vec<u8>>) {
    let mut after = snapshot(folder);
    after.retain(|path, _| {
        let wal = text(path)
            .strip_suffix("-shm")
            .map(|db| format!("{db}-wal"));
        !wal.is_some_and(|wal| before.contains_key(Path::new(&wal)))
    });
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| -> Vec<_> { files.keys().cloned().collect() };
    assert_eq!(names(&after), names(before), "files in the folder");
    for (path, bytes) in before {
        assert!(after[path] == *bytes, "{} was changed", path.display());
    }
}

#[test]
fn a_file_that_is_not_seawalls_is_refused_and_left_as_it_was() {
    let foreign = [
        (
            "tables",
            "CREATE TABLE readings(id INTEGER PRIMARY KEY); INSERT INTO readings VALUES(1)",
        ),
        (
            "application",
            "PRAGMA application_id = 252006673; CREATE TABLE t(a)",
        ),
        ("number", "PRAGMA application_id = 252006673"),
        ("version", "PRAGMA user_version = 3"),
        (
            "wal",
            "PRAGMA journal_mode = WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1)",
        ),
    ];
    for (name, make) in foreign {
        let dir = Dir::new("foreign");
        let db = dir.file(&format!("{name}.db"));
        Holder::start(&db, make).release();
        let before = snapshot(dir.path());
        let log = refused(&db);
        assert!(
            log.iter()
                .any(|line| line.contains("not a seawall database")),
            "{name} {log:#?}"
        );
        assert_untouched(dir.path(), &before);
    }
}

#[test]
fn a_foreign_file_with_a_wal_is_left_as_it_was() {
    for (name, make) in [
        (
            "foreign",
            "PRAGMA journal_mode = WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1)",
        ),
        (
            "newer",
            "PRAGMA journal_mode = WAL; PRAGMA user_version = 1000; CREATE TABLE t(a)",
        ),
    ] {
        let dir = Dir::new("foreign-wal");
        let db = dir.file(&format!("{name}.db"));
        if name == "newer" {
            record_all(&db, "--source sim:rate=max,count=100");
        }
        // Killed, so that the -wal holds what the file does not.
        Holder::start(&db, make).kill();
        fs::remove_file(beside(&db, "-shm")).unwrap();
        let before = snapshot(dir.path());
        assert!(before[&beside(&db, "-wal")].len() > 4096);
        refused(&db);
        assert_untouched(dir.path(), &before);
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_as_it_was() {
    let dir = Dir::new("newer");
    let db = dir.file("newer.db");
    record_all(&db, "--source sim:rate=max,count=100");
    // At the least, another layout has one table more.
    let make = "CREATE TABLE of_tomorrow(a); PRAGMA user_version = 1000";
    Holder::start(&db, make).release();
    let before = snapshot(dir.path());
    let log = refused(&db);
    assert!(log.iter().any(|line| line.contains("1000")), "{log:#?}");
    assert_untouched(dir.path(), &before);
}

/// Who starts it there may do nothing in the folder, not even look at it.
#[test]
fn a_current_folder_that_may_not_be_entered_is_refused() {
    // SAFETY: no pointers, cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return skip("this user cannot start a program as another");
    }
    let public = PublicDir::new();
    let closed = public.0.join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    for db in ["x.db", "folder/x.db", "./x.db"] {
        // The folder is entered before the user is changed.
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command
            .arg(public.binary())
            .args(["--source=stdin", "--db", db]);
        let ended = Running::spawn(command.current_dir(&closed)).wait();
        assert_eq!(ended.code(), 1, "{:#?}", ended.log);
        assert!(ended.has("Permission denied"), "{:#?}", ended.log);
    }
}

#[test]
fn a_folder_that_may_not_be_written_is_refused_by_name() {
    let public = PublicDir::new();
    let binary = public.binary();
    let closed = public.0.join("closed");
    let theirs = closed.join("theirs.db");
    fs::create_dir(&closed).unwrap();
    fs::write(&theirs, b"").unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    // SAFETY: no pointers, cannot fail.
    let (uid, gid) = match unsafe { (libc::geteuid(), libc::getegid()) } {
        (0, _) => (NOBODY, NOBODY),
        own => own,
    };
    for db in [
        closed.join("new.db"),
        closed.join("folder/new.db"),
        theirs.clone(),
    ] {
        let mut command = Command::new(&binary);
        command.args(["record", "--source", "stdin", "--db", text(&db)]);
        let ended = Running::spawn(command.uid(uid).gid(gid)).wait();
        assert_eq!(ended.code(), 1, "{:#?}", ended.log);
        assert_last_line(&ended.log, "error");
        let error = ended
            .log
            .iter()
            .find(|line| line.contains("level=error"))
            .expect("an error");
        let said = [
            format!("uid {uid}"),
            format!("gid {gid}"),
            text(&closed).to_owned(),
        ];
        assert!(
            said.iter().all(|part| error.contains(part)),
            "{said:?} in {error}"
        );
    }
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 1);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
}

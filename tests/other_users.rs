//! Guards against other users of the machine: a client's name that somebody else takes over, a health check that
//! somebody else answers. Another user can be had by root only.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::{fs, io::BufRead};

use crate::support::client::connect;
use crate::support::stop::{PublicDir, text};
use crate::support::*;

/// `nobody`, who owns nothing.
const STRANGER: u32 = 65_534;

/// Whether this user may be others; tells that a test is skipped. Never on CI.
fn may_be_others() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        skip("only root can be another user");
    }
    is_root
}

/// The program under test, as this user.
fn seawall_as(uid: u32, program: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).uid(uid).gid(uid);
    command.stdin(Stdio::null()).output().unwrap()
}

fn python_as(uid: u32, script: &str, arguments: &[&str]) -> Child {
    // Whichever this user may run.
    Command::new("python3")
        .args(["-c", script])
        .args(arguments)
        .uid(uid)
        .gid(uid)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What it wrote.
fn said(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

const CLIENT: &str = "
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode())
s.shutdown(socket.SHUT_WR)
print(s.makefile().read(), end='')
";

#[test]
fn a_clients_name_is_of_the_user_who_used_it_first() {
    if !may_be_others() {
        return;
    }
    let dir = PublicDir::new();
    let (db, socket) = (dir.0.join("x.db"), dir.0.join("s"));
    let unix = format!("--source=unix:{},mode=0666", text(&socket));
    let sources = [&*unix, "--source=tcp:0"];
    let recorder = Running::start(&[&["record", "--db", text(&db)], &sources[..]].concat());
    recorder.wait_for("ready");
    let mut client = connect(&socket);
    client.hello("greenhouse");
    client.send("m v=1\nm v=2\n").until_ack(3);
    let refused = "err 1 client greenhouse is another user's: choose another name\n";
    let forged = "# client greenhouse\n#\n#\n#\n#\n";
    let as_stranger = |name: &str| said(python_as(STRANGER, CLIENT, &[text(&socket), name]));
    // While it is connected, and after.
    assert_eq!(as_stranger(forged), refused);
    client.send("m v=3\n").until_ack(4);
    drop(client);
    assert_eq!(as_stranger(forged), refused);
    let listening = recorder.log();
    let line = listening
        .iter()
        .find(|line| line.contains("event=listening source=tcp"));
    let port = fields(line.unwrap())["address"]
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    let tcp = "
import socket, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
s.sendall(sys.argv[2].encode())
print(s.makefile().readline(), end='')
";
    assert_eq!(said(python_as(0, tcp, &[&port, forged])), refused);
    assert_eq!(as_stranger("# client meadow\nm v=9\n"), "resume 0\nack 2\n");
    assert_eq!(connect(&socket).hello("greenhouse"), 3);
    assert_eq!(recorder.stop(libc::SIGTERM).code(), 0);
    let users = "SELECT group_concat(name || ' ' || uid || ' ' || lines, ', ') FROM clients";
    assert_eq!(sql(&db, users), "greenhouse 0 3, meadow 65534 1");
}

const LIAR: &str = "
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind('\\0' + sys.argv[1])
s.listen()
print('listens', flush=True)
c, _ = s.accept()
c.sendall(open(sys.argv[2], 'rb').read())
";

fn status(db: &Path, uid: u32) -> (Option<i32>, String) {
    let output = seawall_as(uid, Path::new(&*BINARY), &["status", "--db", text(db)]);
    let said = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), said)
}

#[test]
fn a_stranger_is_believed_no_health_and_told_none() {
    if !may_be_others() {
        return;
    }
    let dir = PublicDir::new();
    let db = dir.0.join("x.db");
    let recorder = Running::start(&["record", "--db", text(&db), "--source=sim"]);
    recorder.wait_for("ready");
    let (code, healthy) = status(&db, 0);
    assert_eq!(code, Some(0), "{healthy}");
    // Who may read the database may ask.
    assert_eq!(status(&db, STRANGER).0, Some(0));
    assert_eq!(recorder.stop(libc::SIGTERM).code(), 0);
    let report = dir.0.join("report");
    fs::write(&report, healthy).unwrap();

    let file = fs::metadata(&db).unwrap();
    let name = format!("seawall-{:x}-{:x}", file.dev(), file.ino());
    let mut liar = python_as(STRANGER, LIAR, &[&name, text(&report)]);
    let mut line = String::new();
    let mut out = std::io::BufReader::new(liar.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let (code, said) = status(&db, 0);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("of user 65534"), "{said}");
    let _ = liar.kill();
    liar.wait().unwrap();

    // Whoever may not read it is not told either.
    fs::set_permissions(&db, fs::Permissions::from_mode(0o600)).unwrap();
    let recorder = Running::start(&["record", "--db", text(&db), "--source=sim"]);
    recorder.wait_for("ready");
    let (code, said) = status(&db, STRANGER);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("only those who may read the database"),
        "{said}"
    );
    assert_eq!(status(&db, 0).0, Some(0));
    assert_eq!(recorder.stop(libc::SIGTERM).code(), 0);
}

/// In a folder in which everybody may make files, as the image's.
#[test]
fn a_journal_or_a_log_of_somebody_else_is_refused_by_name_in_every_command() {
    if !may_be_others() {
        return;
    }
    for end in ["-wal", "-shm", "-journal"] {
        let dir = PublicDir::new();
        let db = dir.0.join("x.db");
        record_lines(&db, "m v=1 1\n");
        let before = fs::read(&db).unwrap();
        let beside = dir.0.join(format!("x.db{end}"));
        // Whatever is in it.
        fs::write(&beside, [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]).unwrap();
        chown(&beside, Some(STRANGER), Some(STRANGER)).unwrap();
        refused_everywhere(&db, &format!("x.db{end} belongs to user {STRANGER}"));
        fs::remove_file(&beside).unwrap();
        // And what is no file: a FIFO would keep everybody waiting.
        let made = Command::new("mkfifo").arg(&beside).status();
        assert!(made.unwrap().success());
        refused_everywhere(&db, &format!("x.db{end} is not a file"));
        fs::remove_file(&beside).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &beside).unwrap();
        refused_everywhere(&db, &format!("x.db{end} is not a file"));
        fs::remove_file(&beside).unwrap();
        assert_eq!(fs::read(&db).unwrap(), before);
        assert_sound(&db);
    }
}

fn refused_everywhere(db: &Path, reason: &str) {
    let copy = db.with_file_name("copy.db");
    for command in [
        &["record", "--source=stdin"][..],
        &["check"],
        &["checkpoint"],
        &["show"],
        &["export"],
        &["backup", text(&copy)],
    ] {
        let arguments = [command, &["--db", text(db)]].concat();
        let (code, out, err) = seawall(&arguments);
        assert_eq!(code, 1, "{arguments:?} {out}{err}");
        assert!(err.contains(reason), "{arguments:?} {reason}: {err}");
    }
}

/// Left by a recorder that ran as another user, as where an image's user was changed.
#[test]
fn a_side_file_that_may_not_be_written_is_named() {
    if !may_be_others() {
        return;
    }
    let dir = PublicDir::new();
    let db = dir.0.join("x.db");
    record_lines(&db, "m v=1 1\n");
    let shm = dir.0.join("x.db-shm");
    fs::write(&shm, "").unwrap();
    chown(&dir.0, Some(STRANGER), Some(STRANGER)).unwrap();
    chown(&db, Some(STRANGER), Some(STRANGER)).unwrap();
    let arguments = ["record", "--source=stdin", "--db", text(&db)];
    let output = seawall_as(STRANGER, &dir.binary(), &arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("x.db-shm: Permission denied"), "{said}");
}

fn as_stranger(script: &str, at: &Path) -> Output {
    let mut command = Command::new("python3");
    command.args(["-c", script, text(at)]);
    command.uid(STRANGER).gid(STRANGER).output().unwrap()
}

/// What is made at the temporary name before a backup comes.
#[test]
fn a_file_that_a_stranger_made_at_the_temporary_name_of_a_backup_gets_none_of_it() {
    if !may_be_others() {
        return;
    }
    let dir = PublicDir::new();
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o1777)).unwrap();
    let (db, dest) = (dir.0.join("x.db"), dir.0.join("copy.db"));
    record_lines(&db, "m v=1 1\n");
    let temporary = dir.0.join("copy.db.seawall-backup");
    let victim = Dir::new("victim");
    let victim = victim.file("other.db");
    record_lines(&victim, "m v=2 2\nm v=3 3\n");
    let others = fs::read(&victim).unwrap();
    let link = format!(
        "import os, sys; os.symlink({:?}, sys.argv[1])",
        text(&victim)
    );
    for make in [
        "import os, sys; open(sys.argv[1], 'w'); os.chmod(sys.argv[1], 0o666)",
        "import os, sys; os.mkfifo(sys.argv[1])",
        &link,
    ] {
        assert!(as_stranger(make, &temporary).status.success());
        // Whoever opened it before goes on writing to what it opened. Where `fs.protected_symlinks` is set, not even
        // root follows the link: what it leads to is opened.
        let at = fs::read_link(&temporary).unwrap_or(temporary.clone());
        let opened = fs::File::options().read(true).write(true).open(at);
        let (code, _, err) = seawall(&["backup", text(&dest), "--db", text(&db)]);
        assert_eq!(code, 0, "{make}: {err}");
        let copy = fs::metadata(&dest).unwrap();
        let opened = opened.unwrap().metadata().unwrap();
        assert_ne!((copy.dev(), copy.ino()), (opened.dev(), opened.ino()));
        assert_eq!(
            (copy.uid(), fs::read(&victim).unwrap() == others),
            (0, true)
        );
        assert_sound(&dest);
        assert!(fs::symlink_metadata(&temporary).is_err());
    }
}

/// As the kernel does where `fs.protected_symlinks` is set.
#[test]
fn a_link_that_a_stranger_put_into_a_sticky_folder_chooses_no_file() {
    if !may_be_others() {
        return;
    }
    let dir = PublicDir::new();
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o1777)).unwrap();
    let victim = Dir::new("victim");
    let victim = victim.file("other.db");
    record_lines(&victim, "m v=2 2\n");
    let others = fs::read(&victim).unwrap();
    let (db, linked) = (dir.0.join("x.db"), dir.0.join("linked.db"));
    record_lines(&db, "m v=1 1\n");
    let link = format!(
        "import os, sys; os.symlink({:?}, sys.argv[1])",
        text(&victim)
    );
    assert!(as_stranger(&link, &linked).status.success());
    let reason = "linked.db is a link that user 65534 put into a folder";
    refused_everywhere(&linked, reason);
    let (code, _, err) = seawall(&["backup", text(&linked), "--db", text(&db)]);
    assert!(code == 1 && err.contains(reason), "{err}");
    assert!(fs::read(&victim).unwrap() == others);
    // One's own is followed, and so is one in a folder of one's own.
    fs::remove_file(&linked).unwrap();
    std::os::unix::fs::symlink(&victim, &linked).unwrap();
    record_lines(&linked, "m v=3 3\n");
    std::os::unix::fs::lchown(&linked, Some(STRANGER), None).unwrap();
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o755)).unwrap();
    record_lines(&linked, "m v=4 4\n");
    assert_eq!(count(&victim), 3);
}

/// The recorder's socket is in its network namespace, the lock is in the file.
#[test]
fn status_from_another_network_namespace_says_that_somebody_records() {
    let may = Command::new("unshare").args(["--net", "true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        return skip("this user may not make a network namespace");
    }
    let dir = Dir::new("namespace");
    let db = dir.file("x.db");
    let recorder = Running::start(&["record", "--db", text(&db), "--source=sim"]);
    recorder.wait_for("ready");
    let ask = || {
        let mut command = Command::new("unshare");
        command.args(["--net", &*BINARY, "status", "--db", text(&db)]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    let said = ask();
    assert!(
        said.contains("somebody records it who cannot be asked from here"),
        "{said}"
    );
    assert_eq!(recorder.stop(libc::SIGTERM).code(), 0);
    let said = ask();
    assert!(said.contains("nobody records"), "{said}");
}

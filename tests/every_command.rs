//! Guards against a command that hangs, panics, makes files or says nothing of use where there is no database
//! such as it expects: every command is run on every kind of place, and has to say a clear word, on one line,
//! with the right status.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::stop::{NOBODY, PublicDir, beside, record, text};
use crate::support::*;

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
    let absent = "no file is there; name the database by --db";
    all_refuse(&dir.file("absent.db"), dir.path(), absent);
    all_refuse(&dir.file("no/folder/x.db"), dir.path(), absent);
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
        // It is not taken for a damaged one, of which readings could be had.
        assert!(!told.contains("--skip-damaged"), "{command}: {told}");
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

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A link to a file in another folder: what belongs to the database lies beside the file.
fn link_to(db: &Path, folder: &Path) -> std::path::PathBuf {
    fs::create_dir(folder).unwrap();
    let link = folder.join("link.db");
    std::os::unix::fs::symlink(db, &link).unwrap();
    link
}

#[test]
fn where_a_link_leads_to_the_database() {
    let dir = Dir::new("every-link");
    let db = dir.file("x.db");
    make_damaged(&db);
    let recorder = record(&db, "--source sim:count=3,rate=max --source stdin");
    until("all three are committed", || {
        (count(&db) == 3).then_some(())
    });
    let links = dir.file("links");
    let link = link_to(&db, &links);
    for is_killed in [false, true] {
        for (command, begins) in COMMANDS {
            if command == "check" {
                continue;
            }
            let (code, out, err) = run(Path::new(&*BINARY), command, &link, dir.path(), None);
            assert_eq!((code, err.as_str()), (0, ""), "{command}, {is_killed}");
            assert!(out.starts_with(begins), "{command}: {out}");
        }
        // What was set aside lies beside the file.
        let (code, out, _) = run(Path::new(&*BINARY), "check", &link, dir.path(), None);
        assert!(code == 1 && out.contains("set aside"), "{out}");
        assert_eq!(names(&links), ["link.db"]);
        if !is_killed {
            recorder.signal(libc::SIGKILL);
            until("nobody records", || {
                (seawall(&["status", "--db", text(&db)]).0 == 1).then_some(())
            });
        }
    }
    drop(recorder);
}

/// What an SQLite program that was killed left: a `.db` and a `-wal` that is not yet in it.
#[test]
fn where_a_link_leads_to_the_database_of_another_program_that_was_killed() {
    let dir = Dir::new("every-foreign");
    let db = dir.file("x.db");
    python(
        &db,
        "c.execute('PRAGMA journal_mode=wal')\n\
         c.execute('CREATE TABLE t(x)')\n\
         c.execute('INSERT INTO t VALUES (1)')\n\
         os._exit(0)",
    );
    let files = || [db.clone(), beside(&db, "-wal")].map(|file| fs::read(file).unwrap());
    let before = files();
    assert!(!before[1].is_empty());
    let links = dir.file("links");
    let link = link_to(&db, &links);
    for (command, _) in COMMANDS {
        let (code, _, err) = run(Path::new(&*BINARY), command, &link, dir.path(), None);
        assert_eq!(code, 1, "{command}: {err}");
        assert!(err.contains("not a seawall database"), "{command}: {err}");
        assert!(files() == before, "{command} wrote to it");
    }
    assert_eq!(names(&links), ["link.db"]);
}

/// stdout and stderr are one pipe that nobody reads: no write to it may keep a signal from ending the command.
#[test]
fn where_nobody_reads_the_pipe_that_is_stdout_and_stderr() {
    let dir = Dir::new("every-stuck");
    let db = dir.file("x.db");
    let run = record(&db, "--source sim:count=5000,rate=max");
    assert_eq!(run.wait().code(), 0);
    let absent = dir.file("absent.db");
    let copy = dir.file("copy.db");
    let with_dest = format!("backup {} --min-free 0", text(&copy));
    let commands = [
        ("check", &db),
        ("show --since none", &db),
        ("status", &db),
        ("export", &db),
        ("export --follow", &db),
        ("backup - ", &db),
        (&*with_dest, &db),
        ("checkpoint", &db),
        // Those that have an error to print.
        ("check", &absent),
        ("export --follow", &absent),
        (&*with_dest, &absent),
    ];
    for (command, db) in commands {
        for signal in [libc::SIGTERM, libc::SIGINT] {
            let (_reader, mut writer) = std::io::pipe().unwrap();
            fill(&mut writer);
            let mut child = Command::new(BINARY)
                .args(command.split_whitespace())
                .args(["--db", text(db)])
                .stdin(Stdio::null())
                .stdout(writer.try_clone().unwrap())
                .stderr(writer)
                .spawn()
                .unwrap();
            until("it waits for somebody to read", || {
                is_waiting(child.id()).then_some(())
            });
            // SAFETY: no pointers; the child was not waited for, so that its number is its own.
            assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
            let began = Instant::now();
            until(&format!("{command} ends"), || child.try_wait().unwrap());
            assert!(began.elapsed() < Duration::from_secs(3), "{command}");
        }
    }
}

#[test]
fn where_no_thread_can_be_had() {
    let folder = PublicDir::new();
    let program = folder.binary();
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return skip("the tests' own user has threads already");
    }
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).unwrap();
    let db = folder.0.join("x.db");
    record_three(&db);
    std::os::unix::fs::chown(&db, Some(NOBODY), Some(NOBODY)).unwrap();
    let dest = folder.0.join("dest.db");
    for (command, begins) in COMMANDS.into_iter().chain([("status", "state=none\n")]) {
        let mut limited = Command::new(&program);
        limited.args(command.split(' ').map(|word| match word {
            "DEST" => text(&dest),
            other => other,
        }));
        limited
            .args(["--db", text(&db)])
            .uid(NOBODY)
            .stdin(Stdio::null());
        // SAFETY: setrlimit is async-signal-safe, and the limit is a local.
        unsafe {
            limited.pre_exec(|| {
                let none = libc::rlimit {
                    rlim_cur: 0,
                    rlim_max: 0,
                };
                match libc::setrlimit(libc::RLIMIT_NPROC, &none) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            })
        };
        let output = limited.output().unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        let is_status = command == "status";
        assert_eq!(
            output.status.code(),
            Some(i32::from(is_status)),
            "{command}: {err}"
        );
        assert!(
            out.starts_with(begins) && err.is_empty(),
            "{command}: {out}{err}"
        );
    }
}

/// Writes to a pipe until it takes no byte more.
fn fill(writer: &mut std::io::PipeWriter) {
    let own = format!("/proc/self/fd/{}", writer.as_raw_fd());
    // A description of its own, so that the child's is not made non-blocking.
    let mut own = fs::File::options()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(own)
        .unwrap();
    for size in [4096, 1] {
        while own.write(&vec![b'x'; size]).is_ok() {}
    }
}

/// Whether a process is in a call that waits for a pipe.
fn is_waiting(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call.split(' ').next().and_then(|n| n.parse().ok());
    number.is_some_and(|n: libc::c_long| [libc::SYS_write, libc::SYS_ppoll].contains(&n))
}

#[test]
fn where_a_damaged_one_was_set_aside() {
    let dir = Dir::new("every");
    let db = dir.file("x.db");
    make_damaged(&db);
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
        if command == "backup -" {
            // Half a database is none.
            assert_eq!(output.status.code(), Some(1), "{err}");
            continue;
        }
        assert_eq!((output.status.code(), &*err), (Some(0), ""), "{command}");
    }
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

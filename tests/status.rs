//! Guards against a recorder that is taken for healthy while nothing it takes is kept, and against an
//! answer that waits for the disk, comes from another recorder, or costs a reading.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{BINARY, Dir, Holder, Running, make_damaged, seawall, sql, until};

fn record(db: &Path, more: &[&str]) -> Running {
    let fixed = ["record", "--db", db.to_str().unwrap()];
    let recorder = Running::start(&[&fixed, more].concat());
    recorder.wait_for("ready");
    recorder
}

/// The exit status and what was said; the reasons as one text.
fn ask(db: &str) -> (i32, HashMap<String, String>) {
    let (code, out, err) = seawall(&["status", "--db", db]);
    assert_eq!(err, "");
    let mut said: HashMap<String, String> = HashMap::new();
    for line in out.lines() {
        let (key, value) = line.split_once('=').expect(line);
        let known = said.entry(key.to_owned()).or_default();
        *known += value;
    }
    (code, said)
}

fn of(db: &Path) -> (i32, HashMap<String, String>) {
    ask(db.to_str().unwrap())
}

/// What the kernel counts for a process; `None` where it does not.
fn written_by(pid: u32) -> Option<String> {
    let counts = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let mut lines = counts.lines();
    lines.find_map(|line| Some(line.strip_prefix("write_bytes: ")?.to_owned()))
}

#[test]
fn a_recorder_says_what_it_is_doing() {
    let dir = Dir::new("status");
    let db = dir.file("x.db");
    let mut recorder = record(
        &db,
        &[
            "--source=stdin",
            "--source=udp:0",
            "--ack",
            "--commit-interval=0",
        ],
    );
    recorder.send(b"m v=1\nm v=\nm v=2\n");
    until("three lines are settled", || {
        (recorder.acked() == 3).then_some(())
    });
    let (code, said) = of(&db);
    assert_eq!(code, 0, "{said:?}");
    for (key, value) in [
        ("state", "recording"),
        ("healthy", "yes"),
        ("db", db.to_str().unwrap()),
        ("run", "1"),
        ("sources", "2"),
        ("committed", "2"),
        ("queued", "0"),
        ("queue_max", "65536"),
        ("rejected", "1"),
        ("dropped", "0"),
        ("repeated", "0"),
        ("errors", "0"),
        ("set_aside", "0"),
        ("expired", "0"),
        ("last_checkpoint_ms", "none"),
        ("waiting_s", "0"),
    ] {
        assert_eq!(said[key], value, "{key} in {said:?}");
    }
    assert_eq!(said["pid"], recorder.pid().to_string());
    for key in ["uptime_s", "last_commit_ms", "wal_bytes", "free_bytes"] {
        said[key].parse::<u64>().expect(key);
    }
    assert_eq!(
        said["written_bytes"],
        written_by(recorder.pid()).as_deref().unwrap_or("none")
    );
    assert!(said["wal_bytes"] != "32");
    assert!(!said.contains_key("name") && !said.contains_key("reason"));

    let before_stop = written_by(recorder.pid());
    recorder.signal(libc::SIGUSR1);
    recorder.wait_for("checkpoint");
    until("the checkpoint is told", || {
        (of(&db).1["last_checkpoint_ms"] != "none").then_some(())
    });
    recorder.stop(libc::SIGTERM);
    let written = sql(&db, "SELECT written_bytes FROM runs");
    let least = before_stop.as_ref().map(|bytes| bytes.parse().unwrap());
    assert!(
        written.parse::<u64>().ok() >= least,
        "{written} of {least:?}"
    );
    let (code, said) = of(&db);
    assert_eq!(
        (code, &*said["state"], &*said["healthy"]),
        (1, "none", "no")
    );
    assert_eq!(said["reason"], format!("nobody records {}", db.display()));
}

#[test]
fn it_is_found_by_any_path_to_its_file_and_by_no_other() {
    let dir = Dir::new("status-paths");
    let (one, other) = (dir.file("one.db"), dir.file("other.db"));
    let first = record(&one, &[]);
    let second = record(&other, &[]);
    let pid_at = |db: &str| ask(db).1.get("pid").cloned();
    let folder = dir.path().to_str().unwrap();
    let link = dir.file("link.db");
    fs::create_dir(dir.file("sub")).unwrap();
    std::os::unix::fs::symlink(&one, &link).unwrap();
    for path in [
        format!("{folder}/one.db"),
        format!("{folder}/./sub/../one.db"),
        link.to_str().unwrap().to_owned(),
    ] {
        assert_eq!(pid_at(&path), Some(first.pid().to_string()), "{path}");
    }
    assert_eq!(
        pid_at(other.to_str().unwrap()),
        Some(second.pid().to_string())
    );
    assert_eq!(pid_at(&format!("{folder}/none.db")), None);

    // A relative path, and the variable.
    for with_flag in [true, false] {
        let mut command = Command::new(BINARY);
        command.arg("status").current_dir(dir.path());
        if with_flag {
            command.args(["--db", "one.db"]);
        } else {
            command.env("SEAWALL_DB", "one.db");
        }
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.contains(&format!("pid={}\n", first.pid())), "{told}");
    }
    // Recorded through the link, asked for by the file.
    first.stop(libc::SIGTERM);
    let third = record(&link, &[]);
    assert_eq!(pid_at(one.to_str().unwrap()), Some(third.pid().to_string()));
}

#[test]
fn an_answer_that_is_not_the_recorders_is_not_believed() {
    let dir = Dir::new("status-false");
    let db = dir.file("x.db");
    fs::write(&db, "").unwrap();
    let file = {
        let metadata = fs::metadata(&db).unwrap();
        format!("seawall-{:x}-{:x}", metadata.dev(), metadata.ino())
    };
    let address = SocketAddr::from_abstract_name(file.as_bytes()).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let liar = std::thread::spawn(move || {
        for text in ["hello\n", "state=recording\n", ""] {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::Write::write_all(&mut stream, text.as_bytes()).unwrap();
        }
    });
    for _ in 0..3 {
        let (code, said) = of(&db);
        assert_eq!(code, 1);
        let reason = &said["reason"];
        let is_known = ["what came is no report", "answers only those who may read"];
        assert!(
            is_known.iter().any(|known| reason.contains(known)),
            "{reason}"
        );
    }
    liar.join().unwrap();
}

#[test]
fn an_answer_that_comes_a_byte_at_a_time_is_not_waited_for() {
    let dir = Dir::new("status-dribble");
    let db = dir.file("x.db");
    fs::write(&db, "").unwrap();
    let file = fs::metadata(&db).unwrap();
    let name = format!("seawall-{:x}-{:x}", file.dev(), file.ino());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let dribbler = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Until the other end has had enough.
        while std::io::Write::write_all(&mut stream, b"s").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(100)); // the pause is the test
        }
    });
    let (code, said) = of(&db);
    assert_eq!(code, 1);
    assert!(said["reason"].contains("no report within"), "{said:?}");
    dribbler.join().unwrap();
}

#[test]
fn a_recorder_that_is_stopped_and_one_whose_backlog_is_full_are_not_waited_for() {
    let dir = Dir::new("status-stopped");
    let db = dir.file("x.db");
    let recorder = record(&db, &[]);
    let file = fs::metadata(&db).unwrap();
    let name = format!("seawall-{:x}-{:x}", file.dev(), file.ino());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    recorder.signal(libc::SIGSTOP);
    let ask_in_time = || {
        let began = Instant::now();
        let (code, said) = of(&db);
        assert_eq!(code, 1);
        assert!(said["reason"].contains("no report within"), "{said:?}");
        assert!(began.elapsed() < Duration::from_secs(7));
    };
    ask_in_time();
    // Until no more fit into the backlog, which one finds out by waiting.
    let (connected, more) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Ok(stream) = UnixStream::connect_addr(&address) {
            if connected.send(stream).is_err() {
                break;
            }
        }
    });
    let mut waiting = Vec::new();
    while let Ok(stream) = more.recv_timeout(Duration::from_millis(500)) {
        waiting.push(stream);
    }
    assert!(waiting.len() > 10, "{}", waiting.len());
    ask_in_time();
    recorder.signal(libc::SIGCONT);
    drop((waiting, more));
    until("it answers again", || (of(&db).0 == 0).then_some(()));
    assert_eq!(recorder.stop(libc::SIGTERM).code(), 0);
}

#[test]
fn commits_that_cannot_be_made_are_no_health() {
    let dir = Dir::new("status-locked");
    let db = dir.file("x.db");
    let recorder = record(
        &db,
        &[
            "--busy-timeout=100ms",
            "--source=sim:rate=100",
            "--commit-interval=100ms",
        ],
    );
    until("something is committed", || {
        (of(&db).1["committed"] != "0").then_some(())
    });
    let holder = Holder::start(&db, "BEGIN IMMEDIATE");
    let said = until("it is not healthy", || {
        let (code, said) = of(&db);
        (code == 1).then_some(said)
    });
    assert_eq!(said["state"], "waiting");
    assert!(said["reason"].starts_with("it fails, for 1"), "{said:?}");
    assert!(said["reason"].contains("database is locked"), "{said:?}");
    assert!(said["waiting_s"].parse::<u64>().unwrap() >= 10);
    assert_ne!(said["queued"], "0");
    assert_ne!(said["errors"], "0");
    holder.release();
    until("it is healthy again", || (of(&db).0 == 0).then_some(()));
    assert_eq!(recorder.stop(libc::SIGTERM).stopped()["dropped"], "0");
}

#[test]
fn a_database_set_aside_is_no_health_until_it_is_taken_away() {
    let dir = Dir::new("status-aside");
    let db = dir.file("x.db");
    make_damaged(&db);
    let recorder = record(&db, &[]);
    let (code, said) = of(&db);
    assert_eq!((code, &*said["set_aside"]), (1, "1"));
    assert!(said["reason"].contains(".damaged-*"), "{said:?}");
    for file in fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        if path.to_str().unwrap().contains(".damaged-") {
            fs::remove_file(path).unwrap();
        }
    }
    until("it is healthy", || (of(&db).0 == 0).then_some(()));
    recorder.stop(libc::SIGTERM);
}

#[test]
fn a_sampled_source_that_sees_nothing_is_no_health() {
    let dir = Dir::new("status-blind");
    let db = dir.file("x.db");
    let sys = dir.file("sys");
    fs::create_dir_all(sys.join("class")).unwrap();
    let source = format!("--source=sysfs:root={},interval=100ms", sys.display());
    let recorder = record(&db, &[&source]);
    // Its thread looks for the first time when the recorder is ready.
    let said = until("it is unhealthy", || {
        let (code, said) = of(&db);
        (code == 1).then_some(said)
    });
    assert_eq!(said["reason"], "sysfs finds no sensor that can be read");
    recorder.stop(libc::SIGTERM);
}

#[test]
fn who_asks_and_never_reads_or_asks_all_the_time_costs_no_reading() {
    let dir = Dir::new("status-flood");
    let db = dir.file("x.db");
    let recorder = record(&db, &["--source=sim:sensors=10,rate=100"]);
    let name = {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(&db).unwrap();
        format!("seawall-{:x}-{:x}", metadata.dev(), metadata.ino())
    };
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let mut kept = Vec::new();
    let mut answered = 0;
    for n in 0..3_000 {
        let Ok(mut stream) = UnixStream::connect_addr(&address) else {
            continue;
        };
        if n % 20 == 0 {
            kept.push(stream);
        } else {
            let mut text = String::new();
            answered += usize::from(stream.read_to_string(&mut text).is_ok());
        }
    }
    assert!(answered > 2_000, "{answered}");
    assert_eq!(of(&db).0, 0);
    drop(kept);
    let ended = recorder.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.stopped()["dropped"], "0");
    assert!(!ended.has("event=missed"), "{:#?}", ended.log);
}

/// Each metric once, with its help and type before it, a name and a number to the format's grammar.
#[test]
fn prometheus_reads_it() {
    let dir = Dir::new("status-prometheus");
    let db = dir.file("x\"y\\.db");
    let recorder = record(&db, &[]);
    let (code, out, _) = seawall(&[
        "status",
        "--format=prometheus",
        "--db",
        db.to_str().unwrap(),
    ]);
    assert_eq!(code, 0);
    let is_name = |name: &str| {
        name.starts_with("seawall_") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let mut kinds: HashMap<String, String> = HashMap::new();
    let mut values: HashMap<String, f64> = HashMap::new();
    let mut lines = out.lines();
    while let Some(help) = lines.next() {
        let help = help.strip_prefix("# HELP ").expect(help);
        let (name, text) = help.split_once(' ').unwrap();
        assert!(is_name(name) && !text.is_empty(), "{help}");
        let kind = lines.next().unwrap();
        let kind = kind.strip_prefix(&format!("# TYPE {name} ")).expect(kind);
        assert!(["gauge", "counter"].contains(&kind), "{kind}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        assert!(kinds.insert(name.into(), kind.into()).is_none(), "{name}");
        let sample = lines.next().unwrap();
        let (sampled, value) = sample.rsplit_once(' ').unwrap();
        let labels = sampled.strip_prefix(name).expect(sample);
        if name == "seawall_info" {
            let path = db
                .to_str()
                .unwrap()
                .replace('\\', "\\\\")
                .replace('"', "\\\"");
            assert!(
                labels.starts_with(&format!("{{db=\"{path}\",device=\"")),
                "{labels}"
            );
            assert!(labels.ends_with(",state=\"recording\"}"), "{labels}");
        } else {
            assert_eq!(labels, "");
        }
        values.insert(name.into(), value.parse().expect(value));
    }
    assert_eq!(values["seawall_healthy"], 1.0);
    assert_eq!(values["seawall_run"], 1.0);
    assert!(values["seawall_free_bytes"] > 0.0);
    assert!(values.len() >= 15, "{values:?}");
    recorder.stop(libc::SIGTERM);
    let (code, out, _) = seawall(&[
        "status",
        "--format=prometheus",
        "--db",
        db.to_str().unwrap(),
    ]);
    assert_eq!(code, 1);
    assert!(out.contains("\nseawall_healthy 0\n"), "{out}");
}

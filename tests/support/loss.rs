//! A recorder that is killed, and what the next start and `check` report of it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use seawall::place::mark;

use super::{Dir, Ended, Running, fields, seawall, sql, start_stdin, until};

/// Starts on stdin, where each line is committed by itself and its ack waited for.
pub struct Recorder {
    pub running: Running,
    pub sent: u64,
}

impl Recorder {
    pub fn start(db: &Path, more: &[&str]) -> Self {
        let running = start_stdin(db, more);
        running.wait_for("ready");
        Recorder { running, sent: 0 }
    }

    pub fn record(&mut self, lines: u64) {
        for _ in 0..lines {
            self.sent += 1;
            let line = format!("m v={}\n", self.sent);
            self.running.send(line.as_bytes());
            let sent = self.sent;
            until("the line is acknowledged", || {
                (self.running.acked() == sent).then_some(())
            });
        }
    }

    pub fn checkpoint(&self) {
        let told = |r: &Running| {
            r.log()
                .iter()
                .filter(|l| l.contains("cause=signal"))
                .count()
        };
        let before = told(&self.running);
        self.running.signal(libc::SIGUSR1);
        until("it is checkpointed", || {
            (told(&self.running) > before).then_some(())
        });
    }

    pub fn kill(self) {
        self.running.kill();
    }
}

/// A database whose recorder was killed after `lines` lines, of which the last three are in the -wal alone.
pub fn killed(dir: &Dir, lines: u64) -> PathBuf {
    let db = dir.file("x.db");
    let mut recorder = Recorder::start(&db, &[]);
    recorder.record(lines - 3);
    recorder.checkpoint();
    recorder.record(3);
    recorder.kill();
    db
}

pub fn beside(db: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", db.display()))
}

pub fn remove(db: &Path, end: &str) {
    fs::remove_file(beside(db, end)).unwrap();
}

/// One start, one reading, one stop.
pub fn next(db: &Path) -> Ended {
    next_with(db, &[])
}

pub fn next_with(db: &Path, more: &[&str]) -> Ended {
    let mut args = vec!["--db", db.to_str().unwrap(), "--source", "sim:count=1"];
    args.extend(more);
    Running::start(&args).wait()
}

/// What the start logged of the run before: its reason, and how many readings it holds.
#[track_caller]
pub fn recovered(ended: &Ended) -> (String, u64) {
    let told = recovered_fields(ended);
    (told["reason"].clone(), told["readings"].parse().unwrap())
}

#[track_caller]
pub fn recovered_fields(ended: &Ended) -> HashMap<String, String> {
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    let told = ended.log.iter().find(|l| l.contains(" event=recovered "));
    let told = fields(told.unwrap_or_else(|| panic!("{:#?}", ended.log)));
    let is_error = told["level"] == "error";
    assert_eq!(is_error, told["reason"] == "lost", "{told:?}");
    told
}

/// The start reported that run 1 has lost the readings `from_id` to `to_id`, and so does `check`, before any
/// further start and after it.
#[track_caller]
pub fn assert_lost(db: &Path, from_id: u64, to_id: u64) {
    let before = check(db);
    let ended = next(db);
    let told = recovered_fields(&ended);
    let count = (to_id - from_id + 1).to_string();
    assert_eq!(
        [
            &*told["reason"],
            &*told["missing"],
            &*told["from_id"],
            &*told["to_id"]
        ],
        ["lost", &*count, &*from_id.to_string(), &*to_id.to_string()],
        "{told:?}"
    );
    assert_eq!(told["readings"], (from_id - 1).to_string());
    assert_eq!(
        sql(
            db,
            "SELECT reason, lost_from_id, lost_to_id FROM runs WHERE id = 1"
        ),
        format!("lost|{from_id}|{to_id}")
    );
    let says =
        format!("gone: readings {from_id} to {to_id} ({count}) of run 1: they were committed,");
    assert_eq!((before.0, before.1.lines().count()), (1, 2), "{before:?}");
    assert!(before.1.starts_with(&says), "{before:?}");
    for _ in 0..2 {
        let (code, out) = check(db);
        let lines: Vec<_> = out.lines().collect();
        assert_eq!((code, lines.len()), (1, 2), "{out}");
        assert!(lines[0].starts_with(&says), "{out}");
        assert!(lines[1].starts_with("missing readings="), "{out}");
        assert!(lines[1].contains(" unclean=1"), "{out}");
        assert_eq!(next(db).code(), 0);
    }
    assert!(!mark::path_of(db).exists());
    assert!(aside(db).is_empty());
}

pub fn aside(db: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(db.parent().unwrap()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.to_str().unwrap().contains(".damaged-"))
        .collect()
}

pub fn check(db: &Path) -> (i32, String) {
    let (code, out, err) = seawall(&["check", "--full", "--db", db.to_str().unwrap()]);
    (code, out + &err)
}

#[track_caller]
pub fn assert_unclean(db: &Path, ended: &Ended, readings: u64) {
    assert_eq!(recovered(ended), ("unclean".into(), readings));
    let (code, out) = check(db);
    assert_eq!(code, 0, "{out}");
    assert!(aside(db).is_empty());
}

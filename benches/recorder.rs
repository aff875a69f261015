//! A running seawall, as the figures need it: started until it is ready, stopped, killed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::process;

pub const BINARY: &str = env!("CARGO_BIN_EXE_seawall");

/// The program of the image, which is built for size and static, where the caller has built it.
pub fn image_program() -> Option<OsString> {
    std::env::var_os("SEAWALL_IMAGE_PROGRAM")
}

pub struct Recorder {
    child: Child,
    pub stdin: Option<ChildStdin>,
    db: PathBuf,
    /// Its log to `event=ready`.
    pub started: Vec<String>,
    /// From the start to that line.
    pub to_ready: Duration,
    log: Receiver<String>,
}

/// What is left of one that was stopped.
pub struct Stopped {
    /// From SIGTERM to the exit.
    pub ms: f64,
    /// Its log, as far as nobody had waited for it.
    pub log: Vec<String>,
}

impl Recorder {
    pub fn start(db: &Path, options: &[&str]) -> Self {
        Self::spawn(Command::new(BINARY), db, options)
    }

    /// `program` may be another build, or have an environment of its own.
    pub fn spawn(mut program: Command, db: &Path, options: &[&str]) -> Self {
        let start = Instant::now();
        let mut child = program
            .args(["record", "--db"])
            .arg(db)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run seawall");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut started = Vec::new();
        while !started
            .last()
            .is_some_and(|l: &String| l.contains(" event=ready "))
        {
            let Some(line) = lines.next() else {
                panic!("it does not start: {started:#?}");
            };
            started.push(line.expect("the log"));
        }
        let to_ready = start.elapsed();
        // Read on, so that it never waits for its log.
        let (sender, log) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Recorder {
            stdin: child.stdin.take(),
            child,
            db: db.to_owned(),
            started,
            to_ready,
            log,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Until a line of the log has this in it.
    pub fn wait_for(&self, text: &str) {
        let mut lines = self.log.iter();
        assert!(lines.any(|line| line.contains(text)), "no {text}");
    }

    /// Leaves the file.
    pub fn stop(mut self) -> Stopped {
        let ms = process::terminate(&mut self.child);
        let log: Vec<String> = self.log.iter().collect();
        let status = self.child.wait().expect("wait for seawall");
        assert!(status.success(), "{status}: {log:#?}");
        Stopped { ms, log }
    }

    /// Stops it, and removes what it recorded.
    pub fn discard(self) -> Stopped {
        let db = self.db.clone();
        let stopped = self.stop();
        remove(&db);
        stopped
    }

    pub fn kill(mut self) {
        self.child.kill().expect("kill seawall");
        self.child.wait().expect("wait for seawall");
    }
}

/// Records lines of a file to its end.
pub fn record_file(db: &Path, lines: &Path, more: &[&str]) -> Command {
    record_file_by(BINARY.as_ref(), db, lines, more)
}

pub fn record_file_by(program: &OsStr, db: &Path, lines: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(["record", "--source", "stdin", "--log-level", "warn", "--db"])
        .arg(db)
        .args(more)
        .stdin(File::open(lines).expect("open the lines"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

pub fn remove(db: &Path) {
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", db.display()));
    }
}

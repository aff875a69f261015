//! `status`: asks the running recorder over a local socket and prints its report.
//!
//! The socket is named after device and inode of the file, so that every path and every link to it leads to its
//! recorder, and a file of the same path in another container does not. To look them up needs no disk where a
//! recorder has the file open: the kernel holds the inodes in memory, so that `status` answers while the disk
//! hangs. A filesystem that asks a server (FUSE) may keep the look-up waiting as long as the server hangs; the
//! container engine then counts the health check as failed by its own time limit. From there on everything ends
//! within `ANSWER_WAIT`.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::answer::print;
use crate::exit::Status;
use crate::place;
use crate::record::status::report::Report;
use crate::record::status::server::socket_name;
use crate::sys;
use crate::words::words;

/// The command waits no longer than this for a report. The recorder writes it between two looks at its sources.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Between two tries to reach a recorder whose backlog is full.
const CONNECT_AGAIN: Duration = Duration::from_millis(50);
/// Upper bound on the length of a report.
const REPORT_BYTES_MAX: usize = 64 * 1024;

words!(StatusFormat: Text = "text", Prometheus = "prometheus");

#[derive(Clone, Debug, PartialEq)]
pub struct StatusSettings {
    pub db: PathBuf,
    pub format: StatusFormat,
}

pub fn run(settings: &StatusSettings) -> Status {
    let report = match ask(&settings.db, Instant::now() + ANSWER_WAIT) {
        Ok(report) => report,
        Err(reason) => Report::none(&absolute(&settings.db), &reason),
    };
    let text = match settings.format {
        StatusFormat::Text => report.text(),
        StatusFormat::Prometheus => report.prometheus(),
    };
    match print(text.trim_end()) {
        Status::Done if !report.is_healthy() => Status::Failed,
        printed => printed,
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn ask(db: &Path, deadline: Instant) -> Result<Report, String> {
    let nobody = || format!("nobody records {}", absolute(db).display());
    let file = fs::metadata(db).map_err(|e| format!("{}: {e}", nobody()))?;
    let name = socket_name((file.dev(), file.ino()));
    let answer = match read_answer(&name, file.uid(), deadline) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused && place::is_recorded(db) => {
            if let Some(other) = place::lock::holder(&file).filter(|by| !by.is_recorder()) {
                return Err(format!("{}; {other} holds its lock (flock)", nobody()));
            }
            return Err("somebody records it who cannot be asked from here: ask in the recorder's container or network namespace".into());
        }
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => return Err(nobody()),
        answer => answer,
    };
    if answer.as_ref().is_ok_and(String::is_empty) {
        return Err("the recorder answers only those who may read the database".into());
    }
    let report = answer.map(|text| Report::parse(&text));
    match report {
        Ok(Some(report)) => Ok(report),
        Ok(None) => Err("the recorder does not answer: what came is no report".into()),
        Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(format!(
            "the recorder does not answer: no report within {}s",
            ANSWER_WAIT.as_secs()
        )),
        Err(e) => Err(format!("the recorder does not answer: {e}")),
    }
}

/// Whoever listens has until the deadline: it may be stopped, or send a byte at a time.
fn read_answer(name: &[u8], owner: u32, deadline: Instant) -> io::Result<String> {
    let left = || match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut stream = loop {
        match sys::connect_now(name) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(CONNECT_AGAIN.min(left()?));
            }
            connected => break UnixStream::from(connected?),
        }
    };
    // The name is no secret: a stranger may have bound it where nobody records.
    let uid = sys::peer_credentials(stream.as_raw_fd()).map(|peer| peer.uid);
    if !uid.is_some_and(|uid| uid == 0 || uid == sys::user_and_group().0 || uid == owner) {
        return Err(io::Error::other(format!(
            "who answers is of user {}, and neither root, nor this user, nor the owner of the database",
            uid.map_or("unknown".into(), |uid| uid.to_string())
        )));
    }
    stream.set_nonblocking(false)?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while answer.len() < REPORT_BYTES_MAX {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&part[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(e) => return Err(e),
        }
    }
    String::from_utf8(answer).map_err(io::Error::other)
}

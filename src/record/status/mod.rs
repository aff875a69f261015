//! `status`: what the running recorder is doing, asked over a local socket that needs no file.
//!
//! The recorder answers whoever connects with its report and closes; the command reads it and decides
//! nothing but how to print it. The socket has two names in Linux's abstract namespace: one of the path as it was
//! given, which the command finds without touching the disk, and one of the file itself, for whoever gives
//! another path to it.

mod facts;
mod report;
mod server;

pub use facts::{Facts, HEALTH_LIMIT, report};
pub use report::Report;
pub use server::Server;

use std::fmt::Display;
use std::fs;
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::{StatusFormat, StatusSettings};
use crate::exit::Status;

/// How long the command waits for an answer. The recorder gives it between two looks at its sources.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// No report is longer; what is, is not one.
const REPORT_BYTES_MAX: u64 = 64 * 1024;

/// One of the names that a recorder answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Of a path as it was given, in this mount namespace: in another container it is another file.
    pub fn of_path(db: &Path) -> Self {
        let mounts = fs::metadata("/proc/self/ns/mnt").map_or(0, |ns| ns.ino());
        let path = normal(db);
        // FNV-1a: the name has to be short, and who has it is looked at in the answer.
        let hash = path
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        Name(format!("seawall-{mounts:x}-{hash:016x}"))
    }

    pub fn of_file((device, inode): (u64, u64)) -> Self {
        Name(format!("seawall-file-{device:x}-{inode:x}"))
    }

    fn address(&self) -> io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(self.0.as_bytes())
    }
}

/// The absolute path without `.` and `..`, by its text alone: the disk may be what does not answer.
fn normal(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut normal = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

/// Asks the recorder of a database and prints what it says.
pub fn status(settings: &StatusSettings) -> Status {
    let mut report = match ask_in_time(&settings.db) {
        Ok(report) => report,
        Err(reason) => Report::none(&normal(&settings.db), &reason),
    };
    report.forget_names();
    let text = match settings.format {
        StatusFormat::Text => report.text(),
        StatusFormat::Prometheus => report.prometheus(),
    };
    let printed = crate::commands::print(text.trim_end());
    match printed {
        Status::Done if !report.is_healthy() => Status::Failed,
        printed => printed,
    }
}

/// Within `ANSWER_WAIT`, whoever has the name: somebody else may dribble, or not even let one connect.
fn ask_in_time(db: &Path) -> Result<Report, String> {
    let answer = Arc::new(Mutex::new(None));
    let (waiting, given, path) = (thread::current(), answer.clone(), db.to_owned());
    thread::spawn(move || {
        let asked = ask(&path);
        *given.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        waiting.unpark();
    });
    let until = Instant::now() + ANSWER_WAIT;
    loop {
        let given = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(asked) = given {
            return asked;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(cannot(&format_args!("no report within {ANSWER_WAIT:?}")));
        }
        thread::park_timeout(left);
    }
}

fn cannot(why: &dyn Display) -> String {
    format!("the recorder does not answer: {why}")
}

fn ask(db: &Path) -> Result<Report, String> {
    let name = Name::of_path(db);
    if let Some(report) = ask_at(&name)? {
        return Ok(report);
    }
    let nobody = || format!("nobody records {}", normal(db).display());
    let file = fs::metadata(db).map_err(|e| format!("{}: {e}", nobody()))?;
    let name = Name::of_file((file.dev(), file.ino()));
    ask_at(&name)?.ok_or_else(nobody)
}

/// None where nobody has the name.
fn ask_at(name: &Name) -> Result<Option<Report>, String> {
    let address = name.address().map_err(|e| cannot(&e))?;
    let stream = match UnixStream::connect_addr(&address) {
        Ok(stream) => stream,
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
        Err(e) => return Err(cannot(&e)),
    };
    let mut answer = String::new();
    let asked = stream.take(REPORT_BYTES_MAX).read_to_string(&mut answer);
    asked.map_err(|e| cannot(&e))?;
    let report = Report::parse(&answer).ok_or_else(|| cannot(&"what came is no report"))?;
    // Names are hashes, and anybody may take any name.
    if report.names().any(|of| of == name.0) {
        Ok(Some(report))
    } else {
        Err(cannot(&"another program does"))
    }
}

/// Writes what fits; never waits.
fn answer(stream: &mut UnixStream, text: &str) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_name_however_it_is_written() {
        let name = |path: &str| Name::of_path(Path::new(path));
        assert_eq!(name("/app/data/x.db"), name("/app/./data/../data/x.db"));
        assert_eq!(name("x.db"), name("./x.db"));
        assert_ne!(name("/app/x.db"), name("/app/y.db"));
        assert_eq!(normal(Path::new("/../a")), Path::new("/a"));
    }
}

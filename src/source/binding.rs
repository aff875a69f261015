//! The sockets that the `--source` options ask for: bound one after the other, and announced.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use crate::log;
use crate::place::filesystem;
use crate::source::datagrams::Datagrams;
use crate::source::http::Rules;
use crate::source::listener::Listener;
use crate::source::spec::{Door, SourceSpec};

const TOKEN_BYTES_MAX: usize = 512;
/// Upper bound on what is read, white space around the token included.
const TOKEN_FILE_BYTES_MAX: u64 = 4096;

/// Binds the sockets of the specs. Accepts nothing yet.
pub fn bind(
    specs: &[SourceSpec],
    http_wait: Duration,
) -> Result<(Vec<Listener>, Vec<Datagrams>), String> {
    let (mut listeners, mut datagrams) = (Vec::new(), Vec::new());
    for spec in specs {
        match spec {
            SourceSpec::Unix {
                path,
                mode,
                precision,
            } => listeners.push(Listener::unix("unix", path, *mode, *precision)?),
            SourceSpec::Tcp { port, precision } => {
                listeners.push(Listener::tcp("tcp", port, *precision)?)
            }
            SourceSpec::Http {
                door,
                token_file,
                precision,
            } => {
                let mut listener = match door {
                    Door::Unix { path, mode } => {
                        Listener::unix("http:unix", path, *mode, *precision)?
                    }
                    Door::Tcp(port) => Listener::tcp("http", port, *precision)?,
                };
                listener.speak_http(Rules {
                    token: token_file.as_deref().map(token).transpose()?,
                    precision: *precision,
                    wait: http_wait,
                });
                listeners.push(listener);
            }
            SourceSpec::Udp { port, precision } => {
                datagrams.push(Datagrams::bind(port, *precision)?)
            }
            SourceSpec::Sim(_) | SourceSpec::Sysfs { .. } | SourceSpec::Stdin { .. } => {}
        }
    }
    Ok((listeners, datagrams))
}

/// Logs the addresses, with ports that the system chose.
pub fn announce(listeners: &[Listener], datagrams: &[Datagrams]) {
    let say = |name: &str, address: &str| {
        let fields: [log::Field; 2] = [("source", &name), ("address", &address)];
        log::info("listening", &fields);
        let is_loopback = ["127.", "[::1]"].iter().any(|of| address.starts_with(of));
        let kind = name.split(':').next().unwrap_or_default();
        if is_loopback && kind != "unix" && filesystem::is_container() {
            let port = address.rsplit(':').next().unwrap_or_default();
            let reason = format!(
                "this is a container's own loopback, which no published port (-p) leads to; for that: {kind}:0.0.0.0:{port}"
            );
            log::warn("only-loopback", &[fields[0], ("reason", &reason)]);
        }
    };
    listeners.iter().for_each(|l| say(&l.name, &l.address));
    datagrams.iter().for_each(|d| say(&d.name, &d.address));
    for listener in listeners.iter().filter(|l| l.is_open_to_all()) {
        let reason =
            "who reaches this port can write: give token-file=PATH, or a host of this machine";
        let fields: [log::Field; 2] = [("source", &listener.name), ("reason", &reason)];
        log::warn("open-to-all", &fields);
    }
}

/// The token in a file: its only line.
fn token(path: &Path) -> Result<Vec<u8>, String> {
    let cannot =
        |reason: &dyn Display| format!("cannot take a token from {}: {reason}", path.display());
    let mut text = Vec::new();
    // Some files have no end.
    let file = File::open(path).map(|file| file.take(TOKEN_FILE_BYTES_MAX));
    let read = file.and_then(|mut file| file.read_to_end(&mut text));
    read.map_err(|e| cannot(&e))?;
    let token = text.trim_ascii();
    let is_good = |b: &u8| b.is_ascii_graphic();
    match (1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.iter().all(is_good) {
        true => Ok(token.to_vec()),
        false => Err(cannot(
            &"it is not one line of 1 to 512 printable characters without spaces",
        )),
    }
}

//! The recorder's side of `status`: one listening socket in the one `ppoll`. A connection receives the report
//! and is closed.
//!
//! No reading is lost for the report: without the socket the recorder logs that and goes on, and at most a
//! few connections are answered in one turn.

use std::fs::Metadata;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::log;
use crate::sys::{self, Watch};

/// Answers in one turn of the recorder's loop.
const ANSWERS_EACH_TURN: usize = 4;

#[derive(Default)]
pub struct Server {
    listener: Option<UnixListener>,
    /// Device and inode of the database that the socket is named after.
    file: Option<(u64, u64)>,
    /// Owner, group and mode of the database at the start: who may read it is answered.
    readers: Option<(u32, u32, u32)>,
    /// Somebody connected.
    pub is_ready: bool,
}

impl Server {
    pub fn set_readers(&mut self, file: &Metadata) {
        self.readers = Some((file.uid(), file.gid(), file.mode()));
    }

    fn may_ask(&self, peer: &sys::Credentials) -> bool {
        let Some((uid, gid, mode)) = self.readers else {
            return true;
        };
        let is_owner = [0, uid, sys::user_and_group().0].contains(&peer.uid);
        is_owner || mode & 0o004 != 0 || (mode & 0o040 != 0 && peer.gid == gid)
    }

    /// Listens under the name of this database. Called again when a start replaced a damaged file.
    pub fn listen(&mut self, file: (u64, u64)) {
        if self.file == Some(file) {
            return;
        }
        self.file = Some(file);
        self.listener = match bind(file) {
            Ok(listener) => Some(listener),
            Err(e) => {
                let reason = "recording goes on, but `seawall status` cannot ask";
                log::warn("no-status", &[("error", &e), ("reason", &reason)]);
                None
            }
        };
    }

    pub fn watch(&self) -> Watch {
        Watch::readable(
            self.listener
                .as_ref()
                .map_or(sys::NO_FD, AsRawFd::as_raw_fd),
        )
    }

    /// Answers those who connected.
    pub fn answer(&mut self, text: &str) {
        self.is_ready = false;
        for _ in 0..ANSWERS_EACH_TURN {
            let accepted = self.listener.as_ref().map(UnixListener::accept);
            let Some(Ok((mut stream, _))) = accepted else {
                break;
            };
            let peer = sys::peer_credentials(stream.as_raw_fd());
            if !peer.is_some_and(|peer| self.may_ask(&peer)) {
                continue;
            }
            // Writes what fits and never waits. A client that went away needs no answer.
            let _ = stream
                .set_nonblocking(true)
                .and_then(|()| stream.write_all(text.as_bytes()));
        }
    }
}

/// Name of a recorder's socket, in Linux's abstract namespace: device and inode of the database, so that every path to
/// the file leads to it. Begins with NUL, as the kernel writes abstract names.
pub fn socket_name((device, inode): (u64, u64)) -> Vec<u8> {
    format!("\0seawall-{device:x}-{inode:x}").into_bytes()
}

fn bind(file: (u64, u64)) -> io::Result<UnixListener> {
    let name = socket_name(file);
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name[1..])?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

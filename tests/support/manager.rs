//! A service manager that the test plays: the datagram socket that `NOTIFY_SOCKET` names, of either kind.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::until;

pub struct Manager {
    socket: UnixDatagram,
    /// As `NOTIFY_SOCKET` has it.
    pub name: String,
    /// Lines of all datagrams so far.
    pub heard: Vec<String>,
}

impl Manager {
    pub fn at(path: &Path) -> Self {
        Self::on(
            &SocketAddr::from_pathname(path).unwrap(),
            path.display().to_string(),
        )
    }

    pub fn abstract_one(path: &Path) -> Self {
        let name = path.display().to_string();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self::on(&address, format!("@{name}"))
    }

    fn on(address: &SocketAddr, name: String) -> Self {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(10)))
            .unwrap();
        let heard = Vec::new();
        Manager {
            socket,
            name,
            heard,
        }
    }

    /// Fills the queue with datagrams that mean nothing: as many senders as it takes, each of which is bounded itself.
    pub fn fill(&self) {
        let address = self.socket.local_addr().unwrap();
        loop {
            let sender = UnixDatagram::unbound().unwrap();
            sender.set_nonblocking(true).unwrap();
            let sends = || sender.send_to_addr(b"X_FILLS=1\n", &address).is_ok();
            if !sends() {
                break;
            }
            while sends() {}
        }
    }

    pub fn of(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", &self.name);
    }

    /// Takes one datagram, if one comes soon.
    fn take(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let Ok(n) = self.socket.recv(&mut bytes) else {
            return false;
        };
        let text = std::str::from_utf8(&bytes[..n]).unwrap();
        self.heard.extend(text.lines().map(str::to_owned));
        true
    }

    /// Takes what has come already.
    pub fn drain(&mut self) -> &[String] {
        while self.take() {}
        &self.heard
    }

    pub fn count(&self, line: &str) -> usize {
        self.heard
            .iter()
            .filter(|heard| heard.starts_with(line))
            .count()
    }

    /// Until a line that begins so has come once more.
    pub fn wait_for(&mut self, line: &str) -> String {
        let from = self.heard.len();
        until(&format!("{line} is heard"), || {
            self.drain();
            let mut new = self.heard[from..].iter();
            new.rfind(|heard| heard.starts_with(line)).cloned()
        })
    }
}

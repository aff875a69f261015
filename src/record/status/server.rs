//! The recorder's side: two listening sockets in the one `ppoll`, each answered at once and closed.
//!
//! Nothing here is worth a reading: a socket that cannot be had is told and done without, and in one turn
//! no more than a few are answered, however many ask.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use super::{Name, answer};
use crate::log;
use crate::sys::Watch;

/// Answers in one turn of the recorder's loop.
const ANSWERS_EACH_TURN: usize = 4;

#[derive(Default)]
pub struct Server {
    listeners: Vec<(Name, UnixListener)>,
    /// Where in the list of the last wait they stand.
    first_watch: usize,
}

impl Server {
    /// Answers to one more name.
    pub fn listen(&mut self, name: Name) {
        match bind(&name) {
            Ok(listener) => self.listeners.push((name, listener)),
            Err(e) => {
                let reason = "it is recorded all the same, but `seawall status` may not find it";
                log::warn("no-status", &[("error", &e), ("reason", &reason)]);
            }
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.listeners.iter().map(|(name, _)| name.0.as_str())
    }

    pub fn watch(&mut self, watches: &mut Vec<Watch>) {
        self.first_watch = watches.len();
        let listeners = self.listeners.iter();
        watches.extend(listeners.map(|(_, listener)| Watch::readable(listener.as_raw_fd())));
    }

    /// Whether somebody asked, by what the wait said.
    pub fn is_asked(&self, watches: &[Watch]) -> bool {
        let end = self.first_watch + self.listeners.len();
        let ours = watches.get(self.first_watch..end);
        ours.is_some_and(|ours| ours.iter().any(Watch::ready))
    }

    pub fn answer(&self, text: &str) {
        for (_, listener) in &self.listeners {
            for _ in 0..ANSWERS_EACH_TURN {
                let Ok((mut stream, _)) = listener.accept() else {
                    break;
                };
                // One who does not want it any more has gone, and that is all.
                let _ = answer(&mut stream, text);
            }
        }
    }
}

fn bind(name: &Name) -> io::Result<UnixListener> {
    let listener = UnixListener::bind_addr(&name.address()?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

//! Who is let in: connections are accepted while there are places, and one that is idle for long makes place.

use std::io;
use std::time::{Duration, Instant};

use super::{IDLE_MIN, Sockets, tell};
use crate::log;
use crate::source::client::Client;

/// Upper bound on connections accepted from one socket in a turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Pause after the system had no descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

impl Sockets {
    /// Accepts waiting connections.
    pub fn accept(&mut self, now: Instant) {
        for n in 0..self.listeners.len() {
            if std::mem::take(&mut self.listeners[n].is_ready) {
                self.accept_from(n, now);
            }
        }
    }

    fn accept_from(&mut self, listener: usize, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            let from = &self.listeners[listener];
            let (socket, peer) = match from.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // It was gone before it was accepted.
                Err(e) if is_of_one_connection(&e) => continue,
                Err(e) => {
                    self.accept_again = Some(now + ACCEPT_PAUSE);
                    let fields: [log::Field; 2] = [("source", &from.name), ("reason", &e)];
                    self.told.refusals.warn("cannot-accept", &fields);
                    return;
                }
            };
            let (name, precision) = (from.name.clone(), from.precision);
            let rules = from.rules.clone();
            let rules = rules.as_ref();
            if self.clients.len() >= self.connections_max && !self.close_idlest(now) {
                let reason = format!("there are {} connections already", self.clients.len());
                let limit = &mut self.told.refusals;
                tell(limit, "client-refused", &name, &peer.name, &reason);
                Client::new(socket, 0, listener, precision, rules, peer, now).refuse(0, &reason);
                continue;
            }
            let fields: [log::Field; 2] = [("source", &name), ("client", &peer.name)];
            log::debug("client-connected", &fields);
            let id = self.next_stream;
            let client = Client::new(socket, id, listener, precision, rules, peer, now);
            self.next_stream += 1;
            self.clients.push(client);
        }
    }

    /// Closes the longest idle connection. Returns false if none was idle for long enough.
    fn close_idlest(&mut self, now: Instant) -> bool {
        let idle = self.clients.iter().enumerate().filter_map(|(n, client)| {
            let since = client.idle_since(now)?;
            Some((now.saturating_duration_since(since), n))
        });
        let Some((idle_for, n)) = idle
            .filter(|(idle_for, _)| *idle_for >= IDLE_MIN)
            .max_by_key(|(idle_for, _)| *idle_for)
        else {
            return false;
        };
        let seconds = idle_for.as_secs();
        let reason = format!("idle for {seconds} s, and others wait for a connection");
        self.refuse(n, "client-closed-idle", 0, &reason);
        self.remove_closed();
        true
    }
}

fn is_of_one_connection(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
    )
}

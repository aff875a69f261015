//! All sockets of a recorder: listeners, connections, whose turn it is. Runs in the recorder's
//! thread, which waits for all of them in its one `ppoll`; a thread at the end removes the files.
//!
//! Connections are read one at a time into shared memory, and none while another waits for room, so that
//! a thousand connections hold little more than their unfinished lines.

mod accepting;

use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::log::{self, Limit};
use crate::reading::Hello;
use crate::reading::stream::Intake;
use crate::source::binding;
use crate::source::client::Client;
use crate::source::datagrams::Datagrams;
use crate::source::http::Http;
use crate::source::http::reply::Health;
use crate::source::lines::another_users;
use crate::source::listener::{Listener, Removal, SocketFile};
use crate::source::notices::tell_rejected;
use crate::source::old_times;
use crate::source::places::{self, INFLATING_MAX};
use crate::source::protocol::{Memory, Turn};
use crate::source::spec::SourceSpec;
use crate::store::ack::{Ack, Resume};
use crate::sys::{self, Watch};

/// Connections at one time, over all sockets.
pub const CONNECTIONS_MAX: usize = 1024;
/// When all places are taken, a new connection replaces the one that is idle longest, and for at least this
/// time.
pub const IDLE_MIN: Duration = Duration::from_secs(10);
/// Upper bound on unfinished lines of all connections, and on answers to them; beyond it the largest holder is closed.
pub const HELD_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Descriptors reserved for files, listeners and libraries.
const DESCRIPTORS_BESIDE: u64 = 64;
/// Interval at which the kernel's drop counters are read.
const DROPS_PERIOD: Duration = Duration::from_secs(1);

/// Stream number of the first connection; stdin has the one before.
const FIRST_STREAM: u64 = 1;

#[derive(Debug)]
pub struct Sockets {
    listeners: Vec<Listener>,
    datagrams: Vec<Datagrams>,
    /// By stream number, which is the order of arrival.
    clients: Vec<Client>,
    next_stream: u64,
    connections_max: usize,
    /// Index of the client whose turn is first.
    turn: usize,
    memory: Memory,
    /// Owner of each descriptor of the last wait.
    watched: Vec<Watched>,
    accept_again: Option<Instant>,
    /// When to read the kernel's drop counters; `None` while no datagram comes, so that nothing wakes.
    next_drops: Option<Instant>,
    told: Told,
    removal: Option<Removal>,
}

#[derive(Debug, Default)]
struct Told {
    rejections: Limit,
    refusals: Limit,
}

#[derive(Clone, Copy, Debug)]
enum Watched {
    Listener(usize),
    Datagrams(usize),
    Client(usize),
}

impl Sockets {
    /// Binds the sockets of the specs. Accepts nothing yet.
    pub fn bind(specs: &[SourceSpec], http_wait: Duration) -> Result<Self, String> {
        let (listeners, datagrams) = binding::bind(specs, http_wait)?;
        let mut sockets = Sockets {
            listeners,
            datagrams,
            clients: Vec::new(),
            next_stream: FIRST_STREAM,
            connections_max: CONNECTIONS_MAX,
            turn: 0,
            memory: Memory::default(),
            watched: Vec::new(),
            accept_again: None,
            next_drops: None,
            told: Told::default(),
            removal: None,
        };
        if !sockets.listeners.is_empty() {
            // One more than the limit can be accepted, to be refused with a reason.
            let wanted = CONNECTIONS_MAX as u64 + DESCRIPTORS_BESIDE;
            let allowed = sys::allow_descriptors(wanted).unwrap_or(wanted);
            let for_clients = allowed.saturating_sub(DESCRIPTORS_BESIDE).max(1);
            sockets.connections_max = CONNECTIONS_MAX.min(for_clients as usize);
        }
        Ok(sockets)
    }

    /// Logs the addresses, with ports that the system chose.
    pub fn announce(&self) {
        binding::announce(&self.listeners, &self.datagrams);
    }

    pub fn is_empty(&self) -> bool {
        self.sources() == 0
    }

    /// Number of `--source` options that are sockets.
    pub fn sources(&self) -> usize {
        self.listeners.len() + self.datagrams.len()
    }

    /// Files of the unix sockets.
    pub fn files(&self) -> Vec<SocketFile> {
        let files = self.listeners.iter().filter_map(Listener::file);
        files.cloned().collect()
    }

    /// Lines of a client wait for room.
    pub fn is_blocked(&self) -> bool {
        self.clients.iter().any(Client::is_blocked)
    }

    /// All lines that were read are taken, and every `# client` line is answered.
    pub fn is_drained(&self) -> bool {
        self.clients.iter().all(Client::is_drained)
    }

    /// Adds descriptors to wait for: for input if `reads`, for connections if `accepts`, and for answers.
    pub fn watch(&mut self, watches: &mut Vec<Watch>, reads: bool, accepts: bool, now: Instant) {
        self.watched.clear();
        let mut add = |which, watch| {
            self.watched.push(which);
            watches.push(watch);
        };
        self.accept_again = self.accept_again.filter(|&at| at > now);
        if reads && accepts && self.accept_again.is_none() {
            for (n, listener) in self.listeners.iter().enumerate() {
                add(Watched::Listener(n), Watch::readable(listener.fd()));
            }
        }
        if reads {
            for (n, datagrams) in self.datagrams.iter().enumerate() {
                add(Watched::Datagrams(n), Watch::readable(datagrams.fd()));
            }
        }
        let reads = reads && !self.clients.iter().any(Client::is_blocked);
        for (n, client) in self.clients.iter().enumerate() {
            let watch = Watch::of(client.fd(), reads && client.is_open(), client.has_answer());
            // Without an event to wait for, a closed one would be ready for ever.
            if let Some(watch) = watch {
                add(Watched::Client(n), watch);
            }
        }
    }

    /// Stores which descriptors are ready, in the order in which `watch` added them.
    pub fn note(&mut self, watches: &[Watch]) {
        for (which, watch) in self.watched.iter().zip(watches) {
            match *which {
                Watched::Listener(n) => self.listeners[n].is_ready = watch.ready(),
                Watched::Datagrams(n) => self.datagrams[n].is_ready = watch.ready(),
                Watched::Client(n) => self.clients[n].is_ready = watch.is_readable(),
            }
        }
    }

    /// When something is due although nothing is ready.
    pub fn next(&self) -> Option<Instant> {
        let gives_up = self.clients.iter().filter_map(Client::gives_up);
        gives_up
            .chain(self.accept_again)
            .chain(self.next_drops)
            .min()
    }

    /// Logs why a connection is closed, tells the client, and closes it.
    fn refuse(&mut self, n: usize, event: &str, line: u64, reason: &str) {
        let client = &mut self.clients[n];
        let source = &self.listeners[client.source].name;
        tell(
            &mut self.told.refusals,
            event,
            source,
            &client.peer.name,
            &reason,
        );
        client.refuse(line, reason);
    }

    /// Takes lines of clients that are ready or waited for room.
    pub fn take(&mut self, to: &mut Intake<'_>, now: Instant) {
        let count = self.clients.len();
        let first = self.turn;
        let mut held: usize = self.clients.iter().map(Client::held_bytes).sum();
        let mut inflating = places::taken(&self.clients);
        for n in (0..count).map(|n| (first + n) % count) {
            let client = &mut self.clients[n];
            let may_inflate = inflating < INFLATING_MAX;
            if !client.wants_turn(may_inflate) {
                continue;
            }
            held -= client.held_bytes();
            let inflates = client.inflates();
            let may_inflate = may_inflate || inflates;
            inflating -= usize::from(inflates);
            let (limit, memory) = (&mut self.told.rejections, &mut self.memory);
            let of = &mut self.listeners[client.source];
            let (source, is_told, peer) = (&of.name, &mut of.is_old_told, client.peer.name.clone());
            let turn = old_times::watch(is_told, source, of.precision, to, |to| {
                client.turn(memory, to, now, may_inflate, &mut |line, text, reason| {
                    tell_rejected(limit, source, Some(&peer), (line, text, reason));
                })
            });
            held += client.held_bytes();
            inflating += usize::from(client.inflates());
            match turn {
                Turn::Done => {}
                Turn::NoRoom => {
                    self.turn = n;
                    return;
                }
                Turn::Hello(hello) => {
                    if self.supersede(&hello) {
                        to.batch.hello(hello);
                    }
                }
                Turn::Refused(reason) => {
                    let limit = &mut self.told.refusals;
                    tell(limit, "client-refused", source, &peer, &reason);
                }
            }
            // Within the turn: a thousand clients that each read once hold too much.
            if held > HELD_BYTES_MAX {
                held = self.hold_less();
            }
        }
        self.turn = (self.turn + 1) % count.max(1);
    }

    /// Takes datagrams into `to`, which drops readings without room. Returns datagrams that the kernel
    /// dropped since its counters were last read.
    pub fn take_datagrams(&mut self, is_last: bool, to: &mut Intake<'_>, now: Instant) -> u64 {
        for datagrams in &mut self.datagrams {
            if datagrams.is_ready {
                self.next_drops.get_or_insert(now + DROPS_PERIOD);
            }
            let name = datagrams.name.clone();
            let limit = &mut self.told.rejections;
            datagrams.turn(
                is_last,
                &mut self.memory.lines,
                to,
                &mut |line, text, reason| {
                    tell_rejected(limit, &name, None, (line, text, reason));
                },
            );
        }
        if !is_last && self.next_drops.is_none_or(|at| now < at) {
            return 0;
        }
        self.next_drops = None;
        self.datagrams.iter_mut().map(Datagrams::dropped).sum()
    }

    /// Closes an older connection of the same client: it may be dead without knowing
    /// it. Its lines were taken before the newer one's hello. Returns false if the older one is another user's, and
    /// the newer one is refused.
    fn supersede(&mut self, hello: &Hello) -> bool {
        let name = &hello.name;
        let is_older = |client: &Client| {
            client.id() != hello.stream && !client.is_over() && client.name() == Some(name)
        };
        let Some(older) = self.clients.iter().position(is_older) else {
            return true;
        };
        if self.clients[older].peer.uid != hello.uid {
            if let Some(newer) = self.index_of(hello.stream) {
                self.refuse(newer, "client-refused", 1, &another_users(name));
            }
            return false;
        }
        let reason = format!("another connection came as client {name}, which has it from here on");
        if self.clients[older].has_ended() {
            self.clients[older].refuse(0, &reason);
        } else {
            self.refuse(older, "client-superseded", 0, &reason);
        }
        true
    }

    /// Closes the largest holders until all hold less than the bound. Returns what they hold.
    fn hold_less(&mut self) -> usize {
        loop {
            let clients = self.clients.iter().enumerate();
            let open = clients.filter(|(_, client)| !client.is_over());
            let holders = open.map(|(n, client)| (client.held_bytes(), n));
            let held = holders.clone().map(|(bytes, _)| bytes).sum();
            let Some((_, most)) = holders.max().filter(|_| held > HELD_BYTES_MAX) else {
                return held;
            };
            let reason = format!(
                "unfinished lines and answers of all connections hold {held} bytes, and this one most of them"
            );
            self.refuse(most, "client-refused", 0, &reason);
        }
    }

    /// A client goes on without input. None does before the one whose lines wait for room.
    pub fn can_go_on(&self) -> bool {
        if self.is_blocked() {
            return false;
        }
        let has_place = places::taken(&self.clients) < INFLATING_MAX;
        let mut requests = self.clients.iter().filter_map(Client::http);
        requests.any(|http| http.can_go_on(has_place))
    }

    /// A client asks for the health or the metrics.
    pub fn asks_health(&self) -> bool {
        let mut requests = self.clients.iter().filter_map(Client::http);
        requests.any(Http::asks)
    }

    pub fn answer_health(&mut self, health: &Health) {
        for client in &mut self.clients {
            client.answer_health(health);
        }
    }

    pub fn put(&mut self, ack: Ack) {
        if let Some(n) = self.index_of(ack.stream()) {
            self.clients[n].put(ack);
        }
    }

    pub fn resume(&mut self, resume: Resume) {
        if let Some(n) = self.index_of(resume.stream()) {
            self.clients[n].resume(resume);
        }
    }

    /// Index of a stream's client; `None` once it is closed.
    fn index_of(&self, stream: u64) -> Option<usize> {
        self.clients.binary_search_by_key(&stream, Client::id).ok()
    }

    /// Writes the answers, and removes the connections that are over.
    pub fn flush(&mut self, now: Instant) {
        let mut any_over = false;
        if let Some(n) = places::slowest(&self.clients, now) {
            let reason = "its body comes slowly, and others wait for a place to be inflated";
            self.refuse(n, "client-refused", 0, reason);
        }
        for n in 0..self.clients.len() {
            let client = &mut self.clients[n];
            client.flush(now);
            any_over |= client.settle(now);
            if let Some(reason) = self.clients[n].overdue(now) {
                self.refuse(n, "client-unanswered", 0, reason);
                any_over = true;
            }
        }
        if any_over {
            self.remove_closed();
        }
    }

    fn remove_closed(&mut self) {
        for client in self.clients.iter().filter(|client| client.is_over()) {
            let source = &self.listeners[client.source].name;
            let fields: [log::Field; 2] = [("source", source), ("client", &client.peer.name)];
            log::debug("client-closed", &fields);
        }
        self.clients.retain(|client| !client.is_over());
    }

    /// Stops accepting and reading, and removes the sockets' files. Calls `gone` when
    /// they are removed.
    pub fn close(&mut self, gone: impl FnOnce() + Send + 'static) {
        self.clients.iter_mut().for_each(Client::stop);
        let files = self.listeners.iter_mut().filter_map(Listener::close);
        let files: Vec<_> = files.collect();
        if !files.is_empty() {
            self.removal = Removal::begin(files, gone);
        }
    }

    /// The sockets' files are removed.
    pub fn are_files_gone(&self) -> bool {
        self.removal.as_ref().is_none_or(Removal::is_over)
    }

    /// Writes the last answers and closes. Waits no longer than `wait` for readers and for the removal.
    pub fn finish(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        loop {
            let mut watches = Vec::new();
            for client in &mut self.clients {
                client.flush(until);
                watches.extend(Watch::of(client.fd(), false, client.has_answer()));
            }
            let left = until.saturating_duration_since(Instant::now());
            if watches.is_empty() || left.is_zero() || sys::wait(&mut watches, Some(left)).is_err()
            {
                break;
            }
        }
        self.clients.iter_mut().for_each(Client::close);
        self.clients.clear();
        if let Some(removal) = &self.removal {
            removal.wait(until.saturating_duration_since(Instant::now()));
        }
    }
}

fn tell(limit: &mut Limit, event: &str, source: &dyn Display, client: &str, reason: &dyn Display) {
    let fields: [log::Field; 3] = [("source", source), ("client", &client), ("reason", reason)];
    limit.warn(event, &fields);
}

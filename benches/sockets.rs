//! The figures of the sockets: a stream client beside stdin, the ack of one line beside a bare write and
//! sync, and many clients that share a commit beside one commit for each line. Each figure and its yardstick
//! take turns.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use super::bare::Pages;
use super::recorder::{Recorder, record_file, remove};
use super::table;
use super::throughput::{line, make_lines, per_second};

const LINES: u64 = 1_000_000;
const ROUNDS: usize = 5;
const ACKS: usize = 500;
const CLIENTS: usize = 100;
const BUSY_FOR: Duration = Duration::from_secs(1);
/// A busy client sends on while it waits for acks, up to so many lines.
const WINDOW: u64 = 64;

pub fn measure(folder: &Path) {
    let (mut stdin, mut unix, mut tcp) = (Vec::new(), Vec::new(), Vec::new());
    let path = make_lines(folder, LINES);
    let text = std::fs::read_to_string(&path).expect("read the lines");
    for _ in 0..ROUNDS {
        stdin.push(by_stdin(folder, &path));
        unix.push(by_socket(folder, &text, false));
        tcp.push(by_socket(folder, &text, true));
    }
    let stdin = ("stdin, --ack", &*stdin);
    table::row(
        "lines/s",
        ("one client of unix:, large writes", &unix),
        stdin,
    );
    table::row("lines/s", ("one client of tcp:, large writes", &tcp), stdin);
    let (bare, acked) = single_lines(folder);
    table::percentiles(
        &[50, 99],
        "ms",
        ("one line to its ack, recorder idle", &acked),
        ("write and fdatasync of one page", &bare),
    );
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        one.push(acknowledged(folder, 1, 1));
        many.push(acknowledged(folder, CLIENTS, WINDOW));
    }
    let one = ("one client, a commit for each line", &*one);
    table::row("acks/s", ("100 busy clients, commits shared", &many), one);
}

/// From the start to the last ack.
fn by_stdin(folder: &Path, lines: &Path) -> f64 {
    let db = folder.join("sockets.db");
    let start = Instant::now();
    let mut child = record_file(&db, lines, &["--ack"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("run seawall");
    let acks = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut took = Duration::ZERO;
    for ack in acks {
        if ack.expect("an ack") == format!("ack {LINES}") {
            took = start.elapsed();
        }
    }
    child.wait().expect("wait for seawall");
    remove(&db);
    per_second(LINES, took)
}

/// A recorder that listens on two sockets.
pub struct Listening {
    pub recorder: Recorder,
    socket: PathBuf,
    port: u16,
}

impl Listening {
    pub fn start(folder: &Path, interval: &str) -> Self {
        let socket = folder.join("socket");
        let unix = format!("unix:{}", socket.display());
        let options = [
            "--source",
            &unix,
            "--source",
            "tcp:0",
            "--commit-interval",
            interval,
        ];
        let recorder = Recorder::start(&folder.join("sockets.db"), &options);
        let port = recorder.started.iter().find_map(|line| {
            let (_, port) = line.split_once("source=tcp:127.0.0.1:0 address=127.0.0.1:")?;
            port.parse().ok()
        });
        Listening {
            recorder,
            socket,
            port: port.expect("a port"),
        }
    }

    /// Sends lines over TCP, until the last is acknowledged.
    pub fn take(&self, text: &str, lines: u64) {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        pour(&stream, &stream, text, lines);
    }
}

/// From the start of the recorder to the last ack, as with stdin.
fn by_socket(folder: &Path, text: &str, tcp: bool) -> f64 {
    let start = Instant::now();
    let listening = Listening::start(folder, "1s");
    if tcp {
        listening.take(text, LINES);
    } else {
        let stream = UnixStream::connect(&listening.socket).expect("connect");
        pour(&stream, &stream, text, LINES);
    }
    let rate = per_second(LINES, start.elapsed());
    listening.recorder.discard();
    rate
}

fn pour(reader: impl Read, mut writer: impl Write + Send, text: &str, lines: u64) {
    thread::scope(|scope| {
        scope.spawn(move || {
            for piece in text.as_bytes().chunks(64 * 1024) {
                writer.write_all(piece).expect("send");
            }
        });
        let last = format!("ack {lines}");
        let mut acks = BufReader::new(reader).lines();
        assert!(acks.any(|ack| ack.expect("an ack") == last));
    });
}

/// Milliseconds of a write and sync of our own, and from a line to its ack, in turn.
fn single_lines(folder: &Path) -> (Vec<f64>, Vec<f64>) {
    let listening = Listening::start(folder, "0");
    let mut stream = UnixStream::connect(&listening.socket).expect("connect");
    let mut acks = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut pages = Pages::new(folder);
    let (mut bare, mut acked) = (Vec::new(), Vec::new());
    let mut answer = String::new();
    for n in 0..ACKS as u64 {
        bare.push(pages.sync_one());
        let line = line(n);
        answer.clear();
        let start = Instant::now();
        stream.write_all(line.as_bytes()).expect("send");
        acks.read_line(&mut answer).expect("an ack");
        acked.push(start.elapsed().as_secs_f64() * 1e3);
        assert_eq!(answer, format!("ack {}\n", n + 1));
    }
    listening.recorder.discard();
    (bare, acked)
}

/// Lines that are acknowledged in a second to so many clients, each with up to `window` lines in flight.
fn acknowledged(folder: &Path, clients: usize, window: u64) -> f64 {
    let listening = Listening::start(folder, "0");
    let socket = &listening.socket;
    let start = Instant::now();
    let acked: u64 = thread::scope(|scope| {
        let running: Vec<_> = (0..clients)
            .map(|_| scope.spawn(move || keep_busy(socket, start + BUSY_FOR, window)))
            .collect();
        running
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    });
    let rate = per_second(acked, start.elapsed());
    listening.recorder.discard();
    rate
}

fn keep_busy(socket: &Path, until: Instant, window: u64) -> u64 {
    let mut stream = UnixStream::connect(socket).expect("connect");
    let mut acks = BufReader::new(stream.try_clone().expect("a second handle"));
    let (mut sent, mut acked) = (0, 0);
    let mut answer = String::new();
    while Instant::now() < until {
        let more: String = (sent..acked + window).map(line).collect();
        sent = acked + window;
        stream.write_all(more.as_bytes()).expect("send");
        answer.clear();
        acks.read_line(&mut answer).expect("an ack");
        let number = answer.trim_end().strip_prefix("ack ").expect("an ack");
        acked = number.parse().expect("a number");
    }
    acked
}

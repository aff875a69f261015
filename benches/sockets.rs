//! The figures of the sockets: a stream client beside stdin, the ack of one line beside a bare write and
//! sync, and many clients that share a commit beside one commit for each line.
//!
//! Each figure and its yardstick take turns in one run. `rows` measures and gives the table.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const LINES: u64 = 1_000_000;
const ROUNDS: usize = 5;
const ACKS: usize = 300;
const CLIENTS: usize = 100;
const BUSY_FOR: Duration = Duration::from_secs(1);
/// A busy client sends on while it waits for acks, up to so many lines.
const WINDOW: u64 = 64;
const BINARY: &str = env!("CARGO_BIN_EXE_seawall");

/// A line of the table.
pub struct Row {
    pub name: &'static str,
    pub unit: &'static str,
    pub median: f64,
    /// To the yardstick, which is the row with 1.
    pub ratio: f64,
    pub least: f64,
    pub most: f64,
}

/// Measures everything; takes about half a minute.
pub fn rows(folder: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    let (mut stdin, mut unix, mut tcp) = (Vec::new(), Vec::new(), Vec::new());
    let text: String = (0..LINES).map(line).collect();
    let path = folder.join("sockets.lp");
    fs::write(&path, &text).expect("write the lines");
    for _ in 0..ROUNDS {
        stdin.push(by_stdin(folder, &path));
        unix.push(by_socket(folder, &text, false));
        tcp.push(by_socket(folder, &text, true));
    }
    table(
        &mut rows,
        "lines/s",
        &[
            ("seawall --ack, lines on stdin", &stdin),
            ("one client of unix:, large writes", &unix),
            ("one client of tcp:, large writes", &tcp),
        ],
    );
    let (bare, acked) = single_lines(folder);
    table(
        &mut rows,
        "ms",
        &[
            ("write and fdatasync of one page", &bare),
            ("one line to its ack, recorder idle", &acked),
        ],
    );
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        one.push(acknowledged(folder, 1, 1));
        many.push(acknowledged(folder, CLIENTS, WINDOW));
    }
    table(
        &mut rows,
        "acknowledged lines/s",
        &[
            ("one client, a commit for each line", &one),
            ("100 busy clients, commits shared", &many),
        ],
    );
    rows
}

fn table(rows: &mut Vec<Row>, unit: &'static str, figures: &[(&'static str, &[f64])]) {
    let median = |samples: &[f64]| {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let yardstick = median(figures[0].1);
    rows.extend(figures.iter().map(|(name, samples)| Row {
        name,
        unit,
        median: median(samples),
        ratio: median(samples) / yardstick,
        least: samples.iter().copied().fold(f64::INFINITY, f64::min),
        most: samples.iter().copied().fold(0.0, f64::max),
    }));
}

fn line(n: u64) -> String {
    let (whole, part) = (18 + n % 8, n * 37 % 100);
    let time = 1_700_000_000_000_000_000 + n * 1_000_000;
    format!(
        "weather,station=s{} temperature_c={whole}.{part:02} {time}\n",
        n % 8
    )
}

/// From the start to the last ack.
fn by_stdin(folder: &Path, lines: &Path) -> f64 {
    let db = folder.join("sockets.db");
    let start = Instant::now();
    let mut child = Command::new(BINARY)
        .args(["--source", "stdin", "--ack", "--log-level", "error", "--db"])
        .arg(&db)
        .stdin(File::open(lines).expect("open the lines"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
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
    LINES as f64 / took.as_secs_f64()
}

struct Recorder {
    child: Child,
    db: PathBuf,
    socket: PathBuf,
    port: u16,
}

impl Recorder {
    fn start(folder: &Path, interval: &str) -> Self {
        let (db, socket) = (folder.join("sockets.db"), folder.join("socket"));
        let mut child = Command::new(BINARY)
            .args(["--source", &format!("unix:{}", socket.display())])
            .args(["--source", "tcp:0", "--commit-interval", interval, "--db"])
            .arg(&db)
            .stderr(Stdio::piped())
            .spawn()
            .expect("run seawall");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut port = 0;
        for line in log.by_ref().map(|line| line.expect("the log")) {
            if let Some((_, at)) = line.split_once("source=tcp:127.0.0.1:0 address=127.0.0.1:") {
                port = at.parse().expect("a port");
            }
            if line.contains(" event=ready ") {
                break;
            }
        }
        // Read on, so that it never waits for its log.
        thread::spawn(move || log.for_each(drop));
        Recorder {
            child,
            db,
            socket,
            port,
        }
    }

    fn stop(mut self) {
        // SAFETY: our own child, not yet waited for.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        assert!(self.child.wait().expect("wait for seawall").success());
        remove(&self.db);
    }
}

/// From the start of the recorder to the last ack, as with stdin.
fn by_socket(folder: &Path, text: &str, tcp: bool) -> f64 {
    let start = Instant::now();
    let recorder = Recorder::start(folder, "1s");
    if tcp {
        let stream = std::net::TcpStream::connect(("127.0.0.1", recorder.port)).expect("connect");
        pour(&stream, &stream, text);
    } else {
        let stream = UnixStream::connect(&recorder.socket).expect("connect");
        pour(&stream, &stream, text);
    }
    let rate = LINES as f64 / start.elapsed().as_secs_f64();
    recorder.stop();
    rate
}

fn pour(reader: impl Read, mut writer: impl Write + Send, text: &str) {
    thread::scope(|scope| {
        scope.spawn(move || {
            for piece in text.as_bytes().chunks(64 * 1024) {
                writer.write_all(piece).expect("send");
            }
        });
        let last = format!("ack {LINES}");
        let mut acks = BufReader::new(reader).lines();
        assert!(acks.any(|ack| ack.expect("an ack") == last));
    });
}

/// Milliseconds of a write and sync of our own, and from a line to its ack, in turn.
fn single_lines(folder: &Path) -> (Vec<f64>, Vec<f64>) {
    let recorder = Recorder::start(folder, "0");
    let mut stream = UnixStream::connect(&recorder.socket).expect("connect");
    let mut acks = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut file = File::create(folder.join("page")).expect("make a file");
    let (mut bare, mut acked) = (Vec::new(), Vec::new());
    let mut answer = String::new();
    for n in 0..ACKS as u64 {
        let start = Instant::now();
        file.write_all(&[7; 4096]).expect("write a page");
        file.sync_data().expect("sync a page");
        bare.push(start.elapsed().as_secs_f64() * 1e3);
        let line = line(n);
        answer.clear();
        let start = Instant::now();
        stream.write_all(line.as_bytes()).expect("send");
        acks.read_line(&mut answer).expect("an ack");
        acked.push(start.elapsed().as_secs_f64() * 1e3);
        assert_eq!(answer, format!("ack {}\n", n + 1));
    }
    recorder.stop();
    (bare, acked)
}

/// Lines that are acknowledged in a second to so many clients, each with up to `window` lines in flight.
fn acknowledged(folder: &Path, clients: usize, window: u64) -> f64 {
    let recorder = Recorder::start(folder, "0");
    let socket = &recorder.socket;
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
    let rate = acked as f64 / start.elapsed().as_secs_f64();
    recorder.stop();
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

fn remove(db: &Path) {
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", db.display()));
    }
}

//! The figures of HTTP: batches over one connection beside a stream client of `tcp:`, the 204 of one line beside a
//! bare write and sync, many clients that share a commit, and InfluxDB 1.x with the same batches. Each figure and its
//! yardstick take turns.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::bare::Pages;
use super::influx::{self, Server};
use super::recorder::Recorder;
use super::sockets::Listening;
use super::table;
use super::throughput::{line, per_second};

pub const LINES: u64 = 500_000;
/// Lines in a request, as the makers of InfluxDB recommend.
const BATCH: u64 = 5_000;
const ROUNDS: usize = 5;
const ANSWERS: usize = 500;
const CLIENTS: u64 = 100;
/// Lines in a request of each of many clients, which waits for its answer.
const LINES_OF_EACH: u64 = 64;
const BUSY_FOR: Duration = Duration::from_secs(1);

pub fn measure(folder: &Path) {
    let batches = batches();
    let packed: Vec<Vec<u8>> = batches.iter().map(|batch| gzip(batch.as_bytes())).collect();
    let text = batches.concat();
    let has_influx = influx::is_installed();
    let (mut tcp, mut plain, mut gzipped, mut theirs) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let listening = Listening::start(folder, "1s");
        let start = Instant::now();
        listening.take(&text, LINES);
        tcp.push(per_second(LINES, start.elapsed()));
        listening.recorder.discard();

        let serving = Serving::start(folder);
        let mut connection = serving.connect();
        let start = Instant::now();
        for batch in &batches {
            connection.write("", batch.as_bytes());
        }
        plain.push(per_second(LINES, start.elapsed()));
        serving.recorder.discard();

        let serving = Serving::start(folder);
        let mut connection = serving.connect();
        let start = Instant::now();
        for batch in &packed {
            connection.write("Content-Encoding: gzip\r\n", batch);
        }
        gzipped.push(per_second(LINES, start.elapsed()));
        serving.recorder.discard();

        if has_influx {
            let server = Server::start(folder);
            server.create_database();
            let mut connection = server.connect();
            let start = Instant::now();
            for batch in &batches {
                connection.write("", batch.as_bytes());
            }
            theirs.push(per_second(LINES, start.elapsed()));
        }
    }
    let beside = ("one client of tcp:, large writes", &*tcp);
    table::row(
        "lines/s",
        ("http:, batches of 5000, each awaited", &plain),
        beside,
    );
    table::row("lines/s", ("the same as gzip", &gzipped), beside);
    match has_influx {
        true => table::row(
            "lines/s",
            ("http:, batches of 5000", &plain),
            ("InfluxDB 1.x, the same", &theirs),
        ),
        false => table::skip("beside InfluxDB 1.x", "influxd is not installed"),
    }
    let (bare, answered) = single_lines(folder);
    table::percentiles(
        &[50, 99],
        "ms",
        ("one line to its 204, recorder idle", &answered),
        ("write and fdatasync of one page", &bare),
    );
    let (mut one, mut many) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        one.push(acknowledged(folder, 1));
        many.push(acknowledged(folder, CLIENTS));
    }
    let one = ("one client, 64 lines each", &*one);
    table::row(
        "lines/s",
        ("100 clients, 64 lines each, commits shared", &many),
        one,
    );
}

pub fn batches() -> Vec<String> {
    let batches = 0..LINES / BATCH;
    batches
        .map(|batch| (batch * BATCH..(batch + 1) * BATCH).map(line).collect())
        .collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .args(["-c", "-n"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run gzip");
    let mut input = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes).expect("send"));
        child.wait_with_output().expect("wait for gzip")
    });
    output.stdout
}

/// A recorder that listens for HTTP.
struct Serving {
    recorder: Recorder,
    port: u16,
}

impl Serving {
    fn start(folder: &Path) -> Self {
        let recorder = Recorder::start(&folder.join("http.db"), &["--source", "http:0"]);
        let port = recorder.started.iter().find_map(|line| {
            let (_, port) = line.split_once("source=http:127.0.0.1:0 address=127.0.0.1:")?;
            port.parse().ok()
        });
        Serving {
            recorder,
            port: port.expect("a port"),
        }
    }

    fn connect(&self) -> Connection {
        Connection::to(self.port)
    }
}

/// A connection that is kept.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn to(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        stream.set_nodelay(true).expect("set an option");
        Connection(BufReader::new(stream))
    }

    /// Sends lines, and waits until they are answered with 204.
    pub fn write(&mut self, headers: &str, body: &[u8]) {
        let status = self.post("/write?db=bench&precision=ns", headers, body);
        assert!(status.starts_with("HTTP/1.1 204 "), "{status}");
    }

    /// Returns the first line of the answer, which has no body or ends the connection (`finish`).
    pub fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> String {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        let request = [head.as_bytes(), body].concat();
        self.0.get_mut().write_all(&request).expect("send");
        let mut status = String::new();
        self.0.read_line(&mut status).expect("an answer");
        let mut line = status.clone();
        while line != "\r\n" {
            assert!(!line.is_empty(), "after {status}");
            line.clear();
            self.0.read_line(&mut line).expect("an answer");
        }
        status
    }
}

impl Connection {
    /// Reads what is left of the last answer.
    pub fn finish(mut self) {
        std::io::copy(&mut self.0, &mut std::io::sink()).expect("an answer");
    }
}

/// Milliseconds of a write and sync of our own, and from a line to its answer, in turn.
fn single_lines(folder: &Path) -> (Vec<f64>, Vec<f64>) {
    let serving = Serving::start(folder);
    let mut connection = serving.connect();
    let mut pages = Pages::new(folder);
    let (mut bare, mut answered) = (vec![], vec![]);
    for n in 0..ANSWERS as u64 {
        bare.push(pages.sync_one());
        let line = line(n);
        let start = Instant::now();
        connection.write("", line.as_bytes());
        answered.push(start.elapsed().as_secs_f64() * 1e3);
    }
    serving.recorder.discard();
    (bare, answered)
}

/// Lines that are acknowledged in a second to so many clients, each of which waits for its answers.
fn acknowledged(folder: &Path, clients: u64) -> f64 {
    let serving = Serving::start(folder);
    let port = serving.port;
    let start = Instant::now();
    let acknowledged: u64 = thread::scope(|scope| {
        let keep_busy = |client: u64| {
            let mut connection = Connection::to(port);
            let mut sent = 0;
            while start.elapsed() < BUSY_FOR {
                let first = client * 1_000_000 + sent;
                let lines: String = (first..first + LINES_OF_EACH).map(line).collect();
                connection.write("", lines.as_bytes());
                sent += LINES_OF_EACH;
            }
            sent
        };
        let running: Vec<_> = (0..clients)
            .map(|client| scope.spawn(move || keep_busy(client)))
            .collect();
        running
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    });
    let rate = per_second(acknowledged, start.elapsed());
    serving.recorder.discard();
    rate
}

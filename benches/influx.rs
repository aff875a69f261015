//! The server that a device's readings would go to otherwise, and how it takes them: InfluxDB 1.x, lines in HTTP
//! requests over one connection, beside a client of seawall's TCP source. Both answer what they have synced.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::sockets::Listening;
use super::throughput::{line, per_second};
use super::{process, table};

const LINES: u64 = 500_000;
/// Lines in a request, as its makers recommend.
const BATCH: u64 = 5_000;
const ROUNDS: usize = 5;

/// What one round gives.
#[derive(Default)]
struct Samples {
    rates: Vec<f64>,
    resident: Vec<f64>,
    stops: Vec<f64>,
}

pub fn measure(folder: &Path) {
    if !is_installed() {
        return table::skip("beside InfluxDB 1.x", "influxd is not installed");
    }
    let batches: Vec<String> = (0..LINES / BATCH)
        .map(|batch| (batch * BATCH..(batch + 1) * BATCH).map(line).collect())
        .collect();
    let text = batches.concat();
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        let listening = Listening::start(folder, "1s");
        let start = Instant::now();
        listening.take(&text, LINES);
        ours.rates.push(per_second(LINES, start.elapsed()));
        ours.resident
            .push(process::resident_mib(listening.recorder.pid()));
        ours.stops.push(listening.recorder.discard().ms);

        let mut server = Server::start(folder);
        server.connect().create_database();
        let mut connection = server.connect();
        let start = Instant::now();
        for batch in &batches {
            connection.write(batch);
        }
        theirs.rates.push(per_second(LINES, start.elapsed()));
        theirs.resident.push(process::resident_mib(server.pid()));
        theirs.stops.push(process::terminate(&mut server.child));
    }
    let beside = ("InfluxDB 1.x, HTTP, batches of 5000", &*theirs.rates);
    table::row(
        "lines/s",
        ("one client of tcp:, recorder running", &ours.rates),
        beside,
    );
    let beside = ("InfluxDB 1.x", &*theirs.resident);
    table::row(
        "MiB",
        ("memory after 500,000 lines", &ours.resident),
        beside,
    );
    let beside = ("InfluxDB 1.x", &*theirs.stops);
    table::row("ms", ("SIGTERM to exit after that", &ours.stops), beside);
}

pub fn is_installed() -> bool {
    Command::new("influxd").arg("version").output().is_ok()
}

/// A server with a new folder of its own, ended with the value.
pub struct Server {
    child: Child,
    port: u16,
}

impl Server {
    pub fn start(folder: &Path) -> Self {
        const PATIENCE: Duration = Duration::from_secs(60);
        let folder = folder.join("influxdb");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("make a folder");
        // Two ports that are free now.
        let ports = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let [http, rpc] = ports.map(|port| port.local_addr().unwrap().port());
        let (config, at) = (folder.join("influxdb.conf"), folder.display());
        let settings = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n\
             [meta]\ndir = \"{at}/meta\"\n[data]\ndir = \"{at}/data\"\nwal-dir = \"{at}/wal\"\n\
             [monitor]\nstore-enabled = false\n\
             [http]\nbind-address = \"127.0.0.1:{http}\"\nlog-enabled = false\n"
        );
        fs::write(&config, settings).expect("write its settings");
        let log = File::create(folder.join("log")).expect("make its log");
        let child = Command::new("influxd")
            .args(["run", "-config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("run influxd");
        let server = Server { child, port: http };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", http)).is_err() {
            assert!(start.elapsed() < PATIENCE, "influxd does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn connect(&self) -> Connection {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        stream.set_nodelay(true).expect("set an option");
        Connection(BufReader::new(stream))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn send(&mut self, path: &str, more: &str, body: &str) {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{more}\r\n"
        );
        let stream = self.0.get_mut();
        let sent = stream.write_all(head.as_bytes());
        sent.and_then(|()| stream.write_all(body.as_bytes()))
            .expect("send");
    }

    /// The whole answer, with which the connection ends.
    fn create_database(mut self) {
        self.send(
            "/query?q=CREATE%20DATABASE%20bench",
            "Connection: close\r\n",
            "",
        );
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    /// Until it is answered, which is without a body if all is well.
    fn write(&mut self, lines: &str) {
        self.send("/write?db=bench&precision=ns", "", lines);
        let mut head = Vec::new();
        while head.last().is_none_or(|line| line != "\r\n") {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("an answer");
            assert!(!line.is_empty(), "{head:?}");
            head.push(line);
        }
        assert!(head[0].starts_with("HTTP/1.1 204 "), "{head:?}");
    }
}

//! The server that a device's readings would go to otherwise, and how it takes them: InfluxDB 1.x, lines in HTTP
//! requests over one connection, beside a client of seawall's TCP source. Both answer what they have synced.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::http::{Connection, LINES, batches};
use super::sockets::Listening;
use super::throughput::per_second;
use super::{process, table};

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
    let batches = batches();
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
        server.create_database();
        let mut connection = server.connect();
        let start = Instant::now();
        for batch in &batches {
            connection.write("", batch.as_bytes());
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

    pub fn connect(&self) -> Connection {
        Connection::to(self.port)
    }

    pub fn create_database(&self) {
        let path = "/query?q=CREATE%20DATABASE%20bench";
        let mut connection = self.connect();
        let status = connection.post(path, "Connection: close\r\n", b"");
        connection.finish();
        assert!(status.starts_with("HTTP/1.1 200 "), "{status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

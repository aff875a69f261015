//! Clients of the sockets: what they send, and what they are answered.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use super::*;

/// A recorder that listens on a unix socket and on ports that are free.
pub struct Listening {
    pub dir: Dir,
    pub db: PathBuf,
    pub socket: PathBuf,
    pub seawall: Running,
}

impl Listening {
    /// Commits as soon as it can unless `more` says otherwise.
    pub fn start(name: &str, more: &[&str]) -> Self {
        Self::start_by(name, more, &mut |_| {})
    }

    pub fn start_by(name: &str, more: &[&str], prepare: &mut dyn FnMut(&mut Command)) -> Self {
        let dir = Dir::new(name);
        let (db, socket) = (dir.file("x.db"), dir.file("s"));
        let mut command = Command::new(BINARY);
        command
            .args(["record", "--commit-interval", "0", "--db"])
            .arg(&db)
            .args(["--source", &format!("unix:{}", socket.display())])
            .args(["--source", "tcp:0", "--source", "udp:0"])
            .args(more);
        prepare(&mut command);
        let seawall = Running::spawn(&mut command);
        seawall.wait_for("ready");
        Listening {
            dir,
            db,
            socket,
            seawall,
        }
    }

    pub fn unix(&self) -> Client<UnixStream> {
        connect(&self.socket)
    }

    pub fn tcp(&self) -> Client<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", port(&self.seawall, "tcp"))).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client::new(stream.try_clone().unwrap(), stream)
    }

    /// A socket that sends to the recorder's.
    pub fn udp(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = ("127.0.0.1", port(&self.seawall, "udp"));
        socket.connect(to).unwrap();
        socket
    }

    pub fn stop(self) -> (Dir, Ended) {
        let ended = self.seawall.stop(libc::SIGTERM);
        (self.dir, ended)
    }

    /// Readings of a sensor.
    pub fn readings_of(&self, sensor: &str) -> u64 {
        let query = format!("SELECT count(*) FROM sensor_readings WHERE sensor = '{sensor}'");
        sql(&self.db, &query).parse().unwrap()
    }

    /// The most memory that it ever had.
    pub fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.seawall.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let number = line.unwrap().split_whitespace().nth(1).unwrap();
        number.parse().unwrap()
    }

    /// Clock ticks that it has computed for.
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.seawall.pid())).unwrap();
        let after_name = stat.rsplit_once(") ").unwrap().1;
        let numbers: Vec<&str> = after_name.split(' ').collect();
        numbers[11].parse::<u64>().unwrap() + numbers[12].parse::<u64>().unwrap()
    }
}

/// The Python of `just setup`, where it has this module; else the test is skipped, aloud.
pub fn python_with(module: &str) -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python3");
    let import = Command::new(&python)
        .args(["-c", &format!("import {module}")])
        .output();
    if import.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    skip(&format!("`just setup` installs {module} into .venv"));
    None
}

/// The port that the log tells.
pub fn port(seawall: &Running, kind: &str) -> u16 {
    let wanted = format!(" event=listening source={kind}:");
    let log = seawall.log();
    let line = log.iter().find(|line| line.contains(&wanted)).unwrap();
    let address = &fields(line)["address"];
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

pub fn connect(socket: &Path) -> Client<UnixStream> {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Client::new(stream.try_clone().unwrap(), stream)
}

/// One connection.
pub struct Client<S> {
    pub stream: S,
    reader: BufReader<S>,
    /// All that it was answered.
    pub heard: Vec<String>,
}

pub trait Half {
    fn end(&self);
}

impl Half for UnixStream {
    fn end(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Half for TcpStream {
    fn end(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl<S: Read + Write + Half> Client<S> {
    fn new(reader: S, stream: S) -> Self {
        Client {
            stream,
            reader: BufReader::new(reader),
            heard: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("send");
        self
    }

    /// As `send`; false when the recorder has closed the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next answer; none at the end.
    pub fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => None,
            Err(e) => panic!("no answer: {e}; heard {:?}", self.heard),
            Ok(_) => {
                let line = line.strip_suffix('\n').expect("a whole line").to_owned();
                self.heard.push(line.clone());
                Some(line)
            }
        }
    }

    /// Reads until an ack covers so many lines; gives that ack.
    pub fn until_ack(&mut self, lines: u64) -> u64 {
        loop {
            let answer = self.answer();
            let answer = answer.unwrap_or_else(|| panic!("closed after {:?}", self.heard));
            if let Some(ack) = number(&answer, "ack ")
                && ack >= lines
            {
                return ack;
            }
        }
    }

    /// Gives a name; gives the lines that are settled.
    pub fn hello(&mut self, name: &str) -> u64 {
        self.send(format!("# client {name}\n"));
        let answer = self.answer().expect("an answer");
        number(&answer, "resume ").unwrap_or_else(|| panic!("{answer}"))
    }

    /// Ends the input.
    pub fn end(&mut self) -> &mut Self {
        self.stream.end();
        self
    }

    /// All answers until the recorder closes.
    pub fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.answer()).collect()
    }
}

/// The number after a word.
pub fn number(answer: &str, word: &str) -> Option<u64> {
    answer.strip_prefix(word)?.split(' ').next()?.parse().ok()
}

/// `m,c=NAME v=1i`, and so on.
pub fn lines(name: &str, numbers: std::ops::Range<u64>) -> String {
    numbers
        .map(|n| format!("m,c={name} v={n}i {n}\n"))
        .collect()
}

/// The numbers of the answers with this word.
pub fn numbers(heard: &[String], word: &str) -> Vec<u64> {
    heard.iter().filter_map(|line| number(line, word)).collect()
}

/// Connections that fit beside the descriptors that are kept back, with `few_descriptors`.
pub const PLACES: usize = 10;

/// So few descriptors that the places are taken early, whatever their number is by itself.
pub fn few_descriptors(command: &mut Command) {
    let most = 64 + PLACES as libc::rlim_t;
    let limit = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: setrlimit is async-signal-safe, and the limit a valid one.
    unsafe {
        command.pre_exec(move || {
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            Ok(())
        });
    }
}

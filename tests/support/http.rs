//! Clients that speak HTTP: what they send byte by byte, and what they are answered.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use super::client::port;
use super::*;

/// A recorder that listens for HTTP on a port that is free.
pub struct Serving {
    pub dir: Dir,
    pub db: PathBuf,
    pub seawall: Running,
    pub port: u16,
}

impl Serving {
    /// `keys` follow the port: `,precision=s`.
    pub fn start(name: &str, keys: &str, more: &[&str]) -> Self {
        let dir = Dir::new(name);
        let db = dir.file("x.db");
        let source = format!("http:0{keys}");
        let args = [&["--source", &source], more].concat();
        let seawall = start(&db, &args);
        seawall.wait_for("ready");
        let port = port(&seawall, "http");
        Serving {
            dir,
            db,
            seawall,
            port,
        }
    }

    pub fn connect(&self) -> Connection {
        Connection::to(self.port)
    }
}

pub struct Connection {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// As they were sent.
    pub headers: String,
    pub body: String,
}

impl Connection {
    pub fn to(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection {
            reader: BufReader::new(stream.try_clone().unwrap()),
            stream,
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("send");
        self
    }

    /// False when the recorder has closed the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next reply; `None` where the connection was closed without one.
    pub fn reply(&mut self) -> Option<Reply> {
        let mut headers = String::new();
        while !headers.ends_with("\r\n\r\n") {
            match self.reader.read_line(&mut headers) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("no reply: {e}; after {headers:?}"),
            }
        }
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        let length = headers
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.reader.read_exact(&mut body).unwrap();
        Some(Reply {
            status,
            headers,
            body: String::from_utf8(body).unwrap(),
        })
    }

    pub fn status(&mut self) -> Option<u16> {
        self.reply().map(|reply| reply.status)
    }
}

/// A request that writes these lines.
pub fn write(lines: impl AsRef<[u8]>) -> Vec<u8> {
    write_to("/write", "", lines)
}

/// To a path, with headers that each end with CR and LF.
pub fn write_to(path: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// The bytes in gzip's format.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .args(["-9", "-n", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip");
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

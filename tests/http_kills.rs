//! Guards against a reading over HTTP that is lost or stored twice where the recorder is killed: clients that know
//! nothing of it send each request again until it is answered.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::http::{gzip, write_to};
use crate::support::*;

const CLIENTS: u64 = 3;
const LINES_PER_REQUEST: u64 = 20;
const SEED: u64 = 14;

/// Sends a request once. True for 204, false where no answer came.
fn is_answered(connection: &mut Option<UnixStream>, socket: &Path, request: &[u8]) -> bool {
    if connection.is_none() {
        *connection = UnixStream::connect(socket).ok();
    }
    let Some(stream) = connection else {
        return false;
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    let is_whole = |answer: &[u8]| answer.ends_with(b"\r\n\r\n");
    let mut sent = stream.write_all(request).is_ok();
    while sent && !is_whole(&answer) {
        match stream.read(&mut part) {
            Ok(n) if n > 0 => answer.extend_from_slice(&part[..n]),
            Ok(_) => sent = false,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("neither answered nor closed")
            }
            Err(_) => sent = false,
        }
    }
    if !sent {
        *connection = None;
        return false;
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 204 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    true
}

/// Sends until it is told to end. Returns the number of lines that were acknowledged.
fn client(name: u64, socket: &Path, is_over: &AtomicBool) -> u64 {
    let mut connection = None;
    let mut acknowledged = 0;
    while !is_over.load(Ordering::SeqCst) {
        let numbers = acknowledged..acknowledged + LINES_PER_REQUEST;
        let lines: String = numbers
            .map(|n| format!("m,c={name} v={n}i {}\n", n + 1))
            .collect();
        let request = match name {
            0 => write_to(
                "/write",
                "Content-Encoding: gzip\r\n",
                gzip(lines.as_bytes()),
            ),
            _ => write_to("/api/v2/write", "", &lines),
        };
        while !is_over.load(Ordering::SeqCst) {
            if is_answered(&mut connection, socket, &request) {
                acknowledged += LINES_PER_REQUEST;
                break;
            }
            thread::sleep(Duration::from_millis(1)); // the pause is the test: a client that tries again
        }
    }
    acknowledged
}

fn storm(name: &str, kills: u32) {
    let seed = std::env::var("SEAWALL_TEST_SEED").map_or(SEED, |text| text.parse().unwrap());
    println!("SEAWALL_TEST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let dir = Dir::new(name);
    let (db, socket) = (dir.file("x.db"), dir.file("s"));
    let source = format!("http:unix:{}", socket.display());
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|name| {
            let (socket, is_over): (PathBuf, _) = (socket.clone(), is_over.clone());
            thread::spawn(move || client(name, &socket, &is_over))
        })
        .collect();
    let options = ["--source", &source, "--checkpoint-interval", "50ms"];
    for _ in 0..kills {
        let seawall = start(&db, &options);
        if rng.u8(..) < 230 {
            seawall.wait_for("ready");
        }
        thread::sleep(Duration::from_micros(rng.u64(0..40_000))); // the pause is the test
        seawall.kill();
    }
    let last = start(&db, &options);
    last.wait_for("ready");
    until("requests after the last start", || {
        (count(&db) > 0).then_some(())
    });
    is_over.store(true, Ordering::SeqCst);
    let acknowledged: Vec<u64> = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .collect();
    let ended = last.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0);
    println!("{acknowledged:?} acknowledged by {kills} kills");
    for (name, acknowledged) in acknowledged.iter().enumerate() {
        let seen = format!(
            "SELECT count(*), count(DISTINCT time_ns), min(time_ns), sum(time_ns <= {acknowledged}),
                    sum(value <> time_ns - 1)
             FROM sensor_readings WHERE sensor = 'm,c={name}'"
        );
        let seen = sql(&db, &seen);
        let seen: Vec<u64> = seen.split('|').map(|n| n.parse().unwrap()).collect();
        let [all, different, first, below, wrong] = seen[..] else {
            panic!("{seen:?}");
        };
        assert_eq!(
            (below, first, wrong),
            (*acknowledged, 1, 0),
            "of client {name}"
        );
        assert_eq!(all, different, "readings of client {name} are stored twice");
        assert!(all <= acknowledged + LINES_PER_REQUEST, "of client {name}");
    }
    assert_sound(&db);
}

#[test]
fn nothing_is_lost_and_nothing_is_stored_twice_by_kills() {
    storm("http-kills", 40);
}

/// `just torture` runs it.
#[test]
#[ignore = "takes minutes"]
fn as_long_as_asked_a_thousand_kills_lose_nothing_and_double_nothing() {
    storm("http-thousand", 1000);
}

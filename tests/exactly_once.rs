//! Guards against a reading that is lost or there twice after a cut: a client that resends what was not
//! settled, against a recorder that is killed again and again.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::support::client::*;
use crate::support::stop::seed;
use crate::support::*;

const KILLS: usize = 200;
const LINES: u64 = 1 << 40;

/// The client's line `n`, counted from 1: a reading, or one of the kinds of line that are none.
fn line(n: u64) -> String {
    match n % 11 {
        3 => "# a comment\n".to_owned(),
        5 => "not a reading\n".to_owned(),
        7 => "\n".to_owned(),
        // A reading with its text over two lines, of which this is the first, and that is the second.
        8 => format!("m text=\"{n}\n"),
        9 => "and more\"\n".to_owned(),
        _ => format!("m v={n}i {n}\n"),
    }
}

/// Numbers of the readings among the first `lines`.
fn readings(lines: u64) -> Vec<u64> {
    let is_reading = |n: &u64| !matches!(n % 11, 3 | 5 | 7 | 9);
    (1..=lines).filter(is_reading).collect()
}

/// Sends from the line after `settled` until the connection breaks or has had its share, cut anywhere.
fn send(mut stream: UnixStream, settled: u64, mut rng: fastrand::Rng) {
    let mut next = settled + 1;
    let mut share: usize = rng.usize(1..400_000);
    while next < LINES && share > 0 {
        let mut bytes = Vec::new();
        for _ in 0..rng.u32(1..200) {
            bytes.extend(line(next).into_bytes());
            next += 1;
        }
        bytes.truncate(share);
        share -= bytes.len();
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(if rng.bool() {
        Shutdown::Both
    } else {
        Shutdown::Write
    });
}

/// The next answer. One that a kill cut off is none: `ack 12` may be the beginning of `ack 123`.
fn whole_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).ok()?;
    let line = line.strip_suffix(b"\n")?;
    Some(String::from_utf8(line.to_vec()).unwrap())
}

/// One connection to its end. Gives the lines of the client that are settled for all it was told.
fn connection(socket: &Path, told: u64, rng: &mut fastrand::Rng) -> Option<u64> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(b"# client once\n").ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut answers = std::iter::from_fn(|| whole_line(&mut reader));
    let first = answers.next()?;
    let settled = number(&first, "resume ")?;
    assert!(settled >= told, "told {told}, then {first}");
    let sender = {
        let rng = rng.fork();
        thread::spawn(move || send(stream, settled, rng))
    };
    let mut told = settled;
    let (mut last_ack, mut last_err) = (1, 0);
    for answer in answers {
        // `err 0` is about the connection: here, that its input ended inside a record of two lines.
        let err = number(&answer, "err ").filter(|line| *line > 0);
        if let Some(line) = err {
            assert!(line > last_err, "{answer} after {last_err}");
            last_err = line;
        }
        if let Some(lines) = number(&answer, "ack ") {
            assert!(lines >= last_ack, "{answer} after {last_ack}");
            last_ack = lines;
            // The line with the name is the connection's first.
            told = settled + lines - 1;
        }
    }
    sender.join().unwrap();
    Some(told)
}

#[test]
fn every_reading_is_there_once_though_the_recorder_is_killed_again_and_again() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let dir = Dir::new("once");
    let (db, socket) = (dir.file("x.db"), dir.file("s"));
    let source = format!("unix:{}", socket.display());
    let args = [
        "--db",
        db.to_str().unwrap(),
        "--source",
        &source,
        "--commit-interval",
        "1ms",
    ];
    let mut told = 0;
    // A kill that comes before the first ack tests little: a slow machine gets more of them.
    let (mut kills, mut with_acks) = (0, 0);
    while kills < KILLS || with_acks < KILLS / 4 {
        kills += 1;
        assert!(kills < 20 * KILLS, "{with_acks} recorders acknowledged");
        let seawall = Running::start(&args);
        seawall.wait_for("ready");
        let life = Duration::from_micros(rng.u64(500..25_000));
        let pid = seawall.pid() as libc::pid_t;
        let killer = thread::spawn(move || {
            thread::sleep(life); // the pause is the test
            // SAFETY: no pointers; the child is not reaped before this thread has ended.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        });
        let before = told;
        // Connections that the client cuts, until the recorder is no more.
        while let Some(settled) = connection(&socket, told, &mut rng) {
            told = settled;
        }
        killer.join().unwrap();
        seawall.wait();
        with_acks += usize::from(told > before);
    }
    let seawall = Running::start(&args);
    seawall.wait_for("ready");
    let settled = connect(&socket).hello("once");
    assert!(settled >= told);
    assert_eq!(seawall.stop(libc::SIGTERM).code(), 0);
    let found = sql(
        &db,
        "SELECT group_concat(CAST(value AS INTEGER)) FROM
        (SELECT value FROM sensor_readings ORDER BY id)",
    );
    let found: Vec<u64> = found.split(',').map(|n| n.parse().unwrap()).collect();
    assert_eq!(found.len(), readings(settled).len());
    assert!(found == readings(settled), "each reading once, in order");
    assert_sound(&db);
}

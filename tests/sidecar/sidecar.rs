//! A sidecar: reads a sensor ten times a second and hands each reading over to seawall's unix socket. Each
//! reading that it took is in the database exactly once, whenever seawall is killed, stopped or away, and it
//! goes on reading the sensor meanwhile. Killed itself, it loses what it had not handed over, and goes on
//! from the number that seawall tells it.
//!
//! `sidecar SOCKET NAME FILE`: FILE begins with a number, as the kernel's sensors do. `n` counts the readings,
//! for whoever doubts the above. `tests/sidecar.rs` runs it beside seawall, both in images `FROM scratch`;
//! it needs nothing but the standard library, so that rustc makes a static program of it.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

const PERIOD: Duration = Duration::from_millis(100);
/// For an answer to the hello, and for room to send; after that, a new connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Readings that are kept until they are settled. While so many wait, the sensor is not read.
const KEPT_MAX: usize = 100_000;

/// Lines that are not known to be settled, in order.
#[derive(Default)]
struct Kept {
    lines: VecDeque<String>,
    /// Lines of this client that are settled; the first that is kept comes next.
    settled: u64,
}

impl Kept {
    fn settle(&mut self, settled: u64) {
        let gone = settled.saturating_sub(self.settled) as usize;
        self.lines.drain(..gone.min(self.lines.len()));
        self.settled = settled;
    }

    fn last(&self) -> u64 {
        self.settled + self.lines.len() as u64
    }
}

struct Connection {
    out: UnixStream,
    answers: BufReader<UnixStream>,
    answer: String,
    /// Lines of this client that were settled before it.
    resumed: u64,
    /// The last line that was sent on it.
    sent: u64,
}

impl Connection {
    fn open(socket: &str, name: &str, kept: &mut Kept) -> io::Result<Connection> {
        let mut out = UnixStream::connect(socket)?;
        out.set_read_timeout(Some(PATIENCE))?;
        out.set_write_timeout(Some(PATIENCE))?;
        let mut answers = BufReader::new(out.try_clone()?);
        let mut answer = String::new();
        writeln!(out, "# client {name}")?;
        answers.read_line(&mut answer)?;
        let resumed = number(&answer, "resume ")?;
        kept.settle(resumed);
        println!("resumed {resumed}");
        answer.clear();
        Ok(Connection {
            out,
            answers,
            answer,
            resumed,
            sent: resumed,
        })
    }

    /// Sends what was not sent yet and hears what is settled, until the next reading is due.
    fn talk(&mut self, kept: &mut Kept, due: Instant) -> io::Result<()> {
        let known = self.sent.saturating_sub(kept.settled) as usize;
        for line in kept.lines.iter().skip(known) {
            self.out.write_all(line.as_bytes())?;
        }
        self.sent = kept.last();
        while let Some(wait) = due.checked_duration_since(Instant::now()) {
            self.out
                .set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
            match self.answers.read_line(&mut self.answer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                // Of the lines of this connection, the first is the hello.
                Ok(_) if self.answer.starts_with("ack ") => {
                    let lines = number(&self.answer, "ack ")?.saturating_sub(1);
                    kept.settle(self.resumed + lines);
                    println!("settled {}", kept.settled);
                }
                Ok(_) => eprint!("{}", self.answer),
                // What came of the answer stays in it.
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
            self.answer.clear();
        }
        Ok(())
    }
}

fn number(answer: &str, before: &str) -> io::Result<u64> {
    let digits = answer.strip_prefix(before).unwrap_or_default().trim_end();
    digits
        .parse()
        .map_err(|_| io::Error::other(format!("seawall answers {answer:?}")))
}

fn reading(name: &str, file: &str, n: u64) -> io::Result<String> {
    let text = fs::read_to_string(file)?;
    let value: f64 = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| io::Error::other(format!("{file} does not begin with a number")))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let time_ns = now.map_err(io::Error::other)?.as_nanos();
    Ok(format!("{name} value={value},n={n}i {time_ns}\n"))
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let [socket, name, file] = &args[..] else {
        eprintln!("usage: sidecar SOCKET NAME FILE");
        std::process::exit(2);
    };
    let mut kept = Kept::default();
    let mut connection = None;
    let mut begun = false;
    let mut due = Instant::now();
    loop {
        if connection.is_none() {
            connection = Connection::open(socket, name, &mut kept)
                .inspect_err(|e| eprintln!("{socket}: {e}"))
                .ok();
            // The readings are numbered from where seawall is.
            begun |= connection.is_some();
        }
        if begun && kept.lines.len() < KEPT_MAX {
            match reading(name, file, kept.last() + 1) {
                Ok(line) => kept.lines.push_back(line),
                Err(e) => eprintln!("{file}: {e}"),
            }
        }
        due = (due + PERIOD).max(Instant::now());
        if let Some(open) = &mut connection
            && let Err(e) = open.talk(&mut kept, due)
        {
            eprintln!("{socket}: {e}");
            connection = None;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

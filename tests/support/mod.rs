//! What the tests of the built binary share: a folder of their own, a recorder to run and kill, and an
//! SQLite that is not ours (Python's) to look at the file with.
#![allow(dead_code)]

pub mod arguments;
pub mod client;
pub mod docker;
pub mod document;
pub mod http;
pub mod loss;
pub mod manager;
pub mod manifest;
pub mod mounts;
pub mod recording;
pub mod shim;
pub mod stop;
pub mod store;
pub mod sysfs;
pub mod terminal;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a condition may take to come true before a test fails; far more than it needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Of a database that the recorder made.
pub const PAGE_BYTES: usize = seawall::store::PAGE_BYTES as usize;

/// The program under test: the one that was built with the tests, or the one that SEAWALL_TEST_BINARY names,
/// such as another architecture's under emulation (`just test-arm64`).
pub const BINARY: Binary = Binary;

pub struct Binary;

impl Deref for Binary {
    type Target = str;

    fn deref(&self) -> &str {
        static PATH: OnceLock<String> = OnceLock::new();
        PATH.get_or_init(|| {
            std::env::var("SEAWALL_TEST_BINARY")
                .unwrap_or_else(|_| env!("CARGO_BIN_EXE_seawall").to_owned())
        })
    }
}

impl std::fmt::Display for Binary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self)
    }
}

impl AsRef<OsStr> for Binary {
    fn as_ref(&self) -> &OsStr {
        OsStr::new(&**self)
    }
}

impl AsRef<Path> for Binary {
    fn as_ref(&self) -> &Path {
        Path::new(&**self)
    }
}

/// A folder under `target`, removed at the end unless the test fails.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new(name: &str) -> Self {
        Self::below(Path::new(env!("CARGO_TARGET_TMPDIR")), name)
    }

    pub fn below(base: &Path, name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{name}-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).expect("make a folder for the test");
        Dir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Tells that a test cannot run here, which on CI is a failure.
pub fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
    // What a test prints by println is shown only if it fails.
    let line = format!("skipped: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

pub fn is_there(program: &str) -> bool {
    let looked = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    looked.unwrap().status.success()
}

/// The static program that `just binary` has made for a machine, as Rust calls it.
pub fn static_program(machine: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let path = target.join(format!("{machine}-unknown-linux-musl/release/seawall"));
    if !path.exists() {
        skip(&format!("`just binary` has not made {}", path.display()));
        return None;
    }
    Some(path)
}

/// Polls until `condition` gives something, or fails the test.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        // Looking may start a program; what takes long is looked at less often.
        let pause = start.elapsed() / 4;
        thread::sleep(pause.clamp(Duration::from_millis(5), Duration::from_millis(50)));
    }
}

/// One running `seawall`. Its output is read all the time; it is killed if the test gives up.
pub struct Running {
    child: Child,
    pub stdin: Option<ChildStdin>,
    log: Arc<Mutex<Vec<String>>>,
    out: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

/// What is left of one.
pub struct Ended {
    pub status: ExitStatus,
    pub log: Vec<String>,
    pub out: Vec<String>,
}

fn collect(stream: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            lines.lock().unwrap().push(line);
        }
    })
}

impl Running {
    pub fn start(args: &[&str]) -> Self {
        Self::spawn(Command::new(BINARY).args(args))
    }

    /// Runs a prepared command, all three streams piped; the environment's settings are not inherited.
    pub fn spawn(command: &mut Command) -> Self {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SEAWALL_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start seawall");
        let (log, out) = <(Arc<Mutex<Vec<String>>>, Arc<Mutex<Vec<String>>>)>::default();
        let readers = vec![
            collect(child.stderr.take().unwrap(), log.clone()),
            collect(child.stdout.take().unwrap(), out.clone()),
        ];
        Running {
            stdin: child.stdin.take(),
            child,
            log,
            out,
            readers,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Log lines so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Lines on stdout so far.
    pub fn out(&self) -> Vec<String> {
        self.out.lock().unwrap().clone()
    }

    /// Waits for an event in the log, and gives its first line.
    pub fn wait_for(&self, event: &str) -> String {
        let wanted = format!(" event={event}");
        until(&format!("event={event} in {:#?}", self.log()), || {
            let log = self.log.lock().unwrap();
            let mut found = log.iter().filter(|l| {
                l.find(&wanted)
                    .is_some_and(|at| !l[at + wanted.len()..].starts_with(|c| c != ' '))
            });
            found.next().cloned()
        })
    }

    /// The last `ack N` so far.
    pub fn acked(&self) -> u64 {
        last_ack(&self.out.lock().unwrap())
    }

    pub fn send(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(bytes).expect("write to seawall");
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn signal(&self, signal: i32) {
        assert!(
            self.try_signal(signal),
            "signal {signal} to a process that has ended"
        );
    }

    /// False when the process has ended.
    pub fn try_signal(&self, signal: i32) -> bool {
        // The child is not reaped before `wait`, so that its id cannot have been given to another.
        unsafe { libc::kill(self.child.id() as libc::pid_t, signal) == 0 }
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("look after seawall").is_some()
    }

    /// Waits for the end; stdin stays as it is.
    pub fn wait(mut self) -> Ended {
        let status = until("seawall ends", || {
            self.child.try_wait().expect("look after seawall")
        });
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Ended {
            status,
            log: std::mem::take(&mut self.log.lock().unwrap()),
            out: std::mem::take(&mut self.out.lock().unwrap()),
        }
    }

    /// SIGKILL; the log tells how far it was. Fails the test if something else had ended it before.
    pub fn kill(self) -> Ended {
        self.signal(libc::SIGKILL);
        let ended = self.wait();
        let signal = ended.status.signal();
        assert_eq!(signal, Some(libc::SIGKILL), "{:#?}", ended.log);
        ended
    }

    pub fn stop(self, signal: i32) -> Ended {
        self.signal(signal);
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    pub fn code(&self) -> i32 {
        match self.status.code() {
            Some(code) => code,
            None => panic!("killed by {:?}\n{:#?}", self.status.signal(), self.log),
        }
    }

    /// The last line, which has to be `event=stopped`, by key.
    pub fn stopped(&self) -> HashMap<String, String> {
        let last = self.log.last().expect("a log");
        assert!(last.contains(" event=stopped "), "last line is {last:?}");
        fields(last)
    }

    pub fn acked(&self) -> u64 {
        last_ack(&self.out)
    }

    pub fn has(&self, text: &str) -> bool {
        self.log.iter().any(|line| line.contains(text))
    }
}

fn last_ack(out: &[String]) -> u64 {
    out.iter()
        .rev()
        .find_map(|line| line.strip_prefix("ack ")?.parse().ok())
        .unwrap_or(0)
}

/// The pairs of a logfmt line. Quoted values come without their quotes.
pub fn fields(line: &str) -> HashMap<String, String> {
    let mut fields = HashMap::new();
    let mut rest = line;
    while let Some((key, tail)) = rest.split_once('=') {
        let (value, tail) = if let Some(quoted) = tail.strip_prefix('"') {
            let mut end = 0;
            while let Some(at) = quoted[end..].find('"') {
                end += at;
                if !quoted[..end].ends_with('\\') {
                    break;
                }
                end += 1;
            }
            (quoted[..end].to_owned(), &quoted[end + 1..])
        } else {
            let end = tail.find(' ').unwrap_or(tail.len());
            (tail[..end].to_owned(), &tail[end..])
        };
        fields.insert(key.trim_start().to_owned(), value);
        rest = tail;
    }
    fields
}

/// Runs a command of `seawall` to its end; status, stdout, stderr.
pub fn seawall(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(BINARY)
        .args(args)
        .output()
        .expect("run seawall");
    (
        output.status.code().expect("seawall was killed"),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Python with no library but its own. It is started many times: what PATH has may be a script that looks for
/// it, and takes as much time again as all the rest.
pub fn python3() -> Command {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let mut command = Command::new("python3");
        command.args(["-c", "import sys; print(sys.executable)"]);
        let output = command.output().expect("run python3");
        String::from_utf8(output.stdout).unwrap().trim_end().into()
    });
    let mut command = Command::new(path);
    command.args(["-I", "-S"]);
    command
}

/// Python that goes on with a script while a test asks and it answers; killed at the end.
pub struct Interpreter {
    child: Child,
    pub stdin: ChildStdin,
    pub stdout: BufReader<ChildStdout>,
}

impl Interpreter {
    pub fn start(script: &str, arguments: &[&Path]) -> Self {
        let mut child = python3()
            .args(["-c", script])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run python3");
        Interpreter {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Python's SQLite, which shares no code or build with ours. The process stays for the next question: to start it takes a
/// hundred times as long as to ask.
struct Foreign(Interpreter);

impl Foreign {
    fn start() -> Self {
        let script = r"
import os, sqlite3, sys
while lengths := sys.stdin.buffer.readline().split():
    path, query = (sys.stdin.buffer.read(int(length)) for length in lengths)
    try:
        connection = sqlite3.connect(os.fsdecode(path), timeout=30, isolation_level=None)
        try:
            rows = list(connection.execute(query.decode()))
        finally:
            connection.close()
        status, answer = 'rows', '\n'.join('|'.join(map(str, row)) for row in rows)
    except Exception as error:
        status, answer = 'error', repr(error)
    answer = answer.encode()
    sys.stdout.buffer.write(b'%s %d\n%s' % (status.encode(), len(answer), answer))
    sys.stdout.buffer.flush()
";
        Foreign(Interpreter::start(script, &[]))
    }

    fn ask(&mut self, db: &Path, query: &str) -> Result<String, String> {
        let path = db.as_os_str().as_bytes();
        let lengths = format!("{} {}\n", path.len(), query.len());
        let question = [lengths.as_bytes(), path, query.as_bytes()].concat();
        self.0.stdin.write_all(&question).unwrap();
        let mut head = String::new();
        self.0.stdout.read_line(&mut head).unwrap();
        let (status, length) = head.trim_end().split_once(' ').expect("an answer");
        let mut answer = vec![0; length.parse().unwrap()];
        self.0.stdout.read_exact(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap().trim_end().to_owned();
        if status == "rows" {
            Ok(answer)
        } else {
            Err(answer)
        }
    }
}

/// Asks an SQLite that is not ours; columns are parted by `|`. It makes a file where there is none.
pub fn try_sql(db: &Path, query: &str) -> Result<String, String> {
    thread_local!(static FOREIGN: RefCell<Foreign> = RefCell::new(Foreign::start()));
    FOREIGN.with(|foreign| foreign.borrow_mut().ask(db, query))
}

pub fn sql(db: &Path, query: &str) -> String {
    try_sql(db, query).unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// Opens the file with an SQLite that is not ours, as anybody may, runs something, and ends in some way.
pub fn python(db: &Path, script: &str) {
    let script = format!(
        "import os, sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n{script}\n"
    );
    let status = python3()
        .args(["-c", &script])
        .arg(db)
        .stdin(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{script}");
}

pub fn count(db: &Path) -> u64 {
    sql(db, "SELECT count(*) FROM sensor_readings")
        .parse()
        .unwrap()
}

/// Another process that is in the way: it runs `begin` on the database and keeps that transaction until
/// it is dropped.
pub struct Holder(Child);

impl Holder {
    /// For a reader: `BEGIN; SELECT count(*) FROM readings`. For a writer: `BEGIN IMMEDIATE`.
    pub fn start(db: &Path, begin: &str) -> Self {
        let script = "
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
for statement in sys.argv[2].split(';'):
    connection.execute(statement).fetchall()
print('held', flush=True)
sys.stdin.read()
";
        let mut child = python3()
            .args(["-c", script])
            .arg(db)
            .arg(begin)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run python3");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Holder(child)
    }

    /// Ends the transaction and the process.
    pub fn release(self) {}
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Checks that the file is whole, and everything in its ledger true.
pub fn assert_sound(db: &Path) {
    let (code, out, err) = seawall(&["check", "--full", "--db", db.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}{err}");
}

/// Starts a recorder of stdin that commits and acknowledges each line by itself.
pub fn start_stdin(db: &Path, more: &[&str]) -> Running {
    let args = ["--source", "stdin", "--ack", "--commit-interval", "0"];
    start(db, &[&args, more].concat())
}

/// Records these lines to their end.
pub fn record_lines(db: &Path, lines: &str) {
    let mut recorder = start(db, &["--source", "stdin"]);
    recorder.send(lines.as_bytes());
    recorder.close_stdin();
    assert_eq!(recorder.wait().code(), 0);
}

/// A database of ours whose header is gone.
pub fn make_damaged(db: &Path) {
    record_lines(db, "m v=1 1\n");
    let mut bytes = fs::read(db).unwrap();
    bytes[..100].fill(0);
    fs::write(db, bytes).unwrap();
}

/// The program with a database and more arguments.
pub fn command(db: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("--db").arg(db).args(args);
    command
}

pub fn start(db: &Path, args: &[&str]) -> Running {
    Running::spawn(&mut command(db, args))
}

/// SIGTERM is caught (bit 14 of the mask).
pub fn handles(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:\t"));
    caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << 14 != 0)
}

/// Python that holds something of a file: the script says `locked`, and goes on until its input ends.
pub fn hold(script: &str, path: &Path) -> Child {
    let mut holder = python3()
        .args(["-c", script])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "locked\n");
    holder
}

//! Guards against a recorder that a signal at the wrong moment takes readings from, and against an ack that
//! is written before its commit is on the disk. `strace` ends the recorder at the Nth system call that
//! touches the database's files, or sends it SIGTERM there; and it tells in which order the calls come.
//!
//! A sample of the calls, by a fixed seed (SEAWALL_TEST_SEED gives another); SEAWALL_SYSTEM_CALLS=all tries
//! every one. `strace` counts the calls of each thread apart, so that where both threads make a call for the
//! Nth time the earlier of the two is hit. A fault-injecting SIGTERM would be blocked by the thread that it
//! comes to: the process is stopped at the call instead, and is sent SIGTERM from outside.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::client::port;
use crate::support::http::Connection;
use crate::support::stop::*;
use crate::support::*;

const SEED: u64 = 4;
/// Of each scenario, beside one of every second system call that there is.
const SAMPLE: usize = 2;

/// Lines that are sent and waited for one after the other.
const STEPS: [std::ops::Range<u64>; 3] = [0..1, 1..4, 4..6];
const LINES: u64 = 6;
/// The value of the line that the next start records.
const AFTERWARDS: u64 = 1000;

/// Checkpoints come from the threshold alone; with it several are in the workload.
const OPTIONS: &str =
    "--source stdin --ack --commit-interval 0 --wal-autocheckpoint 5 --checkpoint-interval 0";

/// False, with a word of why, where there is no `strace` or it may not trace.
fn has_strace() -> bool {
    let probe = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output();
    let why = match probe {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(e) => e.to_string(),
    };
    assert!(std::env::var_os("CI").is_none(), "no strace: {why}");
    println!("skipped: no strace: {why}");
    false
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scenario {
    /// The file is made.
    New,
    /// The run before was killed, and all of it is in the WAL.
    Recovering,
}

impl Scenario {
    /// Readings that are there already.
    fn first_value(self) -> u64 {
        match self {
            Scenario::New => 0,
            Scenario::Recovering => LINES,
        }
    }

    fn prepare(self, db: &Path) {
        if self == Scenario::Recovering {
            let mut run = record(db, &OPTIONS.replace("checkpoint 5", "checkpoint 0"));
            run.send(&lines(0..LINES));
            run.wait_for_ack(LINES);
            run.kill();
        }
    }
}

/// A recorder under `strace`, whose trace tells of the calls that touch the database's files.
fn traced(db: &Path, trace: &Path, options: &str, strace: &[&str]) -> Running {
    let mut command = Command::new("strace");
    // Detached: so the recorder is our child, and not strace.
    command.args(["-D", "-f", "-y", "-q", "-o", text(trace)]);
    command.args(strace);
    command.args([&*BINARY, "record", "--db", text(db)]);
    command.args(options.split_whitespace());
    Running::spawn(&mut command)
}

fn paths(db: &Path) -> Vec<String> {
    let mut paths = vec![text(db.parent().unwrap()).to_owned()];
    paths.extend(
        ["", "-wal", "-shm", "-journal", "-mark"]
            .map(|ending| text(&beside(db, ending)).to_owned()),
    );
    paths
}

/// The workload: some commits, some checkpoints, the end of the input. `turn` is called again and again.
/// Gives the lines that were sent.
fn work(running: &mut Running, first_value: u64, mut turn: impl FnMut(&mut Running)) -> u64 {
    use std::io::Write;
    let mut sent = 0;
    for step in STEPS {
        let values = first_value + step.start..first_value + step.end;
        let stdin = running.stdin.as_mut().unwrap();
        // It may have ended.
        if stdin.write_all(&lines(values)).is_err() {
            break;
        }
        sent = step.end;
        until("the lines are acknowledged, or it ends", || {
            turn(running);
            (running.acked() >= sent || running.has_ended()).then_some(())
        });
    }
    running.close_stdin();
    until("it ends", || {
        turn(running);
        running.has_ended().then_some(())
    });
    sent
}

/// A trace is whole when its last process has ended.
fn read_trace(trace: &Path, pid: u32) -> String {
    until("strace has written all", || {
        let text = fs::read_to_string(trace).ok()?;
        let pid = pid.to_string();
        let is_over = |line: &str| line.starts_with(&pid) && line.contains(" +++ ");
        text.lines().any(is_over).then_some(text)
    })
}

/// `PID call(rest`; none for signals, ends, and calls of which this is the second part.
fn call(line: &str) -> Option<(&str, &str, &str)> {
    let (pid, rest) = line.split_once(' ')?;
    let (name, rest) = rest.trim_start().split_once('(')?;
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.chars().all(is_name).then_some((pid, name, rest))
}

/// How often each call is made by the thread that makes it most often.
fn calls(scenario: Scenario) -> (BTreeMap<String, u32>, usize) {
    let dir = Dir::new("calls");
    let (db, trace) = (dir.file("db/x.db"), dir.file("trace"));
    fs::create_dir(dir.file("db")).unwrap();
    scenario.prepare(&db);
    let paths = paths(&db);
    let options: Vec<&str> = paths
        .iter()
        .flat_map(|path| ["-P", path.as_str()])
        .collect();
    let mut running = traced(&db, &trace, OPTIONS, &options);
    let pid = running.pid();
    work(&mut running, scenario.first_value(), |_| {});
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    // Else there is less to hit than is said.
    assert!(ended.has("cause=autocheckpoint"), "{:#?}", ended.log);
    assert_eq!(
        ended.has("event=recovered"),
        scenario == Scenario::Recovering
    );

    let text = read_trace(&trace, pid);
    let mut by_thread: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut all = 0;
    for (pid, name, _) in text.lines().filter_map(call) {
        *by_thread.entry((name, pid)).or_default() += 1;
        all += 1;
    }
    let mut most = BTreeMap::new();
    for ((name, _), count) in by_thread {
        let entry = most.entry(name.to_owned()).or_insert(0);
        *entry = count.max(*entry);
    }
    for expected in [
        "pwrite64",
        "pread64",
        "fdatasync",
        "ftruncate",
        "unlink",
        "fcntl",
        "mmap",
    ] {
        assert!(most.contains_key(expected), "no {expected} in {most:?}");
    }
    (most, all)
}

/// Which calls to try: all, or some; one of each in one of the two scenarios.
fn choose(scenario: Scenario, calls: &BTreeMap<String, u32>) -> Vec<(String, u32)> {
    let all = calls
        .iter()
        .flat_map(|(name, &count)| (1..=count).map(|n| (name.clone(), n)));
    if std::env::var("SEAWALL_SYSTEM_CALLS").is_ok_and(|value| value == "all") {
        return all.collect();
    }
    let seed = std::env::var("SEAWALL_TEST_SEED").map_or(SEED, |text| text.parse().unwrap());
    println!("SEAWALL_TEST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut chosen: Vec<_> = calls
        .iter()
        .skip(usize::from(scenario == Scenario::Recovering))
        .step_by(2)
        .map(|(name, &count)| (name.clone(), rng.u32(1..=count)))
        .collect();
    chosen.extend(rng.choose_multiple(all, SAMPLE));
    chosen
}

struct Trial {
    _dir: Dir,
    db: PathBuf,
    /// What it is called in a failure.
    name: String,
    first_value: u64,
    sent: u64,
    ended: Ended,
}

impl Trial {
    fn run(scenario: Scenario, (name, n): &(String, u32), signal: i32) -> Self {
        let dir = Dir::new("system-call");
        let (db, trace) = (dir.file("db/x.db"), dir.file("trace"));
        fs::create_dir(dir.file("db")).unwrap();
        scenario.prepare(&db);
        let injected = if signal == libc::SIGKILL {
            "KILL"
        } else {
            "STOP"
        };
        let inject = format!("inject={name}:signal={injected}:when={n}");
        let only = format!("trace={name}");
        let paths = paths(&db);
        let mut options: Vec<&str> = paths
            .iter()
            .flat_map(|path| ["-P", path.as_str()])
            .collect();
        options.extend(["-e", &only, "-e", &inject]);
        let mut running = traced(&db, &trace, OPTIONS, &options);
        // Each thread that comes to its Nth call stops them all.
        let mut stops = 0;
        let first_value = scenario.first_value();
        let sent = work(&mut running, first_value, |running| {
            if signal == libc::SIGKILL {
                return;
            }
            let text = fs::read_to_string(&trace).unwrap_or_default();
            let now = text.matches("--- stopped by SIGSTOP ---").count();
            if stops == 0 && now > 0 {
                running.signal(signal);
            }
            if now > stops {
                running.try_signal(libc::SIGCONT);
            }
            stops = now;
        });
        let ended = running.wait();
        let name = format!("{scenario:?}, {name} number {n}");
        let hit = ended.status.signal() == Some(libc::SIGKILL) || stops > 0;
        assert!(hit, "{name} never came: {:#?}", ended.log);
        Trial {
            _dir: dir,
            db,
            name,
            first_value,
            sent,
            ended,
        }
    }

    /// The next start needs no help, and then all that was acknowledged is there, once, and nothing else
    /// but a beginning of what was sent after it. Gives how many readings of the trial are there.
    fn look_after(&self) -> u64 {
        let Trial { db, name, .. } = self;
        let mut next = record(db, OPTIONS);
        next.send(&lines(AFTERWARDS..AFTERWARDS + 1));
        next.close_stdin();
        let next = next.wait();
        assert_eq!(
            (next.code(), next.acked()),
            (0, 1),
            "{name}: {:#?}",
            next.log
        );
        assert_one_file(db);
        assert_sound(db);
        let values = sql(db, "SELECT value FROM sensor_readings ORDER BY id");
        let values: Vec<u64> = values.lines().map(|value| value.parse().unwrap()).collect();
        let there = values.len() as u64 - 1;
        let expected: Vec<u64> = (0..there).chain([AFTERWARDS]).collect();
        assert_eq!(values, expected, "{name}");
        let acked = self.first_value + self.ended.acked();
        let most = self.first_value + self.sent;
        assert!(
            (acked..=most).contains(&there),
            "{name}: {there} readings are there, {acked} were acknowledged, {most} sent"
        );
        there - self.first_value
    }
}

fn sweep(what: &str, signal: i32, look: impl Fn(&Trial)) {
    for scenario in [Scenario::New, Scenario::Recovering] {
        let (calls, all) = calls(scenario);
        let chosen = choose(scenario, &calls);
        for one in &chosen {
            look(&Trial::run(scenario, one, signal));
        }
        println!(
            "{what} at {} of {all} system calls, {scenario:?}: {calls:?}",
            chosen.len()
        );
    }
}

#[test]
fn acked_readings_survive_sigkill_at_each_system_call() {
    if !has_strace() {
        return;
    }
    sweep("SIGKILL", libc::SIGKILL, |trial| {
        trial.look_after();
    });
}

#[test]
fn sigterm_at_each_system_call_is_a_whole_stop() {
    if !has_strace() {
        return;
    }
    sweep("SIGTERM", libc::SIGTERM, |trial| {
        let Trial {
            db, name, ended, ..
        } = trial;
        assert_eq!(ended.code(), 0, "{name}: {:#?}", ended.log);
        let stopped = ended.stopped();
        let told = |key: &str| stopped[key].as_str();
        // The end of the input may have come first.
        assert!(
            ["SIGTERM", "eof"].contains(&told("reason")),
            "{name}: {stopped:?}"
        );
        assert_eq!(
            (told("uncommitted"), told("wal_frames")),
            ("0", "0"),
            "{name}"
        );
        if db.exists() {
            assert_one_file(db);
        }
        let there = trial.look_after();
        assert_eq!(told("committed"), there.to_string(), "{name}");
        assert_eq!(ended.acked(), there, "{name}: the last ack");
    });
}

/// How far the line is that was sent last.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Awaited {
    Read,
    /// Since it was read, something was written to the WAL.
    Written,
    /// And synced. What is written to it after that is not its own.
    Synced,
    /// And the mark says so, by which the next start would notice its loss.
    Marked,
}

impl Awaited {
    fn write(&mut self) {
        if *self == Awaited::Read {
            *self = Awaited::Written;
        }
    }

    fn sync(&mut self) {
        if *self == Awaited::Written {
            *self = Awaited::Synced;
        }
    }

    fn mark(&mut self) {
        if *self == Awaited::Synced {
            *self = Awaited::Marked;
        }
    }
}

/// What is wrong with the order of a trace's calls.
fn faults_of_order(trace: &str) -> Vec<String> {
    let mut faults = Vec::new();
    // Writes that no sync has followed; and the syncs that have begun and not ended.
    let (mut wal, mut db) = (0, 0);
    let mut awaited = Awaited::Marked;
    let mut syncing: BTreeMap<&str, &str> = BTreeMap::new();
    let mut seen: HashSet<&str> = HashSet::new();
    for line in trace.lines() {
        // By a read, or by the second part of one.
        if line.contains("\"m,k=a v=") {
            awaited = Awaited::Read;
            seen.insert("a line that is read");
        }
        let Some((pid, name, rest)) = call(line) else {
            let Some((pid, rest)) = line.split_once(' ') else {
                continue;
            };
            let is_sync =
                rest.contains("<... fdatasync resumed>") || rest.contains("<... fsync resumed>");
            if is_sync && rest.ends_with(" = 0") {
                match syncing.remove(pid) {
                    Some("wal") => {
                        wal = 0;
                        awaited.sync();
                    }
                    Some("db") => db = 0,
                    _ => {}
                }
            }
            continue;
        };
        let file = match rest
            .split_once('<')
            .and_then(|(_, rest)| rest.split_once('>'))
        {
            Some((path, _)) if path.ends_with("/x.db-wal") => "wal",
            Some((path, _)) if path.ends_with("/x.db") => "db",
            Some((path, _)) if path.ends_with("/x.db-mark") => "mark",
            _ => "",
        };
        match (name, file) {
            // The WAL starts again from its beginning: what it held has to be in the database.
            ("pwrite64", "wal") if rest.contains(", 0) = ") && db > 0 => {
                faults.push(format!(
                    "the WAL starts again before {db} writes are synced: {line}"
                ));
            }
            ("ftruncate", "wal") if db > 0 => {
                faults.push(format!(
                    "the WAL is cut before {db} writes are synced: {line}"
                ));
            }
            ("ftruncate", "wal") => wal = 0,
            ("pwrite64" | "write" | "pwritev", "wal") => {
                wal += 1;
                awaited.write();
                seen.insert("a write to the WAL");
            }
            ("pwrite64" | "write" | "pwritev", "db") => {
                if wal > 0 {
                    faults.push(format!(
                        "copied before {wal} writes to the WAL are synced: {line}"
                    ));
                }
                db += 1;
                seen.insert("a write to the database");
            }
            ("pwrite64", "mark") => {
                awaited.mark();
                seen.insert("a write to the mark");
            }
            ("fdatasync" | "fsync", _) if line.ends_with("<unfinished ...>") => {
                syncing.insert(pid, file);
            }
            ("fdatasync" | "fsync", "wal") if line.ends_with(" = 0") => {
                wal = 0;
                awaited.sync();
            }
            ("fdatasync" | "fsync", "db") if line.ends_with(" = 0") => db = 0,
            ("write", _) if rest.contains(">, \"ack ") => {
                if awaited != Awaited::Marked {
                    faults.push(format!("acknowledged when {awaited:?}: {line}"));
                }
                seen.insert("an ack");
            }
            _ => {}
        }
    }
    assert_eq!(seen.len(), 5, "only {seen:?} in {trace}");
    faults
}

/// One line is sent after the other's ack, and nothing else is recorded: so no commit is under way while an
/// ack is written.
fn trace_of_acks(level: &str) -> String {
    let dir = Dir::new("order");
    let (db, trace) = (dir.file("x.db"), dir.file("trace"));
    let calls = "trace=read,write,pwrite64,pwritev,fdatasync,fsync,ftruncate";
    let options = format!("{OPTIONS} --synchronous {level}");
    let mut running = traced(&db, &trace, &options, &["-s", "16", "-e", calls]);
    let pid = running.pid();
    for line in 0..30 {
        running.send(&lines(line..line + 1));
        running.wait_for_ack(line + 1);
    }
    running.close_stdin();
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    read_trace(&trace, pid)
}

#[test]
fn no_ack_is_written_before_the_wal_is_synced() {
    if !has_strace() {
        return;
    }
    for level in ["auto", "full"] {
        let faults = faults_of_order(&trace_of_acks(level));
        assert!(faults.is_empty(), "{level}: {faults:#?}");
    }
}

#[test]
fn lines_that_were_committed_before_their_request_ended_are_synced_before_its_204() {
    if !has_strace() {
        return;
    }
    let dir = Dir::new("request");
    let (db, trace) = (dir.file("x.db"), dir.file("trace"));
    let options = "--source http:0 --commit-interval 0 --log-level debug";
    let calls = "trace=read,write,fdatasync,fsync";
    let running = traced(&db, &trace, options, &["-s", "16", "-e", calls]);
    running.wait_for("ready");
    let mut client = Connection::to(port(&running, "http"));
    client.send(
        "POST /write HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nm v=1\n\r\n",
    );
    running.wait_for("commit");
    assert_eq!(client.send("0\r\n\r\n").status(), Some(204));
    let pid = running.pid();
    running.stop(libc::SIGTERM);
    let text = read_trace(&trace, pid);
    let at = |what: &str| {
        text.find(what)
            .unwrap_or_else(|| panic!("no {what} in {text}"))
    };
    let synced = text[at("\"0\\r\\n\\r\\n\"")..at("\"HTTP/1.1 204")].lines();
    let synced = synced.filter(|line| line.contains("sync(") && line.contains("x.db-wal>"));
    assert_eq!(synced.count(), 1, "{text}");
}

#[test]
fn the_order_of_calls_shows_an_ack_that_comes_too_early() {
    if !has_strace() {
        return;
    }
    // The one level that acknowledges what is not on the disk yet.
    let faults = faults_of_order(&trace_of_acks("normal"));
    let early = faults
        .iter()
        .filter(|fault| fault.starts_with("acknowledged"));
    assert!(early.count() > 10, "{faults:#?}");
    // A checkpoint's order is the same at every level.
    assert!(
        faults.iter().all(|fault| fault.starts_with("acknowledged")),
        "{faults:#?}"
    );
}

//! One database that lives through kills, stops, full disks, readers and other tools, as the plans say; and
//! what must be true of it after each.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ChildStdin;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::disk::{Disk, Filler};
use super::plan::{Before, Beside, End, Plan};
use super::tool::Tool;
use crate::support::stop::*;
use crate::support::*;

/// Each start's lines have values of their own, from this times its number.
const VALUES_PER_START: u64 = 1_000_000;
/// `check --full` reads all of the file.
const CHECKED_EVERY: u64 = 400;

#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub starts: u64,
    pub killed_starting: u64,
    pub killed_recording: u64,
    pub killed_stopping: u64,
    pub stops: u64,
    pub second_signals: u64,
    pub full_disks: u64,
    pub pins: u64,
    pub tools: u64,
    pub checks: u64,
    /// Lines, by the recorder's acks as this process counted them.
    pub acknowledged: u64,
    /// Readings of these lines, and of lines that were committed and not acknowledged before the kill.
    pub found: u64,
    /// Acknowledged and not found.
    pub lost: u64,
    /// Gaps, doubles, readings of nobody, failed checks, files set aside.
    pub damaged: u64,
}

impl Figures {
    pub fn kills(&self) -> u64 {
        self.killed_starting + self.killed_recording + self.killed_stopping
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "kills={} (starting={} recording={} stopping={}) restarts={} stops={} second_signals={} \
             full_disks={} pins={} tools={} checks={} acknowledged={} found={} lost={} damaged={}",
            self.kills(),
            self.killed_starting,
            self.killed_recording,
            self.killed_stopping,
            self.starts.saturating_sub(1),
            self.stops,
            self.second_signals,
            self.full_disks,
            self.pins,
            self.tools,
            self.checks,
            self.acknowledged,
            self.found,
            self.lost,
            self.damaged
        )
    }
}

/// What is owed of one start that has ended.
#[derive(Clone, Copy, Debug)]
struct Owed {
    start: u64,
    acked: u64,
    sent: u64,
    /// It stopped by itself, so that all that it committed is acknowledged.
    exact: bool,
}

pub struct Torture {
    pub figures: Figures,
    seed: u64,
    db: PathBuf,
    tool: Tool,
    owed: Vec<Owed>,
    /// Readings of each start that is owed something, as far as the file was looked through.
    held: HashMap<u64, u64>,
    /// Up to this id the file was looked through.
    looked_to: u64,
    /// The start before which the reader ends its transaction.
    pinned_until: Option<u64>,
    /// What was wrong.
    pub complaints: Vec<String>,
    // Last, so that nobody is there any more when it is unmounted.
    disk: Disk,
}

/// Sends numbered lines, in writes of random length, until all are sent or the recorder is gone. Gives how
/// many, and the pipe if it is still open.
fn send(mut stdin: ChildStdin, plan: &Plan) -> JoinHandle<(u64, Option<ChildStdin>)> {
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let (first, lines) = (plan.number * VALUES_PER_START, plan.lines);
    thread::spawn(move || {
        let mut sent = 0;
        while sent < lines {
            let end = lines.min(sent + rng.u64(1..60));
            let mut bytes = Vec::new();
            for line in sent..end {
                writeln!(bytes, "torture v={}i", first + line).unwrap();
            }
            sent = end;
            let (one, other) = bytes.split_at(rng.usize(0..bytes.len()));
            if stdin.write_all(one).is_err() || stdin.write_all(other).is_err() {
                return (sent, None);
            }
            if rng.u8(..) < 100 {
                thread::sleep(Duration::from_micros(rng.u64(0..4000))); // the pause is the test
            }
        }
        (sent, Some(stdin))
    })
}

fn pause(us: u64) {
    thread::sleep(Duration::from_micros(us)); // the pause is the test
}

impl Torture {
    pub fn new(seed: u64) -> Self {
        let disk = Disk::new();
        let db = disk.path().join("torture.db");
        Torture {
            figures: Figures::default(),
            seed,
            tool: Tool::start(&db),
            db,
            owed: Vec::new(),
            held: HashMap::new(),
            looked_to: 0,
            pinned_until: None,
            complaints: Vec::new(),
            disk,
        }
    }

    fn complain(&mut self, complaint: String) {
        println!("start {}: {complaint}", self.figures.starts);
        self.figures.damaged += 1;
        self.complaints.push(complaint);
    }

    /// The next start, as the seed has it.
    pub fn once(&mut self) {
        let plan = Plan::new(self.seed, self.figures.starts);
        self.run(&plan);
        if self.figures.starts.is_multiple_of(CHECKED_EVERY) {
            self.check();
        }
    }

    pub fn run(&mut self, plan: &Plan) {
        self.before(plan);
        let mut options = plan.options.clone();
        let mut beside = plan.beside;
        let recording = !matches!(plan.end, End::KillStarting(_));
        if matches!(beside, Beside::Fill(_)) && !self.disk.can_be_filled() {
            // More than any disk has: only the last commit of a stop is made.
            options += " --min-free 1000000000GiB";
            beside = Beside::Nothing;
            self.figures.full_disks += u64::from(recording);
        }
        self.figures.starts += 1;
        let mut running = record_at_once(&self.db, &options);
        if let End::KillStarting(us) = plan.end {
            // Lines may be taken as soon as it is ready.
            let sender = send(running.stdin.take().unwrap(), plan);
            pause(us);
            self.figures.killed_starting += u64::from(running.try_signal(libc::SIGKILL));
            return self.ended(plan, running, sender);
        }
        until("it is ready, or ends", || {
            let is_ready = running
                .log()
                .iter()
                .any(|line| line.contains(" event=ready "));
            (is_ready || running.has_ended()).then_some(())
        });
        // Before anything is sent: what is there is of the starts before.
        self.look(false);
        let sender = send(running.stdin.take().unwrap(), plan);
        let filler = self.begin_beside(beside, plan, &running);
        self.end(plan, beside, running, sender, filler);
    }

    fn before(&mut self, plan: &Plan) {
        if self.pinned_until.is_some_and(|until| until <= plan.number) {
            self.tool.ask("unpin").unwrap();
            self.pinned_until = None;
        }
        if !self.db.exists() {
            return;
        }
        match plan.before {
            Before::Nothing => {}
            Before::Touch => {
                self.figures.tools += 1;
                // A file that was killed before it had tables has none.
                let _ = self.tool.ask("touch");
            }
            Before::Checkpoint(mode) => self.checkpoint(mode),
            Before::Check => {
                if self.looked_to > 0 {
                    self.check();
                }
            }
        }
    }

    fn checkpoint(&mut self, mode: &str) {
        self.figures.tools += 1;
        let busy = if self.pinned_until.is_some() {
            "20ms"
        } else {
            "1s"
        };
        let (code, out, err) = seawall(&[
            "checkpoint",
            "--db",
            text(&self.db),
            "--mode",
            mode,
            "--busy-timeout",
            busy,
        ]);
        // Busy, or the file is empty still.
        if ![0, 3].contains(&code) && !err.contains("it is empty") && !err.contains("locked") {
            self.complain(format!("checkpoint: status {code}: {out}{err}"));
        }
    }

    fn begin_beside(&mut self, beside: Beside, plan: &Plan, running: &Running) -> Option<Filler> {
        match beside {
            Beside::Nothing => {}
            Beside::Pin(starts) => {
                self.figures.pins += 1;
                self.pinned_until = Some(plan.number + starts + 1);
                self.tool.ask("pin").unwrap();
            }
            Beside::Touch => {
                self.figures.tools += 1;
                self.tool.begin("touch");
            }
            Beside::Lock(ms) => {
                self.figures.tools += 1;
                self.tool.begin(&format!("lock {ms}"));
            }
            Beside::AskForCheckpoint => {
                running.try_signal(libc::SIGUSR1);
            }
            Beside::Checkpoint(mode) => self.checkpoint(mode),
            Beside::Fill(_) => {
                self.figures.full_disks += 1;
                return Some(self.disk.fill());
            }
        }
        None
    }

    fn end(
        &mut self,
        plan: &Plan,
        beside: Beside,
        mut running: Running,
        sender: JoinHandle<(u64, Option<ChildStdin>)>,
        mut filler: Option<Filler>,
    ) {
        let give_back = beside == Beside::Fill(true);
        let wait = |us, filler: &mut Option<Filler>| {
            pause(us);
            if give_back {
                *filler = None;
                pause(us);
            }
        };
        let mut sender = Some(sender);
        let mut sent = None;
        match plan.end {
            End::KillStarting(_) => unreachable!("it was killed"),
            End::KillRecording(us) => {
                wait(us, &mut filler);
                self.figures.killed_recording += u64::from(running.try_signal(libc::SIGKILL));
            }
            End::KillStopping(signal, us, more) => {
                wait(us, &mut filler);
                running.try_signal(signal);
                pause(more);
                // It may have stopped by then.
                if running.has_ended() {
                    self.figures.stops += 1;
                } else {
                    running.try_signal(libc::SIGKILL);
                    self.figures.killed_stopping += 1;
                }
            }
            End::Stop(signal, us) => {
                wait(us, &mut filler);
                running.try_signal(signal);
                self.figures.stops += 1;
            }
            End::StopTwice(first, us, second, more) => {
                wait(us, &mut filler);
                running.try_signal(first);
                pause(more);
                running.try_signal(second);
                self.figures.stops += 1;
                self.figures.second_signals += 1;
            }
            End::Input => {
                // A full disk is waited out at the end of the input.
                filler = None;
                let (lines, stdin) = sender.take().unwrap().join().unwrap();
                sent = Some(lines);
                drop(stdin);
                if plan.simulated {
                    // The other source goes on.
                    running.try_signal(libc::SIGTERM);
                }
                self.figures.stops += 1;
            }
        }
        if matches!(beside, Beside::Touch | Beside::Lock(_)) {
            // What the tool says of a lock that it did not get is its own affair.
            let _ = self.tool.answer();
        }
        let full = filler.is_some();
        let ended = running.wait();
        drop(filler);
        let sent = sent.unwrap_or_else(|| sender.take().unwrap().join().unwrap().0);
        self.settle(plan, full, ended, sent);
    }

    fn ended(
        &mut self,
        plan: &Plan,
        running: Running,
        sender: JoinHandle<(u64, Option<ChildStdin>)>,
    ) {
        let ended = running.wait();
        let (sent, _) = sender.join().unwrap();
        self.settle(plan, false, ended, sent);
    }

    /// What is owed of a start, and whether its end was as it has to be.
    fn settle(&mut self, plan: &Plan, full: bool, ended: Ended, sent: u64) {
        let acked = ended.acked();
        self.figures.acknowledged += acked;
        let code = ended.status.code();
        self.owed.push(Owed {
            start: plan.number,
            acked,
            sent,
            exact: code.is_some(),
        });
        for event in [" event=database-damaged ", " event=set-aside "] {
            if ended.has(event) {
                self.complain(format!("{plan:?}: {:#?}", ended.log));
            }
        }
        let Some(code) = code else {
            return;
        };
        let without_room = full || plan.beside == Beside::Fill(false);
        let stopped = ended
            .log
            .last()
            .is_some_and(|line| line.contains(" event=stopped "));
        let right = match code {
            0 => stopped,
            // A reader, a full disk, or a second signal left frames.
            3 => stopped,
            4 => stopped && without_room,
            _ => false,
        };
        if !right {
            return self.complain(format!("{plan:?}: status {code}: {:#?}", ended.log));
        }
        let told = ended.stopped();
        if code != 4 && told["uncommitted"] != "0" {
            self.complain(format!("{plan:?}: status {code}: {told:?}"));
        }
        let wal = fs::metadata(beside(&self.db, "-wal")).map_or(0, |wal| wal.len());
        if code == 0 && wal > 0 {
            self.complain(format!("{plan:?}: status 0, and {wal} bytes in the WAL"));
        }
    }

    /// Looks through what the starts before have recorded since the last look: the ids go on without a gap,
    /// and the lines of each start are a beginning of those sent, each once, and all that were acknowledged.
    pub fn look(&mut self, of_all: bool) {
        let rows = match self.tool.rows(self.looked_to, of_all) {
            Ok(rows) => rows,
            Err(error) => return self.complain(format!("cannot look: {error}")),
        };
        for (id, value) in rows {
            if id != self.looked_to + 1 {
                self.complain(format!("after {} comes {id}", self.looked_to));
            }
            self.looked_to = id;
            let Some(value) = value else {
                continue;
            };
            let (start, line) = (value / VALUES_PER_START, value % VALUES_PER_START);
            let held = self.held.entry(start).or_default();
            if *held != line {
                let complaint =
                    format!("reading {id}: line {line} of start {start} after {held} lines");
                self.complain(complaint);
            } else {
                *held += 1;
            }
        }
        for owed in std::mem::take(&mut self.owed) {
            let held = self.held.remove(&owed.start).unwrap_or(0);
            self.figures.found += held;
            if held < owed.acked {
                self.figures.lost += owed.acked - held;
                let complaint = format!("{owed:?}: {held} lines found");
                println!("lost: {complaint}");
                self.complaints.push(complaint);
            }
            if held > owed.sent || (owed.exact && held > owed.acked) {
                self.complain(format!("{owed:?}: {held} lines found"));
            }
        }
        if let Some(start) = self.held.keys().next() {
            self.complain(format!(
                "readings of start {start}, which is looked through"
            ));
            self.held.clear();
        }
    }

    /// `check --full`, by a process of its own.
    fn check(&mut self) {
        self.figures.checks += 1;
        let (code, out, err) = seawall(&["check", "--full", "--db", text(&self.db)]);
        if code != 0 {
            self.complain(format!("check: {out}{err}"));
        }
    }

    /// The end: everybody goes, a last start is stopped in peace, and all of the file is looked at.
    pub fn finish(&mut self) {
        self.tool.ask("unpin").unwrap();
        self.pinned_until = None;
        self.figures.starts += 1;
        let running = record(&self.db, "--source stdin");
        let ended = running.stop(libc::SIGTERM);
        self.figures.stops += 1;
        if ended.status.code() != Some(0) {
            self.complain(format!("the last stop: {:#?}", ended.log));
        }
        self.look(true);
        self.check();
    }

    /// For the control: one reading of the last start less.
    pub fn take_one_reading(&mut self) {
        self.tool.ask("take-one").unwrap();
    }

    /// For the control: the file loses what is in its WAL.
    pub fn take_wal(&mut self) {
        for ending in ["-wal", "-shm"] {
            fs::remove_file(beside(&self.db, ending)).unwrap();
        }
    }

    /// For the control: a start that acknowledges everything and is killed with all of it in the WAL.
    pub fn kill_with_all_in_wal(&mut self) {
        let plan = Plan {
            options: "--source stdin --ack --commit-interval 0 --wal-autocheckpoint 0".into(),
            before: Before::Nothing,
            beside: Beside::Nothing,
            ..Plan::new(self.seed, self.figures.starts)
        };
        self.figures.starts += 1;
        let mut running = record(&self.db, &plan.options);
        self.look(false);
        let sender = send(running.stdin.take().unwrap(), &plan);
        running.wait_for_ack(plan.lines);
        running.signal(libc::SIGKILL);
        self.figures.killed_recording += 1;
        self.ended(&plan, running, sender);
    }
}

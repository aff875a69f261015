//! What recording takes of the machine: processor and memory at 1,000 readings a second, wakeups and writes when
//! no reading is due. Memory at full rate is measured with the throughput.
//!
//! All processes run at the same time: it is what each of them takes that is counted, not how fast it is.

use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::influx::{self, Server};
use super::recorder::{Recorder, image_program, remove};
use super::sockets::Listening;
use super::throughput::NO_IMAGE;
use super::{bare, process, table};

const SAMPLES: usize = 5;
const SAMPLE: Duration = Duration::from_secs(4);
/// What a start writes, and the first commits.
const SETTLE: Duration = Duration::from_secs(2);
/// 8 lines in so much are 1,000 a second.
const TICK: Duration = Duration::from_millis(8);

/// What was measured of one process.
struct Process {
    pid: u32,
    cpu_percent: Vec<f64>,
    wakeups_per_s: Vec<f64>,
    written: Vec<f64>,
    before: (f64, u64, u64),
}

impl Process {
    fn new(pid: u32) -> Self {
        Process {
            pid,
            cpu_percent: Vec::new(),
            wakeups_per_s: Vec::new(),
            written: Vec::new(),
            before: Default::default(),
        }
    }

    fn begin(&mut self) {
        let pid = self.pid;
        self.before = (
            process::cpu_s(pid),
            process::wakeups(pid),
            process::written_bytes(pid),
        );
    }

    fn end(&mut self, took: Duration) {
        let (cpu, wakeups, written) = self.before;
        self.begin();
        let seconds = took.as_secs_f64();
        self.cpu_percent
            .push((self.before.0 - cpu) / seconds * 100.0);
        self.wakeups_per_s
            .push((self.before.1 - wakeups) as f64 / seconds);
        self.written.push((self.before.2 - written) as f64);
    }

    fn peak(&self) -> [f64; 1] {
        [process::peak_mib(self.pid).expect("a process that runs")]
    }
}

pub fn measure(folder: &Path) {
    let names = [
        "one.db",
        "eight.db",
        "stdin.db",
        "bare-one.db",
        "bare-eight.db",
        "image.db",
    ];
    let dbs = names.map(|name| folder.join(name));
    let one = Recorder::start(&dbs[0], &["--source", "sim:sensors=1,rate=1000"]);
    let eight = Recorder::start(&dbs[1], &["--source", "sim:sensors=8,rate=125"]);
    let mut stdin = Recorder::start(&dbs[2], &["--source", "stdin"]);
    let idle = Listening::start(folder, "1s").recorder;
    let bare_one = bare::Running::start(&["pace", dbs[3].to_str().unwrap(), "1", "1"]);
    let bare_eight = bare::Running::start(&["pace", dbs[4].to_str().unwrap(), "8", "8"]);
    let sleeper = bare::Running::start(&["sleep"]);
    let image = image_program().map(|program| {
        let options = ["--source", "sim:sensors=8,rate=125"];
        Recorder::spawn(Command::new(program), &dbs[5], &options)
    });
    let server = influx::is_installed().then(|| Server::start(folder));
    let processes = [
        Some(one.pid()),
        Some(eight.pid()),
        Some(stdin.pid()),
        Some(idle.pid()),
        Some(bare_one.pid()),
        Some(bare_eight.pid()),
        Some(sleeper.pid()),
        image.as_ref().map(Recorder::pid),
        server.as_ref().map(Server::pid),
    ];
    let mut all = processes.map(|pid| pid.map(Process::new));

    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let input = stdin.stdin.as_mut().unwrap();
        scope.spawn(|| feed(input, &over));
        thread::sleep(SETTLE);
        all.iter_mut().flatten().for_each(Process::begin);
        let mut start = Instant::now();
        for _ in 0..SAMPLES {
            thread::sleep(SAMPLE);
            let took = start.elapsed();
            start = Instant::now();
            all.iter_mut()
                .flatten()
                .for_each(|process| process.end(took));
        }
        over.store(true, Ordering::Relaxed);
    });
    print(&all);

    drop((bare_one, bare_eight, sleeper, server));
    for recorder in [one, eight, stdin, idle].into_iter().chain(image) {
        recorder.discard();
    }
    dbs.iter().for_each(|db| remove(db));
}

/// Lines at 1,000 a second, without times of their own.
fn feed(input: &mut ChildStdin, over: &AtomicBool) {
    let mut due = Instant::now();
    let mut n = 0;
    while !over.load(Ordering::Relaxed) {
        let lines: String = (n..n + 8)
            .map(|n| {
                format!(
                    "weather,station=s{} temperature_c={}\n",
                    n % 8,
                    bare::value(n)
                )
            })
            .collect();
        input.write_all(lines.as_bytes()).expect("send lines");
        n += 8;
        due += TICK;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn print(all: &[Option<Process>; 9]) {
    let [
        one,
        eight,
        stdin,
        idle,
        bare_one,
        bare_eight,
        sleeper,
        image,
        server,
    ] = all.each_ref().map(Option::as_ref);
    let (each_ms, each_8_ms) = (
        ("bare loop, 1 each ms", bare_one),
        ("bare loop, 8 each 8 ms", bare_eight),
    );
    let pairs = [
        ("1,000/s, sim, 1 each ms", one, each_ms),
        ("1,000/s, sim, 8 each 8 ms", eight, each_8_ms),
        ("1,000/s, stdin, 8 each 8 ms", stdin, each_8_ms),
        ("1,000/s, sim, 8 each 8 ms, the image's", image, each_8_ms),
    ];
    for (name, ours, (yardstick, theirs)) in pairs {
        let (Some(ours), Some(theirs)) = (ours, theirs) else {
            table::skip(name, NO_IMAGE);
            continue;
        };
        let cpu = format!("CPU, {name}");
        table::row(
            "% of core",
            (&cpu, &ours.cpu_percent),
            (yardstick, &theirs.cpu_percent),
        );
        let memory = format!("peak memory, {name}");
        table::row("MiB", (&memory, &ours.peak()), (yardstick, &theirs.peak()));
    }
    let idle = idle.expect("it ran");
    for (name, other) in [
        ("a process that sleeps 1 s at a time", sleeper),
        ("InfluxDB 1.x, idle", server),
    ] {
        let Some(other) = other else {
            table::skip("idle, beside InfluxDB 1.x", "influxd is not installed");
            continue;
        };
        table::row(
            "wakeups/s",
            ("idle, two sockets open", &idle.wakeups_per_s),
            (name, &other.wakeups_per_s),
        );
        table::row(
            "bytes",
            ("idle, written in 4 s", &idle.written),
            (name, &other.written),
        );
    }
}

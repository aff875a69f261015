//! Guards against a recorder that acknowledges what a SIGKILL takes away: at any moment, in the middle of
//! a commit, a checkpoint, a start or a stop. What was acknowledged is counted outside, by the process at
//! the other end of the pipes, and looked for in the file after each kill.

use std::collections::HashMap;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::support::stop::*;
use crate::support::*;

/// Of each so many lines, one is rejected, so that acks count lines and not readings.
const REJECTED_EVERY: u64 = 10;
/// Each start's lines have values of their own, from this times its number.
const VALUES_PER_START: u64 = 1_000_000;
/// What a sender sends at most, so that the file stays small.
const LINES_MAX: u64 = 10_000;

fn is_rejected(line: u64) -> bool {
    line % REJECTED_EVERY == REJECTED_EVERY - 1
}

/// Readings in the first so many lines.
fn readings_in(lines: u64) -> u64 {
    (0..lines).filter(|&line| !is_rejected(line)).count() as u64
}

/// When a recorder is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    Starting,
    Recording,
    Stopping,
}

/// What was seen of one start of the recorder from outside.
#[derive(Clone, Debug)]
struct Seen {
    start: u64,
    /// Its number in the file; none if it was killed before it said so.
    run: Option<u64>,
    moment: Moment,
    acked: u64,
    recovered: Vec<(u64, u64)>,
}

impl Seen {
    fn first_value(&self) -> u64 {
        self.start * VALUES_PER_START
    }
}

/// The runs as the file has them, with what it holds of each one's lines.
struct Run {
    id: u64,
    reason: String,
    committed: u64,
    rejected: u64,
    /// Readings, different values, least and greatest value of the lines sent.
    held: Option<[u64; 4]>,
}

/// Compares a file with what was seen of the recorders that wrote it, all of which have ended but one that
/// may be running. The error says what is wrong.
fn compare(db: &Path, history: &[Seen], running: Option<u64>) -> Result<(), String> {
    let oldest = history.iter().find_map(|seen| seen.run).unwrap_or(0);
    // In one statement, and so in one snapshot.
    let rows = sql(
        db,
        &format!(
            "SELECT 'all', count(*), coalesce(min(id), 1), coalesce(max(id), 0),
               (SELECT coalesce(sum(committed), 0) FROM runs) FROM readings
             UNION ALL
             SELECT run, count(*), count(DISTINCT value), min(value), max(value)
             FROM sensor_readings WHERE sensor = 'kills'
               AND id >= (SELECT max(first_id) FROM runs WHERE id <= {oldest})
             GROUP BY run
             UNION ALL
             SELECT 'run', id || ' ' || (ended_ns IS NOT NULL), reason, committed, rejected FROM runs"
        ),
    );
    let mut held = HashMap::new();
    let mut runs: Vec<Run> = Vec::new();
    for row in rows.lines() {
        let row: Vec<&str> = row.split('|').collect();
        let numbers = || -> Vec<u64> { row.iter().map(|n| n.parse().unwrap_or(0)).collect() };
        match row[0] {
            "all" => {
                let [_, readings, least, greatest, committed] = numbers()[..] else {
                    panic!("{row:?}")
                };
                if (least, greatest) != (1, readings) {
                    return Err(format!(
                        "{readings} readings with ids from {least} to {greatest}"
                    ));
                }
                if readings != committed {
                    return Err(format!("{readings} readings, {committed} in the ledger"));
                }
            }
            "run" => {
                let (id, ended) = row[1].split_once(' ').unwrap();
                let id: u64 = id.parse().unwrap();
                if Some(id) == running {
                    continue;
                }
                if ended != "1" || !["unclean", "SIGTERM"].contains(&row[2]) {
                    return Err(format!("run {id} has not ended, or wrongly: {row:?}"));
                }
                runs.push(Run {
                    id,
                    reason: row[2].to_owned(),
                    committed: numbers()[3],
                    rejected: numbers()[4],
                    held: held.get(&id).copied(),
                });
            }
            _ => {
                let [run, count, different, least, greatest] = numbers()[..] else {
                    panic!("{row:?}")
                };
                held.insert(run, [count, different, least, greatest]);
            }
        }
    }

    for seen in history {
        let run = match seen.run {
            Some(id) => runs.iter().find(|run| run.id == id),
            // Nothing is read before the recorder is ready.
            None => {
                if seen.acked > 0 {
                    return Err(format!("{seen:?}: acks before ready"));
                }
                continue;
            }
        };
        let run = run.ok_or_else(|| format!("{seen:?}: its run is not there"))?;
        if seen.moment != Moment::Stopping && run.reason != "unclean" {
            return Err(format!("{seen:?}: the run has the reason {}", run.reason));
        }
        let [count, different, first, last] = run.held.unwrap_or_default();
        let acked = readings_in(seen.acked);
        if count < acked {
            return Err(format!(
                "{seen:?}: {count} readings, {acked} were acknowledged"
            ));
        }
        if count == 0 {
            continue;
        }
        // The lines of one sender: a beginning of them, each once.
        let lines = last - seen.first_value() + 1;
        if first != seen.first_value() || different != count || readings_in(lines) != count {
            return Err(format!(
                "{seen:?}: {count} readings, {different} values, {first} to {last}"
            ));
        }
        // The rejected lines are counted by the same commits; the last may have ended in one.
        let rejected = lines - count;
        let one_more = u64::from(is_rejected(lines));
        if !(rejected..=rejected + one_more).contains(&run.rejected) {
            return Err(format!(
                "{seen:?}: {rejected} lines rejected, the run has {}",
                run.rejected
            ));
        }
        if run.committed < count {
            return Err(format!(
                "{seen:?}: {count} readings, the run has {}",
                run.committed
            ));
        }
    }

    // What was told of the runs that were found open is what the file says of them.
    for (id, readings) in history.iter().flat_map(|seen| &seen.recovered) {
        let run = runs.iter().find(|run| run.id == *id);
        if !run.is_some_and(|run| run.reason == "unclean" && run.committed == *readings) {
            return Err(format!(
                "run {id} was told as recovered with {readings} readings"
            ));
        }
    }
    Ok(())
}

/// What the log says of the runs that this start found open.
fn recovered(log: &[String]) -> Vec<(u64, u64)> {
    let lines = log.iter().filter(|line| line.contains(" event=recovered "));
    lines
        .map(|line| {
            let told = fields(line);
            assert_eq!(told["reason"], "unclean", "{line}");
            (
                told["run"].parse().unwrap(),
                told["readings"].parse().unwrap(),
            )
        })
        .collect()
}

fn run_of(log: &[String]) -> Option<u64> {
    let ready = log.iter().find(|line| line.contains(" event=ready "))?;
    fields(ready)["run"].parse().ok()
}

/// Numbered lines until the recorder is gone, in writes of random length. Says whether all were sent.
fn send(
    mut stdin: std::process::ChildStdin,
    first_value: u64,
    mut rng: fastrand::Rng,
) -> thread::JoinHandle<bool> {
    use std::io::Write;
    thread::spawn(move || {
        let mut sent = 0;
        while sent < LINES_MAX {
            let mut bytes = Vec::new();
            for _ in 0..rng.u64(1..200) {
                if is_rejected(sent) {
                    bytes.extend(b"kills v=rejected\n");
                } else {
                    writeln!(bytes, "kills v={}i", first_value + sent).unwrap();
                }
                sent += 1;
            }
            // In two parts, so that a line is often cut.
            let (one, other) = bytes.split_at(rng.usize(0..bytes.len()));
            if stdin.write_all(one).is_err() || stdin.write_all(other).is_err() {
                return false;
            }
            if rng.u8(..) < 64 {
                thread::sleep(Duration::from_micros(rng.u64(0..3000))); // the pause is the test
            }
        }
        // Held open: the end of the input would be a stop.
        std::mem::forget(stdin);
        true
    })
}

struct Kills {
    rng: fastrand::Rng,
    history: Vec<Seen>,
    /// Kills that came while lines were being sent.
    cut_short: u32,
}

impl Kills {
    /// Starts a recorder, looks at what the kills before left, and kills it.
    fn once(&mut self, db: &Path) {
        let rng = &mut self.rng;
        let start = self.history.len() as u64;
        let moment = match rng.u8(0..8) {
            0 | 1 => Moment::Starting,
            2 | 3 => Moment::Stopping,
            _ => Moment::Recording,
        };
        let interval = ["0", "5ms", "50ms"][rng.usize(0..3)];
        let mut options = format!("--source stdin --commit-interval {interval}");
        if rng.u8(0..4) > 0 {
            options += " --ack";
        }
        if rng.bool() {
            options += " --source sim:sensors=3,rate=1000";
        }
        if rng.u8(0..4) == 0 {
            options += " --source sim:rate=max,count=10000";
        }
        options += [
            "",
            " --wal-autocheckpoint 20",
            " --checkpoint-interval 10ms --checkpoint-mode truncate",
            " --queue-rows 500",
        ][rng.usize(0..4)];

        let mut running = record_at_once(db, &options);
        let mut seen = Seen {
            start,
            run: None,
            moment,
            acked: 0,
            recovered: Vec::new(),
        };
        let stdin = running.stdin.take().unwrap();
        if moment != Moment::Starting {
            running.wait_for("ready");
            let log = running.log();
            // From the last one of which it was not yet known how it ended.
            let looked_at = self
                .history
                .iter()
                .rposition(|seen| seen.moment != Moment::Starting);
            let news = &self.history[looked_at.unwrap_or(0)..];
            let result = compare(db, news, run_of(&log));
            assert!(result.is_ok(), "start {start}, {options}: {result:?}");
            self.assert_told(&recovered(&log));
        }
        let sender = send(stdin, seen.first_value(), self.rng.fork());
        let most_us = if moment == Moment::Starting {
            20_000
        } else {
            60_000
        };
        thread::sleep(Duration::from_micros(self.rng.u64(0..most_us))); // the pause is the test
        if moment == Moment::Stopping {
            running.signal(libc::SIGTERM);
            thread::sleep(Duration::from_micros(self.rng.u64(0..6_000))); // the pause is the test
        }
        running.try_signal(libc::SIGKILL);
        let ended = running.wait();
        self.cut_short += u32::from(!sender.join().unwrap());
        seen.run = run_of(&ended.log);
        seen.acked = ended.acked();
        seen.recovered = recovered(&ended.log);
        assert!(seen.acked == 0 || options.contains("--ack"));
        // Else another process has interfered.
        let stopping = ended.has(" event=stopping ");
        assert!(moment == Moment::Stopping || !stopping, "{:#?}", ended.log);
        self.history.push(seen);
    }

    /// The run that was killed while it recorded is told by the next start that gets ready, unless one in
    /// between was killed while it said so.
    fn assert_told(&self, now: &[(u64, u64)]) {
        let Some(last) = self.history.last() else {
            return;
        };
        if let (Some(run), Moment::Recording) = (last.run, last.moment) {
            assert!(
                now.iter().any(|told| told.0 == run),
                "run {run} is not in {now:?}"
            );
        }
    }
}

/// Kills a recorder again and again over one database; gives what was seen.
fn kill_many(db: &Path, kills: u32) -> Vec<Seen> {
    let mut all = Kills {
        rng: fastrand::Rng::with_seed(seed()),
        history: Vec::new(),
        cut_short: 0,
    };
    for n in 1..=kills {
        all.once(db);
        if n % 20 == 0 {
            // While a recorder is at work, as `check` promises.
            let running = record(db, "--source sim:rate=1000");
            assert_sound(db);
            let ended = running.stop(libc::SIGKILL);
            all.history.push(Seen {
                start: all.history.len() as u64,
                run: run_of(&ended.log),
                moment: Moment::Recording,
                acked: 0,
                recovered: recovered(&ended.log),
            });
        }
    }
    println!(
        "{} of {} kills cut the sender short",
        all.cut_short,
        all.history.len()
    );
    all.history
}

#[test]
fn acked_readings_survive_sigkill_at_any_moment() {
    const KILLS: u32 = 72;
    let dir = Dir::new("kills");
    let db = dir.file("kills.db");
    let history = kill_many(&db, KILLS);
    // The end: a start that is stopped in peace leaves one whole file.
    let ended = record(&db, "--source stdin").stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_stopped(&db, &ended, 0, "SIGTERM");
    compare(&db, &history, None).unwrap();
    let acked: u64 = history.iter().map(|seen| seen.acked).sum();
    let of = |moment| history.iter().filter(|seen| seen.moment == moment).count();
    println!(
        "{} kills: {} starting, {} recording, {} stopping; {acked} lines acked, {} readings",
        history.len(),
        of(Moment::Starting),
        of(Moment::Recording),
        of(Moment::Stopping),
        count(&db)
    );
    // The kills came where they were meant to.
    assert!(acked > 1000);
    assert!(
        history
            .iter()
            .any(|seen| seen.moment == Moment::Starting && seen.run.is_none())
    );
}

#[test]
fn the_harness_and_check_notice_one_reading_less() {
    let dir = Dir::new("control");
    let db = dir.file("control.db");
    let mut history = kill_many(&db, 6);
    // One more, of which it is known that it acknowledged much.
    let start = history.len() as u64;
    let mut running = record(&db, "--source stdin --ack --commit-interval 5ms");
    let sender = send(
        running.stdin.take().unwrap(),
        start * VALUES_PER_START,
        fastrand::Rng::with_seed(1),
    );
    running.wait_for_ack(LINES_MAX / 2);
    let ended = running.stop(libc::SIGKILL);
    sender.join().unwrap();
    let seen = Seen {
        start,
        run: run_of(&ended.log),
        moment: Moment::Recording,
        acked: ended.acked(),
        recovered: recovered(&ended.log),
    };
    let (run, first, acked) = (seen.run.unwrap(), seen.first_value(), seen.acked);
    history.push(seen);
    let ended = record(&db, "--source stdin").stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_stopped(&db, &ended, 0, "SIGTERM");
    compare(&db, &history, None).unwrap();
    assert_sound(&db);

    let value = |n: u64| {
        format!(
            "id = (SELECT id FROM sensor_readings WHERE run = {run} AND value = {})",
            first + n
        )
    };
    let last_acked = (0..acked).rev().find(|&line| !is_rejected(line)).unwrap();
    let middle = readings_in(acked) / 2 / REJECTED_EVERY * REJECTED_EVERY;
    let beyond = format!(
        "id > (SELECT id FROM sensor_readings WHERE run = {run} AND value = {})",
        first + middle
    );
    let sabotages = [
        format!("DELETE FROM readings WHERE {}", value(middle)),
        format!("DELETE FROM readings WHERE {}", value(0)),
        format!("DELETE FROM readings WHERE {}", value(last_acked)),
        // Everything from one on, as when the commits of a while are gone.
        format!("DELETE FROM readings WHERE {beyond}"),
        // And the ledger made to agree.
        format!(
            "DELETE FROM readings WHERE {beyond};
             UPDATE runs SET committed = committed - (SELECT sum(committed) FROM runs)
               + (SELECT count(*) FROM readings) WHERE id = {run}"
        ),
        format!(
            "UPDATE readings SET value = value + 1 WHERE {}",
            value(middle)
        ),
        format!("UPDATE runs SET committed = committed - 1 WHERE id = {run}"),
        format!("UPDATE runs SET reason = NULL, ended_ns = NULL WHERE id = {run}"),
    ];
    for (n, sabotage) in sabotages.iter().enumerate() {
        let copy = dir.file(&format!("sabotage-{n}.db"));
        std::fs::copy(&db, &copy).unwrap();
        let script = "
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2].split(';'):
    assert connection.execute(statement).rowcount > 0
";
        let status = python3()
            .args(["-c", script])
            .arg(&copy)
            .arg(sabotage)
            .status();
        assert!(status.unwrap().success(), "{sabotage}");
        let noticed = compare(&copy, &history, None);
        println!("{noticed:?}");
        assert!(noticed.is_err(), "the harness did not notice: {sabotage}");
        // An open run is nothing wrong in a file of which the recorder may be at work.
        if n + 1 < sabotages.len() {
            let (status, out, _) = seawall(&["check", "--db", text(&copy)]);
            assert_eq!(status, 1, "check did not notice: {sabotage}\n{out}");
        }
    }

    // And acks for what was not committed.
    for seen in &mut history {
        seen.acked += if seen.run == Some(run) { LINES_MAX } else { 0 };
    }
    assert!(compare(&db, &history, None).is_err());
}

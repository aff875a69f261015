//! Guards against a service manager that takes a recorder for started before it records, for hung while it waits, or for
//! alive while its disk hangs; and against a recorder that waits for its manager.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::manager::Manager;
use crate::support::mounts::Mount;
use crate::support::recording::*;
use crate::support::shim::Shim;
use crate::support::stop::*;
use crate::support::*;
use seawall::record::notify;
use seawall::record::progress::Progress;

const EXTEND: &str = "EXTEND_TIMEOUT_USEC=";
const FED: &str = "WATCHDOG=1";

/// A recorder that this manager has started, with a watchdog where it has an interval.
fn start_of(manager: &Manager, db: &std::path::Path, options: &str, watchdog_us: &str) -> Running {
    let mut command = Command::new("sh");
    let script = "[ -z \"$WATCHDOG_USEC\" ] || export WATCHDOG_PID=$$; exec \"$@\"";
    command.args(["-c", script, "sh", &BINARY, "--db", text(db)]);
    command.args(options.split_whitespace());
    manager.of(&mut command);
    Running::spawn(command.env("WATCHDOG_USEC", watchdog_us))
}

#[test]
fn a_manager_is_told_of_the_start_the_readings_and_the_stop_in_this_order() {
    let dir = Dir::new("told");
    for mut manager in [
        Manager::at(&dir.file("notify")),
        Manager::abstract_one(dir.path()),
    ] {
        let db = dir.file("x.db");
        let running = start_of(&manager, &db, "--source sim:sensors=1,rate=100", "");
        manager.wait_for("READY=1");
        // The line of the log was written before.
        running.wait_for("ready");
        let rate = until("a rate is told that is that of the sensor", || {
            let status = manager.wait_for("STATUS=");
            let rate = status
                .strip_suffix("/s")?
                .rsplit(' ')
                .next()?
                .parse::<f64>();
            rate.ok().filter(|rate| *rate > 0.0)
        });
        assert!((60.0..=140.0).contains(&rate), "{rate}");
        let (last, _) = stop(&db, running);
        let heard = manager.drain();
        let place = |line: &str| heard.iter().position(|heard| heard.starts_with(line));
        let order = [
            "STATUS=opening the database",
            "READY=1",
            "STOPPING=1",
            "STATUS=stopping: ",
        ];
        let places: Vec<_> = order.iter().map(|line| place(line).expect(line)).collect();
        assert!(places.is_sorted(), "{heard:#?}");
        assert!(last.committed > 100);
        for once in order {
            assert_eq!(manager.count(once), 1, "{:#?}", manager.heard);
        }
        // Nobody has asked for a watchdog, and while it records there is no time limit.
        assert_eq!(manager.count(FED), 0);
        let asked = |line: &String| line.starts_with(EXTEND);
        assert!(!manager.heard[places[1]..places[2]].iter().any(asked));
    }
}

#[test]
fn a_start_that_waits_asks_for_more_time_and_is_not_ready() {
    let dir = Dir::new("extended");
    let db = dir.file("x.db");
    record_lines(&db, "m v=1\n");
    let writer = Holder::start(&db, "BEGIN EXCLUSIVE");
    let mut manager = Manager::at(&dir.file("notify"));
    let options = "--source stdin --busy-timeout 100ms";
    let running = start_of(&manager, &db, options, "1000000");
    running.wait_for("open-waiting");
    for _ in 0..2 {
        manager.wait_for(EXTEND);
    }
    manager.drain();
    assert_eq!((manager.count("READY=1"), manager.count(FED)), (0, 0));
    assert_eq!(
        manager.count("STATUS=opening the database; waiting: "),
        1,
        "{:?}",
        manager.heard
    );
    writer.release();
    manager.wait_for("READY=1");
    stop(&db, running);
}

/// The end of the input is a stop that waits for a lock however long.
#[test]
fn a_stop_that_waits_asks_for_more_time_and_is_not_fed_for() {
    let dir = Dir::new("stop-extended");
    let db = dir.file("x.db");
    let mut manager = Manager::at(&dir.file("notify"));
    let options = "--source stdin --busy-timeout 100ms --commit-interval 0";
    let mut running = start_of(&manager, &db, options, "1000000");
    running.wait_for("ready");
    let writer = Holder::start(&db, WRITER);
    running.send(&lines(0..1));
    running.close_stdin();
    manager.wait_for("STOPPING=1");
    let fed = manager.count(FED);
    for _ in 0..2 {
        manager.wait_for(EXTEND);
    }
    let said = "STATUS=stopping: 0 readings, 1 to commit";
    assert!(manager.count(said) > 0, "{:#?}", manager.heard);
    assert_eq!(manager.count(FED), fed);
    writer.release();
    assert_eq!(running.wait().code(), 0);
}

#[test]
fn the_watchdog_is_fed_while_there_is_nothing_to_do_and_while_a_lock_is_waited_for() {
    let dir = Dir::new("fed");
    let db = dir.file("x.db");
    let mut manager = Manager::at(&dir.file("notify"));
    let options = "--source stdin --ack --busy-timeout 1h --commit-interval 0";
    let mut running = start_of(&manager, &db, options, "1000000");
    for _ in 0..4 {
        manager.wait_for(FED);
    }
    assert_eq!(manager.count("READY=1"), 1);
    let writer = Holder::start(&db, WRITER);
    running.send(&lines(0..1));
    running.wait_until_read();
    // One hang long.
    for _ in 0..6 {
        manager.wait_for(FED);
    }
    assert_eq!(running.acked(), 0);
    writer.release();
    running.wait_for_ack(1);
    let (_, ended) = stop(&db, running);
    assert!(!ended.has("watchdog-unfed"), "{:#?}", ended.log);
}

#[test]
fn the_watchdog_is_not_fed_while_a_sync_hangs() {
    let shim = Shim::make("sync");
    let Some(disk) = Mount::fuse("subtype=slow", |command| shim.preload(command)) else {
        return;
    };
    let db = disk.file("x.db");
    let dir = Dir::new("unfed");
    let mut manager = Manager::at(&dir.file("notify"));
    let options =
        "--source sim:rate=100 --synchronous full --commit-interval 100ms --log-level debug";
    let running = start_of(&manager, &db, options, "1000000");
    manager.wait_for(FED);
    shim.set(8000);
    let unfed = running.wait_for("watchdog-unfed");
    shim.set(0);
    // All that was sent before this line.
    manager.drain();
    manager.wait_for(FED);
    let now_ns = seawall::sys::clock_ns(seawall::sys::Clock::Real);
    // Between the end of the sync and the line of its commit the writer gets on, so that it may be fed there: half of
    // the hang is allowed for that.
    let latest = seawall::time::timestamp(now_ns + 4_000_000_000);
    let is_commit = |line: &String| line.contains(" event=commit ") && *line > unfed;
    let commit = until("the hung commit is done", || {
        running.log().into_iter().find(is_commit)
    });
    assert!(
        fields(&commit)["ts"] <= latest,
        "fed 4 s before {latest}, and {commit}"
    );
    stop(&db, running);
}

/// A variable that means another process, or nothing, is not misread.
#[test]
fn what_is_not_meant_for_it_or_makes_no_sense_costs_no_more_than_a_warning() {
    let dir = Dir::new("misread");
    for (name, value, warned) in [
        ("WATCHDOG_PID", "1", ""),
        ("WATCHDOG_PID", "self", "WATCHDOG_PID is no number"),
        ("WATCHDOG_USEC", "0", "WATCHDOG_USEC is no number"),
        ("WATCHDOG_USEC", "30s", "WATCHDOG_USEC is no number"),
        ("WATCHDOG_USEC", "", ""),
        ("NOTIFY_SOCKET", "vsock:2:1", "NOTIFY_SOCKET is neither"),
        ("NOTIFY_SOCKET", &"/x".repeat(99), "invalid filename"),
        ("NOTIFY_SOCKET", "/not/there", "No such file"),
        ("NOTIFY_SOCKET", "@", "refused"),
        ("NOTIFY_SOCKET", "", ""),
    ] {
        let db = dir.file("x.db");
        let _ = std::fs::remove_file(dir.file("notify"));
        let mut manager = Manager::at(&dir.file("notify"));
        let mut command = command(&db, &["--source", "sim:count=1"]);
        manager.of(&mut command);
        command.env("WATCHDOG_USEC", "100000").env(name, value);
        let ended = Running::spawn(&mut command).wait();
        assert_eq!(ended.code(), 0, "{name}={value}: {:#?}", ended.log);
        let told = events(&ended.log, "no-notify");
        assert_eq!(
            told.len(),
            usize::from(!warned.is_empty()),
            "{name}={value}: {told:?}"
        );
        assert!(
            told.iter().all(|told| told["reason"].contains(warned)),
            "{told:?}"
        );
        manager.drain();
        assert_eq!(manager.count(FED), 0, "{name}={value}");
        let is_heard = manager.count("READY=1") == 1;
        assert_eq!(
            is_heard,
            name != "NOTIFY_SOCKET",
            "{name}={value}: {:?}",
            manager.heard
        );
    }
}

#[test]
fn a_manager_that_does_not_read_costs_nothing_and_is_told_later() {
    let dir = Dir::new("deaf");
    let db = dir.file("x.db");
    let mut manager = Manager::at(&dir.file("notify"));
    manager.fill();
    let mut running = start_of(
        &manager,
        &db,
        "--source stdin --ack --commit-interval 0",
        "1000000",
    );
    running.send(&lines(0..3));
    running.wait_for_ack(3);
    manager.wait_for("READY=1");
    manager.fill();
    let (last, ended) = stop(&db, running);
    assert_eq!(last.committed, 3);
    assert!(!ended.has(" event=no-notify "), "{:#?}", ended.log);
}

/// The manager counts from the message before: half of the interval is left when the next one is due.
#[test]
fn a_message_that_was_not_taken_is_sent_again_before_the_watchdog_bites() {
    let dir = Dir::new("again");
    let deaf = Manager::at(&dir.file("notify"));
    deaf.fill();
    for (watchdog_us, least_ms, most_ms) in
        [("", 1000, 1000), ("1000000", 10, 125), ("20000", 2, 3)]
    {
        let variable = |name: &str| {
            let set = match name {
                "NOTIFY_SOCKET" => &deaf.name[..],
                "WATCHDOG_USEC" => watchdog_us,
                _ => "",
            };
            Some(OsString::from(set))
        };
        let now = Instant::now();
        let mut teller = notify::Manager::new(&variable, now).unwrap();
        teller.tell(
            now,
            notify::ServiceState::Recording,
            &Progress::default(),
            0,
        );
        let again = (teller.next().unwrap() - now).as_millis();
        assert!(
            (least_ms..=most_ms).contains(&again),
            "{watchdog_us}: {again}"
        );
    }
}

/// The status that was taken before is not due for seconds.
#[test]
fn a_state_that_was_not_taken_is_sent_again_within_a_second() {
    for state in [
        notify::ServiceState::Recording,
        notify::ServiceState::Stopping,
    ] {
        let dir = Dir::new("again-state");
        let manager = Manager::at(&dir.file("notify"));
        let variable = |name: &str| (name == "NOTIFY_SOCKET").then(|| manager.name.clone().into());
        let now = Instant::now();
        let mut teller = notify::Manager::new(&variable, now).unwrap();
        let progress = Progress::default();
        teller.tell(now, notify::ServiceState::Starting, &progress, 0);
        assert_eq!(teller.next(), Some(now + Duration::from_secs(5)));
        manager.fill();
        teller.tell(now, state, &progress, 0);
        assert_eq!(teller.next(), Some(now + Duration::from_secs(1)));
    }
}

#[test]
fn in_the_journal_a_line_has_a_priority_and_no_time_of_its_own() {
    let dir = Dir::new("journal");
    for (is_journal, signal) in [
        (true, libc::SIGTERM),
        (false, libc::SIGTERM),
        (true, libc::SIGBUS),
    ] {
        let db = dir.file("x.db");
        let (mut journal, stderr) = UnixStream::pair().unwrap();
        let stderr = File::from(OwnedFd::from(stderr));
        let metadata = stderr.metadata().unwrap();
        let inode = metadata.ino() + u64::from(!is_journal);
        let mut command = command(&db, &["--source", "stdin", "--log-level", "debug"]);
        command.env("JOURNAL_STREAM", format!("{}:{inode}", metadata.dev()));
        command.env("SEAWALL_NO_SUCH", "1");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut log = String::new();
        let mut bytes = [0; 4096];
        while !log.contains("event=ready ") {
            let n = journal.read(&mut bytes).unwrap();
            assert!(n > 0, "{log}");
            log += std::str::from_utf8(&bytes[..n]).unwrap();
        }
        // SAFETY: the child is not reaped before `wait`.
        unsafe { libc::kill(child.id() as libc::pid_t, signal) };
        journal.read_to_string(&mut log).unwrap();
        child.wait().unwrap();
        let head = |line: &str, priority: &str, level: &str| match is_journal {
            true => line.starts_with(&format!("<{priority}>level={level} event=")),
            false => line.starts_with("ts=2") && line.contains(&format!("Z level={level} event=")),
        };
        for line in log.lines() {
            let levels = [("3", "error"), ("4", "warn"), ("6", "info"), ("7", "debug")];
            assert!(
                levels.iter().any(|(n, level)| head(line, n, level)),
                "{line}"
            );
        }
        let lines: Vec<_> = log.lines().collect();
        assert!(
            head(lines[0], "4", "warn") && lines[0].contains("unknown-variable"),
            "{log}"
        );
        assert!(head(lines.last().unwrap(), "6", "info"), "{log}");
    }
}

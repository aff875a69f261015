//! Checkpoints: guards against a WAL that grows without an end, and against a recorder that wakes the disk or the
//! processor for nothing.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::recording::*;
use crate::support::stop::*;
use crate::support::*;

const NO_CHECKPOINTS: &str = "--checkpoint-interval 0 --wal-autocheckpoint 0";

fn checkpoints(log: &[String], cause: &str) -> Vec<BTreeMap<String, String>> {
    let mut found = events(log, "checkpoint");
    found.retain(|event| event["cause"] == cause);
    for event in &found {
        assert!(["0", "1"].contains(&&*event["busy"]), "{event:?}");
        assert!(event["ms"].parse::<f64>().unwrap() >= 0.0, "{event:?}");
        assert!(
            number(event, "checkpointed") <= number(event, "log"),
            "{event:?}"
        );
    }
    found
}

#[test]
fn periodic_checkpoints_come_in_the_mode_asked_for() {
    for mode in ["passive", "full", "restart", "truncate"] {
        let dir = Dir::new("periodic");
        let db = dir.file("periodic.db");
        let options = format!(
            "--source stdin --ack --commit-interval 0 --checkpoint-interval 200ms --checkpoint-mode {mode}"
        );
        let mut running = record(&db, &options);
        for n in 0..3 {
            let before = checkpoints(&running.log(), "interval").len();
            running.send(&lines(n * 10..(n + 1) * 10));
            running.wait_for_ack((n + 1) * 10);
            until("a checkpoint follows", || {
                (checkpoints(&running.log(), "interval").len() > before).then_some(())
            });
        }
        let (_, ended) = stop(&db, running);
        for event in checkpoints(&ended.log, "interval") {
            assert_eq!((&*event["mode"], &*event["busy"]), (mode, "0"), "{event:?}");
            assert_eq!(event["log"], event["checkpointed"], "{event:?}");
        }
    }
}

#[test]
fn an_idle_recorder_leaves_the_disk_alone() {
    let dir = Dir::new("at-rest");
    let db = dir.file("at-rest.db");
    let options = "--source stdin --ack --checkpoint-interval 50ms --commit-interval 0";
    let mut running = record(&db, options);
    running.send(&lines(0..10));
    running.wait_for_ack(10);
    let told = |running: &Running| checkpoints(&running.log(), "interval").len();
    let settled = until("it is at rest", || {
        let before = told(&running);
        thread::sleep(Duration::from_millis(200)); // the pause is the test
        (before > 0 && told(&running) == before).then_some(before)
    });
    let stamps =
        || [&db, &beside(&db, "-wal")].map(|path| fs::metadata(path).unwrap().modified().unwrap());
    let before = stamps();
    // Twenty intervals in which nothing is to happen.
    thread::sleep(Duration::from_secs(1)); // the pause is the test
    assert_eq!(told(&running), settled, "{:#?}", running.log());
    assert_eq!(stamps(), before);
    // A reading ends the rest.
    running.send(&lines(10..20));
    until("another checkpoint", || {
        (told(&running) > settled).then_some(())
    });
    let (last, _) = stop(&db, running);
    assert_eq!(last.committed, 20);
}

/// How often any of its threads went to sleep, which is once for each time that it was woken; and what the
/// process has written, to files or to anything else.
fn awake(pid: u32) -> (u64, String) {
    let number = |text: String| -> u64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let written = |line: &&str| line.contains("wchar") || line.contains("write");
    (
        status.map(number).sum(),
        io.lines().filter(written).collect(),
    )
}

#[test]
fn an_idle_recorder_writes_nothing_and_wakes_no_more_than_once_a_second() {
    const PAUSE: Duration = Duration::from_secs(10);
    let dir = Dir::new("asleep");
    let db = dir.file("asleep.db");
    let options = "--source stdin --ack --source tcp:0 --source udp:0 --source sim:rate=0.001";
    let mut running = record(&db, options);
    running.send(&lines(0..10));
    running.wait_for_ack(10);
    // What follows a commit at once is over.
    thread::sleep(Duration::from_millis(500)); // the pause is the test
    let (woken_before, written_before) = awake(running.pid());
    let begun = Instant::now();
    thread::sleep(PAUSE); // the pause is the test
    let (woken, written) = awake(running.pid());
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(written, written_before);
    // The writer looks each second whether its files are still there; some more are for pages of the program
    // that were not in memory.
    let woken = woken - woken_before;
    assert!(
        woken as f64 <= seconds + 5.0,
        "{woken} times in {seconds} s"
    );
    stop(&db, running);
}

#[test]
fn the_automatic_checkpoint_keeps_the_wal_short() {
    const PAGES: u64 = 400;
    let dir = Dir::new("auto");
    let db = dir.file("auto.db");
    let options = "--source sim:rate=max,count=50000 --commit-rows 500 \
                   --checkpoint-interval 0 --wal-autocheckpoint 400";
    let ended = record_at_once(&db, options).wait();
    assert_stopped(&db, &ended, 0, "eof");
    let told = checkpoints(&ended.log, "autocheckpoint");
    assert!(told.len() > 1, "{:#?}", ended.log);
    for event in told {
        let frames = number(&event, "log");
        // One commit past the threshold, at most.
        assert!((PAGES..3 * PAGES).contains(&frames), "{event:?}");
        assert_eq!(event["mode"], "passive");
    }
}

#[test]
fn without_checkpoints_the_wal_grows_until_the_stop() {
    const WAL_BYTES: u64 = 8 << 20;
    let dir = Dir::new("none");
    let db = dir.file("none.db");
    let running = record(&db, &format!("--source sim:rate=max {NO_CHECKPOINTS}"));
    until("the -wal has grown", || {
        (fs::metadata(beside(&db, "-wal")).ok()?.len() > WAL_BYTES).then_some(())
    });
    assert!(events(&running.log(), "checkpoint").is_empty());
    let (_, ended) = stop(&db, running);
    let all = events(&ended.log, "checkpoint");
    let at_stop = checkpoints(&ended.log, "stop");
    assert_eq!(all.len(), at_stop.len(), "{:#?}", ended.log);
    assert_eq!(at_stop.last().unwrap()["mode"], "truncate");
    let frames = at_stop
        .iter()
        .map(|event| number(event, "log"))
        .max()
        .unwrap();
    assert!(32 + frames * FRAME_BYTES > WAL_BYTES, "{at_stop:?}");
    assert!(
        at_stop
            .iter()
            .all(|event| event["log"] == event["checkpointed"])
    );
}

#[test]
fn the_checkpoint_command_works_beside_a_recorder() {
    let dir = Dir::new("command");
    let db = dir.file("command.db");
    let options = format!("--source stdin --ack --commit-interval 0 {NO_CHECKPOINTS}");
    let mut running = record(&db, &options);
    let mut sent = 0;
    let mut send = |running: &mut Running| {
        running.send(&lines(sent..sent + 10));
        sent += 10;
        running.wait_for_ack(sent);
    };
    for mode in ["passive", "full", "restart", "truncate"] {
        send(&mut running);
        let (status, done) = checkpoint(&db, &format!("--mode {mode}"));
        assert_eq!(
            (status, done.busy, done.log),
            (0, 0, done.checkpointed),
            "{mode} {done:?}"
        );
        // SQLite counts the frames of a WAL that was cut to nothing as none.
        assert_eq!(done.log > 0, mode != "truncate", "{mode} {done:?}");
        let wal = fs::metadata(beside(&db, "-wal")).unwrap().len();
        assert_eq!(wal > 0, mode != "truncate", "{mode}");
        send(&mut running);
    }
    let reader = Holder::start(&db, READER);
    send(&mut running);
    for mode in ["passive", "full", "restart", "truncate"] {
        let (status, blocked) = checkpoint(&db, &format!("--mode {mode} --busy-timeout 50ms"));
        assert_eq!(status, 3, "{mode} {blocked:?}");
        assert_eq!(blocked.busy == 1, mode != "passive", "{mode} {blocked:?}");
        assert!(
            blocked.checkpointed < blocked.log || blocked.busy == 1,
            "{mode} {blocked:?}"
        );
        // The recorder is none the worse for it.
        send(&mut running);
    }
    reader.release();
    let (status, done) = checkpoint(&db, "--mode truncate");
    assert_eq!((status, done.busy), (0, 0), "{done:?}");
    send(&mut running);
    let (last, ended) = stop(&db, running);
    assert_eq!((last.committed, ended.acked()), (sent, sent));
}

#[test]
fn the_checkpoint_command_leaves_a_file_at_rest_as_it_is() {
    let dir = Dir::new("rest");
    let db = dir.file("rest.db");
    record_all(&db, "--source sim:rate=max,count=100");
    let before = fs::read(&db).unwrap();
    let (status, done) = checkpoint(&db, "");
    assert_eq!(
        (status, done.busy, done.log, done.checkpointed),
        (0, 0, 0, 0)
    );
    assert!(fs::read(&db).unwrap() == before);
    assert_one_file(&db);
}

#[test]
fn another_process_that_checkpoints_is_not_an_empty_wal() {
    let dir = Dir::new("ckpt-lock");
    let db = dir.file("x.db");
    let run = start(
        &db,
        &[
            "--source",
            "sim:rate=100",
            "--commit-interval",
            "0",
            "--stop-timeout",
            "1s",
        ],
    );
    run.wait_for("ready");
    until("something is recorded", || (count(&db) > 100).then_some(()));
    // SQLite's checkpoint lock is byte 121 of the -shm.
    let script = "
import fcntl, sys
shm = open(sys.argv[1], 'r+b')
fcntl.lockf(shm, fcntl.LOCK_EX, 1, 121)
print('held', flush=True)
sys.stdin.read()
";

    let mut holder = python3()
        .args(["-c", script])
        .arg(dir.file("x.db-shm"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut word).unwrap();
    let ended = run.stop(libc::SIGTERM);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(ended.code(), 3, "{:#?}", ended.log);
    assert_ne!(ended.stopped()["wal_frames"], "0");
    assert_eq!(count(&db).to_string(), ended.stopped()["committed"]);
}

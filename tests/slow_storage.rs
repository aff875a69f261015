//! Guards against a card that stalls: samples that are not taken while a sync takes seconds, and a stop that
//! waits for the storage until a supervisor kills it.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::mounts::Mount;
use crate::support::shim::Shim;
use crate::support::{Dir, Ended, Running, assert_sound, count, fields, seawall, sql, until};

/// A filesystem, served by a FUSE process of one thread, of which the syncs can be made slow; while one is
/// made nothing else is served.
struct SlowDisk {
    mount: Mount,
    shim: Shim,
}

impl SlowDisk {
    fn new() -> Option<Self> {
        let shim = Shim::make("sync");
        let mount = Mount::fuse("subtype=slow", |command| shim.preload(command))?;
        Some(SlowDisk { mount, shim })
    }

    /// Each sync from now on.
    fn stall(&self, time: Duration) {
        self.shim.set(time.as_millis() as i64);
    }
}

fn start(db: &Path, more: &str) -> Running {
    let mut args = vec!["--db", db.to_str().unwrap()];
    args.extend(more.split(' '));
    let run = Running::start(&args);
    run.wait_for("ready");
    run
}

fn commits(run: &Running) -> usize {
    let log = run.log();
    log.iter().filter(|l| l.contains(" event=commit ")).count()
}

/// Until the last line of the log, which a process may outlive for as long as the kernel is in a call for it.
fn stop(run: Running) -> (Duration, Ended) {
    let began = Instant::now();
    run.signal(libc::SIGTERM);
    run.wait_for("stopped");
    (began.elapsed(), run.wait())
}

#[test]
fn samples_keep_their_schedule_while_syncs_take_seconds() {
    const STALL: Duration = Duration::from_millis(1500);
    let Some(disk) = SlowDisk::new() else { return };
    let db = disk.mount.file("x.db");
    let run = start(
        &db,
        "--source sim:sensors=8,rate=125 --synchronous full --checkpoint-interval 2s --log-level debug",
    );
    let slow = Instant::now();
    disk.stall(STALL);
    let before = commits(&run);
    until("some commits were slow", || {
        (commits(&run) > before + 3).then_some(())
    });
    disk.stall(Duration::ZERO);
    // Each has waited for a sync at least.
    assert!(slow.elapsed() > 2 * STALL);
    let ended = run.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    let stopped = ended.stopped();
    assert_eq!((&*stopped["dropped"], &*stopped["uncommitted"]), ("0", "0"));
    assert!(!ended.has(" event=missed "), "{:#?}", ended.log);
    assert_eq!(count(&db).to_string(), stopped["committed"]);
    // A sample that had waited for the storage would come a stall after the one before it.
    let gap: i64 = sql(
        &db,
        "SELECT max(gap) FROM (SELECT time_ns - lag(time_ns) OVER (PARTITION BY series ORDER BY id) AS gap FROM readings)",
    )
    .parse()
    .unwrap();
    assert!(gap < STALL.as_nanos() as i64 / 2, "{gap} ns");
    assert_sound(&db);
}

#[test]
fn a_stop_on_slow_storage_commits_all_where_its_time_is_enough() {
    let Some(disk) = SlowDisk::new() else { return };
    let db = disk.mount.file("x.db");
    let run = start(&db, "--source sim:sensors=8,rate=125 --stop-timeout 60s");
    until("it records", || (count(&db) > 100).then_some(()));
    disk.stall(Duration::from_millis(300));
    let ended = run.stop(libc::SIGTERM);
    disk.stall(Duration::ZERO);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    assert_eq!(count(&db).to_string(), ended.stopped()["committed"]);
    assert_sound(&db);
}

#[test]
fn a_stop_keeps_its_deadline_and_says_what_a_stalled_storage_kept_it_from_committing() {
    const STALL: Duration = Duration::from_secs(6);
    let Some(disk) = SlowDisk::new() else { return };
    let db = disk.mount.file("x.db");
    let run = start(
        &db,
        "--source sim:sensors=8,rate=125 --synchronous full --commit-interval 100ms --stop-timeout 1s --log-level debug",
    );
    until("it records", || (commits(&run) > 3).then_some(()));
    disk.stall(STALL);
    // The writer is in the sync when no commit comes any more.
    let mut seen = (commits(&run), Instant::now());
    until("a commit hangs", || {
        let now = commits(&run);
        if now != seen.0 {
            seen = (now, Instant::now());
        }
        (seen.1.elapsed() > Duration::from_secs(1)).then_some(())
    });
    let (took, ended) = stop(run);
    disk.stall(Duration::ZERO);
    assert!(took < STALL / 2, "the stop took {took:?}");
    assert_eq!(ended.code(), 4, "{:#?}", ended.log);
    let stopped = fields(ended.log.last().unwrap());
    let number = |key: &str| stopped[key].parse::<u64>().unwrap();
    assert!(number("uncommitted") > 500, "{stopped:?}");
    // The commit that hung is whole or not there.
    let next = Running::start(&["--db", db.to_str().unwrap(), "--source", "sim:count=1"]).wait();
    assert_eq!(next.code(), 0, "{:#?}", next.log);
    let found = count(&db) - 1;
    assert!(found >= number("committed"));
    assert!(found <= number("committed") + number("uncommitted"));
    assert_sound(&db);
}

#[test]
fn a_stop_keeps_its_deadline_though_the_folder_of_its_socket_stalls() {
    const STALL: Duration = Duration::from_secs(4);
    let Some(disk) = SlowDisk::new() else { return };
    let dir = Dir::new("stalled-socket");
    let db = dir.file("x.db");
    let socket = disk.mount.file("s");
    let run = start(
        &db,
        &format!("--source unix:{} --stop-timeout 1s", socket.display()),
    );
    disk.stall(STALL);
    let file = File::create(disk.mount.file("file")).unwrap();
    let syncing = thread::spawn(move || file.sync_all().unwrap());
    until("nothing is served", || {
        let nothing = disk.mount.file("nothing");
        let probe = thread::spawn(move || fs::symlink_metadata(nothing).is_err());
        thread::sleep(Duration::from_millis(200)); // the pause is the test
        (!probe.is_finished()).then_some(())
    });
    let (took, ended) = stop(run);
    disk.stall(Duration::ZERO);
    assert!(took < STALL / 2, "the stop took {took:?}");
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    syncing.join().unwrap();
    // What is left of it is in nobody's way.
    let next = start(&db, &format!("--source unix:{}", socket.display()));
    assert_eq!(next.stop(libc::SIGTERM).code(), 0);
    assert!(!socket.exists());
}

/// The kernel has the inode of a file that is open, and of the folders above it, in memory.
#[test]
fn status_answers_while_the_disk_hangs() {
    const STALL: Duration = Duration::from_secs(14);
    const SOON: Duration = Duration::from_secs(5);
    let Some(disk) = SlowDisk::new() else { return };
    let Some(inner) = Mount::image_in(Some(disk.mount.at()), "ext4", 64, &["-q"]) else {
        return;
    };
    let db = inner.file("x.db");
    let run = start(
        &db,
        "--source sim:sensors=8,rate=125 --synchronous full --commit-interval 100ms --log-level debug",
    );
    until("it records", || (commits(&run) > 3).then_some(()));
    let status = || {
        let began = Instant::now();
        let (code, out, _) = seawall(&["status", "--db", db.to_str().unwrap()]);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        (code, out)
    };
    disk.stall(STALL);
    until("the disk is reported", || {
        let (code, out) = status();
        (code == 1 && out.contains("reason=the disk has not answered, for 1")).then_some(())
    });
    disk.stall(Duration::ZERO);
    until("it records again", || (status().0 == 0).then_some(()));
    let ended = run.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    assert_sound(&db);
}

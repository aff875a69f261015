//! Guards against an end without a word: the -shm is memory that is mapped from a file, and where the disk below it has
//! gone the kernel sends SIGBUS.

use std::process::Command;

use crate::support::loss::{Recorder, next};
use crate::support::mounts::Mount;
use crate::support::*;

#[test]
fn a_bus_error_ends_a_recorder_with_a_reason_and_a_last_line() {
    let dir = Dir::new("bus");
    let db = dir.file("x.db");
    let mut recorder = Recorder::start(&db, &[]);
    recorder.record(3);
    let ended = recorder.running.stop(libc::SIGBUS);
    assert_eq!(ended.code(), 4, "{:#?}", ended.log);
    let [.., failed, last] = &ended.log[..] else {
        panic!("{:#?}", ended.log)
    };
    assert!(failed.contains(" level=error event=database-failed error=\"the memory"));
    assert!(failed.contains("its disk or a quota is full, or the device has gone"));
    assert!(failed.ends_with('"'), "{failed}");
    assert_eq!(ended.stopped()["reason"], "SIGBUS");
    assert_eq!((fields(last)["ts"].len(), ended.acked()), (24, 3));
    assert_eq!(next(&db).code(), 0);
    assert_eq!(count(&db), 4);
}

#[test]
fn a_bus_error_ends_a_command_with_one_line() {
    let dir = Dir::new("bus");
    let db = dir.file("x.db");
    record_lines(&db, "m v=1\n");
    let follower = Running::start(&["export", "--follow", "--db", db.to_str().unwrap()]);
    until("it has its handlers", || {
        handles(follower.pid()).then_some(())
    });
    let ended = follower.stop(libc::SIGBUS);
    assert_eq!((ended.code(), ended.log.len()), (1, 1), "{:#?}", ended.log);
    assert!(ended.log[0].starts_with("seawall: the memory that is shared"));
}

/// XFS goes down, as it does when its device has gone.
#[test]
fn a_filesystem_that_goes_down_ends_the_recorder_with_a_last_line() {
    let Some(mount) = Mount::image("xfs", 320, &["-q"]) else {
        return;
    };
    let db = mount.file("x.db");
    let run = start(&db, &["--source=sim:rate=20", "--commit-interval=50ms"]);
    run.wait_for("ready");
    until("something is recorded", || (count(&db) > 0).then_some(()));
    let at = mount.at().to_str().unwrap();
    let synced = Command::new("sync").args(["-f", at]).status();
    assert!(synced.unwrap().success());
    let shut_down = Command::new("xfs_io")
        .args(["-xc", "shutdown", at])
        .output();
    if !shut_down.is_ok_and(|output| output.status.success()) {
        return skip("no xfs_io");
    }
    // SIGBUS, or an error of the system where a call meets it first.
    let ended = run.wait();
    assert!([1, 4].contains(&ended.code()), "{:#?}", ended.log);
    assert!(ended.has(" event=database-failed "), "{:#?}", ended.log);
    ended.stopped();
}

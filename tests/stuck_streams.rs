//! Standard streams that are full, closed or stopped: they hold up neither the recording nor the stop.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::stop::*;
use crate::support::terminal::*;
use crate::support::*;

/// A full pipe that nobody reads.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    // SAFETY: no pointers.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_GETPIPE_SZ) };
    writer.write_all(&vec![b'\n'; size as usize]).unwrap();
    (reader, writer)
}

#[test]
fn full_pipes_that_nobody_reads_stop_neither_the_recording_nor_the_stop() {
    let dir = Dir::new("full");
    let db = dir.file("full.db");
    // One pipe for both, as with `2>&1 |`.
    let (mut pipe, acks_end) = full_pipe();
    let log_end = acks_end.try_clone().unwrap();
    let options = "--source stdin --ack --stop-timeout 2s --commit-interval 10ms";
    let streams = [Stdio::piped(), acks_end.into(), log_end.into()];
    let mut running = Running::on(&db, options, streams);
    running.send(&lines(0..500));
    until("all is committed", || {
        (try_count(&db) == Some(500)).then_some(())
    });
    for _ in 0..20 {
        running.signal(libc::SIGUSR1);
    }
    running.send(b"rejected\n");
    running.send(&lines(500..1000));
    until("the recording goes on", || {
        (count(&db) == 1000).then_some(())
    });
    let ended = running.stop_within(libc::SIGTERM, Duration::from_secs(2));
    assert_eq!(ended.code(), 0);
    assert_one_file(&db);
    let row = ledger(&db);
    assert_eq!(
        (&*row.last_reason, row.last_committed, row.last_rejected),
        ("SIGTERM", 1000, 1)
    );
    assert_holds_first(&db, 1000);
    assert_sound(&db);
    // Nothing was written halfway.
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).unwrap();
    assert!(
        bytes.iter().all(|&b| b == b'\n'),
        "{}",
        String::from_utf8_lossy(&bytes)
    );
}

#[test]
fn an_ack_that_found_no_room_is_sent_once_there_is_some() {
    let dir = Dir::new("late-ack");
    let db = dir.file("late-ack.db");
    let (mut acks, acks_end) = full_pipe();
    let options = "--source stdin --ack --commit-interval 0";
    let streams = [Stdio::piped(), acks_end.into(), Stdio::piped()];
    let mut running = Running::on(&db, options, streams);
    for n in 0..10 {
        running.send(&lines(n * 10..(n + 1) * 10));
        running.wait_until_read();
    }
    until("all is committed", || {
        (try_count(&db) == Some(100)).then_some(())
    });
    let mut fill = vec![0; unread(acks.as_raw_fd())];
    acks.read_exact(&mut fill).unwrap();
    let mut told = Vec::new();
    until("the last ack", || {
        let mut more = vec![0; unread(acks.as_raw_fd())];
        acks.read_exact(&mut more).unwrap();
        told.extend(more);
        told.ends_with(b"ack 100\n").then_some(())
    });
    let told = String::from_utf8(told).unwrap();
    assert!(
        told.lines().all(|line| line.starts_with("ack ")),
        "{told:?}"
    );
    let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_stopped(&db, &ended, 0, "SIGTERM");
}

#[test]
fn a_full_log_that_is_read_again_says_how_many_lines_it_lost() {
    let dir = Dir::new("lost");
    let db = dir.file("lost.db");
    let (mut log, log_end) = full_pipe();
    let streams = [Stdio::piped(), Stdio::piped(), log_end.into()];
    let mut running = Running::on(&db, "--source stdin --ack --commit-interval 10ms", streams);
    running.send(&lines(0..1));
    running.wait_for_ack(1);
    let mut fill = vec![0; unread(log.as_raw_fd())];
    log.read_exact(&mut fill).unwrap();
    let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_eq!(ended.code(), 0);
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    let lost = text
        .lines()
        .find_map(|line| fields(line).remove("log_lines_lost"));
    // It was the one that says ready.
    assert_eq!(lost.as_deref(), Some("1"), "{text}");
    assert_last_line(
        &text.lines().map(str::to_owned).collect::<Vec<_>>(),
        "SIGTERM",
    );
}

#[test]
fn a_signal_that_is_blocked_at_the_start_ends_a_backup_to_a_full_pipe() {
    let dir = Dir::new("blocked");
    let db = dir.file("x.db");
    record_lines(&db, "m v=1\n");
    let (_pipe, full) = full_pipe();
    let mut backup = Command::new(BINARY);
    backup.args(["backup", "-", "--db"]).arg(&db).stdout(full);
    block_at_start(&mut backup, libc::SIGTERM);
    let mut backup = backup.spawn().unwrap();
    let pid = backup.id() as i32;
    // SAFETY: no pointers, and the child was not waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    let status = until("it ends", || backup.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
}

#[test]
fn full_pipes_and_a_held_lock_together_do_not_break_the_deadline() {
    let dir = Dir::new("full-lock");
    let db = dir.file("full-lock.db");
    let ((_acks, acks_end), (_log, log_end)) = (full_pipe(), full_pipe());
    let options = "--source stdin --ack --stop-timeout 1s --commit-interval 10ms";
    let streams = [Stdio::piped(), acks_end.into(), log_end.into()];
    let mut running = Running::on(&db, options, streams);
    running.send(&lines(0..100));
    until("all is committed", || {
        (try_count(&db) == Some(100)).then_some(())
    });
    let writer = Holder::start(&db, WRITER);
    running.send(&lines(100..200));
    running.wait_until_read();
    let ended = running.stop_within(libc::SIGTERM, Duration::from_secs(1));
    assert_eq!(ended.code(), 4);
    assert_holds_first(&db, 100);
    writer.release();
}

#[test]
fn a_terminal_that_nobody_reads_does_not_hold_up_the_stop() {
    let dir = Dir::new("stuck-terminal");
    // Log lines that name the file are long.
    let db = dir.file(&format!("{}.db", "x".repeat(200)));
    // One that was held up would need all of it, and end by another status.
    let timeout = Duration::from_secs(5);
    for freed in [0, 256, 512, 1024] {
        let (mut master, slave) = terminal(80);
        fill(&slave);
        master.read_exact(&mut vec![0; freed]).unwrap();
        let options = "--source stdin --stop-timeout 5s --log-level debug";
        let stderr = slave.try_clone().unwrap();
        let streams = [Stdio::piped(), Stdio::null(), stderr.into()];
        let running = Running::on(&db, options, streams);
        // Its log cannot be read, and a file that is there may not be open yet.
        until("it records", || {
            let (_, told, _) = seawall(&["status", "--db", text(&db)]);
            told.contains("state=recording").then_some(())
        });
        let ended = running.stop_within(libc::SIGTERM, timeout);
        assert_eq!(ended.code(), 0, "{freed} bytes freed");
        assert_sound(&db);
    }
}

/// Writes to a terminal until it takes no more.
fn fill(slave: &OwnedFd) {
    let (fd, mut file) = (slave.as_raw_fd(), File::from(slave.try_clone().unwrap()));
    // SAFETY: no pointers.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    // SAFETY: as above.
    let set = |flags: i32| unsafe { libc::fcntl(fd, libc::F_SETFL, flags) };
    set(flags | libc::O_NONBLOCK);
    while file.write(&[b'-'; 64]).is_ok_and(|n| n > 0) {}
    set(flags);
}

#[test]
fn a_closed_stdout_ends_the_acks_and_nothing_else() {
    let dir = Dir::new("closed");
    let db = dir.file("closed.db");
    let (acks, acks_end) = io::pipe().unwrap();
    let options = "--source stdin --ack --commit-interval 10ms";
    let streams = [Stdio::piped(), acks_end.into(), Stdio::piped()];
    let mut running = Running::on(&db, options, streams);
    running.send(&lines(0..100));
    until("the first ack", || {
        (unread(acks.as_raw_fd()) > 0).then_some(())
    });
    drop(acks);
    for n in 1..4 {
        running.send(&lines(n * 100..(n + 1) * 100));
        until("the recording goes on", || {
            (count(&db) == (n + 1) * 100).then_some(())
        });
    }
    let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_stopped(&db, &ended, 0, "SIGTERM");
    assert_holds_first(&db, 400);
}

#[test]
fn a_closed_log_ends_the_log_and_nothing_else() {
    let dir = Dir::new("closed-log");
    let db = dir.file("closed-log.db");
    let (log, log_end) = io::pipe().unwrap();
    let streams = [Stdio::piped(), Stdio::piped(), log_end.into()];
    let mut running = Running::on(&db, "--source stdin --ack --commit-interval 10ms", streams);
    drop(log);
    running.send(&lines(0..100));
    running.wait_for_ack(100);
    running.signal(libc::SIGUSR1);
    running.send(&lines(100..200));
    running.wait_for_ack(200);
    let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_eq!((ended.code(), ended.acked()), (0, 200));
    assert_one_file(&db);
    assert_holds_first(&db, 200);
}

#[test]
fn streams_that_are_closed_at_the_start_do_not_become_the_database() {
    let dir = Dir::new("no-streams");
    let db = dir.file("no-streams.db");
    let command = "exec \"$0\" record --db \"$1\" --source stdin --source sim:rate=max,count=100 --ack <&- >&- 2>&-";
    let status = Command::new("sh")
        .args(["-c", command, &BINARY])
        .arg(&db)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert_sound(&db);
    assert_eq!((count(&db), &*ledger(&db).last_reason), (100, "eof"));
}

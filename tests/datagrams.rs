//! Guards against datagrams that are lost without being counted, and against one that spoils another.

use std::collections::HashMap;

use crate::support::client::*;
use crate::support::*;

/// Each has one reading, and is one of `total` that are sent in all.
fn send(s: &Listening, total: u64) {
    let socket = s.udp();
    for n in 0..total {
        // Fails where the receiver's buffer is full and the kernel says so; it counts the drop too.
        let _ = socket.send(format!("m v={n}i").as_bytes());
    }
}

fn of(stopped: &HashMap<String, String>, key: &str) -> u64 {
    stopped[key].parse().unwrap()
}

#[test]
fn a_datagram_is_whole_lines_by_itself() {
    let s = Listening::start("datagrams", &[]);
    let socket = s.udp();
    for datagram in [
        &b"m v=1 1\nm v=2 2\n"[..],
        // Neither a newline at the end nor one that is missing matters; nor does what came before.
        b"m v=3 3",
        b"m v=\"open",
        b"m v=4 4\nbad\nm v=5 5\r\n",
        b"",
        b"\0\xff\n# comment",
    ] {
        socket.send(datagram).unwrap();
    }
    let longest = format!("m v=\"{}\"", "x".repeat(60_000));
    socket.send(longest.as_bytes()).unwrap();
    until("all is there", || (count(&s.db) == 6).then_some(()));
    let (dir, ended) = s.stop();
    assert_eq!(ended.stopped()["rejected"], "3");
    assert!(ended.has(" line=2 "));
    let values = "SELECT group_concat(value, ' ') FROM (SELECT value FROM sensor_readings WHERE typeof(value) = 'real' ORDER BY id)";
    assert_eq!(sql(&dir.file("x.db"), values), "1.0 2.0 3.0 4.0 5.0");
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    let s = Listening::start("no-room", &["--queue-rows", "100", "--busy-timeout", "0"]);
    let holder = Holder::start(&s.db, "BEGIN IMMEDIATE");
    send(&s, 5000);
    // What the kernel still holds when there is room again would be recorded.
    until("all the others are dropped", || {
        let (_, said, _) = seawall(&["status", "--db", s.db.to_str().unwrap()]);
        let dropped = said.lines().find_map(|l| l.strip_prefix("dropped="))?;
        (dropped.parse::<u64>().unwrap() >= 4900).then_some(())
    });
    until("it is told", || {
        let told = |l: &String| l.contains("event=dropped");
        s.seawall.log().iter().any(told).then_some(())
    });
    // Streams wait meanwhile, and lose nothing.
    let mut client = s.unix();
    client.send(lines("a", 0..1000));
    holder.release();
    client.until_ack(1000);
    let (dir, ended) = s.stop();
    let stopped = ended.stopped();
    assert_eq!(of(&stopped, "committed") + of(&stopped, "dropped"), 6000);
    assert!(of(&stopped, "dropped") >= 4900, "{stopped:?}");
    let query = "SELECT count(*) FROM sensor_readings WHERE sensor = 'm,c=a'";
    assert_eq!(sql(&dir.file("x.db"), query), "1000");
    let query = "SELECT dropped FROM runs";
    assert_eq!(sql(&dir.file("x.db"), query), stopped["dropped"]);
}

#[test]
fn what_the_kernel_dropped_is_counted_too() {
    let s = Listening::start("kernel", &[]);
    s.seawall.signal(libc::SIGSTOP);
    // More than the buffer of any system holds for a process that does not run.
    send(&s, 40_000);
    s.seawall.signal(libc::SIGCONT);
    until("it is told", || {
        let log = s.seawall.log();
        log.iter()
            .any(|l| l.contains("the system's buffer for datagrams is full"))
            .then_some(())
    });
    // A stop takes what the kernel holds.
    let stopped = s.stop().1.stopped();
    let accounted = of(&stopped, "committed") + of(&stopped, "dropped");
    assert_eq!(accounted, 40_000, "{stopped:?}");
}

#[test]
fn a_flood_costs_the_others_nothing() {
    let s = Listening::start("flood", &[]);
    let flood = s.udp();
    let mut client = s.tcp();
    for n in 1..=100 {
        for _ in 0..200 {
            let _ = flood.send(b"flood v=1,w=2 7\nnothing");
        }
        client.send(format!("m v={n}\n")).until_ack(n);
    }
    assert!(s.peak_kib() < 16 * 1024);
    assert_eq!(s.stop().1.code(), 0);
}

#[test]
fn datagrams_that_come_before_the_file_is_open_are_not_accepted() {
    let dir = Dir::new("early");
    let db = dir.file("x.db");
    let args = ["--db", db.to_str().unwrap(), "--busy-timeout", "0"];
    let first = Running::start(&[&args[..], &["--source", "sim:count=1"]].concat());
    assert_eq!(first.wait().code(), 0);
    let holder = Holder::start(&db, "BEGIN EXCLUSIVE");
    // Its port is told only when it is ready; one that was free a moment ago.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let source = format!("udp:{address}");
    let seawall = Running::start(&[&args[..], &["--source", &source]].concat());
    seawall.wait_for("open-waiting");
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"m v=1", address).unwrap();
    let ended = seawall.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 1, "{:#?}", ended.log);
    assert_eq!(ended.stopped()["uncommitted"], "0");
    holder.release();
    assert_eq!(count(&db), 1);
}

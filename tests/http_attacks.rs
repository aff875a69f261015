//! Clients that mean harm, or are broken: guards against memory, time and places that one of them takes from
//! the others.

use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::support::client::{Listening, port};
use crate::support::http::*;
use crate::support::*;

/// Sends until the recorder closes the connection, or so many bytes; returns what it was answered.
fn flood(s: &Serving, begin: &str, part: &[u8], bytes: usize) -> (usize, Option<u16>) {
    let mut client = s.connect();
    client.send(begin);
    let mut sent = 0;
    while sent < bytes && client.try_send(part) {
        sent += part.len();
    }
    (sent, client.status())
}

fn is_served(s: &Serving) {
    assert_eq!(s.connect().send(write("alive v=1")).status(), Some(204));
}

#[test]
fn what_has_no_end_is_closed_early() {
    let s = Serving::start("endless", "", &[]);
    let gigabyte = 1 << 30;
    let chunked = "POST /write HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (begin, part, expected) in [
        ("GET /ping HTTP/1.1\r\nHost: a\r\nX: ", &b"x"[..], 431),
        ("", b"\r\n", 431),
        ("GET /", b"x", 431),
        (chunked, b"0", 400),
        (chunked, b"1;xxxx", 400),
        ("\x16\x03\x01\x02\x00", b"\x01", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0", 505),
    ] {
        let (sent, status) = flood(&s, begin, &part.repeat(16 * 1024), gigabyte);
        assert!(sent < gigabyte, "{begin:?}");
        // A reset may overtake the answer, as the client goes on sending.
        assert!(
            status.is_none_or(|status| status == expected),
            "{begin:?}: {status:?}"
        );
    }
    is_served(&s);
    let ended = s.seawall.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0);
}

#[test]
fn a_body_that_inflates_a_thousand_times_takes_no_memory_and_no_turn_of_others() {
    let s = Serving::start("bomb", "", &[]);
    let bomb = gzip(&vec![b'0'; 16 << 20]);
    assert!(bomb.len() < 25_000);
    let memory_before = peak_kib(&s.seawall);
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let (mut client, bomb) = (s.connect(), bomb.clone());
            thread::spawn(move || {
                client.send(write_to("/write", "Content-Encoding: gzip\r\n", bomb));
                client.reply().unwrap()
            })
        })
        .collect();
    while senders.iter().any(|sender| !sender.is_finished()) {
        is_served(&s);
    }
    for sender in senders {
        let reply = sender.join().unwrap();
        assert_eq!(reply.status, 400);
        assert!(
            reply.body.contains("partial write: line 1: "),
            "{}",
            reply.body
        );
    }
    let grown = peak_kib(&s.seawall) - memory_before;
    assert!(grown < 2048, "{grown} KiB");
}

fn peak_kib(seawall: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", seawall.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

#[test]
fn more_bodies_than_can_be_inflated_at_once_take_turns() {
    let s = Serving::start("many-gzip", "", &["--http-wait", "60s"]);
    let body = |n: u64| gzip(format!("m v={n}i {n}\n").as_bytes());
    // Each of these keeps its place until its last byte comes.
    let mut slow: Vec<_> = (0..16)
        .map(|n| {
            let text = write_to("/write", "Content-Encoding: gzip\r\n", body(n));
            let mut client = s.connect();
            client.send(&text[..text.len() - 1]);
            (client, text[text.len() - 1])
        })
        .collect();
    let mut waiting: Vec<_> = (16..40)
        .map(|n| {
            let mut client = s.connect();
            client.send(write_to("/write", "Content-Encoding: gzip\r\n", body(n)));
            client
        })
        .collect();
    // Plain bodies pass them.
    assert_eq!(s.connect().send(write("plain v=1")).status(), Some(204));
    for (client, last) in &mut slow {
        client.send([*last]);
        assert_eq!(client.status(), Some(204));
    }
    for client in &mut waiting {
        assert_eq!(client.status(), Some(204));
    }
    assert_eq!(
        sql(
            &s.db,
            "SELECT count(DISTINCT time_ns) FROM sensor_readings WHERE sensor = 'm'"
        ),
        "40"
    );
}

#[test]
fn connections_that_say_little_or_nothing_cost_the_others_nothing() {
    let s = Serving::start("quiet", "", &[]);
    let before = peak_kib(&s.seawall);
    let quiet: Vec<_> = (0..900)
        .map(|n| {
            let mut client = s.connect();
            match n % 3 {
                0 => {}
                1 => drop(client.send("POST /write HT")),
                _ => drop(
                    client.send("POST /write HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nm v"),
                ),
            }
            client
        })
        .collect();
    for _ in 0..20 {
        is_served(&s);
    }
    let grown = peak_kib(&s.seawall) - before;
    assert!(grown < 2048, "{grown} KiB");
    drop(quiet);
    is_served(&s);
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read_either() {
    let s = Serving::start("unread", "", &[]);
    let before = peak_kib(&s.seawall);
    let mut client = s.connect();
    client.stream.set_nonblocking(true).unwrap();
    let requests = get("/metrics").repeat(1000);
    // Until both buffers of the kernel are full.
    let mut sent = 0;
    let mut full = 0;
    while full < 20 {
        match client
            .stream
            .write(&requests.as_bytes()[sent % requests.len()..])
        {
            Ok(n) => (sent, full) = (sent + n, 0),
            Err(_) => {
                full += 1;
                is_served(&s);
            }
        }
        assert!(sent < 1 << 30, "all of it is read");
    }
    let grown = peak_kib(&s.seawall) - before;
    assert!(grown < 2048, "{grown} KiB");
}

#[test]
fn a_body_that_others_keep_from_its_turn_costs_nothing() {
    let more = [
        "--source",
        "http:0",
        "--queue-rows",
        "10",
        "--http-wait",
        "1h",
    ];
    let mut s = Listening::start("kept", &more);
    let holder = Holder::start(&s.db, "BEGIN IMMEDIATE");
    // Each of its reads is a thousand times as long inflated, in many turns.
    let bomb = gzip(&vec![b'0'; 64 << 20]).repeat(100);
    let mut client = Connection::to(port(&s.seawall, "http"));
    let sender = thread::spawn(move || {
        client.try_send(&write_to("/write", "Content-Encoding: gzip\r\n", bomb));
        client.status()
    });
    let before = s.ticks();
    until("it is inflated", || (s.ticks() - before > 20).then_some(()));
    let mut full = s.tcp();
    full.send("m v=1\n".repeat(50));
    until("nothing is computed", || {
        let before = s.ticks();
        thread::sleep(Duration::from_millis(300)); // the pause is the test
        (s.ticks() - before < 5).then_some(())
    });
    assert!(!sender.is_finished() && !s.seawall.has_ended());
    holder.release();
    full.until_ack(50);
    s.seawall.kill();
    assert_eq!(sender.join().unwrap(), None);
}

//! Many clients and hostile ones: guards against a client that costs the others something.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use seawall::reading::{Batch, StreamMark};
use seawall::source::answers::{ANSWERS_BYTES_MAX, Answers};
use seawall::store::ack::Ack;
use seawall::store::{Db, Durability};

use crate::support::client::*;
use crate::support::store::{empty, open};
use crate::support::*;

/// Lets the close of a connection be a reset.
fn reset(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: pointer and length describe `linger`.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as u32,
        )
    };
    assert_eq!(set, 0);
}

#[test]
fn a_client_that_never_reads_blocks_nobody() {
    let s = Listening::start("deaf", &[]);
    let mut deaf = s.unix();
    // More answers than its socket holds: the errs of it are counted instead of kept.
    for round in 0..40u64 {
        deaf.send("bad\n".repeat(1000));
        deaf.send(lines("deaf", round..round + 1));
    }
    s.tcp().send(lines("good", 0..100)).until_ack(100);
    until("all of the deaf client is recorded", || {
        (s.readings_of("m,c=deaf") == 40).then_some(())
    });
    // Once it reads, it is told how many it was not told of, and goes on as any other.
    deaf.end();
    let heard = deaf.rest();
    assert_eq!(numbers(&heard, "ack ").last(), Some(&40_040));
    assert!(
        heard
            .iter()
            .any(|l| l.contains("rejected lines up to this one are not told"))
    );
    for word in ["ack ", "err "] {
        let numbered = numbers(&heard, word);
        assert!(numbered.is_sorted(), "{word}: {numbered:?}");
    }
    assert!(s.peak_kib() < 16 * 1024, "{} KiB", s.peak_kib());
}

/// Bytes that the recorder has not read of those that connected to its port, accepted or not.
fn unread(port: u16) -> u64 {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let of_line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, received) = words[4].split_once(':').unwrap();
        let is_connection = words[1].ends_with(&local) && words[3] != "0A";
        is_connection.then(|| u64::from_str_radix(received, 16).unwrap())
    };
    table.lines().skip(1).filter_map(of_line).sum()
}

#[test]
fn connections_without_number_are_not_accepted_without_a_commit() {
    // Fewer than the kernel keeps for one that does not accept.
    const ROUND: usize = 100;
    let s = Listening::start("numberless", &["--busy-timeout", "0"]);
    let port = port(&s.seawall, "tcp");
    let holder = Holder::start(&s.db, "BEGIN IMMEDIATE");
    s.unix().send("m v=1\n");
    s.seawall.wait_for("commit-waiting");
    // Each leaves a line to be acknowledged, and is gone.
    let mut rounds = 0;
    let late = loop {
        let clients: Vec<_> = (0..ROUND)
            .map(|_| {
                let mut client = s.tcp();
                client.send("\n");
                client
            })
            .collect();
        rounds += 1;
        assert!(rounds < 80, "they are accepted without end");
        let began = Instant::now();
        while unread(port) > 0 && began.elapsed() < Duration::from_secs(2) {
            thread::sleep(Duration::from_millis(5)); // the pause is the test
        }
        if unread(port) > 0 {
            break clients;
        }
        for client in clients {
            reset(&client.stream);
        }
    };
    assert!(rounds > 20, "{rounds} rounds of {ROUND}");
    let before = s.ticks();
    thread::sleep(Duration::from_millis(300)); // the pause is the test
    assert!(s.ticks() - before < 20, "waiting costs nothing");
    holder.release();
    for mut client in late {
        client.until_ack(1);
    }
    assert_eq!(s.stop().1.code(), 0);
}

#[test]
fn strangers_are_told_what_is_spoken_here() {
    let s = Listening::start("strangers", &[]);
    let speaks = "err 1 this port speaks InfluxDB line protocol over a plain stream, not";
    let http =
        "POST /api/v2/write?bucket=b HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nm v=1\n";
    assert_eq!(s.tcp().send(http).rest(), [format!("{speaks} HTTP")]);
    // A TLS client waits, without a newline, for an answer.
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    assert_eq!(s.tcp().send(tls).rest(), [format!("{speaks} TLS")]);
    let heard = s.unix().send("# client two words\n").rest();
    assert!(
        heard[0].starts_with("err 1 a client's name is"),
        "{heard:?}"
    );
    assert_eq!(count(&s.db), 0);
    // A reading is none, whatever its text begins like: who sends it again would never get past it.
    let reading = "GET v=\"goes on HTTP/1.1\nhere\"\n";
    assert_eq!(s.unix().send(reading).end().rest(), ["ack 2"]);
    assert_eq!(count(&s.db), 1);
}

#[test]
fn hostile_clients_cost_the_others_nothing() {
    let s = Listening::start("hostile", &[]);
    let mut good = s.tcp();
    // One that has half a line, one that sends NULs, one that resets with answers unread.
    let mut slow = s.unix();
    slow.send("m,c=slow v=");
    let mut nul = s.tcp();
    nul.send("x").send([0; 300_000]);
    let mut gone = s.tcp();
    gone.send(lines("reset", 0..1000));
    reset(&gone.stream);
    drop(gone);
    // One that floods, and one whose line never ends: a gigabyte of it, or as much as goes in meanwhile.
    let mut flood = s.unix().stream;
    let mut endless = s.unix().stream;
    let flooding = thread::spawn(move || {
        let lines = lines("flood", 0..1000);
        while flood.write_all(lines.as_bytes()).is_ok() {}
    });
    let never_ending = thread::spawn(move || {
        let bytes = vec![b'x'; 1 << 20];
        let mut sent = 0;
        while sent < 1 << 30 && endless.write_all(&bytes).is_ok() {
            sent += bytes.len();
        }
    });
    for n in 1..=50 {
        good.send(format!("m,c=good v={n}\n")).until_ack(n);
        slow.send("1");
    }
    slow.send("\n").until_ack(1);
    nul.send("\n").until_ack(1);
    assert_eq!(numbers(&nul.heard, "err "), [1]);
    assert!(s.peak_kib() < 16 * 1024, "{} KiB", s.peak_kib());
    let (dir, ended) = s.stop();
    assert_eq!(ended.code(), 0);
    flooding.join().unwrap();
    never_ending.join().unwrap();
    let db = dir.file("x.db");
    assert_eq!(
        sql(
            &db,
            "SELECT count(*) FROM sensor_readings WHERE sensor = 'm,c=good'"
        ),
        "50"
    );
    assert_sound(&db);
}

#[test]
fn a_thousand_connections_need_little_memory() {
    let s = Listening::start("thousand", &[]);
    let mut idle: Vec<_> = (0..900).map(|_| s.unix()).collect();
    for client in &mut idle {
        client.send("m,c=idle v=");
    }
    let mut busy: Vec<_> = (0..100).map(|_| s.tcp()).collect();
    for round in 0..20u64 {
        for (n, client) in busy.iter_mut().enumerate() {
            client.send(lines(&format!("busy{n}"), round * 50..(round + 1) * 50));
        }
    }
    for client in &mut busy {
        client.until_ack(1000);
    }
    for client in &mut idle {
        client.send("1\n");
    }
    for client in &mut idle {
        client.until_ack(1);
    }
    assert!(s.peak_kib() < 16 * 1024, "{} KiB", s.peak_kib());
    // They are all there and wait; that costs nothing.
    let before = s.ticks();
    s.tcp().send("m v=1\n").until_ack(1);
    assert!(s.ticks() - before < 20);
    let (dir, ended) = s.stop();
    assert_eq!(ended.code(), 0);
    assert_eq!(count(&dir.file("x.db")), 100_901);
}

#[test]
fn unfinished_lines_of_many_hold_no_more_than_their_share() {
    let s = Listening::start("unfinished", &[]);
    let mut good = s.tcp();
    good.send("m,c=good v=");
    const HOARDERS: usize = 400;
    let mut hoarders: Vec<_> = (0..HOARDERS).map(|_| s.tcp()).collect();
    let line = format!("m s=\"{}", "x".repeat(60_000));
    // So that all of it is there at once.
    s.seawall.signal(libc::SIGSTOP);
    for hoarder in &mut hoarders {
        hoarder.send(&line);
    }
    s.seawall.signal(libc::SIGCONT);
    until("somebody is refused", || {
        s.seawall
            .log()
            .iter()
            .any(|l| l.contains("event=client-refused"))
            .then_some(())
    });
    good.send("1\n").until_ack(1);
    assert!(s.peak_kib() < 16 * 1024, "{} KiB", s.peak_kib());
    let mut told = 0;
    for hoarder in &mut hoarders {
        hoarder.end();
        let heard = hoarder.rest();
        told += usize::from(
            heard
                .iter()
                .any(|l| l.starts_with("err 0 unfinished lines")),
        );
    }
    assert!(told >= HOARDERS - 2 * 1024 * 1024 / 60_000, "{told}");
}

#[test]
fn one_connection_too_many_is_told_so() {
    let s = Listening::start_by("too-many", &[], &mut few_descriptors);
    let mut held: Vec<_> = (0..10).map(|_| s.unix()).collect();
    for client in &mut held {
        client.send("m v=1\n").until_ack(1);
    }
    assert_eq!(s.tcp().rest(), ["err 0 there are 10 connections already"]);
    held.pop();
    until("there is room again", || {
        let mut client = s.unix();
        let is_in = client.try_send(b"m v=2\n") && client.answer()? == "ack 1";
        is_in.then_some(())
    });
    assert!(s.stop().1.has("event=client-refused"));
}

#[test]
fn a_full_queue_is_felt_by_the_sender_and_nothing_is_dropped() {
    let more = ["--queue-rows", "500", "--busy-timeout", "0"];
    let s = Listening::start("full", &more);
    let holder = Holder::start(&s.db, "BEGIN IMMEDIATE");
    let mut clients = [s.unix(), s.unix(), s.unix()];
    let senders: Vec<_> = clients
        .iter()
        .map(|client| {
            let mut stream = client.stream.try_clone().unwrap();
            thread::spawn(move || stream.write_all(lines("a", 0..20_000).as_bytes()).unwrap())
        })
        .collect();
    s.seawall.wait_for("commit-waiting");
    assert!(senders.iter().all(|sender| !sender.is_finished()));
    let before = s.ticks();
    thread::sleep(Duration::from_millis(300)); // the pause is the test
    assert!(s.ticks() - before < 20, "waiting costs nothing");
    holder.release();
    for client in &mut clients {
        client.until_ack(20_000);
    }
    let (dir, ended) = s.stop();
    assert_eq!(ended.stopped()["dropped"], "0");
    assert_eq!(count(&dir.file("x.db")), 60_000);
}

#[test]
fn a_refused_connection_is_closed_even_for_one_that_goes_on_sending() {
    let s = Listening::start("goes-on", &[]);
    let mut client = s.tcp();
    client.send("GET / HTTP/1.1\r\n");
    assert_eq!(client.rest().len(), 1);
    until("sending fails", || {
        let sent = client.stream.write_all(b"Host: a\r\n");
        sent.is_err_and(|e| matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset))
            .then_some(())
    });
}

#[test]
fn want_of_descriptors_is_waited_out_and_costs_nothing() {
    let s = Listening::start("descriptors", &[]);
    let pid = s.seawall.pid() as libc::pid_t;
    let allow = |count: Option<u64>| {
        let which = libc::RLIMIT_NOFILE;
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: valid limits, and null where none is given or taken.
        unsafe {
            assert_eq!(libc::prlimit(pid, which, std::ptr::null(), &mut limit), 0);
            limit.rlim_cur = count.unwrap_or(limit.rlim_max);
            assert_eq!(libc::prlimit(pid, which, &limit, std::ptr::null_mut()), 0);
        }
    };
    let mut early = s.unix();
    early.send("m v=1\n").until_ack(1);
    // No descriptor is free below the lowest that is.
    let is_open = |n: &u64| fs::symlink_metadata(format!("/proc/{pid}/fd/{n}")).is_ok();
    allow((0..).find(|n| !is_open(n)));
    let mut late = s.unix();
    late.send("m v=2\n");
    s.seawall.wait_for("cannot-accept");
    let before = s.ticks();
    early.send("m v=3\n").until_ack(2);
    thread::sleep(Duration::from_millis(500)); // the pause is the test
    assert!(s.ticks() - before < 20, "waiting costs nothing");
    allow(None);
    late.until_ack(1);
    assert_eq!(s.stop().1.code(), 0);
}

/// A line may be one long tag and thousands of fields, and each field is a series with the tag in its name.
#[test]
fn a_line_that_would_make_megabytes_of_names_is_rejected() {
    let s = Listening::start("long-names", &["--stop-timeout=5s"]);
    let line = |tag: usize, fields: usize| {
        let fields: Vec<_> = (0..fields).map(|n| format!("f{n}=1")).collect();
        format!("m,t={} {}\n", "x".repeat(tag), fields.join(","))
    };
    let mut client = s.tcp();
    let mut text = line(8_000, 3_000).repeat(20);
    text += &line(8_000, 30);
    client.send(&text).until_ack(21);
    let errs = numbers(&client.heard, "err ");
    assert_eq!(errs, (1..=20).collect::<Vec<_>>());
    assert!(
        client
            .heard
            .iter()
            .any(|line| line.contains("bytes of names, at most"))
    );
    assert_eq!(count(&s.db), 30);
    assert_eq!(s.seawall.stop(libc::SIGTERM).code(), 0);
}

/// One that can be had of a commit alone.
fn ack(db: &mut Db, lines: u64) -> Ack {
    let mut batch = Batch::default();
    batch.mark(StreamMark { stream: 0, lines });
    let committed = db.commit(&batch, Durability::Full).unwrap();
    Ack::all(&committed).next().unwrap()
}

fn written(answers: &mut Answers) -> String {
    let mut text = Vec::new();
    answers.flush(|bytes| {
        text.extend_from_slice(bytes);
        Ok(bytes.len())
    });
    String::from_utf8(text).unwrap()
}

#[test]
fn a_slow_reader_gets_the_newest_ack_only() {
    let dir = Dir::new("answers");
    let (mut db, mut answers) = (open(&empty(&dir)), Answers::default());
    answers.put(ack(&mut db, 1));
    answers.flush(|_| Err(ErrorKind::WouldBlock.into()));
    answers.put(ack(&mut db, 2));
    answers.put(ack(&mut db, 3));
    // The first was on its way already.
    assert_eq!(written(&mut answers), "ack 1\nack 3\n");
    assert!(!answers.is_ready());
}

#[test]
fn rejected_lines_beyond_the_bound_are_counted() {
    let dir = Dir::new("answers");
    let (mut db, mut answers) = (open(&empty(&dir)), Answers::default());
    /// Of a reason no more is told.
    const REASON_BYTES: usize = 200;
    let long = "x".repeat(10 * REASON_BYTES);
    for line in 1..=1000 {
        answers.reject(line, &long);
    }
    answers.put(ack(&mut db, 1000));
    let text = written(&mut answers);
    let told = text.lines().count() as u64 - 2;
    assert!(
        text.len() < ANSWERS_BYTES_MAX + 2 * REASON_BYTES,
        "{}",
        text.len()
    );
    let counted = format!("err 1000 {} rejected lines up to", 1000 - told);
    assert!(
        text.contains(&counted) && text.ends_with("\nack 1000\n"),
        "{text}"
    );
    answers.reject(1001, &"again");
    assert_eq!(written(&mut answers), "err 1001 again\n");
}

#[test]
fn a_closed_reader_is_given_up() {
    let dir = Dir::new("answers");
    let (mut db, mut answers) = (open(&empty(&dir)), Answers::default());
    answers.put(ack(&mut db, 1));
    answers.flush(|_| Err(ErrorKind::BrokenPipe.into()));
    answers.put(ack(&mut db, 2));
    answers.reject(3, &"no");
    assert!(!answers.is_ready() && answers.is_closed());
    assert_eq!(answers.settled(), 2);
}

//! Guards against an ack that comes too early, an answer that does not come, a client that costs the others
//! something, and a socket that is taken from somebody or left open to everybody.

mod support;

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use support::client::*;
use support::*;

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

/// The numbers of the answers with this word.
fn numbers(heard: &[String], word: &str) -> Vec<u64> {
    heard.iter().filter_map(|line| number(line, word)).collect()
}

#[test]
fn an_acknowledged_line_survives_the_death_of_the_recorder() {
    let s = Listening::start("acked", &[]);
    s.unix().send("m a=1\nm a=2\nm a=3\n").until_ack(3);
    s.tcp().send("n a=1\nn a=2\n").until_ack(2);
    let Listening { seawall, db, .. } = s;
    seawall.kill();
    assert_eq!(count(&db), 5);
}

#[test]
fn rejected_lines_are_told_in_order_before_the_ack_that_covers_them() {
    let s = Listening::start("rejected", &[]);
    let mut client = s.tcp();
    let text: String = (1..=3000u64)
        .map(|n| match n % 3 {
            0 => "bad\n".to_owned(),
            1 => format!("m v={n}\n"),
            _ => "# nothing\n".to_owned(),
        })
        .collect();
    let mut stream = client.stream.try_clone().unwrap();
    let sender = thread::spawn(move || stream.write_all(text.as_bytes()).unwrap());
    client.until_ack(3000);
    sender.join().unwrap();
    let errs = numbers(&client.heard, "err ");
    assert_eq!(errs, (1..=1000).map(|n| n * 3).collect::<Vec<_>>());
    let mut settled = 0;
    let mut told = 0;
    for line in &client.heard {
        if let Some(ack) = number(line, "ack ") {
            assert!(ack > settled, "{line} after ack {settled}");
            assert!(told >= ack / 3, "{told} errs told before {line}");
            settled = ack;
        } else {
            told += 1;
            assert!(
                line.starts_with("err ") && line.contains(" column 4: no field"),
                "{line}"
            );
        }
    }
    assert_eq!(s.readings_of("m"), 1000);
}

#[test]
fn a_client_that_ends_its_input_gets_its_last_ack_and_then_the_end() {
    let s = Listening::start("half-closed", &["--commit-interval", "50ms"]);
    let mut unix = s.unix();
    let mut tcp = s.tcp();
    unix.send(lines("a", 0..5000)).end();
    tcp.send(lines("b", 0..5000)).end();
    assert_eq!(unix.rest().last().unwrap(), "ack 5000");
    assert_eq!(tcp.rest().last().unwrap(), "ack 5000");
    assert_eq!(s.unix().end().rest(), [""; 0]);
    // Whether the end comes before the answer to the name or after it.
    let hello = "# client a\n";
    assert_eq!(s.unix().send(hello).end().rest(), ["resume 0", "ack 1"]);
    let mut named = s.tcp();
    assert_eq!(named.hello("a"), 0);
    assert_eq!(named.end().rest(), ["ack 1"]);
    let torn = s.unix().send(format!("{hello}m s=\"")).end().rest();
    assert_eq!(torn, ["resume 0", "ack 1"]);
}

#[test]
fn a_line_that_a_cut_left_without_its_end_is_not_recorded() {
    let s = Listening::start("cut", &[]);
    let told = "err 2 the connection ended before the newline of this line";
    assert_eq!(s.tcp().send("m v=1\nm v=12").end().rest(), [told, "ack 1"]);
    // An open quote costs its line and no other.
    let heard = s.unix().send("m s=\"open\nm v=2\nm v=3").end().rest();
    assert_eq!(numbers(&heard, "err "), [1, 3]);
    assert_eq!(heard.iter().filter(|l| *l == "ack 2").count(), 1);
    // A client that can send again loses nothing, and no half of a record becomes one.
    let mut client = s.tcp();
    assert_eq!(client.hello("named"), 0);
    let record = "m s=\"one\nm v=13\n";
    let heard = client.send(format!("m v=3\n{record}")).end().rest();
    assert_eq!(heard[0], "ack 2");
    assert!(heard[1].starts_with("err 0 the input ended inside a quoted string"));
    assert_eq!(heard.len(), 2);
    let mut again = s.tcp();
    assert_eq!(again.hello("named"), 1);
    again.send(format!("{record}\" 7\n")).until_ack(4);
    let (dir, ended) = s.stop();
    let values = sql(
        &dir.file("x.db"),
        "SELECT value FROM sensor_readings ORDER BY id",
    );
    assert_eq!(values, "1.0\n2.0\n3.0\none\nm v=13");
    assert_eq!(ended.stopped()["rejected"], "3");
}

#[test]
fn a_named_client_is_told_how_many_of_its_lines_are_settled() {
    let s = Listening::start("named", &[]);
    let mut first = s.unix();
    assert_eq!(first.hello("a"), 0);
    // Every line counts: a record, a comment, an empty one, a rejected one. The one with the name is the
    // connection's first, and not one of the client's.
    first.send("m v=1\n# comment\n\nbad\nm v=2\n");
    assert_eq!(first.until_ack(6), 6);
    assert_eq!(numbers(&first.heard, "err "), [5]);
    assert_eq!(s.unix().hello("b"), 0);
    first.end().rest();
    let mut second = s.tcp();
    assert_eq!(second.hello("a"), 5);
    second.send("m v=3\n").until_ack(2);
    // Those who do not wait for the answer are answered too.
    let mut third = s.tcp();
    third.send("# client a\nm v=4\n");
    assert_eq!(third.answer().unwrap(), "resume 6");
    third.until_ack(2);
    let (db, socket) = (s.db.clone(), s.socket.clone());
    s.seawall.kill();
    let again = Running::start(&[
        "--db",
        db.to_str().unwrap(),
        "--source",
        &format!("unix:{}", socket.display()),
    ]);
    again.wait_for("ready");
    assert_eq!(connect(&socket).hello("a"), 7);
    assert_eq!(again.stop(libc::SIGTERM).code(), 0);
    assert_sound(&db);
    sql(&db, "UPDATE clients SET lines = -1");
    let (code, out, _) = seawall(&["check", "--db", db.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(out.contains("client \"a\""), "{out}");
}

#[test]
fn the_newer_of_two_connections_with_one_name_has_it() {
    // Nothing is committed before it is asked for, so that the older one has lines in flight.
    let s = Listening::start("twice", &["--commit-interval", "1h"]);
    let mut older = s.unix();
    assert_eq!(older.hello("a"), 0);
    older.send(lines("a", 0..100));
    // The lines are in the recorder's hands once it has answered somebody who came later.
    let mut other = s.unix();
    other.hello("other");
    let mut newer = s.unix();
    let settled = newer.hello("a");
    let rest = older.rest();
    let told = rest.last().unwrap();
    assert!(
        told.starts_with("err 0 another connection came as client a"),
        "{rest:?}"
    );
    newer.send(lines("a", settled..200));
    s.unix().hello("other");
    s.seawall.wait_for("client-superseded");
    let (dir, ended) = s.stop();
    assert_eq!(
        newer.rest().last().unwrap(),
        &format!("ack {}", 201 - settled)
    );
    assert_eq!(ended.code(), 0);
    let db = dir.file("x.db");
    let query = "SELECT count(*), count(DISTINCT value), max(value) FROM sensor_readings";
    assert_eq!(sql(&db, query), "200|200|199");
    assert_eq!(sql(&db, "SELECT name, lines FROM clients"), "a|200");
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

#[test]
fn rejected_lines_are_told_while_nothing_can_be_committed() {
    let s = Listening::start("bad-lines", &["--busy-timeout", "0"]);
    let holder = Holder::start(&s.db, "BEGIN IMMEDIATE");
    let queued = || {
        let (_, said, _) = seawall(&["status", "--db", s.db.to_str().unwrap()]);
        let queued = said.lines().find_map(|l| l.strip_prefix("queued="));
        queued.unwrap().parse::<u64>().unwrap()
    };
    // Rejected lines are told at once, and the rest of its input is taken, though no ack can come.
    let mut bad = s.unix();
    bad.send(format!("{}m,c=bad v=1\n", "x\n".repeat(1000)));
    s.seawall.wait_for("commit-waiting");
    let mut good = s.tcp();
    good.send(lines("good", 0..10));
    until("all are heard", || (queued() == 11).then_some(()));
    let all = (1..=1000).collect::<Vec<_>>();
    while numbers(&bad.heard, "err ").len() < all.len() {
        bad.answer().expect("an answer");
    }
    let before = s.ticks();
    thread::sleep(Duration::from_millis(300)); // the pause is the test
    assert!(s.ticks() - before < 20, "waiting costs nothing");
    holder.release();
    good.until_ack(10);
    bad.until_ack(1001);
    assert_eq!(numbers(&bad.heard, "err "), all);
}

#[test]
fn a_stop_settles_what_was_rejected_too() {
    let s = Listening::start("bad-stop", &["--commit-interval", "1h"]);
    let mut bad = s.unix();
    bad.send(format!("{}m,c=bad v=1\n", "x\n".repeat(1000)));
    // The lines are in the recorder's hands once it has answered somebody who came later.
    s.unix().hello("other");
    let (dir, ended) = s.stop();
    assert_eq!(ended.code(), 0);
    assert_eq!(bad.rest().last().unwrap(), "ack 1001");
    assert_eq!(count(&dir.file("x.db")), 1);
}

#[test]
fn a_stop_that_comes_right_behind_a_name_takes_the_lines_behind_it_too() {
    for pause in 0..12 {
        let s = Listening::start("hello-stop", &[]);
        let mut client = s.unix();
        client.send("# client a\nm v=1\n");
        thread::sleep(Duration::from_micros(pause * 150)); // the pause is the test
        let (dir, ended) = s.stop();
        assert_eq!(ended.code(), 0, "{:#?}", ended.log);
        // All or nothing, depending on what came first.
        let heard = client.rest();
        let count = count(&dir.file("x.db"));
        match heard.as_slice() {
            [] => assert_eq!(count, 0),
            [resume, ack] => assert_eq!((&**resume, &**ack, count), ("resume 0", "ack 2", 1)),
            _ => panic!("{heard:?}"),
        }
    }
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
}

#[test]
fn hostile_clients_cost_the_others_nothing() {
    let s = Listening::start("hostile", &[]);
    let mut good = s.tcp();
    // One that has half a line, one that sends NULs, one that resets with answers unread.
    let mut slow = s.unix();
    slow.send("m,c=slow v=");
    let mut nul = s.tcp();
    nul.send([0; 300_000]);
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
    // So few descriptors that the limit comes early, whatever it is by itself.
    let mut few = |command: &mut Command| {
        // SAFETY: setrlimit is async-signal-safe, and the limit a valid one.
        unsafe {
            command.pre_exec(|| {
                let limit = libc::rlimit {
                    rlim_cur: 74,
                    rlim_max: 74,
                };
                libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
                Ok(())
            });
        }
    };
    let s = Listening::start_by("too-many", &[], &mut few);
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
fn a_stop_answers_what_is_committed_and_nothing_else() {
    for round in 0..5 {
        let s = Listening::start("stop", &["--commit-interval", "20ms"]);
        let mut clients = [s.unix(), s.unix()];
        let senders: Vec<_> = clients
            .iter()
            .enumerate()
            .map(|(n, client)| {
                let mut stream = client.stream.try_clone().unwrap();
                thread::spawn(move || {
                    let mut from = 0;
                    while stream
                        .write_all(lines(&n.to_string(), from..from + 100).as_bytes())
                        .is_ok()
                    {
                        from += 100;
                    }
                })
            })
            .collect();
        clients[0].until_ack(1 + 300 * round);
        let (dir, ended) = s.stop();
        assert_eq!(ended.code(), 0);
        for (n, client) in clients.iter_mut().enumerate() {
            client.rest();
            let acked = numbers(&client.heard, "ack ").last().copied().unwrap_or(0);
            let query = format!("SELECT count(*) FROM sensor_readings WHERE sensor = 'm,c={n}'");
            assert_eq!(sql(&dir.file("x.db"), &query), acked.to_string());
        }
        for sender in senders {
            sender.join().unwrap();
        }
        assert!(!dir.file("s").exists());
    }
}

#[test]
fn a_stop_that_could_not_commit_acknowledges_nothing() {
    let s = Listening::start("stuck", &["--busy-timeout", "0", "--stop-timeout", "1s"]);
    let _holder = Holder::start(&s.db, "BEGIN IMMEDIATE");
    let mut client = s.tcp();
    client.send(lines("a", 0..10));
    s.seawall.wait_for("commit-waiting");
    let (_, ended) = s.stop();
    assert_eq!(ended.code(), 4);
    assert_eq!(ended.stopped()["uncommitted"], "10");
    assert_eq!(client.rest(), [""; 0]);
}

#[test]
fn a_socket_is_for_its_owner_and_group() {
    // The folder lets everybody in and the umask takes nothing away: the mode alone has to.
    let dir = Dir::new("mode");
    let plain = dir.file("plain");
    let open = dir.file("a=b,c");
    let mut command = Command::new(BINARY);
    command
        .args(["--db", dir.file("x.db").to_str().unwrap()])
        .args(["--source", &format!("unix:{}", plain.display())])
        .args(["--source", &format!("unix:{},mode=0606", open.display())]);
    // SAFETY: umask is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::umask(0);
            Ok(())
        });
    }
    let seawall = Running::spawn(&mut command);
    seawall.wait_for("ready");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&plain), mode(&open)), (0o660, 0o606));
    assert_eq!(mode(&dir.file("x.db")), 0o666, "the umask is as it was");
    assert_eq!(seawall.stop(libc::SIGTERM).code(), 0);
    assert!(!plain.exists() && !open.exists());
}

/// Runs a recorder that has to fail, and gives what it says.
fn refused(dir: &Dir, source: &str) -> String {
    let db = dir.file("refused.db");
    let args = ["--db", db.to_str().unwrap(), "--source", source];
    let ended = Running::start(&args).wait();
    assert_eq!(ended.code(), 1, "{:#?}", ended.log);
    ended
        .log
        .iter()
        .find(|l| l.contains("event=cannot-record"))
        .unwrap()
        .clone()
}

/// None when the backlog of who listens is full.
fn connect_at_once(path: &Path) -> Option<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers, and the descriptor is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_UNIX, kind, 0)) };
    // SAFETY: all zeros are a valid value of it.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, &from) in address.sun_path.iter_mut().zip(path.as_os_str().as_bytes()) {
        *to = from as libc::c_char;
    }
    let length = size_of::<libc::sockaddr_un>() as u32;
    // SAFETY: pointer and length describe `address`.
    let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) };
    (result == 0).then_some(socket)
}

#[test]
fn only_a_socket_on_which_nobody_listens_is_replaced() {
    let dir = Dir::new("replaced");
    let path = dir.file("s");
    let source = format!("unix:{}", path.display());
    // Somebody listens, even one who never accepts.
    let live = UnixListener::bind(&path).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    assert!(refused(&dir, &source).contains("another process listens on it"));
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    // Nor does one with whom no more connections fit, which would keep a connect waiting for ever.
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::listen(live.as_raw_fd(), 0) }, 0);
    let mut waiting = Vec::new();
    while let Some(socket) = connect_at_once(&path) {
        waiting.push(socket);
    }
    assert!(refused(&dir, &source).contains("another process listens on it"));
    drop(waiting);
    // Nobody does.
    drop(live);
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    let db = dir.file("x.db");
    let seawall = Running::start(&["--db", db.to_str().unwrap(), "--source", &source]);
    seawall.wait_for("ready");
    assert_eq!(connect(&path).hello("a"), 0);
    // What came in its place is not ours to remove.
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    assert_eq!(seawall.stop(libc::SIGTERM).code(), 0);
    assert!(path.exists());
    // Nor is what is no socket, or a link to one.
    let file = dir.file("file");
    fs::write(&file, "precious").unwrap();
    assert!(refused(&dir, &format!("unix:{}", file.display())).contains("not a socket"));
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    let link = dir.file("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(refused(&dir, &format!("unix:{}", link.display())).contains("not a socket"));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn many_that_start_at_once_leave_one_listening() {
    let dir = Dir::new("race");
    let path = dir.file("s");
    drop(UnixListener::bind(&path).unwrap());
    let source = format!("unix:{}", path.display());
    let starts: Vec<_> = (0..6)
        .map(|n| {
            let db = dir.file(&format!("{n}.db"));
            Running::start(&["--db", db.to_str().unwrap(), "--source", &source])
        })
        .collect();
    // Kept until all have decided.
    let mut listening = Vec::new();
    for mut seawall in starts {
        let is_ready = until("it is ready or has ended", || {
            let is_ready = seawall.log().iter().any(|l| l.contains("event=ready"));
            (is_ready || seawall.has_ended()).then_some(is_ready)
        });
        if is_ready {
            listening.push(seawall);
        } else {
            assert_eq!(seawall.wait().code(), 1);
        }
    }
    assert_eq!(listening.len(), 1);
    connect(&path).send("m v=1\n").until_ack(1);
}

#[test]
fn what_cannot_be_bound_is_status_1_and_leaves_no_trace() {
    let dir = Dir::new("bound");
    let s = Listening::start("taken", &[]);
    let taken = port(&s.seawall, "tcp");
    assert!(refused(&dir, &format!("tcp:{taken}")).contains("another process has it"));
    let taken = port(&s.seawall, "udp");
    assert!(refused(&dir, &format!("udp:{taken}")).contains("another process has it"));
    assert!(refused(&dir, "tcp:192.0.2.1:0").contains("not an address of this machine"));
    assert!(refused(&dir, "tcp:no.such.host.invalid:0").contains("no.such.host.invalid"));
    let nowhere = format!("unix:{}/no/such/folder/s", dir.path().display());
    assert!(refused(&dir, &nowhere).contains("No such file"));
    // No run was begun, and a socket that was bound before the one that could not be is gone.
    assert_eq!(fs::metadata(dir.file("refused.db")).unwrap().len(), 0);
    let both = format!("unix:{}", dir.file("s").display());
    let db = dir.file("refused.db");
    let db = db.to_str().unwrap();
    let ended = Running::start(&["--db", db, "--source", &both, "--source", &nowhere]).wait();
    assert_eq!(ended.code(), 1);
    assert!(!dir.file("s").exists());
}

#[test]
fn ports_are_open_to_this_machine_only_unless_told() {
    let s = Listening::start(
        "loopback",
        &["--source", "tcp:[::1]:0", "--source", "tcp:localhost:0"],
    );
    let log = s.seawall.log();
    let listening = log.iter().filter(|l| l.contains(" event=listening "));
    let addresses: Vec<_> = listening
        .map(|line| fields(line))
        .filter(|f| !f["source"].starts_with("unix:"))
        .map(|f| f["address"].clone())
        .collect();
    assert_eq!(addresses.len(), 4);
    for address in addresses {
        let address: std::net::SocketAddr = address.parse().unwrap();
        assert!(address.ip().is_loopback(), "{address}");
    }
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

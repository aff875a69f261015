//! Answers of the sockets: guards against an ack that comes too early and an answer that does not come.

use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::support::client::*;
use crate::support::*;

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
    let mut second = s.unix();
    assert_eq!(second.hello("a"), 5);
    second.send("m v=3\n").until_ack(2);
    // Those who do not wait for the answer are answered too.
    let mut third = s.unix();
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

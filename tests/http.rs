//! Lines over HTTP: guards against a 204 that comes before the disk has the lines, and a client that waits for ever.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::http::*;
use crate::support::*;

#[test]
fn a_request_that_is_answered_with_204_survives_the_death_of_the_recorder() {
    // The commit is hurried: nobody waits for the interval.
    let s = Serving::start("204", "", &["--commit-interval", "60s"]);
    let mut client = s.connect();
    for n in 0..20u64 {
        let lines: String = (0..50)
            .map(|i| format!("m v={i} {}\n", 50 * n + i))
            .collect();
        assert_eq!(client.send(write(lines)).status(), Some(204));
    }
    s.seawall.kill();
    assert_eq!(count(&s.db), 1000);
}

#[test]
fn a_bad_line_is_named_and_costs_no_other() {
    let s = Serving::start("partial", ",precision=s", &[]);
    let mut client = s.connect();
    // Lines are counted in each request by itself.
    for _ in 0..2 {
        let reply = client
            .send(write("m v=1 1\nm v=\nm v=2 2\nbad\n"))
            .reply()
            .unwrap();
        assert_eq!(reply.status, 400);
        assert!(
            reply.body.contains("\"partial write: line 2: column 5: "),
            "{}",
            reply.body
        );
        assert!(
            reply.body.ends_with("dropped=2\",\"line\":2}\n"),
            "{}",
            reply.body
        );
    }
    assert_eq!(count(&s.db), 2);
    assert_eq!(
        sql(&s.db, "SELECT max(time_ns) FROM readings"),
        "2000000000"
    );
    let ended = s.seawall.stop(libc::SIGTERM);
    assert_eq!((ended.code(), &*ended.stopped()["rejected"]), (0, "4"));
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let s = Serving::start("pipelined", "", &[]);
    let mut client = s.connect();
    let mut all = Vec::new();
    for n in 0..200 {
        all.extend_from_slice(&write(format!("m v={n}")));
        all.extend_from_slice(get("/ping?verbose=1").as_bytes());
        all.extend_from_slice(get("/health").as_bytes());
        all.extend_from_slice(get("/nowhere").as_bytes());
    }
    client.send(all);
    for n in 0..200 {
        let statuses: Vec<_> = (0..4).map(|_| client.status().unwrap()).collect();
        assert_eq!(statuses, [204, 200, 200, 404], "{n}");
    }
    assert_eq!(count(&s.db), 200);
}

#[test]
fn a_connection_is_kept_or_closed_as_the_client_says() {
    let s = Serving::start("kept", "", &[]);
    let mut client = s.connect();
    client.send("HEAD /ping HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    let reply = client.reply().unwrap();
    assert_eq!(reply.status, 204);
    assert!(reply.headers.contains("Connection: keep-alive\r\n"));
    assert!(reply.headers.contains("X-Influxdb-Version: "));
    client.send("POST /write HTTP/1.0\r\nContent-Length: 5\r\n\r\nm v=1");
    assert_eq!(client.status(), Some(204));
    assert!(client.reply().is_none());
    let mut client = s.connect();
    client.send(write_to("/write", "Connection: close\r\n", "m v=1"));
    assert!(
        client
            .reply()
            .unwrap()
            .headers
            .contains("Connection: close\r\n")
    );
    assert!(client.reply().is_none());
}

#[test]
fn a_request_whose_commit_does_not_come_is_closed_without_an_answer() {
    let s = Serving::start(
        "no-commit",
        "",
        &["--http-wait", "300ms", "--busy-timeout", "10ms"],
    );
    let mut client = s.connect();
    assert_eq!(client.send(write("m v=1 1")).status(), Some(204));
    let holder = Holder::start(&s.db, "BEGIN IMMEDIATE");
    client.send(write("m v=2 2")).send(get("/ping"));
    assert!(client.reply().is_none());
    let line = s.seawall.wait_for("client-unanswered");
    assert!(line.contains("no commit within --http-wait"), "{line}");
    holder.release();
    // It was accepted all the same, and the client that sends it again is answered.
    let mut client = s.connect();
    until("an answer", || {
        let status = client.send(write("m v=2 2")).status();
        if status.is_none() {
            client = s.connect();
        }
        status
    });
    let seen = "SELECT count(DISTINCT value) FROM sensor_readings";
    assert_eq!(sql(&s.db, seen), "2");
}

#[test]
fn a_stop_answers_what_was_read_whole_and_nothing_else() {
    let s = Serving::start(
        "stop",
        "",
        &["--commit-interval", "60s", "--busy-timeout", "10ms"],
    );
    let holder = Holder::start(&s.db, "BEGIN IMMEDIATE");
    let (mut whole, mut half) = (s.connect(), s.connect());
    let text = write("m v=1 1\nm v=2 2\n");
    whole.send(&text);
    half.send(&text[..text.len() - 2]);
    let metric = "seawall_queued_readings 3\n";
    until("the lines to be read", || {
        let mut client = s.connect();
        let reply = client.send(get("/metrics")).reply().unwrap();
        reply.body.contains(metric).then_some(())
    });
    s.seawall.signal(libc::SIGTERM);
    s.seawall.wait_for("stopping");
    holder.release();
    assert_eq!(whole.status(), Some(204));
    assert!(half.reply().is_none() && whole.reply().is_none());
    let ended = s.seawall.wait();
    assert_eq!(ended.code(), 0);
    assert_eq!(&*ended.stopped()["uncommitted"], "0");
}

#[test]
fn a_token_is_asked_for_where_one_is_set() {
    let dir = Dir::new("token-file");
    let file = dir.file("token");
    fs::write(&file, "s3cret\n").unwrap();
    let s = Serving::start("token", &format!(",token-file={}", file.display()), &[]);
    let mut client = s.connect();
    let with = |token: &str| {
        write_to(
            "/write",
            &format!("Authorization: Token {token}\r\n"),
            "m v=1",
        )
    };
    assert_eq!(client.send(with("s3cret")).status(), Some(204));
    let reply = client.send(with("other")).reply().unwrap();
    assert_eq!(reply.status, 401);
    assert!(
        reply.body.contains("\"code\":\"unauthorized\""),
        "{}",
        reply.body
    );
    assert_eq!(client.send(write("m v=1")).status(), Some(401));
    assert_eq!(client.send(get("/ping")).status(), Some(204));
    assert_eq!(count(&s.db), 1);
    let log = s.seawall.wait_for("client-refused");
    assert!(
        log.contains("POST /write is answered with 401: the token is wrong or missing: send it as"),
        "{log}"
    );
    assert_eq!(
        client
            .send(write_to(
                "/write?precision=d",
                "Authorization: Token s3cret\r\n",
                "m v=1"
            ))
            .status(),
        Some(400)
    );
    let wrong = "answered with 400: precision=d is none of ns, us, ms, s, m, h";
    until(wrong, || {
        let log = s.seawall.log();
        log.iter().any(|line| line.contains(wrong)).then_some(())
    });

    fs::write(&file, "").unwrap();
    // The last of them has no end.
    for file in [file.to_str().unwrap(), "/dev/zero"] {
        let source = format!("http:0,token-file={file}");
        let (code, _, said) = seawall(&[
            "record",
            "--db",
            s.dir.file("y.db").to_str().unwrap(),
            "--source",
            &source,
        ]);
        assert_eq!(code, 1);
        assert!(said.contains("cannot take a token from"), "{said}");
    }
}

#[test]
fn a_port_that_is_open_to_all_is_warned_of() {
    let dir = Dir::new("open");
    let seawall = start(
        &dir.file("x.db"),
        &["--source", "http:0.0.0.0:0", "--source", "http:0"],
    );
    seawall.wait_for("ready");
    let log = seawall.log();
    let warned: Vec<_> = log
        .iter()
        .filter(|line| line.contains("event=open-to-all"))
        .collect();
    assert_eq!(warned.len(), 1, "{log:?}");
    assert!(
        warned[0].contains("source=http:0.0.0.0:0 "),
        "{}",
        warned[0]
    );
}

#[test]
fn http_is_spoken_over_a_unix_socket_too() {
    let dir = Dir::new("http-unix");
    let (db, socket) = (dir.file("x.db"), dir.file("s"));
    let source = format!("http:unix:{},mode=0600,precision=ms", socket.display());
    let seawall = start(&db, &["--source", &source]);
    seawall.wait_for("ready");
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut client = crate::support::client::connect(&socket);
    client.send(write_to("/write", "Connection: close\r\n", "m v=1 5"));
    let answer = client.rest().concat();
    assert!(answer.starts_with("HTTP/1.1 204 No Content\r"), "{answer}");
    assert_eq!(sql(&db, "SELECT time_ns FROM readings"), "5000000");
}

#[test]
fn the_state_of_the_recorder_is_told_to_clients_and_to_prometheus() {
    let s = Serving::start("state", "", &[]);
    let mut client = s.connect();
    let health = client.send(get("/health")).reply().unwrap();
    assert_eq!(health.status, 200);
    assert!(
        health.body.contains("\"status\":\"pass\""),
        "{}",
        health.body
    );
    let ready = client.send(get("/ready")).reply().unwrap();
    assert!(ready.status == 200 && ready.body.contains("\"ready\""));
    let metrics = client.send(get("/metrics")).reply().unwrap();
    assert!(
        metrics
            .headers
            .contains("Content-Type: text/plain; version=0.0.4\r\n")
    );
    let (_, printed, _) = crate::support::seawall(&[
        "status",
        "--format",
        "prometheus",
        "--db",
        s.db.to_str().unwrap(),
    ]);
    let names = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with("# HELP"));
        lines
            .map(|line| line.split(' ').take(2).next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&metrics.body), names(&printed));

    let no_sensor = format!("sysfs:root={}", s.dir.path().display());
    let ill = Serving::start("ill", "", &["--source", &no_sensor]);
    until("the lack of sensors to be told", || {
        let reply = ill.connect().send(get("/health")).reply().unwrap();
        (reply.status == 503 && reply.body.contains("no sensor that can be read")).then_some(())
    });
}

#[test]
fn a_request_that_is_sent_again_is_acknowledged_and_stored_once() {
    let s = Serving::start("again", "", &[]);
    let mut client = s.connect();
    let lines = "m v=1 1\nm v=2 2\nm v=2,w=\"x\" 3\n";
    for _ in 0..3 {
        assert_eq!(client.send(write(lines)).status(), Some(204));
    }
    // Another value, another time, another type and another field are other readings; without a time each is one.
    for line in [
        "m v=3 1",
        "m v=1 4",
        "m v=1i 1",
        "m w=\"y\" 3",
        "m v=1",
        "m v=1",
    ] {
        assert_eq!(client.send(write(line)).status(), Some(204));
    }
    assert_eq!(count(&s.db), 4 + 6);
    let metrics = client.send(get("/metrics")).reply().unwrap().body;
    assert!(
        metrics.contains("\nseawall_repeated_readings_total 8\n"),
        "{metrics}"
    );
    s.seawall.kill();

    // The next start knows them from the file.
    let again = start(&s.db, &["--source", "http:0"]);
    again.wait_for("ready");
    let mut client = Connection::to(crate::support::client::port(&again, "http"));
    assert_eq!(client.send(write(lines)).status(), Some(204));
    assert_eq!(client.send(write("m v=1 1\nm v=5 5")).status(), Some(204));
    let ended = again.stop(libc::SIGTERM);
    let run = ended
        .log
        .iter()
        .find(|line| line.contains(" event=run "))
        .unwrap();
    assert_eq!(&*fields(run)["repeated"], "5");
    assert_eq!(count(&s.db), 11);
    assert_eq!(sql(&s.db, "SELECT repeated FROM runs ORDER BY id"), "8\n5");
    assert_sound(&s.db);
}

/// A client that is reset while it sends never reads why, and sends the same for ever.
#[test]
fn a_large_body_that_is_refused_is_read_to_its_end() {
    let s = Serving::start("refused", "", &[]);
    let mut client = s.connect();
    let body = "m v=1 1\n".repeat(1 << 19);
    for (coding, expected) in [("zstd", 415), ("gzip", 400)] {
        let header = format!("Content-Encoding: {coding}\r\n");
        let reply = client
            .send(write_to("/write", &header, &body))
            .reply()
            .unwrap();
        assert_eq!(reply.status, expected, "{}", reply.body);
    }
    let statement = format!("q={}", "x".repeat(1 << 22));
    assert_eq!(
        client.send(write_to("/query", "", statement)).status(),
        Some(413)
    );
    assert_eq!(client.send(write("m v=1 1")).status(), Some(204));
    assert_eq!(count(&s.db), 1);
}

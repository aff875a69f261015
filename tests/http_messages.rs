//! Requests without a socket: guards against one that two programs would read in two ways, an answer before the disk has
//! the lines, and memory that one connection holds for ever. What is cut anywhere is read the same: `fuzz_corpus.rs` and
//! `http_requests_of_clients.rs`.

use std::rc::Rc;
use std::time::{Duration, Instant};

use seawall::reading::line::{ParsedLine, Precision};
use seawall::reading::series::Interner;
use seawall::reading::stream::{Full, Intake, Room};
use seawall::reading::{Batch, Value};
use seawall::source::http::framing::Framing;
use seawall::source::http::head::{self, Coding, HEAD_BYTES_MAX, Head, Length, parse};
use seawall::source::http::reply::{Reply, ReplyForm, Wanted};
use seawall::source::http::route::{Route, answer_query, route, statement_of};
use seawall::source::http::{Http, Rules};
use seawall::source::protocol::{Now, Protocol, Turn};

fn refused(head: &str) -> u16 {
    match parse(head.as_bytes()) {
        Err((status, _)) => status,
        other => panic!("{head:?}: {other:?}"),
    }
}

#[test]
fn a_head_is_read_at_whatever_byte_it_is_cut() {
    let text = b"\r\nPOST /write?db=x HTTP/1.1\r\nHost: a\r\ncontent-length:\t 12 \r\nContent-Encoding: GZIP\r\n\
        Expect: 100-Continue\r\nConnection: keep-alive, close\r\nAuthorization: Token t\r\n\r\nbody";
    let end = text.len() - 4;
    for cut in 0..end {
        assert_eq!(parse(&text[..cut]), Ok(None), "{cut}");
    }
    let expected = Head {
        method: "POST",
        target: "/write?db=x",
        length: Length::Bytes(12),
        coding: Coding::Gzip,
        expects_continue: true,
        keeps_alive: false,
        is_old: false,
        authorization: Some("Token t"),
        refusal: None,
    };
    assert_eq!(parse(text), Ok(Some((expected, end))));
    let old = b"GET http://h:1/ping HTTP/1.0\r\n\r\n";
    let (head, _) = parse(old).unwrap().unwrap();
    assert!(head.is_old && !head.keeps_alive && head.target == "/ping");
    let both = b"GET / HTTP/1.0\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n";
    assert!(!parse(both).unwrap().unwrap().0.keeps_alive);
    let chunked = b"POST / HTTP/1.1\r\nHost:\r\nTransfer-Encoding: Chunked\r\n\r\n";
    assert_eq!(parse(chunked).unwrap().unwrap().0.length, Length::Chunked);
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for headers in [
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length : 1\r\n",
        "A: b\r\n c\r\n",
        "A: b\n",
        "A: b\nc\r\n",
        "A: b\rc\r\n",
        "A: \0\r\n",
        "A\r\n",
        ": b\r\n",
        "Host: b\r\n",
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        assert_eq!(refused(&head), 400, "{head:?}");
    }
    for line in [
        "GET /",
        "GET / HTTP/1.1 x",
        "GET  / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET a HTTP/1.1",
    ] {
        assert_eq!(
            refused(&format!("{line}\r\nHost: a\r\n\r\n")),
            400,
            "{line}"
        );
    }
    assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
    assert_eq!(refused("\x16\x03\x01"), 400);
    assert_eq!(
        refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        400
    );
    let coded =
        |coding| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: {coding}\r\n\r\n");
    for coding in ["deflate", "br", "zstd", "gzip, gzip"] {
        let text = coded(coding);
        let (head, _) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(head.refusal.unwrap().0, 415, "{coding}");
    }
    let expects = "POST / HTTP/1.1\r\nHost: a\r\nExpect: cake\r\n\r\n";
    assert_eq!(refused(expects), 417);
    let te = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    assert_eq!(refused(te), 501);
    assert_eq!(
        refused(&format!(
            "GET / HTTP/1.1\r\nA: {}",
            "x".repeat(HEAD_BYTES_MAX)
        )),
        431
    );
    assert_eq!(refused(&"\r\n".repeat(HEAD_BYTES_MAX)), 431);
    // The same however much of it is there at once.
    let late = "\r\n".repeat(2000) + "GET / HTTP/1.0\r\nA: " + &"x".repeat(5000) + "\r\n\r\n";
    assert_eq!(refused(&late), 431);
    assert_eq!(refused(&late[..HEAD_BYTES_MAX]), 431);
}

/// The data, given in parts of so many bytes, and the bytes behind the body.
fn passed(length: Length, text: &[u8], step: usize) -> Result<(Vec<u8>, usize), u16> {
    let mut framing = Framing::new(length);
    let (mut data, mut at) = (Vec::new(), 0);
    while at < text.len() && !framing.is_over() {
        let end = (at + step).min(text.len());
        let (skip, count) = framing.next(&text[at..end]).map_err(|(status, _)| status)?;
        data.extend_from_slice(&text[at + skip..at + skip + count]);
        framing.advance(count);
        at += skip + count;
    }
    assert!(framing.is_over(), "{:?}", framing);
    Ok((data, text.len() - at))
}

#[test]
fn a_body_is_the_same_in_parts_of_any_size() {
    let chunked =
        b"3;name=\"a;b\"\r\nabc\r\n00B \r\ndefghijklmn\r\n0\r\nTrailer: x\r\nY: z\r\n\r\nGET /";
    for step in 1..chunked.len() {
        assert_eq!(
            passed(Length::Chunked, chunked, step),
            Ok((b"abcdefghijklmn".to_vec(), 5)),
            "{step}"
        );
        assert_eq!(
            passed(Length::Bytes(4), b"abcdef", step),
            Ok((b"abcd".to_vec(), 2))
        );
    }
    assert_eq!(passed(Length::Bytes(0), b"GET", 1), Ok((vec![], 3)));
}

#[test]
fn a_chunk_that_could_be_read_in_two_ways_is_refused() {
    for wrong in [
        &b"\r\n"[..],
        b"x\r\n",
        b"-1\r\na",
        b"0x1\r\na",
        b"1\na\r\n",
        b"1\r\nab",
        b"1\r\na\n",
        b"1\r\na\r0",
        b"1;a\nb",
        b"1 1\r\na",
        b"0\r\nA: b\n\r\n",
        b"0\r\n\rx",
        b"1000000000000000\r\n",
        b"0000000000000001\r\n",
    ] {
        for step in [1, wrong.len()] {
            assert_eq!(passed(Length::Chunked, wrong, step), Err(400), "{wrong:?}");
        }
    }
    let long = [b"1;".to_vec(), vec![b'x'; 5000]].concat();
    assert_eq!(passed(Length::Chunked, &long, 100), Err(400));
    let long = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(2000)].concat();
    assert_eq!(passed(Length::Chunked, &long, 100), Err(400));
}

fn routed(line: &str, header: &str, token: Option<&str>) -> Route {
    let text = format!("{line} HTTP/1.1\r\nHost: a\r\n{header}\r\n");
    let (head, _) = head::parse(text.as_bytes()).unwrap().unwrap();
    route(&head, token.map(str::as_bytes))
}

fn status(line: &str, header: &str, token: Option<&str>) -> u16 {
    match routed(line, header, token) {
        Route::Answer(reply) => reply.status,
        _ => 0,
    }
}

#[test]
fn every_path_of_a_client_leads_somewhere() {
    let write = |query: &str| routed(&format!("POST /write?{query}"), "", None);
    assert_eq!(
        write("db=x&rp=&consistency=one&precision=n"),
        Route::Write(Some(Precision::Ns))
    );
    assert_eq!(write(""), Route::Write(None));
    assert_eq!(
        routed("POST /api/v2/write?org=a&bucket=b", "", None),
        Route::Write(None)
    );
    let v3 = "POST /api/v3/write_lp?db=b&no_sync=true&accept_partial=true&precision=microsecond";
    assert_eq!(routed(v3, "", None), Route::Write(Some(Precision::Us)));
    let query = Route::Query(Some("CREATE DATABASE \"a b\"".to_owned()));
    assert_eq!(
        routed("GET /query?q=CREATE+DATABASE%20%22a+b%22", "", None),
        query
    );
    assert_eq!(
        routed("HEAD /health", "", None),
        Route::Status(Wanted::Health)
    );
    assert_eq!(
        routed("GET /metrics", "", None),
        Route::Status(Wanted::Metrics)
    );
    for (line, expected) in [
        ("GET /ping", 204),
        ("HEAD /ping?wait_for_leader=1s", 204),
        ("GET /ping?verbose=true", 200),
        ("GET /ready", 200),
        ("GET /write", 405),
        ("OPTIONS /query", 405),
        ("PUT /metrics", 405),
        ("GET /", 404),
        ("POST *", 404),
        ("POST /write?precision=d", 400),
        ("POST /write?colour=red", 400),
        ("POST /write?db=%4", 400),
        ("POST /write?db=%ff", 400),
    ] {
        let expected_line = line;
        let line = line.replace(" *", " /*");
        assert_eq!(status(&line, "", None), expected, "{expected_line}");
    }
}

#[test]
fn a_token_is_taken_in_every_spelling_and_nothing_else_is() {
    let token = Some("s3cret");
    for header in [
        "Authorization: Token s3cret\r\n",
        "Authorization: bearer  s3cret\r\n",
        "Authorization: Token anybody:s3cret\r\n",
        "Authorization: Basic YW55Ym9keTpzM2NyZXQ=\r\n",
    ] {
        assert_eq!(status("POST /write", header, token), 0, "{header}");
    }
    assert_eq!(status("POST /write?u=a&p=s3cret", "", token), 0);
    for header in [
        "",
        "Authorization: Token s3cre\r\n",
        "Authorization: Token s3crett\r\n",
        "Authorization: Token\r\n",
        "Authorization: Basic !!\r\n",
        "Authorization: Digest s3cret\r\n",
    ] {
        assert_eq!(status("POST /write", header, token), 401, "{header}");
    }
    assert_eq!(status("POST /write?u=s3cret", "", token), 401);
    assert_eq!(status("GET /metrics", "", token), 401);
    assert_eq!(status("GET /ping", "", token), 204);
    let header = "Authorization: Token whatever\r\n";
    assert_eq!(status("POST /write", header, None), 0);
}

#[test]
fn a_client_that_makes_its_database_finds_it_made() {
    for (statement, status) in [
        ("CREATE DATABASE \"x\"", 200),
        ("create database x with duration 3d;", 200),
        ("SHOW DATABASES", 200),
        ("SHOW MEASUREMENTS", 400),
        ("CREATE DATABASE x; DROP DATABASE y", 400),
        ("", 400),
    ] {
        assert_eq!(answer_query(statement).status, status, "{statement}");
    }
    assert_eq!(
        statement_of(b"db=x&q=SHOW+DATABASES\n"),
        Some("SHOW DATABASES".into())
    );
    assert_eq!(statement_of(b"\xff"), None);
}

fn text(reply: &Reply, form: ReplyForm) -> String {
    let mut out = Vec::new();
    reply.render(form, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_reply_without_content_has_no_length_and_head_has_no_body() {
    let form = ReplyForm {
        keeps_alive: true,
        ..ReplyForm::default()
    };
    let empty = text(&Reply::empty(204), form);
    assert!(empty.starts_with("HTTP/1.1 204 No Content\r\nX-Influxdb-Version: "));
    assert!(empty.ends_with("\r\n\r\n") && !empty.contains("Content-Length"));
    let error = Reply::error(404, "no \"x\"\n");
    let is_old = ReplyForm {
        is_old: true,
        ..form
    };
    assert!(text(&error, is_old).contains("\r\nConnection: keep-alive\r\n"));
    let head = ReplyForm {
        is_head: true,
        ..ReplyForm::default()
    };
    let head = text(&error, head);
    let length = format!("Content-Length: {}\r\n", error.body.len());
    assert!(
        head.contains(&length) && head.ends_with("Connection: close\r\n\r\n"),
        "{head}"
    );
    let expected = "{\"code\":\"not found\",\"message\":\"no \\\"x\\\"\\u000a\",\"error\":\"no \\\"x\\\"\\u000a\"}\n";
    assert_eq!(error.body, expected);
}

/// A connection without a socket.
struct Connection {
    http: Http,
    batch: Batch,
    interner: Interner,
    line: ParsedLine,
    now: Instant,
    said: String,
}

/// No read is longer.
const READ_BYTES: usize = 2048;
/// Requests that may wait for their answers.
const PIPELINED: usize = 64;

impl Connection {
    fn new() -> Self {
        let now = Instant::now();
        let rules = Rules {
            token: None,
            precision: Precision::Ns,
            wait: Duration::from_secs(4),
        };
        Connection {
            http: Http::new(1, Rc::new(rules), now),
            batch: Batch::default(),
            interner: Interner::default(),
            line: ParsedLine::default(),
            now,
            said: String::new(),
        }
    }

    /// Takes the bytes, with room for so many readings in all.
    fn receive(&mut self, bytes: &[u8], rows: usize) -> Turn {
        if !bytes.is_empty() {
            let mut read = |buffer: &mut [u8]| {
                buffer[..bytes.len()].copy_from_slice(bytes);
                Ok(bytes.len())
            };
            self.http.read(self.now, &mut read).unwrap();
        }
        let mut to = Intake {
            batch: &mut self.batch,
            interner: &mut self.interner,
            line: &mut self.line,
            room: Room {
                rows,
                text_bytes: usize::MAX,
            },
            rows_max: 1000,
            full: Full::Waits,
            old_before_ns: i64::MIN,
            old: None,
            may_repeat: false,
        };
        let now = Now {
            time: self.now,
            arrived_ns: 77,
            may_inflate: true,
        };
        self.http.take(&mut to, now, &mut |_, _, _| ())
    }

    fn receive_all(&mut self, text: &str) {
        for part in text.as_bytes().chunks(READ_BYTES) {
            self.receive(part, usize::MAX);
        }
    }

    /// So many lines are on the disk.
    fn commit(&mut self, lines: u64) {
        self.http.settle(lines);
        let said = &mut self.said;
        self.http.flush(self.now, &mut |bytes| {
            said.push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        });
    }

    fn statuses(&self) -> Vec<&str> {
        let replies = self.said.split("HTTP/1.1 ").skip(1);
        replies.map(|reply| &reply[..3]).collect()
    }
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[test]
fn no_answer_comes_before_the_commit_or_before_an_earlier_one() {
    let mut connection = Connection::new();
    let ping = "GET /ping?verbose=1 HTTP/1.1\r\nHost: a\r\n\r\n";
    connection.receive_all(&(post("/write", "m v=1\nm v=2") + ping + &post("/write", "m v=3")));
    assert!(connection.batch.hurried);
    for lines in [0, 1] {
        connection.commit(lines);
        assert_eq!(connection.said, "");
    }
    connection.commit(2);
    assert_eq!(connection.statuses(), ["204", "200"]);
    let (at, reason) = connection.http.deadline(false).unwrap();
    assert_eq!(at, connection.now + Duration::from_secs(4));
    assert!(reason.contains("--http-wait"), "{reason}");
    connection.commit(3);
    assert_eq!(connection.statuses(), ["204", "200", "204"]);
    assert_eq!(connection.http.deadline(false), None);
}

#[test]
fn a_client_is_told_to_go_on_only_where_its_body_is_wanted() {
    let ask = |path: &str| {
        let mut connection = Connection::new();
        let head = post(path, "m v=1").replace("\r\n\r\nm v=1", "\r\nExpect: 100-continue\r\n\r\n");
        connection.receive_all(&head);
        connection.commit(0);
        connection
    };
    let mut wanted = ask("/write");
    assert_eq!(wanted.statuses(), ["100"]);
    wanted.receive_all("m v=1");
    wanted.commit(1);
    assert_eq!(wanted.statuses(), ["100", "204"]);
    let refused = ask("/nowhere");
    assert_eq!(refused.statuses(), ["404"]);
    assert!(refused.said.contains("\r\nConnection: close\r\n"));
    // Behind the answer it would be taken for the next one.
    let mut read = Connection::new();
    read.receive_all("GET /ready HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n");
    read.commit(0);
    assert_eq!(read.statuses(), ["200"]);
}

#[test]
fn answers_that_nobody_reads_are_memory_that_is_held() {
    let mut connection = Connection::new();
    let value = "%01".repeat(2000);
    let request = post(&format!("/write?precision={value}"), "");
    connection.receive_all(&request.repeat(PIPELINED));
    // More than these are not even looked at.
    connection.receive(&request.as_bytes()[..READ_BYTES], usize::MAX);
    let held = connection.http.held_bytes();
    connection.commit(0);
    let said = connection.said.len();
    assert!(held > said * 9 / 10, "{held} {said}");
    assert_eq!(connection.statuses(), ["400"; PIPELINED]);
    assert_eq!(connection.http.held_bytes(), READ_BYTES);
}

#[test]
fn a_statement_is_memory_that_is_held() {
    let mut connection = Connection::new();
    let value = "x".repeat(500);
    let whole = post(&format!("/query?q={value}"), &value.repeat(3));
    connection.receive(&whole.as_bytes()[..whole.len() - 500], usize::MAX);
    assert_eq!(connection.http.held_bytes(), 1500);
}

#[test]
fn a_head_may_begin_to_come_behind_a_body_that_took_long() {
    const STALL: Duration = Duration::from_secs(30);
    let mut connection = Connection::new();
    let (begin, end) = ("m", " v=1 1\n");
    let whole = post("/write", &format!("{begin}{end}"));
    connection.receive_all(&whole[..whole.len() - end.len()]);
    connection.now += STALL * 2;
    connection.receive_all(&format!("{end}POST"));
    connection.commit(1);
    let (at, _) = connection.http.deadline(false).unwrap();
    assert_eq!(at, connection.now + STALL);
}

#[test]
fn small_chunks_take_no_more_turns_than_large_ones() {
    let mut connection = Connection::new();
    connection.receive_all("POST /write HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.receive(&b"5\r\nm v=1\r\n1\r\n\n\r\n".repeat(1000), usize::MAX);
    assert!(!connection.http.is_held());
    assert_eq!(connection.batch.rows().len(), 1000);
}

#[test]
fn a_stop_gives_up_what_was_not_read_whole_and_answers_the_rest() {
    let text = post("/write", "m v=1 1");
    let mut connection = Connection::new();
    connection.receive_all(&(text.clone() + &text[..text.len() - 1]));
    connection.http.stop(false);
    assert!(!connection.http.is_open() && !connection.http.is_over(connection.now));
    connection.commit(1);
    assert_eq!(connection.statuses(), ["204"]);
    assert!(connection.http.is_over(connection.now));

    // What waits for room was read whole.
    let mut connection = Connection::new();
    assert_eq!(connection.receive(text.as_bytes(), 0), Turn::NoRoom);
    connection.http.stop(true);
    connection.receive(b"", 1);
    connection.commit(1);
    assert_eq!(connection.statuses(), ["204"]);
}

#[test]
fn a_gzip_that_ends_too_early_is_an_error_and_costs_no_other_request() {
    // A stored block, `m v=4 4\nm v=5`, and no checksum behind it.
    const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x04\xff\x01\x0d\0\xf2\xffm v=4 4\nm v=5";
    let mut connection = Connection::new();
    let head = format!(
        "POST /write HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        GZIP.len()
    );
    connection.receive(&[head.as_bytes(), GZIP].concat(), usize::MAX);
    connection.commit(u64::MAX);
    assert_eq!(connection.statuses(), ["400"]);
    assert!(
        connection.said.contains("within a member"),
        "{}",
        connection.said
    );
    connection.receive_all(&post("/write", "m v=9 9"));
    connection.commit(u64::MAX);
    assert_eq!(connection.statuses(), ["400", "204"]);
    let last = connection.batch.rows().last().unwrap();
    assert_eq!(connection.batch.value(last), Value::Real(9.0));
}

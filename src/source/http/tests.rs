//! Requests as a connection brings them, cut anywhere.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::*;
use crate::reading::line::Line;
use crate::reading::series::Interner;
use crate::reading::stream::{Full, Room};
use crate::reading::{Batch, Value};

/// A connection without a socket.
struct Connection {
    http: Http,
    batch: Batch,
    interner: Interner,
    line: Line,
    now: Instant,
    said: String,
}

impl Connection {
    fn new(token: Option<&str>) -> Self {
        let now = Instant::now();
        let rules = Rules {
            token: token.map(|token| token.as_bytes().to_vec()),
            precision: Precision::Ns,
            wait: Duration::from_secs(4),
        };
        Connection {
            http: Http::new(1, Rc::new(rules), now),
            batch: Batch::default(),
            interner: Interner::default(),
            line: Line::default(),
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

    /// Everything so far is on the disk.
    fn commit(&mut self) {
        self.http.settle(self.http.stream.marked());
        self.flush();
    }

    fn answer_state(&mut self) {
        self.http.answer(&State {
            reasons: String::new(),
            metrics: "m 1\n".into(),
        });
    }

    fn flush(&mut self) {
        let said = &mut self.said;
        self.http.flush(self.now, &mut |bytes| {
            said.push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        });
    }

    fn is_over(&mut self) -> bool {
        self.http.is_over(self.now)
    }

    fn statuses(&self) -> Vec<&str> {
        let replies = self.said.split("HTTP/1.1 ").skip(1);
        replies.map(|reply| &reply[..3]).collect()
    }

    fn rows(&self) -> Vec<(i64, f64)> {
        let rows = self.batch.rows().iter();
        rows.map(|row| match self.batch.value(row) {
            Value::Real(value) => (row.time_ns, value),
            other => panic!("{other:?}"),
        })
        .collect()
    }
}

const GZIPPED: &[u8] = &[
    // `m v=4 4\nm v=5`, at level 0.
    31, 139, 8, 0, 0, 0, 0, 0, 4, 255, 1, 13, 0, 242, 255, 109, 32, 118, 61, 52, 32, 52, 10, 109,
    32, 118, 61, 53,
];

fn requests() -> Vec<u8> {
    let mut crc = !0u32;
    for &byte in b"m v=4 4\nm v=5" {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    let gzipped = [GZIPPED, &(!crc).to_le_bytes(), &13u32.to_le_bytes()].concat();
    let mut text = b"POST /write?precision=s HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\nm v=1 1\nm v=2 2\
        GET /ping HTTP/1.1\r\nHost: a\r\n\r\n\
        POST /api/v2/write HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nm v=\r\n4\r\n3 3\n\r\n0\r\n\r\n\
        POST /api/v2/write HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    for part in gzipped.chunks(20) {
        text.extend_from_slice(format!("{:X}\r\n", part.len()).as_bytes());
        text.extend_from_slice(part);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(
        b"0\r\nTrailer: 1\r\n\r\n\
        POST /write HTTP/1.1\r\nHost: a\r\nContent-Length: 23\r\n\r\nm v=6 6\nbad\n\nm v=7 7\nm\n\
        POST /write HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\
        POST /query HTTP/1.1\r\nHost: a\r\nContent-Length: 29\r\n\r\nq=CREATE%20DATABASE%20%22x%22\
        GET / HTTP/1.0\r\n\r\n",
    );
    text
}

fn check(connection: &mut Connection) {
    let expected = ["204", "204", "204", "204", "400", "204", "200", "404"];
    assert_eq!(connection.statuses(), expected, "{}", connection.said);
    let reason = "partial write: line 2: column 4: no field";
    assert!(connection.said.contains(reason), "{}", connection.said);
    assert!(
        connection.said.contains("dropped=2\",\"line\":2}"),
        "{}",
        connection.said
    );
    let seconds = 1_000_000_000;
    let expected = [
        (seconds, 1.0),
        (2 * seconds, 2.0),
        (3, 3.0),
        (4, 4.0),
        (77, 5.0),
        (6, 6.0),
        (7, 7.0),
    ];
    assert_eq!(connection.rows(), expected);
    assert!(connection.is_over());
}

#[test]
fn requests_are_the_same_wherever_they_are_cut() {
    let text = requests();
    for cut in 0..text.len() {
        let mut connection = Connection::new(None);
        connection.receive(&text[..cut], usize::MAX);
        connection.receive(&text[cut..], usize::MAX);
        connection.commit();
        check(&mut connection);
    }
    let mut connection = Connection::new(None);
    for byte in &text {
        connection.receive(&[*byte], usize::MAX);
        connection.commit();
    }
    check(&mut connection);
}

#[test]
fn requests_wait_for_room_line_by_line() {
    let mut connection = Connection::new(None);
    let mut rows = 0;
    let mut bytes = requests();
    while connection.receive(&std::mem::take(&mut bytes), rows) == Turn::NoRoom {
        assert_eq!(connection.batch.rows().len(), rows);
        rows += 1;
    }
    connection.commit();
    check(&mut connection);
}

#[test]
fn no_answer_comes_before_the_commit_or_before_an_earlier_one() {
    let mut connection = Connection::new(None);
    connection.receive(&requests(), usize::MAX);
    connection.flush();
    assert_eq!(connection.said, "");
    assert!(connection.batch.hurried);
    connection.http.settle(1);
    connection.flush();
    assert_eq!(connection.said, "");
    connection.http.settle(2);
    connection.flush();
    assert_eq!(connection.statuses(), ["204", "204"]);
    let (at, reason) = connection.http.deadline(false).unwrap();
    assert_eq!(at, connection.now + Duration::from_secs(4));
    assert!(reason.contains("--http-wait"), "{reason}");
    connection.commit();
    check(&mut connection);
}

#[test]
fn the_body_of_a_refused_request_is_passed_over() {
    let mut connection = Connection::new(Some("t"));
    connection.receive(
        b"POST /write HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nm v=1 1\
        POST /write?p=t HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nm v=2 2",
        usize::MAX,
    );
    connection.commit();
    assert_eq!(connection.statuses(), ["401", "204"]);
    assert_eq!(connection.rows(), [(2, 2.0)]);
}

#[test]
fn a_client_is_told_to_go_on_only_where_its_body_is_wanted() {
    let ask = |path: &str| {
        let mut connection = Connection::new(None);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        );
        connection.receive(head.as_bytes(), usize::MAX);
        connection.flush();
        connection
    };
    let mut wanted = ask("/write");
    assert_eq!(wanted.statuses(), ["100"]);
    wanted.receive(b"m v=1", usize::MAX);
    wanted.commit();
    assert_eq!(wanted.statuses(), ["100", "204"]);
    let refused = ask("/nowhere");
    assert_eq!(refused.statuses(), ["404"]);
    assert!(refused.said.contains("\r\nConnection: close\r\n"));
    // Behind the answer it would be taken for the next one.
    let mut read = Connection::new(None);
    read.receive(
        b"GET /health HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        usize::MAX,
    );
    read.answer_state();
    read.flush();
    assert_eq!(read.statuses(), ["200"]);
}

#[test]
fn answers_that_nobody_reads_are_memory_that_is_held() {
    let mut connection = Connection::new(None);
    let (value, rest) = ("%01".repeat(2000), " HTTP/1.1\r\nHost: a\r\n\r\n");
    let request = format!("POST /write?precision={value}{rest}");
    for _ in 0..PIPELINED_MAX {
        for part in request.as_bytes().chunks(HEAD_READ_BYTES) {
            connection.receive(part, usize::MAX);
        }
    }
    let last = format!("GET /ping?q={value}{rest}");
    connection.receive(&last.as_bytes()[..HEAD_READ_BYTES], usize::MAX);
    let held = connection.http.held_bytes();
    connection.flush();
    let said = connection.said.len();
    assert!(held > said * 9 / 10, "{held} {said}");
    assert_eq!(connection.statuses().len(), PIPELINED_MAX);
    assert_eq!(connection.http.held_bytes(), HEAD_READ_BYTES);
}

#[test]
fn a_statement_is_memory_that_is_held() {
    let mut connection = Connection::new(None);
    let (value, head) = (
        "x".repeat(500),
        "HTTP/1.1\r\nHost: a\r\nContent-Length: 1500\r\n\r\n",
    );
    let request = format!("POST /query?q={value} {head}{value}{value}");
    connection.receive(request.as_bytes(), usize::MAX);
    assert_eq!(connection.http.held_bytes(), 1500);
}

#[test]
fn a_head_may_begin_to_come_behind_a_body_that_took_long() {
    let mut connection = Connection::new(None);
    let head = b"POST /write HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nm";
    connection.receive(head, usize::MAX);
    connection.now += STALL_MAX * 2;
    connection.receive(b" v=1 1\nPOST", usize::MAX);
    connection.commit();
    let (at, _) = connection.http.deadline(false).unwrap();
    assert_eq!(at, connection.now + STALL_MAX);
}

#[test]
fn small_chunks_take_no_more_turns_than_large_ones() {
    let mut connection = Connection::new(None);
    connection.receive(
        b"POST /write HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        usize::MAX,
    );
    connection.receive(&b"1\r\n#\r\n1\r\n\n\r\n".repeat(1000), usize::MAX);
    assert!(!connection.http.is_held());
    assert_eq!(connection.http.stream.lines(), 1000);
}

#[test]
fn a_stop_gives_up_what_was_not_read_whole_and_answers_the_rest() {
    let text = b"POST /write HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nm v=1 1";
    let mut connection = Connection::new(None);
    connection.receive(&[&text[..], &text[..text.len() - 1]].concat(), usize::MAX);
    connection.http.stop(false);
    assert!(!connection.http.is_open() && !connection.is_over());
    connection.commit();
    assert_eq!(connection.statuses(), ["204"]);
    assert!(connection.is_over());

    // What waits for room was read whole.
    let mut connection = Connection::new(None);
    assert_eq!(connection.receive(text, 0), Turn::NoRoom);
    connection.http.stop(true);
    connection.receive(b"", 1);
    connection.commit();
    assert_eq!(connection.statuses(), ["204"]);
}

#[test]
fn a_damaged_gzip_is_an_error_and_costs_no_other_request() {
    let mut connection = Connection::new(None);
    let head = b"POST /write HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: ";
    let length = format!("{}\r\n\r\n", GZIPPED.len());
    connection.receive(&[head, length.as_bytes(), GZIPPED].concat(), usize::MAX);
    connection.commit();
    assert_eq!(connection.statuses(), ["400"]);
    assert!(
        connection.said.contains("within a member"),
        "{}",
        connection.said
    );
    connection.receive(
        b"POST /write HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nm v=9 9",
        usize::MAX,
    );
    connection.commit();
    assert_eq!(connection.statuses(), ["400", "204"]);
    assert_eq!(connection.rows().last(), Some(&(9, 9.0)));
}

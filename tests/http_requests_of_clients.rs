//! Guards against a port that answers curl and loses what a device sends: a header in small letters, a body in chunks
//! and gzip, a password in the URL, HTTP/1.0, no newline at the end.
//!
//! The clients that cannot be run here have their requests in `tests/http/*.request`, byte for byte, with the answer
//! that each needs and the rows that it means:
//!
//! | line | |
//! | --- | --- |
//! | `# TEXT` | who sends this, and where that was read |
//! | `@ open` | it shows no token; the others are sent to a port that wants one |
//! | `> TEXT` | bytes of a request, ended by CR and LF |
//! | <code>&#124; TEXT</code> | ended by LF |
//! | `: TEXT` | ended by nothing |
//! | `x HEX` | other bytes |
//! | `= STATUS TEXT` | the request ends here; the answer has this status, and this text in it |
//! | `~ sensor` … | a row: sensor, field, type, value, time; `now` for a line without a time |

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::client::port;
use crate::support::*;

struct Asked {
    bytes: Vec<u8>,
    status: String,
    text: String,
    /// It announces that no other request comes on its connection.
    is_last: bool,
}

#[derive(Default)]
struct Session {
    is_open: bool,
    requests: Vec<Asked>,
    rows: Vec<String>,
}

fn session(file: &Path) -> Session {
    let text = fs::read_to_string(file).unwrap();
    let mut session = Session::default();
    let mut bytes = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (mark, rest) = line.split_at(1);
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        match mark {
            "#" => {}
            "@" => session.is_open = rest == "open",
            ">" => bytes.extend_from_slice(format!("{rest}\r\n").as_bytes()),
            "|" => bytes.extend_from_slice(format!("{rest}\n").as_bytes()),
            ":" => bytes.extend_from_slice(rest.as_bytes()),
            "x" => {
                let byte = |at| u8::from_str_radix(&rest[at..at + 2], 16).unwrap();
                bytes.extend((0..rest.len()).step_by(2).map(byte));
            }
            "=" => {
                let (status, text) = rest.split_once(' ').unwrap_or((rest, ""));
                let head = String::from_utf8_lossy(&bytes).to_lowercase();
                session.requests.push(Asked {
                    is_last: head.contains("\r\nconnection: close")
                        || head.contains("\r\nconnection: te, close")
                        || head.contains(" http/1.0\r\n"),
                    bytes: std::mem::take(&mut bytes),
                    status: status.to_owned(),
                    text: text.to_owned(),
                });
            }
            "~" => session.rows.push(rest.to_owned()),
            _ => panic!("{}: {line}", file.display()),
        }
    }
    assert!(bytes.is_empty() && !session.requests.is_empty() && !session.rows.is_empty());
    session
}

/// The bytes up to the end of one answer.
fn answer(stream: &mut impl Read) -> String {
    let mut answer = Vec::new();
    let mut byte = [0];
    let mut length = None;
    while length != Some(answer.len()) {
        let count = stream.read(&mut byte).unwrap();
        assert!(count > 0, "closed behind {}", answer.escape_ascii());
        answer.push(byte[0]);
        if length.is_none() && answer.ends_with(b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&answer);
            let line = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "));
            length = Some(answer.len() + line.map_or(0, |line| line.parse().unwrap()));
        }
    }
    String::from_utf8(answer).unwrap()
}

/// Sends the requests in their order, and looks at each answer. `cut` tells where a request is cut.
fn play<S: Read + Write>(
    session: &Session,
    mut connect: impl FnMut() -> S,
    cut: impl Fn(&[u8]) -> Vec<usize>,
    wait_until_read: impl Fn(&S),
) {
    let mut stream = None;
    for asked in &session.requests {
        let on = stream.get_or_insert_with(&mut connect);
        let mut from = 0;
        for end in cut(&asked.bytes).into_iter().chain([asked.bytes.len()]) {
            on.write_all(&asked.bytes[from..end]).unwrap();
            from = end;
            wait_until_read(on);
        }
        let answer = answer(on);
        let status = format!("HTTP/1.1 {} ", asked.status);
        assert!(answer.starts_with(&status), "{status}: {answer}");
        assert!(answer.contains(&asked.text), "{}: {answer}", asked.text);
        if asked.is_last {
            assert_eq!(on.read(&mut [0]).unwrap(), 0, "it is not closed");
            stream = None;
        }
    }
}

/// Waits until the other side has read all that was written.
fn until_read(stream: &UnixStream) {
    let start = std::time::Instant::now();
    loop {
        let mut unread: libc::c_int = 0;
        // SAFETY: the descriptor is open, and the number outlives the call.
        let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &mut unread) };
        assert_eq!(result, 0);
        if unread == 0 {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{unread} bytes are not read");
        std::thread::yield_now();
    }
}

/// Places of interest: within the first line, at the end of the head, and in the body.
fn places(bytes: &[u8]) -> Vec<usize> {
    let is_end = |four: &[u8]| four == b"\r\n\r\n";
    let head = bytes.windows(4).position(is_end).unwrap() + 4;
    let middle = head + (bytes.len() - head) / 2;
    let places = [1, 9, head - 3, head - 1, head, head + 1, head + 3, middle];
    let mut places: Vec<_> = places.into_iter().chain([bytes.len() - 1]).collect();
    places.retain(|&place| place < bytes.len());
    places
}

const PLACES: usize = 9;

fn now_ns() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos()
}

/// The rows, with `now` for a time behind `since_ns`.
fn rows(db: &Path, since_ns: u128) -> Vec<String> {
    let query = format!(
        "SELECT sensor, field, typeof(value), value,
             CASE WHEN time_ns BETWEEN {since_ns} AND {} THEN 'now' ELSE time_ns END
         FROM sensor_readings ORDER BY id",
        now_ns()
    );
    sql(db, &query).lines().map(str::to_owned).collect()
}

fn holds(file: &Path) {
    let session = session(file);
    let dir = Dir::new("requests");
    let (db, socket, secret) = (dir.file("x.db"), dir.file("s"), dir.file("token"));
    fs::write(&secret, "s3cret\n").unwrap();
    let token = match session.is_open {
        true => String::new(),
        false => format!(",token-file={}", secret.display()),
    };
    let since_ns = now_ns();
    let tcp = format!("http:0{token}");
    let unix = format!("http:unix:{}{token}", socket.display());
    let recorder = start(&db, &["--source", &tcp, "--source", &unix]);
    recorder.wait_for("ready");
    let to = ("127.0.0.1", port(&recorder, "http"));
    let connect = || {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    play(&session, connect, |_| Vec::new(), |_| {});
    assert_eq!(rows(&db, since_ns), session.rows);

    let connect = || {
        let stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    for nth in 0..PLACES {
        let cut = |bytes: &[u8]| places(bytes).get(nth).copied().into_iter().collect();
        play(&session, connect, cut, until_read);
    }
    play(
        &session,
        connect,
        |bytes| (1..bytes.len()).collect(),
        until_read,
    );
    let times = 1 + PLACES + 1;
    // What has a time is known for the same; what has none is another reading each time.
    let mut expected = session.rows.clone();
    let timeless = session.rows.iter().filter(|row| row.ends_with("|now"));
    expected.extend(timeless.flat_map(|row| vec![row.clone(); times - 1]));
    let mut all = rows(&db, since_ns);
    all.sort();
    expected.sort();
    assert_eq!(all, expected);
    let ended = recorder.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.stopped()["rejected"], "0");
}

#[test]
fn each_client_is_answered_as_it_needs_wherever_its_requests_are_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http");
    let files = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 19, "{files:?}");
    std::thread::scope(|scope| {
        for some in files.chunks(files.len().div_ceil(4)) {
            scope.spawn(move || {
                for file in some {
                    // What fails is told by its name.
                    eprintln!("{}", file.display());
                    holds(file);
                }
            });
        }
    });
}

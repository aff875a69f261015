//! The first line of a plain connection: readings, the name of its client, or another protocol. Pure.

use crate::reading::line::LINE_BYTES_MAX;

/// Upper bound on a client's name.
pub const NAME_BYTES_MAX: usize = 128;

const HELLO: &[u8] = b"# client ";
const SPEAKS: &str = "this port speaks InfluxDB line protocol over a plain stream";

/// Kind of a connection's first line.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening<'a> {
    /// Not whole yet.
    More,
    Line,
    Client {
        name: &'a str,
        used: usize,
    },
    Wrong(String),
}

pub fn opening(bytes: &[u8]) -> Opening<'_> {
    // A TLS handshake record with its hello; no newline may ever come.
    if matches!(bytes, [0x16, 3, 0..=4, _, _, 1, ..]) {
        return Opening::Wrong(format!("{SPEAKS}, not TLS"));
    }
    let Some(newline) = bytes.iter().position(|&b| b == b'\n') else {
        return if bytes.len() > LINE_BYTES_MAX {
            Opening::Line
        } else {
            Opening::More
        };
    };
    let line = &bytes[..newline];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if let Some(name) = line.strip_prefix(HELLO) {
        return match client_name(name) {
            Some(name) => Opening::Client {
                name,
                used: newline + 1,
            },
            None => Opening::Wrong(format!(
                "a client's name is 1 to {NAME_BYTES_MAX} bytes of UTF-8 without spaces or control bytes"
            )),
        };
    }
    if is_http(line) {
        return Opening::Wrong(format!("{SPEAKS}, not HTTP"));
    }
    Opening::Line
}

fn client_name(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name.trim_ascii()).ok()?;
    let is_good = |c: char| !c.is_control() && !c.is_whitespace();
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    (fits && name.chars().all(is_good)).then_some(name)
}

/// A whole request line. Without a quote in it, it is not the first line of a reading whose text goes on: no
/// reading ends in such a word.
fn is_http(line: &[u8]) -> bool {
    let mut words = line.split(|&b| b == b' ');
    let mut word = || words.next().unwrap_or_default();
    let (method, target, version) = (word(), word(), word());
    let is_method = !method.is_empty() && method.iter().all(u8::is_ascii_uppercase);
    let is_target = !target.is_empty() && !target.contains(&b'"');
    let is_version = matches!(
        version,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']
    );
    is_method && is_target && is_version && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_known_by_its_first_line() {
        let client = |name, used| Opening::Client { name, used };
        assert_eq!(opening(b"# client a-1\nm v=1\n"), client("a-1", 13));
        assert_eq!(opening(b"# client a-1\r\n"), client("a-1", 14));
        assert_eq!(opening(b"# client gr\xc3\xbcn\n"), client("grün", 15));
        assert_eq!(opening(b"# client"), Opening::More);
        assert_eq!(opening(b"# clients are many\n"), Opening::Line);
        assert_eq!(opening(b"# comment\n"), Opening::Line);
        assert_eq!(opening(b"\n# client a\n"), Opening::Line);
        assert_eq!(opening(b"m v=1\n"), Opening::Line);
        // Readings, and lines to reject as any other, that look like a request.
        for line in [
            &b"GET v=\"to HTTP/1.1\nand on\"\n"[..],
            b"GET /v=\"HTTP/1.1\n\"\n",
            b"Alarm v=1 HTTP/1.1\n",
            b"POST v=1 HTTP/1.1x\n",
            b"POST  HTTP/1.1\n",
            b"GET / at HTTP/1.1\n",
            b"GET /\n",
            b"\x16\x03x v=1\n",
        ] {
            assert_eq!(opening(line), Opening::Line, "{line:?}");
        }
        for wrong in [
            &b"# client \n"[..],
            b"# client a b\n",
            b"# client \xff\n",
            b"GET /ping HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00",
        ] {
            assert!(matches!(opening(wrong), Opening::Wrong(_)), "{wrong:?}");
        }
        assert!(matches!(
            opening(format!("# client {}\n", "n".repeat(NAME_BYTES_MAX + 1)).as_bytes()),
            Opening::Wrong(_)
        ));
        assert_eq!(opening(&vec![b'm'; LINE_BYTES_MAX]), Opening::More);
        assert_eq!(opening(&vec![b'm'; LINE_BYTES_MAX + 1]), Opening::Line);
    }
}

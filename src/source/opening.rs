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

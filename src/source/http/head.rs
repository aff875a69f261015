//! The head of an HTTP/1 request (RFC 9112): its first line, and the few headers that matter here. Strict: what two
//! implementations could read in two ways is an error, and the connection is closed behind it. Pure.

/// Upper bound on a head.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Bytes(u64),
    Chunked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Identity,
    Gzip,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Head<'a> {
    pub method: &'a str,
    /// Path and query, as they were sent.
    pub target: &'a str,
    pub length: Length,
    pub coding: Coding,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    pub keeps_alive: bool,
    /// HTTP/1.0, which has to be told that a connection is kept.
    pub is_old: bool,
    pub authorization: Option<&'a str>,
    /// Why the body cannot be taken, though its end is known.
    pub refusal: Option<Refusal>,
}

/// Status and reason.
pub type Refusal = (u16, &'static str);

/// A whole head at the beginning of `bytes`, and its length; `None` where more has to come.
pub fn parse(bytes: &[u8]) -> Result<Option<(Head<'_>, usize)>, Refusal> {
    // A TLS handshake record: no line may ever come.
    if bytes.starts_with(&[0x16, 0x03]) {
        return Err((400, "this port speaks HTTP, not TLS"));
    }
    // Some clients end a body with a line end that is not counted.
    let part = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let blank = part.chunks(2).take_while(|pair| pair == b"\r\n").count() * 2;
    let part = &part[blank..];
    let end = part.windows(4).position(|four| four == b"\r\n\r\n");
    if let Some(at) = lone_line_end(&part[..end.unwrap_or(part.len())]) {
        // The last byte may be the first half of a line end.
        if end.is_some() || part[at] == b'\n' || at + 1 < part.len() {
            return Err((400, "a line of the head does not end with CR and LF"));
        }
    }
    let Some(end) = end else {
        return if blank + part.len() >= HEAD_BYTES_MAX {
            Err((431, "the head is longer than 8192 bytes"))
        } else {
            Ok(None)
        };
    };
    let text = std::str::from_utf8(&part[..end]);
    let text = text.map_err(|_| (400, "the head is not UTF-8"))?;
    Ok(Some((head(text)?, blank + end + 4)))
}

/// Position of a CR or LF that is not half of a line end.
fn lone_line_end(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len()).find(|&at| match bytes[at] {
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || bytes[at - 1] != b'\r',
        _ => false,
    })
}

fn head(text: &str) -> Result<Head<'_>, Refusal> {
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err((400, "the first line is not METHOD TARGET HTTP/1.1"));
    };
    if !is_token(method) || target.is_empty() || target.contains(char::is_control) {
        return Err((400, "the first line is not METHOD TARGET HTTP/1.1"));
    }
    let is_old = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ if version.starts_with("HTTP/") => {
            return Err((505, "this port speaks HTTP/1.1 and 1.0"));
        }
        _ => return Err((400, "the first line is not METHOD TARGET HTTP/1.1")),
    };
    let mut head = Head {
        method,
        target: path_and_query(target)?,
        length: Length::Bytes(0),
        coding: Coding::Identity,
        expects_continue: false,
        keeps_alive: !is_old,
        is_old,
        authorization: None,
        refusal: None,
    };
    let (mut length, mut is_chunked, mut hosts, mut closes) = (None, false, 0, false);
    for line in lines {
        let (name, value) = line
            .split_once(':')
            .filter(|(name, _)| is_token(name))
            .ok_or((400, "a header is not NAME: VALUE"))?;
        let value = value.trim_matches([' ', '\t']);
        if value.contains(|c: char| c.is_control() && c != '\t') {
            return Err((400, "a header has a control character"));
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "content-length" => {
                if length.is_some() {
                    return Err((400, "Content-Length is given twice"));
                }
                length = Some(decimal(value).ok_or((400, "Content-Length is not a number"))?);
            }
            "transfer-encoding" if is_chunked => {
                return Err((400, "Transfer-Encoding is given twice"));
            }
            "transfer-encoding" if is_old => {
                return Err((400, "HTTP/1.0 has no Transfer-Encoding"));
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => is_chunked = true,
            "transfer-encoding" => return Err((501, "the only Transfer-Encoding is chunked")),
            "content-encoding" => {
                head.coding = match value.to_ascii_lowercase().as_str() {
                    "gzip" | "x-gzip" if head.coding == Coding::Identity => Coding::Gzip,
                    "identity" | "" => head.coding,
                    _ => {
                        head.refusal = Some((415, "the only Content-Encoding is gzip"));
                        head.coding
                    }
                };
            }
            "expect" if value.eq_ignore_ascii_case("100-continue") => {
                head.expects_continue = !is_old;
            }
            "expect" => return Err((417, "the only Expect is 100-continue")),
            "connection" => {
                let has = |word: &str| {
                    value
                        .split(',')
                        .any(|w| w.trim().eq_ignore_ascii_case(word))
                };
                closes |= has("close");
                head.keeps_alive |= has("keep-alive");
            }
            "authorization" => head.authorization = Some(value),
            _ => {}
        }
    }
    if hosts > 1 || (hosts == 0 && !is_old) {
        return Err((400, "Host has to be given once"));
    }
    head.keeps_alive &= !closes;
    head.length = match (length, is_chunked) {
        (Some(_), true) => return Err((400, "both Content-Length and chunks are given")),
        (None, true) => Length::Chunked,
        (length, false) => Length::Bytes(length.unwrap_or(0)),
    };
    Ok(head)
}

/// The target without scheme and host, which are for proxies.
fn path_and_query(target: &str) -> Result<&str, Refusal> {
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    match path.starts_with('/') || path == "*" {
        true => Ok(path),
        false => Err((400, "the target is not a path")),
    }
}

fn is_token(text: &str) -> bool {
    let is_of_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_of_token)
}

fn decimal(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

//! Finds what a request asks for, by its path, its query and its token. Pure.
//!
//! The paths are those of InfluxDB 1, 2 and 3 that its clients use to write, to see whether somebody is there, and to
//! make their database.

use super::head::Head;
use super::reply::{Reply, Wanted};
use crate::reading::line::Precision;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Lines of this precision; the listener's own where the client gives none.
    Write(Option<Precision>),
    /// A statement in the query part, or in a form in the body.
    Query(Option<String>),
    /// The state of the recorder.
    Status(Wanted),
    /// Needs nothing to be known.
    Answer(Reply),
}

/// As `Allow` lists them.
const READ: &str = "GET, HEAD";
const QUERY: &str = "GET, POST";
const WRITE: &str = "POST";

/// Where to go. `token` is what has to be shown, where something has to be.
pub fn route(head: &Head<'_>, token: Option<&[u8]>) -> Route {
    if let Some((status, reason)) = head.refusal {
        return Route::Answer(Reply::error(status, reason));
    }
    let (path, query) = head.target.split_once('?').unwrap_or((head.target, ""));
    let (methods, needs_token) = match path {
        "/write" | "/api/v2/write" | "/api/v3/write_lp" => (WRITE, true),
        "/query" => (QUERY, true),
        "/metrics" => (READ, true),
        "/ping" | "/health" | "/ready" => (READ, false),
        _ => {
            let message =
                "there is no such path: lines go to /write, /api/v2/write or /api/v3/write_lp";
            return Route::Answer(Reply::error(404, message));
        }
    };
    if !methods.split(", ").any(|method| method == head.method) {
        return Route::Answer(Reply {
            allow: methods,
            ..Reply::error(405, "the path does not have this method")
        });
    }
    let pairs = match pairs(query) {
        Ok(pairs) => pairs,
        Err(message) => return Route::Answer(Reply::error(400, message)),
    };
    if needs_token && token.is_some_and(|token| !shows(token, head.authorization, &pairs)) {
        let message = "the token is wrong or missing: send it as Authorization: Token, Bearer or Basic, or as u and p";
        return Route::Answer(Reply::error(401, message));
    }
    match path {
        "/ping" if asks_for_body(&pairs) => Route::Answer(Reply::json(
            200,
            "{\"version\":\"1.8-seawall\"}\n".to_owned(),
        )),
        "/ping" => Route::Answer(Reply::empty(204)),
        "/health" => Route::Status(Wanted::Health),
        "/ready" => Route::Answer(Reply::json(200, "{\"status\":\"ready\"}\n".to_owned())),
        "/metrics" => Route::Status(Wanted::Metrics),
        "/query" => Route::Query(value(&pairs, "q").map(str::to_owned)),
        _ => write(&pairs),
    }
}

fn asks_for_body(pairs: &[(String, String)]) -> bool {
    value(pairs, "verbose").is_some_and(|verbose| !["", "0", "false"].contains(&verbose))
}

fn write(pairs: &[(String, String)]) -> Route {
    let mut precision = None;
    for (key, value) in pairs {
        match key.as_str() {
            // Where to write is for servers with more than one place; u and p are the token. Version 3 asks
            // whether to wait for the disk and to take the good lines, which is always done here.
            "db" | "bucket" | "org" | "orgID" | "rp" | "consistency" | "u" | "p" | "no_sync"
            | "accept_partial" => {}
            "precision" => match self::precision(value) {
                Some(found) => precision = Some(found),
                None => {
                    let message = format!("precision={value} is none of ns, us, ms, s, m, h");
                    return Route::Answer(Reply::error(400, &message));
                }
            },
            _ => {
                let message = format!(
                    "{key} is not known: known are precision, db, bucket, org, rp, consistency"
                );
                return Route::Answer(Reply::error(400, &message));
            }
        }
    }
    Route::Write(precision)
}

/// All spellings of InfluxDB 1, 2 and 3.
fn precision(text: &str) -> Option<Precision> {
    Some(match text {
        "n" | "ns" | "nanosecond" | "nanoseconds" => Precision::Ns,
        "u" | "us" | "µ" | "µs" | "microsecond" | "microseconds" => Precision::Us,
        "ms" | "millisecond" | "milliseconds" => Precision::Ms,
        "s" | "second" | "seconds" => Precision::S,
        "m" | "minute" | "minutes" => Precision::M,
        "h" | "hour" | "hours" => Precision::H,
        _ => return None,
    })
}

/// The answer to a statement: to a client that makes its database the database is there.
pub fn answer_query(statement: &str) -> Reply {
    let words: Vec<String> = statement
        .split([' ', '\t', '\r', '\n', ';'])
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_uppercase)
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["CREATE", "DATABASE", ..] if !statement.trim_end_matches([';', ' ', '\n']).contains(';') => {
            Reply::json(200, "{\"results\":[{\"statement_id\":0}]}\n".to_owned())
        }
        ["SHOW", "DATABASES"] => Reply::json(
            200,
            "{\"results\":[{\"statement_id\":0,\"series\":[{\"name\":\"databases\",\"columns\":[\"name\"],\
             \"values\":[[\"seawall\"]]}]}]}\n"
                .to_owned(),
        ),
        _ => Reply::json(
            400,
            "{\"error\":\"only CREATE DATABASE and SHOW DATABASES are answered here: read the database file \
             with SQL (sqlite3, or any SQLite library)\"}\n"
                .to_owned(),
        ),
    }
}

/// The statement of a form.
pub fn statement_of(form: &[u8]) -> Option<String> {
    let form = std::str::from_utf8(form).ok()?;
    let pairs = pairs(form.trim()).ok()?;
    value(&pairs, "q").map(str::to_owned)
}

fn value<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    let found = pairs.iter().find(|(name, _)| name == key);
    found.map(|(_, value)| value.as_str())
}

/// The pairs of a query or of a form, decoded.
fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decoded(key)?, decoded(value)?))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or("the query has a wrong %-escape")
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Whether the token is shown, by any of the ways that the clients have.
fn shows(token: &[u8], authorization: Option<&str>, pairs: &[(String, String)]) -> bool {
    let shown = match authorization.map(|text| text.split_once(' ').unwrap_or((text, ""))) {
        Some((scheme, shown)) if scheme.eq_ignore_ascii_case("basic") => {
            let credentials = base64(shown.trim()).unwrap_or_default();
            let colon = credentials.iter().position(|&b| b == b':');
            credentials[colon.map_or(0, |at| at + 1)..].to_vec()
        }
        Some((scheme, shown))
            if scheme.eq_ignore_ascii_case("token") || scheme.eq_ignore_ascii_case("bearer") =>
        {
            // `Token user:password` is how version 1 spells it.
            let shown = shown.trim();
            let password = shown
                .split_once(':')
                .map(|(_, password)| password.as_bytes());
            if password.is_some_and(|password| is_same(token, password)) {
                return true;
            }
            shown.as_bytes().to_vec()
        }
        Some(_) => return false,
        None => value(pairs, "p").unwrap_or_default().as_bytes().to_vec(),
    };
    is_same(token, &shown)
}

/// Compares in a time that does not depend on where they differ.
fn is_same(token: &[u8], shown: &[u8]) -> bool {
    let differs = |at: usize| token[at] ^ shown.get(at).unwrap_or(&!token[at]);
    let all = (0..token.len()).fold(0, |all, at| all | std::hint::black_box(differs(at)));
    all == 0 && token.len() == shown.len()
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

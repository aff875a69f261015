//! The text of an HTTP reply. Pure.

use std::fmt::Write as _;

/// Contents of `/health` and `/metrics`.
#[derive(Debug)]
pub struct Health {
    /// Why it is not healthy; empty where it is.
    pub reasons: String,
    pub metrics: String,
}

/// Which of these a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Health,
    Metrics,
}

/// A reply that can be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
    /// Methods that the path has, for 405.
    pub allow: &'static str,
}

/// How a request wants to be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyForm {
    /// `HEAD`: without the body.
    pub is_head: bool,
    pub keeps_alive: bool,
    /// HTTP/1.0.
    pub is_old: bool,
}

impl Reply {
    pub fn empty(status: u16) -> Self {
        Reply {
            status,
            ..Reply::default()
        }
    }

    pub fn json(status: u16, body: String) -> Self {
        Reply {
            status,
            content_type: "application/json",
            body,
            ..Reply::default()
        }
    }

    /// An error in the words that clients of every version of InfluxDB look for.
    pub fn error(status: u16, message: &str) -> Self {
        let code = match status {
            401 => "unauthorized",
            404 | 405 => "not found",
            503 => "unavailable",
            _ => "invalid",
        };
        let message = quoted(message);
        let body = format!("{{\"code\":\"{code}\",\"message\":{message},\"error\":{message}}}\n");
        Self::json(status, body)
    }

    /// The message of an error, as JSON has it.
    pub fn message(&self) -> &str {
        let parts = self.body.split_once("\"message\":\"");
        parts.map_or("", |(_, rest)| rest.split("\",\"").next().unwrap_or(rest))
    }

    /// Some lines of a write were rejected, and the others are committed.
    pub fn partial(line: u64, reason: &str, rejected: u64) -> Self {
        let message = quoted(&format!("partial write: line {line}: {reason}"));
        let error = quoted(&format!(
            "partial write: line {line}: {reason} dropped={rejected}"
        ));
        let body = format!(
            "{{\"code\":\"invalid\",\"message\":{message},\"error\":{error},\"line\":{line}}}\n"
        );
        Self::json(400, body)
    }

    pub fn of_health(wanted: Wanted, health: &Health) -> Self {
        match wanted {
            Wanted::Metrics => Reply {
                status: 200,
                content_type: "text/plain; version=0.0.4",
                body: health.metrics.clone(),
                ..Reply::default()
            },
            Wanted::Health if health.reasons.is_empty() => {
                let body =
                    "{\"name\":\"seawall\",\"message\":\"ready for writes\",\"status\":\"pass\"}\n";
                Self::json(200, body.to_owned())
            }
            Wanted::Health => {
                let message = quoted(&health.reasons);
                let body =
                    format!("{{\"name\":\"seawall\",\"message\":{message},\"status\":\"fail\"}}\n");
                Self::json(503, body)
            }
        }
    }

    /// Appends the reply.
    pub fn render(&self, form: ReplyForm, out: &mut Vec<u8>) {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nX-Influxdb-Version: 1.8-seawall\r\nX-Influxdb-Build: seawall\r\n",
            self.status,
            phrase(self.status)
        );
        if !self.allow.is_empty() {
            let _ = write!(head, "Allow: {}\r\n", self.allow);
        }
        if self.status == 401 {
            head.push_str("WWW-Authenticate: Token, Bearer, Basic realm=\"seawall\"\r\n");
        }
        if self.status >= 200 && self.status != 204 {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        if !self.body.is_empty() {
            let _ = write!(head, "Content-Type: {}\r\n", self.content_type);
        }
        match (form.keeps_alive, form.is_old) {
            (false, _) => head.push_str("Connection: close\r\n"),
            (true, true) => head.push_str("Connection: keep-alive\r\n"),
            (true, false) => {}
        }
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        if !form.is_head {
            out.extend_from_slice(self.body.as_bytes());
        }
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Bad Request",
    }
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

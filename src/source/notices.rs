//! Warnings of how a sender sends, where readings are lost by it and nobody would see why.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::log::{self, Limit};
use crate::reading::stream::{Excerpt, Stream};

static RETURNS_ARE_TOLD: AtomicBool = AtomicBool::new(false);
/// Resets that are told before they are down to one a minute.
static RESETS: Mutex<Limit> = Mutex::new(Limit::of(10));

/// Once a run: lines that end with a carriage return alone are one line without end.
pub fn watch_returns(stream: &mut Stream, sender: &dyn Display) {
    if stream.take_bare_return() && !RETURNS_ARE_TOLD.swap(true, Ordering::Relaxed) {
        let reason = "a carriage return ends no line, and nothing of it is recorded before a newline comes: send \\n or \\r\\n";
        log::warn("no-newline", &[("client", sender), ("reason", &reason)]);
    }
}

/// The kernel drops what it had not handed over yet.
pub fn tell_reset(client: &dyn Display, error: &std::io::Error) {
    let advice = "what it sent last may be lost: a sender has to read its acks, and not to close before it has";
    let fields: [log::Field; 3] = [("client", client), ("reason", error), ("advice", &advice)];
    let mut limit = RESETS.lock().unwrap_or_else(PoisonError::into_inner);
    limit.warn("connection-reset", &fields);
}

/// A line that does not parse. `client` where the source has several.
pub fn tell_rejected(
    limit: &mut Limit,
    source: &dyn Display,
    client: Option<&dyn Display>,
    (line, text, reason): (u64, Excerpt<'_>, &dyn Display),
) {
    let mut fields: Vec<log::Field> = vec![("source", source)];
    fields.extend(client.map(|client| ("client", client)));
    fields.extend([
        ("line", &line as &dyn Display),
        ("text", &text),
        ("reason", reason),
    ]);
    limit.warn("rejected", &fields);
}

//! The places where bodies are inflated, which all connections share: each takes 36 KiB of memory.

use std::time::{Duration, Instant};

use crate::source::client::Client;
use crate::source::http::Http;

/// Bodies that are inflated at one time.
pub const INFLATING_MAX: usize = 16;
/// A body that is inflated for longer than this loses its place where others wait.
const INFLATING_MIN: Duration = Duration::from_secs(10);

/// Places that are taken.
pub fn taken(clients: &[Client]) -> usize {
    clients.iter().filter(|client| client.inflates()).count()
}

/// Index of the client to be closed, so that one that waits gets its place.
pub fn slowest(clients: &[Client], now: Instant) -> Option<usize> {
    let mut requests = clients.iter().filter_map(Client::http);
    if !requests.any(Http::awaits_place) || taken(clients) < INFLATING_MAX {
        return None;
    }
    let since = clients.iter().enumerate();
    let since = since.filter_map(|(n, client)| Some((client.http()?.inflates_since()?, n)));
    let (since, n) = since.min()?;
    (now.saturating_duration_since(since) >= INFLATING_MIN).then_some(n)
}

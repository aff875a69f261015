//! Names of series: the canonical form, and the interner that turns a name into a small number.
//!
//! The hot path looks a series up by the bytes that its sender wrote, so escapes are undone and
//! tags sorted once for each spelling, not for each reading.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::order;
use crate::reading::batch::{Batch, Kind, Series, Slot};

/// Series known at one time. When there are more, the interner forgets them all and starts again: that
/// costs look-ups, never memory, and needs no bookkeeping of who was used when.
const SERIES_MAX: usize = 8192;
/// Bytes of names held at one time; a name may be as long as a line.
const NAME_BYTES_MAX: usize = 512 * 1024;

/// Writes a name with a backslash before each of `special`. A backslash at the end would escape the
/// delimiter that follows, and line protocol has no way to write one: it becomes a slash.
fn escape(name: &str, special: &[char], out: &mut String) {
    let body = name.trim_end_matches('\\');
    let mut from = 0;
    for (at, _) in body.match_indices(special) {
        out.push_str(&body[from..at]);
        out.push('\\');
        from = at;
    }
    out.push_str(&body[from..]);
    out.extend(std::iter::repeat_n('/', name.len() - body.len()));
}

/// `measurement,key=value,…` in line protocol's own escaping, tags sorted by key.
pub fn canonical(measurement: &str, tags: &[(Cow<'_, str>, Cow<'_, str>)]) -> String {
    let order = order::sorted(tags.len(), &|a, b| tags[a].cmp(&tags[b]));
    let mut out = String::with_capacity(64);
    escape(measurement, &[',', ' '], &mut out);
    // A measurement that begins with '#' would read as a comment.
    if out.starts_with('#') {
        out.insert(0, '\\');
    }
    for (key, value) in order.into_iter().map(|at| &tags[at]) {
        out.push(',');
        escape(key, &[',', '=', ' '], &mut out);
        out.push('=');
        escape(value, &[',', '=', ' '], &mut out);
    }
    out
}

/// Slots of the series seen lately.
#[derive(Debug, Default)]
pub struct Interner {
    slots: HashMap<Arc<[u8]>, Slot>,
    /// By slot the key, and the slot that was looked up next the last time: senders repeat their series in one order,
    /// and to compare a name costs less than to hash it.
    known: Vec<(Arc<[u8]>, Slot)>,
    last: Slot,
    /// The key of the look-up under way; kept so that a look-up allocates nothing.
    key: Vec<u8>,
    name_bytes: usize,
}

impl Interner {
    /// The slot of the series that its source spells `sensor`, `field`; one that is new here is defined
    /// in `batch` under the names that `canonical` gives.
    pub fn slot(
        &mut self,
        batch: &mut Batch,
        sensor: &[u8],
        field: &[u8],
        kind: Kind,
        names: impl FnOnce() -> (Box<str>, Box<str>),
    ) -> Slot {
        // No name holds a newline, so that no two series share a key.
        self.key.clear();
        self.key.push(kind as u8);
        self.key.extend_from_slice(field);
        self.key.push(b'\n');
        self.key.extend_from_slice(sensor);
        let after = self.last as usize;
        let next = self.known.get(after).map_or(0, |(_, next)| *next);
        self.last = match self.known.get(next as usize) {
            Some((key, _)) if **key == *self.key => next,
            _ => match self.slots.get(self.key.as_slice()) {
                Some(&slot) => slot,
                None => self.add(batch, kind, names()),
            },
        };
        if let Some((_, next)) = self.known.get_mut(after) {
            *next = self.last;
        }
        self.last
    }

    fn add(
        &mut self,
        batch: &mut Batch,
        kind: Kind,
        (sensor, field): (Box<str>, Box<str>),
    ) -> Slot {
        if self.slots.len() == SERIES_MAX || self.name_bytes + self.key.len() > NAME_BYTES_MAX {
            self.slots.clear();
            self.known.clear();
            self.name_bytes = 0;
        }
        let slot = self.known.len() as Slot;
        self.name_bytes += self.key.len();
        let key: Arc<[u8]> = self.key.as_slice().into();
        self.known.push((key.clone(), slot));
        self.slots.insert(key, slot);
        batch.define(
            slot,
            Series {
                sensor,
                field,
                kind,
            },
        );
        slot
    }
}

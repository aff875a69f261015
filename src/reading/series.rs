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
    for c in body.chars() {
        if special.contains(&c) {
            out.push('\\');
        }
        out.push(c);
    }
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
    /// By slot.
    known: Vec<Known>,
    last: Slot,
    /// The key of the look-up under way; kept so that a look-up allocates nothing.
    key: Vec<u8>,
    name_bytes: usize,
}

#[derive(Debug)]
struct Known {
    key: Arc<[u8]>,
    /// The slot that was looked up next the last time: senders repeat their series in one order, and to compare
    /// a name costs less than to hash it.
    next: Slot,
}

impl Known {
    fn is(&self, sensor: &[u8], field: &[u8], kind: Kind) -> bool {
        let names = self.key.split_first().filter(|(of, _)| **of == kind as u8);
        let rest = names.and_then(|(_, names)| names.strip_prefix(field));
        rest.and_then(|rest| rest.strip_prefix(b"\n")) == Some(sensor)
    }
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
        let after = self.last as usize;
        if let Some(&Known { next, .. }) = self.known.get(after)
            && let Some(known) = self.known.get(next as usize)
            && known.is(sensor, field, kind)
        {
            self.last = next;
            return next;
        }
        let slot = self.look_up(batch, sensor, field, kind, names);
        if let Some(before) = self.known.get_mut(after) {
            before.next = slot;
        }
        self.last = slot;
        slot
    }

    fn look_up(
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
        if let Some(&slot) = self.slots.get(self.key.as_slice()) {
            return slot;
        }
        if self.slots.len() == SERIES_MAX || self.name_bytes + self.key.len() > NAME_BYTES_MAX {
            self.slots.clear();
            self.known.clear();
            self.name_bytes = 0;
        }
        let slot = self.known.len() as Slot;
        self.name_bytes += self.key.len();
        let key: Arc<[u8]> = self.key.as_slice().into();
        self.known.push(Known {
            key: key.clone(),
            next: slot,
        });
        self.slots.insert(key, slot);
        let (sensor, field) = names();
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

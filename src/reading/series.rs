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

/// Beginning of a line, as its sender spells it: sensor, space, field and "=".
#[derive(Clone, Copy, Debug)]
pub struct Beginning<'a> {
    pub bytes: &'a [u8],
    pub sensor_bytes: usize,
}

#[derive(Debug)]
struct Known {
    /// The bytes of a `Beginning`, and the kind. A space without a backslash ends the sensor, so that no two series
    /// share a key.
    key: Arc<[u8]>,
    sensor_bytes: usize,
    /// The slot that was looked up next the last time.
    next: Slot,
}

/// Slots of the series seen lately. Senders repeat their series in one order: a line that begins as the one in its
/// place did is neither taken apart nor looked up, which saves the image's program a sixth of its processor time.
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

impl Interner {
    fn next(&self) -> Slot {
        self.known
            .get(self.last as usize)
            .map_or(0, |last| last.next)
    }

    /// Expected beginning of the next line.
    pub fn beginning(&self) -> Option<Beginning<'_>> {
        let known = self.known.get(self.next() as usize)?;
        Some(Beginning {
            bytes: known.key.split_last()?.1,
            sensor_bytes: known.sensor_bytes,
        })
    }

    /// The slot of a first field that came behind `beginning`, if the series is of this kind.
    pub fn expected(&mut self, kind: Kind) -> Option<Slot> {
        let next = self.next();
        let known = self.known.get(next as usize)?;
        if known.key.last() != Some(&(kind as u8)) {
            return None;
        }
        self.last = next;
        Some(next)
    }

    /// The slot of the series that its source spells `sensor`, `field`, both as a line does; one that is new here is
    /// defined in `batch` under the names that `canonical` gives.
    pub fn slot(
        &mut self,
        batch: &mut Batch,
        sensor: &[u8],
        field: &[u8],
        kind: Kind,
        names: impl FnOnce() -> (Box<str>, Box<str>),
    ) -> Slot {
        self.key.clear();
        self.key.extend_from_slice(sensor);
        self.key.push(b' ');
        self.key.extend_from_slice(field);
        self.key.extend([b'=', kind as u8]);
        let (after, next) = (self.last as usize, self.next());
        self.last = match self.known.get(next as usize) {
            Some(known) if *known.key == *self.key => next,
            _ => match self.slots.get(self.key.as_slice()) {
                Some(&slot) => slot,
                None => self.add(batch, sensor.len(), kind, names()),
            },
        };
        if let Some(known) = self.known.get_mut(after) {
            known.next = self.last;
        }
        self.last
    }

    fn add(
        &mut self,
        batch: &mut Batch,
        sensor_bytes: usize,
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
        self.known.push(Known {
            key: key.clone(),
            sensor_bytes,
            next: slot,
        });
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

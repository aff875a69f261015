//! Readings that were sent again: a sender that got no answer cannot know whether its readings were committed.
//!
//! A reading that equals one of the last `WINDOW` in series, time and value is the same one. The window knows them by
//! hash chains, as zlib does; what a chain finds is compared with the row itself, so that no reading is taken for
//! another. It is filled from the file, at a start and after a commit that failed, so that neither opens it.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::schema;
use super::values::{self, KnownSeries};
use crate::db::Error;
use crate::db::raw::{Connection, Row, Statement};
use crate::reading::{self, Batch, Value, fingerprint};

/// Readings that are compared with. A power of two, so that the low bits of an id are its place.
const WINDOW: usize = 65_536;
/// Text that is read when the window is filled: more would hold up a start. Readings before it are not compared with.
const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;

const OPERATION: &str = "look for a repeated reading in";

/// Readings with equal contents are the same.
#[derive(Clone, Copy)]
struct Content<'a> {
    time_ns: i64,
    series: i64,
    value: Value<'a>,
}

impl<'a> Content<'a> {
    /// From the columns `column`, … of a row; `None` where the value is nobody's reading.
    fn of(row: &'a Row<'_>, column: i32) -> Option<Self> {
        Some(Content {
            time_ns: row.integer(column),
            series: row.integer(column + 1),
            value: values::from_db(row.value(column + 2)?),
        })
    }

    /// 0.0 and -0.0 are two values.
    fn is(&self, other: &Content<'_>) -> bool {
        let is_value = match (self.value, other.value) {
            (Value::Real(one), Value::Real(other)) => one.to_bits() == other.to_bits(),
            (one, other) => one == other,
        };
        is_value && self.time_ns == other.time_ns && self.series == other.series
    }
}

/// The last readings by the tags of their contents. 768 KiB.
struct RecentReadings {
    /// The newest id of each chain, its low half.
    heads: Box<[u32]>,
    /// The next older id of its chain, by the place of an id.
    older: Box<[u32]>,
    /// By the place of an id. The low bits are the chain.
    tags: Box<[u32]>,
}

fn place(id: i64) -> usize {
    id as usize % WINDOW
}

fn chain(tag: u32) -> usize {
    tag as usize % WINDOW
}

impl RecentReadings {
    fn new() -> Self {
        let empty = || vec![0; WINDOW].into_boxed_slice();
        RecentReadings {
            heads: empty(),
            older: empty(),
            tags: empty(),
        }
    }

    /// Enters the next reading in the place of the oldest.
    fn add(&mut self, id: i64, tag: u32) {
        self.tags[place(id)] = tag;
        self.link(id, tag);
    }

    /// Puts an id at the head of its chain.
    fn link(&mut self, id: i64, tag: u32) {
        let head = &mut self.heads[chain(tag)];
        self.older[place(id)] = std::mem::replace(head, id as u32);
    }

    /// Ids with this tag among the last before `next_id`, newest first.
    fn with_tag(&self, tag: u32, next_id: i64) -> impl Iterator<Item = i64> {
        let mut age = 0;
        let mut low = self.heads[chain(tag)];
        std::iter::from_fn(move || {
            loop {
                let next_age = (next_id as u32).wrapping_sub(low);
                // A chain ends with 0, which may also be the low half of an id that is younger.
                if next_age <= age || next_age > WINDOW as u32 {
                    return None;
                }
                age = next_age;
                let id = next_id - i64::from(age);
                low = self.older[place(id)];
                if self.tags[place(id)] == tag {
                    return Some(id);
                }
            }
        })
    }
}

/// Kept only where a source may repeat itself.
pub(super) struct Repeats {
    window: RecentReadings,
    /// The window is as the file is.
    is_filled: bool,
    /// Not known to senders, who could otherwise choose readings of one tag.
    seeds: [u64; 2],
    get_reading: Statement,
}

impl Repeats {
    pub fn prepare(raw: &mut Connection) -> Result<Self, Error> {
        Ok(Repeats {
            window: RecentReadings::new(),
            is_filled: false,
            seeds: [(); 2].map(|()| RandomState::new().build_hasher().finish()),
            get_reading: raw.prepare(schema::GET_READING)?,
        })
    }

    /// After a transaction that failed: its readings are in the window and not in the file.
    pub fn forget(&mut self) {
        self.is_filled = false;
    }

    fn tag(&self, content: &Content<'_>) -> u32 {
        let value = match content.value {
            Value::Real(v) => v.to_bits(),
            Value::Integer(v) => v as u64,
            Value::Text(v) => fingerprint::name(v),
        };
        let [one, other] = self.seeds;
        let time = content.time_ns as u64 ^ one;
        let value = value ^ (content.series as u64).wrapping_mul(other);
        let product = u128::from(time) * u128::from(value);
        (product as u64 ^ (product >> 64) as u64) as u32
    }

    /// Enters the last readings of the file, unless they are in the window.
    pub fn fill(&mut self, raw: &mut Connection, next_id: i64) -> Result<(), Error> {
        if self.is_filled {
            return Ok(());
        }
        // Where a reading is missing or damaged, a tag that is none's does no harm.
        self.window.heads.fill(0);
        self.window.tags.fill(0);
        let (mut first_id, mut text_bytes) = (next_id, 0);
        raw.rows(OPERATION, schema::LIST_NEWEST_READINGS, |row| {
            let id = row.integer(0);
            if next_id - id > WINDOW as i64 || text_bytes > TEXT_BYTES_MAX {
                return false;
            }
            if let Some(content) = Content::of(row, 1) {
                if let Value::Text(text) = content.value {
                    text_bytes += text.len();
                }
                self.window.tags[place(id)] = self.tag(&content);
            }
            first_id = id;
            true
        })?;
        for id in first_id..next_id {
            self.window.link(id, self.window.tags[place(id)]);
        }
        self.is_filled = true;
        Ok(())
    }

    /// Enters rows of a batch, which get their ids from `next_id` on, up to the first that is repeated. Returns how
    /// many. `series` is by slot.
    pub fn enter(
        &mut self,
        raw: &mut Connection,
        next_id: i64,
        batch: &Batch,
        rows: &[reading::PackedReading],
        series: &[KnownSeries],
    ) -> Result<usize, Error> {
        let content = |row: &reading::PackedReading| Content {
            time_ns: row.time_ns,
            series: series[row.slot as usize].id,
            value: batch.value(row),
        };
        for (entered, row) in rows.iter().enumerate() {
            let id = next_id + entered as i64;
            let new = content(row);
            let tag = self.tag(&new);
            if row.may_repeat {
                for other in self.window.with_tag(tag, id) {
                    let is_same = match usize::try_from(other - next_id) {
                        // Entered just now, and not in the table yet.
                        Ok(nth) => content(&rows[nth]).is(&new),
                        Err(_) => self.is_in_table(raw, other, &new)?,
                    };
                    if is_same {
                        return Ok(entered);
                    }
                }
            }
            self.window.add(id, tag);
        }
        Ok(rows.len())
    }

    fn is_in_table(
        &self,
        raw: &mut Connection,
        id: i64,
        content: &Content<'_>,
    ) -> Result<bool, Error> {
        raw.begin_rows(OPERATION, self.get_reading, &[id])?;
        let row = raw.step(OPERATION, self.get_reading);
        let is_there = row.map(|row| {
            row.is_some_and(|row| Content::of(&row, 0).is_some_and(|other| other.is(content)))
        });
        raw.end_rows(self.get_reading);
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids of the last readings with this tag, newest first.
    fn expected(tags: &[u32], first_id: i64, tag: u32) -> Vec<i64> {
        let last = tags.len().saturating_sub(WINDOW)..tags.len();
        let with_tag = last.rev().filter(|n| tags[*n] == tag);
        with_tag.map(|n| first_id + n as i64).collect()
    }

    #[test]
    fn the_window_finds_each_of_the_last_readings_and_no_other() {
        // Low halves of ids that begin anew within the window are in it.
        for first_id in [1, (1 << 32) - 100_000, (1 << 40) - 7] {
            let mut rng = fastrand::Rng::with_seed(first_id as u64);
            let mut window = RecentReadings::new();
            let mut tags = Vec::new();
            for n in 0..200_000 {
                // Few chains, and few tags in each: all of them long, and one that is rare.
                let tag = rng.u32(..40) << 16 | u32::from(rng.u8(..) < 3);
                let next_id = first_id + n;
                if n % 997 == 0 {
                    let found: Vec<_> = window.with_tag(tag, next_id).collect();
                    // An id before the first: there is no row of it to compare with.
                    let found: Vec<_> = found.into_iter().filter(|id| *id >= first_id).collect();
                    assert_eq!(found, expected(&tags, first_id, tag), "{next_id}");
                }
                window.add(next_id, tag);
                tags.push(tag);
            }
        }
    }

    #[test]
    fn two_readings_that_look_alike_to_the_window_are_two() {
        let mut raw = Connection::in_memory().unwrap();
        raw.execute("make", schema::CREATE).unwrap();
        let mut repeats = Repeats::prepare(&mut raw).unwrap();
        repeats.fill(&mut raw, 1).unwrap();
        let at = |time_ns| Content {
            time_ns,
            series: 1,
            value: Value::Integer(1),
        };
        let mut times = std::collections::HashMap::new();
        let pair = (0..)
            .find_map(|time_ns| Some([times.insert(repeats.tag(&at(time_ns)), time_ns)?, time_ns]));
        let [one, other] = pair.unwrap();
        let series = [KnownSeries {
            id: 1,
            fingerprint: 0,
        }];
        let enter = |raw: &mut Connection, repeats: &mut Repeats, next_id, times: &[i64]| {
            let mut batch = Batch::default();
            for time_ns in times {
                batch.push_sent(*time_ns, 0, Value::Integer(1), true);
            }
            let rows = batch.rows();
            repeats.enter(raw, next_id, &batch, rows, &series).unwrap()
        };
        // In one batch, then beside the row itself.
        assert_eq!(enter(&mut raw, &mut repeats, 1, &[one, other]), 2);
        let sql = format!("INSERT INTO readings VALUES(1, {one}, 1, 1)");
        let sql = std::ffi::CString::new(sql).unwrap();
        raw.execute("insert", &sql).unwrap();
        repeats.forget();
        repeats.fill(&mut raw, 2).unwrap();
        assert_eq!(enter(&mut raw, &mut repeats, 2, &[one]), 0);
        assert_eq!(enter(&mut raw, &mut repeats, 2, &[other]), 1);
    }

    #[test]
    fn contents_are_compared_to_the_last_bit() {
        let content = |value| Content {
            time_ns: 1,
            series: 2,
            value,
        };
        let one = content(Value::Real(0.0));
        assert!(one.is(&content(Value::Real(0.0))));
        assert!(!one.is(&content(Value::Real(-0.0))));
        assert!(!one.is(&content(Value::Integer(0))));
        assert!(!one.is(&Content { time_ns: 2, ..one }));
        assert!(!one.is(&Content { series: 1, ..one }));
        assert!(!content(Value::Text("1")).is(&content(Value::Text("2"))));
    }
}

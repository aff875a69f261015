//! The sparse index on time: for each `SPAN_READINGS` readings in order of id, the oldest and the newest
//! time among them.
//!
//! A span is written in the transaction that completes it, so that a reader finds every reading in a span
//! or after the last one. Readings that come late only make their span wider. The recorder keeps it up;
//! whoever looks for a time asks `ranges` where to look.

use std::ops::RangeInclusive;

use super::{Error, schema};
use crate::db::raw::{Connection, Statement};
use crate::reading::Value;

/// Readings in a span. Fewer make the index finer, and touch its page in more commits: at batches of 1000, 1024
/// would cost 3 % more bytes written to the -wal, this costs less than 1 %.
pub const SPAN_READINGS: i64 = 4096;

/// The readings after the last span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// The first that is in no span, whether it is there yet or not.
    first_id: i64,
    readings: i64,
    oldest_ns: i64,
    newest_ns: i64,
}

/// A span that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    first_id: i64,
    last_id: i64,
    oldest_ns: i64,
    newest_ns: i64,
}

impl Tail {
    pub fn new(first_id: i64) -> Self {
        Tail {
            first_id,
            readings: 0,
            oldest_ns: i64::MAX,
            newest_ns: i64::MIN,
        }
    }

    /// `i64::MIN` if there is none.
    pub fn newest_ns(&self) -> i64 {
        self.newest_ns
    }

    /// Takes in the reading `id`, the next one; gives the span that it completes.
    pub fn add(&mut self, id: i64, time_ns: i64) -> Option<Span> {
        self.readings += 1;
        self.oldest_ns = self.oldest_ns.min(time_ns);
        self.newest_ns = self.newest_ns.max(time_ns);
        if self.readings < SPAN_READINGS {
            return None;
        }
        let span = Span {
            first_id: self.first_id,
            last_id: id,
            oldest_ns: self.oldest_ns,
            newest_ns: self.newest_ns,
        };
        *self = Tail::new(id.saturating_add(1));
        Some(span)
    }
}

pub(super) fn write(raw: &mut Connection, add: Statement, span: &Span) -> Result<(), Error> {
    let numbers = [span.first_id, span.last_id, span.oldest_ns, span.newest_ns];
    let numbers = numbers.map(|n| Some(Value::Integer(n)));
    raw.run("index the times in", add, &numbers)
}

/// Within a transaction: what a start needs to know of the readings after the last span. `next_id` is the
/// id that the next reading gets.
pub(super) fn find_tail(raw: &mut Connection, add: Statement, next_id: i64) -> Result<Tail, Error> {
    let mut tail = None;
    let mut spans = Vec::new();
    raw.rows("read the times of", schema::LIST_TAIL, |row| {
        let (id, time_ns) = (row.integer(0), row.integer(1));
        let tail = tail.get_or_insert_with(|| Tail::new(id));
        // None is completed here unless somebody took spans away; then they are made again.
        spans.extend(tail.add(id, time_ns));
        true
    })?;
    for span in &spans {
        write(raw, add, span)?;
    }
    Ok(tail.unwrap_or(Tail::new(next_id)))
}

/// Where the readings from `since_ns` to `until_ns` can be: in these ranges of ids and nowhere else, though
/// not everything there is of that time. In order; the last is open if readings may still come.
pub fn ranges(
    raw: &mut Connection,
    since_ns: i64,
    until_ns: i64,
) -> Result<Vec<RangeInclusive<i64>>, Error> {
    let mut ranges: Vec<RangeInclusive<i64>> = Vec::new();
    raw.rows("look up a time in", schema::LIST_ALL_SPANS, |row| {
        let (first_id, last_id) = (row.integer(0), row.integer(1));
        if row.integer(3) < since_ns || row.integer(2) > until_ns {
            return true;
        }
        match ranges.last_mut() {
            Some(last) if first_id.checked_sub(1) == Some(*last.end()) => {
                *last = *last.start()..=last_id
            }
            _ => ranges.push(first_id..=last_id),
        }
        true
    })?;
    Ok(ranges)
}

/// Holds the spans against the readings, for `check`.
pub(super) struct Examiner {
    spans: Vec<Span>,
    /// The span that the next reading is in, or is before.
    at: usize,
    oldest_ns: i64,
    newest_ns: i64,
    is_empty: bool,
    /// A reading before the first span was told.
    is_uncovered: bool,
}

impl Examiner {
    /// Reads the spans; what is wrong with them alone is told to `wrong`.
    pub fn new(raw: &mut Connection, wrong: &mut dyn FnMut(String)) -> Result<Self, Error> {
        let mut spans: Vec<Span> = Vec::new();
        raw.rows("check", schema::LIST_SPANS, |row| {
            let span = Span {
                first_id: row.integer(0),
                last_id: row.integer(1),
                oldest_ns: row.integer(2),
                newest_ns: row.integer(3),
            };
            let follows = spans
                .last()
                .is_none_or(|before| before.last_id.checked_add(1) == Some(span.first_id));
            if !follows || span.last_id < span.first_id {
                let (first, last) = (span.first_id, span.last_id);
                wrong(format!(
                    "the span of readings {first} to {last} does not follow the one before it"
                ));
            }
            spans.push(span);
            true
        })?;
        Ok(Examiner {
            spans,
            at: 0,
            oldest_ns: i64::MAX,
            newest_ns: i64::MIN,
            is_empty: true,
            is_uncovered: false,
        })
    }

    /// The next reading, in order of id.
    pub fn look(&mut self, id: i64, time_ns: i64, wrong: &mut dyn FnMut(String)) {
        while self.spans.get(self.at).is_some_and(|s| s.last_id < id) {
            self.end_span(wrong);
        }
        let Some(span) = self.spans.get(self.at) else {
            return;
        };
        if span.first_id > id {
            // Between two spans there is no room, as was looked at; this is before the first.
            if !std::mem::replace(&mut self.is_uncovered, true) {
                wrong(format!("reading {id} is in no span"));
            }
        } else {
            self.is_empty = false;
            self.oldest_ns = self.oldest_ns.min(time_ns);
            self.newest_ns = self.newest_ns.max(time_ns);
        }
    }

    fn end_span(&mut self, wrong: &mut dyn FnMut(String)) {
        let Some(span) = self.spans.get(self.at) else {
            return;
        };
        let cut = self.at == 0 && span.last_id - span.first_id + 1 < SPAN_READINGS;
        // Of a span that was cut the times may be wider than what is left of it.
        let is_right = if cut {
            span.oldest_ns <= self.oldest_ns && span.newest_ns >= self.newest_ns
        } else {
            span.oldest_ns == self.oldest_ns && span.newest_ns == self.newest_ns
        };
        if self.is_empty || !is_right {
            wrong(format!(
                "the span of readings {} to {} does not have their times",
                span.first_id, span.last_id
            ));
        }
        self.at += 1;
        self.is_empty = true;
        self.oldest_ns = i64::MAX;
        self.newest_ns = i64::MIN;
    }

    /// After the last reading.
    pub fn end(mut self, wrong: &mut dyn FnMut(String)) {
        while self.at < self.spans.len() {
            self.end_span(wrong);
        }
    }
}

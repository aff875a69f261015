//! Spans: the readings in order of id, cut into pieces of some thousand. A span has the oldest and the newest
//! time of its readings, which makes it the sparse index on time, and the sum of their fingerprints.
//!
//! A span is written in the transaction that completes it, so that a reader finds every reading in a span or
//! after the last one. The sum over the readings after the last span stands in the row of the last run, which
//! each commit writes anyway. Readings that come late only make their span wider. Retention drops whole spans.

use std::ops::RangeInclusive;

use super::schema;
use crate::db::Error;
use crate::db::SqlValue;
use crate::db::raw::{Connection, Statement};

/// Readings in a span. Fewer make the index finer, and touch its page in more commits: at batches of 1000, 1024
/// would cost 3 % more bytes written to the -wal, this costs less than 1 %.
const SPAN_READINGS: i64 = 4096;
/// Text in a span, so that one step of retention takes no more of the file where values are long.
const SPAN_TEXT_BYTES: u64 = 128 * 1024;

/// Readings after the last span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// Readings and the text in them.
    readings: i64,
    text_bytes: u64,
    /// Running time of the file when the first was committed.
    began_s: i64,
    /// As a span; its end is the newest reading.
    span: Span,
}

/// A span that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    first_id: i64,
    last_id: i64,
    oldest_ns: i64,
    newest_ns: i64,
    fingerprint: u64,
    /// Running time of the file when its last reading was committed.
    running_s: i64,
}

impl Span {
    pub fn write(&self, raw: &mut Connection, add: Statement) -> Result<(), Error> {
        let numbers = [
            self.first_id,
            self.last_id,
            self.oldest_ns,
            self.newest_ns,
            self.fingerprint as i64,
            self.running_s,
        ];
        let numbers = numbers.map(|n| Some(SqlValue::Integer(n)));
        raw.run("add a span to", add, &numbers)
    }
}

impl Tail {
    /// `first_id`: the first id in no span, whether it exists yet or not.
    pub fn new(first_id: i64) -> Self {
        Tail {
            readings: 0,
            text_bytes: 0,
            began_s: 0,
            span: Span {
                first_id,
                last_id: first_id - 1,
                oldest_ns: i64::MAX,
                newest_ns: i64::MIN,
                fingerprint: 0,
                running_s: 0,
            },
        }
    }

    /// The readings that follow are committed at this running time of the file.
    pub fn set_running(&mut self, running_s: i64) {
        self.span.running_s = running_s;
    }

    pub fn is_empty(&self) -> bool {
        self.readings == 0
    }

    pub fn began_s(&self) -> i64 {
        self.began_s
    }

    pub fn fingerprint(&self) -> u64 {
        self.span.fingerprint
    }

    /// All of it as a span; `None` if it is empty.
    pub fn span(&self) -> Option<Span> {
        (!self.is_empty()).then_some(self.span)
    }

    fn count(&mut self, id: i64, time_ns: i64, text_bytes: u64) {
        if self.is_empty() {
            self.began_s = self.span.running_s;
        }
        self.readings += 1;
        self.text_bytes += text_bytes;
        self.span.last_id = id;
        self.span.oldest_ns = self.span.oldest_ns.min(time_ns);
        self.span.newest_ns = self.span.newest_ns.max(time_ns);
    }

    /// Adds the next reading. Returns the span that it completes.
    pub fn add(
        &mut self,
        id: i64,
        time_ns: i64,
        text_bytes: u64,
        fingerprint: u64,
    ) -> Option<Span> {
        self.count(id, time_ns, text_bytes);
        self.span.fingerprint = self.span.fingerprint.wrapping_add(fingerprint);
        if self.readings < SPAN_READINGS && self.text_bytes < SPAN_TEXT_BYTES {
            return None;
        }
        let span = self.span;
        *self = Tail::new(id + 1);
        self.set_running(span.running_s);
        Some(span)
    }
}

/// Readings after the last span, at a start. Their fingerprint is the one that was
/// written with them and is not computed again, so that damage since is still found. `next_id` is
/// the id that the next reading gets.
pub(super) fn find_tail(raw: &mut Connection, next_id: i64) -> Result<Tail, Error> {
    let operation = "read the last readings of";
    let mut tail = Tail::new(next_id);
    raw.rows(operation, schema::LIST_TAIL, |row| {
        let id = row.integer(0);
        if tail.is_empty() {
            tail = Tail::new(id);
        }
        tail.count(id, row.integer(1), row.integer(2).max(0) as u64);
        true
    })?;
    raw.rows(operation, schema::TAIL_FINGERPRINT, |row| {
        tail.span.fingerprint = row.integer(0) as u64;
        false
    })?;
    Ok(tail)
}

const RANGES_MAX: usize = 64 * 1024;

/// Ranges of ids that hold all readings from `since_ns` to `until_ns`, and perhaps
/// others. In order; the last is open if readings may still come. Not more than `RANGES_MAX`, of which the last then
/// holds the rest.
pub(super) fn ranges(
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
        let is_enough = ranges.len() >= RANGES_MAX;
        match ranges.last_mut() {
            Some(last) if is_enough || first_id.checked_sub(1) == Some(*last.end()) => {
                *last = *last.start()..=last_id
            }
            _ => ranges.push(first_id..=last_id),
        }
        true
    })?;
    Ok(ranges)
}

/// Compares the spans with the readings, for `check`.
pub(super) struct Examiner {
    spans: Vec<Span>,
    /// The span of the next reading, or the first span after it.
    at: usize,
    oldest_ns: i64,
    newest_ns: i64,
    /// Readings seen of this span.
    readings: i64,
    fingerprint: u64,
    /// A reading before the first span was reported.
    is_uncovered: bool,
}

impl Examiner {
    /// Reads the spans. Passes errors within them to `wrong`.
    pub fn new(raw: &mut Connection, wrong: &mut dyn FnMut(String)) -> Result<Self, Error> {
        let mut spans: Vec<Span> = Vec::new();
        raw.rows("check", schema::LIST_SPANS, |row| {
            let span = Span {
                first_id: row.integer(0),
                last_id: row.integer(1),
                oldest_ns: row.integer(2),
                newest_ns: row.integer(3),
                fingerprint: row.integer(4) as u64,
                running_s: row.integer(5),
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
            readings: 0,
            fingerprint: 0,
            is_uncovered: false,
        })
    }

    /// The next reading, in order of id.
    pub fn add(&mut self, id: i64, time_ns: i64, fingerprint: u64, wrong: &mut dyn FnMut(String)) {
        while self.spans.get(self.at).is_some_and(|s| s.last_id < id) {
            self.end_span(wrong);
        }
        let is_before = self.spans.get(self.at).is_some_and(|s| s.first_id > id);
        if is_before {
            // Spans have no gaps between them, which was checked; this is before the first.
            if !std::mem::replace(&mut self.is_uncovered, true) {
                wrong(format!("reading {id} is in no span"));
            }
            return;
        }
        self.readings += 1;
        self.oldest_ns = self.oldest_ns.min(time_ns);
        self.newest_ns = self.newest_ns.max(time_ns);
        self.fingerprint = self.fingerprint.wrapping_add(fingerprint);
    }

    fn end_span(&mut self, wrong: &mut dyn FnMut(String)) {
        let Some(span) = self.spans.get(self.at) else {
            return;
        };
        let (first, last) = (span.first_id, span.last_id);
        if self.readings == 0
            || span.oldest_ns != self.oldest_ns
            || span.newest_ns != self.newest_ns
        {
            wrong(format!(
                "the span of readings {first} to {last} does not have their times"
            ));
        }
        // Missing readings are reported already.
        let is_whole = self.readings == last.saturating_sub(first).saturating_add(1);
        if is_whole && span.fingerprint != self.fingerprint {
            wrong(format!(
                "a reading of {first} to {last} is not as it was recorded: their fingerprint does not match"
            ));
        }
        self.at += 1;
        self.readings = 0;
        self.fingerprint = 0;
        self.oldest_ns = i64::MAX;
        self.newest_ns = i64::MIN;
    }

    /// After the last reading. `next_id` is the id that the next reading gets, `left` the readings that the
    /// runs count, `fingerprint` that of the last run's row, over those after the last span.
    pub fn end(mut self, next_id: i64, left: i64, fingerprint: u64, wrong: &mut dyn FnMut(String)) {
        while self.at < self.spans.len() {
            self.end_span(wrong);
        }
        let first = match self.spans.last() {
            Some(span) => span.last_id.saturating_add(1),
            None => next_id.saturating_sub(left),
        };
        let is_whole = self.readings == next_id.saturating_sub(first);
        if is_whole && fingerprint != self.fingerprint {
            wrong(format!(
                "a reading of {first} to {} is not as it was recorded: their fingerprint does not match",
                next_id - 1
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_a_time_hold_its_readings_and_little_else() {
        let mut raw = Connection::in_memory().unwrap();
        raw.execute("make", schema::CREATE).unwrap();
        let spans = c"INSERT INTO spans VALUES(1, 10, 0, 9, 0, 0), (11, 20, 10, 19, 0, 0)";
        raw.execute("fill", spans).unwrap();
        let mut ranges = |since, until| ranges(&mut raw, since, until).unwrap();
        let tail = 21..=i64::MAX;
        assert_eq!(ranges(0, 9), [1..=10, tail.clone()]);
        assert_eq!(ranges(10, 10), [11..=i64::MAX]);
        assert_eq!(ranges(9, 10), [1..=i64::MAX]);
        assert_eq!(ranges(20, i64::MAX), [tail]);
    }
}

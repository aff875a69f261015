//! The readings of a batch on their way into the tables: series by number, fingerprints, spans.

use std::ops::Range;

use super::ledger::Db;
use super::objects;
use super::spans::{Span, Tail};
use super::values::{self, KnownSeries};
use crate::db::Error;
use crate::db::SqlValue;
use crate::db::error;
use crate::db::raw::{BULK_COLUMNS, NewRow};
use crate::order;
use crate::reading::fingerprint;
use crate::reading::{Batch, Definition, Series, Value};

/// How far an insert has come.
struct Inserted {
    /// Rows of the batch that are inserted or were found repeated.
    rows: usize,
    /// Clock steps that are noted.
    steps: usize,
    next_id: i64,
    tail: Tail,
    /// Spans that were completed.
    spans: Vec<Span>,
}

fn text_bytes(value: Value<'_>) -> u64 {
    match value {
        Value::Text(text) => text.len() as u64,
        _ => 0,
    }
}

impl Inserted {
    fn add(&mut self, id: i64, time_ns: i64, series: u64, value: Value<'_>) {
        let fingerprint = fingerprint::fingerprint(id, time_ns, series, value);
        self.spans
            .extend(self.tail.add(id, time_ns, text_bytes(value), fingerprint));
    }
}

impl Db {
    /// Inserts the rows that are not repeated. Returns the readings after the last span, and the next id.
    pub(super) fn insert(&mut self, batch: &Batch) -> Result<(Tail, i64), Error> {
        let mut inserted = Inserted {
            rows: 0,
            steps: 0,
            next_id: self.next_id,
            tail: self.tail,
            spans: Vec::new(),
        };
        inserted.tail.set_running(self.age.times().running_s);
        self.compare_changed_schema()?;
        if let Some(repeats) = &mut self.repeats {
            repeats.fill(&mut self.raw, self.next_id)?;
        }
        // The interner gives slots in order from 0, and begins again when it is full: within a group no slot is another's.
        for group in batch.definitions().chunk_by(|a, b| a.slot < b.slot) {
            self.insert_until(batch, group[0].from, &mut inserted)?;
            self.define(group)?;
        }
        self.insert_until(batch, batch.rows().len(), &mut inserted)?;
        for span in &inserted.spans {
            span.write(&mut self.raw, self.statements.add_span)?;
        }
        Ok((inserted.tail, inserted.next_id))
    }

    /// Inserts the rows before `until`, and notes the clock steps among them.
    fn insert_until(
        &mut self,
        batch: &Batch,
        until: usize,
        inserted: &mut Inserted,
    ) -> Result<(), Error> {
        while let Some(step) = batch.clock_steps().get(inserted.steps)
            && step.from <= until
        {
            self.insert_new(batch, step.from, inserted)?;
            inserted.steps += 1;
            let numbers =
                [self.run, inserted.next_id - 1, step.step_ns].map(|n| Some(SqlValue::Integer(n)));
            let statement = self.statements.add_clock_step;
            self.raw.run("note a clock step in", statement, &numbers)?;
        }
        self.insert_new(batch, until, inserted)
    }

    /// Inserts the rows before `until`, between two definitions, but for those that are repeated.
    fn insert_new(
        &mut self,
        batch: &Batch,
        until: usize,
        inserted: &mut Inserted,
    ) -> Result<(), Error> {
        while inserted.rows < until {
            let from = inserted.rows;
            let mut to = until;
            if let Some(repeats) = &mut self.repeats {
                let (next_id, rows) = (inserted.next_id, &batch.rows()[from..until]);
                to = from + repeats.enter(&mut self.raw, next_id, batch, rows, &self.series)?;
            }
            self.insert_rows(batch, from..to, inserted)?;
            // The row that ended them is repeated.
            inserted.rows = until.min(to + 1);
        }
        Ok(())
    }

    /// Inserts rows. The first gets its id from us, as the table may be empty or
    /// lack its end; the others the one after the last.
    fn insert_rows<'a>(
        &mut self,
        batch: &'a Batch,
        range: Range<usize>,
        inserted: &mut Inserted,
    ) -> Result<(), Error> {
        let first_id = inserted.next_id;
        inserted.next_id += range.len() as i64;
        let last_id = inserted.next_id - 1;
        let mut ids = first_id..=last_id;
        let mut rows = batch.rows()[range].iter();
        let series = &self.series;
        let mut next = |new: &mut NewRow<'a>| {
            let (Some(row), Some(id)) = (rows.next(), ids.next()) else {
                return false;
            };
            let series = series[row.slot as usize];
            let value = batch.value(row);
            inserted.add(id, row.time_ns, series.fingerprint, value);
            *new = [
                SqlValue::Integer(row.time_ns),
                SqlValue::Integer(series.id),
                values::to_db(value),
            ];
            true
        };
        let mut first = [SqlValue::Integer(0); BULK_COLUMNS];
        if !next(&mut first) {
            return Ok(());
        }
        let [time_ns, series, value] = first;
        let first = [SqlValue::Integer(first_id), time_ns, series, value].map(Some);
        let statement = self.statements.insert_reading;
        let operation = "insert a reading into";
        self.raw.run(operation, statement, &first)?;
        self.count_inserted(operation, 1)?;
        if first_id == last_id {
            return Ok(());
        }
        let statement = self.statements.insert_readings;
        let operation = "insert readings into";
        let last = self.raw.insert_all(operation, statement, &mut next)?;
        if last != last_id {
            let message = format!("the last reading got the id {last} in place of {last_id}");
            return Err(error::corrupt(operation, self.raw.path(), message));
        }
        self.count_inserted(operation, last_id - first_id)
    }

    /// An error unless the last statement inserted so many rows: a constraint that somebody added may pass over a row
    /// without an error.
    fn count_inserted(&self, operation: &'static str, rows: i64) -> Result<(), Error> {
        match self.raw.changes() {
            inserted if inserted == rows => Ok(()),
            inserted => {
                let message = format!("{inserted} readings were inserted in place of {rows}");
                Err(error::corrupt(operation, self.raw.path(), message))
            }
        }
    }

    /// Within the transaction. Another tool may change the schema of a database that is being recorded to.
    fn compare_changed_schema(&mut self) -> Result<(), Error> {
        let statement = self.statements.schema_version;
        let version = self.raw.query("read the schema of", statement, &[])?;
        if version != self.schema_version {
            objects::compare(&mut self.raw)?.require_for_recording(&self.raw)?;
            self.schema_version = version;
        }
        Ok(())
    }

    /// Finds or adds the series, and stores their numbers by slot. In the order of their names, so that those that
    /// share a page of the index share a read of it: senders of more series than memory holds define most of a batch.
    fn define(&mut self, definitions: &[Definition]) -> Result<(), Error> {
        let name = |at: usize| {
            let series = &definitions[at].series;
            (&series.sensor, &series.field)
        };
        for at in order::sorted(definitions.len(), &|a, b| name(a).cmp(&name(b))) {
            let Definition { slot, series, .. } = &definitions[at];
            let known = KnownSeries {
                id: self.find_or_add(series)?,
                fingerprint: fingerprint::series(&series.sensor, &series.field, series.kind),
            };
            let slot = *slot as usize;
            if slot >= self.series.len() {
                self.series.resize(slot + 1, known);
            }
            self.series[slot] = known;
        }
        Ok(())
    }

    fn find_or_add(&mut self, series: &Series) -> Result<i64, Error> {
        let names =
            [&*series.sensor, &*series.field, series.kind.name()].map(|n| Some(SqlValue::Text(n)));
        let (operation, find) = ("look up a series in", self.statements.find_series);
        if let Some(id) = self.raw.query(operation, find, &names)? {
            return Ok(id);
        }
        self.raw
            .run(operation, self.statements.add_series, &names)?;
        let added = self.raw.query(operation, find, &names)?;
        added.ok_or_else(|| {
            let message = "a series that was added is not there".into();
            error::corrupt(operation, self.raw.path(), message)
        })
    }
}

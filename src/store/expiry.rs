//! Retention: whole spans of readings go from the old end, and the ledger says of each run how many went.
//!
//! A step is one transaction that drops a span and its readings, so that `check` holds at every moment: the
//! fingerprint of the others stands in their own spans. Ids are never used again. What the file has freed is
//! used by the next readings. Called by the writer between commits, and where a commit finds no room.

use std::time::Duration;

use super::age::AgeVerdict;
use super::ledger::Db;
use super::schema;
use super::spans::Tail;
use crate::db::Error;
use crate::db::SqlValue;
use crate::db::pragma;
use crate::db::pragma::Durability;
use crate::db::transaction;

/// Which readings may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surplus {
    /// The oldest span, whatever its time.
    Oldest,
    /// The oldest span, if all of it is older than this; and the clients not seen for as long.
    OlderThan(Duration),
}

/// Result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// So many went.
    Readings(i64),
    /// No span may go.
    Nothing,
    /// The oldest span would go if the clock had not been set.
    Held,
}

impl Expired {
    pub fn readings(self) -> i64 {
        match self {
            Expired::Readings(readings) => readings,
            Expired::Nothing | Expired::Held => 0,
        }
    }
}

/// A span that is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldestSpan {
    pub first_id: i64,
    pub last_id: i64,
    pub newest_ns: i64,
    pub running_s: i64,
}

/// Pages of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    pub all: u64,
    pub free: u64,
}

impl Pages {
    pub fn used(self) -> u64 {
        self.all.saturating_sub(self.free)
    }
}

const DROP: &str = "drop the oldest readings of";

impl Db {
    pub fn oldest_span(&mut self) -> Result<Option<OldestSpan>, Error> {
        let mut oldest = None;
        self.raw
            .rows("find the oldest span of", schema::OLDEST_SPAN, |row| {
                oldest = Some(OldestSpan {
                    first_id: row.integer(0),
                    last_id: row.integer(1),
                    newest_ns: row.integer(2),
                    running_s: row.integer(3),
                });
                false
            })?;
        Ok(oldest)
    }

    pub fn pages(&mut self) -> Result<Pages, Error> {
        let mut ask = |statement| {
            let answer = self.raw.query("ask for the pages of", statement, &[])?;
            Ok(answer.unwrap_or(0).max(0) as u64)
        };
        Ok(Pages {
            all: ask(self.statements.page_count)?,
            free: ask(self.statements.freelist_count)?,
        })
    }

    /// Whether there are at least so many spans.
    pub fn has_spans(&mut self, least: u64) -> Result<bool, Error> {
        let least = i64::try_from(least).unwrap_or(i64::MAX);
        let limit = [Some(SqlValue::Integer(least))];
        let count = self
            .raw
            .query("count the spans of", self.statements.count_spans, &limit)?;
        Ok(count.unwrap_or(0) >= least)
    }

    /// Sets the length that the file may have; a longer file keeps its length.
    pub fn set_pages_max(&mut self, pages: u64) -> Result<(), Error> {
        pragma::set_pages_max(&mut self.raw, pages)
    }

    /// Running time since the first of the readings after the last span; `None` if there are none.
    pub fn tail_age(&self) -> Option<Duration> {
        let age_s = self
            .age
            .times()
            .running_s
            .saturating_sub(self.tail.began_s());
        (!self.tail.is_empty()).then(|| Duration::from_secs(age_s.max(0) as u64))
    }

    /// Makes the readings after the last span a span of their own, so that they can go.
    pub fn end_tail(&mut self) -> Result<(), Error> {
        let Some(span) = self.tail.span() else {
            return Ok(());
        };
        self.sync_as_known()?;
        self.transaction(|db| {
            span.write(&mut db.raw, db.statements.add_span)?;
            db.write_counts(db.committed, db.repeated, db.counts, 0)
        })?;
        self.tail = Tail::new(self.next_id);
        Ok(())
    }

    /// One step.
    pub fn expire(&mut self, surplus: Surplus) -> Result<Expired, Error> {
        let Some(span) = self.oldest_span()? else {
            return Ok(Expired::Nothing);
        };
        let age = self.age;
        let verdict = match surplus {
            Surplus::Oldest => AgeVerdict::Old,
            Surplus::OlderThan(retain) => age.judge(span.running_s, span.newest_ns, retain),
        };
        match verdict {
            AgeVerdict::Old => {}
            AgeVerdict::Held => return Ok(Expired::Held),
            AgeVerdict::Young => return Ok(Expired::Nothing),
        }
        self.sync_as_known()?;
        self.transaction(|db| {
            db.drop_span(span)?;
            match surplus {
                // When a client was last seen is known by the clock alone.
                Surplus::OlderThan(retain) if age.is_steady() => {
                    db.drop_clients(age.cutoff_ns(retain))
                }
                _ => Ok(()),
            }
        })?;
        let readings = span.last_id.saturating_sub(span.first_id).saturating_add(1);
        Ok(Expired::Readings(readings))
    }

    fn sync_as_known(&mut self) -> Result<(), Error> {
        match self.durability {
            Some(_) => Ok(()),
            None => self.synchronous(Durability::Full),
        }
    }

    /// Within a transaction. The readings first, so that the pages that they free serve what follows.
    fn drop_span(&mut self, span: OldestSpan) -> Result<(), Error> {
        let (first, last) = (span.first_id, span.last_id);
        let statements = &self.statements;
        for (statement, numbers) in [
            (statements.drop_readings, &[last][..]),
            (statements.drop_clock_steps, &[last]),
            (statements.drop_span, &[last]),
            (statements.expire_runs, &[first, last]),
        ] {
            let values: Vec<_> = numbers
                .iter()
                .map(|n| Some(SqlValue::Integer(*n)))
                .collect();
            self.raw.run(DROP, statement, &values)?;
        }
        Ok(())
    }

    /// Within a transaction.
    fn drop_clients(&mut self, cutoff_ns: i64) -> Result<(), Error> {
        let cutoff = [Some(SqlValue::Integer(cutoff_ns))];
        let operation = "drop the clients of";
        self.raw
            .run(operation, self.statements.drop_clients, &cutoff)
    }

    /// Tries the first step and rolls it back: damage there would otherwise
    /// end each recording.
    pub fn try_expiry(&mut self) -> Result<(), Error> {
        let Some(span) = self.oldest_span()? else {
            return Ok(());
        };
        self.raw.run("lock", self.statements.begin, &[])?;
        let tried = self.drop_span(span);
        if !self.raw.is_autocommit() {
            self.raw.execute("roll back", transaction::ROLLBACK)?;
        }
        tried
    }
}

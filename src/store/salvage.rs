//! Reads what can be read of a damaged database, and notes which readings cannot: by ranges of ids, halved where
//! one fails, down to single readings. Called by `export --skip-damaged`.

use std::ffi::CStr;

use super::names::Names;
use super::open::{READ, is_unreadable};
use super::read::{Position, Reader, Reading, Scan, Times};
use super::runs::Runs;
use crate::db::pragma::PAGE_BYTES;
use crate::db::{Error, transaction};

/// The first and the last id that should be there.
const RECORDED_IDS: &CStr =
    c"SELECT min(first_id + expired), max(first_id + committed) - 1 FROM runs
    WHERE committed > expired HAVING count(*) > 0";
const RUNS_BY_INDEX: &CStr = c"SELECT id, first_id, (SELECT id FROM device)
    FROM runs INDEXED BY runs_by_first_id WHERE +id > ?1";
/// Upper bound on the ids of one range.
const RANGE_IDS: i64 = 8192;
/// Ranges of lost readings past this many are counted and not listed.
const LOST_MAX: usize = 100;

#[derive(Debug, Default)]
pub struct Salvage {
    /// First and last ids that are still to be read, the next ones last; `None` before the start.
    ranges: Option<Vec<(i64, i64)>>,
    /// First and last ids that cannot be read.
    pub lost: Vec<(i64, i64)>,
    /// Lost readings that are not listed.
    pub more: u64,
    /// The rows of the runs cannot be read.
    pub has_no_runs: bool,
}

impl Salvage {
    /// Hands the next readings after `at` to `each`, until it returns false. False when there are no more.
    pub fn chunk<T>(
        &mut self,
        reader: &mut Reader,
        at: &mut Position,
        times: Times,
        names: &mut Names<'_, T>,
        each: &mut impl FnMut(&Reading<'_>, &T) -> bool,
    ) -> Result<bool, Error> {
        let mut ranges = match self.ranges.take() {
            Some(ranges) => ranges,
            None => self.begin(reader, at)?,
        };
        while let Some((first, last)) = ranges.pop() {
            let end = last.min(first.saturating_add(RANGE_IDS - 1));
            if end < last {
                ranges.push((end + 1, last));
            }
            if first > end {
                continue;
            }
            at.id = first - 1;
            match reader.gapless(at, end, times, names, each) {
                Ok(true) => {}
                Ok(false) => {
                    ranges.push((at.id + 1, end));
                    self.ranges = Some(ranges);
                    return Ok(true);
                }
                Err(e) if !is_unreadable(&e) => return Err(e),
                // Some were read before the one that failed.
                Err(_) if at.id >= first => ranges.push((at.id + 1, end)),
                Err(_) if first == end => self.lose(first),
                Err(_) => {
                    let middle = first + (end - first) / 2;
                    ranges.extend([(middle + 1, end), (first, middle)]);
                }
            }
        }
        self.ranges = Some(ranges);
        Ok(false)
    }

    pub fn is_whole(&self) -> bool {
        self.lost.is_empty() && !self.has_no_runs
    }

    fn begin(&mut self, reader: &mut Reader, at: &mut Position) -> Result<Vec<(i64, i64)>, Error> {
        self.has_no_runs = !reader.learn_runs_if_readable()?;
        reader.go_back_to_a_later_run(at);
        let (first, last) = reader.recorded_ids()?;
        let first = first.max(at.id.saturating_add(1));
        // A reading takes more than a byte: a damaged number must not keep the search going for ever.
        let pages = reader.raw.answer(READ, transaction::PAGE_COUNT)?;
        let pages: i64 = pages.parse().unwrap_or(0);
        let most = pages.saturating_mul(PAGE_BYTES as i64);
        let (end, start) = (first.saturating_add(most), last.saturating_sub(most));
        let oldest = (first, last.min(end));
        // Either end may be the damaged one.
        Ok(if end < last {
            vec![(start.max(end + 1), last), oldest]
        } else {
            vec![oldest]
        })
    }

    fn lose(&mut self, id: i64) {
        let is_full = self.lost.len() >= LOST_MAX;
        match self.lost.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ if is_full => self.more += 1,
            _ => self.lost.push((id, id)),
        }
    }
}

impl Reader {
    /// Hands the readings after `at`, of which none may be missing, to `each`, up to the id `last`. After an error
    /// `at` is behind those that were read. False when `each` has had enough.
    fn gapless<T>(
        &mut self,
        at: &mut Position,
        last: i64,
        times: Times,
        names: &mut Names<'_, T>,
        each: &mut impl FnMut(&Reading<'_>, &T) -> bool,
    ) -> Result<bool, Error> {
        if self.runs.is_empty() {
            self.learn_runs_if_readable()?;
        }
        self.runs.forget();
        names.bound();
        let scan = Scan {
            statement: self.statements.readings_from,
            last,
            times,
            is_gapless: true,
        };
        let first = at.id.saturating_add(1);
        self.raw.begin_rows(READ, scan.statement, &[first])?;
        let result = self.scan(&scan, at, names, each);
        self.raw.end_rows(scan.statement);
        Ok(result?.is_some())
    }

    /// The first and the last id that should be there.
    fn recorded_ids(&mut self) -> Result<(i64, i64), Error> {
        let statement = self.raw.prepare(RECORDED_IDS)?;
        match self.first(statement, &[]) {
            Err(e) if is_unreadable(&e) => {}
            found => return Ok(found?.unwrap_or((1, 0))),
        }
        let oldest = self.first(self.statements.next_reading, &[i64::MIN]);
        let first = oldest.ok().flatten().map_or(1, |(id, _)| id);
        Ok((first, self.newest()?.map_or(0, |(id, _)| id)))
    }

    /// False where the rows of the runs cannot be read: the index has their ids, and the device is the present one.
    fn learn_runs_if_readable(&mut self) -> Result<bool, Error> {
        match self.learn_runs() {
            Err(e) if is_unreadable(&e) => {}
            learnt => return learnt.map(|()| true),
        }
        self.runs = Runs::default();
        let by_index = self.raw.prepare(RUNS_BY_INDEX)?;
        self.learn_runs_by(by_index).map(|()| false)
    }
}

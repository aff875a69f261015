//! Readings that are sent again: guards against one that is stored twice, and against one that is taken for another and is
//! not stored at all.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use seawall::db::raw::{Access, Connection};
use seawall::reading::{Batch, Kind, NamedClient, Series, StreamMark, Value};
use seawall::store::{Db, Durability, Surplus};

use crate::support::Dir;
use crate::support::store::*;

/// Readings that are compared with, as docs/database.md has it, and text of them at a start.
const WINDOW: usize = 65_536;
const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Where a source may send again what was committed.
fn open_for_repeats(path: &Path) -> Db {
    open_with(path, PATIENCE, true)
}

/// Readings of slot 0, which is `f`.
fn sent(readings: &[(i64, Value<'_>)]) -> Batch {
    let mut batch = batch(0);
    for (time_ns, value) in readings {
        batch.push_sent(*time_ns, 0, *value, true);
    }
    batch
}

/// Commits; returns how many of the batch were stored and how many repeated.
fn commit(db: &mut Db, batch: &Batch) -> (i64, i64) {
    let before = (db.committed(), db.repeated());
    db.commit(batch, Durability::Full).unwrap();
    (db.committed() - before.0, db.repeated() - before.1)
}

#[test]
fn what_differs_in_time_series_type_or_value_is_another_reading() {
    let dir = Dir::new("store");
    let path = empty(&dir);
    let mut db = open_for_repeats(&path);
    let mut all = sent(&[
        (1, Value::Real(1.0)),
        (1, Value::Real(f64::from_bits(1.0f64.to_bits() + 1))),
        (2, Value::Real(1.0)),
        (1, Value::Real(0.0)),
        (1, Value::Real(-0.0)),
    ]);
    for (slot, kind, value) in [
        (1, Kind::Float, Value::Real(1.0)),
        (2, Kind::Integer, Value::Integer(1)),
        (3, Kind::Boolean, Value::Integer(1)),
        (4, Kind::String, Value::Text("1")),
        (4, Kind::String, Value::Text("1 ")),
        (4, Kind::String, Value::Text("")),
    ] {
        let field = if slot == 1 { "other" } else { "f" };
        let field = series(field);
        all.define(slot, Series { kind, ..field });
        all.push_sent(1, slot, value, true);
    }
    assert_eq!(commit(&mut db, &all), (11, 0));
    assert_eq!(commit(&mut db, &all), (0, 11));
    // The value before comes back, and was sent before.
    assert_eq!(commit(&mut db, &sent(&[(1, Value::Real(1.0))])), (0, 1));
    drop(db);
    assert_holds(&path, 11);
}

#[test]
fn only_what_a_sender_may_repeat_is_left_out_and_it_may_have_come_on_any_way() {
    let dir = Dir::new("store");
    let path = empty(&dir);
    let mut db = open_for_repeats(&path);
    // From a source that knows what is settled, or without a time of its own.
    assert_eq!(commit(&mut db, &batch(3)), (3, 0));
    assert_eq!(commit(&mut db, &batch(3)), (3, 0));
    assert_eq!(commit(&mut db, &sent(&[(2, Value::Real(2.0))])), (0, 1));
    drop(db);
    // Where no source may repeat itself there is no window.
    let mut db = open(&path);
    assert_eq!(commit(&mut db, &sent(&[(2, Value::Real(2.0))])), (1, 0));
    drop(db);
    assert_holds(&path, 7);
}

#[test]
fn a_reading_is_known_until_as_many_others_were_stored_as_the_window_holds() {
    let dir = Dir::new("store");
    let path = empty(&dir);
    let mut db = open_for_repeats(&path);
    let first = sent(&[(-1, Value::Real(1.0))]);
    assert_eq!(commit(&mut db, &first), (1, 0));
    assert_eq!(commit(&mut db, &batch(WINDOW - 1)).0, WINDOW as i64 - 1);
    assert_eq!(commit(&mut db, &first), (0, 1));
    // Filled from the file it is the same window.
    drop(db);
    let mut db = open_for_repeats(&path);
    assert_eq!(commit(&mut db, &first), (0, 1));
    assert_eq!(commit(&mut db, &batch(1)), (1, 0));
    assert_eq!(commit(&mut db, &first), (1, 0));
    assert_eq!(commit(&mut db, &first), (0, 1));
    drop(db);
    assert_holds(&path, WINDOW as i64 + 2);
}

#[test]
fn a_start_reads_no_more_text_than_its_bound_and_knows_the_newest() {
    const TEXTS: usize = 300;
    let dir = Dir::new("store");
    let path = empty(&dir);
    let text = "x".repeat(TEXT_BYTES_MAX / 200);
    let mut all = batch(0);
    for n in 0..TEXTS as i64 {
        all.push_sent(n, 0, Value::Text(&text), true);
    }
    let mut db = open_for_repeats(&path);
    assert_eq!(commit(&mut db, &all), (300, 0));
    assert_eq!(commit(&mut db, &all), (0, 300));
    drop(db);
    let mut db = open_for_repeats(&path);
    let newest = sent(&[
        (TEXTS as i64 - 199, Value::Text(&text)),
        (TEXTS as i64 - 1, Value::Text(&text)),
    ]);
    assert_eq!(commit(&mut db, &newest), (0, 2));
    assert_eq!(commit(&mut db, &sent(&[(0, Value::Text(&text))])), (1, 0));
}

#[test]
fn a_step_of_the_clock_stands_behind_the_last_reading_that_was_stored_before_it() {
    let dir = Dir::new("store");
    let path = empty(&dir);
    let mut db = open_for_repeats(&path);
    let known = (1, Value::Real(1.0));
    let mut all = sent(&[known, known]);
    all.clock_step(-5);
    // Carried along when batches are joined.
    let mut joined = sent(&[known, (2, Value::Real(1.0)), known]);
    joined.clock_step(7);
    all.append(&mut joined);
    all.append(&mut sent(&[(3, Value::Real(1.0))]));
    assert_eq!(commit(&mut db, &all), (3, 3));
    // Only repeated readings before it.
    let mut again = sent(&[known]);
    again.clock_step(11);
    assert_eq!(commit(&mut db, &again), (0, 1));
    // Alone.
    let mut alone = Batch::default();
    alone.clock_step(13);
    assert_eq!(commit(&mut db, &alone), (0, 0));
    let steps = "SELECT group_concat(after_id || ' ' || step_ns, ', ') FROM clock_steps";
    assert_eq!(answer(&path, steps), "1 -5, 2 7, 3 11, 3 13");
}

#[test]
fn lines_whose_readings_are_all_repeated_are_settled_by_a_commit() {
    let dir = Dir::new("store");
    let path = empty(&dir);
    let mut db = open_for_repeats(&path);
    let reading = [(1, Value::Real(1.0))];
    db.commit(&sent(&reading), Durability::Normal).unwrap();
    let mut again = sent(&reading);
    let mark = StreamMark {
        stream: 4,
        lines: 1,
    };
    again.mark(mark);
    let name: Arc<str> = "a".into();
    again.client(NamedClient {
        name,
        lines: 1,
        uid: None,
    });
    let frames = db.wal_frames();
    let committed = db.commit(&again, Durability::Full).unwrap();
    assert_eq!(committed.marks(), [mark]);
    // A transaction, whose sync is that of the readings before it.
    assert!(db.wal_frames() > frames);
    let settled = "SELECT lines || ' ' || repeated FROM clients, runs";
    assert_eq!(answer(&path, settled), "1 1");
}

/// Series, time and value.
type Content = (u8, i64, i64);

/// The readings that were stored.
#[derive(Default)]
struct Model {
    stored: Vec<Content>,
    /// Of each content the last place.
    newest: HashMap<Content, usize>,
    /// So many have gone from the old end.
    gone: usize,
}

impl Model {
    /// Takes a batch. Returns how many of it are stored and how many repeated.
    fn take(&mut self, contents: &[Content], may_repeat: bool) -> (i64, i64) {
        let mut repeated = 0;
        for content in contents {
            let at = self.stored.len();
            let is_known = |known: &usize| *known >= self.gone && at - known <= WINDOW;
            if may_repeat && self.newest.get(content).is_some_and(is_known) {
                repeated += 1;
            } else {
                self.newest.insert(*content, at);
                self.stored.push(*content);
            }
        }
        (contents.len() as i64 - repeated, repeated)
    }
}

/// Readings of three series in two slots. Most follow one another, as a sender has them.
fn draw(rng: &mut fastrand::Rng, may_repeat: bool) -> (Batch, Vec<Content>) {
    const TIMES: i64 = 30_000;
    let (mut batch, mut contents) = (Batch::default(), Vec::new());
    let mut fields = [0, 1];
    let mut time_ns = 0;
    for n in 0..rng.usize(..3_000) {
        if n == 0 || rng.u8(..) < 3 {
            time_ns = rng.i64(0..TIMES);
            fields[rng.usize(..2)] = rng.u8(..3);
            for (slot, field) in (0..).zip(fields) {
                batch.define(slot, series(&format!("f{field}")));
            }
        }
        time_ns += 1;
        let (slot, value) = (rng.usize(..8) / 7, rng.i64(0..50) / 49);
        batch.push_sent(time_ns, slot as u32, Value::Real(value as f64), may_repeat);
        contents.push((fields[slot], time_ns, value));
    }
    (batch, contents)
}

#[test]
fn the_file_holds_what_a_plain_list_of_the_last_readings_says() {
    let dir = Dir::new("store");
    let path = empty(&dir);
    let mut rng = fastrand::Rng::with_seed(5);
    let mut model = Model::default();
    let mut db = open_for_repeats(&path);
    let (mut repeated, mut failed, mut starts) = (0, 0, 0);
    while model.stored.len() < 2 * WINDOW {
        let may_repeat = rng.u8(..) < 200;
        let (batch, contents) = draw(&mut rng, may_repeat);
        if rng.u8(..) < 60 {
            // Not a page more than there is: most commits meet the end of the file in their middle.
            db.set_pages_max(1).unwrap();
            let result = db.commit(&batch, Durability::Normal);
            db.set_pages_max(u64::MAX).unwrap();
            match result {
                Ok(_) => _ = model.take(&contents, may_repeat),
                Err(_) => {
                    failed += 1;
                    // Another comes first, and gets its ids.
                    if rng.bool() {
                        continue;
                    }
                }
            }
        }
        let expected = model.take(&contents, may_repeat);
        assert_eq!(commit(&mut db, &batch), expected);
        repeated += expected.1;
        match rng.u8(..) {
            0..16 => {
                drop(db);
                db = open_for_repeats(&path);
                starts += 1;
            }
            16..48 => model.gone += db.expire(Surplus::Oldest).unwrap().readings() as usize,
            _ => {}
        }
    }
    println!("{repeated} repeated, {failed} commits failed, {starts} starts");
    assert!(repeated > 10_000 && failed > 3 && starts > 3);
    drop(db);
    assert_holds(&path, (model.stored.len() - model.gone) as i64);
    let mut raw = Connection::open(&path, Access::ReadOnly).unwrap();
    let mut at = model.gone;
    let all = c"SELECT r.id, field, time_ns, value FROM readings AS r JOIN series AS s ON s.id = series ORDER BY r.id";
    raw.rows("read", all, |row| {
        let (field, time_ns, value) = model.stored[at];
        at += 1;
        assert_eq!(
            (row.integer(0), row.text(1)),
            (at as i64, format!("f{field}").into())
        );
        assert_eq!((row.integer(2), row.integer(3)), (time_ns, value));
        true
    })
    .unwrap();
}

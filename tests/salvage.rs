//! Guards against one bad page that costs a whole file: SQLite gives up where it meets it, and the readings behind it
//! are there.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Dir, PAGE_BYTES, record_lines, seawall, sql, start};

const READINGS: usize = 12_000;

/// Two runs; with READINGS several levels of pages of readings, and series in several pages.
fn recorded(dir: &Dir, readings: usize) -> PathBuf {
    let db = dir.file("x.db");
    let spec = format!("sim:sensors=60,rate=max,count={},seed=1", readings - 1);
    assert_eq!(start(&db, &["--source", &spec]).wait().code(), 0);
    record_lines(&db, "door open=true 1\n");
    db
}

/// The pages of a table or an index: those that lead to others, and those that lead to none.
fn pages(db: &Path, name: &str) -> [Vec<usize>; 2] {
    let file = fs::read(db).unwrap();
    let root = sql(
        db,
        &format!("SELECT rootpage FROM sqlite_master WHERE name = '{name}'"),
    );
    let mut next = vec![root.parse().unwrap()];
    let [mut inner, mut leaves] = [vec![], vec![]];
    while let Some(page) = next.pop() {
        let bytes = &file[(page - 1) * PAGE_BYTES..page * PAGE_BYTES];
        let number = |at: usize, len: usize| {
            let bytes = bytes[at..at + len].iter();
            bytes.fold(0usize, |sum, byte| sum << 8 | *byte as usize)
        };
        match bytes[0] {
            2 | 5 => {
                let cells = (0..number(3, 2)).map(|n| number(number(12 + 2 * n, 2), 4));
                next.push(number(8, 4));
                next.extend(cells.collect::<Vec<_>>().into_iter().rev());
                inner.push(page);
            }
            _ => leaves.push(page),
        }
    }
    [inner, leaves]
}

fn export(db: &Path, more: &[&str]) -> (i32, Vec<String>, String) {
    let (code, out, err) = seawall(&[&["export", "--db", db.to_str().unwrap()], more].concat());
    (code, out.lines().map(str::to_owned).collect(), err)
}

/// Ids that stderr names as gone.
fn gone(err: &str) -> HashSet<usize> {
    let mut ids = HashSet::new();
    for line in err.lines() {
        if let Some(range) = line.strip_prefix("seawall: gone: readings ") {
            let words: Vec<_> = range.split(' ').collect();
            let [first, last] = [words[0], words[2]].map(|n| n.parse::<usize>().unwrap());
            assert_eq!(words[3], format!("({})", last - first + 1), "{line}");
            ids.extend(first..=last);
        }
    }
    ids
}

/// Overwrites pages; every row that is there was, and each that was is there or named on stderr. Returns how many
/// are gone, and what stderr says.
#[track_caller]
fn salvage(dir: &Dir, whole: &Path, pages: &[usize]) -> (usize, String) {
    let all = export(whole, &[]).1;
    assert_eq!(all.len(), READINGS + 1);
    let mut lost = 0;
    let mut says = String::new();
    for noise in [0xa5, 0, 0xff] {
        let db = dir.file("damaged.db");
        let mut file = fs::read(whole).unwrap();
        for page in pages {
            file[(page - 1) * PAGE_BYTES..page * PAGE_BYTES].fill(noise);
        }
        fs::write(&db, file).unwrap();
        let (code, rows, err) = export(&db, &["--skip-damaged"]);
        let gone = gone(&err);
        let left = all.iter().enumerate().filter(|(n, _)| !gone.contains(n));
        let left: Vec<_> = left.map(|(_, row)| row.clone()).collect();
        assert!(rows == left, "{noise:x}: {} rows\n{err}", rows.len());
        if !gone.is_empty() {
            let total = format!(
                "seawall: {} readings of {} cannot be read\n",
                gone.len(),
                db.display()
            );
            assert!(err.ends_with(&total), "{err}");
            // Without it, the message says what to type.
            let (code, _, err) = export(&db, &[]);
            assert!(
                code == 1
                    && err.contains("; `seawall export --skip-damaged` has all that can be read"),
                "{err}"
            );
        }
        assert_eq!(code, i32::from(!err.is_empty()), "{err}");
        (lost, says) = (gone.len(), err);
    }
    (lost, says)
}

#[test]
fn of_a_file_with_damaged_pages_of_readings_all_others_are_exported() {
    let dir = Dir::new("salvage");
    let db = recorded(&dir, READINGS);
    let [inner, leaves] = pages(&db, "readings");
    assert!(inner.len() > 3 && leaves.len() > 200, "{inner:?}");
    for (damaged, most) in [
        (&leaves[..1], 60),
        (&leaves[leaves.len() - 1..], 60),
        (&[leaves[20], leaves[22], leaves[100]], 180),
        (&leaves[50..80], 30 * 60),
        (&inner[1..2], READINGS / 2),
    ] {
        let (lost, _) = salvage(&dir, &db, damaged);
        assert!(0 < lost && lost <= most, "{damaged:?}: {lost}");
    }
    // Nothing leads to any reading.
    assert_eq!(salvage(&dir, &db, &inner[..1]).0, READINGS);
}

#[test]
fn damaged_indexes_spans_and_names_cost_no_reading() {
    let dir = Dir::new("salvage");
    let db = recorded(&dir, READINGS);
    for name in [
        "sqlite_autoindex_series_1",
        "runs_by_first_id",
        "series",
        "spans",
        "clients",
        "clock_steps",
    ] {
        let damaged = pages(&db, name).concat();
        assert_eq!(salvage(&dir, &db, &damaged), (0, String::new()), "{name}");
    }
    // The index has the runs' ids, and the device is that of the file.
    let (lost, says) = salvage(&dir, &db, &pages(&db, "runs").concat());
    assert!(
        lost == 0 && says.contains("the rows of the runs cannot be read"),
        "{says}"
    );
    // With their index gone too, the readings of some sensors have no name: more ranges than are listed.
    let all: HashSet<_> = export(&db, &[]).1.into_iter().collect();
    let mut file = fs::read(&db).unwrap();
    for name in ["series", "sqlite_autoindex_series_1"] {
        let page = pages(&db, name)[1][0];
        file[(page - 1) * PAGE_BYTES..][..PAGE_BYTES].fill(0xa5);
    }
    fs::write(&db, file).unwrap();
    let (code, rows, err) = export(&db, &["--skip-damaged"]);
    let lost = all.len() - rows.len();
    assert!(code == 1 && 0 < lost && lost < READINGS / 2, "{lost}");
    assert!(rows.iter().all(|row| all.contains(row)));
    let more = format!("seawall: gone: {} readings more\n", lost - gone(&err).len());
    assert!(
        err.contains(&more) && err.contains(&format!("seawall: {lost} readings of ")),
        "{err}"
    );
}

/// The old readings have gone, and more ids seem to be missing than a file of this size can hold.
#[test]
fn a_damaged_first_id_of_a_run_costs_no_reading() {
    /// Each id that a file of this size could hold is looked for, which takes long.
    const FEW: usize = 600;
    let dir = Dir::new("salvage-ids");
    let db = recorded(&dir, FEW);
    for table in ["readings SET id = id", "runs SET first_id = first_id"] {
        sql(&db, &format!("UPDATE {table} + 1000000000"));
    }
    assert_eq!(export(&db, &[]).1.len(), 1 + FEW);
    sql(&db, "UPDATE runs SET first_id = 1 WHERE id = 1");
    let (_, rows, err) = export(&db, &["--skip-damaged"]);
    assert_eq!(rows.len(), 1 + FEW, "{err}");
}

#[test]
fn of_a_file_that_was_cut_short_the_beginning_is_exported() {
    let dir = Dir::new("salvage");
    let db = recorded(&dir, READINGS);
    let all = export(&db, &[]).1;
    let file = fs::read(&db).unwrap();
    fs::write(&db, &file[..file.len() / 2]).unwrap();
    let (code, rows, err) = export(&db, &["--skip-damaged"]);
    assert_eq!(code, 1);
    assert_eq!(rows.len() - 1 + gone(&err).len(), READINGS, "{err}");
    assert!(
        rows.len() > READINGS / 3 && rows.iter().all(|row| all.contains(row)),
        "{err}"
    );
    // Nothing is known of a file without its first page.
    fs::write(&db, [&[0; PAGE_BYTES], &file[PAGE_BYTES..]].concat()).unwrap();
    let (code, rows, err) = export(&db, &["--skip-damaged"]);
    assert!(
        code == 1 && rows.is_empty() && err.contains("file is not a database"),
        "{err}"
    );
}

#[test]
fn what_was_asked_for_holds_for_a_damaged_file_too() {
    let dir = Dir::new("salvage");
    let db = recorded(&dir, READINGS);
    let [_, leaves] = pages(&db, "readings");
    let mut file = fs::read(&db).unwrap();
    file[(leaves[1] - 1) * PAGE_BYTES..][..PAGE_BYTES].fill(0xa5);
    fs::write(&db, file).unwrap();
    let skip = |more: &[&str]| export(&db, &[&["--skip-damaged"], more].concat());
    // Behind the damage, and for one sensor.
    let (code, rows, err) = skip(&["--after", "1:6000", "--sensor", "door"]);
    assert_eq!((code, rows.len(), &*err), (0, 2, ""));
    assert!(rows[1].contains(",door,open,1,2"), "{rows:?}");
    let (code, rows, err) = skip(&["--limit", "5"]);
    assert_eq!((code, rows.len(), &*err), (0, 6, ""));
    let (code, rows, _) = skip(&["--until", "1970-01-02T00:00:00Z"]);
    assert_eq!((code, rows.len()), (1, 2));
    let (code, _, err) = skip(&["--follow"]);
    assert!(
        code == 2 && err.contains("--follow and --skip-damaged exclude each other"),
        "{err}"
    );
}

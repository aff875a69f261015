//! Guards against a recorder that never starts again after a bad block, and against one that quietly starts
//! afresh: a damaged database is set aside whole, and somebody is told until it is looked at.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{
    Dir, Ended, PAGE_BYTES, Running, assert_sound, count, fields, record_lines, seawall, sql,
    start_stdin, until,
};

fn record(db: &Path, more: &[&str]) -> Ended {
    let mut args = vec![
        "--db",
        db.to_str().unwrap(),
        "--source",
        "sim:rate=max,count=5000",
    ];
    args.extend(more);
    Running::start(&args).wait()
}

/// A database after a stop.
fn recorded(dir: &Dir) -> PathBuf {
    let db = dir.file("x.db");
    assert_eq!(record(&db, &[]).code(), 0);
    db
}

/// A database after a kill, with a -wal that holds readings, and damaged where the -wal has no newer page.
fn killed_and_damaged(dir: &Dir) -> PathBuf {
    let db = recorded(dir);
    let run = Running::start(&[
        "--db",
        db.to_str().unwrap(),
        "--source",
        "sim:rate=100",
        "--commit-interval",
        "0",
    ]);
    run.wait_for("ready");
    until("more is recorded", || (count(&db) > 5100).then_some(()));
    let series = root_page(&db, "series");
    run.kill();
    assert!(dir.file("x.db-wal").exists());
    overwrite(&db, (series - 1) * PAGE_BYTES, &NOISE);
    db
}

/// All files of the folder but the -shm, which holds nothing.
fn files(dir: &Dir) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap());
    entries
        .map(|e| {
            (
                e.file_name().into_string().unwrap(),
                fs::read(e.path()).unwrap(),
            )
        })
        .filter(|(name, _)| !name.ends_with("-shm"))
        .collect()
}

fn root_page(db: &Path, table: &str) -> usize {
    let sql_text = format!("SELECT rootpage FROM sqlite_master WHERE name = '{table}'");
    sql(db, &sql_text).parse().unwrap()
}

fn overwrite(db: &Path, at: usize, bytes: &[u8]) {
    let mut file = fs::read(db).unwrap();
    let end = (at + bytes.len()).min(file.len());
    file[at..end].copy_from_slice(&bytes[..end - at]);
    fs::write(db, file).unwrap();
}

const NOISE: [u8; 64] = [0xa5; 64];

const WAL_MAGIC: [u8; 4] = [0x37, 0x7f, 0x06, 0x82];

type Damage = (&'static str, fn(&Path));

/// What a start must notice. Each works on a file of which everything is in the database itself.
const DAMAGES: [Damage; 5] = [
    ("a zeroed header", |db| overwrite(db, 0, &[0; 100])),
    ("a truncated file", |db| {
        let whole = fs::read(db).unwrap();
        fs::write(db, &whole[..whole.len() / 2]).unwrap();
    }),
    ("a damaged page of runs", |db| {
        overwrite(db, (root_page(db, "runs") - 1) * PAGE_BYTES, &NOISE);
    }),
    ("a damaged page of series", |db| {
        overwrite(db, (root_page(db, "series") - 1) * PAGE_BYTES, &NOISE);
    }),
    ("a damaged root of the readings", |db| {
        overwrite(db, (root_page(db, "readings") - 1) * PAGE_BYTES, &NOISE);
    }),
];

/// Files of others, one of them in the place of a database that was stopped.
#[test]
fn a_file_that_shows_nothing_of_ours_is_never_renamed_or_written_to() {
    let dir = Dir::new("foreign");
    let stopped = recorded(&dir);
    let mut noise = vec![0; 8192];
    fastrand::Rng::with_seed(3).fill(&mut noise);
    let text = "root:x:0:0:root:/root:/bin/sh\n".repeat(40);
    let mut gzip = noise.clone();
    gzip[..4].copy_from_slice(b"\x1f\x8b\x08\x00");
    // Another's database, whole, and damaged with a -wal of its own.
    sql(&dir.file("other"), "CREATE TABLE t(x)");
    let other = fs::read(dir.file("other")).unwrap();
    let mut damaged = other.clone();
    damaged[100..].fill(0xa5);
    damaged[18..20].fill(2);
    fs::write(dir.file("hurt-wal"), [&WAL_MAGIC[..], &[0; 96]].concat()).unwrap();
    // The text has somebody's notes beside it.
    fs::write(dir.file("passwd-mark"), "marks: 12").unwrap();
    for (name, content) in [
        ("passwd", text.as_bytes()),
        ("short", b"x"),
        ("zeros", &[0; 4096]),
        ("noise", &noise),
        ("gzip", &gzip),
        ("other", &other),
        ("hurt", &damaged),
        ("x.db", text.as_bytes()),
    ] {
        let db = dir.file(name);
        fs::write(&db, content).unwrap();
        let before = files(&dir);
        let ended = record(&db, &[]);
        assert_eq!(ended.code(), 1, "{name}: {:#?}", ended.log);
        let why = match name {
            "short" => "it holds something else",
            "other" => "it is not a seawall database",
            _ => "nothing in it shows that it was seawall's",
        };
        assert!(ended.has(why), "{name}: {:#?}", ended.log);
        assert_eq!(files(&dir), before, "{name}");
    }
    assert!(stopped.exists());
}

/// After a kill the files beside it say whose it was.
#[test]
fn a_file_that_was_overwritten_is_known_by_the_files_beside_it() {
    for keep in ["-wal", "-mark"] {
        let dir = Dir::new("overwritten");
        let db = killed_and_damaged(&dir);
        for end in ["-wal", "-mark", "-shm"] {
            if end != keep {
                fs::remove_file(dir.file(&format!("x.db{end}"))).unwrap();
            }
        }
        fs::write(&db, vec![0; 3000]).unwrap();
        let ended = record(&db, &[]);
        assert_eq!(ended.code(), 0, "{keep}: {:#?}", ended.log);
        assert!(ended.has("event=database-damaged"), "{keep}");
        assert_eq!(count(&db), 5000, "{keep}");
    }
}

fn check_code(db: &Path) -> (i32, String) {
    let (code, out, err) = seawall(&["check", "--db", db.to_str().unwrap()]);
    (code, out + &err)
}

#[test]
fn a_damaged_database_is_set_aside_whole_and_told_of_until_it_is_taken_away() {
    for (name, damage) in DAMAGES {
        let dir = Dir::new("damage");
        let db = recorded(&dir);
        damage(&db);
        let damaged = fs::read(&db).unwrap();

        let ended = record(&db, &[]);
        assert_eq!(ended.code(), 0, "{name}: {:#?}", ended.log);
        assert!(ended.has("event=database-damaged"), "{name}");
        assert_eq!(count(&db), 5000, "{name}");
        let aside: Vec<_> = files(&dir)
            .into_keys()
            .filter(|n| n.contains(".damaged-"))
            .collect();
        assert_eq!(aside.len(), 1, "{name}: {aside:?}");
        let aside = dir.file(&aside[0]);
        assert!(
            ended.has(&format!("event=set-aside path={}", aside.display())),
            "{name}"
        );

        // At every start, and in check, until somebody has looked.
        let next = record(&db, &[]);
        assert!(
            next.has("event=set-aside") && !next.has("event=database-damaged"),
            "{name}"
        );
        let (code, out) = check_code(&db);
        assert_eq!(code, 1, "{name}: {out}");
        assert!(out.contains(aside.to_str().unwrap()), "{name}: {out}");
        assert_eq!(
            fs::read(&aside).unwrap(),
            damaged,
            "{name}: the file that was set aside changed"
        );
        fs::remove_file(&aside).unwrap();
        assert!(!record(&db, &[]).has("event=set-aside"), "{name}");
        assert_sound(&db);
    }
}

#[test]
fn the_wal_goes_aside_with_its_database_unchanged() {
    let dir = Dir::new("damage");
    let db = killed_and_damaged(&dir);
    let (main, wal) = (
        fs::read(&db).unwrap(),
        fs::read(dir.file("x.db-wal")).unwrap(),
    );
    assert!(!wal.is_empty());
    assert_eq!(record(&db, &[]).code(), 0);
    let after = files(&dir);
    let aside = |end: &str| {
        let mut found = after
            .iter()
            .filter(|(n, _)| n.contains(".damaged-") && n.ends_with(end));
        found.next().map(|(_, bytes)| bytes.clone())
    };
    assert_eq!(aside("Z"), Some(main));
    assert_eq!(aside("Z-wal"), Some(wal));
}

fn assert_refused(dir: &Dir, db: &Path, name: &str) {
    let before = files(dir);
    let ended = record(db, &["--on-damage", "refuse"]);
    assert_eq!(ended.code(), 1, "{name}: {:#?}", ended.log);
    assert_eq!(ended.stopped()["reason"], "error");
    assert!(files(dir) == before, "{name}: something changed");
}

#[test]
fn damage_is_refused_where_that_was_asked_for() {
    for (name, damage) in DAMAGES {
        let dir = Dir::new("damage");
        let db = recorded(&dir);
        damage(&db);
        assert_refused(&dir, &db, name);
    }
    let dir = Dir::new("damage");
    let db = killed_and_damaged(&dir);
    assert_refused(&dir, &db, "damage beside a -wal");
}

#[test]
fn damage_in_the_middle_does_not_keep_a_recorder_from_starting_and_check_finds_it() {
    let dir = Dir::new("damage");
    let db = recorded(&dir);
    let pages: usize = sql(&db, "PRAGMA page_count").parse().unwrap();
    overwrite(&db, (pages / 2) * PAGE_BYTES, &NOISE);
    assert_eq!(record(&db, &[]).code(), 0);
    let (code, out) = check_code(&db);
    assert_eq!(code, 1);
    assert!(out.lines().last().unwrap().starts_with("damaged "), "{out}");
}

#[test]
fn a_reading_with_the_last_id_that_there_is_does_not_swallow_those_after_it() {
    let dir = Dir::new("damage");
    let db = recorded(&dir);
    let last = i64::MAX;
    sql(
        &db,
        &format!("INSERT INTO readings VALUES({last}, 1, 1, 1)"),
    );
    assert_eq!(record(&db, &["--on-damage", "refuse"]).code(), 1);
    assert_eq!(record(&db, &[]).code(), 0);
    assert_eq!(count(&db), 5000);
}

#[test]
fn an_empty_file_becomes_a_database_and_a_folder_does_not() {
    let dir = Dir::new("damage");
    fs::write(dir.file("x.db"), "").unwrap();
    assert_eq!(record(&dir.file("x.db"), &[]).code(), 0);
    assert_sound(&dir.file("x.db"));
    fs::create_dir(dir.file("y.db")).unwrap();
    let ended = record(&dir.file("y.db"), &[]);
    assert_eq!(ended.code(), 1);
    assert!(ended.has("y.db"), "{:#?}", ended.log);
}

/// A device that sets its file aside at each start would log a hundred thousand lines at each start.
#[test]
fn of_many_that_were_set_aside_the_newest_are_named_and_all_are_counted() {
    let dir = Dir::new("many-aside");
    let db = dir.file("x.db");
    record_lines(&db, "m v=1 1\n");
    for n in 0..2000 {
        // Not all have all files; those that belong together are one.
        let ends = [
            &["", "-wal", "-shm", "-mark"][..],
            &["-wal", "-shm"],
            &["-mark"],
        ];
        for end in ends[n % 3] {
            let name = format!("x.db.damaged-20260101T00{n:04}.000Z{end}");
            fs::write(dir.file(&name), "").unwrap();
        }
    }
    let recorder = start_stdin(&db, &[]);
    recorder.wait_for("ready");
    let ended = recorder.stop(libc::SIGTERM);
    let told: Vec<_> = ended
        .log
        .iter()
        .filter(|line| line.contains("event=set-aside"))
        .map(|line| fields(line))
        .collect();
    assert_eq!(told.len(), 9, "{:#?}", ended.log);
    for (n, line) in told[..8].iter().enumerate() {
        assert!(
            line["path"].ends_with(&format!("{}.000Z", 1992 + n)),
            "{line:?}"
        );
    }
    assert_eq!(told[8]["more"], "1992");
    let (code, out, _) = seawall(&["check", "--db", db.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(
        out.contains("and 1992 findings more\ndamaged readings=1"),
        "{out}"
    );
}

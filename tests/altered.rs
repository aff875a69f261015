//! Guards against a database that another tool has changed: a reading that is acknowledged and passed over, an
//! endless view in the place of a table, a damaged header that ends every start.

mod support;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use support::stop::text;
use support::*;

/// A database of ten readings.
fn database(dir: &Dir) -> std::path::PathBuf {
    let db = dir.file("x.db");
    let lines: String = (0..10).map(|n| format!("m v={n} {n}\n")).collect();
    record_lines(&db, &lines);
    db
}

/// Makes the table of readings anew with other columns, as tools do that alter one.
fn make_anew(db: &Path, columns: &str) {
    let statements = [
        "PRAGMA legacy_alter_table = ON".to_owned(),
        format!("CREATE TABLE anew({columns})"),
        "INSERT INTO anew SELECT * FROM readings".to_owned(),
        "DROP TABLE readings".to_owned(),
        "ALTER TABLE anew RENAME TO readings".to_owned(),
    ];
    let script = statements
        .map(|sql| format!("c.execute({sql:?})\n"))
        .concat();
    python(db, &script);
}

fn start(db: &Path) -> Running {
    Running::start(&[
        "record",
        "--db",
        text(db),
        "--source=stdin",
        "--ack",
        "--commit-interval=0",
    ])
}

#[test]
fn a_table_that_would_pass_over_readings_is_set_aside_before_anything_is_accepted() {
    for columns in [
        "id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL UNIQUE ON CONFLICT IGNORE, series INTEGER NOT NULL, value NOT NULL",
        "id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL UNIQUE ON CONFLICT REPLACE, series INTEGER NOT NULL, value NOT NULL",
        "id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, series INTEGER NOT NULL, value TEXT NOT NULL",
    ] {
        let dir = Dir::new("altered-table");
        let db = database(&dir);
        make_anew(&db, columns);
        let (code, out, _) = seawall(&["check", "--db", text(&db)]);
        assert_eq!(code, 1, "{out}");
        assert!(out.contains("readings is not as it was made"), "{out}");
        for command in ["show", "export"] {
            let (code, _, err) = seawall(&[command, "--db", text(&db)]);
            assert_eq!(code, 1);
            assert!(err.contains("readings is not as it was made"), "{err}");
        }
        let mut recorder = start(&db);
        recorder.wait_for("database-damaged");
        recorder.send("m v=1 5\n".repeat(20).as_bytes());
        recorder.close_stdin();
        let ended = recorder.wait();
        assert_eq!((ended.code(), ended.acked()), (0, 20));
        assert_eq!(count(&db), 20);
    }
}

#[test]
fn what_others_add_stays_welcome_unless_it_may_change_readings() {
    let dir = Dir::new("altered-added");
    let db = database(&dir);
    sql(&db, "CREATE INDEX by_time ON readings(time_ns)");
    sql(&db, "CREATE TABLE notes(x UNIQUE)");
    record_lines(&db, "m v=1 11\n");
    assert_sound(&db);
    for (add, remove) in [
        (
            "CREATE TRIGGER t AFTER INSERT ON readings BEGIN DELETE FROM readings; END",
            "DROP trigger \"t\"",
        ),
        (
            "CREATE UNIQUE INDEX u ON readings(id, time_ns)",
            "DROP index \"u\"",
        ),
    ] {
        sql(&db, add);
        let ended = start(&db).wait();
        assert_eq!(ended.code(), 1);
        assert!(ended.has(&remove.replace('"', "\\\"")), "{:#?}", ended.log);
        // Nobody is kept from reading.
        assert_eq!(seawall(&["export", "--db", text(&db)]).0, 0);
        sql(&db, remove);
        record_lines(&db, "m v=1 12\n");
    }
    assert_sound(&db);
}

#[test]
fn a_change_while_recording_ends_the_acks() {
    let dir = Dir::new("altered-live");
    let db = dir.file("x.db");
    let mut recorder = start(&db);
    recorder.send(b"m v=1 5\n");
    until("it is acked", || (recorder.acked() == 1).then_some(()));
    sql(&db, "CREATE UNIQUE INDEX u ON readings(time_ns)");
    recorder.send(b"m v=2 6\n");
    let ended = recorder.wait();
    assert_eq!((ended.code(), ended.acked()), (4, 1), "{:#?}", ended.log);
    assert!(ended.has("somebody added the index u"), "{:#?}", ended.log);
}

#[test]
fn an_endless_view_in_the_place_of_a_table_ends_no_command_late() {
    for table in ["device", "series", "spans", "runs", "clients", "readings"] {
        let dir = Dir::new("altered-view");
        let db = database(&dir);
        sql(&db, &format!("ALTER TABLE {table} RENAME TO was_{table}"));
        let endless = format!(
            "CREATE VIEW {table} AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id, i AS first_id, i AS last_id, i AS committed, * FROM n"
        );
        sql(&db, &endless);
        for command in ["check", "show", "export", "backup"] {
            let dest = dir.file("copy.db");
            let mut arguments = vec![command, "--db", text(&db)];
            if command == "backup" {
                arguments.push(text(&dest));
            }
            let (code, out, err) = seawall(&arguments);
            assert_eq!(code, 1, "{table} {command}: {out}{err}");
        }
        let recorder = Running::start(&[
            "record",
            "--db",
            text(&db),
            "--source=stdin",
            "--on-damage=refuse",
        ]);
        assert_eq!(recorder.wait().code(), 1);
    }
}

/// A bit in each byte of the header, each one of the layout's number, and some of the schema.
#[test]
fn a_damaged_header_or_schema_ends_no_start() {
    let dir = Dir::new("altered-header");
    let db = database(&dir);
    let whole = fs::read(&db).unwrap();
    let schema: Vec<_> = [
        "CREATE TABLE device",
        "CREATE TABLE readings",
        "CREATE VIEW sensor_readings",
    ]
    .iter()
    .map(|sql| {
        let at = whole
            .windows(sql.len())
            .position(|bytes| bytes == sql.as_bytes());
        at.expect(sql) + 8
    })
    .collect();
    let layout = (60..64).flat_map(|at| (0..8).map(move |bit| (at, 1 << bit)));
    let places = (0..108).chain(schema).map(|at| (at, 0x10)).chain(layout);
    let mut bad = Vec::new();
    for (at, flip) in places {
        let folder = dir.file(&format!("at-{at}"));
        fs::create_dir(&folder).unwrap();
        let copy = folder.join("x.db");
        fs::write(&copy, &whole).unwrap();
        let file = fs::File::options().write(true).open(&copy).unwrap();
        file.write_all_at(&[whole[at] ^ flip], at as u64).unwrap();
        let mut recorder = start(&copy);
        recorder.send(b"m v=1 5\n");
        recorder.close_stdin();
        let ended = recorder.wait();
        if (ended.code(), ended.acked()) != (0, 1) {
            bad.push((at, flip, ended.code(), ended.log.clone()));
        }
        fs::remove_dir_all(&folder).unwrap();
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

//! Guards against a database that another tool has changed: a reading that is acknowledged and passed over, an
//! endless view in the place of a table, a damaged header that ends every start.

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::stop::text;
use crate::support::*;

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
            "CREATE TRIGGER readings AFTER INSERT ON Readings BEGIN DELETE FROM readings; END",
            "DROP trigger \"readings\"",
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

/// Runs of which a later one began earlier, as no recorder makes them.
#[test]
fn runs_that_overlap_are_exported_once() {
    let dir = Dir::new("altered-runs");
    let db = database(&dir);
    for (run, first_id) in [(2, 5), (3, 1), (4, 7), (5, 2)] {
        sql(
            &db,
            &format!(
                "INSERT INTO runs(id, started_ns, ended_ns, boot_ns, first_id, device) SELECT {run}, 1, 2, 1, {first_id}, device FROM runs WHERE id = 1"
            ),
        );
    }
    for command in [
        &["export"][..],
        &["export", "--after=5:8"],
        &["show", "--since=none"],
    ] {
        // It ends by `timeout`, or by the pipe that nobody reads on.
        let mut child = Command::new("timeout")
            .args([&["60", &*BINARY], command, &["--db", text(&db)]].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = String::new();
        let stdout = child.stdout.take().unwrap();
        stdout.take(64 * 1024).read_to_string(&mut out).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{command:?}");
        let lines = out.lines().count();
        assert!(lines <= 11, "{command:?}: {lines}");
    }
    let (code, out, _) = seawall(&["check", "--db", text(&db)]);
    assert!(code == 1 && out.contains("begins at reading"), "{out}");
}

/// As from runs that somebody copied into the table.
#[test]
fn of_many_runs_that_never_ended_some_are_told() {
    let dir = Dir::new("altered-open");
    let db = database(&dir);
    sql(
        &db,
        "INSERT INTO runs(id, started_ns, boot_ns, first_id, device) WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i, 1, 1, 11, (SELECT id FROM device) FROM n",
    );
    let mut recorder = start(&db);
    recorder.close_stdin();
    let ended = recorder.wait();
    let told = ended
        .log
        .iter()
        .filter(|line| line.contains("event=recovered"));
    assert_eq!((ended.code(), told.count()), (0, 8), "{:#?}", ended.log);
    assert_eq!(
        sql(&db, "SELECT count(*) FROM runs WHERE ended_ns IS NULL"),
        "0"
    );
}

/// A text in the place of a number would reach a terminal, and the rows of an export, as it is.
#[test]
fn a_text_in_the_place_of_a_number_or_of_a_device_is_damage_and_printed_nowhere() {
    let changes = [
        (
            "UPDATE readings SET value = char(27) || '[2J' WHERE id = 3",
            "reading 3 has a value that no sensor sends",
        ),
        (
            "UPDATE readings SET value = '99999999999999999999' WHERE id = 3",
            "reading 3 has a value that no sensor sends",
        ),
        (
            "UPDATE readings SET value = '000000000000000000007' WHERE id = 3",
            "reading 3 has a value that no sensor sends",
        ),
        (
            "UPDATE runs SET device = char(27) || '[2J'",
            "run 1 has a device",
        ),
    ];
    for (change, told) in changes {
        let dir = Dir::new("altered-text");
        let db = dir.file("x.db");
        record_lines(
            &db,
            "m v=1u 1\nm v=2u 2\nm v=18446744073709551615u 3\nm v=4u 4\n",
        );
        let (code, out, _) = seawall(&["export", "--db", text(&db)]);
        assert_eq!(
            (code, out.contains(",18446744073709551615,")),
            (0, true),
            "{out}"
        );
        sql(&db, change);
        for command in [
            &["show", "--since", "none"][..],
            &["export"],
            &["export", "--format", "ndjson"],
        ] {
            let (code, out, err) = seawall(&[command, &["--db", text(&db)]].concat());
            assert_eq!(code, 1, "{command:?}");
            assert!(err.contains(told), "{err}");
            assert!(!(out + &err).contains(['\u{1b}', '\u{0}']), "{command:?}");
        }
        if told.starts_with("reading") {
            let (code, out, _) = seawall(&["check", "--full", "--db", text(&db)]);
            assert_eq!(code, 1, "{out}");
            let (_, out, err) = seawall(&["export", "--skip-damaged", "--db", text(&db)]);
            assert_eq!(out.lines().count(), 4, "{out}{err}");
        }
    }
}

/// SQLite gives an error of its own for a text that is longer than the limit set for it.
#[test]
fn a_text_that_is_longer_than_any_that_is_written_here_is_damage() {
    for place in [
        "device SET id",
        "device SET machine",
        "runs SET reason",
        "series SET sensor",
        "readings SET value",
    ] {
        let dir = Dir::new("altered-long");
        let db = database(&dir);
        let update = format!("UPDATE {place} = replace(hex(zeroblob(5000000)), '00', 'ab')");
        sql(&db, &update);
        for retain in [None, Some("--retain=1d")] {
            let arguments = ["record", "--db", text(&db), "--source=stdin", "--ack"];
            let arguments = arguments.into_iter().chain(retain).collect::<Vec<_>>();
            let mut recorder = Running::start(&arguments);
            recorder.send(b"m v=1 5\n");
            recorder.close_stdin();
            let ended = recorder.wait();
            assert_eq!(
                (ended.code(), ended.acked()),
                (0, 1),
                "{place}: {:#?}",
                ended.log
            );
        }
        let (code, out, err) = seawall(&["check", "--db", text(&db)]);
        assert!(
            err.is_empty() && (code == 0 || out.contains("damage")),
            "{place}: {out}{err}"
        );
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

/// `sqlite3 x.db .dump | sqlite3 new.db`, as one repairs a database: the numbers of the header are in no dump.
#[test]
fn a_dump_that_was_read_back_in_is_no_damage_and_its_two_numbers_are_named() {
    let dir = Dir::new("dumped");
    let (old, db) = (database(&dir), dir.file("new.db"));
    python(
        &old,
        &format!(
            "n = sqlite3.connect({:?})\nn.executescript('\\n'.join(c.iterdump()))\nn.close()",
            text(&db)
        ),
    );
    let before = fs::read(&db).unwrap();
    let ended = start(&db).wait();
    let (code, out, err) = seawall(&["check", "--db", text(&db)]);
    assert_eq!((ended.code(), code), (1, 1), "{out}{err}");
    assert!(fs::read(&db).unwrap() == before);
    let numbers = "PRAGMA application_id = 1399152983; PRAGMA user_version = 2";
    let is_named = |said: &str| said.contains(&format!("sqlite3 FILE \\\"{numbers}\\\""));
    assert!(
        ended.log.iter().any(|line| is_named(line)),
        "{:#?}",
        ended.log
    );
    python(&db, &format!("c.executescript({numbers:?})"));
    assert_sound(&db);
    record_lines(&db, "m v=10 10\n");
    assert_eq!(count(&db), 11);
}

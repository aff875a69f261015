//! Guards against a layout that drifts: what docs/database.md says is not what is made, a file of an earlier
//! version is not read as it was written, tools that go by declared types find none.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{BINARY, Dir, assert_sound, python, record_lines, seawall, sql};

const READINGS: &str = "\
m,room=a v=1.5,n=-2i,u=18446744073709551615u,on=true,s=\"x y\" 1700000000000000000
m,room=b v=-0.1,n=9007199254740993i,on=false 1700000001000000000
";

#[test]
fn the_document_has_the_schema_that_is_made() {
    let dir = Dir::new("format-document");
    let db = dir.file("x.db");
    record_lines(&db, READINGS);
    let made = sql(
        &db,
        "SELECT group_concat(sql || ';', char(10)) FROM (SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid)",
    );
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/database.md");
    let document = fs::read_to_string(document).unwrap();
    let block = document.split("```sql\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    assert_eq!(made.trim(), block.trim());
    let types =
        "SELECT group_concat(name || ' ' || type, ', ') FROM pragma_table_info('sensor_numbers')";
    let version = sql(&db, "SELECT sqlite_version()");
    // Older versions of SQLite name no type for a cast.
    if version.split('.').nth(1).unwrap().parse::<u32>().unwrap() >= 41 {
        let typed = "id INTEGER, time REAL, timestamp TEXT, sensor TEXT, field TEXT, value REAL";
        assert_eq!(sql(&db, types), typed);
    }
    // And each column of the views has its meaning beside it.
    for view in ["sensor_readings", "sensor_numbers"] {
        let columns = format!("SELECT group_concat(name, ' ') FROM pragma_table_info('{view}')");
        for column in sql(&db, &columns).split(' ') {
            assert!(document.contains(&format!("`{column}`")), "{view}.{column}");
        }
    }
}

#[test]
fn the_queries_of_the_document_run() {
    let dir = Dir::new("format-queries");
    let db = dir.file("x.db");
    record_lines(&db, READINGS);
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/database.md");
    let document = fs::read_to_string(document).unwrap();
    let queries = document.split("## Queries").nth(1).unwrap();
    let queries = queries.split("## The schema").next().unwrap();
    let code: String = queries
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .collect::<Vec<_>>()
        .join(" ");
    let queries: Vec<_> = code.split(';').filter(|q| !q.trim().is_empty()).collect();
    assert_eq!(queries.len(), 4);
    for query in queries {
        let query = query.replace(":since", "0").replace(":until", "9e18");
        assert_ne!(sql(&db, &query), "", "{query}");
    }
}

#[test]
fn a_file_of_layout_1_is_refused_with_a_word_that_says_why() {
    let dir = Dir::new("format-old");
    let db = dir.file("x.db");
    record_lines(&db, READINGS);
    python(
        &db,
        "c.execute('PRAGMA user_version = 1'); c.execute('ALTER TABLE runs DROP COLUMN seen_ns')",
    );
    let before = fs::read(&db).unwrap();
    for command in ["record", "check", "export"] {
        let (code, _, err) = seawall(&[command, "--db", db.to_str().unwrap()]);
        assert_eq!(code, 1, "{command}: {err}");
        assert!(
            err.contains("written by an unreleased version"),
            "{command}: {err}"
        );
    }
    assert_eq!(fs::read(&db).unwrap(), before);
}

/// DuckDB goes by declared types alone.
#[test]
fn duckdb_takes_a_mean_without_a_cast() {
    let interpreter = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python3");
    let import = "import duckdb, duckdb_extension_sqlite_scanner";
    let found = Command::new(&interpreter).args(["-c", import]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var("CI").is_err(), "DuckDB is not in .venv");
        eprintln!("skipped: `just setup` installs duckdb into .venv");
        return;
    }
    let dir = Dir::new("format-duckdb");
    let db = dir.file("x.db");
    record_lines(&db, READINGS);
    let script = r#"
import duckdb, glob, os, sys, duckdb_extension_sqlite_scanner as scanner
extension = glob.glob(os.path.dirname(scanner.__file__) + '/**/*.duckdb_extension', recursive=True)[0]
c = duckdb.connect(config={'allow_unsigned_extensions': 'true'})
c.execute(f"LOAD '{extension}'")
c.execute(f"ATTACH '{sys.argv[1]}' AS s (TYPE sqlite, READ_ONLY)")
print([row[:2] for row in c.execute('DESCRIBE s.sensor_numbers').fetchall()])
print(c.execute("SELECT avg(value), max(time), min(timestamp) FROM s.sensor_numbers WHERE field = 'v' AND id < 9").fetchall())
"#;
    let output = Command::new(&interpreter)
        .args(["-c", script])
        .arg(&db)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        told,
        "[('id', 'BIGINT'), ('time', 'DOUBLE'), ('timestamp', 'VARCHAR'), ('sensor', 'VARCHAR'), ('field', 'VARCHAR'), ('value', 'DOUBLE')]\n\
         [(0.7, 1700000001.0, '2023-11-14T22:13:20.000Z')]\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Stems of the databases in tests/files, each made by a version that went before.
fn kept() -> Vec<String> {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    let names = fs::read_dir(files).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| name.strip_suffix(".db").map(str::to_owned))
        .collect()
}

#[test]
fn a_file_of_each_earlier_version_is_opened_checked_recorded_onto_exported_and_the_same() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    for stem in kept() {
        let dir = Dir::new("format-kept");
        let path = dir.file("x.db");
        fs::copy(files.join(format!("{stem}.db")), &path).unwrap();
        let db = path.to_str().unwrap();
        assert_sound(&path);
        let before = fs::read_to_string(files.join(format!("{stem}.csv"))).unwrap();
        let (code, out, err) = seawall(&["export", "--db", db]);
        assert_eq!(code, 0, "{stem}: {err}");
        assert_eq!(out, before, "{stem}");
        let (code, out, err) = seawall(&["show", "--db", db, "--since", "none"]);
        assert_eq!(code, 0, "{stem}: {err}");
        assert!(out.contains("room=a"), "{stem}: {out}");
        let copy = dir.file("copy.db");
        let (code, _, err) = seawall(&["backup", "--db", db, copy.to_str().unwrap()]);
        assert_eq!(code, 0, "{stem}: {err}");
        record_lines(&path, READINGS);
        assert_sound(&path);
        let (_, out, _) = seawall(&["export", "--db", db]);
        let added = out
            .strip_prefix(&before)
            .unwrap_or_else(|| panic!("{stem}: {out}"));
        assert_eq!(added.lines().count(), 8, "{stem}: {added}");
        // Not converted: what made it reads it still.
        assert_eq!(
            sql(&path, "PRAGMA user_version"),
            sql(&copy, "PRAGMA user_version")
        );
    }
}

/// With what `just keep` does not make.
#[test]
fn the_first_file_of_this_layout_has_spans_and_a_named_client() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/layout-2.db");
    assert_eq!(sql(&path, "SELECT count(*) FROM spans"), "1");
    assert_eq!(sql(&path, "SELECT name, lines FROM clients"), "meter|1");
}

#[test]
fn each_released_version_has_left_a_file() {
    let changes = Path::new(env!("CARGO_MANIFEST_DIR")).join("CHANGELOG.md");
    let changes = fs::read_to_string(changes).unwrap();
    let sections = changes.lines().filter_map(|line| line.strip_prefix("## ["));
    let versions: Vec<_> = sections
        .map(|rest| rest.split(']').next().unwrap())
        .collect();
    assert!(!versions.is_empty());
    // The one that is built is a released one when its section says so, and `just keep` makes its file.
    for version in versions.iter().filter(|version| **version != "Unreleased") {
        assert!(
            kept().iter().any(|stem| stem == version),
            "`just keep` in {version}"
        );
    }
    assert!(kept().contains(&"layout-2".to_owned()));
}

/// What `just keep` records is taken whole, so that what is kept has every kind of value.
#[test]
fn every_line_that_is_kept_of_a_version_is_a_reading() {
    let dir = Dir::new("format-keep");
    let db = dir.file("x.db");
    let lines = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/kept.lp");
    record_lines(&db, &fs::read_to_string(lines).unwrap());
    assert_eq!(sql(&db, "SELECT count(*) FROM sensor_readings"), "13");
    assert_eq!(sql(&db, "SELECT sum(rejected) FROM runs"), "0");
    let types = sql(&db, "SELECT DISTINCT type FROM series ORDER BY type");
    assert_eq!(types, "boolean\nfloat\ninteger\nstring\nunsigned");
}

/// As printed, where the library is there.
#[test]
fn the_programs_of_the_document_run_as_printed() {
    let dir = Dir::new("format-programs");
    let db = dir.file("data/sensor_data.db");
    fs::create_dir(dir.file("data")).unwrap();
    record_lines(
        &db,
        "m,k=a f=1.5,t=\"x\" 1262304000000000000\nm,k=b f=2.5 1262307600000000000\n",
    );
    let program = Path::new(&*BINARY).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let venv = root.join(".venv/bin/python");
    let python = if venv.exists() {
        venv
    } else {
        "python3".into()
    };
    let document = fs::read_to_string(root.join("docs/database.md")).unwrap();
    let blocks: Vec<_> = document.split("```python\n").skip(1).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let script = block.split("```").next().unwrap();
        let import = script.lines().next().unwrap();
        let run = |script: &str| {
            let mut command = Command::new(&python);
            let command = command.args(["-c", script]).env("PATH", &path);
            command.current_dir(dir.path()).output().unwrap()
        };
        if !run(import).status.success() {
            eprintln!("skipped: no {import}");
            continue;
        }
        let output = run(script);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let table = String::from_utf8_lossy(&output.stdout);
        assert!(table.contains("1.5") && table.contains("2.5"), "{table}");
    }
}

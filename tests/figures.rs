//! Guards against tables in docs/figures.md that nobody measured: rows that the bench does not have, or no longer has
//! under that name, and rows left out.

use std::fs;
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const NOT_MEASURED: &str = "not measured";

/// What the bench declares: each table's name, its heading, and the names of its rows.
fn declared() -> Vec<(String, Vec<String>)> {
    let bench = Path::new(ROOT).join("benches/bench.py");
    let output = Command::new("python3").arg(bench).arg("--rows").output();
    let output = output.expect("run python3");
    assert!(output.status.success(), "{output:?}");
    let mut tables: Vec<(String, Vec<String>)> = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (table, row) = line.split_once('\t').unwrap();
        if tables.last().is_none_or(|(name, _)| name != table) {
            tables.push((table.to_owned(), Vec::new()));
        }
        tables.last_mut().unwrap().1.push(row.to_owned());
    }
    tables
}

/// What is wrong with the table of a document, if anything.
fn fault(document: &str, table: &str, rows: &[String]) -> Option<String> {
    let begin = format!("<!-- bench:{table} -->\n```\n");
    let text = document.split_once(&begin).map_or("", |(_, rest)| rest);
    let Some((text, _)) = text.split_once("\n```\n<!-- /bench -->") else {
        return Some(format!("{table}: no such block"));
    };
    if text == NOT_MEASURED {
        return None;
    }
    let mut lines = text.lines();
    let is_skipped = |row: &String| text.contains(&format!("\nskipped: {row}: "));
    for row in rows.iter().filter(|row| !is_skipped(row)) {
        let line = lines.next().unwrap_or_default();
        // A figure stands after the name, and no other name begins so.
        if !line
            .strip_prefix(row.as_str())
            .is_some_and(|rest| rest.starts_with("  "))
        {
            return Some(format!("{table}: {row}: {line}"));
        }
    }
    let after = lines.next().unwrap_or_default();
    (after.is_empty() || after.contains("   ")).then(|| format!("{table}: {after}"))
}

#[test]
fn each_table_has_the_rows_that_the_bench_measures() {
    let document = fs::read_to_string(Path::new(ROOT).join("docs/figures.md")).unwrap();
    let tables = declared();
    assert!(tables.len() > 8, "{tables:?}");
    for (table, rows) in &tables {
        let marker = format!("<!-- bench:{table} -->\n```\n");
        assert_eq!(document.matches(&marker).count(), 1, "{marker}");
        assert_eq!(fault(&document, table, rows), None);
    }
    let markers = document.matches("<!-- bench:").count();
    assert_eq!(
        markers,
        tables.len(),
        "a marker that the bench does not know"
    );
}

#[test]
fn a_row_that_is_missing_strange_or_renamed_is_noticed() {
    let rows = ["over HTTP", "the loop", "seawall"].map(str::to_owned);
    let table = |text: &str| format!("<!-- bench:http -->\n```\n{text}\n```\n<!-- /bench -->");
    let right =
        "over HTTP  lines/s\nthe loop    1.00\nseawall     1.00\nx: as told\n1a2b, a machine";
    assert_eq!(fault(&table(right), "http", &rows), None);
    let skipped = "over HTTP  lines/s\nseawall     1.00\nskipped: the loop: no cc\n1a2b, a machine";
    assert_eq!(fault(&table(skipped), "http", &rows), None);
    for wrong in [
        right.replace("seawall     1.00\n", ""),
        right.replace("the loop", "a loop  "),
        right.replace("x: as told", "other       1.00"),
    ] {
        assert!(fault(&table(&wrong), "http", &rows).is_some(), "{wrong}");
    }
}

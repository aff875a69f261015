//! Guards against a manual page that lags behind the program or that man cannot render: it is made from `--help`,
//! and compared here with the table of options that `--help` comes from.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{BINARY, Dir, skip};

const SECONDS: &str = "1700000000";

/// The page as the recipe writes it.
fn page() -> String {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join(".image/manual.py");
    let output = Command::new("python3")
        .arg(recipe)
        .args([&BINARY[..], SECONDS])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The page as a reader has it; none where there is no `man`.
fn rendered(dir: &Dir) -> Option<(String, String)> {
    let path = dir.file("seawall.1");
    fs::write(&path, page()).unwrap();
    let man = Command::new("man")
        .args(["--warnings", "--local-file"])
        .arg(&path)
        .env("MANWIDTH", "1000")
        .env("LC_ALL", "C.UTF-8")
        .output();
    let Ok(output) = man else {
        skip("there is no man");
        return None;
    };
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<_> = text.split_whitespace().collect();
    Some((words.join(" "), String::from_utf8(output.stderr).unwrap()))
}

#[test]
fn man_and_mandoc_render_it_without_warnings() {
    let dir = Dir::new("manual-warnings");
    let Some((_, warnings)) = rendered(&dir) else {
        return;
    };
    assert_eq!(warnings, "");
    let linted = Command::new("mandoc")
        .args(["-Tlint", "-Wwarning"])
        .arg(dir.file("seawall.1"))
        .output();
    let Ok(output) = linted else {
        return skip("there is no mandoc");
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert!(output.status.success());
}

#[test]
fn every_option_of_the_table_is_in_it() {
    let dir = Dir::new("manual-options");
    let Some((text, _)) = rendered(&dir) else {
        return;
    };
    let mut rows = 0;
    for (command, options) in seawall::cli::table().unwrap() {
        assert!(text.contains(&format!("seawall {command}")) || command == "record");
        for row in &options {
            let spelt = format!("{} {}", row.flag, row.value);
            let limits = match row.limits.as_str() {
                "" => String::new(),
                limits => format!(" ({limits})"),
            };
            let help = format!("{}{limits}", row.help).replace('`', "");
            let entry = format!(
                "{} {help} {}, default {}",
                spelt.trim_end(),
                row.variable,
                row.default
            );
            assert!(text.contains(&entry), "{command}: no {entry}");
            rows += 1;
        }
    }
    assert!(rows > 30, "{rows}");
}

#[test]
fn it_has_the_sources_and_the_statuses() {
    let dir = Dir::new("manual-rest");
    let Some((text, _)) = rendered(&dir) else {
        return;
    };
    for (form, _) in seawall::source::spec::forms() {
        assert!(text.contains(&form), "no {form}");
    }
    for (status, meaning) in seawall::exit::STATUSES {
        let meaning = meaning.replace('`', "");
        assert!(text.contains(&format!("{status} {meaning}")), "no {status}");
    }
}

//! Guards against documents that have fallen behind the program: an option or event that is missing, a link that
//! leads nowhere. That README can be followed is held by `tests/readme.rs`.

use std::fs;
use std::path::Path;

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(CHECKOUT).join(name)).unwrap()
}

#[test]
fn every_option_is_documented_as_the_help_has_it() {
    let text = document("docs/interface.md");
    for (command, rows) in seawall::cli::table().unwrap() {
        for row in &rows {
            let spelt = format!("{} {}", row.flag, row.value);
            let limits = match row.limits.as_str() {
                "" => String::new(),
                limits => format!(" ({limits})"),
            };
            let line = format!(
                "| `{}` | `{}` | `{}` | {}{limits} |",
                spelt.trim_end(),
                row.variable,
                row.default,
                row.help
            );
            assert!(text.contains(&line), "{command}: no {line}");
        }
    }
}

/// The names that stand as the first argument of a call that logs.
#[test]
fn every_event_of_the_log_is_documented() {
    fn sources(folder: &Path, found: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else {
                *found += &fs::read_to_string(path).unwrap();
            }
        }
    }
    let mut code = String::new();
    sources(&Path::new(CHECKOUT).join("src"), &mut code);
    let calls = [
        "log::error(",
        "log::warn(",
        "log::info(",
        "log::debug(",
        "log::last(",
        ".warn(",
        "retry.over(",
        "retry.wait(&self.queue,",
        "place(",
        "tell(limit,",
    ];
    let document = document("docs/interface.md");
    let mut events = 0;
    for call in calls {
        for (at, _) in code.match_indices(call) {
            // `replace(` is another function than `place(`.
            let is_part = call.starts_with(char::is_alphabetic)
                && code[..at].ends_with(char::is_alphanumeric);
            if is_part {
                continue;
            }
            let argument = code[at + call.len()..].trim_start();
            let Some(event) = argument
                .strip_prefix('"')
                .and_then(|rest| rest.split('"').next())
            else {
                continue;
            };
            assert!(
                document.contains(&format!("`{event}`")),
                "{event} is not in docs/interface.md"
            );
            events += 1;
        }
    }
    assert!(events > 40, "{events}");
}

#[test]
fn every_link_and_every_test_that_a_document_names_is_there() {
    let docs = fs::read_dir(Path::new(CHECKOUT).join("docs")).unwrap();
    let mut names: Vec<_> = docs
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().display()))
        .filter(|name| name.ends_with(".md"))
        .collect();
    names.extend(["README.md", "CHANGELOG.md", "SECURITY.md"].map(str::to_owned));
    let mut links = 0;
    for name in &names {
        let folder = Path::new(CHECKOUT).join(name);
        let folder = folder.parent().unwrap();
        let text = document(name);
        for part in text.split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap();
            if !target.is_empty() && !target.starts_with("http") {
                assert!(folder.join(target).exists(), "{name} links to {target}");
                links += 1;
            }
        }
        for word in text.split('`').filter(|word| word.ends_with(".rs")) {
            let exists = Path::new(CHECKOUT).join(word).exists();
            assert!(exists, "{name} names {word}");
            links += 1;
        }
    }
    assert!(links > 20, "{links} links in {names:?}");
}

#[test]
fn the_loader_for_postgresql_is_printed_as_the_tests_run_it() {
    let loader = document("tests/to_server/load.sql");
    assert!(document("docs/servers.md").contains(&loader));
}

//! Guards against documents that have fallen behind the program: an option or event that is missing, a link that
//! leads nowhere. That README can be followed is held by `tests/readme.rs`.

use std::collections::{BTreeMap, BTreeSet};
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

const LOG: [&str; 6] = [
    "log::error",
    "log::warn",
    "log::info",
    "log::debug",
    "log::last",
    ".warn",
];

/// Code below a folder, without its tests.
fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if !path.ends_with("src/log.rs") {
            let text = fs::read_to_string(path).unwrap();
            found.push(text.split("#[cfg(test)]").next().unwrap().to_owned());
        }
    }
}

/// The first arguments at each bracket that `is_wanted` by the text before it: `None` where it is no literal.
fn first_arguments(text: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<Option<&str>> {
    let brackets = text
        .match_indices('(')
        .filter(|(at, _)| is_wanted(&text[..*at]));
    let literal = |at: usize| {
        let (name, behind) = text[at + 1..]
            .trim_start()
            .strip_prefix('"')?
            .split_once('"')?;
        behind.starts_with(',').then_some(name)
    };
    brackets.map(|(at, _)| literal(at)).collect()
}

/// Each function of src is read whole: its keys are those of all events that it logs.
#[test]
fn every_event_of_the_log_is_documented_with_its_keys() {
    let (document, mut documented) = (document("docs/interface.md"), BTreeMap::new());
    let table = document.split("\n## Log events\n").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap().lines();
    for row in table.filter(|row| row.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        for event in cells[1].split(", ") {
            let keys: BTreeSet<_> = cells[3].trim_matches('`').split_whitespace().collect();
            let before = documented.insert(event.trim_matches('`'), keys);
            assert!(before.is_none(), "{event} twice");
        }
    }
    let mut code = Vec::new();
    sources(&Path::new(CHECKOUT).join("src"), &mut code);
    // Logged by the log itself.
    let own = [("lines-held-back", "lines"), ("lines-lost", "")];
    let mut logged = BTreeMap::from(own.map(|(event, key)| (event, BTreeSet::from([key]))));
    for function in code.iter().flat_map(|text| text.split("fn ")) {
        let logs = |before: &str| LOG.iter().any(|call| before.ends_with(call));
        let calls = first_arguments(function, logs);
        let mut events: BTreeSet<&str> = calls.iter().copied().flatten().collect();
        if calls.contains(&None) {
            // Its callers name the event, in their first or second argument.
            let callers: &[&str] = match function.split('(').next().unwrap() {
                "wait" => &["retry.wait("],
                "over" => &["retry.over("],
                "tell" => &["tell(limit, ", "self.refuse("],
                name => panic!("{name} logs events of other names"),
            };
            for text in &code {
                let calls = callers.iter().flat_map(|call| text.split(call).skip(1));
                let arguments = calls
                    .flat_map(|call| call.split([',', ')']).take(2))
                    .map(str::trim);
                events.extend(arguments.filter_map(|a| a.strip_prefix('"')?.strip_suffix('"')));
            }
        }
        if events.is_empty() {
            continue;
        }
        let is_pair = |before: &str| before.ends_with(['(', '[', ',', '&', ' ']);
        let keys = first_arguments(function, is_pair).into_iter().flatten();
        let keys: BTreeSet<_> = keys.collect();
        let known = events.iter().filter_map(|event| documented.get(event));
        let known: BTreeSet<_> = known.flatten().copied().collect();
        assert!(keys.is_subset(&known), "{keys:?} of {events:?}");
        for event in events {
            let all: &mut BTreeSet<_> = logged.entry(event).or_default();
            all.extend(&keys);
        }
    }
    for (event, keys) in &documented {
        let is_logged = logged.get(event).is_some_and(|all| keys.is_subset(all));
        assert!(is_logged, "{event} is not logged with {keys:?}");
    }
    assert_eq!(documented.len(), logged.len(), "{logged:?}");
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

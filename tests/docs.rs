//! Guards against documents that have fallen behind the program: an option that is missing, a link that leads
//! nowhere, a first transcript that a newcomer cannot repeat.

mod support;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use support::Dir;

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
        .collect();
    names.push("README.md".into());
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

/// A line without what differs from run to run: of a log line all but its event, of the table the age.
fn lasting(line: &str) -> String {
    if line.starts_with("ts=") {
        let event = line.split(' ').find(|word| word.starts_with("event="));
        return event.unwrap_or_default().to_owned();
    }
    let words: Vec<_> = line.split_whitespace().collect();
    match words.iter().position(|word| *word == "d") {
        Some(at) => [&words[..at - 1], &words[at + 1..]].concat().join(" "),
        None => words.join(" "),
    }
}

#[test]
fn the_first_transcript_of_the_readme_can_be_repeated_from_the_checkout() {
    let readme = document("README.md");
    let block = readme.split("```console\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    let dir = Dir::new("docs-transcript");
    symlink(Path::new(CHECKOUT).join("tests"), dir.file("tests")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_seawall")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let steps: Vec<_> = block.split("$ ").skip(1).collect();
    assert_eq!(steps.len(), 4, "{block}");
    for step in steps {
        let (command, expected) = step.split_once('\n').unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{command} 2>&1")]);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SEAWALL_") {
                shell.env_remove(name);
            }
        }
        let output = shell.current_dir(dir.path()).env("PATH", &path).output();
        let output = String::from_utf8(output.unwrap().stdout).unwrap();
        // Two threads write the log and the acks, so each keeps its own order.
        let lines = |text: &str| {
            let lines = text.lines().map(lasting);
            // The test's folder may lie in memory, or on a container's layer.
            let lines = lines.filter(|line| line != "event=not-lasting");
            lines.partition::<Vec<_>, _>(|line| line.starts_with("event="))
        };
        assert_eq!(lines(&output), lines(expected), "{command}");
    }
}

#[test]
fn the_loader_for_postgresql_is_printed_as_the_tests_run_it() {
    let loader = document("tests/to_server/load.sql");
    assert!(document("docs/servers.md").contains(&loader));
}

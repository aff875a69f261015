//! Guards against a README that a stranger cannot follow: its blocks of code are taken as they are printed and run in
//! their order, in a fresh folder, and what a transcript shows is compared with what comes.
//!
//! A comment before a block says how it is run, where that is not to its end:
//! `not run: REASON`, one of those listed below; `beside the rest of this section`, a recorder that Ctrl-C ends where
//! the section does; `docker`, where there is Docker; `numbers differ`, so that they are not compared.
//!
//! Other than for a reader are: the ports, which are free ones; the names of containers; the folder, which is not the
//! checkout but has its `tests` and `docs`.

mod support;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use support::docker::{can_run, docker, label, new_name};
use support::{BINARY, Dir, Running, skip};

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");
/// The first words of the blocks that are not run, and no others.
const NOT_RUN: [&str; 4] = [
    "cargo run",
    "python3 -m venv",
    "cargo install",
    "sudo install",
];
const PROGRAMS: [&str; 3] = ["curl", "sqlite3", "python3"];
/// For a block that hangs; far more than any needs.
const SECONDS_MAX: &str = "300";

struct Block {
    section: String,
    note: String,
    language: String,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let (mut section, mut before) = ("", "");
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let note = before.strip_prefix("<!-- ");
            let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            found.push(Block {
                section: section.to_owned(),
                note: note.map_or("", |note| note.trim_end_matches(" -->")).into(),
                language: language.to_owned(),
                text: text.join("\n") + "\n",
            });
        }
        section = line.strip_prefix("## ").unwrap_or(section);
        before = line;
    }
    found
}

/// The folder in which a reader works, and what stands for his ports and containers.
struct Reader {
    dir: Dir,
    path: String,
    instead: Vec<(String, String)>,
    container: String,
}

impl Reader {
    fn new() -> Self {
        let dir = Dir::new("readme");
        for name in ["tests", "docs"] {
            symlink(Path::new(CHECKOUT).join(name), dir.file(name)).unwrap();
        }
        fs::create_dir(dir.file("bin")).unwrap();
        symlink(&BINARY[..], dir.file("bin/seawall")).unwrap();
        let path = std::env::var("PATH").unwrap();
        let container = new_name();
        // Both are bound at once, so that they are two.
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = ports.map(|port| port.local_addr().unwrap().port().to_string());
        let instead = [
            ("8086", ports[0].clone()),
            ("8094", ports[1].clone()),
            ("docker run", format!("docker run --label {}", label())),
            (" sensors ", format!(" {container} ")),
            (" sensors\n", format!(" {container}\n")),
        ];
        Reader {
            path: format!("{}:{path}", dir.file("bin").display()),
            instead: instead.map(|(old, new)| (old.to_owned(), new)).into(),
            dir,
            container,
        }
    }

    /// Prepares `text` to be run by a program that takes it as its last argument.
    fn command(&self, program: &[&str], text: &str) -> Command {
        let mut text = text.to_owned();
        for (old, new) in &self.instead {
            text = text.replace(old, new);
        }
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(text);
        command.current_dir(self.dir.path()).env("PATH", &self.path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SEAWALL_") {
                command.env_remove(name);
            }
        }
        command
    }

    fn run(&self, program: &[&str], text: &str) -> Output {
        let within = [&["timeout", SECONDS_MAX], program].concat();
        self.command(&within, text).output().unwrap()
    }

    fn repeat(&self, transcript: &str, numbers_differ: bool) {
        for step in transcript.split("$ ").skip(1) {
            let (command, expected) = step.split_once('\n').unwrap();
            let output = self.run(&["sh", "-c"], &format!("{{ {command}\n}} 2>&1"));
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{command}: {text}");
            // Two threads write the log and the acks, so each keeps its own order.
            let lines = |text: &str| {
                let lines = text.lines().map(|line| lasting(line, numbers_differ));
                // The test's folder may lie in memory, or on a container's layer.
                let lines = lines.filter(|line| line != "event=not-lasting");
                lines.partition::<Vec<_>, _>(|line| line.starts_with("event="))
            };
            assert_eq!(lines(&text), lines(expected), "{command}");
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // There is one only if a block failed.
        let _ = docker(&["rm", "-f", &self.container]);
    }
}

/// A line without what differs from run to run: of a log line all but its event and what it counts, of the table the
/// age in days, and where numbers differ all of them, their units of time, and the sparkline.
fn lasting(line: &str, numbers_differ: bool) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    if line.starts_with("ts=") {
        let counted = ["event=", "committed=", "rejected=", "repeated=", "sources="];
        let is_kept = |word: &&str| counted.iter().any(|key| word.starts_with(key));
        return words
            .into_iter()
            .filter(is_kept)
            .collect::<Vec<_>>()
            .join(" ");
    }
    if numbers_differ {
        let without =
            |word: &str| word.replace(|c: char| ".▁▂▃▄▅▆▇█".contains(c) || c.is_ascii_digit(), "");
        let words = words.into_iter().map(without);
        let words = words.filter(|word| !["", "s", "min"].contains(&word.as_str()));
        return words.collect::<Vec<_>>().join(" ");
    }
    match words.iter().position(|word| *word == "d") {
        Some(at) => [&words[..at - 1], &words[at + 1..]].concat().join(" "),
        None => words.join(" "),
    }
}

fn is_there(program: &str) -> bool {
    let looked = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    looked.unwrap().status.success()
}

#[test]
fn every_block_of_the_readme_runs_as_printed() {
    if let Some(missing) = PROGRAMS.iter().find(|program| !is_there(program)) {
        return skip(&format!("there is no {missing}"));
    }
    let readme = fs::read_to_string(Path::new(CHECKOUT).join("README.md")).unwrap();
    let reader = Reader::new();
    let mut beside: Option<(String, Running)> = None;
    let mut not_run = Vec::new();
    for block in blocks(&readme) {
        let text = &block.text;
        if beside
            .as_ref()
            .is_some_and(|(section, _)| *section != block.section)
        {
            let (_, recorder) = beside.take().unwrap();
            let ended = recorder.stop(libc::SIGINT);
            assert_eq!(ended.code(), 0, "{:#?}", ended.log);
        }
        match block.note.as_str() {
            note if note.starts_with("not run: ") => {
                not_run.push(text.clone());
                continue;
            }
            "beside the rest of this section" => {
                let recorder =
                    Running::spawn(&mut reader.command(&["sh", "-c"], &format!("exec {text}")));
                recorder.wait_for("ready");
                beside = Some((block.section, recorder));
                continue;
            }
            "docker" if !can_run() => continue,
            "" | "docker" | "numbers differ" => {}
            note => panic!("a note of no known kind: {note}"),
        }
        let output = match block.language.as_str() {
            "console" => {
                reader.repeat(text, block.note == "numbers differ");
                continue;
            }
            "sh" => reader.run(&["sh", "-ec"], text),
            "python" => reader.run(&["python3", "-c"], text),
            language => panic!("a block in {language}: {text}"),
        };
        let heard = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{output:?}");
        // What is to come stands in a comment of the block.
        let is_answered = heard.lines().last().is_some_and(|line| text.contains(line));
        assert!(is_answered || block.language != "python", "{heard}");
    }
    assert!(beside.is_none(), "the last section has a recorder");
    let is_listed = |(text, first): (&String, &&str)| text.starts_with(*first);
    assert_eq!(not_run.len(), NOT_RUN.len(), "{not_run:?}");
    assert!(not_run.iter().zip(&NOT_RUN).all(is_listed), "{not_run:?}");
}

#[test]
fn systemd_takes_the_unit_file() {
    if !is_there("systemd-analyze") {
        return skip("there is no systemd-analyze");
    }
    let unit = fs::read_to_string(Path::new(CHECKOUT).join("docs/seawall.service")).unwrap();
    let dir = Dir::new("readme-unit");
    let path = dir.file("seawall.service");
    // systemd looks whether the program is there.
    let installed = "ExecStart=/usr/local/bin/seawall\n";
    assert!(unit.contains(installed));
    let built = format!("ExecStart={BINARY}\n");
    fs::write(&path, unit.replace(installed, &built)).unwrap();
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&path)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

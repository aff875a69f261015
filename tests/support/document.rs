//! What the tests of documents share: the blocks of code of a page, a reader who runs them as they are printed, in a folder
//! of his own, and what of a transcript is the same each time.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use super::docker::{docker, label, new_name};
use super::{BINARY, Dir};

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");
/// For a block that hangs; far more than any needs.
const SECONDS_MAX: &str = "300";

pub fn document(name: &str) -> String {
    fs::read_to_string(Path::new(CHECKOUT).join(name)).unwrap()
}

pub struct Block {
    pub section: String,
    pub note: String,
    pub language: String,
    pub text: String,
}

/// The comment on the line before a block is its note.
pub fn blocks(document: &str) -> Vec<Block> {
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
pub struct Reader {
    pub dir: Dir,
    path: String,
    /// What stands for what is printed.
    pub instead: Vec<(String, String)>,
    container: String,
    /// Who he is, where that is not who runs the test.
    pub user: Option<u32>,
}

impl Reader {
    pub fn new(name: &str) -> Self {
        Self::within(Dir::new(name))
    }

    pub fn within(dir: Dir) -> Self {
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
            user: None,
        }
    }

    /// Prepares `text` to be run by a program that takes it as its last argument.
    pub fn command(&self, program: &[&str], text: &str) -> Command {
        let mut command = self.command_of_the_test(program, text);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// The same, not by the reader but by whoever runs the test.
    pub fn command_of_the_test(&self, program: &[&str], text: &str) -> Command {
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

    pub fn run(&self, program: &[&str], text: &str) -> Output {
        let within = [&["timeout", SECONDS_MAX], program].concat();
        self.command(&within, text).output().unwrap()
    }

    /// Runs a transcript; its last command ends with this status, the others with 0.
    pub fn repeat(&self, transcript: &str, numbers_differ: bool, status: i32) {
        let steps = transcript.matches("$ ").count();
        for (n, step) in transcript.split("$ ").skip(1).enumerate() {
            let (command, expected) = step.split_once('\n').unwrap();
            let output = self.run(&["sh", "-c"], &format!("{{ {command}\n}} 2>&1"));
            let mut text = String::from_utf8(output.stdout).unwrap();
            let due = if n + 1 == steps { status } else { 0 };
            assert_eq!(output.status.code(), Some(due), "{command}: {text}");
            for (printed, here) in self
                .instead
                .iter()
                .filter(|(_, here)| here.starts_with('/'))
            {
                text = text.replace(here, printed);
            }
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

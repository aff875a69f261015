//! Guards against a README that a stranger cannot follow: its blocks of code are taken as they are printed and run in
//! their order, in a fresh folder, and what a transcript shows is compared with what comes.
//!
//! A comment before a block says how it is run, where that is not to its end:
//! `not run: REASON`, one of those listed below; `beside the rest of this section`, a recorder that Ctrl-C ends where
//! the section does; `docker`, where there is Docker; `numbers differ`, so that they are not compared.
//!
//! Other than for a reader are: the ports, which are free ones; the names of containers; the folder, which is not the
//! checkout but has its `tests` and `docs`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::docker::can_run;
use crate::support::document::{Reader, blocks, document};
use crate::support::{BINARY, Dir, Running, is_there, skip};

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");
/// The first words of the blocks that are not run, and no others.
const NOT_RUN: [&str; 4] = [
    "cargo run",
    "python3 -m venv",
    "cargo install",
    "sudo install",
];
const PROGRAMS: [&str; 3] = ["curl", "sqlite3", "python3"];

#[test]
fn every_block_of_the_readme_runs_as_printed() {
    if let Some(missing) = PROGRAMS.iter().find(|program| !is_there(program)) {
        return skip(&format!("there is no {missing}"));
    }
    let reader = Reader::new("readme");
    let mut beside: Option<(String, Running)> = None;
    let mut not_run = Vec::new();
    for block in blocks(&document("README.md")) {
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
                reader.repeat(text, block.note == "numbers differ", 0);
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

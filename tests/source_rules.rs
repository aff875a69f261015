//! Guards the rules that the promise rests on, so that widening one of them shows in a diff.
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Path below the checkout, and text, of every Rust file in the folders.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in folders {
        files(&root().join(folder), &mut found);
    }
    found.sort();
    let rust = found
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "rs"));
    rust.map(|path| {
        let name = path
            .strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        (name, fs::read_to_string(path).unwrap())
    })
    .collect()
}

fn without_comments(text: &str) -> String {
    let code = text.lines().map(|line| line.split("//").next().unwrap());
    code.collect::<Vec<_>>().join("\n")
}

/// Files of which the code holds one of the words.
fn files_with(folders: &[&str], words: &[&str]) -> Vec<String> {
    let hit = |text: &str| {
        let code = without_comments(text);
        words.iter().any(|word| code.contains(word))
    };
    let hits = sources(folders).into_iter().filter(|(_, text)| hit(text));
    hits.map(|(name, _)| name).collect()
}

#[test]
fn unsafe_stands_in_few_files_of_the_program() {
    assert_eq!(
        files_with(&["src"], &["unsafe"]),
        [
            "src/db/raw/bulk.rs",
            "src/db/raw/callbacks.rs",
            "src/db/raw/connection.rs",
            "src/db/raw/row.rs",
            "src/db/raw/statement.rs",
            "src/sys/copy.rs",
            "src/sys/files.rs",
            "src/sys/signals.rs",
            "src/sys/sockets.rs",
            "src/sys/unwind.rs",
            "src/sys.rs"
        ]
    );
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    for (name, text) in sources(&["src"]) {
        let lines: Vec<&str> = text.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap();
            if !code.contains("unsafe {") && !code.contains("unsafe impl") {
                continue;
            }
            // The comment may stand above the statement that the block is a part of.
            let above = &lines[n.saturating_sub(9)..=n];
            let told = above
                .iter()
                .any(|l| l.trim_start().starts_with("// SAFETY:"));
            assert!(told, "{name}:{} has no SAFETY line", n + 1);
        }
    }
}

#[test]
fn sql_and_pragmas_and_checkpoints_stand_in_db() {
    let words = [
        "SELECT ",
        "INSERT INTO",
        "UPDATE ",
        "PRAGMA",
        "BEGIN IMMEDIATE",
        "wal_checkpoint",
        "sqlite3_",
    ];
    for name in files_with(&["src"], &words) {
        assert!(
            name.starts_with("src/db/") || name.starts_with("src/store/"),
            "{name} has SQL"
        );
    }
}

#[test]
fn the_c_interface_is_called_in_one_module() {
    assert_eq!(
        files_with(&["src"], &["ffi::sqlite3_"]),
        [
            "src/db/raw/bulk.rs",
            "src/db/raw/connection.rs",
            "src/db/raw/row.rs",
            "src/db/raw/statement.rs"
        ]
    );
}

#[test]
fn libc_is_called_in_one_module() {
    // Its numbers, such as O_NONBLOCK and ENOSPC, may stand elsewhere.
    for (name, text) in sources(&["src"]) {
        for (at, _) in without_comments(&text).match_indices("libc::") {
            let code = without_comments(&text);
            let is_number = code[at + 6..].starts_with(|c: char| c.is_ascii_uppercase());
            assert!(
                is_number || name.starts_with("src/sys"),
                "{name} calls libc"
            );
        }
    }
}

#[test]
fn the_runtime_crates_are_four() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest
        .split("[dependencies]")
        .nth(1)
        .unwrap()
        .split("\n[")
        .next()
        .unwrap();
    let names: Vec<_> = section
        .lines()
        .filter_map(|line| line.split_once('=').map(|(name, _)| name.trim()))
        .collect();
    assert_eq!(names, ["fastrand", "getrandom", "libc", "libsqlite3-sys"]);
    assert_eq!(
        manifest.matches("dependencies]").count(),
        2,
        "[dependencies] and [dev-dependencies]"
    );
}

#[test]
fn nothing_is_left_to_do_in_the_sources() {
    // Spelled so that this file passes.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX"),
        concat!("unimpl", "emented!"),
        concat!("to", "do!"),
    ];
    for (name, text) in sources(&["src", "tests", "benches"]) {
        for word in words {
            assert!(!text.contains(word), "{name} has {word}");
        }
    }
}

#[test]
fn every_file_of_the_program_opens_with_what_it_is_for() {
    for (name, text) in sources(&["src", "tests", "benches"]) {
        assert!(text.starts_with("//! "), "{name} has no module comment");
    }
}

#[test]
fn every_file_of_tests_is_run() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let stories = fs::read_to_string(root().join("tests/stories.rs")).unwrap();
    for entry in fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "rs") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let is_run = stories.contains(&format!("\nmod {name};\n"))
                || manifest.contains(&format!("[[test]]\nname = \"{name}\"\n"));
            assert!(is_run, "no program has the tests of {name}.rs");
        }
    }
}

#[test]
fn nobody_sleeps_to_wait_in_the_tests() {
    // `until` in the support module polls; a pause that is itself the test says so on its line.
    for (name, text) in sources(&["tests"]) {
        for (n, line) in text.lines().enumerate() {
            if line.contains("thread::sleep(")
                && !name.starts_with("tests/support")
                && !name.ends_with("source_rules.rs")
                // A program beside seawall, and no test.
                && name != "tests/sidecar/sidecar.rs"
            {
                assert!(
                    line.contains("// the pause is the test"),
                    "{name}:{} sleeps",
                    n + 1
                );
            }
        }
    }
}

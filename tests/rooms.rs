//! Guards the shape of the house: a room imports only from the rooms below it, no two files import each other in a
//! circle, `db` knows nothing of readings, and no file is too long to be read in one sitting.
//!
//! The imports are read as text: `use` declarations and paths that begin with `crate`, `super` or `self`. A path
//! is an arrow to the file that its longest known prefix names.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// From the ground up. Files that lie beside the rooms are the ground.
const ROOMS: [&str; 10] = [
    "ground", "reading", "db", "place", "store", "source", "record", "commands", "cli", "main",
];
const FILE_LINES_MAX: usize = 500;
/// The aim is 15,000. Less only, from here on.
const SRC_LINES_MAX: usize = 19_600;
const DB_LINES_MAX: usize = 1_500;
const TEST_FILE_LINES_MAX: usize = 700;

/// Circles that are still there, a file of each. An entry that is not needed any more fails the test.
const CIRCLES_LEFT: &[&str] = &[];
/// Files that are still too long.
const LONG_FILES_LEFT: &[&str] = &["store/tests.rs"];

/// Text by path below `src`.
type Sources = BTreeMap<String, String>;

fn read(folder: &str) -> Sources {
    fn walk(root: &Path, folder: &Path, found: &mut Sources) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                found.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Sources::new();
    walk(&root, &root, &mut found);
    found
}

fn room(file: &str) -> usize {
    let name = match file.split_once('/') {
        Some(("sys", _)) => "ground",
        Some((room, _)) => room,
        None if file == "main.rs" => "main",
        None => "ground",
    };
    let place = ROOMS.iter().position(|room| *room == name);
    place.unwrap_or_else(|| panic!("{file} is in no room that the list knows"))
}

/// `a/b.rs` and `a/b/mod.rs` are both the module a::b.
fn module(file: &str) -> Vec<String> {
    let parts = file.trim_end_matches(".rs").split('/').map(str::to_owned);
    let mut parts: Vec<_> = parts.collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// Without comments, and without the tests inside of the file.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    let code = lines.collect::<Vec<_>>().join("\n");
    let tests = code.find("#[cfg(test)]\nmod tests {").unwrap_or(code.len());
    code[..tests].to_owned()
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn expand(path: &str, out: &mut Vec<String>) {
    let path = path.trim();
    let Some((before, inside)) = path.split_once('{') else {
        let name = path.split(" as ").next().unwrap();
        out.push(name.split_whitespace().collect());
        return;
    };
    let inside = inside.strip_suffix('}').unwrap_or(inside);
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = inside[start..at].trim();
                if !part.is_empty() {
                    expand(&format!("{before}{part}"), out);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for (at, _) in code.match_indices("use ") {
        let starts = !code[..at].ends_with(is_word);
        if starts && let Some(end) = code[at..].find(';') {
            expand(&code[at + 4..at + end], &mut found);
        }
    }
    // Inline: from a root, from a name that was imported, or from a child.
    let imported: BTreeMap<String, String> = found.iter().map(|path| by_name(path)).collect();
    for (at, _) in code.match_indices("::") {
        let start = code[..at]
            .rfind(|c| !is_word(c))
            .map_or(0, |before| before + 1);
        if start == at || code[..start].ends_with(':') {
            continue;
        }
        let rest = &code[start..];
        let end = rest.find(|c| !is_word(c) && c != ':').unwrap_or(rest.len());
        let path = &rest[..end];
        // A group in braces is a `use`, which was read above; `name::<T>()` leads nowhere.
        if path.ends_with(':') {
            continue;
        }
        let (first, behind) = path.split_once("::").unwrap_or((path, ""));
        match imported.get(first) {
            Some(root) => found.push(format!("{root}::{behind}")),
            None => found.push(path.to_owned()),
        }
    }
    found
}

/// The name under which a `use` brings a path in, and the path.
fn by_name(path: &str) -> (String, String) {
    let path = path.strip_suffix("::self").unwrap_or(path);
    let name = path.rsplit("::").next().unwrap();
    (name.to_owned(), path.to_owned())
}

type Arrows = BTreeMap<String, BTreeSet<String>>;

fn arrows(sources: &Sources) -> Arrows {
    let modules: BTreeMap<Vec<String>, &String> =
        sources.keys().map(|file| (module(file), file)).collect();
    let mut arrows = Arrows::new();
    for (file, text) in sources {
        let own = module(file);
        for path in paths(&code(text)) {
            let mut parts: Vec<String> = path.split("::").map(str::to_owned).collect();
            let mut base = Vec::new();
            match parts[0].as_str() {
                "crate" => drop(parts.remove(0)),
                "self" => {
                    base.clone_from(&own);
                    parts.remove(0);
                }
                "super" => {
                    base.clone_from(&own);
                    while parts.first().is_some_and(|part| part == "super") {
                        base.pop();
                        parts.remove(0);
                    }
                }
                child => {
                    base.clone_from(&own);
                    base.push(child.to_owned());
                    if !modules.contains_key(&base) {
                        continue;
                    }
                    base.pop();
                }
            }
            base.extend(parts);
            let known = (1..=base.len()).rev().find_map(|n| modules.get(&base[..n]));
            if let Some(to) = known.filter(|to| **to != file) {
                arrows
                    .entry(file.clone())
                    .or_default()
                    .insert((*to).clone());
            }
        }
    }
    arrows
}

fn upward(arrows: &Arrows) -> Vec<String> {
    // lib.rs only names the rooms.
    let files = arrows.iter().filter(|(from, _)| *from != "lib.rs");
    let all = files.flat_map(|(from, tos)| tos.iter().map(move |to| (from, to)));
    all.filter(|(from, to)| *to != "lib.rs" && room(from) < room(to))
        .map(|(from, to)| format!("{from} -> {to}"))
        .collect()
}

fn reaches(arrows: &Arrows, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(file) = next.pop() {
        for to in arrows.get(&file).into_iter().flatten() {
            if found.insert(to.clone()) {
                next.push(to.clone());
            }
        }
    }
    found
}

/// Each as its files, with the arrows that tie them.
fn circles(arrows: &Arrows) -> Vec<(BTreeSet<String>, String)> {
    let mut found: Vec<(BTreeSet<String>, String)> = Vec::new();
    for file in arrows.keys() {
        let is_known = found.iter().any(|(files, _)| files.contains(file));
        let reached = reaches(arrows, file);
        if is_known || !reached.contains(file) {
            continue;
        }
        let files: BTreeSet<String> = reached
            .into_iter()
            .filter(|other| reaches(arrows, other).contains(file))
            .collect();
        let mut ties = String::new();
        for from in &files {
            for to in arrows[from].intersection(&files) {
                ties += &format!("\n  {from} -> {to}");
            }
        }
        found.push((files, ties));
    }
    found
}

fn too_long(sources: &Sources, max: usize) -> BTreeSet<&str> {
    let long = sources
        .iter()
        .filter(|(_, text)| text.lines().count() > max);
    long.map(|(file, _)| file.as_str()).collect()
}

#[test]
fn no_room_imports_from_a_room_above_it() {
    let found = upward(&arrows(&read("src")));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let found = circles(&arrows(&read("src")));
    for (files, ties) in &found {
        let is_left = CIRCLES_LEFT.iter().any(|left| files.contains(*left));
        assert!(is_left, "a circle:{ties}");
    }
    for left in CIRCLES_LEFT {
        let is_there = found.iter().any(|(files, _)| files.contains(*left));
        assert!(
            is_there,
            "{left} is in no circle any more: take it off the list"
        );
    }
}

#[test]
fn db_imports_only_the_ground() {
    let arrows = arrows(&read("src"));
    for (from, tos) in arrows.iter().filter(|(from, _)| from.starts_with("db/")) {
        for to in tos {
            assert!(to.starts_with("db/") || !to.contains('/'), "{from} -> {to}");
        }
    }
}

#[test]
fn every_file_can_be_read_in_one_sitting() {
    let src = read("src");
    let left: BTreeSet<&str> = LONG_FILES_LEFT.iter().copied().collect();
    assert_eq!(too_long(&src, FILE_LINES_MAX), left, "files of src");
    let tests = read("tests");
    let long = too_long(&tests, TEST_FILE_LINES_MAX);
    assert_eq!(long, BTreeSet::new(), "files of tests");
}

#[test]
fn the_whole_is_small_enough_to_be_read() {
    let src = read("src");
    let count = |text: &String| text.lines().count();
    let all: usize = src.values().map(count).sum();
    assert!(all <= SRC_LINES_MAX, "src has {all} lines");
    let db = src
        .iter()
        .filter(|(file, _)| file.starts_with("db/") && *file != "db/tests.rs");
    let db: usize = db.map(|(_, text)| code(text).lines().count()).sum();
    assert!(db <= DB_LINES_MAX, "db has {db} lines without its tests");
}

/// The rules are shown to be able to fail.
#[test]
fn what_is_against_the_rules_is_found() {
    let sources = |files: &[(&str, &str)]| -> Sources {
        let files = files.iter();
        files
            .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))
            .collect()
    };
    let down = [
        ("db/mod.rs", "mod raw;\npub use raw::Row;\n"),
        ("db/raw.rs", "use crate::sys;\n// use crate::store;\n"),
        (
            "store/mod.rs",
            "mod read;\nuse crate::{db::{self, raw}, sys as s};\nfn f() { read::all() }\n",
        ),
        ("store/read.rs", "use std::io;\n"),
        ("sys.rs", "use std::io;\n"),
    ];
    let good = arrows(&sources(&down));
    assert!(upward(&good).is_empty() && circles(&good).is_empty());
    let to: Vec<_> = good["store/mod.rs"].iter().collect();
    assert_eq!(to, ["db/mod.rs", "db/raw.rs", "store/read.rs", "sys.rs"]);

    for (text, is_circle) in [
        ("use crate::store::Ack;\n", false),
        ("fn f() { crate::store::ack() }\n", false),
        (
            "pub(crate) use crate::{\n    store::{Ack, Committed},\n};\n",
            false,
        ),
        ("use super::Row;\n", true),
        ("fn f() -> super::Row {}\n", true),
        ("use crate::db;\nfn f() { db::open() }\n", true),
        (
            "use crate::db::{self as d, raw};\nfn f() { d::open() }\n",
            true,
        ),
    ] {
        let mut bad = sources(&down);
        bad.insert("db/raw.rs".into(), text.into());
        let bad = arrows(&bad);
        assert_eq!(!upward(&bad).is_empty(), !is_circle, "{text}");
        assert!(!circles(&bad).is_empty(), "{text}");
    }
    let long = sources(&[("sys.rs", &"\n".repeat(501)), ("log.rs", &"\n".repeat(500))]);
    assert_eq!(too_long(&long, 500), BTreeSet::from(["sys.rs"]));
}

//! Guards the shape of the house: a room imports only from the rooms below it, no two files import each other in a
//! circle, `db` knows nothing of readings, and no file is too long to be read in one sitting.
//!
//! The imports are read as text: `use` declarations, paths that begin with `crate`, `super` or `self`, and paths that
//! begin with the name of a module, be it a child of the file or imported. A path is an arrow to the file that its
//! longest known prefix names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// From the ground up. Files that lie beside the rooms are the ground.
const ROOMS: [&str; 10] = [
    "ground", "reading", "db", "place", "store", "source", "record", "commands", "cli", "main",
];
const FILE_LINES_MAX: usize = 500;
/// The aim is 15,000. Less only, from here on.
const SRC_LINES_MAX: usize = 26_345;
const DB_LINES_MAX: usize = 1_500;
const TEST_FILE_LINES_MAX: usize = 700;

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

/// A path, and the name that stands for it in the file where it is imported; `*` stands for all names in it.
struct Import {
    path: String,
    name: String,
}

/// `a::{self, b as c, d::{e, f}}` as `a`, `a::b` by the name of c, `a::d::e`, `a::d::f`.
fn expand(path: &str, out: &mut Vec<Import>) {
    let path = path.trim();
    let Some((before, inside)) = path.split_once('{') else {
        let (path, alias) = path.split_once(" as ").unwrap_or((path, ""));
        let path: String = path.split_whitespace().collect();
        let path = path.strip_suffix("::self").unwrap_or(&path).to_owned();
        let last = path.rsplit("::").next().unwrap();
        let name = if alias.is_empty() { last } else { alias.trim() }.to_owned();
        out.push(Import { path, name });
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

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The imports, and the code without them.
fn imports(code: &str) -> (Vec<Import>, String) {
    let (mut found, mut others) = (Vec::new(), String::new());
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let starts = !rest[..at].ends_with(is_word);
        let end = rest[at..].find(';').filter(|_| starts);
        if let Some(end) = end {
            expand(&rest[at + 4..at + end], &mut found);
        }
        others += &rest[..at];
        rest = &rest[at + end.unwrap_or(4)..];
    }
    (found, others + rest)
}

/// Paths of two names and more.
fn paths(code: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut rest = code;
    while let Some(start) = rest.find(is_word) {
        let path = &rest[start..];
        let end = path.find(|c| !is_word(c) && c != ':').unwrap_or(path.len());
        let path = path[..end].trim_end_matches(':');
        if path.contains("::") {
            found.insert(path);
        }
        rest = &rest[start + end..];
    }
    found
}

type Module = Vec<String>;
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// A path as seen from a module of which `names` are the modules that are known by a name of their own.
fn resolve(path: &str, own: &[String], names: &BTreeMap<String, Module>) -> Option<Module> {
    let mut parts = path.split("::").peekable();
    let mut base = match parts.next()? {
        "crate" => Module::new(),
        "self" => own.to_vec(),
        "super" => {
            let mut base = own[..own.len() - 1].to_vec();
            while parts.next_if_eq(&"super").is_some() {
                base.pop();
            }
            base
        }
        name => names.get(name)?.clone(),
    };
    base.extend(parts.map(str::to_owned));
    Some(base)
}

fn arrows(sources: &Sources) -> Arrows {
    let modules: BTreeMap<Module, &String> =
        sources.keys().map(|file| (module(file), file)).collect();
    let children = |parent: &[String]| -> Vec<(String, Module)> {
        let below = modules.keys().filter(|module| {
            module
                .split_last()
                .is_some_and(|(_, above)| above == parent)
        });
        below
            .map(|module| (module.last().unwrap().clone(), module.clone()))
            .collect()
    };
    let mut arrows = Arrows::new();
    for (file, text) in sources {
        let own = module(file);
        let (imports, code) = imports(&code(text));
        let mut names: BTreeMap<String, Module> = children(&own).into_iter().collect();
        let mut found = Vec::new();
        for Import { path, name } in imports {
            let Some(to) = resolve(&path, &own, &names) else {
                continue;
            };
            if let Some((_, all)) = to.split_last().filter(|_| name == "*") {
                names.extend(children(all));
            } else if modules.contains_key(&to) {
                names.insert(name, to.clone());
            }
            found.push(to);
        }
        let inline = paths(&code).into_iter();
        found.extend(inline.filter_map(|path| resolve(path, &own, &names)));
        for to in found {
            let known = (1..=to.len()).rev().find_map(|n| modules.get(&to[..n]));
            if let Some(to) = known.filter(|to| **to != file) {
                let from = arrows.entry(file.clone()).or_default();
                from.insert((*to).clone());
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
    let ties: Vec<_> = found.iter().map(|(_, ties)| ties).collect();
    assert!(ties.is_empty(), "{ties:#?}");
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
    let long = too_long(&src, FILE_LINES_MAX);
    assert_eq!(long, BTreeSet::new(), "files of src");
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

fn sources(files: &[(&str, &str)]) -> Sources {
    let files = files.iter();
    files
        .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))
        .collect()
}

#[test]
fn every_way_to_import_is_an_arrow() {
    let all = [
        ("store/mod.rs", "mod read;\n"),
        ("store/read.rs", ""),
        ("db/raw.rs", ""),
        ("sys.rs", ""),
    ];
    let (read, raw, store, sys) = ("store/read.rs", "db/raw.rs", "store/mod.rs", "sys.rs");
    for (text, expected) in [
        // A child by its name alone, in a file that declares it.
        ("mod raw;\nfn f() -> raw::Row {}\n", &[raw][..]),
        ("mod raw;\nfn f() { g(raw::Row::new) }\n", &[raw]),
        ("mod raw;\nuse raw::Row;\n", &[raw]),
        // What is below a module that was imported.
        (
            "use crate::store::{self};\nfn f() { store::read::x() }\n",
            &[store, read],
        ),
        (
            "use crate::{store};\nfn f() { store::read::x() }\n",
            &[store, read],
        ),
        (
            "use crate::store as s;\nfn f() { s::read::x() }\n",
            &[store, read],
        ),
        (
            "use crate::store::*;\nfn f() { read::x() }\n",
            &[store, read],
        ),
        (
            "use crate::{sys, store::read};\nfn f() { read::x() }\n",
            &[read, sys],
        ),
        ("fn f() { let _ = crate::store::read::X; }\n", &[read]),
        // No arrows: names of others, methods, and what stands below another name.
        (
            "use std::fs::read;\nfn f() { std::store::read::x() }\n",
            &[],
        ),
        (
            "fn f(x: X) { x.store::<u8>(); store::read::x(); read::x() }\n",
            &[],
        ),
        ("mod raw;\nuse std::{io, raw::Row};\n", &[]),
        ("// store::read::x\nfn reuse () {}\n", &[]),
    ] {
        let mut files = sources(&all);
        files.insert("db/mod.rs".into(), text.into());
        let arrows = arrows(&files);
        let expected = BTreeSet::from_iter(expected.iter().map(|file| (*file).to_owned()));
        let found = arrows.get("db/mod.rs").cloned().unwrap_or_default();
        assert_eq!(found, expected, "{text}");
    }
}

/// The rules are shown to be able to fail.
#[test]
fn what_is_against_the_rules_is_found() {
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

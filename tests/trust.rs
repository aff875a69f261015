//! Guards against bills of materials that name other parts than are built in, and against a table of CVEs that is of
//! another SQLite, promises what the build does not hold, or differs from the VEX that is handed out.

use std::collections::BTreeSet;
use std::ffi::{CStr, c_int};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::client::python_with;
use crate::support::{BINARY, Dir, python3, skip};

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The folder with the documents of a release; none where Rust's targets of the releases are not installed.
fn documents(name: &str) -> Option<Dir> {
    if libraries().iter().any(|library| !library.exists()) {
        skip("`just binary` installs the targets");
        return None;
    }
    let dir = Dir::new(name);
    let output = Command::new("python3")
        .arg(".image/bill.py")
        .args([&BINARY[..], VERSION, "1700000000"])
        .arg(dir.path())
        .current_dir(CHECKOUT)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(dir)
}

/// musl, as Rust brings it for each architecture.
fn libraries() -> [PathBuf; 2] {
    let rustc = Command::new("rustc").arg("--print=sysroot").output();
    let root = String::from_utf8(rustc.unwrap().stdout).unwrap();
    ["x86_64", "aarch64"].map(|machine| {
        let place = format!("lib/rustlib/{machine}-unknown-linux-musl/lib/self-contained/libc.a");
        Path::new(root.trim()).join(place)
    })
}

fn read(dir: &Dir, end: &str) -> String {
    fs::read_to_string(dir.file(&format!("seawall-{VERSION}.{end}.json"))).unwrap()
}

/// What Python finds in a document.
fn found(dir: &Dir, end: &str, expression: &str) -> BTreeSet<String> {
    let script =
        format!("import json, sys; d = json.load(sys.stdin); print(*({expression}), sep='\\n')");
    let file = fs::File::open(dir.file(&format!("seawall-{VERSION}.{end}.json"))).unwrap();
    let output = python3()
        .args(["-c", &script])
        .stdin(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn sqlite() -> String {
    let version = unsafe { CStr::from_ptr(libsqlite3_sys::sqlite3_libversion()) };
    version.to_str().unwrap().to_owned()
}

fn rust() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let release = text.lines().find_map(|line| line.strip_prefix("release: "));
    release.unwrap().to_owned()
}

/// The options that SQLite was compiled with.
fn compiled_with() -> BTreeSet<String> {
    let option = |n: c_int| {
        let name = unsafe { libsqlite3_sys::sqlite3_compileoption_get(n) };
        (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_str().unwrap().to_owned())
    };
    (0..).map_while(option).collect()
}

#[test]
fn the_documents_are_the_same_bytes_each_time() {
    let (Some(one), Some(two)) = (documents("trust-one"), documents("trust-two")) else {
        return;
    };
    for end in ["spdx", "cdx", "vex.cdx"] {
        assert_eq!(read(&one, end), read(&two, end), "{end}");
    }
}

#[test]
fn the_documents_are_valid() {
    let (Some(python), Some(_)) = (python_with("cyclonedx"), python_with("spdx_tools")) else {
        return;
    };
    let Some(dir) = documents("trust-valid") else {
        return;
    };
    let script = r#"
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
stem = sys.argv[1]
for end in "cdx", "vex.cdx":
    with open(f"{stem}.{end}.json") as file:
        wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(file.read())
    assert wrong is None, wrong
wrong = validate_full_spdx_document(parse_file(f"{stem}.spdx.json"))
assert not wrong, wrong
"#;
    let output = Command::new(python)
        .args(["-c", script])
        .arg(dir.file(&format!("seawall-{VERSION}")))
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_bills_name_what_cargo_builds_in_and_sqlite() {
    let Some(dir) = documents("trust-parts") else {
        return;
    };
    for target in ["x86_64", "aarch64"] {
        let tree = Command::new("cargo")
            .args(["tree", "--locked", "--edges=normal", "--prefix=none"])
            .arg(format!("--target={target}-unknown-linux-musl"))
            .current_dir(CHECKOUT)
            .output();
        let tree = String::from_utf8(tree.unwrap().stdout).unwrap();
        let crates = tree.lines().map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            format!("{} {}", words[0], words[1].trim_start_matches('v'))
        });
        let mut expected: BTreeSet<_> = crates.collect();
        assert!(expected.len() >= 6, "{tree}");
        expected.insert(format!("sqlite {}", sqlite()));
        expected.insert(format!("rust-std {}", rust()));
        let built_in = |mut names: BTreeSet<String>| {
            let musl = names.iter().find(|name| name.starts_with("musl "));
            let musl = musl.unwrap().trim_start_matches("musl ").to_owned();
            for library in libraries() {
                let bytes = fs::read(&library).unwrap();
                let constant = [b"\0", musl.as_bytes(), b"\0"].concat();
                let is_there = bytes.windows(constant.len()).any(|part| part == constant);
                assert!(is_there, "no musl {musl} in {library:?}");
            }
            names.remove(&format!("musl {musl}"));
            names
        };
        let spdx = "f'{p[\"name\"]} {p.get(\"versionInfo\")}' for p in d['packages']";
        assert_eq!(built_in(found(&dir, "spdx", spdx)), expected);
        let cdx = "f'{c[\"name\"]} {c.get(\"version\")}' for c in [d['metadata']['component'], *d['components']]";
        assert_eq!(built_in(found(&dir, "cdx", cdx)), expected);
    }
}

/// CVE, part, versions, state with its justification.
fn table() -> Vec<[String; 4]> {
    let document = fs::read_to_string(Path::new(CHECKOUT).join("docs/cves.md")).unwrap();
    let rows = document.lines().filter(|line| line.starts_with("| CVE-"));
    let cells = rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{row}");
        [cells[0], cells[1], cells[2], cells[3]].map(str::to_owned)
    });
    cells.collect()
}

/// The last version in a relation such as `before 3.50.2`, and whether it is affected itself.
fn last(versions: &str) -> ([u32; 3], bool) {
    let word = versions.split(' ').next_back().unwrap();
    let numbers: Vec<_> = word.split('.').map(|n| n.parse().unwrap()).collect();
    (
        numbers.try_into().unwrap(),
        !versions.starts_with("before "),
    )
}

#[test]
fn the_table_of_cves_is_of_the_sqlite_that_is_built_in() {
    let document = fs::read_to_string(Path::new(CHECKOUT).join("docs/cves.md")).unwrap();
    assert!(document.contains(&format!("has SQLite {} compiled in", sqlite())));
    let (ours, _) = last(&sqlite());
    let options = compiled_with();
    let rows = table();
    assert!(rows.len() > 30, "{}", rows.len());
    for [cve, part, versions, state] in &rows {
        let (last, is_affected) = last(versions);
        let is_later = ours > last || ours == last && !is_affected;
        // Code that is not there may have any fault.
        assert!(
            is_later || state.contains("code_not_present"),
            "{cve}: {versions}"
        );
        let off = match part.as_str() {
            "FTS3" | "FTS5" | "session" => part.to_uppercase(),
            "R-Tree" => "RTREE".to_owned(),
            "JSON" => {
                assert!(options.contains("OMIT_JSON"), "{cve}: {options:?}");
                continue;
            }
            "shell" | "zipfile" | "appendvfs" => continue,
            "core" | "C interface" | "WAL" | "not read" => {
                assert!(!state.contains("code_not_present"), "{cve}");
                continue;
            }
            part => panic!("{cve}: {part}"),
        };
        assert_eq!(state, "`not_affected` `code_not_present`", "{cve}");
        let on = format!("ENABLE_{off}");
        assert!(
            !options.iter().any(|option| option.starts_with(&on)),
            "{cve}: {on}"
        );
    }
}

#[test]
fn the_vex_says_what_the_table_says() {
    let Some(dir) = documents("trust-vex") else {
        return;
    };
    let expression = "f\"{v['id']} {v['analysis']['detail'].split(':')[0]} {v['analysis']['state']} {v['analysis'].get('justification', '')}\".strip() for v in d['vulnerabilities']";
    let said = found(&dir, "vex.cdx", expression);
    let rows = table().into_iter();
    let rows = rows
        .map(|[cve, _, versions, state]| format!("{cve} {versions} {}", state.replace('`', "")));
    assert_eq!(said, rows.collect());
    let products = found(
        &dir,
        "vex.cdx",
        "a['ref'] for v in d['vulnerabilities'] for a in v['affects']",
    );
    let serial = found(&dir, "cdx", "[d['serialNumber']]")
        .pop_first()
        .unwrap();
    let serial = serial.trim_start_matches("urn:uuid:");
    let product = format!("urn:cdx:{serial}/1#pkg:generic/sqlite@{}", sqlite());
    assert_eq!(products.into_iter().collect::<Vec<_>>(), [product]);
}

//! Puts the commit into the version string. Nothing else of weight belongs here.

use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn main() {
    let version = env!("CARGO_PKG_VERSION");
    // Built from an archive there is no commit to name.
    let commit = git(&[
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ]);
    let full = commit.map_or(version.to_owned(), |commit| format!("{version} ({commit})"));
    println!("cargo:rustc-env=VERSION_AND_COMMIT={full}");
    // `--dirty` depends on every file, and on what is committed.
    // In a worktree git keeps these two elsewhere.
    let of_git = |name| git(&["rev-parse", "--git-path", name]);
    let watched = ["src", "Cargo.toml", "Cargo.lock", "build.rs"].map(str::to_owned);
    let of_git = ["HEAD", "index"].into_iter().filter_map(of_git);
    for path in watched.into_iter().chain(of_git) {
        if std::path::Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
}

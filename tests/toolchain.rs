//! Guards against a declared oldest Rust that no longer builds the program, and against a `cargo install` that does not
//! leave a program that records.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Dir, skip};

#[test]
fn the_oldest_rust_that_is_declared_installs_a_program_that_records() {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    let dir = Dir::new("toolchain");
    let root = dir.file("installed");
    // cargo warns where what it installs is not found.
    let path = std::env::var("PATH").unwrap();
    let path = format!("{path}:{}", root.join("bin").display());
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        command.arg(format!("+{oldest}")).args(arguments);
        // Those of the cargo that runs this test name its own compiler.
        for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
            command.env_remove(name);
        }
        command.current_dir(checkout).env("PATH", &path).output()
    };
    if !cargo(&["--version"]).is_ok_and(|output| output.status.success()) {
        return skip(&format!("`just setup` installs Rust {oldest}"));
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oldest-rust");
    // Not optimised, which takes minutes and is not what an older compiler refuses; and from what has been fetched.
    let output = cargo(&[
        "install",
        "--locked",
        "--offline",
        "--debug",
        "--config=profile.dev.debug=0",
        "--config=profile.dev.package.libsqlite3-sys.opt-level=0",
        "--path=.",
        "--root",
        root.to_str().unwrap(),
        "--target-dir",
        target.to_str().unwrap(),
    ]);
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("warning"), "{said}");

    let program = root.join("bin/seawall");
    let mut recorder = Command::new(&program)
        .args(["--source", "stdin", "--ack"])
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    recorder
        .stdin
        .take()
        .unwrap()
        .write_all(b"m v=1 1\n")
        .unwrap();
    let output = recorder.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ack 1\n");
    assert!(output.status.success());
    assert!(fs::metadata(dir.file("data/sensor_data.db")).is_ok());
}

//! Shared objects that change what a program is told by the C library, made from `tests/shims`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Dir;

/// Compiles one, and sets its file to a number.
pub struct Shim {
    dir: Dir,
    name: &'static str,
}

impl Shim {
    /// `bind`, `clock`, `slow` or `sync`.
    pub fn make(name: &'static str) -> Self {
        let dir = Dir::new("shim");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/shims/{name}.c"));
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&dir.file("shim.so"), &source])
            .arg("-ldl")
            .status();
        assert!(status.expect("run cc").success());
        let shim = Shim { dir, name };
        shim.set(0);
        shim
    }

    fn number(&self) -> PathBuf {
        self.dir.file("number")
    }

    pub fn set(&self, number: i64) {
        let new = self.dir.file("new");
        std::fs::write(&new, number.to_string()).unwrap();
        // Whole at any time.
        std::fs::rename(new, self.number()).unwrap();
    }

    /// Lets a program run under it.
    pub fn preload(&self, command: &mut Command) {
        let variable = format!("SHIM_{}", self.name.to_uppercase());
        command.env("LD_PRELOAD", self.dir.file("shim.so"));
        command.env(variable, self.number());
    }
}

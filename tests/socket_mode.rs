//! The mode of a unix socket: guards against a name that leads to another file before the mode is set.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::shim::Shim;
use crate::support::*;

/// In a folder in which others may write, the name may lead to another file before the mode is set.
#[test]
fn the_mode_of_a_socket_is_set_on_nothing_else() {
    let dir = Dir::new("swapped");
    let (path, db) = (dir.file("s"), dir.file("x.db"));
    let shim = Shim::make("bind");
    let start = || {
        let mut command = Command::new(BINARY);
        command.args(["--db", db.to_str().unwrap()]);
        command.args(["--source", &format!("unix:{},mode=0666", path.display())]);
        shim.preload(&mut command);
        Running::spawn(&mut command)
    };
    let seawall = start();
    let victim = until("a link is in its place", || fs::read_link(&path).ok());
    let ended = seawall.wait();
    assert_eq!(ended.code(), 1, "{:#?}", ended.log);
    assert!(
        ended.has("somebody replaced it at once"),
        "{:#?}",
        ended.log
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_ne!(mode(&victim), 0o666);
    // A folder that narrows the mode gets the one that was asked for.
    fs::remove_file(&path).unwrap();
    shim.set(1);
    let seawall = start();
    seawall.wait_for("ready");
    assert_eq!(mode(&path), 0o666);
    assert_eq!(seawall.stop(libc::SIGTERM).code(), 0);
}

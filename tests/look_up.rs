//! Names of hosts: they are looked up at the start, and a signal ends the wait for a server that does not answer.

use std::fs;
use std::net::UdpSocket;
use std::process::Command;

use crate::support::{BINARY, Dir, Running, skip};

/// A name server that never answers, and the start of a recorder that asks it.
#[test]
fn a_signal_ends_the_look_up_of_a_name() {
    let dir = Dir::new("look-up");
    let (db, servers) = (dir.file("x.db"), dir.file("resolv.conf"));
    let Ok(server) = UdpSocket::bind("127.0.0.77:53") else {
        return skip("only root may take the port of a name server");
    };
    fs::write(&servers, "nameserver 127.0.0.77\noptions timeout:30\n").unwrap();
    let may_mount = Command::new("unshare").args(["--mount", "true"]).status();
    if !may_mount.is_ok_and(|status| status.success()) {
        return skip("only root may mount a resolv.conf");
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-euc"]);
    command.arg("mount --bind \"$1\" /etc/resolv.conf; exec \"$2\" --db \"$3\" --source tcp:no.such.host.test:8094");
    command.arg("sh").arg(&servers).arg(BINARY).arg(&db);
    let seawall = Running::spawn(&mut command);
    // The question has come, so that the recorder waits.
    server.recv(&mut [0; 512]).unwrap();
    let ended = seawall.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 1);
    assert_eq!(ended.stopped()["reason"], "SIGTERM");
    assert!(
        ended.has("stopped while the name was looked up"),
        "{:#?}",
        ended.log
    );
}

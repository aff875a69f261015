//! Guards against a recorder that records something else, or somewhere else, than its owner thinks: what a start
//! says of its sources, of its database, and of ports that nobody can reach.

use std::path::Path;
use std::process::Command;

use crate::support::*;

/// The log of a recorder whose simulation ends at once.
fn log_of(db: &Path, args: &[&str]) -> Vec<String> {
    let ended = start(db, args).wait();
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    ended.log
}

fn reason_of(log: &[String], event: &str) -> Option<String> {
    let marked = format!(" event={event} ");
    let line = log.iter().find(|line| line.contains(&marked))?;
    assert!(line.contains(" level=warn "), "{line}");
    Some(fields(line)["reason"].clone())
}

#[test]
fn ready_names_each_source_and_where_the_database_is() {
    let dir = Dir::new("ready-names");
    let mut command = command(Path::new("in/x.db"), &[]);
    command.current_dir(dir.path());
    command.args(["--source", "stdin:precision=ms", "--source", "sim:count=1"]);
    command.args(["--source", "unix:s.sock,mode=0600", "--source", "udp:0"]);
    let running = Running::spawn(&mut command);
    let ready = fields(&running.wait_for("ready"));
    assert_eq!(ready["sources"], "stdin,sim,unix:s.sock,udp:127.0.0.1:0");
    let db = dir.path().canonicalize().unwrap().join("in/x.db");
    assert_eq!(ready["db"], db.to_str().unwrap());
    assert_eq!(running.stop(libc::SIGTERM).code(), 0);
}

#[test]
fn simulated_sensors_that_are_hardly_meant_are_warned_of() {
    let dir = Dir::new("simulated");
    let db = dir.file("x.db");
    for (stdin, advice) in [
        ("/dev/null", "for those of this machine: --source sysfs"),
        (
            "/dev/stdin",
            "give --source stdin to record what comes there",
        ),
    ] {
        let mut default = Command::new("sh");
        let script = format!("exec \"$0\" record --db \"$1\" < {stdin}");
        default.args(["-c", &script]).arg(BINARY).arg(&db);
        let running = Running::spawn(&mut default);
        running.wait_for("ready");
        let ended = running.stop(libc::SIGTERM);
        let reason = reason_of(&ended.log, "simulated").unwrap();
        assert!(reason.contains(advice), "{reason}");
    }
    // Asked for, and with its like.
    let sim = ["--source", "sim:count=1"];
    assert_eq!(reason_of(&log_of(&db, &sim), "simulated"), None);
    record_lines(&db, "simmer v=1\n");
    let reason = reason_of(&log_of(&db, &sim), "simulated").unwrap();
    assert!(reason.contains("holds other ones"), "{reason}");
}

#[test]
fn a_port_in_a_container_that_nobody_can_reach_is_warned_of_with_the_address_to_give() {
    let dir = Dir::new("loopback");
    for (source, advice) in [
        ("tcp:0", Some("tcp:0.0.0.0:")),
        ("udp:[::1]:0", Some("udp:0.0.0.0:")),
        ("tcp:0.0.0.0:0", None),
        ("unix:127.0.0.1", None),
    ] {
        let mut command = command(&dir.file("x.db"), &["--source", source]);
        command.current_dir(dir.path());
        // As podman and systemd-nspawn set it.
        let running = Running::spawn(command.env("container", "test"));
        let listening = fields(&running.wait_for("listening"));
        running.wait_for("ready");
        let ended = running.stop(libc::SIGTERM);
        let reason = reason_of(&ended.log, "only-loopback");
        let Some(advice) = advice else {
            assert_eq!(reason, None, "{source}");
            continue;
        };
        let port = listening["address"].rsplit(':').next().unwrap().to_owned();
        let reason = reason.unwrap();
        assert!(reason.ends_with(&format!("{advice}{port}")), "{reason}");
    }
}

//! Variables: an option may come from the environment, and a flag wins.

use std::process::Command;

use crate::support::recording::*;
use crate::support::stop::*;
use crate::support::*;

#[test]
fn settings_come_from_the_environment_and_flags_win() {
    let dir = Dir::new("environment");
    let db = dir.file("environment.db");
    let mut command = Command::new(BINARY);
    command
        .env("SEAWALL_DB", &db)
        .env("SEAWALL_SOURCE", "stdin sim:rate=max,count=10")
        .env("SEAWALL_ACK", "on")
        .env("SEAWALL_COMMIT_INTERVAL", "1h")
        .env("SEAWALL_COMMIT_ROWS", "5")
        .env("SEAWALL_COMIT_ROWS", "7")
        .env("SEAWALL_STOP_TIMEOUT", "100")
        .args(["--stop-timeout", "5s"]);
    let mut running = Running::spawn(&mut command);
    running.wait_for("ready");
    let warning = running.wait_for("unknown-variable");
    assert!(
        warning.contains("level=warn") && warning.contains("SEAWALL_COMIT_ROWS"),
        "{warning}"
    );
    running.send(&lines(0..5));
    running.wait_for_ack(5);
    let (last, ended) = stop(&db, running);
    assert_eq!(last.committed, 15);
    assert_eq!(
        events(&ended.log, "unknown-variable").len(),
        1,
        "{:#?}",
        ended.log
    );
}

/// `docker --env-file` keeps quotes, a file from Windows its carriage returns.
#[test]
fn a_path_that_a_file_of_variables_has_spoilt_is_warned_of() {
    let dir = Dir::new("environment");
    for (name, reason) in [
        ("\"x.db\"", "in quotes"),
        ("x.db\r", "a carriage return at its end"),
        ("x.db ", "white space at its end"),
        ("~/x.db", "begins with ~"),
        ("x.db", ""),
    ] {
        let mut command = Command::new(BINARY);
        command.env("SEAWALL_DB", name).current_dir(dir.path());
        let ended = Running::spawn(command.arg("--source=sim:count=1")).wait();
        assert_eq!(ended.code(), 0, "{name:?}: {:#?}", ended.log);
        let told = events(&ended.log, "doubtful-path");
        assert_eq!(told.len(), usize::from(!reason.is_empty()), "{name:?}");
        assert!(
            told.iter().all(|told| told["reason"].contains(reason)),
            "{told:?}"
        );
        assert!(dir.file(name).exists(), "{name:?}");
    }
}

#[test]
fn a_variable_that_does_not_parse_is_a_usage_error_that_names_it() {
    let dir = Dir::new("usage");
    let db = dir.file("usage.db");
    let mut command = Command::new(BINARY);
    command
        .env("SEAWALL_COMMIT_ROWS", "many")
        .args(["record", "--db", text(&db)]);
    let ended = Running::spawn(&mut command).wait();
    assert_eq!(ended.code(), 2);
    assert!(ended.has("SEAWALL_COMMIT_ROWS"), "{:?}", ended.log);
    assert!(!db.exists());
}

//! The log: its levels, and its form.

use crate::support::recording::*;
use crate::support::stop::*;
use crate::support::*;

#[test]
fn the_log_level_keeps_out_what_is_below_it_but_never_the_last_line() {
    let mut lengths = Vec::new();
    for (level, kept) in [
        ("error", &["error"][..]),
        ("warn", &["error", "warn"]),
        ("info", &["error", "warn", "info"]),
        ("debug", &["error", "warn", "info", "debug"]),
    ] {
        let dir = Dir::new("level");
        let db = dir.file("level.db");
        let mut running = record_at_once(
            &db,
            &format!("--source stdin --ack --commit-interval 0 --log-level {level}"),
        );
        running.send(b"rejected\nm v=1\n");
        running.wait_for_ack(2);
        let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
        assert_stopped(&db, &ended, 0, "SIGTERM");
        let (_, before) = ended.log.split_last().unwrap();
        for line in before {
            assert!(kept.contains(&&*fields(line)["level"]), "{level}: {line}");
        }
        assert_eq!(ended.has(" event=rejected "), level != "error");
        assert_eq!(
            ended.has(" event=ready "),
            level == "info" || level == "debug"
        );
        lengths.push(before.len());
    }
    assert!(lengths.is_sorted(), "{lengths:?}");
}

#[test]
fn no_rejected_line_is_unsaid_at_the_end() {
    let dir = Dir::new("held-back");
    let db = dir.file("x.db");
    let mut running = record(&db, "--source stdin --ack --commit-interval 0");
    running.send("rejected\n".repeat(50).as_bytes());
    running.wait_for_ack(50);
    let (_, ended) = stop(&db, running);
    let told = |line: &String| {
        let of = fields(line);
        let number = |key| {
            of.get(key)
                .map_or(0, |n: &String| n.parse::<u64>().unwrap())
        };
        match &*of["event"] {
            "rejected" => 1 + number("lines_held_back"),
            "lines-held-back" => number("lines"),
            _ => 0,
        }
    };
    assert_eq!(ended.log.iter().map(told).sum::<u64>(), 50);
}

#[test]
fn every_log_line_is_logfmt() {
    let dir = Dir::new("logfmt");
    let db = dir.file("a \"quoted\" name.db");
    let mut running = record(&db, "--source stdin --ack");
    running.send(b"rejected \x1b[2J \xff\nm v=1\n");
    running.wait_for_ack(2);
    running.signal(libc::SIGUSR1);
    running.wait_for("checkpoint");
    let (_, ended) = stop(&db, running);
    for line in &ended.log {
        assert!(
            line.starts_with("ts=20") && line.contains("Z level="),
            "{line}"
        );
        assert!(line.chars().all(|c| !c.is_control()), "{line:?}");
        let ts = &fields(line)["ts"];
        assert!(ts.len() == 24 && ts.ends_with('Z'), "{ts}");
    }
    assert_eq!(fields(&ended.log[0])["db"].replace("\\\"", "\""), text(&db));
}

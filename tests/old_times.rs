//! Guards against readings that are taken for decades old, or go soon, without a word: seconds sent to a source of
//! nanoseconds, a sender whose clock was never set.

use std::net::UdpSocket;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::client::*;
use crate::support::*;

const S: i64 = 1_000_000_000;

fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs() as i64
}

fn warned(lines: &str, more: &[&str]) -> Vec<String> {
    let dir = Dir::new("old-times");
    let db = dir.file("x.db");
    let mut recorder = start_stdin(&db, more);
    recorder.send(lines.as_bytes());
    recorder.close_stdin();
    let ended = recorder.wait();
    assert_eq!(ended.code(), 0);
    assert_eq!(count(&db) as usize, lines.lines().count());
    let log = ended.log.iter();
    log.filter(|line| line.contains("event=old-times"))
        .cloned()
        .collect()
}

#[test]
fn a_time_of_1970_is_told_with_the_precision_that_fits() {
    let now = now_s();
    for (time, fits) in [(now, "s"), (now * 1_000, "ms"), (now * 1_000_000, "us")] {
        let told = warned(
            &format!("m,at=a v=1 {time}\nm v=1 {time}\n").repeat(50),
            &[],
        );
        assert_eq!(told.len(), 1, "{told:?}");
        let expected = format!(
            "times of 1970: they fit precision={fits}, give --source stdin:precision={fits}, or send ns"
        );
        assert!(told[0].contains(&expected), "{told:?}");
        assert!(
            told[0].contains("source=stdin sensor=\"m,at=a\" time=1970-01-"),
            "{told:?}"
        );
    }
    let told = warned("m v=1 5\n", &[]);
    assert!(told[0].contains("set the clock of the sender"), "{told:?}");
    assert_eq!(
        warned(&format!("m v=1\nm v=1 {}\n", (now - 86_400 * 900) * S), &[]),
        [""; 0]
    );
}

#[test]
fn a_time_that_is_older_than_retain_is_told_and_the_reading_stays_for_now() {
    let old = (now_s() - 7_200) * S;
    let told = warned(&format!("m v=1 {old}\n"), &["--retain=1h"]);
    assert!(told[0].contains("it is older than --retain"), "{told:?}");
    let young = (now_s() - 1_800) * S;
    assert_eq!(
        warned(&format!("m v=1 {young}\n"), &["--retain=1h"]),
        [""; 0]
    );
}

#[test]
fn each_source_is_told_once() {
    let s = Listening::start("old-sources", &["--source=udp:127.0.0.1:0"]);
    for _ in 0..2 {
        s.unix().send("m v=1 5\n").until_ack(1);
        s.tcp().send("m v=1 5\n").until_ack(1);
    }
    let log = s.seawall.log();
    let udp = log.iter().find(|line| line.contains("source=udp"));
    let address = fields(udp.unwrap())["address"].clone();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 1..=2 {
        sender.send_to(b"u v=1 5", &address).unwrap();
        until("the datagram is recorded", || {
            let recorded = sql(
                &s.db,
                "SELECT count(*) FROM sensor_readings WHERE sensor = 'u'",
            );
            (recorded == n.to_string()).then_some(())
        });
    }
    let log = s.seawall.log();
    for source in ["unix:", "tcp:", "udp:"] {
        let of = |line: &&String| line.contains(&format!("event=old-times source={source}"));
        assert_eq!(log.iter().filter(of).count(), 1, "{source} {log:#?}");
    }
    s.seawall.stop(libc::SIGTERM);
}

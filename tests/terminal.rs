//! A terminal: one line that shows how the recording goes, and none where there is no terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::thread;

use crate::support::stop::*;
use crate::support::terminal::*;
use crate::support::*;

#[test]
fn on_a_terminal_one_line_shows_how_the_recording_goes() {
    for columns in [200, 40] {
        let dir = Dir::new("terminal");
        let db = dir.file("terminal.db");
        let (mut master, slave) = terminal(columns);
        let options = "--source stdin --source sim:rate=1000 --commit-interval 50ms";
        let streams = [Stdio::piped(), Stdio::piped(), slave.into()];
        let running = Running::on(&db, options, streams);
        // The other end of a terminal that is closed gives an error in place of an end.
        let (sender, shown) = std::sync::mpsc::channel();
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n) = master.read(&mut bytes) {
                if n == 0 || sender.send(bytes[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut all = Vec::new();
        let mut show = |what: &str, condition: &dyn Fn(&str) -> bool| {
            until(what, || {
                all.extend(shown.try_iter().flatten());
                condition(&String::from_utf8_lossy(&all)).then_some(())
            });
            String::from_utf8_lossy(&all).into_owned()
        };
        let drawn = |text: &str| text.matches("\r\x1b[K").count();
        show("the line is drawn again and again", &|text| drawn(text) > 6);
        let ended = running.stop_within(libc::SIGTERM, STOP_TIMEOUT);
        assert_eq!(ended.code(), 0);
        let text = show("the last line", &|text| {
            text.contains(" event=stopped ") && text.ends_with('\n')
        });
        reader.join().unwrap();

        // What a person sees: each line as it was last drawn.
        let clean: Vec<&str> = text
            .trim_end()
            .split('\n')
            .map(|line| {
                line.trim_end_matches('\r')
                    .rsplit("\r\x1b[K")
                    .next()
                    .unwrap()
            })
            .collect();
        let last = clean.last().unwrap();
        assert!(
            last.starts_with("ts=") && last.contains(" event=stopped reason=SIGTERM "),
            "{clean:#?}"
        );
        let lines: Vec<&str> = text
            .split("\r\x1b[K")
            .map(|s| s.split(['\r', '\n']).next().unwrap())
            .collect();
        let status = |line: &&&str| line.contains("readings") && !line.starts_with("ts=");
        assert!(lines.iter().filter(status).count() > 3, "{text:?}");
        assert!(
            lines
                .iter()
                .filter(status)
                .all(|line| line.len() < columns.into()),
            "{text:?}"
        );
        // No number is cut.
        let unit = |part: &str| {
            ["readings", "/s", "waiting", "iB", " B", "ago", "yet"]
                .iter()
                .any(|end| part.ends_with(end))
        };
        assert!(
            lines
                .iter()
                .filter(status)
                .all(|line| line.split("  ").all(unit)),
            "{lines:#?}"
        );
        if columns == 200 {
            let whole = lines.iter().rfind(status).unwrap();
            for part in ["readings", "/s", "WAL", "checkpoint"] {
                assert!(whole.contains(part), "{part} in {whole:?}");
            }
        }
        assert_one_file(&db);
        assert_sound(&db);
    }
}

/// What a terminal shows, until its last line.
fn shown_at_the_end(mut master: File) -> String {
    let mut shown = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = master.read(&mut bytes) {
        shown.extend(&bytes[..n]);
    }
    String::from_utf8_lossy(&shown).into_owned()
}

#[test]
fn typed_lines_and_acks_are_never_mixed_with_a_status_line() {
    let dir = Dir::new("typed");
    let db = dir.file("typed.db");
    let (mut master, slave) = terminal(80);
    let again = || slave.try_clone().unwrap().into();
    let options = "--source stdin --commit-interval 0";
    let running = Running::on(&db, options, [again(), Stdio::piped(), again()]);
    master.write_all(b"temp v=1\n\x04").unwrap();
    let (ended, _) = running.wait_timed();
    drop(slave);
    let shown = shown_at_the_end(master);
    assert_eq!(ended.code(), 0, "{shown}");
    assert_eq!(count(&db), 1, "{shown}");
    let advice = shown.matches("type line protocol, Ctrl-D ends").count();
    assert!(advice == 1 && !shown.contains('\x1b'), "{shown:?}");

    // Acks on the same terminal as the log.
    let (master, slave) = terminal(80);
    let again = || slave.try_clone().unwrap().into();
    let options = "--source stdin --ack --commit-interval 0";
    let mut running = Running::on(&db, options, [Stdio::piped(), again(), again()]);
    running.send(b"temp v=2\n");
    running.close_stdin();
    let (ended, _) = running.wait_timed();
    drop(slave);
    let shown = shown_at_the_end(master);
    assert_eq!(ended.code(), 0, "{shown}");
    let is_acked = shown.contains("\nack 1\r\n");
    assert!(is_acked && !shown.contains('\x1b'), "{shown:?}");
}

#[test]
fn without_a_terminal_there_is_no_status_line() {
    let dir = Dir::new("piped");
    let db = dir.file("piped.db");
    let ended = record_at_once(&db, "--source sim:sensors=1,rate=100,count=120").wait();
    assert_stopped(&db, &ended, 0, "eof");
    assert!(
        ended.log.iter().all(|line| line.starts_with("ts=")),
        "{:#?}",
        ended.log
    );
    assert!(
        ended.log.iter().all(|line| !line.contains(['\r', '\x1b'])),
        "{:#?}",
        ended.log
    );
}

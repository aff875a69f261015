//! Guards against senders that lose readings by how they send, without a word in the log.

use std::io::Write;
use std::net::TcpStream;
use std::process::Stdio;

use crate::support::terminal::terminal;
use crate::support::*;

fn events(run: &Running, event: &str) -> usize {
    let wanted = format!(" event={event} ");
    run.log().iter().filter(|l| l.contains(&wanted)).count()
}

#[test]
fn lines_that_end_with_a_carriage_return_alone_are_told_of() {
    let dir = Dir::new("returns");
    let db = dir.file("x.db");
    let mut run = start_stdin(&db, &[]);
    run.wait_for("ready");
    // Windows line ends that are cut in their middle, and returns within a text, are none.
    run.send(b"m a=1\r");
    run.send(b"\nm t=\"a\rb");
    run.send(b"\"\nm a=2\n");
    until("three are recorded", || (run.acked() == 3).then_some(()));
    assert_eq!(events(&run, "no-newline"), 0);
    run.send(b"m a=3\rm a=4\r");
    let told = run.wait_for("no-newline");
    assert_eq!(
        (fields(&told)["client"].as_str(), run.acked()),
        ("stdin", 3)
    );
    run.send(b"m a=5\rm a=6\r");
    assert_eq!(run.stop(libc::SIGTERM).code(), 0);
}

/// A close with acks that were not read is a reset, and the kernel throws away what it had not handed over.
#[test]
fn a_client_that_closes_before_it_read_its_acks_is_told_of() {
    let dir = Dir::new("reset");
    let db = dir.file("x.db");
    let run = start(&db, &["--source=tcp:127.0.0.1:0", "--commit-interval=0"]);
    let address = fields(&run.wait_for("listening"))["address"].clone();
    run.wait_for("ready");
    let mut reads = TcpStream::connect(&address).unwrap();
    reads.write_all(b"m v=1\n").unwrap();
    let mut ack = [0; 6];
    std::io::Read::read_exact(&mut reads, &mut ack).unwrap();
    assert_eq!(&ack, b"ack 1\n");
    drop(reads);
    let mut deaf = TcpStream::connect(&address).unwrap();
    deaf.write_all(b"m v=2\n").unwrap();
    until("its ack has come", || {
        (deaf.peek(&mut ack).unwrap() == 6).then_some(())
    });
    drop(deaf);
    let told = run.wait_for("connection-reset");
    assert!(told.contains("has to read its acks"), "{told}");
    assert_eq!(events(&run, "connection-reset"), 1);
    assert_eq!(run.stop(libc::SIGTERM).code(), 0);
    assert_eq!(count(&db), 2);
}

/// Of `m v=123` a serial line that hangs up, or a hand at a keyboard, may have sent `m v=12`.
#[test]
fn on_a_terminal_a_line_without_its_newline_is_not_recorded() {
    let dir = Dir::new("typed");
    let db = dir.file("x.db");
    let (mut master, slave) = terminal(80);
    let streams = [slave.into(), Stdio::piped(), Stdio::piped()];
    let run = Running::on(&db, "--source stdin", streams);
    // The end of the input, twice: the first hands over what has no newline.
    master.write_all(b"m v=1\nm v=12\x04\x04").unwrap();
    let ended = run.wait();
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    let last = ended.stopped();
    assert_eq!((&*last["committed"], &*last["rejected"]), ("1", "1"));
}

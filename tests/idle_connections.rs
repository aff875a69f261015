//! Idle connections: they keep their places while there are others, and lose them to those who come when there
//! are none.

use std::thread;
use std::time::Duration;

use crate::support::client::{Listening, PLACES, few_descriptors};

/// As `docs/clients.md` says.
const IDLE_MIN: Duration = Duration::from_secs(10);

#[test]
fn a_new_connection_gets_the_place_of_the_one_that_is_idle_longest() {
    let s = Listening::start_by("idle", &[], &mut few_descriptors);
    let mut first = s.tcp();
    first.send("m v=1\n").until_ack(1);
    // A line that is not whole is not idle, however old it is.
    let mut unfinished = s.unix();
    unfinished.send("m v=2\nm v");
    unfinished.until_ack(1);
    let mut others: Vec<_> = (2..PLACES).map(|_| s.unix()).collect();
    for client in &mut others {
        client.send("m v=3\n").until_ack(1);
    }
    assert_eq!(s.tcp().rest(), ["err 0 there are 10 connections already"]);
    thread::sleep(IDLE_MIN + Duration::from_millis(200)); // the pause is the test
    let mut new = s.tcp();
    new.send("m v=4\n").until_ack(1);
    let heard = first.rest();
    let [why] = heard.as_slice() else {
        panic!("{heard:?}")
    };
    assert!(why.starts_with("err 0 idle for 10 s"), "{why}");
    unfinished.send("=5\n").until_ack(2);
    for client in &mut others {
        client.send("m v=6\n").until_ack(2);
    }
    // All have sent something since.
    assert_eq!(s.tcp().rest(), ["err 0 there are 10 connections already"]);
    let ended = s.stop().1;
    assert!(ended.has("event=client-closed-idle"), "{:#?}", ended.log);
    assert_eq!(ended.code(), 0);
}

//! HTTP in the image, in 6 MB: guards against a container that is killed for the memory that its clients take.

use std::path::Path;
use std::thread;

use crate::support::client::connect;
use crate::support::docker::*;
use crate::support::http::{gzip, write_to};
use crate::support::stop::*;

const CLIENTS: u64 = 24;
const REQUESTS: u64 = 10;
const LINES: u64 = 500;

/// Sends a request, and waits until it is answered with 204.
fn send(socket: &Path, requests: &[Vec<u8>]) {
    let mut client = connect(socket);
    for request in requests {
        client.send(request);
        let status = client.answer().expect("an answer");
        assert!(status.starts_with("HTTP/1.1 204 "), "{status}");
        while client.answer().expect("a header") != "\r" {}
    }
}

#[test]
fn more_clients_than_can_be_inflated_at_once_fit_into_6_mb() {
    if !can_run() {
        return;
    }
    let data = Data::new("http-memory");
    let args = "--source http:unix:/app/data/s,mode=0666 --http-wait 60s";
    let container = Container::start(&data.mount(), args);
    container.wait_for("ready", 1);
    let socket = data.0.file("data/s");
    let senders: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let socket = socket.clone();
            thread::spawn(move || {
                let request = |n: u64| {
                    let times = n * LINES..(n + 1) * LINES;
                    let line =
                        |time| format!("m,client=number-{client} v={time},w={client}.5 {time}\n");
                    let lines: String = times.map(line).collect();
                    write_to(
                        "/write",
                        "Content-Encoding: gzip\r\n",
                        gzip(lines.as_bytes()),
                    )
                };
                let requests: Vec<_> = (0..REQUESTS).map(request).collect();
                send(&socket, &requests);
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    container.docker("stop");
    let ended = container.ended();
    assert_eq!(container.inspect("{{.State.OOMKilled}}"), "false");
    let last = assert_stopped(&data.db(), &ended, 0, "SIGTERM");
    assert_eq!(last.committed, 2 * CLIENTS * REQUESTS * LINES, "{last:?}");
}

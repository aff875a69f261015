//! Guards against what breaks a replicator that reads the `-wal`, such as Litestream: it wants WAL mode, no
//! checkpoint but its own, and holds a read transaction open nearly all the time so that nobody starts the
//! `-wal` again. A recorder that checkpoints all the same makes it take a new snapshot; one that waits for
//! the reader at its stop is killed by its supervisor. Litestream itself cannot be had here: another process
//! does what its documentation says that it does.

use crate::support::stop::*;
use crate::support::*;

const READER: &str = "BEGIN; SELECT count(*) FROM readings";
const LEFT_TO_IT: &str =
    "--source sim:rate=100 --commit-interval 10ms --checkpoint-interval 0 --wal-autocheckpoint 0";

#[test]
fn recording_goes_on_a_stop_is_in_time_and_the_next_start_is_clean() {
    let dir = Dir::new("litestream");
    let db = dir.file("x.db");
    let recorder = record(&db, LEFT_TO_IT);
    let mut reader = Holder::start(&db, READER);
    let wal_bytes = || std::fs::metadata(beside(&db, "-wal")).map_or(0, |wal| wal.len());
    let mut grown = wal_bytes();
    // A transaction follows on the other, and in between the replicator makes its own checkpoint.
    for _ in 0..3 {
        let rows = count(&db);
        until("recording goes on", || {
            (count(&db) > rows + 200).then_some(())
        });
        let (code, out, err) = seawall(&["checkpoint", "--db", text(&db)]);
        assert!(code == 0 || code == 3, "{out}{err}");
        let next = Holder::start(&db, READER);
        reader.release();
        reader = next;
        assert!(wal_bytes() > grown, "the -wal was started again");
        grown = wal_bytes();
    }
    let recorded = count(&db);
    let ended = recorder.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    let last = assert_stopped(&db, &ended, 3, "SIGTERM");
    assert_frames_remain(&db, &last);
    let checkpoints = ended
        .log
        .iter()
        .filter(|line| line.contains(" event=checkpoint "));
    assert_eq!(
        checkpoints.count(),
        1,
        "only that of the stop: {:#?}",
        ended.log
    );
    assert!(count(&db) >= recorded);

    // The replicator is still there at the next start, and goes before the next stop.
    let recorder = record(&db, LEFT_TO_IT);
    let rows = count(&db);
    until("recording goes on", || (count(&db) > rows).then_some(()));
    reader.release();
    let ended = recorder.stop_within(libc::SIGTERM, STOP_TIMEOUT);
    assert_stopped(&db, &ended, 0, "SIGTERM");
    assert_one_file(&db);
    let (code, out, _) = seawall(&["check", "--db", text(&db)]);
    assert!(code == 0 && out.ends_with("runs=2 unclean=0\n"), "{out}");
}

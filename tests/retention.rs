//! Guards against a disk that fills up although `--retain` or `--max-size` was given, and against
//! retention that takes what it should not: readings that are young, a sample that finds no room, the
//! numbering, the truth of the ledger.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use seawall::cli::{self, Invocation};
use seawall::reading::{Batch, Kind, Series, Value};
use seawall::record::expiry::{Retention, SizeLimit};
use seawall::store::Durability;

use crate::support::client::connect;
use crate::support::store;
use crate::support::{Dir, PAGE_BYTES, Running, assert_sound, python, seawall, sql, until};

const MIB: u64 = 1024 * 1024;
const S: i64 = 1_000_000_000;

fn now_ns() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos() as i64
}

/// Lines whose times are `step_ns` apart, the first at `start_ns`.
fn lines(start_ns: i64, step_ns: i64, n: i64) -> String {
    (0..n)
        .map(|i| format!("m,room={} v={i} {}\n", i % 4, start_ns + i * step_ns))
        .collect()
}

/// As `lines`, with texts, of which fewer fill a file.
fn long_lines(n: i64) -> String {
    let text = "x".repeat(200);
    (0..n)
        .map(|i| format!("m,room={} v=\"{text}\" {}\n", i % 4, S + i))
        .collect()
}

fn start(db: &Path, more: &[&str]) -> Running {
    let fixed = ["record", "--db", db.to_str().unwrap(), "--ack"];
    Running::start(&[&fixed, more].concat())
}

fn from_stdin(db: &Path, more: &[&str]) -> Running {
    start(
        db,
        &[&["--source=stdin", "--commit-interval=0"], more].concat(),
    )
}

/// Commits all of so many readings at once, so that the spans begin where the test expects.
fn at_once(db: &Path, readings: i64) -> Running {
    let rows = format!("--commit-rows={readings}");
    start(
        db,
        &[
            "--source=stdin",
            "--commit-interval=1h",
            &rows,
            "--retain=1h",
        ],
    )
}

fn until_acked(recorder: &Running, n: u64) {
    until("all is acked", || (recorder.acked() >= n).then_some(()));
}

fn stop(recorder: Running) {
    let ended = recorder.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
}

fn number(db: &Path, query: &str) -> i64 {
    sql(db, query).parse().unwrap()
}

/// As if recorders had run for a day more since.
fn a_day_later(db: &Path) {
    // A start gives the readings after the last span one of their own.
    let recorder = from_stdin(db, &["--retain=36600d"]);
    until("every reading is in a span", || {
        let newest = "SELECT (SELECT max(id) FROM readings) IS (SELECT max(last_id) FROM spans)";
        (number(db, newest) == 1).then_some(())
    });
    stop(recorder);
    sql(db, "UPDATE runs SET running_s = running_s + 86400");
}

fn is_counted_right(db: &Path) {
    let counted = sql(
        db,
        "SELECT (SELECT count(*) FROM sensor_readings) = sum(committed) - sum(expired) FROM runs",
    );
    assert_eq!(counted, "1");
    assert_sound(db);
}

/// Bytes of a database and its -wal.
fn size(db: &Path) -> u64 {
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
    bytes(db) + bytes(&db.with_extension("db-wal"))
}

/// Looks at the size all the time; gives the greatest seen.
fn watching(db: &Path, mut work: impl FnMut()) -> u64 {
    let greatest = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (db, greatest, over) = (db.to_owned(), greatest.clone(), over.clone());
        thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                greatest.fetch_max(size(&db), Ordering::SeqCst);
                thread::sleep(Duration::from_millis(1)); // the pause is the test
            }
        })
    };
    work();
    over.store(true, Ordering::SeqCst);
    watcher.join().unwrap();
    greatest.load(Ordering::SeqCst)
}

#[test]
fn at_full_rate_the_file_stays_within_its_size_for_days() {
    let dir = Dir::new("max-size");
    let db = dir.file("x.db");
    // Two readings a second for 8.7 days, which fill the file twice over.
    const READINGS: i64 = 1_500_000;
    let lines = lines(1_700_000_000 * S, S / 2, READINGS);
    let greatest = watching(&db, || {
        let mut recorder = start(&db, &["--source=stdin", "--max-size=32MiB"]);
        recorder.send(lines.as_bytes());
        recorder.close_stdin();
        assert_eq!(recorder.wait().code(), 0);
    });
    println!("{greatest} bytes at most");
    assert!(greatest <= 32 * MIB, "{greatest}");
    let left = number(&db, "SELECT count(*) FROM readings");
    // It is not kept small by throwing more away than there is need for.
    assert!(left > 500_000, "{left}");
    assert_eq!(number(&db, "SELECT max(id) FROM readings"), READINGS);
    is_counted_right(&db);
}

/// Somebody may have made the file anew with pages of another size, which all sums of bytes stand on.
#[test]
fn a_file_of_other_pages_stays_within_its_size_too() {
    let dir = Dir::new("max-size-pages");
    let db = dir.file("x.db");
    let limit = ["--source=stdin", "--max-size=16MiB"];
    let mut recorder = start(&db, &limit);
    recorder.send(lines(S, 1, 1000).as_bytes());
    recorder.close_stdin();
    assert_eq!(recorder.wait().code(), 0);
    let anew = dir.file("anew.db");
    let script =
        format!("c.execute('PRAGMA page_size = 16384')\nc.execute('VACUUM INTO ?', [{anew:?}])");
    python(&db, &script);
    assert_eq!(sql(&anew, "PRAGMA page_size"), "16384");
    let greatest = watching(&anew, || {
        let mut recorder = start(&anew, &limit);
        recorder.send(lines(S, 1, 1_000_000).as_bytes());
        recorder.close_stdin();
        assert_eq!(recorder.wait().code(), 0);
    });
    println!("{greatest} bytes at most");
    assert!(greatest <= 16 * MIB, "{greatest}");
    assert!(number(&anew, "SELECT sum(expired) FROM runs") > 0);
    is_counted_right(&anew);
}

/// Names stay when readings go: no going of readings would bring such a file under its limit.
#[test]
fn where_names_fill_the_file_it_is_told_and_readings_keep_a_part_of_it() {
    for length in [120, 400] {
        let dir = Dir::new("max-size-names");
        let db = dir.file("x.db");
        let name = "x".repeat(length);
        let lines: String = (0..60_000 * 120 / length)
            .map(|n| format!("m,c={name}{n} v={n} {n}\n"))
            .collect();
        let mut recorder = start(&db, &["--source=stdin", "--max-size=16MiB"]);
        recorder.send(lines.as_bytes());
        recorder.close_stdin();
        let ended = recorder.wait();
        assert_eq!(ended.code(), 0);
        assert!(ended.has("event=over-max-size bytes="), "{:#?}", ended.log);
        for n in 1..4 {
            let mut recorder = from_stdin(&db, &["--max-size=16MiB"]);
            recorder.wait_for("over-max-size");
            recorder.send(b"m,c=1 v=1 1\n");
            recorder.close_stdin();
            let ended = recorder.wait();
            assert_eq!(ended.code(), 0);
            let kept = "SELECT count(*) FROM sensor_readings WHERE sensor = 'm,c=1' AND run > 1";
            assert_eq!(number(&db, kept), n);
        }
        assert!(number(&db, "SELECT count(*) FROM readings") > 1000);
        is_counted_right(&db);
    }
}

#[test]
fn texts_of_any_length_stay_within_the_size() {
    let dir = Dir::new("max-size-texts");
    let db = dir.file("x.db");
    let greatest = watching(&db, || {
        let mut recorder = start(&db, &["--source=stdin", "--max-size=32MiB"]);
        for n in 0..4_000 {
            let text = "x".repeat(n * 7_919 % 20_000);
            recorder.send(format!("m t=\"{text}\" {n}\nm v=1 {n}\n").as_bytes());
        }
        recorder.close_stdin();
        assert_eq!(recorder.wait().code(), 0);
    });
    println!("{greatest} bytes at most");
    assert!(greatest <= 32 * MIB, "{greatest}");
    is_counted_right(&db);
}

#[test]
fn sampled_sources_lose_nothing_while_readings_go() {
    let dir = Dir::new("max-size-sampled");
    let db = dir.file("x.db");
    let full = long_lines(110_000);
    let mut recorder = start(&db, &["--source=stdin", "--max-size=32MiB"]);
    recorder.send(full.as_bytes());
    recorder.close_stdin();
    assert_eq!(recorder.wait().code(), 0);
    let before = number(&db, "SELECT sum(expired) FROM runs");
    let recorder = start(
        &db,
        &["--source=sim:sensors=20,rate=200", "--max-size=32MiB"],
    );
    recorder.wait_for("expired");
    until("readings go", || {
        (number(&db, "SELECT sum(expired) FROM runs") > before + 10_000).then_some(())
    });
    let ended = recorder.stop(libc::SIGTERM);
    assert_eq!(ended.stopped()["dropped"], "0");
    assert!(!ended.has("event=missed"), "{:#?}", ended.log);
    is_counted_right(&db);
}

#[test]
fn readings_that_are_too_old_go_and_the_others_stay() {
    let dir = Dir::new("retain");
    let db = dir.file("x.db");
    let now = now_ns();
    let mut recorder = from_stdin(&db, &["--retain=2d"]);
    recorder.send(lines(now - 180_000 * S, S / 10, 20_000).as_bytes());
    until_acked(&recorder, 20_000);
    stop(recorder);
    a_day_later(&db);
    let recorder = from_stdin(&db, &["--retain=2d"]);
    // The last of them is two days and more old.
    until("all have gone", || {
        (crate::support::count(&db) == 0).then_some(())
    });
    stop(recorder);
    let mut recorder = at_once(&db, 5_096);
    // A span of too old ones, and one whose readings are not all too old, which stays whole.
    recorder.send(lines(now - 173_500 * S, 1, 4_096).as_bytes());
    recorder.send(lines(now - 173_500 * S, S, 1_000).as_bytes());
    until_acked(&recorder, 5_096);
    stop(recorder);
    a_day_later(&db);
    let recorder = from_stdin(&db, &["--retain=2d"]);
    until("the old span has gone", || {
        (crate::support::count(&db) <= 1_000).then_some(())
    });
    stop(recorder);
    assert_eq!(
        sql(
            &db,
            "SELECT min(id), max(id), (SELECT sum(expired) FROM runs) FROM readings"
        ),
        "24097|25096|24096"
    );
    is_counted_right(&db);
}

#[test]
fn clients_that_were_not_seen_for_as_long_go_with_the_readings() {
    let dir = Dir::new("retain-clients");
    let (db, socket) = (dir.file("x.db"), dir.file("s"));
    let source = format!("--source=unix:{}", socket.display());
    let recorder = start(&db, &[&source, "--commit-interval=0"]);
    recorder.wait_for("ready");
    for name in ["old", "young"] {
        let mut client = connect(&socket);
        client.hello(name);
        client
            .send(lines(now_ns() - 7_200 * S, 1, 10))
            .until_ack(11);
    }
    stop(recorder);
    python(
        &db,
        "c.execute(\"UPDATE clients SET seen_ns = seen_ns - 7200000000000 WHERE name = 'old'\")",
    );
    a_day_later(&db);
    let recorder = start(&db, &[&source, "--commit-interval=0", "--retain=1h"]);
    until("the readings have gone", || {
        (crate::support::count(&db) == 0).then_some(())
    });
    assert_eq!(sql(&db, "SELECT name, lines FROM clients"), "young|10");
    // The one begins again, the other goes on.
    assert_eq!(connect(&socket).hello("old"), 0);
    assert_eq!(connect(&socket).hello("young"), 10);
    stop(recorder);
    is_counted_right(&db);
}

#[test]
fn a_young_reading_keeps_the_older_ones_that_came_after_it() {
    let dir = Dir::new("retain-late");
    let db = dir.file("x.db");
    let now = now_ns();
    let mut recorder = at_once(&db, 3 * 4_096 + 1);
    // The first span is old, the second has a young one in it, the third is old again.
    recorder.send(lines(now - 180_000 * S, 1, 4_096).as_bytes());
    recorder.send(lines(now - 60 * S, S, 1).as_bytes());
    recorder.send(lines(now - 180_000 * S, 1, 2 * 4_096).as_bytes());
    until_acked(&recorder, 3 * 4_096 + 1);
    stop(recorder);
    a_day_later(&db);
    let recorder = from_stdin(&db, &["--retain=2d"]);
    until("the first have gone", || {
        (number(&db, "SELECT min(id) FROM readings") == 4_097).then_some(())
    });
    stop(recorder);
    assert_eq!(crate::support::count(&db), 2 * 4_096 + 1);
    is_counted_right(&db);
}

/// Backfill, a sender without a clock, a clock that is wrong here: all of it was recorded a moment ago.
#[test]
fn what_was_recorded_within_a_day_stays_however_old_its_times_are() {
    let dir = Dir::new("retain-young");
    let db = dir.file("x.db");
    for _ in 0..2 {
        let mut recorder = from_stdin(&db, &["--retain=1s"]);
        recorder.send(lines(S, S, 5_000).as_bytes());
        until_acked(&recorder, 5_000);
        // Long enough for a look at ages.
        thread::sleep(Duration::from_millis(1_500)); // the pause is the test
        stop(recorder);
    }
    assert_eq!(crate::support::count(&db), 10_000);
    is_counted_right(&db);
}

#[test]
fn times_in_the_future_keep_nothing_for_ever() {
    let dir = Dir::new("retain-future");
    let db = dir.file("x.db");
    let mut recorder = from_stdin(&db, &[]);
    recorder.send(lines(4_294_967_296 * S, 1, 100).as_bytes());
    recorder.close_stdin();
    recorder.wait();
    a_day_later(&db);
    let recorder = from_stdin(&db, &["--retain=1d"]);
    until("they have gone", || {
        (crate::support::count(&db) == 0).then_some(())
    });
    stop(recorder);
    let (code, out, _) = seawall(&["show", "--db", db.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("100 were recorded and have gone with --retain or --max-size"),
        "{out}"
    );
    is_counted_right(&db);
}

#[test]
fn a_file_over_its_size_is_not_shortened_and_grows_no_more() {
    let dir = Dir::new("over-size");
    let db = long_file(&dir);
    let before = size(&db);
    assert!(before > 22 * MIB);

    // The oldest readings go, and their pages are used again.
    let mut recorder = from_stdin(&db, &["--max-size=32MiB"]);
    let warning = recorder.wait_for("over-max-size");
    assert!(warning.contains("VACUUM"), "{warning}");
    recorder.send(long_lines(20_000).as_bytes());
    until_acked(&recorder, 20_000);
    let used = "SELECT (page_count - freelist_count) * page_size
        FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
    until("all of the surplus has gone", || {
        (number(&db, used) < 20 * MIB as i64).then_some(())
    });
    stop(recorder);
    assert_eq!(size(&db), before);
    assert_eq!(number(&db, "SELECT max(id) FROM readings"), 130_000);
    is_counted_right(&db);

    // What the warning says to type shrinks it, and then there is no warning.
    sql(&db, "VACUUM");
    assert!(size(&db) < 21 * MIB, "{}", size(&db));
    let recorder = from_stdin(&db, &["--max-size=32MiB"]);
    recorder.wait_for("ready");
    let ended = recorder.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0);
    assert!(!ended.has("over-max-size"), "{:#?}", ended.log);
    is_counted_right(&db);
}

/// A file that is over the least `--max-size`.
fn long_file(dir: &Dir) -> std::path::PathBuf {
    let db = dir.file("long.db");
    let mut recorder = start(&db, &["--source=stdin"]);
    recorder.send(long_lines(110_000).as_bytes());
    recorder.close_stdin();
    assert_eq!(recorder.wait().code(), 0);
    db
}

fn names(dir: &Path) -> Vec<String> {
    let files = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = files
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn damage_that_is_met_while_readings_go_sets_the_file_aside_at_the_start() {
    let dir = Dir::new("over-size-damaged");
    let long = long_file(&dir);
    // At the old end, where readings go.
    let bytes = fs::read(&long).unwrap();
    for (n, flags) in [(160, &["--retain=1h"][..]), (160, &["--max-size=32MiB"])] {
        // A leaf with some rows.
        let is_leaf = |page: &&[u8]| page[0] == 0x0D && page[4] > 1;
        let mut pages = bytes.chunks(PAGE_BYTES).skip(n);
        let at = n + pages.position(|page| is_leaf(&page)).unwrap();
        let folder = dir.file("one");
        fs::create_dir(&folder).unwrap();
        let db = folder.join("x.db");
        fs::copy(&long, &db).unwrap();
        let file = fs::File::options().write(true).open(&db).unwrap();
        file.write_all_at(&[0xA5; PAGE_BYTES], (at * PAGE_BYTES) as u64)
            .unwrap();
        let mut recorder = from_stdin(&db, flags);
        recorder.wait_for("ready");
        assert!(
            recorder
                .log()
                .iter()
                .any(|l| l.contains("database-damaged")),
            "{n} {flags:?} {:#?}",
            recorder.log()
        );
        recorder.send(lines(now_ns(), 1, 10).as_bytes());
        until_acked(&recorder, 10);
        stop(recorder);
        assert_eq!(crate::support::count(&db), 10);
        let names = names(&folder);
        let is_aside = |name: &String| name.starts_with("x.db.damaged-");
        assert!(
            names.len() > 1 && names[1..].iter().all(is_aside),
            "{names:?}"
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn numbering_goes_on_where_everything_has_gone() {
    let dir = Dir::new("all-gone");
    let db = dir.file("x.db");
    let old = now_ns() - 90_000 * S;
    for round in 0..3 {
        let mut recorder = from_stdin(&db, &["--retain=1h"]);
        recorder.send(lines(old, 1, 5_000).as_bytes());
        until_acked(&recorder, 5_000);
        stop(recorder);
        a_day_later(&db);
        let recorder = from_stdin(&db, &["--retain=1h"]);
        until("all have gone", || {
            (crate::support::count(&db) == 0).then_some(())
        });
        if round == 1 {
            recorder.kill();
        } else {
            stop(recorder);
        }
        is_counted_right(&db);
    }
    let mut recorder = from_stdin(&db, &[]);
    recorder.send(b"m v=1\n");
    recorder.close_stdin();
    recorder.wait();
    assert_eq!(sql(&db, "SELECT id, run FROM sensor_readings"), "15001|10");
    is_counted_right(&db);
}

#[test]
fn a_kill_while_readings_go_leaves_the_ledger_true() {
    let dir = Dir::new("retention-kills");
    let db = dir.file("x.db");
    let mut rng = fastrand::Rng::with_seed(7);
    let old = now_ns() - 90_000 * S;
    let mut acked = 0;
    for _ in 0..12 {
        let mut recorder = from_stdin(&db, &["--retain=1h", "--max-size=32MiB"]);
        let lines = lines(old, 1, 60_000);
        let wanted = rng.u64(1..60_000);
        let mut stdin = recorder.stdin.take().unwrap();
        let sender = thread::spawn(move || {
            // The recorder is killed in the middle of it, or waits for more.
            let _ = std::io::Write::write_all(&mut stdin, lines.as_bytes());
            stdin
        });
        until_acked(&recorder, wanted);
        acked += recorder.kill().acked();
        drop(sender.join().unwrap());
        is_counted_right(&db);
        // So that the next run has something to drop.
        a_day_later(&db);
        let committed = number(&db, "SELECT sum(committed) FROM runs");
        assert!(committed as u64 >= acked);
    }
    assert!(number(&db, "SELECT sum(expired) FROM runs") > 0);
}

#[test]
fn check_finds_what_retention_could_not_have_taken() {
    let dir = Dir::new("retention-check");
    let db = dir.file("x.db");
    for _ in 0..2 {
        let mut recorder = from_stdin(&db, &[]);
        recorder.send(lines(S, S, 10).as_bytes());
        recorder.close_stdin();
        assert_eq!(recorder.wait().code(), 0);
    }
    for breaks in [
        // From the new end, and from the middle, as if they had been dropped.
        "DELETE FROM readings WHERE id > 15; UPDATE runs SET expired = 5, tail_fingerprint = 0 WHERE id = 2",
        "DELETE FROM readings WHERE id BETWEEN 11 AND 12; UPDATE runs SET expired = 2 WHERE id = 2",
        "DELETE FROM readings WHERE id > 10; UPDATE runs SET expired = 10, tail_fingerprint = 0 WHERE id = 2",
        "UPDATE runs SET expired = 11 WHERE id = 2",
        "UPDATE runs SET expired = -1 WHERE id = 1",
        // Dropped, and not counted.
        "DELETE FROM readings WHERE id = 1",
    ] {
        let copy = dir.file("broken.db");
        fs::copy(&db, &copy).unwrap();
        for statement in breaks.split(';') {
            sql(&copy, statement);
        }
        let (code, out, _) = seawall(&["check", "--db", copy.to_str().unwrap()]);
        assert_eq!(code, 1, "{breaks}: {out}");
    }
}

/// Commits that come faster than the steps between them drop readings.
#[test]
fn commits_that_may_not_fit_into_an_empty_file_do_not_make_it_grow_for_ever() {
    let arguments = ["record", "--max-size=16MiB"].map(Into::into);
    let parsed = cli::parse(arguments.into_iter(), &|_| None);
    let Ok(Invocation::Record(settings)) = parsed else {
        panic!("{parsed:?}")
    };
    let limit = SizeLimit::of(&settings, PAGE_BYTES as u64).unwrap();
    let dir = Dir::new("grows");
    let mut db = store::open(&store::empty(&dir));
    let mut retention = Retention::new(None, Some(limit));
    retention.begin(&mut db).unwrap();
    // More than half a page.
    let text = "x".repeat(520);
    for _ in 0..4 {
        let mut batch = Batch::default();
        let kind = Kind::String;
        let field = store::series("f");
        batch.define(0, Series { kind, ..field });
        for n in 0..60_000 {
            let is_text = n % 30 == 0;
            let number = Value::Integer(n);
            batch.push(n, 0, if is_text { Value::Text(&text) } else { number });
        }
        while let Err(e) = db.commit(&batch, Durability::Normal) {
            assert!(e.is_full(), "{e}");
            assert!(retention.make_room(&mut db, &batch).unwrap());
        }
        retention.committed(&mut db).unwrap();
        assert!(db.pages().unwrap().all <= limit.pages_max);
    }
}

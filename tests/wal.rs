//! Guards against a loss that nobody hears of: SQLite takes a database whose -wal was deleted or damaged for
//! a whole one, and replays a -wal that is another's. And against crying wolf: whoever opens a database after
//! a kill and closes it again brings all of the -wal in and deletes it, and nothing is lost.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Dir, Ended, PAGE_BYTES, Running, count, fields, python, seawall, sql, until};

/// Starts on stdin, where each line is committed by itself and its ack waited for.
struct Recorder {
    running: Running,
    sent: u64,
}

impl Recorder {
    fn start(db: &Path, more: &[&str]) -> Self {
        let mut args = vec![
            "--db",
            db.to_str().unwrap(),
            "--source",
            "stdin",
            "--ack",
            "--commit-interval",
            "0",
        ];
        args.extend(more);
        let running = Running::start(&args);
        running.wait_for("ready");
        Recorder { running, sent: 0 }
    }

    fn record(&mut self, lines: u64) {
        for _ in 0..lines {
            self.sent += 1;
            let line = format!("m v={}\n", self.sent);
            self.running.send(line.as_bytes());
            let sent = self.sent;
            until("the line is acknowledged", || {
                (self.running.acked() == sent).then_some(())
            });
        }
    }

    fn checkpoint(&self) {
        let told = |r: &Running| {
            r.log()
                .iter()
                .filter(|l| l.contains("cause=signal"))
                .count()
        };
        let before = told(&self.running);
        self.running.signal(libc::SIGUSR1);
        until("it is checkpointed", || {
            (told(&self.running) > before).then_some(())
        });
    }

    fn kill(self) {
        self.running.kill();
    }
}

/// A database whose recorder was killed after `lines` lines, of which the last three are in the -wal alone.
fn killed(dir: &Dir, lines: u64) -> PathBuf {
    let db = dir.file("x.db");
    let mut recorder = Recorder::start(&db, &[]);
    recorder.record(lines - 3);
    recorder.checkpoint();
    recorder.record(3);
    recorder.kill();
    db
}

fn beside(db: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", db.display()))
}

fn remove(db: &Path, end: &str) {
    fs::remove_file(beside(db, end)).unwrap();
}

/// One start, one reading, one stop.
fn next(db: &Path) -> Ended {
    next_with(db, &[])
}

fn next_with(db: &Path, more: &[&str]) -> Ended {
    let mut args = vec!["--db", db.to_str().unwrap(), "--source", "sim:count=1"];
    args.extend(more);
    Running::start(&args).wait()
}

/// What the start said of the run before: its reason, and how many readings it holds.
#[track_caller]
fn recovered(ended: &Ended) -> (String, u64) {
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    let told = ended.log.iter().find(|l| l.contains(" event=recovered "));
    let told = fields(told.unwrap_or_else(|| panic!("{:#?}", ended.log)));
    let is_error = told["level"] == "error";
    assert_eq!(is_error, told["reason"] != "unclean", "{told:?}");
    (told["reason"].clone(), told["readings"].parse().unwrap())
}

fn aside(db: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(db.parent().unwrap()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.to_str().unwrap().contains(".damaged-"))
        .collect()
}

fn check(db: &Path) -> (i32, String) {
    let (code, out, err) = seawall(&["check", "--full", "--db", db.to_str().unwrap()]);
    (code, out + &err)
}

#[track_caller]
fn assert_unclean(db: &Path, ended: &Ended, readings: u64) {
    assert_eq!(recovered(ended), ("unclean".into(), readings));
    let (code, out) = check(db);
    assert_eq!(code, 0, "{out}");
    assert!(aside(db).is_empty());
}

/// What `check` says of a loss, from now on and for ever: this alone, as the file is sound otherwise.
#[track_caller]
fn assert_told(db: &Path, run: u64, reason: &str) {
    for _ in 0..2 {
        let (code, out) = check(db);
        assert_eq!(code, 1, "{out}");
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines.len(), 2, "{out}");
        assert!(
            lines[0].starts_with("gone: ")
                && lines[0].contains(&format!(" run {run} "))
                && lines[0].contains(reason),
            "{out}"
        );
        assert!(lines[1].starts_with("missing readings="), "{out}");
        assert!(lines[1].contains(" unclean=1"), "{out}");
        assert_eq!(next(db).code(), 0);
    }
}

#[test]
fn a_wal_taken_away_after_a_kill_is_told_and_kept_in_the_runs_row() {
    for ends in [&["-wal"][..], &["-wal", "-shm"]] {
        let dir = Dir::new("wal");
        let db = killed(&dir, 10);
        for end in ends {
            remove(&db, end);
        }
        let ended = next(&db);
        assert_eq!(recovered(&ended), ("wal-missing".into(), 7), "{ends:?}");
        assert_eq!(count(&db), 8);
        assert_eq!(
            sql(&db, "SELECT reason FROM runs WHERE id = 1"),
            "wal-missing"
        );
        assert_told(&db, 1, "wal-missing");
    }
}

#[test]
fn a_wal_cut_to_nothing_is_told() {
    let dir = Dir::new("wal");
    let db = killed(&dir, 10);
    fs::write(beside(&db, "-wal"), "").unwrap();
    assert_eq!(recovered(&next(&db)), ("wal-missing".into(), 7));
    assert_told(&db, 1, "wal-missing");
}

#[test]
fn a_new_database_knows_of_its_run_from_the_first_reading_on() {
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    let mut recorder = Recorder::start(&db, &[]);
    recorder.record(1);
    recorder.kill();
    remove(&db, "-wal");
    remove(&db, "-shm");
    assert_eq!(recovered(&next(&db)), ("wal-missing".into(), 0));
    assert_told(&db, 1, "wal-missing");
}

#[test]
fn a_copy_of_the_database_alone_is_told() {
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    let mut recorder = Recorder::start(&db, &["--wal-autocheckpoint=20"]);
    // Through several checkpoints of its own.
    recorder.record(40);
    let copy = dir.file("copy.db");
    let status = Command::new("cp").arg("-p").arg(&db).arg(&copy).status();
    assert!(status.unwrap().success());
    recorder.record(1);
    recorder.kill();
    assert_eq!(recovered(&next(&copy)).0, "wal-missing");
    assert_unclean(&db, &next(&db), 41);
}

#[test]
fn an_idle_recorder_loses_nothing_with_its_wal() {
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    let mut recorder = Recorder::start(&db, &[]);
    recorder.record(5);
    recorder.checkpoint();
    recorder.kill();
    remove(&db, "-wal");
    remove(&db, "-shm");
    assert_unclean(&db, &next(&db), 5);
}

#[test]
fn a_tool_that_brings_the_wal_in_after_a_kill_raises_no_alarm() {
    for lines in [1, 4, 9] {
        for checkpointed in [false, true] {
            let dir = Dir::new("wal");
            let db = dir.file("x.db");
            let mut recorder = Recorder::start(&db, &[]);
            recorder.record(lines);
            if checkpointed {
                recorder.checkpoint();
                recorder.record(lines % 2);
            }
            let recorded = recorder.sent;
            recorder.kill();
            python(
                &db,
                "c.execute('SELECT count(*) FROM runs').fetchall(); c.close()",
            );
            assert!(!beside(&db, "-wal").exists());
            assert_unclean(&db, &next(&db), recorded);
        }
    }
}

/// Its shared memory outlives the recorder, so that it copies only what it has to.
#[test]
fn a_tool_that_had_the_file_open_across_the_kill_raises_no_alarm() {
    for (lines, more) in [(3, 0), (3, 1), (0, 0), (0, 2)] {
        let dir = Dir::new("wal");
        let db = dir.file("x.db");
        let mut recorder = Recorder::start(&db, &[]);
        let reader = support::Holder::start(&db, "SELECT count(*) FROM runs");
        recorder.record(lines);
        recorder.checkpoint();
        recorder.record(more);
        recorder.kill();
        reader.release();
        until("the last to close has deleted the -wal", || {
            (!beside(&db, "-wal").exists()).then_some(())
        });
        assert_unclean(&db, &next(&db), lines + more);
    }
}

#[test]
fn kills_at_full_rate_and_tools_in_between_raise_no_alarm() {
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    let path = db.to_str().unwrap();
    for kill in 0..16u64 {
        let rate = ["sim:rate=max", "sim:rate=50"][kill as usize % 2];
        let mut args = vec!["--db", path, "--source", rate, "--wal-autocheckpoint=50"];
        args.extend(["--commit-interval", ["0", "5ms", "50ms"][kill as usize % 3]]);
        let run = Running::start(&args);
        run.wait_for("ready");
        let before = count(&db);
        until("something is recorded", || {
            (count(&db) > before + kill * 40).then_some(())
        });
        run.kill();
        if kill % 4 != 3 {
            python(
                &db,
                "c.execute('SELECT count(*) FROM runs').fetchall(); c.close()",
            );
        }
    }
    assert_eq!(next(&db).code(), 0);
    let (code, out) = check(&db);
    assert_eq!(code, 0, "{out}");
    assert!(out.ends_with("runs=17 unclean=16\n"), "{out}");
    assert!(aside(&db).is_empty());
}

#[test]
fn one_byte_flipped_in_the_wal_is_told_wherever_it_is() {
    const FRAME: usize = 24 + PAGE_BYTES;
    let dir = Dir::new("wal");
    let db = killed(&dir, 10);
    let wal = fs::read(beside(&db, "-wal")).unwrap();
    let shm = fs::read(beside(&db, "-shm")).unwrap();
    // The last frame of this log is not the last of the file, where older ones lie behind it.
    let frames = u32::from_ne_bytes(shm[16..20].try_into().unwrap()) as usize;
    assert!(frames >= 6, "{frames}");
    let last = 32 + (frames - 1) * FRAME;
    for at in [
        0,
        17,
        31,
        32,
        32 + 5,
        32 + 9,
        32 + 17,
        32 + 24,
        32 + 2 * FRAME + 3000,
        last + 1,
        last + 23,
        last + FRAME - 1,
    ] {
        let dir = Dir::new("wal-flip");
        let copy = dir.file("x.db");
        let status = Command::new("cp").arg("-p").arg(&db).arg(&copy).status();
        assert!(status.unwrap().success());
        let mut flipped = wal.clone();
        flipped[at] ^= 4;
        fs::write(beside(&copy, "-wal"), &flipped).unwrap();
        fs::write(beside(&copy, "-shm"), &shm).unwrap();
        let ended = next(&copy);
        let aside = aside(&copy);
        assert_eq!(recovered(&ended).0, "wal-damaged", "byte {at}");
        assert!((7..10).contains(&recovered(&ended).1), "byte {at}");
        assert!(ended.has(" event=set-aside "), "byte {at}");
        assert_eq!(aside.len(), 1, "byte {at}");
        assert!(fs::read(&aside[0]).unwrap() == flipped, "byte {at}");
        let (code, out) = check(&copy);
        assert_eq!(
            (code, out.lines().last().unwrap().split(' ').next()),
            (1, Some("damaged"))
        );
        fs::remove_file(&aside[0]).unwrap();
        assert_told(&copy, 1, "wal-damaged");
    }
    assert_unclean(&db, &next(&db), 10);
}

#[test]
fn a_wal_of_garbage_or_cut_short_is_told() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [Damage; 4] = [
        |wal| wal.fill(0),
        |wal| wal.fill(0xa5),
        |wal| wal.truncate(20),
        |wal| wal.truncate(32 + 3 * (24 + PAGE_BYTES) + 100),
    ];
    for (n, damage) in damages.iter().enumerate() {
        let dir = Dir::new("wal");
        let db = killed(&dir, 10);
        let mut wal = fs::read(beside(&db, "-wal")).unwrap();
        damage(&mut wal);
        fs::write(beside(&db, "-wal"), &wal).unwrap();
        let ended = next(&db);
        assert_eq!(recovered(&ended).0, "wal-damaged", "{n}");
        let aside = aside(&db);
        assert!(fs::read(&aside[0]).unwrap() == wal, "{n}");
        fs::remove_file(&aside[0]).unwrap();
        assert_told(&db, 1, "wal-damaged");
    }
}

#[test]
fn a_damaged_wal_is_legitimate_after_a_power_cut() {
    for (boot_id, expected) in [("boot_id", "wal-damaged"), ("'another'", "unclean")] {
        let dir = Dir::new("wal");
        let db = killed(&dir, 10);
        // As if begun before this boot, and gone on with by another program that was killed too.
        python(
            &db,
            &format!(
                "c.execute('PRAGMA wal_autocheckpoint = 0')
c.execute(\"UPDATE runs SET boot_id = {boot_id}\")
c.execute('PRAGMA wal_checkpoint').fetchall()
c.execute('UPDATE device SET id = id')
os._exit(0)"
            ),
        );
        let wal = beside(&db, "-wal");
        let mut bytes = fs::read(&wal).unwrap();
        bytes[32 + 100] ^= 1;
        fs::write(&wal, bytes).unwrap();
        let ended = next(&db);
        assert_eq!(recovered(&ended), (expected.into(), 10));
    }
}

/// SQLite rolls back what the cut left half done, and then went on in WAL mode in a file that said that it
/// was in another, so that the next cut made its -wal look like another database's.
#[test]
fn a_power_cut_on_the_way_into_wal_mode_does_not_leave_a_header_that_lies() {
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    assert_eq!(next(&db).code(), 0);
    python(
        &db,
        "c.execute('PRAGMA cache_size = 1')
c.execute('BEGIN')
c.execute('CREATE TABLE t(x)')
c.executemany('INSERT INTO t VALUES(?)', (('x' * 1000,) for n in range(500)))
os._exit(0)",
    );
    assert!(beside(&db, "-journal").exists());
    let mut bytes = fs::read(&db).unwrap();
    assert_eq!(bytes[18..20], [1, 1]);
    bytes[18..20].fill(2);
    fs::write(&db, bytes).unwrap();
    fs::write(beside(&db, "-wal"), &foreign_wal()[..32]).unwrap();

    let mut recorder = Recorder::start(&db, &[]);
    assert_eq!(fs::read(&db).unwrap()[18..20], [2, 2]);
    recorder.record(2);
    recorder.kill();
    let ended = next(&db);
    assert_eq!(recovered(&ended), ("unclean".into(), 2));
    assert_eq!((count(&db), check(&db).0), (4, 0));
}

/// Frames of the log's own salts behind its end are no damage where they were never committed.
/// While another process has the file open, its -shm stays as the kill left it, and SQLite writes on over the
/// frames of a commit that the kill had cut short of being one. Some of them lie behind the next commit then,
/// with the salts of this log and a mark of their own.
#[test]
fn what_a_kill_left_of_a_commit_behind_the_last_one_is_no_damage() {
    const FRAME: usize = 24 + PAGE_BYTES;
    let dir = Dir::new("left-over");
    let db = killed(&dir, 8);
    let wal = beside(&db, "-wal");
    let mut bytes = fs::read(&wal).unwrap();
    let salts = bytes[16..24].to_vec();
    let of_this_log = bytes[32..]
        .chunks_exact(FRAME)
        .take_while(|f| f[8..16] == salts)
        .count();
    let is_commit = |n: usize| bytes[32 + n * FRAME + 4..][..4] != [0; 4];
    assert!(of_this_log > 2 && is_commit(of_this_log - 1) && !is_commit(of_this_log - 2));
    // The last commit once more: its first frame does not follow on the last, its second follows on that.
    let end = 32 + of_this_log * FRAME;
    let again = bytes[end - 2 * FRAME..end].to_vec();
    bytes.resize(bytes.len().max(end + 2 * FRAME), 0);
    bytes[end..end + 2 * FRAME].copy_from_slice(&again);
    fs::write(&wal, &bytes).unwrap();
    assert_unclean(&db, &next(&db), 8);
}

#[test]
fn what_another_program_rolled_back_is_no_damage() {
    let dir = Dir::new("wal");
    let db = killed(&dir, 10);
    python(
        &db,
        "c.execute('PRAGMA wal_autocheckpoint = 0')
c.execute('PRAGMA cache_size = 10')
c.execute('BEGIN')
c.executemany('INSERT INTO series(sensor, field, type) VALUES(?, ?, ?)',
    ((str(n) * 50, 'f', 'float') for n in range(5000)))
c.execute('ROLLBACK')
c.execute('UPDATE device SET id = id')
os._exit(0)",
    );
    assert!(fs::metadata(beside(&db, "-wal")).unwrap().len() as usize > 50 * PAGE_BYTES);
    assert_unclean(&db, &next(&db), 10);
}

/// Another database's -wal, from a recorder that was killed.
fn foreign_wal() -> Vec<u8> {
    let dir = Dir::new("wal-other");
    fs::read(beside(&killed(&dir, 30), "-wal")).unwrap()
}

#[test]
fn the_wal_of_another_database_does_not_ruin_this_one() {
    let foreign = foreign_wal();
    // With the -shm left in place, and without.
    for has_shm in [false, true] {
        let dir = Dir::new("wal");
        let db = killed(&dir, 10);
        fs::write(beside(&db, "-wal"), &foreign).unwrap();
        if !has_shm {
            remove(&db, "-shm");
        }
        let ended = next(&db);
        assert_eq!(recovered(&ended), ("wal-missing".into(), 7));
        assert!(ended.has(" event=wal-foreign "), "{:#?}", ended.log);
        for path in aside(&db) {
            if path.to_str().unwrap().ends_with("-wal") {
                assert!(fs::read(&path).unwrap() == foreign);
            }
            fs::remove_file(&path).unwrap();
        }
        assert_told(&db, 1, "wal-missing");
    }
}

#[test]
fn a_wal_beside_a_database_that_was_stopped_is_another_databases() {
    let foreign = foreign_wal();
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    assert_eq!(next(&db).code(), 0);
    fs::write(beside(&db, "-wal"), &foreign).unwrap();
    let before = fs::read(&db).unwrap();

    let refused = next_with(&db, &["--on-damage=refuse"]);
    assert_eq!(refused.code(), 1);
    assert!(refused.has("take the -wal away"), "{:#?}", refused.log);
    assert!(fs::read(&db).unwrap() == before && aside(&db).is_empty());
    assert!(fs::read(beside(&db, "-wal")).unwrap() == foreign);

    let ended = next(&db);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    assert!(ended.has(" event=wal-foreign ") && ended.has(" event=set-aside "));
    let aside = aside(&db);
    assert!(fs::read(&aside[0]).unwrap() == foreign);
    assert_eq!(check(&db).0, 1);
    fs::remove_file(&aside[0]).unwrap();
    let (code, out) = check(&db);
    assert_eq!((code, &*out), (0, "sound readings=2 runs=2 unclean=0\n"));
}

/// A backup that was restored over the file, with the -wal of before left beside it; the power went since.
#[test]
fn from_before_a_power_cut_only_a_wal_that_is_in_the_file_is_taken_for_its_own() {
    for is_own in [true, false] {
        let dir = Dir::new("wal");
        let db = dir.file("x.db");
        let mut recorder = Recorder::start(&db, &[]);
        recorder.record(200);
        let log = fs::read(beside(&db, "-wal")).unwrap();
        if !is_own {
            recorder.record(1);
        }
        assert_eq!(recorder.running.stop(libc::SIGTERM).code(), 0);
        sql(&db, "UPDATE runs SET boot_id = 'another', sealed_ns = 1");
        let mut bytes = fs::read(&db).unwrap();
        assert_eq!(bytes[18..20], [1, 1]);
        let log = if is_own { log_of(&db, &mut bytes) } else { log };
        fs::write(&db, &bytes).unwrap();
        fs::write(beside(&db, "-wal"), &log).unwrap();

        let ended = next(&db);
        assert_eq!(ended.code(), 0, "{:#?}", ended.log);
        assert_eq!(
            ended.has(" event=wal-foreign "),
            !is_own,
            "{:#?}",
            ended.log
        );
        for path in aside(&db) {
            assert!(!is_own && fs::read(&path).unwrap() == log);
            fs::remove_file(path).unwrap();
        }
        assert_eq!(check(&db).0, 0);
        assert_eq!(fs::read(&db).unwrap()[18..20], [1, 1]);
    }
}

/// The log of a change to a database, which is brought in and of which the file knows nothing any more.
fn log_of(db: &Path, bytes: &mut Vec<u8>) -> Vec<u8> {
    python(
        db,
        "c.execute('PRAGMA journal_mode = WAL')
c.execute('UPDATE runs SET sealed_ns = 2')
os._exit(0)",
    );
    let log = fs::read(beside(db, "-wal")).unwrap();
    assert!(log.len() > PAGE_BYTES);
    sql(db, "PRAGMA journal_mode = DELETE");
    assert!(!beside(db, "-wal").exists());
    *bytes = fs::read(db).unwrap();
    assert_eq!(bytes[18..20], [1, 1]);
    log
}

/// It brings a -wal in and leaves no trace of what was lost.
#[test]
fn a_checkpoint_by_hand_does_not_wipe_out_that_commits_are_lost() {
    let foreign = foreign_wal();
    for is_lost in [true, false] {
        let dir = Dir::new("wal");
        let db = killed(&dir, 10);
        if is_lost {
            remove(&db, "-wal");
            remove(&db, "-shm");
        } else {
            fs::write(beside(&db, "-wal"), &foreign).unwrap();
        }
        let before = fs::read(&db).unwrap();
        let (code, _, err) = seawall(&["checkpoint", "--db", db.to_str().unwrap()]);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains("start the recorder"), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        assert!(fs::read(&db).unwrap() == before);
        assert_eq!(recovered(&next(&db)), ("wal-missing".into(), 7));
    }
    // Of one that was killed and lacks nothing all is brought in.
    let dir = Dir::new("wal");
    let db = killed(&dir, 10);
    let (code, _, err) = seawall(&["checkpoint", "--db", db.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    assert_unclean(&db, &next(&db), 10);
}

#[test]
fn an_older_wal_of_the_same_database_is_not_replayed() {
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    let mut recorder = Recorder::start(&db, &[]);
    recorder.record(2);
    let old = fs::read(beside(&db, "-wal")).unwrap();
    for _ in 0..2 {
        recorder.checkpoint();
        recorder.record(3);
    }
    recorder.kill();
    fs::write(beside(&db, "-wal"), old).unwrap();
    assert_eq!(recovered(&next(&db)), ("wal-missing".into(), 5));
    aside(&db)
        .iter()
        .for_each(|path| fs::remove_file(path).unwrap());
    assert_told(&db, 1, "wal-missing");
}

#[test]
fn a_wal_beside_an_empty_database_is_saved() {
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    fs::write(&db, "").unwrap();
    let foreign = foreign_wal();
    fs::write(beside(&db, "-wal"), &foreign).unwrap();
    let ended = next(&db);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    let aside = aside(&db);
    assert!(fs::read(&aside[0]).unwrap() == foreign);
    assert_eq!(check(&db).0, 1);
}

#[test]
fn the_shm_of_another_machine_is_not_believed() {
    let other = Dir::new("wal-other");
    let foreign = fs::read(beside(&killed(&other, 30), "-shm")).unwrap();
    let noise: Vec<u8> = (0..32768u32)
        .map(|n| (n.wrapping_mul(7919) / 8) as u8)
        .collect();
    for shm in [foreign, noise, vec![0; 32768], vec![]] {
        let dir = Dir::new("wal");
        let db = killed(&dir, 10);
        fs::write(beside(&db, "-shm"), shm).unwrap();
        assert_unclean(&db, &next(&db), 10);
    }
}

/// The run has ended in its -wal alone; what becomes of that is told all the same.
#[test]
fn a_stop_that_a_reader_kept_from_finishing_needs_its_wal() {
    for keep in [true, false] {
        let dir = Dir::new("wal");
        let db = dir.file("x.db");
        let mut recorder = Recorder::start(&db, &["--stop-timeout=300ms"]);
        recorder.record(2);
        recorder.checkpoint();
        let reader = support::Holder::start(&db, "BEGIN; SELECT count(*) FROM readings");
        recorder.record(2);
        let ended = recorder.running.stop(libc::SIGTERM);
        assert_eq!(ended.code(), 3, "{:#?}", ended.log);
        // Gone without closing the file, as at a crash.
        reader.kill();
        if keep {
            let ended = next(&db);
            assert!(!ended.has(" event=recovered "), "{:#?}", ended.log);
            assert_eq!(check(&db).0, 0);
        } else {
            remove(&db, "-wal");
            assert_eq!(recovered(&next(&db)).0, "wal-missing");
        }
    }
}

#[test]
fn the_files_time_tells_the_truth_within_a_checkpoint() {
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    let mut recorder = Recorder::start(&db, &[]);
    let mtime = || {
        let file = fs::metadata(&db).unwrap();
        file.mtime() * 1_000_000_000 + file.mtime_nsec()
    };
    let sealed = || {
        sql(&db, "SELECT sealed_ns FROM runs")
            .parse::<i64>()
            .unwrap()
    };
    let mut before = 0;
    for _ in 0..3 {
        recorder.record(1);
        assert_eq!(mtime(), sealed());
        // So that whoever copies changed files by their time finds it changed.
        assert!(mtime() > before);
        before = mtime();
        recorder.checkpoint();
        assert!(mtime() > sealed());
    }
    recorder.kill();
}

#[test]
fn whoever_looks_before_the_next_start_leaves_the_signs_of_a_loss_as_they_are() {
    for name in ["check", "show", "export", "backup"] {
        let dir = Dir::new("looked-first");
        let db = killed(&dir, 8);
        // The -shm alone says that there was more.
        let wal = beside(&db, "-wal");
        let bytes = fs::read(&wal).unwrap();
        fs::write(&wal, &bytes[..32 + 3 * (24 + PAGE_BYTES) + 100]).unwrap();
        let path = db.to_str().unwrap();
        let dest = dir.file("copy.db");
        let args: &[&str] = match name {
            "backup" => &["backup", dest.to_str().unwrap(), "--min-free", "0"],
            _ => &[name],
        };
        let (code, out, err) = seawall(&[args, &["--db", path]].concat());
        assert_eq!(code, 1, "{name}: {out}{err}");
        let said = if name == "check" { &out } else { &err };
        let wanted = match name {
            "check" => "what is in the -wal alone (wal-damaged)",
            _ => "the -wal beside it is damaged or another's",
        };
        assert!(said.contains(wanted), "{name}: {out}{err}");
        assert_eq!(recovered(&next(&db)).0, "wal-damaged", "after {name}");
        assert_eq!(aside(&db).len(), 1);
    }
}

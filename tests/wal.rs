//! Guards against a loss that is not reported: SQLite takes a database whose -wal was deleted or damaged for
//! a whole one, and replays a -wal that is another's. And against false alarms: a tool that opens a database
//! after a kill and closes it again brings all of the -wal in and deletes it, and nothing is lost.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

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
fn assert_lost(db: &Path, run: u64, ids: std::ops::RangeInclusive<u64>) {
    let (from, to) = (ids.start(), ids.end());
    let row = format!("SELECT reason, lost_from_id, lost_to_id FROM runs WHERE id = {run}");
    assert_eq!(sql(db, &row), format!("lost|{from}|{to}"));
    let told = format!("readings {from} to {to} ({}) of run {run}:", to - from + 1);
    for _ in 0..2 {
        let (code, out) = check(db);
        assert_eq!(code, 1, "{out}");
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines.len(), 2, "{out}");
        assert!(
            lines[0].starts_with("gone: ") && lines[0].contains(&told),
            "{out}"
        );
        assert!(lines[1].starts_with("missing readings="), "{out}");
        assert!(lines[1].contains(" unclean=1"), "{out}");
        assert_eq!(next(db).code(), 0);
    }
}

#[test]
fn a_wal_taken_away_after_a_kill_is_reported_with_the_ids_that_are_missing() {
    for ends in [&["-wal"][..], &["-wal", "-shm"]] {
        let dir = Dir::new("wal");
        let db = killed(&dir, 10);
        for end in ends {
            remove(&db, end);
        }
        // `check` says so before the next start too, and changes nothing.
        let (code, out) = check(&db);
        assert_eq!(code, 1, "{out}");
        assert!(out.contains("readings 8 to 10 (3) of run 1:"), "{out}");
        let ended = next(&db);
        assert_eq!(recovered(&ended), ("lost".into(), 7), "{ends:?}");
        assert!(
            ended.has(" missing=3 from_id=8 to_id=10 "),
            "{:#?}",
            ended.log
        );
        assert_eq!(count(&db), 8);
        assert_lost(&db, 1, 8..=10);
    }
}

#[test]
fn a_wal_cut_to_nothing_is_reported() {
    let dir = Dir::new("wal");
    let db = killed(&dir, 10);
    fs::write(beside(&db, "-wal"), "").unwrap();
    assert_eq!(recovered(&next(&db)), ("lost".into(), 7));
    assert_lost(&db, 1, 8..=10);
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
    assert_eq!(recovered(&next(&db)), ("lost".into(), 0));
    assert_lost(&db, 1, 1..=1);
}

#[test]
fn a_copy_of_the_database_alone_is_not_sound_and_raises_no_alarm_at_a_start() {
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    let mut recorder = Recorder::start(&db, &["--wal-autocheckpoint=20"]);
    // Through several checkpoints of its own.
    recorder.record(40);
    let copy = dir.file("copy.db");
    fs::copy(&db, &copy).unwrap();
    recorder.record(1);
    recorder.kill();
    let (code, out) = check(&copy);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("gone: the end of run 1:"), "{out}");
    // Nothing shows what a copy lacks.
    assert_eq!(recovered(&next(&copy)).0, "unclean");
    assert_unclean(&db, &next(&db), 41);
}

#[test]
fn a_restored_backup_raises_no_alarm() {
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    assert_eq!(next(&db).code(), 0);
    let backup = fs::read(&db).unwrap();
    let mut recorder = Recorder::start(&db, &[]);
    recorder.record(5);
    recorder.kill();
    for end in ["-wal", "-shm"] {
        remove(&db, end);
    }
    fs::write(&db, backup).unwrap();
    let ended = next(&db);
    assert_eq!(ended.code(), 0);
    assert!(!ended.has(" event=recovered "), "{:#?}", ended.log);
    assert_eq!(
        check(&db),
        (0, "sound readings=2 runs=2 unclean=0\n".into())
    );
}

#[test]
fn a_clean_stop_leaves_no_mark() {
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    let mut recorder = Recorder::start(&db, &[]);
    recorder.record(2);
    assert!(beside(&db, "-mark").exists());
    assert_eq!(recorder.running.stop(libc::SIGTERM).code(), 0);
    let files = fs::read_dir(dir.path()).unwrap();
    let names: Vec<_> = files.map(|f| f.unwrap().file_name()).collect();
    assert_eq!(names, ["x.db"]);
}

/// The mark is evidence and no data.
#[test]
fn a_mark_that_cannot_be_made_or_read_costs_nothing_else() {
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    fs::create_dir(beside(&db, "-mark")).unwrap();
    let mut recorder = Recorder::start(&db, &[]);
    assert!(
        recorder
            .running
            .log()
            .iter()
            .any(|l| l.contains(" event=no-mark "))
    );
    recorder.record(3);
    recorder.kill();
    assert_unclean(&db, &next(&db), 3);

    for garbage in [&b""[..], b"seawall device=x", &[0xff; 4096]] {
        let dir = Dir::new("wal");
        let db = killed(&dir, 4);
        fs::write(beside(&db, "-mark"), garbage).unwrap();
        assert_unclean(&db, &next(&db), 4);
    }

    // A link is neither read nor written through.
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    let target = dir.file("target");
    fs::write(&target, "theirs").unwrap();
    std::os::unix::fs::symlink(&target, beside(&db, "-mark")).unwrap();
    let mut recorder = Recorder::start(&db, &[]);
    recorder.record(1);
    recorder.kill();
    assert_eq!(fs::read(&target).unwrap(), b"theirs");
    assert_unclean(&db, &next(&db), 1);
}

/// A power cut may take commits that were not synced, and never one that was.
#[test]
fn after_a_power_cut_only_synced_readings_are_reported() {
    let mark_of_another_boot = |db: &Path| {
        let mark = beside(db, "-mark");
        let text = fs::read_to_string(&mark).unwrap();
        let words = text.trim_end().rsplit_once(" sum=").unwrap().0;
        let boot = words
            .split("boot=")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        let words = words.replace(boot, "another");
        let sum = words.bytes().fold(0xcbf2_9ce4_8422_2325u64, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        fs::write(&mark, format!("{words} sum={sum:016x}")).unwrap();
    };
    // Acknowledged, so synced.
    let dir = Dir::new("wal");
    let db = killed(&dir, 10);
    mark_of_another_boot(&db);
    remove(&db, "-wal");
    assert_eq!(recovered(&next(&db)), ("lost".into(), 7));
    assert_lost(&db, 1, 8..=10);
    // Committed and not synced.
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    let source = ["--db", db.to_str().unwrap(), "--source", "sim:rate=100"];
    let running = Running::start(&[&source[..], &["--commit-interval", "0"]].concat());
    running.wait_for("ready");
    until("something is committed", || (count(&db) > 20).then_some(()));
    running.kill();
    mark_of_another_boot(&db);
    remove(&db, "-wal");
    assert_eq!(recovered(&next(&db)), ("unclean".into(), 0));
}

#[test]
fn a_wal_damaged_or_cut_short_within_its_commits_is_reported() {
    type Damage = fn(&mut Vec<u8>);
    const FRAME: usize = 24 + PAGE_BYTES;
    let damages: [Damage; 7] = [
        |wal| wal.fill(0),
        |wal| wal.fill(0xa5),
        |wal| wal.truncate(20),
        |wal| wal.truncate(32 + 3 * FRAME + 100),
        |wal| wal[17] ^= 4,
        |wal| wal[32 + 24] ^= 4,
        |wal| wal[32 + 2 * FRAME + 500] ^= 4,
    ];
    for (n, damage) in damages.iter().enumerate() {
        let dir = Dir::new("wal");
        let db = killed(&dir, 10);
        let mut wal = fs::read(beside(&db, "-wal")).unwrap();
        damage(&mut wal);
        fs::write(beside(&db, "-wal"), &wal).unwrap();
        let (reason, readings) = recovered(&next(&db));
        assert_eq!(reason, "lost", "{n}");
        assert!((7..10).contains(&readings), "{n}: {readings}");
        assert_lost(&db, 1, readings + 1..=10);
    }
}

#[test]
fn an_older_wal_of_the_same_database_is_reported() {
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
    remove(&db, "-shm");
    let ended = next(&db);
    // Its frames may make the file older, or a mixture that the start finds damaged.
    assert!(
        ended.has(" reason=lost ") || ended.has(" event=database-damaged "),
        "{:#?}",
        ended.log
    );
    assert_eq!(check(&db).0, 1);
}

/// A checkpoint by hand, or a look, takes nothing away from what the next start has to know.
#[test]
fn what_is_missing_is_reported_whoever_opens_the_file_before_the_next_start() {
    for name in ["check", "show", "export", "backup", "checkpoint"] {
        let dir = Dir::new("looked-first");
        let db = killed(&dir, 8);
        remove(&db, "-wal");
        let path = db.to_str().unwrap();
        let dest = dir.file("copy.db");
        let args: &[&str] = match name {
            "backup" => &["backup", dest.to_str().unwrap(), "--min-free", "0"],
            _ => &[name],
        };
        let (code, out, err) = seawall(&[args, &["--db", path]].concat());
        assert_eq!(code, i32::from(name == "check"), "{name}: {out}{err}");
        assert_eq!(recovered(&next(&db)), ("lost".into(), 5), "after {name}");
        assert_lost(&db, 1, 6..=8);
    }
    // Of one that was killed and lacks nothing all is brought in.
    let dir = Dir::new("wal");
    let db = killed(&dir, 10);
    let (code, _, err) = seawall(&["checkpoint", "--db", db.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    assert_unclean(&db, &next(&db), 10);
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
            assert_eq!(recovered(&next(&db)), ("lost".into(), 2));
            assert_lost(&db, 1, 3..=4);
        }
    }
}

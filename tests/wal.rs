//! Guards against a loss that is not reported: SQLite takes a database whose -wal was deleted or damaged for a
//! whole one, and replays a -wal that is another's. And against a false alarm: whoever opens a database after a
//! kill and closes it again copies all of the -wal into the file and deletes it, and nothing is lost.

use std::fs;
use std::path::Path;

use seawall::place::mark::{self, Mark, Reached};

use crate::support::loss::{
    Recorder, aside, assert_lost, assert_unclean, beside, check, killed, next, next_with,
    recovered, remove,
};
use crate::support::*;

#[test]
fn a_wal_taken_away_after_a_kill_is_reported_with_the_ids_and_kept_in_the_runs_row() {
    for ends in [&["-wal"][..], &["-wal", "-shm"]] {
        let dir = Dir::new("wal");
        let db = killed(&dir, 10);
        for end in ends {
            remove(&db, end);
        }
        assert_lost(&db, 8, 10);
    }
}

#[test]
fn a_wal_cut_to_nothing_is_reported() {
    let dir = Dir::new("wal");
    let db = killed(&dir, 10);
    fs::write(beside(&db, "-wal"), "").unwrap();
    assert_lost(&db, 8, 10);
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
    assert_lost(&db, 1, 1);
}

#[test]
fn a_copy_without_its_wal_is_not_sound_and_raises_no_alarm_at_a_start() {
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
    assert!(out.starts_with("gone: run 1 has no end: "), "{out}");
    assert!(out.contains("\nmissing readings="), "{out}");
    let ended = next(&copy);
    assert_eq!(recovered(&ended).0, "unclean");
    assert_eq!(check(&copy).0, 0);
    assert_unclean(&db, &next(&db), 41);
}

/// The mark lies beside the original alone.
#[test]
fn a_copy_with_its_wal_raises_no_alarm() {
    let dir = Dir::new("wal");
    let db = killed(&dir, 10);
    let copy = dir.file("copy.db");
    for end in ["", "-wal"] {
        fs::copy(beside(&db, end), beside(&copy, end)).unwrap();
    }
    assert_eq!(check(&copy).0, 0);
    assert_unclean(&copy, &next(&copy), 10);
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
            assert_eq!(check(&db).0, 0);
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
        let reader = crate::support::Holder::start(&db, "SELECT count(*) FROM runs");
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
fn one_byte_flipped_in_the_wal_is_reported_wherever_it_is() {
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
        for end in ["", "-shm", "-mark"] {
            fs::copy(beside(&db, end), beside(&copy, end)).unwrap();
        }
        let mut flipped = wal.clone();
        flipped[at] ^= 4;
        fs::write(beside(&copy, "-wal"), &flipped).unwrap();
        let kept = count(&copy);
        assert!((7..10).contains(&kept), "byte {at}: {kept}");
        // Looking has made the -shm anew, and copied what is whole; the loss is as it was.
        assert_lost(&copy, kept + 1, 10);
    }
    assert_unclean(&db, &next(&db), 10);
}

#[test]
fn a_wal_of_garbage_or_cut_short_is_reported() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(Damage, u64); 4] = [
        (|wal| wal.fill(0), 7),
        (|wal| wal.fill(0xa5), 7),
        (|wal| wal.truncate(20), 7),
        (|wal| wal.truncate(32 + 3 * (24 + PAGE_BYTES) + 100), 8),
    ];
    for (damage, kept) in damages {
        let dir = Dir::new("wal");
        let db = killed(&dir, 10);
        let mut wal = fs::read(beside(&db, "-wal")).unwrap();
        damage(&mut wal);
        fs::write(beside(&db, "-wal"), &wal).unwrap();
        assert_lost(&db, kept + 1, 10);
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

/// The mark goes after the -wal. So where a power cut has brought back the -wal of a clean stop, the mark is
/// there too.
#[test]
fn a_wal_that_a_power_cut_brings_back_after_a_stop_is_taken_for_its_own() {
    for has_mark in [true, false] {
        let dir = Dir::new("wal");
        let db = dir.file("x.db");
        let mut recorder = Recorder::start(&db, &[]);
        recorder.record(200);
        let mark = mark::read(&db).unwrap();
        let log = fs::read(beside(&db, "-wal")).unwrap();
        assert_eq!(recorder.running.stop(libc::SIGTERM).code(), 0);
        fs::write(beside(&db, "-wal"), &log).unwrap();
        if has_mark {
            Mark::create(&db, mark).unwrap();
        }
        let ended = next(&db);
        assert_eq!(ended.code(), 0, "{:#?}", ended.log);
        assert_eq!(ended.has(" event=wal-foreign "), !has_mark);
        assert_eq!(ended.has(" event=wal-removed "), has_mark);
        for path in aside(&db) {
            assert!(!has_mark && fs::read(&path).unwrap() == log);
            fs::remove_file(path).unwrap();
        }
        assert_eq!((count(&db), check(&db).0), (201, 0));
        assert_eq!(fs::read(&db).unwrap()[18..20], [1, 1]);
    }
}

/// Only the mark of the run with which the file ended says that a -wal is its own.
#[test]
fn a_wal_beside_a_stopped_database_and_the_mark_of_another_run_is_kept() {
    type Change = fn(Reached) -> Reached;
    let changes: [Change; 5] = [
        |mark| Reached {
            device: "0123456789abcdef0123456789abcdef".into(),
            ..mark
        },
        |mark| Reached {
            run: mark.run - 1,
            ..mark
        },
        |mark| Reached {
            run: mark.run + 1,
            ..mark
        },
        |mark| Reached {
            started_ns: mark.started_ns + 1,
            ..mark
        },
        |mark| Reached {
            committed: mark.committed + 1,
            ..mark
        },
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let dir = Dir::new("wal");
        let db = dir.file("x%41?b#.db");
        assert_eq!(next(&db).code(), 0);
        let mut recorder = Recorder::start(&db, &[]);
        recorder.record(3);
        let mark = mark::read(&db).unwrap();
        let log = fs::read(beside(&db, "-wal")).unwrap();
        assert_eq!(recorder.running.stop(libc::SIGTERM).code(), 0);
        fs::write(beside(&db, "-wal"), &log).unwrap();
        Mark::create(&db, change(mark)).unwrap();
        assert_kept(&db, &log, &format!("{n}"));
        // The higher id was committed by the mark of the file's own last run.
        let reason = sql(&db, "SELECT reason FROM runs WHERE id = 2");
        assert_eq!(reason, ["SIGTERM", "lost"][usize::from(n == 4)], "{n}");
    }
}

/// A kill, and somebody puts another file in the place of the .db, as one restores a backup: acknowledged readings are
/// in the -wal alone.
#[test]
fn a_wal_with_acknowledged_readings_is_kept_when_another_file_is_put_in_the_place_of_its_database()
{
    for from in [
        "backup",
        "copy recorded onto",
        "copy checkpointed",
        "other device",
    ] {
        let dir = Dir::new("restored");
        let (db, other) = (dir.file("x.db"), dir.file("other.db"));
        let path = other.to_str().unwrap();
        if from == "other device" {
            assert_eq!(next(&other).code(), 0);
        }
        assert_eq!(next(&db).code(), 0);
        if from == "backup" {
            let args = ["backup", path, "--min-free", "0", "--db"];
            let (code, _, err) = seawall(&[&args[..], &[db.to_str().unwrap()]].concat());
            assert_eq!(code, 0, "{err}");
        }
        let mut recorder = Recorder::start(&db, &[]);
        recorder.record(3);
        recorder.kill();
        if from.starts_with("copy") {
            fs::copy(&db, &other).unwrap();
        }
        match from {
            "copy recorded onto" => assert_eq!(next(&other).code(), 0),
            "copy checkpointed" => {
                let (code, _, err) = seawall(&["checkpoint", "--db", path]);
                assert_eq!(code, 0, "{err}");
            }
            _ => {}
        }
        fs::copy(&other, &db).unwrap();
        let log = fs::read(beside(&db, "-wal")).unwrap();
        assert_kept(&db, &log, from);
    }
}

/// Commands refuse the file; the next start sets the -wal aside and says so.
#[track_caller]
fn assert_kept(db: &Path, wal: &[u8], what: &str) {
    let path = db.to_str().unwrap();
    let before = fs::read(db).unwrap();
    for command in ["check", "checkpoint", "show", "export"] {
        let (code, out, err) = seawall(&[command, "--db", path]);
        let said = out + &err;
        assert_eq!(code, 1, "{what}, {command}: {said}");
        assert!(said.contains("does not belong to it"), "{what}: {said}");
    }
    assert!(fs::read(db).unwrap() == before, "{what}");
    assert!(fs::read(beside(db, "-wal")).unwrap() == wal, "{what}");
    let ended = next(db);
    assert_eq!(ended.code(), 0, "{what}: {:#?}", ended.log);
    assert!(ended.has(" event=wal-foreign "), "{what}: {:#?}", ended.log);
    let aside = aside(db);
    let kept = aside
        .iter()
        .find(|path| path.to_str().unwrap().ends_with("-wal"));
    assert!(fs::read(kept.expect(what)).unwrap() == wal, "{what}");
}

/// It copies the -wal into the file; the mark stays as it is.
#[test]
fn a_checkpoint_by_hand_does_not_hide_that_commits_are_lost() {
    let dir = Dir::new("wal");
    let db = killed(&dir, 10);
    remove(&db, "-wal");
    remove(&db, "-shm");
    let (code, _, err) = seawall(&["checkpoint", "--db", db.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    assert_lost(&db, 8, 10);
    // One that was killed and lacks nothing.
    let dir = Dir::new("wal");
    let db = killed(&dir, 10);
    let (code, _, err) = seawall(&["checkpoint", "--db", db.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    assert_unclean(&db, &next(&db), 10);
}

#[test]
fn no_command_reads_a_stopped_database_with_the_wal_of_another() {
    let foreign = foreign_wal();
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    assert_eq!(next(&db).code(), 0);
    fs::write(beside(&db, "-wal"), &foreign).unwrap();
    let before = fs::read(&db).unwrap();
    let dest = dir.file("copy.db");
    for args in [
        &["check"][..],
        &["checkpoint"],
        &["show"],
        &["export"],
        &["backup", dest.to_str().unwrap(), "--min-free", "0"],
    ] {
        let (code, out, err) = seawall(&[args, &["--db", db.to_str().unwrap()]].concat());
        assert_eq!(code, 1, "{args:?}: {out}{err}");
        let said = out + &err;
        assert!(
            said.contains("the -wal beside it does not belong to it"),
            "{args:?}: {said}"
        );
        assert!(
            fs::read(&db).unwrap() == before && !dest.exists(),
            "{args:?}"
        );
        assert!(
            fs::read(beside(&db, "-wal")).unwrap() == foreign,
            "{args:?}"
        );
    }
}

#[test]
fn an_older_wal_of_the_same_database_in_place_of_its_own_is_noticed() {
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
    assert_lost(&db, 3, 8);
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

/// The run has ended in its -wal alone.
#[test]
fn a_stop_that_a_reader_kept_from_finishing_needs_its_wal() {
    for then in ["a start", "checkpoint", "the -wal is removed"] {
        let dir = Dir::new("wal");
        let db = dir.file("x.db");
        let mut recorder = Recorder::start(&db, &["--stop-timeout=300ms"]);
        recorder.record(2);
        recorder.checkpoint();
        let reader = crate::support::Holder::start(&db, "BEGIN; SELECT count(*) FROM readings");
        recorder.record(2);
        let ended = recorder.running.stop(libc::SIGTERM);
        assert_eq!(ended.code(), 3, "{:#?}", ended.log);
        assert!(beside(&db, "-mark").exists());
        // Gone without closing the file, as at a crash.
        reader.kill();
        match then {
            "a start" => {
                let ended = next(&db);
                assert!(!ended.has(" event=recovered "), "{:#?}", ended.log);
                assert_eq!(check(&db).0, 0);
            }
            "checkpoint" => {
                let (code, _, err) = seawall(&["checkpoint", "--db", db.to_str().unwrap()]);
                assert_eq!(code, 0, "{err}");
                for end in ["-wal", "-shm", "-mark"] {
                    assert!(!beside(&db, end).exists(), "{end}");
                }
                assert_eq!(check(&db).0, 0);
            }
            _ => {
                remove(&db, "-wal");
                assert_lost(&db, 3, 4);
            }
        }
    }
}

#[test]
fn whoever_looks_before_the_next_start_leaves_the_signs_of_a_loss_as_they_are() {
    for name in ["check", "show", "export", "backup"] {
        let dir = Dir::new("looked-first");
        let db = killed(&dir, 8);
        let wal = beside(&db, "-wal");
        let bytes = fs::read(&wal).unwrap();
        fs::write(&wal, &bytes[..32 + 3 * (24 + PAGE_BYTES) + 100]).unwrap();
        let path = db.to_str().unwrap();
        let dest = dir.file("copy.db");
        let args: &[&str] = match name {
            "backup" => &["backup", dest.to_str().unwrap(), "--min-free", "0"],
            _ => &[name],
        };
        let mark = fs::read(beside(&db, "-mark")).unwrap();
        let (code, out, err) = seawall(&[args, &["--db", path]].concat());
        assert_eq!(code, i32::from(name == "check"), "{name}: {out}{err}");
        assert!(fs::read(beside(&db, "-mark")).unwrap() == mark);
        assert_lost(&db, 7, 8);
    }
}

#[test]
fn a_wal_that_lost_its_database_is_set_aside_and_not_deleted() {
    let dir = Dir::new("orphan");
    let db = dir.file("x.db");
    let run = start(&db, &["--source", "sim:rate=100", "--commit-interval", "0"]);
    run.wait_for("ready");
    until("something is recorded", || (count(&db) > 0).then_some(()));
    run.kill();
    let wal = fs::read(dir.file("x.db-wal")).unwrap();
    fs::remove_file(&db).unwrap();
    let next = start(&db, &["--source", "sim:count=5"]).wait();
    assert_eq!(next.code(), 0);
    assert!(next.has("event=set-aside"), "{:#?}", next.log);
    let mut kept = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
    let kept = kept
        .find(|p| p.to_str().unwrap().ends_with("Z-wal"))
        .expect("the -wal is kept");
    assert!(fs::read(kept).unwrap() == wal);
}

#[test]
fn the_wal_lies_where_a_link_leads() {
    let dir = Dir::new("link");
    fs::create_dir(dir.file("real")).unwrap();
    std::os::unix::fs::symlink("real/x.db", dir.file("link.db")).unwrap();
    let run = start(&dir.file("link.db"), &["--source", "sim:rate=100"]);
    let line = run.wait_for("ready");
    assert!(line.contains("real/x.db"), "{line}");
    assert!(dir.file("real/x.db-wal").exists());
    assert_eq!(run.stop(libc::SIGTERM).code(), 0);
    assert_sound(&dir.file("link.db"));
}

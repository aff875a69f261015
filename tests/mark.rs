//! Guards against a mark that raises a false alarm, or that does harm: it is evidence of a lost -wal and no data.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use seawall::place::mark::{self, Mark, Reached};

use crate::support::loss::{
    Recorder, assert_lost, assert_unclean, beside, check, killed, next, remove,
};
use crate::support::{Dir, seawall, sql};

/// The mark is of a device and a run. An older state of the same run, brought back in place of the file, lacks
/// what the mark says.
#[test]
fn a_backup_restored_over_the_file_is_measured_by_the_mark_of_its_own_run_alone() {
    for (same_run, same_device) in [(true, true), (false, true), (true, false)] {
        let dir = Dir::new("wal");
        let db = dir.file("x.db");
        let backup = dir.file("backup.db");
        let other = dir.file("other.db");
        let mut recorder = Recorder::start(if same_device { &db } else { &other }, &[]);
        recorder.record(2);
        let from = if same_device { &db } else { &other };
        let args = [
            "backup",
            backup.to_str().unwrap(),
            "--min-free",
            "0",
            "--db",
        ];
        let (code, _, err) = seawall(&[&args[..], &[from.to_str().unwrap()]].concat());
        assert_eq!(code, 0, "{err}");
        recorder.record(3);
        recorder.kill();
        if !same_run || !same_device {
            let mut recorder = Recorder::start(&db, &[]);
            recorder.record(4);
            recorder.kill();
        }
        fs::rename(&backup, &db).unwrap();
        remove(&db, "-wal");
        remove(&db, "-shm");
        if same_run && same_device {
            assert_lost(&db, 3, 5);
        } else {
            assert_unclean(&db, &next(&db), 2);
        }
    }
}

#[test]
fn the_mark_is_as_new_as_each_ack_and_goes_with_a_clean_stop() {
    let dir = Dir::new("wal");
    let db = dir.file("x.db");
    fs::write(&db, "").unwrap();
    fs::set_permissions(&db, fs::Permissions::from_mode(0o640)).unwrap();
    let mut recorder = Recorder::start(&db, &[]);
    for acked in 1..=20 {
        recorder.record(1);
        let mark = mark::read(&db).unwrap();
        assert_eq!((mark.run, mark.committed, mark.synced), (1, acked, acked));
        assert_eq!(mark.device, sql(&db, "SELECT id FROM device"));
    }
    let (file, mark) = (
        fs::metadata(&db).unwrap(),
        fs::metadata(beside(&db, "-mark")).unwrap(),
    );
    assert_eq!(
        (mark.mode() & 0o777, mark.uid(), mark.gid(), mark.len()),
        (0o640, file.uid(), file.gid(), 256)
    );
    assert_eq!(recorder.running.stop(libc::SIGTERM).code(), 0);
    assert!(!beside(&db, "-mark").exists());
}

#[test]
fn what_was_not_synced_is_no_loss_after_a_power_cut() {
    for (boot_id, synced) in [("another", 7), ("another", 9), ("", 7), ("same", 7)] {
        let dir = Dir::new("mark");
        let db = killed(&dir, 10);
        let mark = mark::read(&db).unwrap();
        let is_same = boot_id == "same";
        let boot_id = if is_same { &*mark.boot_id } else { boot_id }.to_owned();
        let older = Reached {
            boot_id,
            synced,
            ..mark
        };
        Mark::create(&db, older).unwrap();
        remove(&db, "-wal");
        match (is_same, synced) {
            (true, _) => assert_lost(&db, 8, 10),
            (false, 9) => assert_lost(&db, 8, 9),
            _ => assert_unclean(&db, &next(&db), 7),
        }
    }
}

/// Whatever lies in the place of the mark, nothing fails, nobody is alarmed, and nothing is written through a
/// link.
#[test]
fn a_mark_that_is_none_raises_no_alarm_and_stops_nothing() {
    type Put = fn(&Dir, &Path);
    let puts: [Put; 6] = [
        |_, mark| fs::write(mark, "").unwrap(),
        |_, mark| fs::write(mark, [0xa5; 4096]).unwrap(),
        |_, mark| {
            let mut bytes = fs::read(mark).unwrap();
            bytes[100] ^= 1;
            fs::write(mark, bytes).unwrap();
        },
        |dir, mark| {
            fs::rename(mark, dir.file("elsewhere")).unwrap();
            std::os::unix::fs::symlink(dir.file("elsewhere"), mark).unwrap();
        },
        |_, mark| {
            fs::remove_file(mark).unwrap();
            assert!(Command::new("mkfifo").arg(mark).status().unwrap().success());
        },
        |_, mark| {
            fs::remove_file(mark).unwrap();
            fs::create_dir(mark).unwrap();
        },
    ];
    for (n, put) in puts.into_iter().enumerate() {
        let dir = Dir::new("wal");
        let db = killed(&dir, 10);
        let mark = beside(&db, "-mark");
        put(&dir, &mark);
        let before = fs::read(dir.file("elsewhere")).ok();
        assert_eq!(check(&db).0, 0, "{n}");
        let ended = next(&db);
        assert_unclean(&db, &ended, 10);
        assert_eq!(fs::read(dir.file("elsewhere")).ok(), before, "{n}");
        let is_folder = mark.is_dir();
        assert_eq!(
            ended.has(" event=no-mark "),
            is_folder,
            "{n}: {:#?}",
            ended.log
        );
        assert!(is_folder || !mark.exists(), "{n}");
    }
}

//! Guards against the call that fails: an acknowledged reading gone, a failed sync made again and believed,
//! an ack after an error, a recording that ends for what would have passed, a file left damaged.
//!
//! The recorder's writer runs in this process on a VFS that fails the Nth call of a kind, once or for good.
//! N goes from 1 on until a run has nothing left to fail. After each run the file is looked at as the next
//! start finds it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::vfs::disk::Image;
use crate::vfs::recording::{self, End, Recording, Waited};
use crate::vfs::sql::Sql;
use crate::vfs::trials::{self, Folder};
use crate::vfs::verdict;
use crate::vfs::volume::{Call, Device, Effect, Entry, Fault, Fired, Plan, Role, Volume};
use crate::vfs::workload::{self, BATCHES, Base, Batch, Lasting, SETTINGS};
use libsqlite3_sys as ffi;
use seawall::record::stop::Step;
use seawall::store::Class;

/// Most of a trial is waiting for the next try.
const THREADS: usize = 16;

const IO_ERRORS: [Fault; 16] = [
    fault(Call::Open, ffi::SQLITE_CANTOPEN, libc::EMFILE),
    fault(Call::Read, ffi::SQLITE_IOERR_READ, libc::EIO),
    fault(Call::Write, ffi::SQLITE_IOERR_WRITE, libc::EIO),
    half(Call::Write, ffi::SQLITE_IOERR_WRITE, libc::EIO),
    fault(Call::Truncate, ffi::SQLITE_IOERR_TRUNCATE, libc::EIO),
    fault(Call::FileSize, ffi::SQLITE_IOERR_FSTAT, libc::EIO),
    fault(Call::Lock, ffi::SQLITE_IOERR_LOCK, libc::ENOLCK),
    fault(Call::Unlock, ffi::SQLITE_IOERR_UNLOCK, libc::ENOLCK),
    fault(
        Call::CheckReservedLock,
        ffi::SQLITE_IOERR_CHECKRESERVEDLOCK,
        libc::ENOLCK,
    ),
    fault(Call::ShmMap, ffi::SQLITE_IOERR_SHMMAP, libc::EIO),
    fault(Call::ShmMap, ffi::SQLITE_IOERR_SHMOPEN, libc::EIO),
    fault(Call::ShmMap, ffi::SQLITE_IOERR_SHMSIZE, libc::EIO),
    fault(Call::ShmLock, ffi::SQLITE_IOERR_SHMLOCK, libc::ENOLCK),
    fault(Call::Delete, ffi::SQLITE_IOERR_DELETE, libc::EIO),
    fault(Call::Access, ffi::SQLITE_IOERR_ACCESS, libc::EIO),
    fault(Call::FullPathname, ffi::SQLITE_CANTOPEN_FULLPATH, libc::EIO),
];

const FAILED_SYNC: Fault = fault(Call::Sync, ffi::SQLITE_IOERR_FSYNC, libc::EIO);
/// A disk that has promised room and finds that it has none.
const FULL_SYNC: Fault = fault(Call::Sync, ffi::SQLITE_IOERR_FSYNC, libc::ENOSPC);

/// What may pass, and leaves the file as it was.
const PASSING: [Fault; 7] = [
    fault(Call::Write, ffi::SQLITE_FULL, libc::ENOSPC),
    half(Call::Write, ffi::SQLITE_FULL, libc::ENOSPC),
    // How SQLite tells a full disk where it makes the -shm longer.
    fault(Call::ShmMap, ffi::SQLITE_IOERR_SHMSIZE, libc::ENOSPC),
    fault(Call::ShmMap, ffi::SQLITE_NOMEM, 0),
    fault(Call::ShmMap, ffi::SQLITE_IOERR_NOMEM, 0),
    fault(Call::Lock, ffi::SQLITE_BUSY, libc::EAGAIN),
    fault(Call::ShmLock, ffi::SQLITE_BUSY, libc::EAGAIN),
];

const fn fault(call: Call, code: i32, errno: i32) -> Fault {
    Fault {
        call,
        code,
        errno,
        half: false,
    }
}

const fn half(call: Call, code: i32, errno: i32) -> Fault {
    Fault {
        half: true,
        ..fault(call, code, errno)
    }
}

/// A new file; one whose recorder was killed, so that its log has to be recovered; one that another program
/// was changing when it was killed, so that there is a journal to be rolled back.
fn bases() -> [Base; 3] {
    [workload::new(), workload::killed(), left_with_a_journal()]
}

/// The whole story from a new file. After the first checkpoint the calls from another base are those from a new file.
fn story(base: &Base) -> &'static [Batch] {
    let first_checkpoint = BATCHES.iter().position(|batch| batch.checkpoint).unwrap();
    match base.readings {
        0 => BATCHES,
        _ => &BATCHES[..=first_checkpoint],
    }
}

fn left_with_a_journal() -> Base {
    const READINGS: u64 = 250;
    let folder = Folder::new();
    let volume = Volume::mount(folder.path(), Device::REAL);
    let db = folder.db();
    recording::place(&volume, &db);
    let mut recording = Recording::of(&volume, recording::settings(&db, &[]), 0);
    assert!(recording.until_open() == Waited::Done);
    recording.send(READINGS, true);
    assert!(recording.until_committed() == Waited::Done);
    recording.stop();
    recording.end();
    let other = Sql::open(&db, None).unwrap();
    other
        .run("PRAGMA cache_size = 1; BEGIN; UPDATE readings SET value = 0")
        .unwrap();
    let files = folder.image();
    assert!(files.get("x.db-journal").is_some_and(|j| !j.is_empty()));
    Base {
        name: "journal to roll back",
        files,
        readings: READINGS,
    }
}

struct Trial<'a> {
    base: &'a Base,
    plan: Plan,
    lasting: Lasting,
    folder: Folder,
}

/// What is known when it is over.
struct Outcome {
    end: End,
    fired: Vec<Fired>,
    journal: Vec<Entry>,
    wrong: Vec<String>,
}

impl<'a> Trial<'a> {
    fn new(base: &'a Base, fault: Fault, lasting: Lasting, nth: u64) -> Self {
        Trial {
            base,
            plan: Plan {
                fault,
                nth,
                for_good: lasting != Lasting::Once,
            },
            lasting,
            folder: Folder::holding(&base.files),
        }
    }

    fn run(&self, more: &[&str], batches: &[Batch]) -> Outcome {
        let volume = Volume::mount(self.folder.path(), Device::REAL);
        let db = self.folder.db();
        recording::place(&volume, &db);
        volume.arm(self.plan);
        let settings = recording::settings(&db, more);
        let mut recording = Recording::of(&volume, settings, self.base.readings);
        let mut wrong = Vec::new();
        let lift = || volume.lift();
        let ended = workload::drive(&mut recording, batches, self.lasting, &lift, &mut wrong);
        let end = if ended {
            recording.stop();
            recording.end()
        } else {
            recording.kill()
        };
        Outcome {
            end,
            fired: volume.fired(),
            journal: volume.journal(),
            wrong,
        }
    }
}

/// SQLite does without these, and nothing that was recorded depends on them: a lock that was not given
/// back makes others wait; a log whose length is not known is not cut back to its limit; a journal that
/// cannot be looked at is taken to be hot, and opened again.
fn may_go_unnoticed(fault: Fault, role: Role) -> bool {
    fault.call == Call::Unlock
        || (fault.call == Call::FileSize && role == Role::Wal)
        || (fault.call == Call::Open && role == Role::Journal)
}

impl Outcome {
    /// Holds it against the contract; gives what is wrong, a line each.
    fn judge(mut self, trial: &Trial) -> Vec<String> {
        let passing = PASSING.iter().any(|p| is_same(*p, trial.plan.fault));
        if passing {
            self.judge_passing(trial);
        } else {
            self.judge_latched(trial);
        }
        if trial.plan.fault.call == Call::Sync {
            self.judge_sync();
        }
        self.judge_status(trial);
        self.wrong.extend(verdict::after(
            &trial.folder,
            &self.end,
            trial.base.readings,
        ));
        self.wrong
    }

    fn judge_passing(&mut self, trial: &Trial) {
        let end = &self.end;
        // Nothing was accepted, and there was no time to wait.
        if trial.lasting == Lasting::TooLong && end.step == Step::Open {
            return;
        }
        if let Some(error) = &end.failure {
            self.wrong
                .push(format!("it ended for what would have passed: {error}"));
        } else if trial.lasting != Lasting::TooLong
            && (end.step != Step::Closed || end.committed != end.sent)
        {
            self.wrong.push("it did not go on".into());
        }
    }

    fn judge_latched(&mut self, trial: &Trial) {
        let fault = trial.plan.fault;
        let (first, last) = (self.fired[0], *self.fired.last().unwrap());
        let Some(error) = &self.end.failure else {
            if !may_go_unnoticed(fault, first.role) {
                self.wrong
                    .push("the error was swallowed and it went on".into());
            }
            return;
        };
        if error.cause.primary_code() != fault.code & 0xff || error.class() != Class::Fatal {
            self.wrong
                .push(format!("the error goes by another name: {error}"));
        }
        let failing = if may_go_unnoticed(fault, first.role) {
            last
        } else {
            first
        };
        if failing.note.acked != self.end.acked {
            self.wrong.push(format!(
                "{} readings were acknowledged before the failing call, {} after it",
                failing.note.acked, self.end.acked
            ));
        }
    }

    /// After a sync that failed, the same file may be synced only when all that was to be synced has been
    /// written again: so does SQLite where it rolls back.
    fn judge_sync(&mut self) {
        for fired in &self.fired {
            let (before, after) = self.journal.split_at(fired.at);
            let Effect::SyncFailed { inode: failed } = after[0].effect else {
                unreachable!("the entry is the failed sync's");
            };
            let is_sync = |entry: &&Entry| match entry.effect {
                Effect::Sync { inode, .. } | Effect::SyncFailed { inode } => inode == failed,
                _ => false,
            };
            let Some(again) = after[1..].iter().position(|e| is_sync(&e)) else {
                continue;
            };
            let lost = writes(before.iter().rev().take_while(|e| !is_sync(e)), failed);
            let mended = writes(after[1..][..again].iter(), failed);
            let cut = after[1..][..again].iter().find_map(|e| match e.effect {
                Effect::Truncate { inode, size } if inode == failed => Some(size),
                _ => None,
            });
            if !lost
                .iter()
                .all(|w| mended.contains(w) || cut.is_some_and(|size| w.0 >= size))
            {
                self.wrong
                    .push(format!("the {:?} was synced again", fired.role));
            }
        }
    }

    fn judge_status(&mut self, trial: &Trial) {
        let end = &self.end;
        let db = trial.folder.db();
        let beside = recording::files_beside(&db);
        let mut complain = |what: String| self.wrong.push(what);
        if end.uncommitted != end.sent - end.committed {
            complain("the count of what is uncommitted is wrong".into());
        }
        let expected = match (&end.failure, end.uncommitted) {
            (_, 1..) => 4,
            (Some(_), 0) => 1,
            // The file could not even be opened.
            (None, 0) if end.step == Step::Open => 1,
            // For want of room the file may stay in WAL mode, and that is told.
            (None, 0) if end.step == Step::Closed && end.wal_frames == 0 && !end.kept_wal => 0,
            (None, 0) => 3,
        };
        if end.status != expected {
            complain(format!("status {} in place of {expected}", end.status));
        }
        let wal = std::fs::metadata(db.with_extension("db-wal"));
        if end.wal_frames > 0 && !wal.is_ok_and(|wal| wal.len() > 0) {
            complain("frames are said to be in a -wal that is not there".into());
        }
        if end.status != 0 || end.sent == trial.base.readings {
            return;
        }
        // The file is complete by itself, and there is no other; unless a lock was not to be had, as when
        // another process has the file open.
        let alone = Folder::holding(&Image::from([(
            "x.db".to_owned(),
            trial.folder.image()["x.db"].clone(),
        )]));
        match recording::found(&alone.db()) {
            Ok(state) if state.next == end.sent => {}
            other => complain(format!("status 0, and in the .db alone: {other:?}")),
        }
        let busy = trial.plan.fault.code == ffi::SQLITE_BUSY;
        let is_empty_wal = |path: &std::path::PathBuf| {
            busy && (path.ends_with("x.db-shm")
                || std::fs::metadata(path).is_ok_and(|m| m.len() == 0))
        };
        if !beside.iter().all(is_empty_wal) {
            complain(format!("status 0, and beside the .db: {beside:?}"));
        }
    }
}

fn is_same(one: Fault, other: Fault) -> bool {
    (one.call, one.code, one.errno) == (other.call, other.code, other.errno)
}

/// Offset and length of what was written to a file.
fn writes<'a>(entries: impl Iterator<Item = &'a Entry>, file: u64) -> Vec<(usize, usize)> {
    let written = entries.filter_map(|entry| match &entry.effect {
        Effect::Write {
            inode,
            offset,
            bytes,
        } if *inode == file => Some((*offset, bytes.len())),
        _ => None,
    });
    written.collect()
}

/// Fails the first call of the kind, the second, …, from each base; gives the complaints.
fn sweep(fault: Fault, lasting: Lasting, bases: &[Base]) -> Vec<String> {
    let complaints = Mutex::new(Vec::new());
    for base in bases {
        let trials = AtomicU64::new(0);
        trials::sweep(THREADS, |n| {
            let trial = Trial::new(base, fault, lasting, n + 1);
            let outcome = trial.run(SETTINGS, story(base));
            let more = !outcome.fired.is_empty();
            let told = format!("{:?}", outcome.end);
            let wrong = if more {
                trials.fetch_add(1, Ordering::SeqCst);
                outcome.judge(&trial)
            } else {
                verdict::after(&trial.folder, &outcome.end, base.readings)
            };
            let (name, nth) = (base.name, n + 1);
            complaints.lock().unwrap().extend(
                wrong.into_iter().map(|what| {
                    format!("{fault:?} {lasting:?}, call {nth}, {name}: {what}; {told}")
                }),
            );
            more
        });
        println!(
            "{:?} {}{} {lasting:?}, {}: {} calls failed",
            fault.call,
            fault.code,
            if fault.half { " after half" } else { "" },
            base.name,
            trials.into_inner()
        );
    }
    complaints.into_inner().unwrap()
}

#[test]
fn an_io_error_ends_the_acks_at_once_and_loses_none() {
    let bases = bases();
    let mut complaints = Vec::new();
    for fault in IO_ERRORS {
        complaints.extend(sweep(fault, Lasting::Once, &bases));
        // The first half of a write is what leaves a torn page or frame; later ones add nothing to it.
        if !fault.half {
            complaints.extend(sweep(fault, Lasting::ForEver, &bases));
        }
    }
    trials::assert_none(complaints);
}

#[test]
fn after_a_failed_sync_nothing_is_acked_and_nothing_synced_again() {
    let bases = bases();
    let mut complaints = sweep(FAILED_SYNC, Lasting::Once, &bases);
    complaints.extend(sweep(FAILED_SYNC, Lasting::ForEver, &bases));
    complaints.extend(sweep(FULL_SYNC, Lasting::Once, &bases));
    trials::assert_none(complaints);
}

#[test]
fn a_full_disk_and_a_lock_and_want_of_memory_are_waited_out() {
    let bases = bases();
    let mut complaints = Vec::new();
    for fault in PASSING {
        complaints.extend(sweep(fault, Lasting::Once, &bases));
        complaints.extend(sweep(fault, Lasting::LongEnough, &bases));
        // As with an I/O error.
        if !fault.half {
            complaints.extend(sweep(fault, Lasting::TooLong, &bases[..2]));
        }
    }
    trials::assert_none(complaints);
}

#[test]
fn a_disk_too_full_for_a_longer_shm_is_waited_out_in_the_middle_of_a_recording() {
    // One part of the -shm is for 4062 frames, the next for 4096 more.
    const MANY: Batch = Batch {
        readings: 3_000,
        awaited: true,
        checkpoint: false,
    };
    let base = &bases()[0];
    let full = fault(Call::ShmMap, ffi::SQLITE_IOERR_SHMSIZE, libc::ENOSPC);
    for lasting in [Lasting::Once, Lasting::LongEnough] {
        let trial = Trial::new(base, full, lasting, 3);
        let outcome = trial.run(&["--wal-autocheckpoint=0"], &[MANY; 27]);
        assert!(outcome.fired[0].note.committed > 3_000);
        trials::assert_none(outcome.judge(&trial));
    }
}

#[test]
fn check_takes_no_passing_fault_for_damage() {
    let base = workload::killed();
    for fault in PASSING {
        for nth in 1.. {
            let folder = Folder::holding(&base.files);
            let volume = Volume::mount(folder.path(), Device::REAL);
            volume.arm(Plan {
                fault,
                nth,
                for_good: false,
            });
            let audit = seawall::store::audit(&folder.db(), true, Duration::ZERO, &mut |_| {});
            if volume.fired().is_empty() {
                break;
            }
            match audit {
                Ok(audit) => {
                    assert!(
                        audit.damaged.is_empty() && audit.missing.is_empty(),
                        "{fault:?}, call {nth}: {audit:?}"
                    );
                    assert_eq!(audit.readings, base.readings as i64);
                }
                Err(e) => assert_eq!(e.class(), Class::Retry, "{fault:?}, call {nth}: {e}"),
            }
        }
    }
}

#[test]
fn the_harness_notices_a_write_that_is_lost_without_a_word() {
    let lost = fault(Call::Write, ffi::SQLITE_OK, 0);
    let base = &bases()[1];
    let (trials, noticed) = (AtomicU64::new(0), AtomicU64::new(0));
    trials::sweep(THREADS, |n| {
        let trial = Trial::new(base, lost, Lasting::Once, n + 1);
        let outcome = trial.run(SETTINGS, BATCHES);
        if outcome.fired.is_empty() {
            return false;
        }
        trials.fetch_add(1, Ordering::SeqCst);
        let wrong = verdict::after(&trial.folder, &outcome.end, base.readings);
        noticed.fetch_add(u64::from(!wrong.is_empty()), Ordering::SeqCst);
        true
    });
    let (trials, noticed) = (trials.into_inner(), noticed.into_inner());
    println!("{noticed} of {trials} lost writes were noticed");
    // Most pages are written again before anybody reads them.
    assert!(trials > 50 && noticed > 15);
}

#[test]
fn the_harness_notices_what_a_broken_recorder_would_leave() {
    let bases = bases();
    let sound = || {
        let trial = Trial::new(&bases[1], FAILED_SYNC, Lasting::Once, u64::MAX);
        let outcome = trial.run(SETTINGS, BATCHES);
        assert_eq!(outcome.end.status, 0);
        (trial, outcome.end)
    };
    let (trial, end) = sound();
    let first = bases[1].readings;
    trials::assert_none(verdict::after(&trial.folder, &end, first));
    for sabotage in [
        "DELETE FROM readings WHERE id = 80",
        "DELETE FROM readings WHERE id = (SELECT max(id) FROM readings)",
        "UPDATE readings SET value = value + 1 WHERE id = 80",
        "INSERT INTO readings SELECT id + 1000, time_ns, series, value FROM readings LIMIT 1",
        "UPDATE runs SET committed = committed - 1 WHERE id = 2",
        "DROP INDEX runs_by_first_id; CREATE INDEX runs_by_first_id ON runs(first_id) WHERE id < 0",
    ] {
        let (trial, end) = sound();
        Sql::open(&trial.folder.db(), None)
            .unwrap()
            .run(sabotage)
            .unwrap();
        let wrong = verdict::after(&trial.folder, &end, first);
        println!("{wrong:?}");
        assert!(!wrong.is_empty(), "{sabotage}");
    }
    // An ack for what is not there.
    let (trial, mut end) = sound();
    end.acked = end.sent + 1;
    assert!(!verdict::after(&trial.folder, &end, first).is_empty());
}

//! Guards against the power that goes: an acknowledged reading that was only in the page cache, a file that
//! no start can recover, a gap in the middle.
//!
//! The recorder's writer is run through a life of commits, checkpoints, logs begun anew, readings dropped
//! from the old end, a kill and clean stops, and every write and sync is written down. Then the power is cut
//! before each of these calls, the device keeps what a weak one may keep of what was not synced, and the
//! recorder is started on that. While it recovers and records, the power goes again.
//!
//! SEAWALL_TEST_SEED repeats a run; SEAWALL_TEST_SEEDS=N goes through N of them, with each way of a device
//! to lose writes at each call.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::vfs::disk::{Fate, Image};
use crate::vfs::recording::PATIENCE;
use crate::vfs::story::{Lie, Promise, Story, Teller};
use crate::vfs::trials;
use crate::vfs::volume::{Call, Device, Effect, Fault, Plan};
use libsqlite3_sys as ffi;
use seawall::db::checkpoint::CheckpointMode;

const THREADS: usize = 4;

const LEVELS: [&str; 3] = ["auto", "full", "normal"];

/// The whole life of a database, as its seed has it.
fn life(teller: &mut Teller, rng: &mut fastrand::Rng) -> Result<(), String> {
    let mut some = |teller: &mut Teller, recording: &mut _, commits: usize| {
        (0..commits).try_for_each(|_| teller.send(recording, rng.u64(1..12), rng.bool()))
    };
    // A new file. The log is begun anew after the checkpoint.
    let mut recording = teller.start()?;
    teller.send(&mut recording, 40, true)?;
    some(teller, &mut recording, 2)?;
    recording.want_checkpoint();
    some(teller, &mut recording, 3)?;
    teller.stop(recording)?;

    // A file that was left in peace, and that another process works on. The big commit makes a checkpoint.
    let mut recording = teller.start()?;
    some(teller, &mut recording, 3)?;
    teller.drop_all(&mut recording)?;
    some(teller, &mut recording, 1)?;
    teller.send(&mut recording, 120, true)?;
    some(teller, &mut recording, 1)?;
    let mode = CheckpointMode::Truncate;
    seawall::store::checkpoint_file(&teller.folder.db(), mode, PATIENCE)
        .map_err(|e| e.to_string())?;
    some(teller, &mut recording, 2)?;
    recording.kill();

    // A log to recover.
    let mut recording = teller.start()?;
    some(teller, &mut recording, 1)?;
    teller.drop_all(&mut recording)?;
    recording.want_checkpoint();
    some(teller, &mut recording, 2)?;
    teller.stop(recording)?;

    let mut recording = teller.start()?;
    teller.send(&mut recording, 5, false)?;
    teller.send(&mut recording, 0, true)?;
    teller.send(&mut recording, 5, true)?;
    teller.send(&mut recording, 5, false)?;
    recording.kill();
    Ok(())
}

fn tell(device: Device, level: &'static str, seed: u64) -> Story {
    let mut teller = Teller::new(&Image::new(), device, level);
    life(&mut teller, &mut fastrand::Rng::with_seed(seed)).unwrap();
    teller.end()
}

/// What a sweep has seen.
#[derive(Default)]
struct Tally {
    cuts: AtomicU64,
    second_cuts: AtomicU64,
    complaints: Mutex<Vec<String>>,
}

/// One cut: where, how, and the seed of all else.
#[derive(Clone, Copy, Debug)]
struct Cut {
    at: usize,
    fate: Fate,
    seed: u64,
}

impl Tally {
    /// Cuts the story, lets the recorder recover, and cuts it again while it does.
    fn cut(&self, story: &Story, cut: Cut, promise: Promise) {
        let rng = &mut fastrand::Rng::with_seed(cut.seed);
        let image = story.cut(cut.at, Lie::None, cut.fate, rng);
        self.cuts.fetch_add(1, Ordering::SeqCst);
        let recovery = match story.recover(cut.at, &image, promise, rng) {
            Ok(recovery) => recovery,
            Err(wrong) => return self.complain(format!("{cut:?}: {wrong}")),
        };
        let points = recovery.sync_points();
        let at = if rng.bool() {
            points[rng.usize(0..points.len())]
        } else {
            rng.usize(recovery.points())
        };
        let fate = Fate::EACH[rng.usize(0..Fate::EACH.len())];
        let image = recovery.cut(at, Lie::None, fate, rng);
        self.second_cuts.fetch_add(1, Ordering::SeqCst);
        if let Err(wrong) = recovery.recover(at, &image, promise, rng) {
            self.complain(format!("{cut:?}, then at {at} {fate:?}: {wrong}"));
        }
    }

    fn complain(&self, what: String) {
        self.complaints.lock().unwrap().push(what);
    }

    fn sweep(&self, story: &Story, cuts: &[Cut], promise: Promise) {
        trials::all(THREADS, cuts, |cut| self.cut(story, *cut, promise));
    }
}

/// Every call with each fate; or, in the short form, with one that is drawn, and each around the syncs.
fn cuts(story: &Story, seed: u64, thorough: bool) -> Vec<Cut> {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let syncs = story.sync_points();
    let mut cuts = Vec::new();
    for at in story.points() {
        let each = thorough || syncs.contains(&at);
        let drawn = Fate::EACH[rng.usize(1..Fate::EACH.len())];
        for fate in Fate::EACH {
            if each || fate == drawn {
                let seed = rng.u64(..);
                cuts.push(Cut { at, fate, seed });
            }
        }
    }
    cuts
}

/// Tells stories of one level on one device and cuts them everywhere. `share`: of the cuts in the short
/// form, one of so many.
fn sweep(level: &'static str, device: Device, share: usize) {
    let seed = trials::seed();
    let (seeds, thorough) = match trials::seeds() {
        Some(seeds) => (seeds, true),
        None => (1, false),
    };
    for seed in (seed..).take(seeds as usize) {
        let tally = Tally::default();
        let story = tell(device, level, seed);
        let mut cuts = cuts(&story, seed, thorough);
        if !thorough {
            let mut n = seed as usize;
            cuts.retain(|_| {
                n += 1;
                n.is_multiple_of(share)
            });
        }
        tally.sweep(&story, &cuts, Promise::of(level));
        println!(
            "{level} {device:?} seed {seed}: {} calls, {} syncs; {} cuts, then {} second cuts",
            story.journal.len(),
            story.syncs(),
            tally.cuts.into_inner(),
            tally.second_cuts.into_inner()
        );
        trials::assert_none(tally.complaints.into_inner().unwrap());
    }
}

#[test]
fn the_story_has_all_that_it_is_told_for() {
    let story = tell(Device::REAL, "auto", trials::seed());
    let is_wal = |name: &str| name.ends_with("-wal");
    let (mut wals, mut begun, mut cut, mut removed) = (HashSet::new(), 0, 0, 0);
    let mut checkpoints = 0;
    for entry in &story.journal {
        match &entry.effect {
            Effect::Link { name, inode } if is_wal(name) => {
                wals.insert(*inode);
            }
            Effect::Write { inode, offset, .. } if wals.contains(inode) => {
                begun += usize::from(*offset == 0);
            }
            Effect::Truncate { inode, size: 0 } if wals.contains(inode) => cut += 1,
            Effect::Unlink { name, .. } if is_wal(name) => removed += 1,
            Effect::Sync { inode, .. } if !wals.contains(inode) => checkpoints += 1,
            _ => {}
        }
    }
    println!(
        "{} logs, {begun} times begun, {cut} times cut to nothing, {removed} removed; \
         {checkpoints} syncs of the database and its journals",
        wals.len()
    );
    assert!(begun >= wals.len() + 2, "no log was begun anew");
    assert!(cut >= 3 && removed >= 2 && checkpoints >= 10);
}

#[test]
fn at_auto_every_acked_reading_survives_a_cut_at_any_call() {
    sweep("auto", Device::REAL, 1);
}

#[test]
fn at_full_every_committed_reading_survives_a_cut_at_any_call() {
    sweep("full", Device::REAL, 2);
}

#[test]
fn at_normal_a_cut_takes_no_more_than_since_the_last_sync_and_leaves_no_gap() {
    sweep("normal", Device::REAL, 2);
}

#[test]
fn no_level_depends_on_what_a_weak_device_does_not_promise() {
    for level in LEVELS {
        sweep(level, Device::WEAK, 8);
        sweep(level, Device::WEAK_SMALL_SECTORS, 8);
    }
}

#[test]
fn a_recovery_may_be_cut_at_any_of_its_calls() {
    let seed = trials::seed();
    let rng = &mut fastrand::Rng::with_seed(seed);
    let story = tell(Device::REAL, "auto", seed);
    let firsts = if trials::seeds().is_some() { 40 } else { 3 };
    let tally = Tally::default();
    for _ in 0..firsts {
        let syncs = story.sync_points();
        let first = syncs[rng.usize(syncs.len() / 3..syncs.len())];
        let image = story.cut(first, Lie::None, Fate::Times, rng);
        let recovery = story.recover(first, &image, Promise::Acked, rng).unwrap();
        let cuts = cuts(&recovery, rng.u64(..), trials::seeds().is_some());
        tally.sweep(&recovery, &cuts, Promise::Acked);
    }
    println!("{} cuts", tally.cuts.into_inner());
    trials::assert_none(tally.complaints.into_inner().unwrap());
}

#[test]
fn a_commit_larger_than_the_page_cache_is_whole_or_not_there() {
    let seed = trials::seed();
    let mut teller = Teller::new(&Image::new(), Device::REAL, "auto");
    let mut recording = teller.start().unwrap();
    teller.send(&mut recording, 5, true).unwrap();
    let before = teller.volume.journal_len();
    teller.send(&mut recording, 6_000, true).unwrap();
    recording.kill();
    let story = teller.end();
    // It spills into the log before it is committed.
    assert!(story.journal.len() - before > 2 * 300);
    let rng = &mut fastrand::Rng::with_seed(seed);
    let tally = Tally::default();
    let cuts: Vec<_> = (0..30)
        .map(|n| Cut {
            at: rng.usize(before..=story.journal.len()),
            fate: Fate::EACH[n % Fate::EACH.len()],
            seed: rng.u64(..),
        })
        .collect();
    tally.sweep(&story, &cuts, Promise::Acked);
    trials::assert_none(tally.complaints.into_inner().unwrap());
}

/// The kernel may drop what it could not sync and say so once: what was to be synced then never comes to
/// the device, whatever later syncs say.
#[test]
fn after_a_failed_sync_no_ack_is_given_that_the_power_can_take() {
    let seed = trials::seed();
    let complaints = Mutex::new(Vec::new());
    let failed = AtomicU64::new(0);
    trials::sweep(THREADS, |n| {
        let rng = &mut fastrand::Rng::with_seed(seed ^ n);
        let mut teller = Teller::new(&Image::new(), Device::REAL, "auto");
        teller.volume.arm(Plan {
            fault: Fault {
                call: Call::Sync,
                code: ffi::SQLITE_IOERR_FSYNC,
                errno: libc::EIO,
                half: false,
            },
            nth: n + 1,
            for_good: false,
        });
        // The sync of another process may be the one that fails; then that is told to it.
        let ended = life(&mut teller, &mut fastrand::Rng::with_seed(seed));
        let fired = teller.volume.fired();
        let Some(fired) = fired.first() else {
            return false;
        };
        failed.fetch_add(1, Ordering::SeqCst);
        let complain = |what: String| complaints.lock().unwrap().push(what);
        if ended.is_ok() {
            complain(format!("sync {} failed and nobody heard of it", n + 1));
        }
        let story = teller.break_off();
        for at in fired.at..=story.journal.len() {
            let fate = [Fate::Nothing, Fate::Sectors][at % 2];
            let image = story.cut(at, Lie::None, fate, rng);
            if let Err(wrong) = story.recover(at, &image, Promise::Acked, rng) {
                complain(format!(
                    "sync {} failed, cut at {at} {fate:?}: {wrong}",
                    n + 1
                ));
            }
        }
        true
    });
    println!("{} syncs failed", failed.into_inner());
    trials::assert_none(complaints.into_inner().unwrap());
}

/// Cuts on a device or by a promise that cannot hold; how many of how many are noticed.
fn noticed(story: &Story, lie: Lie, promise: Promise, fate: Fate, seed: u64) -> (usize, usize) {
    let points = story.sync_points();
    let results = trials::all(THREADS, &points, |&at| {
        let rng = &mut fastrand::Rng::with_seed(seed ^ at as u64);
        let image = story.cut(at, lie, fate, rng);
        story.recover(at, &image, promise, rng).is_err()
    });
    (
        results.iter().filter(|noticed| **noticed).count(),
        results.len(),
    )
}

#[test]
fn a_device_that_lies_about_syncs_is_caught() {
    let seed = trials::seed();
    let mut story = tell(Device::REAL, "auto", seed);
    for (lie, least) in [
        (Lie::All, 40),
        (Lie::Wal, 20),
        (Lie::Db, 20),
        (Lie::Folder, 20),
    ] {
        story.play(lie);
        for fate in [Fate::Nothing, Fate::Sectors] {
            let (noticed, cuts) = noticed(&story, lie, Promise::Acked, fate, seed);
            println!("{lie:?} {fate:?}: noticed at {noticed} of {cuts} cuts");
            assert!(
                noticed >= least || fate != Fate::Nothing,
                "the harness is blind"
            );
            assert!(noticed > 0, "the harness is blind");
        }
    }
}

#[test]
fn a_recorder_that_acks_what_it_has_not_synced_is_caught() {
    let seed = trials::seed();
    let auto = tell(Device::REAL, "auto", seed);
    let normal = tell(Device::REAL, "normal", seed);
    for (what, story, promise, least) in [
        ("when readings are handed over", &auto, Promise::Sent, 10),
        (
            "every commit, and syncs those awaited",
            &auto,
            Promise::Committed,
            1,
        ),
        ("commits at normal", &normal, Promise::Acked, 3),
    ] {
        let (noticed, cuts) = noticed(story, Lie::None, promise, Fate::Nothing, seed);
        println!("acks {what}: noticed at {noticed} of {cuts} cuts");
        assert!(noticed >= least, "the harness is blind to acks {what}");
    }
}

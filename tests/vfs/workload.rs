//! The workload that a fault comes into: every kind of commit, a checkpoint asked for, one by the threshold,
//! the log begun anew after each, and a clean stop.

use std::time::{Duration, Instant};

use seawall::record::stop::StopReason;
use seawall::sys::signals::Signal;

use super::disk::Image;
use super::recording::{self, PATIENCE, Recording, Waited};
use super::trials::Folder;
use super::volume::{Device, Volume};

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    Once,
    /// Until the writer was seen to try again.
    LongEnough,
    /// Until the recorder is asked to stop and has to leave.
    TooLong,
    ForEver,
}

#[derive(Clone, Copy)]
pub struct Batch {
    pub readings: u64,
    pub awaited: bool,
    /// Asked for before it.
    pub checkpoint: bool,
}

const fn batch(readings: u64, awaited: bool) -> Batch {
    Batch {
        readings,
        awaited,
        checkpoint: false,
    }
}

/// Half of it is for readers who are in the checkpoint's way.
const STOP_TIMEOUT: Duration = Duration::from_millis(400);

pub const SETTINGS: &[&str] = &["--wal-autocheckpoint=20"];

pub const BATCHES: &[Batch] = &[
    batch(20, true),
    batch(5, false),
    batch(0, true),
    Batch {
        checkpoint: true,
        ..batch(10, true)
    },
    batch(150, true),
    batch(3, true),
    batch(2, false),
];

/// Where a trial begins: the files, and the readings in them.
pub struct Base {
    pub name: &'static str,
    pub files: Image,
    pub readings: u64,
}

pub fn new() -> Base {
    Base {
        name: "new",
        files: Image::new(),
        readings: 0,
    }
}

/// The recorder was killed, so that its log has to be recovered.
pub fn killed() -> Base {
    let folder = Folder::new();
    let volume = Volume::mount(folder.path(), Device::REAL);
    let db = folder.db();
    recording::place(&volume, &db);
    let mut recording = Recording::of(&volume, recording::settings(&db, &[]), 0);
    assert_eq!(recording.until_open(), Waited::Done);
    for (readings, awaited) in [(70, true), (7, false)] {
        recording.send(readings, awaited);
        assert_eq!(recording.until_committed(), Waited::Done);
    }
    let readings = recording.sent();
    recording.kill();
    Base {
        name: "log to recover",
        files: folder.image(),
        readings,
    }
}

/// Runs the batches while a fault lasts that `lift` ends. False: the recorder has to leave while its writer
/// still tries.
pub fn drive(
    recording: &mut Recording,
    batches: &[Batch],
    lasting: Lasting,
    lift: &dyn Fn(),
    wrong: &mut Vec<String>,
) -> bool {
    let mut go = |recording: &Recording, until: fn(&Recording) -> Waited| {
        wait(recording, until, lasting, lift, wrong)
    };
    match go(recording, Recording::until_open) {
        Waited::Done => {}
        other => return other != Waited::Stuck,
    }
    for batch in batches {
        if batch.checkpoint {
            recording.want_checkpoint();
        }
        recording.send(batch.readings, batch.awaited);
        match go(recording, Recording::until_committed) {
            Waited::Done => {}
            other => return other != Waited::Stuck,
        }
    }
    recording.stop_within(StopReason::Eof, STOP_TIMEOUT);
    go(recording, Recording::until_over) != Waited::Stuck
}

/// Waits; lets a fault that lasts pass once the writer has tried again and failed again.
fn wait(
    recording: &Recording,
    until: fn(&Recording) -> Waited,
    lasting: Lasting,
    lift: &dyn Fn(),
    wrong: &mut Vec<String>,
) -> Waited {
    let mut faults_before = None;
    let mut failing_before = None;
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "the writer does not try again");
        let waited = until(recording);
        if waited != Waited::Stuck {
            return waited;
        }
        let failing = recording.failing();
        if let (Some((since, acked)), Some((since_before, acked_before))) =
            (failing, failing_before)
            && since == since_before
            && acked != acked_before
        {
            wrong.push("an ack while the commit fails".into());
        }
        failing_before = failing;
        let faults = recording.faults();
        let Some(faults_before) = faults_before else {
            faults_before = Some(faults);
            if lasting == Lasting::TooLong {
                recording.stop_within(StopReason::Signal(Signal::Term), STOP_TIMEOUT);
            }
            continue;
        };
        if faults > faults_before {
            match lasting {
                Lasting::TooLong => return Waited::Stuck,
                Lasting::LongEnough => lift(),
                Lasting::Once | Lasting::ForEver => {}
            }
        }
    }
}

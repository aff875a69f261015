//! A recording from its first start to its last, told once and then cut at any of its calls.
//!
//! A story knows every state that the file was in, and at each call what had been promised by then. The
//! power may go before any call: `recover` takes what the device kept, starts the recorder on it, and holds
//! it against those promises. A recovery is a story itself, and so can be cut again.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::disk::{Disk, Fate, Image, Truth};
use super::recording::{self, End, Marks, Recording, State, Waited};
use super::trials::Folder;
use super::volume::{Device, Effect, Entry, Mounted, Volume};

/// A device that says of syncs that they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    None,
    All,
    /// Only of the -wal's.
    Wal,
    /// Only of the database's.
    Db,
    /// Only of the folder's.
    Folder,
}

/// What must be there after a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// What was committed when the -wal was last synced.
    Synced,
    /// And every reading that was acknowledged.
    Acked,
    /// And every reading that was committed.
    Committed,
    /// And every reading that was handed over: what a recorder promises that acks too early.
    Sent,
}

impl Promise {
    pub fn of(level: &str) -> Self {
        match level {
            "normal" => Promise::Synced,
            "auto" => Promise::Acked,
            "full" => Promise::Committed,
            _ => panic!("{level}"),
        }
    }
}

/// What was known before a call.
#[derive(Clone, Copy, Debug)]
struct Known {
    acked: u64,
    committed: u64,
    sent: u64,
    state: usize,
    synced_committed: u64,
    synced_state: usize,
    /// A run's row is on the disk when the recorder says that it is open, at every level.
    opened: usize,
}

pub struct Story {
    device: Device,
    level: &'static str,
    base: Disk,
    pub journal: Vec<Entry>,
    states: Vec<State>,
    known: Vec<Known>,
    wals: HashSet<u64>,
    /// The mark after the last call.
    mark: Option<Vec<u8>>,
    /// The disk before each so many calls.
    played: Vec<(Lie, Vec<Disk>)>,
}

/// As `--retain` says below.
const RETAIN: Duration = Duration::from_secs(30 * 86_400);

/// Calls between two disks that are kept.
const STRIDE: usize = 16;

impl Story {
    fn new(teller: Teller) -> Self {
        let journal = teller.volume.journal();
        let mut wals = HashSet::new();
        for entry in &journal {
            if let Effect::Link { name, inode } = &entry.effect
                && name.ends_with("-wal")
            {
                wals.insert(*inode);
            }
        }
        wals.extend(teller.wals);
        let mut story = Story {
            device: teller.volume.device(),
            level: teller.level,
            base: teller.base,
            known: Vec::new(),
            states: teller.states,
            journal,
            wals,
            mark: teller.volume.mark(),
            played: Vec::new(),
        };
        story.know(&teller.opened);
        story.play(Lie::None);
        story
    }

    fn know(&mut self, opened: &[usize]) {
        let start = self.states[0].next;
        let mut known = Known {
            acked: start,
            committed: start,
            sent: start,
            state: 0,
            synced_committed: start,
            synced_state: 0,
            opened: 0,
        };
        for entry in &self.journal {
            let note = entry.note;
            known.acked = known.acked.max(note.acked);
            known.committed = known.committed.max(note.committed);
            known.sent = known.sent.max(note.sent);
            known.state = known.state.max(note.state);
            let last = opened.iter().filter(|&&at| at <= known.state).max();
            known.opened = *last.unwrap_or(&0);
            self.known.push(known);
            if matches!(entry.effect, Effect::Sync { inode, .. } if self.wals.contains(&inode)) {
                known.synced_committed = known.committed;
                known.synced_state = known.state;
            }
        }
        self.known.push(known);
    }

    /// Plays the journal on a device that lies, so that the story can be cut on it.
    pub fn play(&mut self, lie: Lie) {
        let mut disk = self.base.clone();
        let mut disks = Vec::new();
        for (n, entry) in self.journal.iter().enumerate() {
            if n.is_multiple_of(STRIDE) {
                disks.push(disk.clone());
            }
            disk.apply(entry, self.truth(entry, lie));
        }
        if self.journal.len().is_multiple_of(STRIDE) {
            disks.push(disk);
        }
        self.played.push((lie, disks));
    }

    fn truth(&self, entry: &Entry, lie: Lie) -> Truth {
        let is_wal = match entry.effect {
            Effect::Sync { inode, .. } => self.wals.contains(&inode),
            _ => false,
        };
        Truth {
            file: match lie {
                Lie::None | Lie::Folder => true,
                Lie::All => false,
                Lie::Wal => !is_wal,
                Lie::Db => is_wal,
            },
            folder: lie != Lie::All && lie != Lie::Folder,
        }
    }

    /// The calls before which the power may go, the end of the story included.
    pub fn points(&self) -> std::ops::RangeInclusive<usize> {
        0..=self.journal.len()
    }

    /// Those around a sync: when most is at stake, and when nothing is. And the end.
    pub fn sync_points(&self) -> Vec<usize> {
        let is_sync = |n: &usize| matches!(self.journal[*n].effect, Effect::Sync { .. });
        let syncs = (0..self.journal.len()).filter(is_sync);
        let mut points: Vec<usize> = syncs.flat_map(|n| [n, n + 1]).collect();
        points.push(self.journal.len());
        points.dedup();
        points
    }

    pub fn syncs(&self) -> usize {
        let syncs = self.journal.iter();
        syncs
            .filter(|entry| matches!(entry.effect, Effect::Sync { .. }))
            .count()
    }

    /// What the device holds when the power goes before a call.
    pub fn cut(&self, at: usize, lie: Lie, fate: Fate, rng: &mut fastrand::Rng) -> Image {
        let played = self.played.iter().find(|(played, _)| *played == lie);
        let (_, disks) = played.expect("the story was played on this device");
        let mut disk = disks[at / STRIDE].clone();
        for entry in &self.journal[at / STRIDE * STRIDE..at] {
            disk.apply(entry, self.truth(entry, lie));
        }
        let mut image = disk.cut(fate, rng);
        let mark = match self.journal.get(at) {
            Some(entry) => &entry.mark,
            None => &self.mark,
        };
        if let Some(mark) = mark {
            image.insert("x.db-mark".into(), mark.clone());
        }
        image
    }

    /// What was promised by a call and is not in the state that was found.
    fn is_missing(&self, at: usize, promise: Promise, found: State) -> Option<String> {
        let Some(state) = self.states.iter().position(|state| *state == found) else {
            return Some(format!("a state that never was: {found:?}"));
        };
        let known = self.known[at];
        let next = match promise {
            Promise::Synced => known.synced_committed,
            Promise::Acked => known.synced_committed.max(known.acked),
            Promise::Committed => known.committed,
            Promise::Sent => known.sent,
        };
        let least = match promise {
            Promise::Committed => known.state,
            _ => known.synced_state.max(known.opened),
        };
        (found.next < next || state < least).then(|| {
            format!(
                "{found:?}, state {state}, where {next} readings and state {least} are promised: \
                 {known:?}"
            )
        })
    }

    /// Starts the recorder on what a cut has left, and lets it record and stop.
    pub fn recover(
        &self,
        at: usize,
        image: &Image,
        promise: Promise,
        rng: &mut fastrand::Rng,
    ) -> Result<Story, String> {
        let mut teller = Teller::new(image, self.device, self.level);
        let db = teller.folder.db();
        if rng.bool() {
            // Shared memory of another time: never to be believed.
            let mut junk = vec![0; 32 * 1024];
            rng.fill(&mut junk);
            std::fs::write(db.with_extension("db-shm"), junk).unwrap();
        }
        teller.retains = false;
        let mut recording = teller.start()?;
        let found = recording::found(&db)?;
        let before = State {
            runs: found.runs - 1,
            ..found
        };
        self.is_missing(at, promise, before).map_or(Ok(()), Err)?;
        recording::audited(&db)?;

        teller.states = vec![before, found];
        teller.marks.state.store(1, Ordering::SeqCst);
        recording.goes_on_from(found.next);
        recording.oldest = found.first;
        teller.send(&mut recording, 3, true)?;
        teller.send(&mut recording, 2, false)?;
        teller.stop(recording)?;
        let left = recording::found(&db)?;
        if left != teller.now() {
            return Err(format!("{left:?} after a stop at {:?}", teller.now()));
        }
        Ok(Story::new(teller))
    }
}

/// What a story is told with.
pub struct Teller {
    pub folder: Folder,
    pub volume: Mounted,
    level: &'static str,
    base: Disk,
    wals: HashSet<u64>,
    states: Vec<State>,
    /// Of these, those that a start came to.
    opened: Vec<usize>,
    /// A recovery drops nothing, so that it can be compared.
    retains: bool,
    /// The first reading of the last run.
    run_first: u64,
    marks: Marks,
}

impl Teller {
    pub fn new(image: &Image, device: Device, level: &'static str) -> Self {
        let folder = Folder::holding(image);
        let volume = Volume::mount(folder.path(), device);
        volume.boot_anew();
        let files = volume.adopt();
        let wals = files.iter().filter(|(_, (name, _))| name.ends_with("-wal"));
        let wals = wals.map(|(inode, _)| *inode).collect();
        let base = Disk::holding(&files);
        recording::place(&volume, &folder.db());
        Teller {
            folder,
            volume,
            level,
            base,
            wals,
            states: vec![State::default()],
            opened: Vec::new(),
            retains: true,
            run_first: 0,
            marks: Marks::default(),
        }
    }

    pub fn now(&self) -> State {
        *self.states.last().unwrap()
    }

    /// The next state; from now on it may be found, and is known only when it is `reached`.
    fn will_be(&mut self, state: State) {
        if state != self.now() {
            self.states.push(state);
        }
    }

    fn reached(&self) {
        self.marks
            .state
            .store(self.states.len() - 1, Ordering::SeqCst);
    }

    pub fn start(&mut self) -> Result<Recording, String> {
        let more = [
            "--synchronous",
            self.level,
            "--wal-autocheckpoint=20",
            if self.retains {
                "--retain=30d"
            } else {
                "--retain=none"
            },
            "--on-damage=refuse",
        ];
        let settings = recording::settings(&self.folder.db(), &more);
        let now = self.now();
        let runs = now.runs + 1;
        self.run_first = now.next;
        self.will_be(State { runs, ..now });
        let marks = self.marks.clone();
        let mut recording = Recording::start(&self.volume, settings, now.next, marks, || {});
        if recording.until_open() != Waited::Done {
            return Err(format!("it does not start: {:?}", recording.kill()));
        }
        recording.oldest = now.first;
        self.reached();
        self.opened.push(self.states.len() - 1);
        Ok(recording)
    }

    pub fn send(
        &mut self,
        recording: &mut Recording,
        readings: u64,
        awaited: bool,
    ) -> Result<(), String> {
        let next = recording.sent() + readings;
        self.will_be(State { next, ..self.now() });
        recording.send(readings, awaited);
        if recording.until_committed() != Waited::Done {
            return Err(format!("it does not record: {:?}", recording.stands()));
        }
        self.reached();
        Ok(())
    }

    pub fn stop(&self, recording: Recording) -> Result<(), String> {
        recording.stop();
        let end: End = recording.end();
        if end.status != 0 || end.committed != end.sent {
            return Err(format!("it does not stop: {end:?}"));
        }
        let beside = recording::files_beside(&self.folder.db());
        if !beside.is_empty() {
            return Err(format!("it left {beside:?}"));
        }
        Ok(())
    }

    /// Lets the time come at which all readings are too old, also by the time for which recorders have run. They are
    /// less than a span.
    pub fn drop_all(&mut self, recording: &mut Recording) -> Result<(), String> {
        let now = self.now();
        let gone = recording.expired() + now.next - now.first;
        // The readings of earlier runs are a span of their own, which goes first.
        if (now.first + 1..now.next).contains(&self.run_first) {
            let first = self.run_first;
            self.will_be(State { first, ..now });
        }
        self.will_be(State {
            first: now.next,
            ..now
        });
        let newest_ns = now.next as i64 * recording::STEP_NS;
        let clock_ns = self.marks.clock_ns.load(Ordering::SeqCst).max(newest_ns);
        self.marks
            .clock_ns
            .store(clock_ns + RETAIN.as_nanos() as i64, Ordering::SeqCst);
        if recording.until_expired(gone) != Waited::Done {
            return Err(format!("it does not expire: {:?}", recording.stands()));
        }
        recording.oldest = now.next;
        self.reached();
        Ok(())
    }

    /// The end of the story. Its journal, played whole, must give the very files.
    pub fn end(self) -> Story {
        let files = self.folder.image();
        let story = Story::new(self);
        let rng = &mut fastrand::Rng::with_seed(0);
        let played = story.cut(story.journal.len(), Lie::None, Fate::All, rng);
        assert!(played == files, "the journal does not give the files");
        story
    }

    /// The end of a story that did not end well.
    pub fn break_off(self) -> Story {
        Story::new(self)
    }
}

//! Guards against want of memory inside SQLite: an abort, an error without a name, a recording that ends for
//! one allocation that failed, an acknowledged reading gone.
//!
//! SQLite's allocator fails the Nth time that the writer's thread asks, once or for good, for each N (in the
//! short form, for some of them, drawn by the seed). It has to be put in place before SQLite is used at all,
//! so that these tests have a process of their own.

#[path = "support/allocator.rs"]
mod allocator;
mod vfs;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use seawall::record::stop::Step;
use seawall::store::Class;
use vfs::recording::{self, Marks, PATIENCE, Recording};
use vfs::trials::{self, Folder};
use vfs::verdict;
use vfs::volume::{Device, Volume};
use vfs::workload::{self, Base, Batch, Lasting, SETTINGS};

/// Most of a trial is waiting for the next try.
const THREADS: usize = 32;

const BATCHES: [Batch; 3] = [
    Batch {
        readings: 20,
        awaited: true,
        checkpoint: false,
    },
    Batch {
        readings: 5,
        awaited: false,
        checkpoint: false,
    },
    Batch {
        readings: 60,
        awaited: true,
        checkpoint: true,
    },
];

/// Which allocations of the threads that have it fail.
struct Plan {
    nth: u64,
    for_good: bool,
    asked: AtomicU64,
    failed: AtomicU64,
    lifted: AtomicBool,
}

impl Plan {
    fn new(nth: u64, for_good: bool) -> Arc<Self> {
        Arc::new(Plan {
            nth,
            for_good,
            asked: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            lifted: AtomicBool::new(false),
        })
    }

    fn fails(&self) -> bool {
        if self.lifted.load(Ordering::SeqCst) {
            return false;
        }
        let n = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let fails = n == self.nth || (self.for_good && n > self.nth);
        self.failed.fetch_add(u64::from(fails), Ordering::SeqCst);
        fails
    }

    fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    fn lift(&self) {
        self.lifted.store(true, Ordering::SeqCst);
    }
}

thread_local! {
    static PLAN: RefCell<Option<Arc<Plan>>> = const { RefCell::new(None) };
}

/// Whether this thread's next allocation fails.
fn fails() -> bool {
    let plan = PLAN.try_with(|plan| plan.borrow().as_ref().is_some_and(|plan| plan.fails()));
    plan.unwrap_or(false)
}

/// Before any other use of SQLite in this process.
fn install() {
    allocator::install(|| !fails());
    vfs::install();
}

/// Gives what is wrong; None when no allocation failed.
fn trial(base: &Base, nth: u64, lasting: Lasting) -> Option<Vec<String>> {
    let folder = Folder::holding(&base.files);
    let volume = Volume::mount(folder.path(), Device::REAL);
    let db = folder.db();
    recording::place(&volume, &db);
    let plan = Plan::new(nth, lasting != Lasting::Once);
    let settings = recording::settings(&db, SETTINGS);
    let theirs = plan.clone();
    let prepare = move || PLAN.set(Some(theirs));
    let mut recording =
        Recording::start(&volume, settings, base.readings, Marks::default(), prepare);
    let counted = plan.clone();
    recording.count_faults_by(move || counted.failed());

    let mut wrong = Vec::new();
    let lift = || plan.lift();
    let ended = workload::drive(&mut recording, &BATCHES, lasting, &lift, &mut wrong);
    let end = if ended {
        recording.stop();
        recording.end()
    } else {
        let end = recording.stands();
        // The thread comes to its end, and no more to the files.
        volume.kill();
        plan.lift();
        recording.kill();
        end
    };
    if plan.failed() == 0 {
        return None;
    }
    // Where it could not even open the file, nothing was accepted.
    let hopeless = lasting == Lasting::TooLong && end.step == Step::Open;
    if let Some(error) = end.failure.as_ref().filter(|_| !hopeless) {
        wrong.push(format!("it ended for what would have passed: {error}"));
    } else if lasting != Lasting::TooLong && (end.step != Step::Closed || end.committed != end.sent)
    {
        wrong.push(format!("it did not go on: {end:?}"));
    }
    let expected = match (end.uncommitted, end.step) {
        (1.., _) => 4,
        (0, Step::Open) => 1,
        (0, Step::Closed) if end.wal_frames == 0 && !end.kept_wal => 0,
        (0, _) => 3,
    };
    if end.status != expected {
        wrong.push(format!(
            "status {} in place of {expected}: {end:?}",
            end.status
        ));
    }
    if end.uncommitted != end.sent - end.committed {
        wrong.push(format!(
            "the count of what is uncommitted is wrong: {end:?}"
        ));
    }
    wrong.extend(verdict::after(&folder, &end, base.readings));
    Some(wrong)
}

/// One in so many allocations fails in the short form: odd numbers without a common factor, so that what is allocated in
/// pairs has its turn.
fn sweep(lasting: Lasting, short: u64) {
    install();
    let seed = trials::seed();
    let stride = if trials::seeds().is_some() { 1 } else { short };
    let complaints = Mutex::new(Vec::new());
    for base in [workload::new(), workload::killed()] {
        let trials = AtomicU64::new(0);
        trials::sweep(THREADS, |n| {
            let nth = n * stride + seed % stride + 1;
            let Some(wrong) = trial(&base, nth, lasting) else {
                return false;
            };
            trials.fetch_add(1, Ordering::SeqCst);
            let told = wrong.into_iter();
            let told = told.map(|what| format!("{}, allocation {nth}: {what}", base.name));
            complaints.lock().unwrap().extend(told);
            true
        });
        let trials = trials.into_inner();
        println!("{lasting:?}, {}: {trials} allocations failed", base.name);
        assert!(trials > 1000 / stride, "the sweep has reached its end");
    }
    trials::assert_none(complaints.into_inner().unwrap());
}

#[test]
fn one_allocation_that_fails_is_waited_out() {
    sweep(Lasting::Once, 5);
}

#[test]
fn want_of_memory_that_passes_is_waited_out() {
    sweep(Lasting::LongEnough, 11);
}

#[test]
fn want_of_memory_that_stays_ends_with_the_count_of_what_is_uncommitted() {
    sweep(Lasting::TooLong, 23);
}

#[test]
fn check_takes_no_want_of_memory_for_damage() {
    install();
    let base = workload::killed();
    let folder = Folder::holding(&base.files);
    for nth in 1.. {
        let plan = Plan::new(nth, false);
        PLAN.set(Some(plan.clone()));
        let audit = seawall::store::audit(&folder.db(), true, PATIENCE, &mut |_| {});
        PLAN.set(None);
        match audit {
            Err(e) => assert_eq!(e.class(), Class::Retry, "allocation {nth}: {e}"),
            Ok(audit) => {
                let sound = audit.damaged.is_empty() && audit.missing.is_empty();
                assert!(sound, "allocation {nth}: {audit:?}");
                assert_eq!(audit.readings, base.readings as i64);
            }
        }
        if plan.failed() == 0 {
            println!("{} allocations failed", nth - 1);
            break;
        }
    }
}

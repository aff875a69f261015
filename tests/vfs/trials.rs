//! Many trials beside each other, each in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::disk::Image;
use super::volume;

/// A folder in memory where there is one for all, else under `target`; removed at the end. What lasts of its files is
/// the VFS's to say, so the filesystem below makes no difference but to the time.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("seawall-trial-{}-{n}", std::process::id());
        let in_memory = Path::new("/dev/shm").join(&name);
        if fs::create_dir(&in_memory).is_ok() {
            return Folder(in_memory);
        }
        let base = fs::canonicalize(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = base.join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// With the files of an image.
    pub fn holding(image: &Image) -> Self {
        let folder = Self::new();
        for (name, bytes) in image {
            fs::write(folder.0.join(name), bytes).unwrap();
        }
        folder
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn db(&self) -> PathBuf {
        self.0.join(volume::DB)
    }

    /// The files as a process that dies leaves them; the shared memory is no file that lasts.
    pub fn image(&self) -> Image {
        let entries = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap());
        let files = entries.map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        });
        files.filter(|(name, _)| !name.ends_with("-shm")).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `each` for 0, 1, 2, … in several threads, until it has said `false` once; numbers that are under
/// way then are brought to their end.
pub fn sweep(threads: usize, each: impl Fn(u64) -> bool + Sync) {
    let (next, end) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= end.load(Ordering::SeqCst) {
                        return;
                    }
                    if !each(n) {
                        end.fetch_min(n, Ordering::SeqCst);
                    }
                }
            });
        }
    });
}

/// Runs `each` for all the items in several threads; gives the results in no order.
pub fn all<T: Sync, R: Send>(threads: usize, items: &[T], each: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let results = Mutex::new(Vec::new());
    sweep(threads, |n| {
        let Some(item) = items.get(n as usize) else {
            return false;
        };
        let result = each(item);
        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
        results.push(result);
        true
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn given(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}={text} is no whole number")))
}

/// From SEAWALL_TEST_SEED, or a new one; printed, so that a failure can be had again.
pub fn seed() -> u64 {
    // Always the same unless another is given: what fails on CI then fails for the change under test.
    const USUAL: u64 = 20_261_124;
    let seed = given("SEAWALL_TEST_SEED").unwrap_or(USUAL);
    println!("SEAWALL_TEST_SEED={seed}");
    seed
}

/// How many seeds the user wants to be gone through, and thoroughly. None: the short form, with one.
pub fn seeds() -> Option<u64> {
    given("SEAWALL_TEST_SEEDS")
}

/// Fails the test if there are complaints.
pub fn assert_none(mut complaints: Vec<String>) {
    const TOLD: usize = 20;
    if complaints.is_empty() {
        return;
    }
    let all = complaints.len();
    complaints.sort();
    complaints.truncate(TOLD);
    panic!("{all} complaints, such as:\n{}", complaints.join("\n"));
}

//! A device that holds on to what was synced and does as it likes with the rest, until the power goes.
//!
//! It is played from a volume's journal, so that one run of a workload can be cut at every call, many
//! times. What it may do is what docs/faults.md leaves to a device: a sync that returned is true, and a sector
//! of 512 bytes is written whole or not at all. Between two syncs each sector may hold what it held at any
//! time since the first, in any combination; entries of the folder come and go in any combination until it
//! is synced; a file may have any length that it had, and where it grew without its bytes there is
//! anything.

use std::collections::{BTreeMap, BTreeSet};

use super::volume::{Effect, Entry};

pub const SECTOR_BYTES: usize = 512;

/// Files by name.
pub type Image = BTreeMap<String, Vec<u8>>;

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { size: usize },
}

/// Since the last sync, with its place in the journal.
#[derive(Clone, Debug)]
struct Pending {
    at: usize,
    change: Change,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// What is on the device.
    durable: Vec<u8>,
    /// What the page cache held at the last sync, whether that failed or not.
    cache: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
struct Link {
    at: usize,
    name: String,
    /// None: removed.
    inode: Option<u64>,
}

/// Which parts of a sync the device really makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    pub file: bool,
    pub folder: bool,
}

/// How the device behaves at the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All was written in time, as when only the process dies.
    All,
    /// Nothing that was not synced.
    Nothing,
    /// In the order of the calls up to one, of which some sectors.
    Order,
    /// Some writes whole, others not at all.
    Writes,
    /// Some sectors as they are, others as they were.
    Sectors,
    /// The same by pages of 4096 bytes.
    Pages,
    /// Each sector as it was at some time.
    Times,
}

impl Fate {
    pub const EACH: [Fate; 7] = [
        Fate::All,
        Fate::Nothing,
        Fate::Order,
        Fate::Writes,
        Fate::Sectors,
        Fate::Pages,
        Fate::Times,
    ];
}

#[derive(Clone, Debug, Default)]
pub struct Disk {
    inodes: BTreeMap<u64, Inode>,
    /// The folder as it is on the device.
    names: BTreeMap<String, u64>,
    links: Vec<Link>,
    applied: usize,
}

impl Disk {
    /// With files that are on the device from the beginning.
    pub fn holding(files: &BTreeMap<u64, (String, Vec<u8>)>) -> Self {
        let mut disk = Disk::default();
        for (&inode, (name, bytes)) in files {
            disk.names.insert(name.clone(), inode);
            disk.inodes.insert(
                inode,
                Inode {
                    durable: bytes.clone(),
                    cache: bytes.clone(),
                    pending: Vec::new(),
                },
            );
        }
        disk
    }

    /// One more call, of which a sync is as true as `truth` says.
    pub fn apply(&mut self, entry: &Entry, truth: Truth) {
        let at = self.applied;
        self.applied += 1;
        let mut pend = |inode: &u64, change| {
            let inode = self.inodes.entry(*inode).or_default();
            inode.pending.push(Pending { at, change });
        };
        match &entry.effect {
            Effect::Link { name, inode } => self.links.push(Link {
                at,
                name: name.clone(),
                inode: Some(*inode),
            }),
            Effect::Unlink { name, synced } => {
                self.links.push(Link {
                    at,
                    name: name.clone(),
                    inode: None,
                });
                if *synced && truth.folder {
                    self.sync_folder();
                }
            }
            Effect::Write {
                inode,
                offset,
                bytes,
            } => pend(
                inode,
                Change::Write {
                    offset: *offset,
                    bytes: bytes.clone(),
                },
            ),
            Effect::Truncate { inode, size } => pend(inode, Change::Truncate { size: *size }),
            Effect::Sync { inode, folder } => {
                if truth.file {
                    self.inodes.entry(*inode).or_default().sync(true);
                }
                if *folder && truth.folder {
                    self.sync_folder();
                }
            }
            Effect::SyncFailed { inode } => self.inodes.entry(*inode).or_default().sync(false),
        }
    }

    fn sync_folder(&mut self) {
        for link in self.links.drain(..) {
            set(&mut self.names, &link);
        }
    }

    /// What is found after the power went.
    pub fn cut(&self, fate: Fate, rng: &mut fastrand::Rng) -> Image {
        // Of the calls before this one, all; of this one, some sectors.
        let mut ends = vec![self.applied];
        ends.extend(self.links.iter().map(|link| link.at));
        let writes = self.inodes.values().flat_map(|inode| &inode.pending);
        ends.extend(writes.map(|pending| pending.at));
        let until = ends[rng.usize(0..ends.len())];
        let mut names = self.names.clone();
        for link in &self.links {
            let keep = match fate {
                Fate::All => true,
                Fate::Nothing => false,
                Fate::Order => link.at < until,
                _ => rng.bool(),
            };
            if keep {
                set(&mut names, link);
            }
        }
        let none = Inode::default();
        names
            .into_iter()
            .map(|(name, inode)| {
                let inode = self.inodes.get(&inode).unwrap_or(&none);
                (name, inode.cut(fate, until, rng))
            })
            .collect()
    }
}

fn set(names: &mut BTreeMap<String, u64>, link: &Link) {
    match link.inode {
        Some(inode) => names.insert(link.name.clone(), inode),
        None => names.remove(&link.name),
    };
}

/// The sectors that a change touches in a file of `len` bytes.
fn touched(change: &Change, len: usize) -> std::ops::Range<usize> {
    let (from, to) = match change {
        Change::Write { offset, bytes } => (*offset.min(&len), offset + bytes.len()),
        Change::Truncate { size } => (*size.min(&len), *size.max(&len)),
    };
    from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES)
}

fn change(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write {
            offset,
            bytes: written,
        } => {
            let end = offset + written.len();
            if bytes.len() < end {
                resize(bytes, end);
            }
            bytes[*offset..end].copy_from_slice(written);
        }
        Change::Truncate { size } => resize(bytes, *size),
    }
}

/// `Vec::resize` goes byte by byte where it is not optimised.
fn resize(bytes: &mut Vec<u8>, size: usize) {
    if size > bytes.len() {
        bytes.extend(vec![0; size - bytes.len()]);
    }
    bytes.truncate(size);
}

/// Copies one sector, as far as both reach.
fn copy_sector(from: &[u8], to: &mut [u8], sector: usize) {
    let start = sector * SECTOR_BYTES;
    let end = (start + SECTOR_BYTES).min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}

impl Inode {
    fn sync(&mut self, ok: bool) {
        let mut dirty = BTreeSet::new();
        for pending in self.pending.drain(..) {
            dirty.extend(touched(&pending.change, self.cache.len()));
            change(&mut self.cache, &pending.change);
        }
        if ok {
            resize(&mut self.durable, self.cache.len());
            for sector in dirty {
                copy_sector(&self.cache, &mut self.durable, sector);
            }
        }
    }

    fn cut(&self, fate: Fate, until: usize, rng: &mut fastrand::Rng) -> Vec<u8> {
        if fate == Fate::Nothing || self.pending.is_empty() {
            return self.durable.clone();
        }
        // The whole lengths first: they decide which sectors can be seen.
        let mut sizes = vec![self.durable.len()];
        let mut size = self.cache.len();
        for pending in &self.pending {
            size = match &pending.change {
                Change::Write { offset, bytes } => size.max(offset + bytes.len()),
                Change::Truncate { size } => *size,
            };
            sizes.push(size);
        }
        let size = match fate {
            Fate::All => size,
            Fate::Order => sizes[self.pending.iter().filter(|p| p.at < until).count()],
            _ if rng.bool() => size,
            _ => sizes[rng.usize(0..sizes.len())],
        };
        let mut image = self.durable.clone();
        resize(&mut image, size);
        if fate != Fate::All && rng.bool() {
            let grown = self.durable.len().next_multiple_of(SECTOR_BYTES);
            rng.fill(&mut image[grown.min(size)..]);
        }
        // One fate for each sector or page; drawn now, so that it is the same for all that touch it.
        let longest = sizes
            .iter()
            .fold(self.cache.len(), |most, size| most.max(*size));
        let sectors = longest.div_ceil(SECTOR_BYTES);
        let draws: Vec<u32> = (0..=sectors).map(|_| rng.u32(..)).collect();
        let last = self.pending.len() as u32;
        let mut cache = self.cache.clone();
        for (n, pending) in (0..).zip(&self.pending) {
            let range = touched(&pending.change, cache.len());
            change(&mut cache, &pending.change);
            let whole = rng.bool();
            for sector in range {
                let draw = draws[sector];
                let keep = match fate {
                    Fate::All => true,
                    Fate::Nothing => false,
                    Fate::Order => pending.at < until || (pending.at == until && draw & 1 == 0),
                    Fate::Writes => whole,
                    Fate::Sectors => draw & 1 == 0,
                    Fate::Pages => draws[sector / 8 * 8] & 1 == 0,
                    Fate::Times => n < draw % (last + 1),
                };
                if keep {
                    copy_sector(&cache, &mut image, sector);
                }
            }
        }
        image
    }
}

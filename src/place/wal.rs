//! The bytes of SQLite's -wal and -shm, as its file format has them: is this a log, and is it whole?
//!
//! SQLite recovers from a damaged log in silence: it ends where a checksum fails first, and nobody is told
//! of the commits behind. Pure; `evidence` reads the files and calls this.

use std::collections::HashMap;
use std::io::{self, Read};

pub const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// Two copies of 48 bytes.
pub const INDEX_BYTES: usize = 96;

/// Two sums over pairs of words; each part of the log goes on from the sums before it.
type Sums = [u32; 2];

/// The beginning of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub page_bytes: usize,
    /// The first is one more each time that the log starts again, the second is drawn.
    pub salts: [u32; 2],
    is_big_endian: bool,
    sums: Sums,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// `bytes` in pairs of words.
fn add(mut sums: Sums, bytes: &[u8], is_big_endian: bool) -> Sums {
    let read = |word: &[u8]| {
        let word = [word[0], word[1], word[2], word[3]];
        if is_big_endian {
            u32::from_be_bytes(word)
        } else {
            u32::from_le_bytes(word)
        }
    };
    for pair in bytes.chunks_exact(8) {
        sums[0] = sums[0].wrapping_add(read(&pair[..4])).wrapping_add(sums[1]);
        sums[1] = sums[1].wrapping_add(read(&pair[4..])).wrapping_add(sums[0]);
    }
    sums
}

/// None for what SQLite does not take for the beginning of a log.
pub fn header(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
    const MAGIC: u32 = 0x377f_0682;
    const VERSION: u32 = 3_007_000;
    let magic = word(bytes, 0);
    let is_big_endian = magic & 1 == 1;
    let sums = add([0; 2], &bytes[..24], is_big_endian);
    let page_bytes = word(bytes, 8);
    let is_log = magic & !1 == MAGIC
        && word(bytes, 4) == VERSION
        && page_bytes.is_power_of_two()
        && (512..=65536).contains(&page_bytes)
        && sums == [word(bytes, 24), word(bytes, 28)];
    is_log.then(|| Header {
        page_bytes: page_bytes as usize,
        salts: [word(bytes, 16), word(bytes, 20)],
        is_big_endian,
        sums,
    })
}

/// What is in a log behind its header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// As many as SQLite recovers: to the end of the last commit before a frame that is not right.
    pub recovered: u64,
    /// A commit of the same log lies behind the first frame that is not right. Frames without a commit may
    /// well lie there: those of a transaction that was rolled back, or cut short by a kill.
    pub is_broken: bool,
}

/// Reads on behind the header, to the end.
pub fn frames(header: Header, log: impl Read) -> io::Result<Frames> {
    walk(header, log, |_, _, _| {})
}

/// What the database is once SQLite has brought a log into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Of the whole database; 0 where there is no commit in the log.
    pub pages: u32,
    /// By its number, where the last image of a page lies in the log, in bytes.
    pub images: HashMap<u32, u64>,
}

/// Reads on behind the header, to the end.
pub fn outcome(header: Header, log: impl Read) -> io::Result<Outcome> {
    let frame_bytes = (FRAME_HEADER_BYTES + header.page_bytes) as u64;
    let mut outcome = Outcome::default();
    let mut uncommitted = Vec::new();
    walk(header, log, |number, page, pages| {
        let at = HEADER_BYTES as u64 + (number - 1) * frame_bytes + FRAME_HEADER_BYTES as u64;
        uncommitted.push((page, at));
        if pages != 0 {
            outcome.pages = pages;
            outcome.images.extend(uncommitted.drain(..));
        }
    })?;
    outcome.images.retain(|page, _| *page <= outcome.pages);
    Ok(outcome)
}

/// Hands the frames before the first that is not right to `each`: number, page, and pages of the database
/// where it is a commit.
fn walk(
    header: Header,
    mut log: impl Read,
    mut each: impl FnMut(u64, u32, u32),
) -> io::Result<Frames> {
    let mut frame = vec![0; FRAME_HEADER_BYTES + header.page_bytes];
    let mut found = Frames::default();
    let mut sums = header.sums;
    let mut is_whole = true;
    for number in 1.. {
        match log.read_exact(&mut frame) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => break,
            read => read?,
        }
        let (head, page) = frame.split_at(FRAME_HEADER_BYTES);
        let told = [word(head, 16), word(head, 20)];
        let is_ours = word(head, 0) != 0 && [word(head, 8), word(head, 12)] == header.salts;
        let is_right = is_ours && {
            let sums = add(sums, &head[..8], header.is_big_endian);
            add(sums, page, header.is_big_endian) == told
        };
        // Behind a break each frame is held against the one before it, so that a page that only looks like
        // a frame counts for nothing.
        sums = told;
        is_whole &= is_right;
        if is_whole {
            each(number, word(head, 0), word(head, 4));
        }
        let is_commit = word(head, 4) != 0;
        if is_commit && is_whole {
            found.recovered = number;
        } else if is_commit && is_right {
            found.is_broken = true;
            break;
        }
    }
    Ok(found)
}

/// What the -shm, which outlives the process, says of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    pub salts: [u32; 2],
    /// To the end of the last commit.
    pub frames: u64,
}

/// None unless both copies agree and their sum is right.
pub fn index(bytes: &[u8; INDEX_BYTES]) -> Option<Index> {
    const VERSION: u32 = 3_007_000;
    let (first, second) = bytes.split_at(INDEX_BYTES / 2);
    // In the machine's own byte order, but for the salts, which are copied from the log as they stand.
    let native =
        |at: usize| u32::from_ne_bytes([first[at], first[at + 1], first[at + 2], first[at + 3]]);
    let sums = add([0; 2], &first[..40], cfg!(target_endian = "big"));
    let is_index = first == second
        && native(0) == VERSION
        && first[12] == 1
        && sums == [native(40), native(44)];
    is_index.then(|| Index {
        salts: [word(first, 32), word(first, 36)],
        frames: u64::from(native(16)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of pages of 512 bytes, a commit every so many frames, in one byte order.
    fn log(is_big_endian: bool, commits: &[bool]) -> Vec<u8> {
        let put = |bytes: &mut Vec<u8>, words: &[u32]| {
            words.iter().for_each(|w| bytes.extend(w.to_be_bytes()));
        };
        let mut bytes = Vec::new();
        let magic = 0x377f_0682 | u32::from(is_big_endian);
        put(&mut bytes, &[magic, 3_007_000, 512, 0, 7, 9]);
        let mut sums = add([0; 2], &bytes, is_big_endian);
        put(&mut bytes, &sums);
        for (n, is_commit) in (1..).zip(commits) {
            let at = bytes.len();
            put(&mut bytes, &[n, u32::from(*is_commit) * n]);
            sums = add(sums, &bytes[at..], is_big_endian);
            let page = [n as u8; 512];
            sums = add(sums, &page, is_big_endian);
            put(&mut bytes, &[7, 9, sums[0], sums[1]]);
            bytes.extend(page);
        }
        bytes
    }

    fn read(log: &[u8]) -> Option<(u64, bool)> {
        let header = header(log.first_chunk()?)?;
        assert_eq!((header.page_bytes, header.salts), (512, [7, 9]));
        let found = frames(header, &log[HEADER_BYTES..]).unwrap();
        Some((found.recovered, found.is_broken))
    }

    const FRAME: usize = 24 + 512;

    #[test]
    fn a_log_is_read_to_its_last_commit_in_both_byte_orders() {
        for is_big_endian in [false, true] {
            let whole = log(is_big_endian, &[true, false, true, false]);
            assert_eq!(read(&whole), Some((3, false)));
            assert_eq!(
                read(&whole[..HEADER_BYTES + 2 * FRAME + 5]),
                Some((1, false))
            );
            assert_eq!(read(&whole[..HEADER_BYTES]), Some((0, false)));
            assert_eq!(read(&whole[..20]), None);
            for at in 0..HEADER_BYTES {
                let mut broken = whole.clone();
                broken[at] ^= 1;
                assert_eq!(read(&broken), None, "byte {at}");
            }
        }
    }

    #[test]
    fn what_a_log_makes_of_a_database_ends_with_its_last_commit() {
        let bytes = log(false, &[true, false, true, false]);
        let header = header(bytes.first_chunk().unwrap()).unwrap();
        let found = outcome(header, &bytes[HEADER_BYTES..]).unwrap();
        let at = |n: usize| (HEADER_BYTES + n * FRAME + FRAME_HEADER_BYTES) as u64;
        assert_eq!(found.pages, 3);
        let images = [(1, at(0)), (2, at(1)), (3, at(2))];
        assert_eq!(found.images, HashMap::from(images));
    }

    #[test]
    fn a_commit_behind_a_break_tells_of_it_and_a_frame_without_one_does_not() {
        for at in 0..FRAME {
            let mut broken = log(false, &[true, false, false, true]);
            broken[HEADER_BYTES + FRAME + at] ^= 0x10;
            assert_eq!(read(&broken), Some((1, true)), "byte {at}");
            let mut tail = log(false, &[true, false, false, false]);
            tail[HEADER_BYTES + FRAME + at] ^= 0x10;
            assert_eq!(read(&tail), Some((1, false)), "byte {at}");
        }
    }
}

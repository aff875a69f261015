//! `memcpy` and `memmove` of the static binary for x86-64.
//!
//! musl's are `rep movsq` whatever the length, which takes some 30 cycles to begin, and nearly all copies on a
//! reading's way are of less than 32 bytes. These are worth 7 to 9 % of the image's throughput (`just bench`).

use std::arch::asm;
type Chunk = u128;
const CHUNK: usize = size_of::<Chunk>();
/// Longer copies are worth the start of `rep movsb`.
const CHUNKED_MAX: usize = 512;

/// Copies `n` bytes from the first on.
///
/// # Safety
/// `src` may be read for `n` bytes and `dest` written; where they overlap, `dest` is the lower.
unsafe fn forward(dest: *mut u8, src: *const u8, n: usize) {
    // SAFETY: each branch stays within `n`, and loads what it needs before a store could reach it.
    unsafe {
        match n {
            0 => {}
            1 => *dest = *src,
            2..4 => both_ends::<u16>(dest, src, n),
            4..8 => both_ends::<u32>(dest, src, n),
            8..CHUNK => both_ends::<u64>(dest, src, n),
            CHUNK..=CHUNKED_MAX => {
                let end = n - CHUNK;
                let last = src.add(end).cast::<Chunk>().read_unaligned();
                let mut at = 0;
                while at < end {
                    let chunk = src.add(at).cast::<Chunk>().read_unaligned();
                    dest.add(at).cast::<Chunk>().write_unaligned(chunk);
                    at += CHUNK;
                }
                dest.add(end).cast::<Chunk>().write_unaligned(last);
            }
            _ => asm!(
                "rep movsb",
                inout("rcx") n => _, inout("rdi") dest => _, inout("rsi") src => _,
                options(nostack, preserves_flags)
            ),
        }
    }
}

/// Copies the first bytes and the last, which overlap in the middle.
///
/// # Safety
/// As `forward`, with any overlap; `n` is from one to two times the size of `T`.
#[inline(always)]
unsafe fn both_ends<T: Copy>(dest: *mut u8, src: *const u8, n: usize) {
    let end = n - size_of::<T>();
    // SAFETY: the caller's; both loads come before both stores.
    unsafe {
        let (first, last) = (
            src.cast::<T>().read_unaligned(),
            src.add(end).cast::<T>().read_unaligned(),
        );
        dest.cast::<T>().write_unaligned(first);
        dest.add(end).cast::<T>().write_unaligned(last);
    }
}

/// Copies `n` bytes from the last on.
///
/// # Safety
/// `src` may be read for `n` bytes and `dest` written; where they overlap, `dest` is the higher.
unsafe fn backward(dest: *mut u8, src: *const u8, n: usize) {
    // SAFETY: as in `forward`; the flag is as the ABI wants it again at the end.
    unsafe {
        if n < CHUNK {
            forward(dest, src, n);
        } else if n <= 2 * CHUNK {
            both_ends::<Chunk>(dest, src, n);
        } else {
            asm!(
                "std", "rep movsb", "cld",
                inout("rcx") n => _,
                inout("rdi") dest.add(n - 1) => _,
                inout("rsi") src.add(n - 1) => _,
                options(nostack)
            );
        }
    }
}

/// The C library's.
///
/// # Safety
/// The C library's.
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
pub unsafe extern "C" fn memcpy(dest: *mut u8, src: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the caller's.
    unsafe { forward(dest, src, n) };
    dest
}

/// The C library's.
///
/// # Safety
/// The C library's.
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
pub unsafe extern "C" fn memmove(dest: *mut u8, src: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the caller's; the copy begins at the end that the other does not reach first.
    unsafe {
        if (dest as usize).wrapping_sub(src as usize) >= n {
            forward(dest, src, n);
        } else {
            backward(dest, src, n);
        }
    }
    dest
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 12] = [0, 1, 2, 3, 7, 8, 15, 16, 33, 512, 513, 5000];

    fn bytes(n: usize) -> Vec<u8> {
        (0..n).map(|n| (n * 7 + n / 256) as u8).collect()
    }

    #[test]
    fn every_length_is_copied_and_nothing_beside_it() {
        for n in (0..100).chain(500..530).chain(LENGTHS) {
            let from = bytes(n);
            let mut to = vec![0xEE; n + 2];
            // SAFETY: both are as long.
            unsafe { memcpy(to[1..].as_mut_ptr(), from.as_ptr(), n) };
            assert_eq!(to[1..=n], from, "{n}");
            assert_eq!((to[0], to[n + 1]), (0xEE, 0xEE), "{n}");
        }
    }

    #[test]
    fn what_overlaps_is_moved_whole_either_way() {
        for n in (0..70).chain(LENGTHS) {
            for (from, to) in [(0, 1), (1, 0), (0, 9), (9, 0), (0, 40), (40, 0), (3, 3)] {
                let mut moved = bytes(n + 50);
                let mut expected = moved.clone();
                expected.copy_within(from..from + n, to);
                let start = moved.as_mut_ptr();
                // SAFETY: both ends are within the vector.
                unsafe { memmove(start.add(to), start.add(from), n) };
                assert_eq!(moved, expected, "{n} bytes from {from} to {to}");
            }
        }
    }
}

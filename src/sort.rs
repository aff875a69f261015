//! Sorting of short lists. The standard library's is made for long ones and costs the binary 4 to 8 KB for
//! each type that it sorts; this is a few instructions. Its time grows with the square of the length: for
//! lists that the device itself makes (sensors, file names), never for one that came in as input.

use std::cmp::Ordering;

/// Sorts `items`; those that are equal keep their order.
pub fn short<T>(items: &mut [T], order: impl Fn(&T, &T) -> Ordering) {
    for n in 1..items.len() {
        let (sorted, rest) = items.split_at(n);
        let at = sorted.partition_point(|item| order(item, &rest[0]) != Ordering::Greater);
        items[at..=n].rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sorts_as_the_standard_library_does() {
        let mut rng = fastrand::Rng::with_seed(7);
        for len in 0..40 {
            let mut items: Vec<(u8, usize)> = (0..len).map(|n| (rng.u8(0..9), n)).collect();
            let mut expected = items.clone();
            expected.sort_by_key(|item| item.0);
            short(&mut items, |a, b| a.0.cmp(&b.0));
            assert_eq!(items, expected);
        }
    }
}

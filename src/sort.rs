//! Sorting. The standard library's costs the binary 4 to 8 KB for each type that it sorts; these are a few
//! instructions each. `short` is for lists that the device itself makes (sensors, file names), since its time
//! grows with the square of the length; `long` is for those that come in as input or that grow over years.

use std::cmp::Ordering;

/// Sorts `items`; those that are equal keep their order.
pub fn short<T>(items: &mut [T], order: impl Fn(&T, &T) -> Ordering) {
    for n in 1..items.len() {
        let (sorted, rest) = items.split_at(n);
        let at = sorted.partition_point(|item| order(item, &rest[0]) != Ordering::Greater);
        items[at..=n].rotate_right(1);
    }
}

/// Sorts `items` in place, by way of a heap; those that are equal do not keep their order.
pub fn long<T>(items: &mut [T], order: impl Fn(&T, &T) -> Ordering) {
    let len = items.len();
    // First the heap is built, from its last parent on; then its greatest goes behind it, again and again.
    for n in (0..len + len / 2).rev() {
        let (mut parent, end) = if n >= len {
            (n - len, len)
        } else {
            items.swap(0, n);
            (0, n)
        };
        loop {
            let mut child = 2 * parent + 1;
            if child >= end {
                break;
            }
            if child + 1 < end && order(&items[child], &items[child + 1]) == Ordering::Less {
                child += 1;
            }
            if order(&items[parent], &items[child]) != Ordering::Less {
                break;
            }
            items.swap(parent, child);
            parent = child;
        }
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
            let mut all = items.clone();
            expected.sort_by_key(|item| item.0);
            short(&mut items, |a, b| a.0.cmp(&b.0));
            assert_eq!(items, expected);
            long(&mut all, |a, b| a.0.cmp(&b.0));
            assert!(all.is_sorted_by_key(|item| item.0), "{all:?}");
            long(&mut all, Ord::cmp);
            assert_eq!(all, expected);
        }
    }
}

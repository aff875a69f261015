//! Names of sensors in the order that people count in, and cut to a width so that they still tell sensors apart. Pure.

use std::cmp::Ordering;

use crate::reading::{Kind, fingerprint};

/// Compares runs of digits as numbers: sensor 2 comes before sensor 10.
pub fn natural(one: &str, other: &str) -> Ordering {
    let (mut a, mut b) = (one.as_bytes(), other.as_bytes());
    loop {
        let digits = |text: &[u8]| text.iter().take_while(|c| c.is_ascii_digit()).count();
        let (n, m) = (digits(a), digits(b));
        let order = if n > 0 && m > 0 {
            let zeros = |text: &[u8]| text.iter().take_while(|c| **c == b'0').count();
            let (p, q) = (zeros(&a[..n]), zeros(&b[..m]));
            let order = (n - p).cmp(&(m - q)).then_with(|| a[p..n].cmp(&b[q..m]));
            (a, b) = (&a[n..], &b[m..]);
            order
        } else {
            match (a.split_first(), b.split_first()) {
                (Some((x, rest)), Some((y, others))) => {
                    (a, b) = (rest, others);
                    x.cmp(y)
                }
                _ => return a.len().cmp(&b.len()).then_with(|| one.cmp(other)),
            }
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Each name in at most `width` characters, and whether they tell the sensors apart: without the tags that all
/// names of a measurement share, then cut in the middle, where that leaves what differs.
pub fn shorten(names: &[&str], width: usize) -> (Vec<String>, bool) {
    let short = without_shared_tags(names);
    let half = width.saturating_sub(1) / 2;
    // From the middle outwards.
    let heads = (0..=half).flat_map(|n| [half - n, half + n]);
    for head in heads.filter(|head| *head < width) {
        let cut: Vec<String> = short.iter().map(|name| cut(name, head, width)).collect();
        // Same tuple type as the sort of the runs: each type adds a sort to the binary.
        let key = |name: &String| {
            (
                fingerprint::series(name, "", Kind::String) as i64,
                0,
                0usize,
            )
        };
        let mut distinct: Vec<(i64, i64, usize)> = cut.iter().map(key).collect();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() == names.len() {
            return (cut, true);
        }
    }
    let number = |(n, name): (usize, &String)| {
        let number = format!("#{}", n + 1);
        let room = width.saturating_sub(number.len());
        cut(name, room.saturating_sub(1), room) + &number
    };
    (short.iter().enumerate().map(number).collect(), false)
}

fn cut(name: &str, head: usize, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        return name.to_owned();
    }
    let tail = width.saturating_sub(head + 1);
    let mut out: String = name.chars().take(head).collect();
    out.push('…');
    out.extend(name.chars().skip(length - tail));
    out
}

fn without_shared_tags(names: &[&str]) -> Vec<String> {
    let names: Vec<Vec<&str>> = names.iter().map(|name| parts(name)).collect();
    let groups = names.chunk_by(|one, other| one[0] == other[0]);
    let mut short = Vec::with_capacity(names.len());
    for group in groups {
        // One that is alone has nothing in common.
        let is_shared =
            |part: &&str| group.len() > 1 && group.iter().all(|name| name.contains(part));
        let shared: Vec<&str> = group[0][1..]
            .iter()
            .copied()
            .filter(|part| is_shared(part))
            .collect();
        for name in group {
            let mut out = name[0].to_owned();
            for part in &name[1..] {
                if !shared.contains(part) {
                    out.push(',');
                    out += part;
                } else if !out.ends_with('…') {
                    out += ",…";
                }
            }
            short.push(out);
        }
    }
    short
}

/// Measurement and tags; a comma behind a backslash belongs to a name.
fn parts(name: &str) -> Vec<&str> {
    let mut is_escaped = false;
    name.split(|c| {
        let splits = c == ',' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        splits
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sorted_as_numbers() {
        let sorted = [
            "a",
            "a,s=1",
            "a,s=2",
            "a,s=10",
            "a,s=10,x=1",
            "a,s=010,y=1",
            "b2",
            "b10",
            "c",
        ];
        for (n, one) in sorted.iter().enumerate() {
            for (m, other) in sorted.iter().enumerate() {
                assert_eq!(natural(one, other), n.cmp(&m), "{one} {other}");
            }
        }
        // Equal numbers, other texts.
        assert_eq!(natural("a01", "a1"), "a01".cmp("a1"));
    }

    #[test]
    fn what_differs_is_left() {
        let short = |names: &[&str], width| {
            let (cut, is_distinct) = shorten(names, width);
            assert!(is_distinct && cut.iter().all(|name| name.chars().count() <= width));
            cut.join(" ")
        };
        let weather = ["weather,station=seattle", "weather,station=sf"];
        assert_eq!(short(&weather, 30), weather.join(" "));
        assert_eq!(short(&weather, 12), "weath…eattle weath…ion=sf");
        assert_eq!(short(&weather, 3), "w…e w…f");
        let cpus = [
            "cpu,cpu=cpu0,host=pi",
            "cpu,cpu=cpu1,host=pi",
            "mem,host=pi",
        ];
        assert_eq!(
            short(&cpus, 14),
            "cpu,cpu=cpu0,… cpu,cpu=cpu1,… mem,host=pi"
        );
        let long = [
            "m,a=x,chip=nct,sensor=temp1,type=t",
            "m,a=x,chip=nct,sensor=temp2,type=t",
        ];
        assert_eq!(short(&long, 18), "m,…,sensor=temp1,… m,…,sensor=temp2,…");
        assert_eq!(short(&["a\\,b=1,c", "a\\,b=2,c"], 8), "a\\,b=1,c a\\,b=2,c");
    }

    #[test]
    fn names_that_no_cut_tells_apart_are_numbered() {
        let long = |c: &str| ["x".repeat(50), c.to_owned(), "x".repeat(50)].concat();
        let (cut, is_distinct) = shorten(&[&long("a"), &long("b")], 12);
        assert_eq!(
            (cut.join(" ").as_str(), is_distinct),
            ("xxxxxxxxx…#1 xxxxxxxxx…#2", false)
        );
        // Nothing fits.
        for width in 0..3 {
            shorten(&["aaaaa", "aaaab"], width);
        }
    }
}

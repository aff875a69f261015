//! Patterns for names of sensors: `*` any text, `?` any character, `[a-z]` one of these, `[^a-z]` none of
//! them, as in SQLite's GLOB. Pure.

/// Whether the whole of `text` is as `pattern` says.
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where to go on after the last star, should what follows it not fit here.
    let mut retry = None;
    loop {
        if pattern.get(p) == Some(&'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        match (text.get(t), pattern.get(p)) {
            (None, None) => return true,
            (Some(&c), Some(_)) => {
                if let Some(width) = one(&pattern[p..], c) {
                    p += width;
                    t += 1;
                    continue;
                }
            }
            _ => {}
        }
        match retry {
            Some((after, from)) if from < text.len() => {
                retry = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// How many characters of the pattern stand for this one, if they do.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => {
            let negated = pattern.get(1) == Some(&'^');
            let from = if negated { 2 } else { 1 };
            // A bracket that comes first is one of the characters.
            let set = pattern.get(from..)?;
            let end = from + 1 + set.iter().skip(1).position(|&c| c == ']')?;
            let found = is_in(&pattern[from..end], c);
            (found != negated).then_some(end + 1)
        }
        literal => (*literal == c).then_some(1),
    }
}

fn is_in(set: &[char], c: char) -> bool {
    let mut rest = set;
    while let Some((&low, tail)) = rest.split_first() {
        let (high, after) = match tail {
            ['-', high, after @ ..] => (*high, after),
            _ => (low, tail),
        };
        if (low..=high).contains(&c) {
            return true;
        }
        rest = after;
    }
    false
}

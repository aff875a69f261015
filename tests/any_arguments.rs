//! Guards against a start that ends in a panic for what somebody typed or a container's environment holds.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;
use seawall::cli::{Usage, parse};

/// Arguments from the words that the parser knows, broken ones, and any bytes at all.
fn argument() -> impl Strategy<Value = OsString> {
    #[rustfmt::skip]
    let words = [
        "record", "check", "checkpoint", "export", "backup", "show", "status", "--after=", "--since", "--db", "--db=", "--ack", "--ack=", "--source", "--source=sim:", "--source=sysfs:root=", "stdin:precision=", "--commit-rows=",
        "--at-least=", "--stop-timeout", "--mode=", "--help", "--version", "--", "-", "=", "--=", "1", "0.5s", ",",
    ];
    let word = proptest::sample::select(words.to_vec());
    (word, proptest::collection::vec(any::<u8>(), 0..12), 0..3).prop_map(|(word, bytes, how)| {
        OsString::from_vec(match how {
            0 => word.as_bytes().to_vec(),
            1 => bytes,
            _ => [word.as_bytes(), &bytes].concat(),
        })
    })
}

proptest! {
    /// Guards against a crash at start that no supervisor can do anything about.
    #[test]
    fn no_argument_and_no_variable_makes_parse_panic(
        args in proptest::collection::vec(argument(), 0..6),
        variables in proptest::collection::vec(proptest::option::of(argument()), 1..20),
    ) {
        let variable = |name: &str| variables[name.len() % variables.len()].clone();
        if let Err(Usage(text)) = parse(args.iter().cloned(), &variable) {
            prop_assert!(!text.is_empty() && !text.contains('\n'), "{}", text);
        }
        parse(args.into_iter(), &|_| None).ok();
    }
}

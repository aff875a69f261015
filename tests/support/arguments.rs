//! The command line as the program reads it.

use std::collections::HashMap;
use std::ffi::OsString;

use seawall::cli::{Invocation, Usage, parse};

pub fn run(args: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, Usage> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    parse(args.iter().map(OsString::from), &|name| {
        variables.get(name).map(OsString::from)
    })
}

pub fn error(args: &[&str], variables: &[(&str, &str)]) -> String {
    let Err(Usage(text)) = run(args, variables) else {
        panic!("accepted: {args:?} {variables:?}");
    };
    assert!(!text.contains('\n'), "more than one line: {text}");
    text
}

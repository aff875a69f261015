//! The command line and the variables, as typed settings of a command.
//!
//! `commands` is the one table: flag, variable, default, limits, reader and help of an option stand in one
//! row there, and the default is read by the reader that reads the user's value. Pure: arguments and variables
//! are passed in, nothing is opened or printed. `main` calls `parse` once; nothing else imports this room.

mod commands;
mod help;
mod options;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::order;
pub use commands::Invocation;
use commands::{COMMANDS, Command};
use options::Options;
pub use options::{OptionRow, Usage, Variables};

/// Reads the arguments after the program's name, and the variables of the command's options.
pub fn parse(
    args: impl Iterator<Item = OsString>,
    variables: Variables<'_>,
) -> Result<Invocation, Usage> {
    let mut args = args.peekable();
    let first = args.next_if(|first| !first.as_encoded_bytes().starts_with(b"-"));
    let command = match (first, args.peek().and_then(|option| option.to_str())) {
        (Some(name), _) if name == "help" => {
            return match args.next() {
                None => Ok(Invocation::Help(help::overview())),
                Some(name) => help_of(named(&name)?),
            };
        }
        (Some(name), _) if name == "version" => None,
        (Some(name), _) => Some(named(&name)?),
        (None, Some("--help" | "-h")) => return Ok(Invocation::Help(help::overview())),
        (None, Some("--version" | "-V")) => {
            args.next();
            None
        }
        (None, _) => Some(&COMMANDS[0]),
    };
    let listed = command.map_or(Ok(Options::list("version")), Command::list)?;
    match (Options::gather(&listed, &mut args, variables)?, command) {
        (Some(mut given), Some(command)) => (command.fill)(&mut given),
        (Some(_), None) => Ok(Invocation::Version),
        (None, Some(command)) => help_of(command),
        (None, None) => Ok(Invocation::Help(help::overview())),
    }
}

fn help_of(command: &Command) -> Result<Invocation, Usage> {
    let rows = command.list()?.rows;
    Ok(Invocation::Help(help::of(command, &rows)))
}

fn named(name: &OsStr) -> Result<&'static Command, Usage> {
    let command = COMMANDS.iter().find(|command| *name == *command.name);
    command.ok_or_else(|| {
        let known: Vec<_> = COMMANDS.iter().map(|command| command.name).collect();
        let known = known.join(", ");
        Usage(format!("unknown command {name:?}; known are {known}"))
    })
}

/// Every command's name with the rows of its options, for the tests of the table.
pub fn table() -> Result<Vec<(&'static str, Vec<OptionRow>)>, Usage> {
    let rows = |command: &Command| Ok((command.name, command.list()?.rows));
    COMMANDS.iter().map(rows).collect()
}

/// Trace in a path of a settings file that is not quoted as its reader expects. Such a path is taken as it is: it may
/// have been recorded to before.
pub fn doubt_of(path: &Path) -> Option<&'static str> {
    let text = path.to_string_lossy();
    let is_in = |quote| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if text.ends_with('\r') {
        Some("the path has a carriage return at its end, as from a file with Windows line ends")
    } else if text.ends_with(|c: char| c.is_whitespace() || c.is_control()) {
        Some("the path has white space at its end")
    } else if is_in('"') || is_in('\'') {
        Some(
            "the path is in quotes, and they are a part of it: docker's --env-file takes none away",
        )
    } else if text.starts_with("~/") {
        Some("the path begins with ~, which only a shell takes for the home folder")
    } else {
        None
    }
}

/// `SEAWALL_` variables among `names` that no option has, such as a misspelt one, in order.
pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let rows = table()
        .unwrap_or_default()
        .into_iter()
        .flat_map(|(_, rows)| rows);
    let known: Vec<_> = rows.map(|row| row.variable).collect();
    let mut unknown: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with("SEAWALL_") && !known.contains(name))
        .collect();
    order::sort_by(&mut unknown, &Ord::cmp);
    unknown
}

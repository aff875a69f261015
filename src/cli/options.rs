//! One command's options: each call of `read` is an option's row, with its flag, default, reader and help.
//!
//! A command's options are read twice by the same function. The first time lists the rows, with every option
//! at its default: they are what the arguments are matched against, and what `--help` prints. The second time
//! reads the user's values: a flag's, else the variable's, else the default. Pure.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::values::{self, ValueReader};

/// A wrong command line or variable, reported in one line. Exit status 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

pub type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// An option as `--help` and the errors describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionRow {
    /// `--commit-rows`.
    pub flag: &'static str,
    /// The value's name in the help; empty for a switch.
    pub value: &'static str,
    pub variable: String,
    pub default: &'static str,
    pub expected: String,
    pub limits: String,
    pub help: &'static str,
}

impl OptionRow {
    fn new(spelt: &'static str, default: &'static str, help: &'static str) -> Self {
        let (flag, value) = spelt.split_once(' ').unwrap_or((spelt, ""));
        OptionRow {
            flag,
            value,
            variable: variable_of(flag),
            default,
            expected: String::new(),
            limits: String::new(),
            help,
        }
    }
}

pub struct Options<'a> {
    command: &'static str,
    pub rows: Vec<OptionRow>,
    flags: Vec<(&'static str, OsString)>,
    /// The flag for which an argument that is no option stands; empty where it has none.
    operand: Option<&'static str>,
    /// There was such an argument.
    pub has_operand: bool,
    /// `None`: the rows are listed, with every option at its default.
    variables: Option<Variables<'a>>,
}

impl<'a> Options<'a> {
    pub fn list(command: &'static str) -> Self {
        Options {
            command,
            rows: Vec::new(),
            flags: Vec::new(),
            operand: None,
            has_operand: false,
            variables: None,
        }
    }

    /// Matches the arguments to the rows of `listed`. `None`: the arguments ask for help.
    pub fn gather(
        listed: &Options,
        args: &mut dyn Iterator<Item = OsString>,
        variables: Variables<'a>,
    ) -> Result<Option<Self>, Usage> {
        let command = listed.command;
        let mut given = Self::list(command);
        given.variables = Some(variables);
        while let Some(arg) = args.next() {
            if !arg.as_bytes().starts_with(b"-") || arg == "-" {
                let is_given = |flag: &&str| given.flags.iter().any(|(name, _)| name == flag);
                let Some(flag) = listed.operand.filter(|flag| !is_given(flag)) else {
                    let advice = match listed.operand {
                        None if !listed.rows.is_empty() => "; a database is given by --db",
                        _ => "",
                    };
                    return Err(Usage(format!(
                        "unexpected argument {arg:?}{advice}; see seawall {command} --help"
                    )));
                };
                given.flags.push((flag, arg));
                given.has_operand = true;
                continue;
            }
            let mut parts = arg.as_bytes().splitn(2, |byte| *byte == b'=');
            let flag = OsStr::from_bytes(parts.next().unwrap_or_default());
            if flag == "--help" || flag == "-h" {
                return Ok(None);
            }
            let row = listed
                .rows
                .iter()
                .find(|row| *flag == *row.flag)
                .ok_or_else(|| {
                    Usage(format!(
                        "unknown option {flag:?} of seawall {command}; see seawall {command} --help"
                    ))
                })?;
            if given.has_operand && listed.operand == Some(row.flag) {
                return Err(Usage(format!("{} is given twice", row.flag)));
            }
            let value = match parts.next() {
                Some(value) => OsStr::from_bytes(value).to_owned(),
                None if row.value.is_empty() => "on".into(),
                None => value_of(row, args.next())?,
            };
            given.flags.push((row.flag, value));
        }
        Ok(Some(given))
    }

    /// The option that `spelt`, such as `--commit-rows N`, describes. A later flag wins over an earlier one.
    pub fn read<T: 'static>(
        &mut self,
        spelt: &'static str,
        default: &'static str,
        reader: ValueReader<T>,
        help: &'static str,
    ) -> Result<T, Usage> {
        self.read_row(OptionRow::new(spelt, default, help), reader)
    }

    /// An option that has another meaning or default in another command: its variable names the command.
    pub fn read_own<T: 'static>(
        &mut self,
        spelt: &'static str,
        default: &'static str,
        reader: ValueReader<T>,
        help: &'static str,
    ) -> Result<T, Usage> {
        let mut row = OptionRow::new(spelt, default, help);
        row.variable = variable_of(&format!("{}{}", self.command, &row.flag[1..]));
        self.read_row(row, reader)
    }

    fn read_row<T: 'static>(
        &mut self,
        mut row: OptionRow,
        reader: ValueReader<T>,
    ) -> Result<T, Usage> {
        row.expected = reader.expected.clone();
        row.limits = reader.limits.clone();
        // An empty variable, as a compose file writes it, is not set.
        let (from, mut values) = self.values(row, false);
        let read = reader.read(values.pop().unwrap_or_default());
        read.map_err(|reason| Usage(format!("{from}: {reason}")))
    }

    /// An option that may be repeated; its variable holds words separated by white space. Returns the name of
    /// where the values come from, too.
    pub fn read_list<T>(
        &mut self,
        spelt: &'static str,
        default: &'static str,
        expected: String,
        parse: impl Fn(&str) -> Result<T, String>,
        help: &'static str,
    ) -> Result<(String, Vec<T>), Usage> {
        let mut row = OptionRow::new(spelt, default, help);
        row.expected = expected.clone();
        let variable = row.variable.clone();
        // An empty variable is wrong: the default would take the place of what it was meant to name.
        let (from, values) = self.values(row, true);
        let mut all = Vec::new();
        for value in &values {
            let words: Vec<_> = match value.to_str() {
                Some(text) if from == variable => text.split_whitespace().collect(),
                text => text.into_iter().collect(),
            };
            if words.is_empty() {
                return Err(Usage(format!("{from}: {value:?} is not {expected}")));
            }
            for word in words {
                all.push(parse(word).map_err(|reason| Usage(format!("{from}: {reason}")))?);
            }
        }
        Ok((from, all))
    }

    /// An argument that is no option is the value of `flag`.
    pub fn take_operand(&mut self, flag: &'static str) {
        self.operand = Some(flag);
    }

    /// The one argument that is no option.
    pub fn read_operand(&mut self, name: &'static str) -> Result<PathBuf, Usage> {
        self.take_operand("");
        let command = self.command;
        match self.flags.iter().find(|(flag, _)| flag.is_empty()) {
            Some((_, value)) => {
                let read = values::path().read(value);
                read.map_err(|reason| Usage(format!("{name}: {reason}")))
            }
            None if self.variables.is_none() => Ok(PathBuf::new()),
            None => Err(Usage(format!(
                "seawall {command} needs a {name}; see seawall {command} --help"
            ))),
        }
    }

    /// Adds the option's row. Returns its values, and the name of where they come from.
    fn values(&mut self, row: OptionRow, takes_empty: bool) -> (String, Vec<OsString>) {
        let flags = self.flags.iter().filter(|(name, _)| *name == row.flag);
        let values: Vec<_> = flags.map(|(_, value)| value.clone()).collect();
        let set = self
            .variables
            .and_then(|variables| variables(&row.variable));
        let set = set.filter(|value| takes_empty || !value.is_empty());
        let found = match set {
            _ if !values.is_empty() => (row.flag.to_owned(), values),
            Some(value) => (row.variable.clone(), vec![value]),
            None => (row.flag.to_owned(), vec![row.default.into()]),
        };
        self.rows.push(row);
        found
    }
}

/// `SEAWALL_COMMIT_ROWS` for `--commit-rows`.
fn variable_of(flag: &str) -> String {
    let name = flag.trim_start_matches('-').replace('-', "_");
    format!("SEAWALL_{}", name.to_ascii_uppercase())
}

/// A value that is an argument of its own. `--db --ack` is a forgotten value, not a file named --ack.
fn value_of(row: &OptionRow, next: Option<OsString>) -> Result<OsString, Usage> {
    let (flag, expected) = (row.flag, &row.expected);
    match next {
        Some(value) if value.as_bytes().starts_with(b"--") => Err(Usage(format!(
            "{flag} needs {expected}; {value:?} looks like an option (if it is the value, write {flag}=…)"
        ))),
        Some(value) => Ok(value),
        None => Err(Usage(format!("{flag} needs {expected}"))),
    }
}

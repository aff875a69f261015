//! What was given for the options of one command: by flag, else by variable, else by default.
//!
//! The flags are gathered first, so that `--help` is heard whatever the values are; then each value is
//! read, and an error names the flag or the variable that it came from, the value, and what is right.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::{COMMANDS, Command, Kind, OPTIONS, Opt, Usage};
use crate::source::spec::{self, SourceSpec};
use crate::store::Position;
use crate::time::{TIME_EXAMPLES, When};
use crate::units;

const SWITCH_ON: &[&str] = &["on", "1", "true", "yes"];
const SWITCH_OFF: &[&str] = &["off", "0", "false", "no"];
const NONE: &str = "none";

pub(super) struct Settings<'a> {
    command: &'static Command,
    /// As they came; of an option that cannot be repeated the last one counts.
    flags: Vec<(&'static Opt, OsString)>,
    operand: Option<OsString>,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl<'a> Settings<'a> {
    /// `None`: help is asked for.
    pub fn gather(
        command: &'static Command,
        args: &mut dyn Iterator<Item = OsString>,
        variable: &'a dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Option<Self>, Usage> {
        let mut flags = Vec::new();
        let mut operand = None;
        while let Some(arg) = args.next() {
            if !arg.as_bytes().starts_with(b"-") || arg == "-" {
                if command.operand.is_none() || operand.is_some() {
                    return Err(stray(command, &arg));
                }
                operand = Some(arg);
                continue;
            }
            let mut parts = arg.as_bytes().splitn(2, |byte| *byte == b'=');
            let flag = OsStr::from_bytes(parts.next().unwrap_or_default());
            if flag == "--help" {
                return Ok(None);
            }
            let attached = parts.next().map(OsStr::from_bytes);
            let opt = command
                .options()
                .find(|opt| *flag == *opt.flag())
                .ok_or_else(|| unknown(command, flag))?;
            let value = match attached {
                Some(value) => value.to_owned(),
                None if matches!(opt.kind, Kind::Switch) => "on".into(),
                None => detached(opt, args.next())?,
            };
            flags.push((opt, value));
        }
        Ok(Some(Settings {
            command,
            flags,
            operand,
            variable,
        }))
    }

    /// The values of an option, with the name of where they came from.
    fn values(&self, name: &str) -> Result<(&'static Opt, String, Vec<OsString>), Usage> {
        let opt = self
            .command
            .options()
            .find(|opt| opt.name == name)
            .ok_or_else(|| unknown(self.command, OsStr::new(name)))?;
        let flags = self.flags.iter().filter(|(of, _)| of.name == name);
        let values: Vec<_> = flags.map(|(_, value)| value.clone()).collect();
        if !values.is_empty() {
            return Ok((opt, opt.flag(), values));
        }
        Ok(match (self.variable)(&opt.variable()) {
            Some(value) if !value.is_empty() => (opt, opt.variable(), vec![value]),
            _ => (opt, opt.flag(), vec![opt.default.into()]),
        })
    }

    pub fn read<T>(&self, name: &str, read: impl Fn(&Kind, &str) -> Option<T>) -> Result<T, Usage> {
        let (opt, from, mut values) = self.values(name)?;
        let value = values.pop().unwrap_or_default();
        let read = value.to_str().and_then(|text| read(&opt.kind, text));
        read.ok_or_else(|| wrong(opt, &from, &value))
    }

    /// Any bytes are a path, UTF-8 or not, except none at all.
    pub fn path(&self, name: &str) -> Result<PathBuf, Usage> {
        let (opt, from, mut values) = self.values(name)?;
        let value = values.pop().unwrap_or_default();
        if value.is_empty() || value.as_bytes().contains(&0) {
            return Err(wrong(opt, &from, &value));
        }
        Ok(value.into())
    }

    /// The one argument that is no option.
    pub fn operand(&self) -> Result<PathBuf, Usage> {
        let name = self.command.operand.unwrap_or_default();
        let given = self.operand.as_ref().ok_or_else(|| {
            let command = self.command.name;
            Usage(format!("seawall {command} needs a {name}; see --help"))
        })?;
        if given.is_empty() || given.as_bytes().contains(&0) {
            return Err(Usage(format!("{name}: {given:?} is not a path")));
        }
        Ok(given.into())
    }

    pub fn sources(&self, name: &str) -> Result<Vec<SourceSpec>, Usage> {
        let (opt, from, values) = self.values(name)?;
        let mut sources = Vec::new();
        for value in &values {
            let text = value.to_str().ok_or_else(|| wrong(opt, &from, value))?;
            let specs: Vec<_> = if from == opt.variable() {
                text.split_whitespace().collect()
            } else {
                vec![text]
            };
            if specs.is_empty() {
                return Err(wrong(opt, &from, value));
            }
            for spec in specs {
                let source = SourceSpec::parse(spec);
                sources.push(source.map_err(|reason| Usage(format!("{from}: {reason}")))?);
            }
        }
        let stdin = |source: &&SourceSpec| matches!(source, SourceSpec::Stdin { .. });
        if sources.iter().filter(stdin).count() > 1 {
            return Err(Usage(format!("{from}: stdin may be given only once")));
        }
        Ok(sources)
    }
}

pub(super) fn switch(_: &Kind, text: &str) -> Option<bool> {
    if SWITCH_ON.contains(&text) {
        Some(true)
    } else if SWITCH_OFF.contains(&text) {
        Some(false)
    } else {
        None
    }
}

pub(super) fn whole(kind: &Kind, text: &str) -> Option<u64> {
    match kind {
        Kind::Whole(least, most) => text
            .parse()
            .ok()
            .filter(|number| (least..=most).contains(&number)),
        _ => None,
    }
}

pub(super) fn time(kind: &Kind, text: &str) -> Option<Duration> {
    match kind {
        Kind::Time(least, most) => units::parse_duration(text)
            .ok()
            .filter(|duration| (least..=most).contains(&duration)),
        _ => None,
    }
}

pub(super) fn size(kind: &Kind, text: &str) -> Option<u64> {
    match kind {
        Kind::Size => units::parse_size(text).ok(),
        Kind::SizeFrom(least) => units::parse_size(text).ok().filter(|size| size >= least),
        _ => None,
    }
}

pub(super) fn text(kind: &Kind, text: &str) -> Option<String> {
    matches!(kind, Kind::Text).then(|| text.to_owned())
}

pub(super) fn when(kind: &Kind, text: &str) -> Option<When> {
    match kind {
        Kind::When => When::parse(text),
        _ => None,
    }
}

/// One of the words of an enum.
pub(super) fn word<T>(parse: fn(&str) -> Option<T>) -> impl Fn(&Kind, &str) -> Option<T> {
    move |_, text| parse(text)
}

/// `ID` or `RUN:ID`.
pub(super) fn position(kind: &Kind, text: &str) -> Option<Position> {
    let number = |text: &str| text.parse().ok().filter(|n: &i64| *n >= 0);
    match (kind, text.split_once(':')) {
        (Kind::Position, None) => Some(Position {
            run: None,
            id: number(text)?,
        }),
        (Kind::Position, Some((run, id))) => Some(Position {
            run: Some(number(run)?),
            id: number(id)?,
        }),
        _ => None,
    }
}

pub(super) fn or_none<T>(
    read: impl Fn(&Kind, &str) -> Option<T>,
) -> impl Fn(&Kind, &str) -> Option<Option<T>> {
    move |kind, text| match kind {
        Kind::OrNone(_) if text == NONE => Some(None),
        Kind::OrNone(kind) => read(kind, text).map(Some),
        _ => None,
    }
}

impl Kind {
    /// The limits, where they help to choose a value.
    pub fn limits(&self) -> Option<String> {
        match self {
            Kind::Whole(least, most) => Some(format!("{least} to {most}")),
            Kind::Time(least, most) => {
                let (least, most) = (units::duration(*least), units::duration(*most));
                Some(format!("{least} to {most}"))
            }
            Kind::SizeFrom(least) => Some(format!("at least {}", units::size(*least))),
            Kind::OrNone(kind @ Kind::SizeFrom(_)) => kind.limits(),
            _ => None,
        }
    }

    /// What a right value is, after "is not" and after "needs".
    fn right(&self) -> String {
        let limits = self.limits().unwrap_or_default();
        match self {
            Kind::Switch => format!("one of {}", [SWITCH_ON, SWITCH_OFF].concat().join(", ")),
            Kind::Path => "a path".into(),
            Kind::Sources => format!("a source; known are {}", spec::known()),
            Kind::Word(words) => format!("one of {}", words.join(", ")),
            Kind::Whole(..) => format!("a whole number from {limits}"),
            Kind::Time(..) => format!(
                "a duration from {limits}, such as {}",
                units::DURATION_EXAMPLES
            ),
            Kind::Size => format!("a size, such as {}", units::SIZE_EXAMPLES),
            Kind::SizeFrom(_) => {
                format!("a size of {limits}, such as {}", units::SIZE_EXAMPLES)
            }
            Kind::Text => "text".into(),
            Kind::When => format!("a time such as {TIME_EXAMPLES}"),
            Kind::Position => "an id, or a run and an id such as 3:4711".into(),
            Kind::OrNone(kind) => format!("{}, or {NONE}", kind.right()),
        }
    }
}

pub(super) fn command(name: &OsStr) -> Result<&'static Command, Usage> {
    let names: Vec<_> = COMMANDS.iter().map(|command| command.name).collect();
    COMMANDS
        .iter()
        .find(|command| *name == *command.name)
        .ok_or_else(|| {
            let known = names.join(", ");
            Usage(format!("unknown command {name:?}; known are {known}"))
        })
}

/// A value that is an argument of its own. `--db --ack` is a forgotten value, not a file named --ack.
fn detached(opt: &Opt, next: Option<OsString>) -> Result<OsString, Usage> {
    let needs = format!("{} needs {}", opt.flag(), opt.kind.right());
    match next {
        Some(value) if value.as_bytes().starts_with(b"--") => Err(Usage(format!(
            "{needs}; {value:?} looks like an option (if it is the value, write {}=…)",
            opt.flag()
        ))),
        Some(value) => Ok(value),
        None => Err(Usage(needs)),
    }
}

fn wrong(opt: &Opt, from: &str, value: &OsStr) -> Usage {
    Usage(format!("{from}: {value:?} is not {}", opt.kind.right()))
}

fn stray(command: &Command, arg: &OsStr) -> Usage {
    Usage(match COMMANDS.iter().find(|known| *arg == *known.name) {
        Some(known) => format!("{arg:?} has to come first: seawall {} …", known.name),
        None => match command.operand {
            None => format!(
                "unexpected argument {arg:?}; seawall {} takes options only",
                command.name
            ),
            Some(operand) => format!(
                "unexpected argument {arg:?}; seawall {} takes one {operand}",
                command.name
            ),
        },
    })
}

fn unknown(command: &Command, flag: &OsStr) -> Usage {
    let elsewhere = OPTIONS.iter().find(|opt| *flag == *opt.flag());
    let close = command
        .options()
        .map(|opt| (distance(flag.as_bytes(), opt.flag().as_bytes()), opt))
        .filter(|(distance, opt)| *distance <= (opt.name.len() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance);
    let hint = match (elsewhere, close) {
        (Some(opt), _) => format!("it belongs to seawall {}", opt.of.join(", ")),
        (None, Some((_, opt))) => format!("did you mean {}?", opt.flag()),
        (None, None) => format!("see seawall {} --help", command.name),
    };
    Usage(format!(
        "unknown option {flag:?} of seawall {}; {hint}",
        command.name
    ))
}

/// How many bytes have to be put in, taken out or replaced to make one of the other.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            left = (diagonal + usize::from(x != y)).min(left.min(*above) + 1);
            diagonal = std::mem::replace(above, left);
        }
    }
    row.last().copied().unwrap_or_default()
}

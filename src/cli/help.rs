//! The help texts, made from the tables of options, sources and exit statuses.

use super::commands::{COMMANDS, Command};
use super::options::OptionRow;
use crate::exit::{self, Status};
use crate::reading::line::LINE_BYTES_MAX;
use crate::source::answers::ANSWERS_BYTES_MAX;
use crate::source::spec;
use crate::source::{opening, sockets};
use crate::time::TIME_EXAMPLES;
use crate::units;

const COLUMNS: usize = 80;
const INDENT: usize = 6;
const VARIABLE_COLUMN: usize = 30;

const OPTIONS_ARE: &str = "Options. The variable beside each one, shown with the default, sets it too. \
    A flag wins over its variable, and a later flag over an earlier one; an empty variable \
    counts as not set. =off turns a switch off.";

/// `seawall --help`.
pub(super) fn overview() -> String {
    let mut out = String::from("Usage: seawall [record] [OPTIONS]\n");
    out += "       seawall COMMAND [OPTIONS]\n\n";
    let does =
        "Records sensor readings into one SQLite file and loses nothing that it said it has.";
    paragraph(&mut out, "", 0, does);
    out += "\nCommands:\n";
    for command in COMMANDS {
        paragraph(
            &mut out,
            &format!("  {:<12}", command.name),
            14,
            command.summary,
        );
    }
    out += "\nWithout a command, or when the first argument is an option: record.\n\n";
    out += "  seawall help COMMAND     what a command does, and its options\n";
    out += "  seawall --version        the version, and SQLite's\n";
    statuses(&mut out, u8::MAX);
    out
}

/// `seawall COMMAND --help`.
pub(super) fn of(command: &Command, rows: &[OptionRow]) -> String {
    let mut out = format!("Usage: {}\n\n", command.usage);
    paragraph(&mut out, "", 0, command.about);
    out.push('\n');
    paragraph(&mut out, "", 0, OPTIONS_ARE);
    out.push('\n');
    for row in rows {
        let flag = format!("  {} {}", row.flag, row.value);
        let set = format!("{}={}", row.variable, row.default);
        out += &format!("{flag:<w$}{set}\n", w = VARIABLE_COLUMN);
        let limits = match row.limits.as_str() {
            "" => String::new(),
            limits => format!(" ({limits})"),
        };
        paragraph(&mut out, "", INDENT, &format!("{}{limits}", row.help));
    }
    out += "  -h, --help\n      print this text\n";
    if rows.iter().any(|row| row.flag == "--source") {
        out += "\nSources:\n";
        for (form, help) in spec::forms() {
            out += &format!("  {form}\n");
            paragraph(&mut out, "", INDENT, help);
        }
        out += "\nClients of unix and tcp:\n";
        paragraph(&mut out, "", 2, &clients());
    }
    out += &format!(
        "\nDurations: {}; a bare number is seconds.\nSizes: {}; a bare number is bytes.\n",
        units::DURATION_EXAMPLES,
        units::SIZE_EXAMPLES
    );
    if rows.iter().any(|row| row.value == "T") {
        paragraph(&mut out, "Times: ", 7, TIME_EXAMPLES);
    }
    let last_status = match command.name {
        "record" => u8::MAX,
        "checkpoint" => Status::FramesRemain as u8,
        _ => Status::Usage as u8,
    };
    statuses(&mut out, last_status);
    out
}

/// The answers that a client of a stream gets, and the limits on what is held of it.
fn clients() -> String {
    format!(
        "answered `ack N` when the first N lines of the connection are settled (committed, or \
         rejected), `err N REASON` for a rejected line N, and `err 0 REASON` before a connection is \
         closed. One that opens with `# client NAME` (of {name} bytes at most) is answered `resume N`, \
         the lines of that name that are settled, this one not counted; it sends on from line N+1. At \
         most {connections} connections, or fewer where the system allows fewer descriptors; when all are \
         taken, a new one gets the place of the one that is idle longest, for {idle} at least. Held for \
         each: a line of up to {line}, and answers of up to {answers}; lines that are not whole may hold \
         {held} in all, and who holds most of it goes first.",
        name = opening::NAME_BYTES_MAX,
        connections = sockets::CONNECTIONS_MAX,
        idle = units::duration(sockets::IDLE_MIN),
        line = units::bytes_human(LINE_BYTES_MAX as u64),
        answers = units::bytes_human(ANSWERS_BYTES_MAX as u64),
        held = units::bytes_human(sockets::HELD_BYTES_MAX as u64),
    )
}

fn statuses(out: &mut String, last: u8) {
    *out += "\nExit status:\n";
    for (status, meaning) in exit::STATUSES.iter().filter(|(status, _)| *status <= last) {
        paragraph(out, &format!("  {status:<4}"), INDENT, meaning);
    }
}

/// Appends `text` in lines of at most `COLUMNS`, `indent` in, the first one after `label`.
fn paragraph(out: &mut String, label: &str, indent: usize, text: &str) {
    let mut line = format!("{label:indent$}");
    let mut bare = true;
    for word in text.split_whitespace() {
        if !bare && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            *out += &line;
            out.push('\n');
            line = " ".repeat(indent);
            bare = true;
        }
        if !bare {
            line.push(' ');
        }
        line += word;
        bare = false;
    }
    *out += &line;
    out.push('\n');
}

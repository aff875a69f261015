//! The settings: what the command line and the environment ask for, as typed values.
//!
//! `OPTIONS` is the one table: the flag, variable, default, limits and help of an option come from its
//! row, and the default is read by the code that reads the user's value. Pure: arguments and variables
//! are passed in, nothing is opened or printed. `main` calls `parse` once, before anything else.
//!
//! A new option is a row and a field; a new command is a row of `COMMANDS` and its build function.

mod help;
mod settings;

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use crate::commands::{backup, check, checkpoint, export, show, status};
use crate::db::checkpoint::CheckpointMode;
use crate::log::Level;
use crate::place::set_aside::OnDamage;
use crate::record::expiry::SizeLimit;
use crate::record::settings::{Settings as Record, Synchronous};
use crate::sort;
use settings::{Settings, or_none, position, size, switch, text, time, when, whole, word};

pub const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(3_600);
pub const COMMIT_ROWS_MAX: u64 = 1_000_000;
pub const QUEUE_ROWS_MAX: u64 = 16_777_216;
pub const CHECKPOINT_INTERVAL_MAX: Duration = Duration::from_secs(366 * 86_400);
pub const WAL_AUTOCHECKPOINT_PAGES_MAX: u64 = i32::MAX as u64;
pub const BUSY_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
pub const STOP_TIMEOUT_MIN: Duration = Duration::from_millis(100);
pub const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
pub const RETAIN_MIN: Duration = Duration::from_secs(1);
pub const RETAIN_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);
/// Below this, what a full queue of the default length brings at once would leave little else in the file.
pub const MAX_SIZE_BYTES_MIN: u64 = 16 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;
/// SQLite numbers no more rows than this.
pub const AT_LEAST_ROWS_MAX: u64 = i64::MAX as u64;
pub const LIMIT_ROWS_MAX: u64 = i64::MAX as u64;

// SQLite takes milliseconds as a C int; rows in memory are counted in usize, on 32 bits too.
const _: () = assert!(BUSY_TIMEOUT_MAX.as_millis() <= i32::MAX as u128);
const _: () = assert!(COMMIT_ROWS_MAX <= QUEUE_ROWS_MAX && QUEUE_ROWS_MAX <= u32::MAX as u64);

/// What one run of the program is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Invocation {
    Help(String),
    Version,
    Record(Record),
    Check(check::Settings),
    Show(show::Settings),
    Export(export::Settings),
    Backup(backup::Settings),
    Checkpoint(checkpoint::Settings),
    Status(status::Settings),
}

impl Invocation {
    /// It ends in its own way on a signal that stops; others are cut off.
    pub fn handles_signals(&self) -> bool {
        match self {
            Invocation::Record(_) => true,
            Invocation::Backup(backup) => backup.dest.is_some(),
            Invocation::Export(export) => export.follow,
            _ => false,
        }
    }
}

/// A wrong command line or variable, told in one line. Exit status 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

struct Command {
    name: &'static str,
    usage: &'static str,
    /// One line in the list of commands.
    summary: &'static str,
    /// What `--help` of the command says above its options.
    about: &'static str,
    /// The one argument that is no option, by the name that the help gives it.
    operand: Option<&'static str>,
    build: fn(&Settings) -> Result<Invocation, Usage>,
}

impl Command {
    fn options(&self) -> impl Iterator<Item = &'static Opt> {
        OPTIONS.iter().filter(|opt| opt.of.contains(&self.name))
    }
}

/// What a value has to be.
enum Kind {
    Switch,
    Path,
    Sources,
    Word(&'static [&'static str]),
    Whole(u64, u64),
    Time(Duration, Duration),
    Size,
    /// With the least that will do.
    SizeFrom(u64),
    Text,
    /// A point in time.
    When,
    /// A reading that somebody has already.
    Position,
    OrNone(&'static Kind),
}

struct Opt {
    name: &'static str,
    /// What the help calls the value; empty for a switch.
    value: &'static str,
    default: &'static str,
    kind: Kind,
    /// The commands that have it.
    of: &'static [&'static str],
    help: &'static str,
}

impl Opt {
    fn flag(&self) -> String {
        format!("--{}", self.name)
    }

    fn variable(&self) -> String {
        format!(
            "SEAWALL_{}",
            self.name.replace('-', "_").to_ascii_uppercase()
        )
    }
}

const RECORD: &str = "record";
const CHECK: &str = "check";
const SHOW: &str = "show";
const EXPORT: &str = "export";
const BACKUP: &str = "backup";
const CHECKPOINT: &str = "checkpoint";
const STATUS: &str = "status";

const COMMANDS: &[Command] = &[
    RECORDING,
    Command {
        name: STATUS,
        usage: "seawall status [OPTIONS]",
        summary: "what the running recorder is doing; healthy or not",
        about: "Asks the recorder of a database, over a local socket that needs no file, and prints \
                key=value lines. Exits 0 when it is healthy; 1 when nobody records it, its commits \
                have been failing or blocked for 10 s, its disk is full, a damaged database was set \
                aside, or a sampled source sees nothing; each is told as a reason.",
        operand: None,
        build: read_status,
    },
    Command {
        name: CHECK,
        usage: "seawall check [OPTIONS]",
        summary: "audit a database: sound, or what is missing or damaged",
        about: "Audits a database, also while it is recorded: SQLite's own check, ids without a \
                gap, every reading's sensor known, every run's count right. The last line begins \
                with sound (exit 0), or with damaged or missing (exit 1).",
        operand: None,
        build: read_check,
    },
    Command {
        name: SHOW,
        usage: "seawall show [OPTIONS]",
        summary: "a table of the sensors: last value, least, mean, greatest, a sparkline",
        about: "Prints a table of the sensors: how many readings, the last one and its age, the \
                least, mean and greatest, and a sparkline of the means, over --since. Colours and \
                the width are the terminal's; piped, it is plain and as wide as it needs.",
        operand: None,
        build: read_show,
    },
    Command {
        name: EXPORT,
        usage: "seawall export [OPTIONS]",
        summary: "readings as CSV, JSON lines or line protocol; can follow",
        about: "Writes readings to stdout in the order of their ids, also while they are recorded: \
                device, id, time_ns, timestamp, sensor, field, value, run. Every row names its \
                reading for ever by device, run and id; a consumer that was cut off goes on with \
                --after RUN:ID of the last whole row that it has.",
        operand: None,
        build: read_export,
    },
    Command {
        name: BACKUP,
        usage: "seawall backup DEST [OPTIONS]",
        summary: "a consistent copy while recording goes on",
        about: "Copies the database as it is at this moment to the file DEST, or to stdout if DEST \
                is -, while recording goes on. DEST appears whole, checked and synced, or stays as \
                it was; an older seawall database there is replaced. While it copies, the -wal \
                cannot start again from its beginning and grows by what is recorded.",
        operand: Some("DEST"),
        build: read_backup,
    },
    Command {
        name: CHECKPOINT,
        usage: "seawall checkpoint [OPTIONS]",
        summary: "run one checkpoint now, in any of the four modes",
        about: "Runs one checkpoint and prints busy=0 log=N checkpointed=N. Exits 3 when frames \
                remain in -wal.",
        operand: None,
        build: read_checkpoint,
    },
];

/// What runs when no command is named.
const RECORDING: Command = Command {
    name: RECORD,
    usage: "seawall [record] [OPTIONS]",
    summary: "record until a signal, or until every source has ended",
    about: "Records readings into one SQLite file until a signal, or until every source has \
            ended. SIGTERM, SIGINT, SIGHUP and SIGQUIT commit all that was accepted, checkpoint \
            and stop; SIGUSR1 runs a passive checkpoint.",
    operand: None,
    build: read_record,
};

const OPTIONS: &[Opt] = &[
    Opt {
        name: "db",
        value: "PATH",
        default: "data/sensor_data.db",
        kind: Kind::Path,
        of: &[RECORD],
        help: "the database; missing folders are made",
    },
    Opt {
        name: "db",
        value: "PATH",
        default: "data/sensor_data.db",
        kind: Kind::Path,
        of: &[CHECK, SHOW, EXPORT, BACKUP, CHECKPOINT, STATUS],
        help: "the database",
    },
    Opt {
        name: "source",
        value: "SPEC",
        default: "sim",
        kind: Kind::Sources,
        of: &[RECORD],
        help: "what to record, as below; may be repeated; in the variable, separated by white space",
    },
    Opt {
        name: "commit-interval",
        value: "D",
        default: "1s",
        kind: Kind::Time(Duration::ZERO, COMMIT_INTERVAL_MAX),
        of: &[RECORD],
        help: "the longest that an accepted reading waits for its commit; 0 commits as soon as \
               the writer is free",
    },
    Opt {
        name: "commit-rows",
        value: "N",
        default: "1000",
        kind: Kind::Whole(1, COMMIT_ROWS_MAX),
        of: &[RECORD],
        help: "commit earlier once this many wait",
    },
    Opt {
        name: "queue-rows",
        value: "N",
        default: "65536",
        kind: Kind::Whole(1, QUEUE_ROWS_MAX),
        of: &[RECORD],
        help: "readings held in memory at most",
    },
    Opt {
        name: "synchronous",
        value: "LEVEL",
        default: "auto",
        kind: Kind::Word(Synchronous::NAMES),
        of: &[RECORD],
        help: "normal: committed readings survive the death of the process and of the container; \
               full: they survive a power cut too; auto: a commit that somebody is waiting to \
               have acknowledged runs at full, every other one at normal, so an ack always \
               survives a power cut",
    },
    Opt {
        name: "checkpoint-interval",
        value: "D",
        default: "60s",
        kind: Kind::Time(Duration::ZERO, CHECKPOINT_INTERVAL_MAX),
        of: &[RECORD],
        help: "time between periodic checkpoints; 0 leaves checkpoints to another tool",
    },
    Opt {
        name: "checkpoint-mode",
        value: "MODE",
        default: "passive",
        kind: Kind::Word(CheckpointMode::NAMES),
        of: &[RECORD],
        help: "mode of the periodic checkpoint: passive, full, restart, truncate",
    },
    Opt {
        name: "mode",
        value: "MODE",
        default: "passive",
        kind: Kind::Word(CheckpointMode::NAMES),
        of: &[CHECKPOINT],
        help: "passive: copy what can be copied, waiting for nobody; full: wait for the writer, \
               then copy all; restart: wait for readers too, so that the next commit starts the \
               -wal afresh; truncate: the same, and cut the -wal to nothing",
    },
    Opt {
        name: "wal-autocheckpoint",
        value: "PAGES",
        default: "1000",
        kind: Kind::Whole(0, WAL_AUTOCHECKPOINT_PAGES_MAX),
        of: &[RECORD],
        help: "SQLite's own threshold; 0 turns it off",
    },
    Opt {
        name: "busy-timeout",
        value: "D",
        default: "5s",
        kind: Kind::Time(Duration::ZERO, BUSY_TIMEOUT_MAX),
        of: &[RECORD, CHECK, SHOW, EXPORT, BACKUP, CHECKPOINT],
        help: "how long to wait for another process's lock",
    },
    Opt {
        name: "stop-timeout",
        value: "D",
        default: "5s",
        kind: Kind::Time(STOP_TIMEOUT_MIN, STOP_TIMEOUT_MAX),
        of: &[RECORD],
        help: "the whole stop, from signal to exit, takes no longer than this",
    },
    Opt {
        name: "retain",
        value: "D",
        default: "none",
        kind: Kind::OrNone(&Kind::Time(RETAIN_MIN, RETAIN_MAX)),
        of: &[RECORD],
        help: "drop readings older than this",
    },
    Opt {
        name: "max-size",
        value: "SIZE",
        default: "none",
        kind: Kind::OrNone(&Kind::SizeFrom(MAX_SIZE_BYTES_MIN)),
        of: &[RECORD],
        help: "drop the oldest readings so that .db and -wal together stay under this size; more \
               than the least for a --queue-rows over the default",
    },
    Opt {
        name: "min-free",
        value: "SIZE",
        default: "16MiB",
        kind: Kind::Size,
        of: &[RECORD],
        help: "treat the disk as full when less than this is free, so that the device keeps \
               working; the final commit may use it",
    },
    Opt {
        name: "min-free",
        value: "SIZE",
        default: "16MiB",
        kind: Kind::Size,
        of: &[BACKUP],
        help: "make no copy that would leave less than this free beside DEST",
    },
    Opt {
        name: "on-damage",
        value: "ACTION",
        default: "set-aside",
        kind: Kind::Word(OnDamage::NAMES),
        of: &[RECORD],
        help: "a database found damaged at start: set-aside renames its files together, starts a \
               new one, and says so at every start and in check until they are taken away; \
               refuse stops with status 1",
    },
    Opt {
        name: "ack",
        value: "",
        default: "off",
        kind: Kind::Switch,
        of: &[RECORD],
        help: "write `ack N` to stdout after each commit: the first N lines of stdin are settled",
    },
    Opt {
        name: "log-level",
        value: "LEVEL",
        default: "info",
        kind: Kind::Word(Level::NAMES),
        of: &[RECORD],
        help: "error, warn, info, debug",
    },
    Opt {
        name: "format",
        value: "FORMAT",
        default: "text",
        kind: Kind::Word(status::Format::NAMES),
        of: &[STATUS],
        help: "text, or prometheus, for an exporter's text file",
    },
    Opt {
        name: "full",
        value: "",
        default: "off",
        kind: Kind::Switch,
        of: &[CHECK],
        help: "SQLite's integrity_check, which reads the indexes too, instead of quick_check",
    },
    Opt {
        name: "at-least",
        value: "N",
        default: "none",
        kind: Kind::OrNone(&Kind::Whole(0, AT_LEAST_ROWS_MAX)),
        of: &[CHECK],
        help: "fail also when fewer than N readings are there",
    },
    Opt {
        name: "format",
        value: "FORMAT",
        default: "csv",
        kind: Kind::Word(export::Format::NAMES),
        of: &[EXPORT],
        help: "csv: RFC 4180, with a header, text always in quotes; ndjson: an object a line; \
               influx: line protocol, which recorded again gives the same readings, but for \
               device, id and run, which it has no place for",
    },
    Opt {
        name: "after",
        value: "[RUN:]ID",
        default: "0",
        kind: Kind::Position,
        of: &[EXPORT],
        help: "begin after this reading. With its run, those come too that a later run gave ids \
               anew, after a power cut had taken readings that nobody had acknowledged",
    },
    Opt {
        name: "since",
        value: "T",
        default: "1h",
        kind: Kind::OrNone(&Kind::When),
        of: &[SHOW],
        help: "look at readings from this time on; none: at all",
    },
    Opt {
        name: "since",
        value: "T",
        default: "none",
        kind: Kind::OrNone(&Kind::When),
        of: &[EXPORT],
        help: "only readings of this time or later, by their own time and not by their order",
    },
    Opt {
        name: "until",
        value: "T",
        default: "none",
        kind: Kind::OrNone(&Kind::When),
        of: &[EXPORT],
        help: "only readings before this time",
    },
    Opt {
        name: "sensor",
        value: "GLOB",
        default: "*",
        kind: Kind::Text,
        of: &[SHOW, EXPORT],
        help: "only sensors of which the whole name, with its tags, matches: * any text, ? any \
               character, [a-z] one of these, [^a-z] none of these",
    },
    Opt {
        name: "limit",
        value: "N",
        default: "none",
        kind: Kind::OrNone(&Kind::Whole(0, LIMIT_ROWS_MAX)),
        of: &[EXPORT],
        help: "end after this many rows",
    },
    Opt {
        name: "follow",
        value: "",
        default: "off",
        kind: Kind::Switch,
        of: &[EXPORT],
        help: "at the end, go on as readings are committed, looking four times a second, until a \
               signal or a closed pipe; also when the recorder or the database comes anew",
    },
];

fn read_record(given: &Settings) -> Result<Invocation, Usage> {
    let record = Record {
        db: given.path("db")?,
        sources: given.sources("source")?,
        commit_interval: given.read("commit-interval", time)?,
        commit_rows: given.read("commit-rows", whole)? as usize,
        queue_rows: given.read("queue-rows", whole)? as usize,
        synchronous: given.read("synchronous", word(Synchronous::parse))?,
        checkpoint_interval: Some(given.read("checkpoint-interval", time)?)
            .filter(|interval| !interval.is_zero()),
        checkpoint_mode: given.read("checkpoint-mode", word(CheckpointMode::parse))?,
        wal_autocheckpoint: given.read("wal-autocheckpoint", whole)? as u32,
        busy_timeout: given.read("busy-timeout", time)?,
        stop_timeout: given.read("stop-timeout", time)?,
        retain: given.read("retain", or_none(time))?,
        max_size_bytes: given.read("max-size", or_none(size))?,
        min_free_bytes: given.read("min-free", size)?,
        on_damage: given.read("on-damage", word(OnDamage::parse))?,
        ack: given.read("ack", switch)?,
        log_level: given.read("log-level", word(Level::parse))?,
    };
    let least = SizeLimit::least_bytes(record.queue_rows).div_ceil(MIB);
    if record.max_size_bytes.is_some_and(|max| max < least * MIB) {
        return Err(Usage(format!(
            "--max-size is too small for --queue-rows {}: that many readings at once need {least}MiB; \
             give a greater --max-size or a smaller --queue-rows",
            record.queue_rows
        )));
    }
    Ok(Invocation::Record(record))
}

fn read_check(given: &Settings) -> Result<Invocation, Usage> {
    Ok(Invocation::Check(check::Settings {
        db: given.path("db")?,
        full: given.read("full", switch)?,
        at_least: given.read("at-least", or_none(whole))?,
        busy_timeout: given.read("busy-timeout", time)?,
    }))
}

fn read_status(given: &Settings) -> Result<Invocation, Usage> {
    Ok(Invocation::Status(status::Settings {
        db: given.path("db")?,
        format: given.read("format", word(status::Format::parse))?,
    }))
}

fn read_show(given: &Settings) -> Result<Invocation, Usage> {
    Ok(Invocation::Show(show::Settings {
        db: given.path("db")?,
        since: given.read("since", or_none(when))?,
        sensor: given.read("sensor", text)?,
        busy_timeout: given.read("busy-timeout", time)?,
    }))
}

fn read_export(given: &Settings) -> Result<Invocation, Usage> {
    Ok(Invocation::Export(export::Settings {
        db: given.path("db")?,
        format: given.read("format", word(export::Format::parse))?,
        after: given.read("after", position)?,
        since: given.read("since", or_none(when))?,
        until: given.read("until", or_none(when))?,
        sensor: given.read("sensor", text)?,
        limit: given.read("limit", or_none(whole))?,
        follow: given.read("follow", switch)?,
        busy_timeout: given.read("busy-timeout", time)?,
    }))
}

fn read_backup(given: &Settings) -> Result<Invocation, Usage> {
    Ok(Invocation::Backup(backup::Settings {
        db: given.path("db")?,
        dest: Some(given.operand()?).filter(|dest| dest.as_os_str() != "-"),
        min_free_bytes: given.read("min-free", size)?,
        busy_timeout: given.read("busy-timeout", time)?,
    }))
}

fn read_checkpoint(given: &Settings) -> Result<Invocation, Usage> {
    Ok(Invocation::Checkpoint(checkpoint::Settings {
        db: given.path("db")?,
        mode: given.read("mode", word(CheckpointMode::parse))?,
        busy_timeout: given.read("busy-timeout", time)?,
    }))
}

/// Reads the arguments after the program's name, and the variables of the command's options.
pub fn parse(
    args: impl Iterator<Item = OsString>,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Invocation, Usage> {
    let mut args = args.peekable();
    let command = match args.peek() {
        Some(first) if first == "--help" => return Ok(Invocation::Help(help::overview())),
        Some(first) if first == "--version" => return Ok(Invocation::Version),
        Some(first) if !first.as_encoded_bytes().starts_with(b"-") => {
            let command = settings::command(first)?;
            args.next();
            command
        }
        _ => &RECORDING,
    };
    match Settings::gather(command, &mut args, variable)? {
        Some(settings) => (command.build)(&settings),
        None => Ok(Invocation::Help(help::of(command))),
    }
}

/// Those of `names` that look like a setting and are none, such as a misspelt one, in order.
pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let known: Vec<_> = OPTIONS.iter().map(Opt::variable).collect();
    let mut unknown: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with("SEAWALL_") && !known.contains(name))
        .collect();
    sort::short(&mut unknown, Ord::cmp);
    unknown
}

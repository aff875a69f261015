//! The commands and their options: the one table that the command line, the variables and `--help` come from.
//!
//! An option is written once, as a call of `read` beside the field that it fills. A new command is a row of
//! `COMMANDS` and its function.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::options::{Options, Usage};
use crate::commands::export::After;
use crate::commands::{backup, check, checkpoint, export, show, status};
use crate::db::checkpoint::CheckpointMode;
use crate::log::Level;
use crate::place::Create;
use crate::place::set_aside::OnDamage;
use crate::record::expiry::{MAX_SIZE_BYTES_MIN, SizeLimit};
use crate::record::settings::{RecordSettings, Synchronous};
use crate::source::spec::{self, SourceSpec};
use crate::store::Position;
use crate::values::{
    ValueReader, duration, or_none, path, rows, size, size_from, switch, text, time, whole, word,
};

const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(3_600);
const COMMIT_ROWS_MAX: usize = 1_000_000;
const QUEUE_ROWS_MAX: usize = 16_777_216;
const CHECKPOINT_INTERVAL_MAX: Duration = Duration::from_secs(366 * 86_400);
const WAL_AUTOCHECKPOINT_PAGES_MAX: u32 = i32::MAX as u32;
const BUSY_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
const STOP_TIMEOUT_MIN: Duration = Duration::from_millis(100);
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
const HTTP_WAIT_MIN: Duration = Duration::from_millis(100);
const HTTP_WAIT_MAX: Duration = Duration::from_secs(3_600);
const RETAIN_MIN: Duration = Duration::from_secs(1);
const RETAIN_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);
const MIB: u64 = 1024 * 1024;
/// How a path ends that is hardly the database to export.
const OUTPUT_ENDS: [&[u8]; 4] = [b".csv", b".json", b".ndjson", b".lp"];

// SQLite takes milliseconds as a C int.
const _: () = assert!(BUSY_TIMEOUT_MAX.as_millis() <= i32::MAX as u128);
const _: () = assert!(COMMIT_ROWS_MAX <= QUEUE_ROWS_MAX && QUEUE_ROWS_MAX <= u32::MAX as usize);

/// The settings of one run of the program.
#[derive(Clone, Debug, PartialEq)]
pub enum Invocation {
    Help(String),
    Version,
    Record(RecordSettings),
    Check(check::CheckSettings),
    Show(show::ShowSettings),
    Export(export::ExportSettings),
    Backup(backup::BackupSettings),
    Checkpoint(checkpoint::CheckpointSettings),
    Status(status::StatusSettings),
}

impl Invocation {
    /// Whether the command ends in its own way on a signal that stops; others are cut off.
    pub fn handles_signals(&self) -> bool {
        match self {
            Invocation::Record(_) => true,
            Invocation::Backup(backup) => backup.dest.is_some(),
            Invocation::Export(export) => export.follow,
            _ => false,
        }
    }
}

pub struct Command {
    pub name: &'static str,
    pub usage: &'static str,
    /// One line in the list of commands.
    pub summary: &'static str,
    /// The text above the options in `--help` of the command.
    pub about: &'static str,
    pub fill: fn(&mut Options) -> Result<Invocation, Usage>,
}

impl Command {
    /// The options, each at its default.
    pub fn list(&self) -> Result<Options<'static>, Usage> {
        let mut options = Options::list(self.name);
        (self.fill)(&mut options)?;
        Ok(options)
    }
}

/// The first one runs when no command is named.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "record",
        usage: "seawall [record] [OPTIONS]",
        summary: "record until a signal, or until every source has ended",
        about: "Records readings into one SQLite file until a signal, or until every source has \
                ended. SIGTERM, SIGINT, SIGHUP, SIGQUIT and SIGPWR commit all that was accepted, \
                checkpoint and stop; SIGUSR1 runs a passive checkpoint. A signal that is ignored \
                at the start stays ignored, SIGTERM excepted.",
        fill: record,
    },
    Command {
        name: "status",
        usage: "seawall status [PATH] [OPTIONS]",
        summary: "what the running recorder is doing; healthy or not",
        about: "Asks the recorder of a database, over a local socket that needs no file, and prints \
                key=value lines. Exits 0 when it is healthy; 1 when nobody records it, its commits \
                have been failing or blocked for 10 s, its disk is full, a damaged database was set \
                aside, or a sampled source sees nothing; a line names each reason.",
        fill: status,
    },
    Command {
        name: "check",
        usage: "seawall check [PATH] [OPTIONS]",
        summary: "audit a database: sound, or what is missing or damaged",
        about: "Audits a database, also while it is recorded: SQLite's own check, ids without a \
                gap, every reading's sensor known, every run's count right. The last line begins \
                with sound (exit 0), or with damaged or missing (exit 1).",
        fill: check,
    },
    Command {
        name: "show",
        usage: "seawall show [PATH] [OPTIONS]",
        summary: "the sensors as a table or as a page of charts: last value, least, mean, greatest",
        about: "Prints a table of the sensors: how many readings, the last one and its age, the \
                least, mean and greatest, and a sparkline of the means, over --since. Colours and \
                the width are the terminal's; piped, it is plain and as wide as it needs. --format html \
                prints one page instead that needs no network: seawall show --format html > sensors.html.",
        fill: show,
    },
    Command {
        name: "export",
        usage: "seawall export [PATH] [OPTIONS]",
        summary: "readings as CSV, JSON lines or line protocol; can follow",
        about: "Writes readings to stdout in the order of their ids, also while they are recorded: \
                device, id, time_ns, timestamp, sensor, field, value, run. Every row names its \
                reading for ever by device, run and id; a consumer that was cut off goes on with \
                --after RUN:ID of the last whole row that it has.",
        fill: export,
    },
    Command {
        name: "backup",
        usage: "seawall backup DEST [OPTIONS]",
        summary: "a consistent copy while recording goes on",
        about: "Copies the database as it is at this moment to the file DEST, or to stdout if DEST \
                is -, while recording goes on. DEST appears whole, checked and synced, or stays as \
                it was; an older backup of the same database is replaced, nothing else. While it copies, the -wal \
                cannot start again from its beginning and grows by what is recorded.",
        fill: backup,
    },
    Command {
        name: "checkpoint",
        usage: "seawall checkpoint [PATH] [OPTIONS]",
        summary: "run one checkpoint now, in any of the four modes",
        about: "Runs one checkpoint and prints busy=0 log=N checkpointed=N. Exits 3 when frames \
                remain in -wal.",
        fill: checkpoint,
    },
];

fn db(o: &mut Options) -> Result<PathBuf, Usage> {
    let help = "the database; record makes it where there is none, and missing folders";
    o.read("--db PATH", "data/sensor_data.db", path(), help)
}

/// The database of a command that takes its path without the flag too.
fn path_or_db(o: &mut Options) -> Result<PathBuf, Usage> {
    o.take_operand("--db");
    db(o)
}

fn busy_timeout(o: &mut Options) -> Result<Duration, Usage> {
    let range = Duration::ZERO..=BUSY_TIMEOUT_MAX;
    let help = "how long to wait for another process's lock";
    o.read("--busy-timeout D", "5s", duration(range), help)
}

fn min_free(o: &mut Options) -> Result<u64, Usage> {
    let help = "the disk counts as full when less than this is free, so that the device keeps \
                working; the final commit may use it; backup leaves this much free beside DEST";
    o.read("--min-free SIZE", "16MiB", size(), help)
}

fn sensor(o: &mut Options) -> Result<String, Usage> {
    let help = "only sensors whose whole name, with its tags, matches: * any text, ? any \
                character, [a-z] one of these, [^a-z] none of these";
    o.read("--sensor GLOB", "*", text(), help)
}

fn sources(o: &mut Options) -> Result<Vec<SourceSpec>, Usage> {
    let (from, sources) = o.read_list(
        "--source SPEC",
        "sim",
        format!("a source; known are {}", spec::known()),
        SourceSpec::parse,
        "what to record, as below; may be repeated; in the variable, separated by white space",
    )?;
    let stdin = |source: &&SourceSpec| matches!(source, SourceSpec::Stdin { .. });
    if sources.iter().filter(stdin).count() > 1 {
        return Err(Usage(format!("{from}: stdin may be given only once")));
    }
    Ok(sources)
}

fn record(o: &mut Options) -> Result<Invocation, Usage> {
    let record = RecordSettings {
        db: db(o)?,
        sources: sources(o)?,
        commit_interval: o.read(
            "--commit-interval D",
            "1s",
            duration(Duration::ZERO..=COMMIT_INTERVAL_MAX),
            "the longest that an accepted reading waits for its commit; 0 commits as soon as the \
             writer is free",
        )?,
        commit_rows: o.read(
            "--commit-rows N",
            "1000",
            whole(1..=COMMIT_ROWS_MAX),
            "commit earlier once this many wait",
        )?,
        queue_rows: o.read(
            "--queue-rows N",
            "65536",
            whole(1..=QUEUE_ROWS_MAX),
            "readings held in memory at most",
        )?,
        synchronous: o.read(
            "--synchronous LEVEL",
            "auto",
            word(Synchronous::NAMES, Synchronous::parse),
            "normal: committed readings survive the death of the process and of the container; \
             full: they survive a power cut too; auto: a commit that a client or --ack waits for \
             runs at full, every other one at normal, so an ack always survives a power cut",
        )?,
        checkpoint_interval: o.read(
            "--checkpoint-interval D",
            "60s",
            duration(Duration::ZERO..=CHECKPOINT_INTERVAL_MAX)
                .map(|interval| Some(interval).filter(|interval| !interval.is_zero())),
            "time between periodic checkpoints; 0 leaves checkpoints to another tool",
        )?,
        checkpoint_mode: o.read(
            "--checkpoint-mode MODE",
            "passive",
            word(CheckpointMode::NAMES, CheckpointMode::parse),
            "mode of the periodic checkpoint: passive, full, restart, truncate",
        )?,
        wal_autocheckpoint: o.read(
            "--wal-autocheckpoint PAGES",
            "2000",
            whole(0..=WAL_AUTOCHECKPOINT_PAGES_MAX),
            "growth of the WAL after which a checkpoint runs; 0 turns it off",
        )?,
        busy_timeout: busy_timeout(o)?,
        stop_timeout: o.read(
            "--stop-timeout D",
            "5s",
            duration(STOP_TIMEOUT_MIN..=STOP_TIMEOUT_MAX),
            "the whole stop, from signal to exit, takes no longer than this",
        )?,
        http_wait: o.read(
            "--http-wait D",
            "4s",
            duration(HTTP_WAIT_MIN..=HTTP_WAIT_MAX),
            "a request over HTTP whose commit does not come within this is closed without an answer, so that \
             the client sends it again",
        )?,
        retain: o.read(
            "--retain D",
            "none",
            or_none(duration(RETAIN_MIN..=RETAIN_MAX)),
            "drop readings older than this",
        )?,
        max_size_bytes: o.read(
            "--max-size SIZE",
            "none",
            or_none(size_from(MAX_SIZE_BYTES_MIN)),
            "drop the oldest readings so that .db and -wal together stay under this size, of which \
             12MiB are kept for the -wal; a --queue-rows over the default needs more than the least",
        )?,
        min_free_bytes: min_free(o)?,
        create: o.read(
            "--create WHEN",
            "always",
            word(Create::NAMES, Create::parse),
            "always: make the database and its folders if they are not there; never: refuse to start, as \
             where a disk is not mounted",
        )?,
        on_damage: o.read(
            "--on-damage ACTION",
            "set-aside",
            word(OnDamage::NAMES, OnDamage::parse),
            "a database found damaged at start: set-aside renames its files together, starts a \
             new one, and says so at every start and in check until they are taken away; refuse \
             stops with status 1",
        )?,
        ack: o.read(
            "--ack",
            "off",
            switch(),
            "write `ack N` to stdout after each commit: the first N lines of stdin are settled",
        )?,
        log_level: o.read(
            "--log-level LEVEL",
            "info",
            word(Level::NAMES, Level::parse),
            "error, warn, info, debug",
        )?,
    };
    let least = SizeLimit::least_bytes(record.queue_rows).div_ceil(MIB);
    if record.max_size_bytes.is_some_and(|max| max < least * MIB) {
        return Err(Usage(format!(
            "--max-size is too small for --queue-rows {}: that many readings at once need {least}MiB; \
             use a greater --max-size or a smaller --queue-rows",
            record.queue_rows
        )));
    }
    Ok(Invocation::Record(record))
}

fn status(o: &mut Options) -> Result<Invocation, Usage> {
    Ok(Invocation::Status(status::StatusSettings {
        db: path_or_db(o)?,
        format: o.read_own(
            "--format FORMAT",
            "text",
            word(status::StatusFormat::NAMES, status::StatusFormat::parse),
            "text, or prometheus, for an exporter's text file",
        )?,
    }))
}

fn check(o: &mut Options) -> Result<Invocation, Usage> {
    Ok(Invocation::Check(check::CheckSettings {
        db: path_or_db(o)?,
        full: o.read(
            "--full",
            "off",
            switch(),
            "SQLite's integrity_check, which reads the indexes too, instead of quick_check",
        )?,
        at_least: o.read(
            "--at-least N",
            "none",
            or_none(rows()),
            "fail also when fewer than N readings are there",
        )?,
        busy_timeout: busy_timeout(o)?,
    }))
}

fn show(o: &mut Options) -> Result<Invocation, Usage> {
    Ok(Invocation::Show(show::ShowSettings {
        db: path_or_db(o)?,
        format: o.read_own(
            "--format FORMAT",
            "text",
            word(show::ShowFormat::NAMES, show::ShowFormat::parse),
            "text: a table, with a chart where one series matches and stdout is a terminal; html: a page with a chart of each series",
        )?,
        since: o.read_own(
            "--since T",
            "1h",
            or_none(time()),
            "only readings of this time or later; none: all",
        )?,
        sensor: sensor(o)?,
        busy_timeout: busy_timeout(o)?,
    }))
}

fn export(o: &mut Options) -> Result<Invocation, Usage> {
    let db = path_or_db(o)?;
    let ends_as_output = |end| db.as_os_str().as_bytes().ends_with(end);
    if o.has_operand && OUTPUT_ENDS.into_iter().any(ends_as_output) {
        return Err(Usage(format!(
            "export writes to stdout: seawall export > {}",
            db.display()
        )));
    }
    let export = export::ExportSettings {
        db,
        format: o.read_own(
            "--format FORMAT",
            "csv",
            word(export::ExportFormat::NAMES, export::ExportFormat::parse),
            "csv: RFC 4180, with a header, text always in quotes; ndjson: an object a line; \
             influx: line protocol, which recorded again makes the same readings, without device, \
             id and run",
        )?,
        after: o.read(
            "--after [[DEVICE:]RUN:]ID",
            "0",
            position(),
            "begin after this reading. With RUN, the readings of later runs are complete, also \
             where a power cut took unacknowledged readings and a later run used their ids again; with DEVICE, \
             a database that is another one is read from its first reading",
        )?,
        since: o.read_own(
            "--since T",
            "none",
            or_none(time()),
            "only readings of this time or later, by their own time and not by their order",
        )?,
        until: o.read(
            "--until T",
            "none",
            or_none(time()),
            "only readings before this time",
        )?,
        sensor: sensor(o)?,
        limit: o.read(
            "--limit N",
            "none",
            or_none(rows()),
            "end after this many rows",
        )?,
        follow: o.read(
            "--follow",
            "off",
            switch(),
            "at the end, go on as readings are committed, four times a second, until a signal or \
             a closed pipe; also across a restart of the recorder and with a new database",
        )?,
        skip_damaged: o.read(
            "--skip-damaged",
            "off",
            switch(),
            "of a damaged file, all readings that can be read; stderr has the ids of the others, and the \
             status is 1 where there are any",
        )?,
        busy_timeout: busy_timeout(o)?,
    };
    if export.follow && export.skip_damaged {
        return Err(Usage(
            "--follow and --skip-damaged exclude each other".to_owned(),
        ));
    }
    Ok(Invocation::Export(export))
}

fn backup(o: &mut Options) -> Result<Invocation, Usage> {
    Ok(Invocation::Backup(backup::BackupSettings {
        dest: Some(o.read_operand("DEST")?).filter(|dest| dest.as_os_str() != "-"),
        db: db(o)?,
        min_free_bytes: min_free(o)?,
        busy_timeout: busy_timeout(o)?,
    }))
}

fn checkpoint(o: &mut Options) -> Result<Invocation, Usage> {
    Ok(Invocation::Checkpoint(checkpoint::CheckpointSettings {
        db: path_or_db(o)?,
        mode: o.read(
            "--mode MODE",
            "passive",
            word(CheckpointMode::NAMES, CheckpointMode::parse),
            "passive: copy what can be copied, waiting for nobody; full: wait for the writer, then \
             copy all; restart: wait for readers too, so that the next commit starts the -wal \
             afresh; truncate: the same, and cut the -wal to nothing",
        )?,
        busy_timeout: busy_timeout(o)?,
    }))
}

/// `ID`, `RUN:ID` or `DEVICE:RUN:ID`.
fn position() -> ValueReader<After> {
    let expected = "an id, or a device, a run and an id such as DEVICE:3:4711";
    ValueReader::new(expected, |text| {
        let number = |text: &str| text.parse().ok().filter(|n: &i64| *n >= 0);
        let mut parts = text.rsplitn(3, ':');
        let id = number(parts.next()?)?;
        let run = match parts.next() {
            Some(run) => Some(number(run)?),
            None => None,
        };
        let device = parts.next().map(str::to_owned);
        let is_device = |device: &String| !device.is_empty() && !device.contains(':');
        let is_good = device.as_ref().is_none_or(is_device);
        let at = Position { run, id };
        is_good.then_some(After { device, at })
    })
}

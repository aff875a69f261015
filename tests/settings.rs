//! Guards against a recorder that does something else than its settings say: a setting that is ignored,
//! misread or overruled, and a mistake in one whose error does not lead to its repair.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::arguments::*;
use seawall::cli::{Invocation, Usage, parse, table, unknown_variables};
use seawall::commands::export::After;
use seawall::commands::{backup, check, checkpoint, export, show, status};
use seawall::db::checkpoint::CheckpointMode;
use seawall::log::Level;
use seawall::place::Create;
use seawall::place::set_aside::OnDamage;
use seawall::reading::line::Precision;
use seawall::record::settings::{RecordSettings as Record, Synchronous};
use seawall::source::spec::{SimRate, SimSpec, SourceSpec};
use seawall::store::Position;
use seawall::time::When;

fn recording(args: &[&str], variables: &[(&str, &str)]) -> Record {
    match run(args, variables) {
        Ok(Invocation::Record(record)) => record,
        other => panic!("{args:?} {variables:?} gave {other:?}"),
    }
}

fn help(args: &[&str]) -> String {
    match run(args, &[]) {
        Ok(Invocation::Help(text)) => text,
        other => panic!("{args:?} gave {other:?}"),
    }
}

/// The documented variable of an option: the plain name, but for the two options that mean something else in
/// another command.
fn variable_of(command: &str, option: &str) -> String {
    let name = option.trim_start_matches('-').replace('-', "_");
    match name.as_str() {
        "format" | "since" => format!("SEAWALL_{command}_{name}"),
        _ => format!("SEAWALL_{name}"),
    }
    .to_uppercase()
}

/// A command and its options, with the destination that `backup` needs.
fn arguments<'a>(command: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let named: &[_] = match command {
        "backup" => &["backup", "copy.db"],
        _ => &[command],
    };
    [named, options].concat()
}

const SIM: SourceSpec = SourceSpec::Sim(SimSpec {
    sensors: 8,
    rate: SimRate::PerSecond(10.0),
    count: 0,
    seed: None,
});
const HOUR: Duration = Duration::from_secs(3_600);

/// The documented defaults.
fn defaults(command: &str) -> Invocation {
    let db = "data/sensor_data.db".into();
    let busy_timeout = Duration::from_secs(5);
    let min_free_bytes = 16 * 1024 * 1024;
    let sensor = "*".into();
    match command {
        "record" => Invocation::Record(Record {
            db,
            sources: vec![SIM],
            commit_interval: Duration::from_secs(1),
            commit_rows: 1000,
            queue_rows: 65_536,
            synchronous: Synchronous::Auto,
            checkpoint_interval: Some(Duration::from_secs(60)),
            checkpoint_mode: CheckpointMode::Passive,
            wal_autocheckpoint: 2000,
            busy_timeout,
            stop_timeout: Duration::from_secs(5),
            http_wait: Duration::from_secs(4),
            retain: None,
            max_size_bytes: None,
            min_free_bytes,
            create: Create::Always,
            on_damage: OnDamage::SetAside,
            ack: false,
            log_level: Level::Info,
        }),
        "status" => Invocation::Status(status::StatusSettings {
            db,
            format: status::StatusFormat::Text,
        }),
        "check" => Invocation::Check(check::CheckSettings {
            db,
            full: false,
            at_least: None,
            busy_timeout,
        }),
        "show" => Invocation::Show(show::ShowSettings {
            db,
            format: show::ShowFormat::Text,
            since: Some(When::Ago(HOUR)),
            sensor,
            busy_timeout,
        }),
        "export" => Invocation::Export(export::ExportSettings {
            db,
            format: export::ExportFormat::Csv,
            after: After::default(),
            since: None,
            until: None,
            sensor,
            limit: None,
            follow: false,
            skip_damaged: false,
            busy_timeout,
        }),
        "backup" => Invocation::Backup(backup::BackupSettings {
            db,
            dest: Some("copy.db".into()),
            min_free_bytes,
            busy_timeout,
        }),
        "checkpoint" => Invocation::Checkpoint(checkpoint::CheckpointSettings {
            db,
            mode: CheckpointMode::Passive,
            busy_timeout,
        }),
        other => panic!("no such command: {other}"),
    }
}

/// A command, an option, a value, and the settings that it makes.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    fn(&mut Invocation),
);

macro_rules! case {
    ($command:literal $option:literal $value:literal $kind:ident.$field:ident = $expected:expr) => {
        ($command, $option, $value, |settings| match settings {
            Invocation::$kind(settings) => settings.$field = $expected,
            other => panic!("not settings of {}: {other:?}", $command),
        })
    };
}

fn after(device: Option<&str>, run: Option<i64>, id: i64) -> After {
    let device = device.map(str::to_owned);
    let at = Position { run, id };
    After { device, at }
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    case!("record" "--db" "/app/x.db" Record.db = "/app/x.db".into()),
    case!("record" "--source" "stdin" Record.sources = vec![SourceSpec::Stdin { precision: Precision::Ns }]),
    case!("record" "--commit-interval" "250ms" Record.commit_interval = Duration::from_millis(250)),
    case!("record" "--commit-interval" "0" Record.commit_interval = Duration::ZERO),
    case!("record" "--commit-interval" "1h" Record.commit_interval = HOUR),
    case!("record" "--commit-rows" "1" Record.commit_rows = 1),
    case!("record" "--commit-rows" "1000000" Record.commit_rows = 1_000_000),
    case!("record" "--queue-rows" "16777216" Record.queue_rows = 16_777_216),
    case!("record" "--synchronous" "normal" Record.synchronous = Synchronous::Normal),
    case!("record" "--synchronous" "full" Record.synchronous = Synchronous::Full),
    case!("record" "--retain" "30d" Record.retain = Some(24 * 30 * HOUR)),
    case!("record" "--retain" "1" Record.retain = Some(Duration::from_secs(1))),
    case!("record" "--retain" "none" Record.retain = None),
    case!("record" "--max-size" "2GiB" Record.max_size_bytes = Some(2 << 30)),
    case!("record" "--max-size" "32MiB" Record.max_size_bytes = Some(32 << 20)),
    case!("record" "--min-free" "2GiB" Record.min_free_bytes = 2 << 30),
    case!("record" "--min-free" "0" Record.min_free_bytes = 0),
    case!("record" "--create" "never" Record.create = Create::Never),
    case!("record" "--create" "always" Record.create = Create::Always),
    case!("record" "--on-damage" "refuse" Record.on_damage = OnDamage::Refuse),
    case!("record" "--on-damage" "set-aside" Record.on_damage = OnDamage::SetAside),
    case!("record" "--checkpoint-interval" "366d" Record.checkpoint_interval = Some(24 * 366 * HOUR)),
    case!("record" "--checkpoint-interval" "0" Record.checkpoint_interval = None),
    case!("record" "--checkpoint-mode" "full" Record.checkpoint_mode = CheckpointMode::Full),
    case!("record" "--checkpoint-mode" "restart" Record.checkpoint_mode = CheckpointMode::Restart),
    case!("record" "--checkpoint-mode" "truncate" Record.checkpoint_mode = CheckpointMode::Truncate),
    case!("record" "--wal-autocheckpoint" "0" Record.wal_autocheckpoint = 0),
    case!("record" "--wal-autocheckpoint" "2147483647" Record.wal_autocheckpoint = 2_147_483_647),
    case!("record" "--busy-timeout" "0" Record.busy_timeout = Duration::ZERO),
    case!("record" "--stop-timeout" "100ms" Record.stop_timeout = Duration::from_millis(100)),
    case!("record" "--http-wait" "1h" Record.http_wait = HOUR),
    case!("record" "--ack" "on" Record.ack = true),
    case!("record" "--log-level" "error" Record.log_level = Level::Error),
    case!("record" "--log-level" "warn" Record.log_level = Level::Warn),
    case!("record" "--log-level" "debug" Record.log_level = Level::Debug),
    case!("status" "--db" "x.db" Status.db = "x.db".into()),
    case!("status" "--format" "prometheus" Status.format = status::StatusFormat::Prometheus),
    case!("check" "--db" "x.db" Check.db = "x.db".into()),
    case!("check" "--full" "on" Check.full = true),
    case!("check" "--at-least" "0" Check.at_least = Some(0)),
    case!("check" "--at-least" "9223372036854775807" Check.at_least = Some(i64::MAX as u64)),
    case!("check" "--at-least" "none" Check.at_least = None),
    case!("check" "--busy-timeout" "1h" Check.busy_timeout = HOUR),
    case!("show" "--db" "x.db" Show.db = "x.db".into()),
    case!("show" "--format" "html" Show.format = show::ShowFormat::Html),
    case!("show" "--since" "none" Show.since = None),
    case!("show" "--since" "2m" Show.since = Some(When::Ago(Duration::from_secs(120)))),
    case!("show" "--sensor" "cpu*" Show.sensor = "cpu*".into()),
    case!("show" "--busy-timeout" "1h" Show.busy_timeout = HOUR),
    case!("export" "--db" "x.db" Export.db = "x.db".into()),
    case!("export" "--format" "ndjson" Export.format = export::ExportFormat::Ndjson),
    case!("export" "--format" "influx" Export.format = export::ExportFormat::Influx),
    case!("export" "--after" "7" Export.after = after(None, None, 7)),
    case!("export" "--after" "3:4711" Export.after = after(None, Some(3), 4711)),
    case!("export" "--after" "d0:3:4711" Export.after = after(Some("d0"), Some(3), 4711)),
    case!("export" "--since" "-1h" Export.since = Some(When::Ago(HOUR))),
    case!("export" "--since" "1970-01-01T00:00:01Z" Export.since = Some(When::At(1_000_000_000))),
    case!("export" "--until" "1h" Export.until = Some(When::Ago(HOUR))),
    case!("export" "--sensor" "" Export.sensor = "".into()),
    case!("export" "--sensor" "m,k=*" Export.sensor = "m,k=*".into()),
    case!("export" "--limit" "0" Export.limit = Some(0)),
    case!("export" "--follow" "on" Export.follow = true),
    case!("export" "--skip-damaged" "on" Export.skip_damaged = true),
    case!("export" "--busy-timeout" "1h" Export.busy_timeout = HOUR),
    case!("backup" "--db" "x.db" Backup.db = "x.db".into()),
    case!("backup" "--min-free" "0" Backup.min_free_bytes = 0),
    case!("backup" "--busy-timeout" "1h" Backup.busy_timeout = HOUR),
    case!("checkpoint" "--db" "x.db" Checkpoint.db = "x.db".into()),
    case!("checkpoint" "--mode" "full" Checkpoint.mode = CheckpointMode::Full),
    case!("checkpoint" "--mode" "restart" Checkpoint.mode = CheckpointMode::Restart),
    case!("checkpoint" "--mode" "truncate" Checkpoint.mode = CheckpointMode::Truncate),
    case!("checkpoint" "--busy-timeout" "1h" Checkpoint.busy_timeout = HOUR),
];

/// The documented options of each command, with their defaults.
const COMMON: &str = "--db PATH=data/sensor_data.db --busy-timeout D=5s";
const DOCUMENTED: &[(&str, &str)] = &[
    (
        "record",
        "--source SPEC=sim --commit-interval D=1s --commit-rows N=1000 --queue-rows N=65536 \
         --synchronous LEVEL=auto --checkpoint-interval D=60s --checkpoint-mode MODE=passive \
         --wal-autocheckpoint PAGES=2000 --stop-timeout D=5s --http-wait D=4s --retain D=none --max-size SIZE=none \
         --min-free SIZE=16MiB --create WHEN=always --on-damage ACTION=set-aside --ack=off --log-level LEVEL=info",
    ),
    ("check", "--full=off --at-least N=none"),
    ("show", "--format FORMAT=text --since T=1h --sensor GLOB=*"),
    (
        "export",
        "--format FORMAT=csv --after [[DEVICE:]RUN:]ID=0 --since T=none --until T=none --sensor GLOB=* \
         --limit N=none --follow=off --skip-damaged=off",
    ),
    ("backup", "--min-free SIZE=16MiB"),
    ("checkpoint", "--mode MODE=passive"),
    (
        "status",
        "--db PATH=data/sensor_data.db --format FORMAT=text",
    ),
];

/// Guards against defaults that drift from the documented ones.
#[test]
fn without_settings_the_defaults_are_the_documented_ones() {
    for (command, _) in DOCUMENTED {
        assert_eq!(run(&arguments(command, &[]), &[]), Ok(defaults(command)));
    }
    assert_eq!(run(&[], &[]), Ok(defaults("record")));
    assert_eq!(DOCUMENTED.len(), table().unwrap().len());
}

/// Guards against an option that is parsed and then dropped, or lands in another field.
#[test]
fn every_option_of_every_command_is_read_as_flag_and_as_variable() {
    let mut tested = HashSet::new();
    for (command, option, value, change) in CASES {
        let mut expected = defaults(command);
        change(&mut expected);
        let joined = format!("{option}={value}");
        let detached = [*option, value];
        let detached = &detached[..if *value == "on" { 1 } else { 2 }];
        for given in [detached, &[joined.as_str()]] {
            let read = run(&arguments(command, given), &[]);
            assert_eq!(read.as_ref(), Ok(&expected), "{given:?}");
        }
        if !value.is_empty() {
            let variable = variable_of(command, option);
            let read = run(&arguments(command, &[]), &[(&variable, value)]);
            assert_eq!(read, Ok(expected), "{variable}={value}");
        }
        tested.insert((*command, *option));
    }
    for (command, rows) in table().unwrap() {
        for row in &rows {
            assert!(
                tested.contains(&(command, row.flag)),
                "{command} {}",
                row.flag
            );
        }
    }
}

/// Guards against a variable in a container's environment that changes two commands in different ways.
#[test]
fn a_variable_has_one_meaning_and_one_default_in_all_commands() {
    let mut meanings = HashMap::new();
    for (command, rows) in table().unwrap() {
        for row in rows {
            let first = meanings.entry(row.variable.clone());
            let (other, same) = first.or_insert((command, row.clone()));
            assert_eq!(*same, row, "{other} and {command} differ");
        }
    }
    assert!(meanings.contains_key("SEAWALL_SHOW_SINCE") && meanings.contains_key("SEAWALL_DB"));
}

/// Guards against a container's variable that overrules what was typed.
#[test]
fn the_flag_wins_over_the_variable_even_when_the_variable_is_wrong() {
    let variables = [("SEAWALL_COMMIT_ROWS", "nonsense"), ("SEAWALL_ACK", "1")];
    let record = recording(&["--commit-rows", "7", "--ack=false"], &variables);
    assert_eq!((record.commit_rows, record.ack), (7, false));
    let record = recording(&["--source=sim"], &[("SEAWALL_SOURCE", "stdin sysfs")]);
    assert_eq!(record.sources, [SIM]);
}

/// Guards against appended flags that do not overrule those of a script before them.
#[test]
fn of_a_repeated_flag_the_last_wins() {
    let record = recording(
        &[
            "--commit-rows=5",
            "--ack=off",
            "--commit-rows",
            "6",
            "--ack",
        ],
        &[],
    );
    assert_eq!((record.commit_rows, record.ack), (6, true));
}

/// Guards against `SEAWALL_DB=` in a compose file being taken for a path.
#[test]
fn an_empty_variable_is_not_set() {
    for (command, _) in DOCUMENTED {
        let variable = |name: &str| (name != "SEAWALL_SOURCE").then(OsString::new);
        let args = arguments(command, &[]).into_iter().map(OsString::from);
        assert_eq!(parse(args, &variable), Ok(defaults(command)));
    }
    // Simulated sensors in the place of those that were meant.
    let variable = |name: &str| (name == "SEAWALL_SOURCE").then(OsString::new);
    let Err(Usage(text)) = parse(std::iter::empty(), &variable) else {
        panic!("an empty SEAWALL_SOURCE is a source");
    };
    assert!(
        text.contains("SEAWALL_SOURCE: \"\" is not a source"),
        "{text}"
    );
}

/// Guards against `SEAWALL_ACK=0` turning acks on.
#[test]
fn a_switch_takes_the_usual_words() {
    for (words, expected) in [
        (["1", "true", "yes", "on"], true),
        (["0", "false", "no", "off"], false),
    ] {
        for word in words {
            let flag = format!("--ack={word}");
            assert_eq!(recording(&[&flag], &[]).ack, expected, "{word}");
            assert_eq!(recording(&[], &[("SEAWALL_ACK", word)]).ack, expected);
        }
    }
    assert!(recording(&["--ack"], &[]).ack);
}

/// Guards against a variable that breaks a command it does not belong to.
#[test]
fn a_command_ignores_the_variables_of_the_others() {
    for (command, own) in table().unwrap() {
        let is_own = |name: &str| own.iter().any(|row| row.variable == name);
        let variable = |name: &str| (!is_own(name)).then(|| OsString::from("abc"));
        let args = arguments(command, &[]).into_iter().map(OsString::from);
        assert_eq!(parse(args, &variable), Ok(defaults(command)));
    }
}

/// Guards against an error that leaves its reader to guess which setting is meant.
#[test]
fn a_wrong_value_is_rejected_with_its_origin_and_what_is_allowed() {
    let whole = "is not a whole number from 1 to 1000000";
    #[rustfmt::skip]
    let cases = [
        ("record", "--db", "", "is not a path"),
        ("record", "--db", "a\0b", "is not a path"),
        ("record", "--source", "can0", "known are sim, sysfs, stdin, unix, tcp, udp"),
        ("record", "--commit-interval", "1 s", "from 0 to 1h, such as 250ms"),
        ("record", "--commit-interval", "61m", "from 0 to 1h"),
        ("record", "--commit-rows", "abc", whole),
        ("record", "--commit-rows", "0", whole),
        ("record", "--commit-rows", "1000001", whole),
        ("record", "--commit-rows", "99999999999999999999", whole),
        ("record", "--commit-rows", "-1", whole),
        ("record", "--commit-rows", "1\n2", whole),
        ("record", "--queue-rows", "0", "from 1 to 16777216"),
        ("record", "--queue-rows", "16777217", "from 1 to 16777216"),
        ("record", "--synchronous", "off", "one of auto, normal, full"),
        ("record", "--create", "auto", "one of always, never"),
        ("record", "--on-damage", "delete", "one of set-aside, refuse"),
        ("record", "--checkpoint-interval", "367d", "from 0 to 366d"),
        ("record", "--checkpoint-mode", "PASSIVE", "one of passive, full, restart, truncate"),
        ("record", "--wal-autocheckpoint", "2147483648", "0 to 2147483647"),
        ("record", "--busy-timeout", "2h", "from 0 to 1h"),
        ("record", "--stop-timeout", "99ms", "from 100ms to 1h"),
        ("record", "--http-wait", "0", "from 100ms to 1h"),
        ("record", "--retain", "999ms", "from 1s to 36600d"),
        ("record", "--max-size", "1MiB", "a size of at least 16MiB, such as 512MiB"),
        ("record", "--ack", "maybe", "one of on, 1, true, yes, off"),
        ("record", "--log-level", "trace", "error, warn, info, debug"),
        ("record", "--commit-rows", "+1", whole),
        ("show", "--since", "yesterday", "2026-01-31T12:00:00Z, 2026-01-31, 1769860800 since 1970, or -1h, an hour ago, or none"),
        ("export", "--since", "1.5h", "a time such as 2026"),
        ("export", "--until", "2026-13-01T00:00:00Z", "a time such as 2026"),
        ("export", "--after", "3:", "an id, or a device, a run and an id such as DEVICE:3:4711"),
        ("export", "--after", "-1", "an id, or a device, a run and an id such as DEVICE:3:4711"),
        ("export", "--limit", "9223372036854775808", "a whole number from 0"),
        ("export", "--follow", "", "one of on, 1, true, yes, off"),
        ("export", "--format", "xml", "one of csv, ndjson, influx"),
        ("backup", "--min-free", "1KB", "a size, such as 4096, 64KiB"),
        ("check", "--full", "2", "one of on, 1, true, yes, off"),
        ("check", "--at-least", "-1", "a whole number from 0"),
        ("status", "--format", "xml", "one of text, prometheus"),
        ("checkpoint", "--mode", "hard", "passive, full, restart, truncate"),
    ];
    for (command, option, value, right) in cases {
        let flag = error(&arguments(command, &[&format!("{option}={value}")]), &[]);
        assert!(flag.starts_with(&format!("{option}: {value:?}")), "{flag}");
        assert!(flag.contains(right), "{flag}");
        if value.is_empty() {
            continue;
        }
        let name = variable_of(command, option);
        let variable = error(&arguments(command, &[]), &[(&name, value)]);
        assert!(
            variable.starts_with(&format!("{name}: {value:?}")),
            "{variable}"
        );
        assert!(variable.contains(right), "{variable}");
    }
    assert_eq!(
        error(&["--commit-rows", "abc"], &[]),
        r#"--commit-rows: "abc" is not a whole number from 1 to 1000000"#
    );
}

/// Guards against a limit that a full queue exceeds at once.
#[test]
fn a_size_that_a_full_queue_would_fill_is_refused_with_what_it_needs() {
    let read = |size: &str, rows: &str| run(&["--max-size", size, "--queue-rows", rows], &[]);
    assert!(read("32MiB", "65536").is_ok());
    let error = read("32MiB", "1000000").unwrap_err().to_string();
    assert!(
        error.starts_with("--max-size is too small for --queue-rows 1000000: "),
        "{error}"
    );
    let least = error.split("need ").nth(1).unwrap();
    let least = least.split(';').next().unwrap();
    assert!(read(least, "1000000").is_ok(), "{error}");
    assert!(read("none", "1000000").is_ok());
}

/// Guards against a panic or a silent replacement where an argument is no text.
#[test]
fn bytes_that_are_not_utf8_are_a_path_or_an_error() {
    let odd = |prefix: &str| OsString::from_vec([prefix.as_bytes(), b"\xff"].concat());
    let none = |_: &str| None;
    let Ok(Invocation::Record(record)) = parse([odd("--db=x")].into_iter(), &none) else {
        panic!("a path of any bytes is a path");
    };
    assert_eq!(record.db, PathBuf::from(odd("x")));
    for arg in ["--commit-rows=", "--source=sim", "--ack=", "--", "", "x"] {
        let Err(Usage(text)) = parse([odd(arg)].into_iter(), &none) else {
            panic!("accepted {arg}");
        };
        assert!(text.contains(r"\xFF"), "{text}");
    }
    let variable = |name: &str| (name == "SEAWALL_SOURCE").then(|| odd("sim"));
    let Err(Usage(text)) = parse(std::iter::empty(), &variable) else {
        panic!("accepted a source that is no text");
    };
    assert!(text.starts_with("SEAWALL_SOURCE: "), "{text}");
}

/// Guards against a misspelt option that is passed over, and against an error that does not help.
#[test]
fn an_unknown_option_is_refused_with_where_the_known_ones_are() {
    let unknown = |command: &str, flag: &str| {
        format!("unknown option {flag:?} of seawall {command}; see seawall {command} --help")
    };
    for (args, flag) in [
        (&["--commit-row", "5"][..], "--commit-row"),
        (&["-db", "x"], "-db"),
        (&["--"], "--"),
        (&["--at-least=5"], "--at-least"),
    ] {
        assert_eq!(error(args, &[]), unknown("record", flag));
    }
    let tables = table().unwrap();
    for (command, own) in &tables {
        for row in tables.iter().flat_map(|(_, rows)| rows) {
            if own.iter().all(|known| known.flag != row.flag) {
                let text = error(&arguments(command, &[row.flag]), &[]);
                assert_eq!(text, unknown(command, row.flag));
            }
        }
        let watch = error(&arguments(command, &["--watch"]), &[]);
        assert_eq!(watch, unknown(command, "--watch"));
    }
}

/// Guards against a forgotten value that swallows the next option.
#[test]
fn an_option_without_its_value_is_refused() {
    assert!(error(&["--db"], &[]).contains("--db needs a path"));
    assert!(error(&["--db", "--ack"], &[]).contains("--db needs a path"));
    assert_eq!(recording(&["--db=--ack"], &[]).db, PathBuf::from("--ack"));
}

/// Guards against a source that is lost when several are given.
#[test]
fn several_sources_come_from_repeated_flags_or_from_one_variable() {
    let by_flag = recording(
        &["--source", "sim", "--source=stdin", "--source", "sysfs"],
        &[],
    );
    let by_variable = recording(&[], &[("SEAWALL_SOURCE", " sim stdin\n\tsysfs ")]);
    assert_eq!(by_flag.sources.len(), 3);
    assert_eq!(by_flag, by_variable);
}

/// Guards against an error in one of several sources that does not say which.
#[test]
fn a_wrong_source_is_named_with_the_flag_or_the_variable() {
    let flag = error(&["--source", "sim", "--source=can0"], &[]);
    assert!(
        flag.starts_with(r#"--source: "can0" is not a source; known are sim"#),
        "{flag}"
    );
    let variable = error(&[], &[("SEAWALL_SOURCE", "sim sim:rat=1")]);
    assert!(
        variable.starts_with(r#"SEAWALL_SOURCE: "sim:rat=1""#),
        "{variable}"
    );
    assert!(error(&[], &[("SEAWALL_SOURCE", " ")]).starts_with("SEAWALL_SOURCE: "));
    for twice in ["stdin stdin", "stdin sim stdin:precision=s"] {
        let text = error(&[], &[("SEAWALL_SOURCE", twice)]);
        assert!(text.contains("stdin may be given only once"), "{text}");
    }
}

/// Guards against a help text that has fallen behind the options.
#[test]
fn help_lists_every_option_with_its_variable_and_default() {
    for (command, own) in DOCUMENTED {
        let common = if *command == "status" { "" } else { COMMON };
        let text = help(&[command, "--help"]);
        let expected: Vec<_> = format!("{common} {own}")
            .split(" --")
            .map(|option| option.trim_start_matches(['-', ' ']).to_owned())
            .filter(|option| !option.is_empty())
            .collect();
        for option in &expected {
            let (spelt, default) = option.split_once('=').unwrap();
            let name = spelt.split(' ').next().unwrap();
            let setting = format!("{}={default}", variable_of(command, name));
            let listed = text.lines().any(|line| {
                line.starts_with(&format!("  --{spelt}")) && line.ends_with(&format!(" {setting}"))
            });
            assert!(listed, "{option} {setting} is not in:\n{text}");
        }
        let listed = text.matches("SEAWALL_").count();
        assert_eq!(
            listed,
            expected.len(),
            "an option more than expected:\n{text}"
        );
    }
}

/// Guards against help that cannot be had, or cannot be read on a small screen.
#[test]
fn help_is_heard_after_other_arguments_and_fits_80_columns() {
    let record = help(&["--commit-rows=abc", "--help"]);
    assert_eq!(record, help(&["record", "--help"]));
    for spec in [
        "sim[:sensors=8,rate=10,count=0,seed=N]",
        "sysfs[:root=/sys,interval=1s,include=GLOB,exclude=GLOB]",
        "stdin[:precision=ns]",
        "unix:PATH[,mode=0660,precision=ns]",
        "tcp:[HOST:]PORT[,precision=ns]",
        "udp:[HOST:]PORT[,precision=ns]",
    ] {
        assert!(record.contains(spec), "{record}");
    }
    let words: Vec<_> = record.split_whitespace().collect();
    assert!(
        words.join(" ").contains("At most 1024 connections"),
        "{record}"
    );
    for word in [
        "passive", "full", "restart", "truncate", "auto", "normal", "warn", "debug",
    ] {
        assert!(record.contains(word), "{word} is not in:\n{record}");
    }
    let overview = help(&["--help"]);
    for (command, _) in DOCUMENTED {
        assert!(overview.contains(&format!("\n  {command} ")), "{overview}");
    }
    for (status, _) in seawall::exit::STATUSES {
        assert!(overview.contains(&format!("\n  {status} ")), "{overview}");
        assert!(record.contains(&format!("\n  {status} ")), "{record}");
        let is_possible = |command| help(&["help", command]).contains(&format!("\n  {status} "));
        assert_eq!(is_possible("status"), *status <= 2);
        assert_eq!(is_possible("checkpoint"), *status <= 3);
    }
    for word in ["--help", "-h", "help"] {
        assert_eq!(help(&[word]), overview);
    }
    let mut texts = vec![overview];
    for (command, _) in DOCUMENTED {
        let text = help(&[command, "--help"]);
        assert_eq!(help(&[command, "-h"]), text);
        assert_eq!(help(&["help", command]), text);
        texts.push(text);
    }
    for line in texts.iter().flat_map(|text| text.lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for word in ["--version", "-V", "version"] {
        assert_eq!(run(&[word], &[]), Ok(Invocation::Version));
        let error = run(&[word, "x"], &[]).unwrap_err();
        let expected = "unexpected argument \"x\"; see seawall version --help";
        assert_eq!(error.0, expected, "{word}");
        assert_eq!(help(&[word, "--help"]), texts[0]);
    }
}

/// Guards against a misspelt variable that nobody notices.
#[test]
fn variables_that_no_option_knows_are_listed() {
    let names = [
        "PATH",
        "SEAWALL_COMIT_ROWS",
        "SEAWALL_COMMIT_ROWS",
        "SEAWALL_AT_LEAST",
        "SEAWALL_",
        "SEAWALLS",
        "SEAWALL_FORMAT",
        "SEAWALL_EXPORT_FORMAT",
    ];
    assert_eq!(
        unknown_variables(names.iter().map(OsString::from)),
        ["SEAWALL_", "SEAWALL_COMIT_ROWS", "SEAWALL_FORMAT"]
    );
}

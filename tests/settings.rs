//! Guards against a recorder that does something else than it was told: a setting that is ignored,
//! misread or overruled, and a mistake in one that is not told in words that lead to its repair.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use seawall::cli::{Invocation, Usage, parse, unknown_variables};
use seawall::commands::{check, checkpoint};
use seawall::db::checkpoint::CheckpointMode;
use seawall::log::Level;
use seawall::place::set_aside::OnDamage;
use seawall::reading::line::Precision;
use seawall::record::settings::{Settings as Record, Synchronous};
use seawall::source::spec::{Port, Rate, SimSpec, SourceSpec, UNIX_PATH_BYTES_MAX};
use seawall::units;

fn run(args: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, Usage> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    parse(args.iter().map(OsString::from), &|name| {
        variables.get(name).map(OsString::from)
    })
}

fn error(args: &[&str], variables: &[(&str, &str)]) -> String {
    let Err(Usage(text)) = run(args, variables) else {
        panic!("accepted: {args:?} {variables:?}");
    };
    assert!(!text.contains('\n'), "more than one line: {text}");
    text
}

fn recording(args: &[&str], variables: &[(&str, &str)]) -> Record {
    match run(args, variables) {
        Ok(Invocation::Record(record)) => record,
        other => panic!("{args:?} {variables:?} gave {other:?}"),
    }
}

fn sources(spec: &str) -> Vec<SourceSpec> {
    recording(&["--source", spec], &[]).sources
}

fn help(args: &[&str]) -> String {
    match run(args, &[]) {
        Ok(Invocation::Help(text)) => text,
        other => panic!("{args:?} gave {other:?}"),
    }
}

fn variable_of(option: &str) -> String {
    format!(
        "SEAWALL_{}",
        option
            .trim_start_matches('-')
            .replace('-', "_")
            .to_uppercase()
    )
}

const SIM: SourceSpec = SourceSpec::Sim(SimSpec {
    sensors: 8,
    rate: Rate::PerSecond(10.0),
    count: 0,
    seed: None,
});

fn default_record() -> Record {
    Record {
        db: "data/sensor_data.db".into(),
        sources: vec![SIM],
        commit_interval: Duration::from_secs(1),
        commit_rows: 1000,
        queue_rows: 65_536,
        synchronous: Synchronous::Auto,
        checkpoint_interval: Some(Duration::from_secs(60)),
        checkpoint_mode: CheckpointMode::Passive,
        wal_autocheckpoint: 1000,
        busy_timeout: Duration::from_secs(5),
        stop_timeout: Duration::from_secs(5),
        retain: None,
        max_size_bytes: None,
        min_free_bytes: 16 * 1024 * 1024,
        on_damage: OnDamage::SetAside,
        ack: false,
        log_level: Level::Info,
    }
}

fn default_check() -> check::Settings {
    check::Settings {
        db: "data/sensor_data.db".into(),
        full: false,
        at_least: None,
        busy_timeout: Duration::from_secs(5),
    }
}

fn default_checkpoint() -> checkpoint::Settings {
    checkpoint::Settings {
        db: "data/sensor_data.db".into(),
        mode: CheckpointMode::Passive,
        busy_timeout: Duration::from_secs(5),
    }
}

/// An option, a value, and what `record` then has to do.
type Case = (&'static str, &'static str, fn(&mut Record));

const RECORD_CASES: &[Case] = &[
    ("--db", "/app/x.db", |r| r.db = "/app/x.db".into()),
    ("--source", "stdin", |r| {
        r.sources = vec![SourceSpec::Stdin {
            precision: Precision::Ns,
        }];
    }),
    ("--commit-interval", "250ms", |r| {
        r.commit_interval = Duration::from_millis(250);
    }),
    ("--commit-interval", "0", |r| {
        r.commit_interval = Duration::ZERO
    }),
    ("--commit-rows", "1000000", |r| r.commit_rows = 1_000_000),
    ("--queue-rows", "16777216", |r| r.queue_rows = 16_777_216),
    ("--synchronous", "normal", |r| {
        r.synchronous = Synchronous::Normal;
    }),
    ("--synchronous", "full", |r| {
        r.synchronous = Synchronous::Full
    }),
    ("--retain", "30d", |r| {
        r.retain = Some(Duration::from_secs(30 * 86_400));
    }),
    ("--retain", "none", |r| r.retain = None),
    ("--max-size", "2GiB", |r| r.max_size_bytes = Some(2 << 30)),
    ("--max-size", "32MiB", |r| r.max_size_bytes = Some(32 << 20)),
    ("--min-free", "2GiB", |r| r.min_free_bytes = 2 << 30),
    ("--min-free", "0", |r| r.min_free_bytes = 0),
    ("--on-damage", "refuse", |r| r.on_damage = OnDamage::Refuse),
    ("--on-damage", "set-aside", |r| {
        r.on_damage = OnDamage::SetAside
    }),
    ("--checkpoint-interval", "366d", |r| {
        r.checkpoint_interval = Some(Duration::from_secs(366 * 86_400));
    }),
    ("--checkpoint-interval", "0", |r| {
        r.checkpoint_interval = None
    }),
    ("--checkpoint-mode", "full", |r| {
        r.checkpoint_mode = CheckpointMode::Full;
    }),
    ("--checkpoint-mode", "restart", |r| {
        r.checkpoint_mode = CheckpointMode::Restart;
    }),
    ("--checkpoint-mode", "truncate", |r| {
        r.checkpoint_mode = CheckpointMode::Truncate;
    }),
    ("--wal-autocheckpoint", "0", |r| r.wal_autocheckpoint = 0),
    ("--wal-autocheckpoint", "2147483647", |r| {
        r.wal_autocheckpoint = 2_147_483_647;
    }),
    ("--busy-timeout", "0", |r| r.busy_timeout = Duration::ZERO),
    ("--stop-timeout", "100ms", |r| {
        r.stop_timeout = Duration::from_millis(100);
    }),
    ("--log-level", "error", |r| r.log_level = Level::Error),
    ("--log-level", "warn", |r| r.log_level = Level::Warn),
    ("--log-level", "debug", |r| r.log_level = Level::Debug),
];

/// Guards against defaults that drift from the documented ones.
#[test]
fn without_settings_the_defaults_are_the_documented_ones() {
    for args in [&[][..], &["record"]] {
        assert_eq!(recording(args, &[]), default_record());
    }
    assert_eq!(run(&["check"], &[]), Ok(Invocation::Check(default_check())));
    assert_eq!(
        run(&["checkpoint"], &[]),
        Ok(Invocation::Checkpoint(default_checkpoint()))
    );
}

/// Guards against an option that is parsed and then dropped, or lands in another field.
#[test]
fn every_option_of_record_is_heard_as_flag_and_as_variable() {
    for (option, value, change) in RECORD_CASES {
        let mut expected = default_record();
        change(&mut expected);
        let joined = format!("{option}={value}");
        let variable = variable_of(option);
        assert_eq!(recording(&[option, value], &[]), expected, "{option}");
        assert_eq!(recording(&["record", &joined], &[]), expected, "{option}");
        assert_eq!(recording(&[], &[(&variable, value)]), expected, "{option}");
    }
}

/// Guards against an option of the other commands that is parsed and then dropped.
#[test]
fn every_option_of_check_and_checkpoint_is_heard_as_flag_and_as_variable() {
    let check = |change: fn(&mut check::Settings)| {
        let mut expected = default_check();
        change(&mut expected);
        Invocation::Check(expected)
    };
    let checkpoint = |change: fn(&mut checkpoint::Settings)| {
        let mut expected = default_checkpoint();
        change(&mut expected);
        Invocation::Checkpoint(expected)
    };
    let minute = "1m";
    let cases = [
        ("--db", "x.db", check(|c| c.db = "x.db".into())),
        ("--full", "on", check(|c| c.full = true)),
        ("--at-least", "0", check(|c| c.at_least = Some(0))),
        ("--at-least", "none", check(|c| c.at_least = None)),
        (
            "--busy-timeout",
            minute,
            check(|c| c.busy_timeout = Duration::from_secs(60)),
        ),
        ("--db", "x.db", checkpoint(|c| c.db = "x.db".into())),
        (
            "--mode",
            "truncate",
            checkpoint(|c| c.mode = CheckpointMode::Truncate),
        ),
        (
            "--busy-timeout",
            minute,
            checkpoint(|c| c.busy_timeout = Duration::from_secs(60)),
        ),
    ];
    for (option, value, expected) in cases {
        let command = match expected {
            Invocation::Check(_) => "check",
            _ => "checkpoint",
        };
        let joined = format!("{option}={value}");
        let variable = variable_of(option);
        assert_eq!(run(&[command, &joined], &[]).as_ref(), Ok(&expected));
        assert_eq!(run(&[command], &[(&variable, value)]), Ok(expected));
    }
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
    let variables: Vec<_> = RECORD_CASES
        .iter()
        .map(|case| variable_of(case.0))
        .collect();
    let empty: Vec<_> = variables.iter().map(|name| (name.as_str(), "")).collect();
    assert_eq!(recording(&[], &empty), default_record());
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
    let variables = [("SEAWALL_COMMIT_ROWS", "abc"), ("SEAWALL_MODE", "abc")];
    assert_eq!(
        run(&["check"], &variables),
        Ok(Invocation::Check(default_check()))
    );
}

/// Guards against an error that leaves its reader to guess which setting is meant.
#[test]
fn a_wrong_value_is_told_with_its_origin_and_what_is_right() {
    let whole = "is not a whole number from 1 to 1000000";
    let cases = [
        ("record", "--db", "", "is not a path"),
        ("record", "--db", "a\0b", "is not a path"),
        (
            "record",
            "--source",
            "can0",
            "known are sim, sysfs, stdin, unix, tcp, udp",
        ),
        (
            "record",
            "--commit-interval",
            "1 s",
            "from 0 to 1h, such as 250ms",
        ),
        ("record", "--commit-interval", "61m", "from 0 to 1h"),
        ("record", "--commit-rows", "abc", whole),
        ("record", "--commit-rows", "0", whole),
        ("record", "--commit-rows", "1000001", whole),
        ("record", "--commit-rows", "99999999999999999999", whole),
        ("record", "--commit-rows", "-1", whole),
        ("record", "--commit-rows", "1\n2", whole),
        ("record", "--queue-rows", "0", "from 1 to 16777216"),
        ("record", "--queue-rows", "16777217", "from 1 to 16777216"),
        (
            "record",
            "--synchronous",
            "off",
            "one of auto, normal, full",
        ),
        (
            "record",
            "--on-damage",
            "delete",
            "one of set-aside, refuse",
        ),
        ("record", "--checkpoint-interval", "367d", "from 0 to 366d"),
        (
            "record",
            "--checkpoint-mode",
            "PASSIVE",
            "one of passive, full, restart, truncate",
        ),
        (
            "record",
            "--wal-autocheckpoint",
            "2147483648",
            "0 to 2147483647",
        ),
        ("record", "--busy-timeout", "2h", "from 0 to 1h"),
        ("record", "--stop-timeout", "99ms", "from 100ms to 1h"),
        ("record", "--retain", "999ms", "from 1s to 36600d"),
        (
            "record",
            "--max-size",
            "1MiB",
            "a size of at least 16MiB, such as",
        ),
        ("record", "--ack", "maybe", "one of on, 1, true, yes, off"),
        ("record", "--log-level", "trace", "error, warn, info, debug"),
        ("check", "--full", "2", "one of on, 1, true, yes, off"),
        ("check", "--at-least", "-1", "a whole number from 0"),
        ("status", "--format", "xml", "one of text, prometheus"),
        (
            "checkpoint",
            "--mode",
            "hard",
            "passive, full, restart, truncate",
        ),
    ];
    for (command, option, value, right) in cases {
        let flag = error(&[command, &format!("{option}={value}")], &[]);
        assert!(flag.starts_with(&format!("{option}: {value:?}")), "{flag}");
        assert!(flag.contains(right), "{flag}");
        if value.is_empty() {
            continue;
        }
        let name = variable_of(option);
        let variable = error(&[command], &[(&name, value)]);
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
fn an_unknown_option_is_refused_and_the_nearest_is_named() {
    for (args, hint) in [
        (&["--commit-row", "5"][..], "did you mean --commit-rows?"),
        (
            &["--chekpoint-mode=full"],
            "did you mean --checkpoint-mode?",
        ),
        (&["-db", "x"], "did you mean --db?"),
        (&["--frobnicate"], "see seawall record --help"),
        (&["--"], "see seawall record --help"),
        (
            &["check", "--commit-rows=5"],
            "it belongs to seawall record",
        ),
        (&["--at-least=5"], "it belongs to seawall check"),
    ] {
        let text = error(args, &[]);
        assert!(text.starts_with("unknown option \"-"), "{text}");
        assert!(text.contains(hint), "{text}");
    }
}

/// Guards against `seawall chekc` recording into the database that it was to check.
#[test]
fn an_unknown_command_or_a_stray_argument_is_refused_by_name() {
    for word in ["chekc", "", "help"] {
        let text = error(&[word], &[]);
        assert!(text.contains(&format!("{word:?}")), "{text}");
        assert!(text.contains("record, status, check, "), "{text}");
    }
    assert!(error(&["--ack", "true"], &[]).contains(r#"unexpected argument "true""#));
    assert!(error(&["check", "x.db"], &[]).contains(r#"unexpected argument "x.db""#));
    assert!(error(&["--ack", "check"], &[]).contains("has to come first"));
}

/// Guards against a forgotten value that swallows the next option.
#[test]
fn an_option_without_its_value_is_refused() {
    assert!(error(&["--db"], &[]).contains("--db needs a path"));
    assert!(error(&["--db", "--ack"], &[]).contains("--db needs a path"));
    assert_eq!(recording(&["--db=--ack"], &[]).db, PathBuf::from("--ack"));
}

/// Guards against keys and defaults of a source that are not the documented ones.
#[test]
fn sources_read_as_documented() {
    let sim = |sensors, rate, count, seed| {
        vec![SourceSpec::Sim(SimSpec {
            sensors,
            rate,
            count,
            seed,
        })]
    };
    let sysfs = |root: &str, interval| {
        vec![SourceSpec::Sysfs {
            root: root.into(),
            interval,
        }]
    };
    let second = Duration::from_secs(1);
    let slow = Rate::PerSecond(0.1);
    assert_eq!(sources("sim"), [SIM]);
    assert_eq!(sources("sim:rate=max,count=5"), sim(8, Rate::Max, 5, None));
    assert_eq!(
        sources("sim:seed=18446744073709551615,rate=0.1,sensors=4096"),
        sim(4096, slow, 0, Some(u64::MAX))
    );
    assert_eq!(sources("sysfs"), sysfs("/sys", second));
    assert_eq!(
        sources("sysfs:interval=10ms,root=/a b:c=d"),
        sysfs("/a b:c=d", Duration::from_millis(10))
    );
    for (word, precision) in [
        ("ns", Precision::Ns),
        ("us", Precision::Us),
        ("ms", Precision::Ms),
        ("s", Precision::S),
    ] {
        let spec = format!("stdin:precision={word}");
        assert_eq!(sources(&spec), [SourceSpec::Stdin { precision }]);
    }
}

/// Guards against a socket at another place than was asked for, or open to others.
#[test]
fn sockets_read_as_documented() {
    let unix = |path: &str, mode, precision| {
        vec![SourceSpec::Unix {
            path: path.into(),
            mode,
            precision,
        }]
    };
    let (ns, ms) = (Precision::Ns, Precision::Ms);
    assert_eq!(sources("unix:/run/s"), unix("/run/s", 0o660, ns));
    assert_eq!(sources("unix:s,mode=0600"), unix("s", 0o600, ns));
    assert_eq!(
        sources("unix:s,precision=ms,mode=666"),
        unix("s", 0o666, ms)
    );
    // Only known keys at the end are keys: a path may hold anything.
    assert_eq!(sources("unix:a=b,c:d"), unix("a=b,c:d", 0o660, ns));
    assert_eq!(
        sources("unix:a,x=1,mode=0660,y"),
        unix("a,x=1,mode=0660,y", 0o660, ns)
    );
    let longest = "p".repeat(UNIX_PATH_BYTES_MAX);
    assert_eq!(
        sources(&format!("unix:{longest}")),
        unix(&longest, 0o660, ns)
    );
    assert!(error(&["--source", &format!("unix:{longest}p")], &[]).contains("at most 107 bytes"));
    for (spec, host, number) in [
        ("8094", "127.0.0.1", 8094),
        ("0", "127.0.0.1", 0),
        ("0.0.0.0:8094", "0.0.0.0", 8094),
        ("[::1]:65535", "::1", 65535),
        ("localhost:80", "localhost", 80),
    ] {
        let port = Port {
            host: host.into(),
            number,
        };
        let tcp = SourceSpec::Tcp {
            port: port.clone(),
            precision: ns,
        };
        assert_eq!(sources(&format!("tcp:{spec}")), [tcp]);
        let udp = SourceSpec::Udp {
            port,
            precision: ms,
        };
        assert_eq!(sources(&format!("udp:{spec},precision=ms")), [udp]);
    }
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

/// Guards against a source that records something else than was asked for.
#[test]
fn a_wrong_source_is_told_with_what_is_right() {
    for (spec, right) in [
        ("sim:", "key=value, as in sensors=8,rate=10"),
        ("sim:,", "key=value"),
        ("sim:rate=1,", "key=value"),
        ("sim:rate", "key=value"),
        ("sim:rate=", "key=value"),
        ("stdin:", "precision=ns"),
        ("sim:rat=1", "known are sensors=8,rate=10,count=0,seed=N"),
        ("sim:rate=1,rate=1", "rate is given twice"),
        ("sim:sensors=0", "from 1 to 4096"),
        ("sim:sensors=4097", "from 1 to 4096"),
        ("sim:rate=0", "max, nor a number from 0.00001 to 100000"),
        ("sim:rate=-1", "max, nor a number"),
        ("sim:rate=nan", "max, nor a number"),
        ("sim:rate=inf", "max, nor a number"),
        ("sim:rate=1e-300", "max, nor a number"),
        ("sim:rate=100000.1", "max, nor a number"),
        ("sim:count=-1", "a whole number"),
        ("sim:seed=N", "a whole number"),
        ("sysfs:interval=9ms", "from 10ms to 1d"),
        ("sysfs:interval=25h", "from 10ms to 1d"),
        ("stdin:precision=m", "ns, us, ms, s"),
        ("unix", "no PATH"),
        ("unix:", "is not a path"),
        ("unix:,mode=0660", "is not a path"),
        ("unix:s,mode=0888", "from 0000 to 0777"),
        ("unix:s,mode=01000", "from 0000 to 0777"),
        ("unix:s,mode=+660", "from 0000 to 0777"),
        ("unix:s,mode=", "key=value"),
        ("unix:s,mode=0600,mode=0660", "mode is given twice"),
        ("tcp", "no [HOST:]PORT"),
        ("tcp:", "is not a port from 0 to 65535"),
        ("tcp:65536", "is not a port from 0 to 65535"),
        ("tcp:+1", "is not a port from 0 to 65535"),
        ("tcp::1", "is not [HOST:]PORT, such as"),
        ("tcp:::1:80", "is not [HOST:]PORT, such as"),
        ("tcp:80,mode=0600", "is not a port"),
        ("udp:host", "is not a port"),
        ("udp:80,precision=h", "ns, us, ms, s"),
        ("Sim", "known are sim, sysfs, stdin, unix, tcp, udp"),
        ("sim stdin", "known are sim, sysfs, stdin, unix, tcp, udp"),
        ("", "known are sim, sysfs, stdin, unix, tcp, udp"),
    ] {
        let text = error(&["--source", spec], &[]);
        assert!(text.starts_with(&format!("--source: {spec:?}")), "{text}");
        assert!(text.contains(right), "{text}");
    }
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
    let expected = [
        ("record", "--db PATH", "data/sensor_data.db"),
        ("record", "--source SPEC", "sim"),
        ("record", "--commit-interval D", "1s"),
        ("record", "--commit-rows N", "1000"),
        ("record", "--queue-rows N", "65536"),
        ("record", "--synchronous LEVEL", "auto"),
        ("record", "--checkpoint-interval D", "60s"),
        ("record", "--checkpoint-mode MODE", "passive"),
        ("record", "--wal-autocheckpoint PAGES", "1000"),
        ("record", "--busy-timeout D", "5s"),
        ("record", "--stop-timeout D", "5s"),
        ("record", "--retain D", "none"),
        ("record", "--max-size SIZE", "none"),
        ("record", "--min-free SIZE", "16MiB"),
        ("record", "--on-damage ACTION", "set-aside"),
        ("record", "--ack", "off"),
        ("record", "--log-level LEVEL", "info"),
        ("check", "--db PATH", "data/sensor_data.db"),
        ("check", "--full", "off"),
        ("check", "--at-least N", "none"),
        ("check", "--busy-timeout D", "5s"),
        ("checkpoint", "--db PATH", "data/sensor_data.db"),
        ("checkpoint", "--mode MODE", "passive"),
        ("checkpoint", "--busy-timeout D", "5s"),
        ("status", "--db PATH", "data/sensor_data.db"),
        ("status", "--format FORMAT", "text"),
    ];
    for command in ["record", "check", "checkpoint", "status"] {
        let text = help(&[command, "--help"]);
        let rows: Vec<_> = expected.iter().filter(|row| row.0 == command).collect();
        for (_, option, default) in &rows {
            let name = option.split(' ').next().unwrap_or(option);
            let setting = format!("{}={default}", variable_of(name));
            let listed = text.lines().any(|line| {
                line.trim_start().starts_with(option) && line.ends_with(&format!(" {setting}"))
            });
            assert!(listed, "{option} {setting} is not in:\n{text}");
        }
        let listed = text.matches("SEAWALL_").count();
        assert_eq!(listed, rows.len(), "an option more than expected:\n{text}");
    }
}

/// Guards against help that cannot be had, or cannot be read on a small screen.
#[test]
fn help_is_heard_after_other_arguments_and_fits_80_columns() {
    let record = help(&["--commit-rows=abc", "--help"]);
    assert_eq!(record, help(&["record", "--help"]));
    for spec in [
        "sim[:sensors=8,rate=10,count=0,seed=N]",
        "sysfs[:root=/sys,interval=1s]",
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
    for command in ["record", "check", "checkpoint"] {
        assert!(overview.contains(&format!("\n  {command} ")), "{overview}");
    }
    for (status, _) in seawall::exit::STATUSES {
        assert!(overview.contains(&format!("\n  {status} ")), "{overview}");
        assert!(record.contains(&format!("\n  {status} ")), "{record}");
    }
    let texts = [
        overview,
        record,
        help(&["check", "--help"]),
        help(&["checkpoint", "--help"]),
    ];
    for line in texts.iter().flat_map(|text| text.lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert_eq!(run(&["--version"], &[]), Ok(Invocation::Version));
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
    ];
    assert_eq!(
        unknown_variables(names.iter().map(OsString::from)),
        ["SEAWALL_", "SEAWALL_COMIT_ROWS"]
    );
}

/// Guards against a log level that hides errors.
#[test]
fn levels_are_ordered_from_error_to_debug() {
    assert!(Level::Error < Level::Warn && Level::Warn < Level::Info && Level::Info < Level::Debug);
    assert_eq!(Level::Warn.to_string(), "warn");
    assert_eq!(CheckpointMode::Truncate.name(), "truncate");
}

/// Guards against a notation that means something else than documented, by a unit or by a digit.
#[test]
fn durations_are_read_exactly() {
    for (text, ns) in [
        ("0", 0),
        ("0ms", 0),
        ("5", 5_000_000_000),
        ("250ms", 250_000_000),
        ("5s", 5_000_000_000),
        ("2m", 120_000_000_000),
        ("1h", 3_600_000_000_000),
        ("30d", 2_592_000_000_000_000),
        ("0.5", 500_000_000),
        ("1.5s", 1_500_000_000),
        ("1.50h", 5_400_000_000_000),
        ("0.000001ms", 1),
        ("007s", 7_000_000_000),
    ] {
        let expected = Duration::from_nanos(ns);
        assert_eq!(units::parse_duration(text), Ok(expected), "{text}");
    }
    for text in [
        "",
        " ",
        "s",
        ".",
        ".5",
        "5.",
        "1..5",
        "1.2.3",
        "-1",
        "+1",
        "1 s",
        "1S",
        "1min",
        "1us",
        "1e3",
        "0.0000000001",
        "0.0000001ms",
        "٣s",
        "1\0",
        "18446744073709551616",
        "213503982334602d",
        "99999999999999999999999999999999999999999999d",
        "0.9999999999999999999999999999999999999999999999999d",
    ] {
        let text = units::parse_duration(text).expect_err(text);
        assert!(text.contains('"') && !text.contains('\n'), "{text}");
    }
    for (seconds, text) in [
        (0, "0"),
        (60, "1m"),
        (90, "90s"),
        (7200, "2h"),
        (86_400, "1d"),
    ] {
        assert_eq!(units::duration(Duration::from_secs(seconds)), text);
    }
    assert_eq!(units::duration(Duration::from_millis(250)), "250ms");
    assert_eq!(units::duration(Duration::from_millis(1500)), "1.5s");
}

/// Guards against a size that is off by a power of two, or wraps round.
#[test]
fn sizes_are_read_exactly() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("64KiB", 65_536),
        ("16MiB", 16_777_216),
        ("2GiB", 2_147_483_648),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(units::parse_size(text), Ok(bytes), "{text}");
    }
    for text in [
        "",
        "KiB",
        "1kib",
        "1KB",
        "1K",
        "1.5MiB",
        "1 MiB",
        "-1",
        "+1",
        "1B",
        "18446744073709551616",
        "17179869184GiB",
    ] {
        let text = units::parse_size(text).expect_err(text);
        assert!(text.contains("is not a size such as 4096") || text.contains("too large"));
    }
    for (bytes, text) in [
        (0, "0"),
        (1025, "1025"),
        (65_536, "64KiB"),
        (1 << 31, "2GiB"),
    ] {
        assert_eq!(units::size(bytes), text);
    }
    for (bytes, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (4_300_000, "4.1 MiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (u64::MAX, "16.0 EiB"),
    ] {
        assert_eq!(units::bytes_human(bytes), text);
    }
}

/// Arguments from the words that the parser knows, broken ones, and any bytes at all.
fn argument() -> impl Strategy<Value = OsString> {
    let words = [
        "record",
        "check",
        "checkpoint",
        "--db",
        "--db=",
        "--ack",
        "--ack=",
        "--source",
        "--source=sim:",
        "--source=sysfs:root=",
        "stdin:precision=",
        "--commit-rows=",
        "--at-least=",
        "--stop-timeout",
        "--mode=",
        "--help",
        "--version",
        "--",
        "-",
        "=",
        "--=",
        "1",
        "0.5s",
        ",",
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

    /// Guards against arithmetic that overflows on what somebody typed.
    #[test]
    fn no_text_makes_the_units_panic(text in any::<String>(), digits in "[0-9]{0,60}\\.?[0-9]{0,60}(ms|s|m|h|d|KiB|GiB)?") {
        for text in [text, digits] {
            if let Ok(duration) = units::parse_duration(&text) {
                prop_assert_eq!(units::parse_duration(&units::duration(duration)), Ok(duration));
            }
            if let Ok(size) = units::parse_size(&text) {
                prop_assert_eq!(units::parse_size(&units::size(size)), Ok(size));
            }
            SourceSpec::parse(&text).ok();
        }
    }

    /// Guards against a log or an error that shows another duration than the one in force.
    #[test]
    fn a_written_duration_reads_back_the_same(
        seconds in prop_oneof![0u64..100_000, any::<u64>(), Just(u64::MAX)],
        ns in prop_oneof![Just(0u32), 0u32..1_000_000_000, (0u32..1000).prop_map(|ms| ms * 1_000_000)],
    ) {
        let duration = Duration::new(seconds, ns);
        prop_assert_eq!(units::parse_duration(&units::duration(duration)), Ok(duration));
    }

    /// Guards against a size that is shown as another one.
    #[test]
    fn a_written_size_reads_back_the_same(size in any::<u64>(), shift in 0u32..64) {
        let size = size >> shift << (shift / 2);
        prop_assert_eq!(units::parse_size(&units::size(size)), Ok(size));
        prop_assert!(units::bytes_human(size).ends_with('B'));
    }
}

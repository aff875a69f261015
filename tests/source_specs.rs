//! Guards against a source that records something else than its spec says, and against durations and sizes
//! that mean something else than documented.
use std::time::Duration;

use proptest::prelude::*;
use seawall::reading::glob;
use seawall::reading::line::Precision;
use seawall::source::spec::{
    Choice, Door, Port, SimRate, SimSpec, SourceSpec, UNIX_PATH_BYTES_MAX,
};
use seawall::units;

fn source(spec: &str) -> SourceSpec {
    SourceSpec::parse(spec).unwrap()
}

/// Guards against keys and defaults of a source that are not the documented ones.
#[test]
fn sources_read_as_documented() {
    let sim = |sensors, rate, count, seed| {
        SourceSpec::Sim(SimSpec {
            sensors,
            rate,
            count,
            seed,
        })
    };
    let sysfs = |root: &str, interval| SourceSpec::Sysfs {
        root: root.into(),
        interval,
        choice: Choice::default(),
    };
    let second = Duration::from_secs(1);
    let slow = SimRate::PerSecond(0.1);
    assert_eq!(source("sim"), sim(8, SimRate::PerSecond(10.0), 0, None));
    assert_eq!(
        source("sim:rate=max,count=5"),
        sim(8, SimRate::Max, 5, None)
    );
    assert_eq!(
        source("sim:seed=18446744073709551615,rate=0.1,sensors=4096"),
        sim(4096, slow, 0, Some(u64::MAX))
    );
    assert_eq!(source("sysfs"), sysfs("/sys", second));
    assert_eq!(
        source("sysfs:interval=10ms,root=/a b:c=d"),
        sysfs("/a b:c=d", Duration::from_millis(10))
    );
    let SourceSpec::Sysfs { choice, .. } =
        source("sysfs:exclude=drivetemp*,include=hwmon,exclude=amdgpu")
    else {
        panic!("it is not sysfs");
    };
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| word.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(choice.include, words(&["hwmon"]));
    assert_eq!(choice.exclude, words(&["drivetemp*", "amdgpu"]));
    for (word, precision) in [
        ("ns", Precision::Ns),
        ("us", Precision::Us),
        ("ms", Precision::Ms),
        ("s", Precision::S),
    ] {
        // The comma is that of `tcp:8094,precision=ms`.
        for joint in [':', ','] {
            let spec = format!("stdin{joint}precision={word}");
            assert_eq!(source(&spec), SourceSpec::Stdin { precision });
        }
    }
}

/// Guards against a socket at another place than was asked for, or open to others.
#[test]
fn sockets_read_as_documented() {
    let unix = |path: &str, mode, precision| SourceSpec::Unix {
        path: path.into(),
        mode,
        precision,
    };
    let (ns, ms) = (Precision::Ns, Precision::Ms);
    assert_eq!(source("unix:/run/s"), unix("/run/s", 0o660, ns));
    assert_eq!(source("unix:s,mode=0600"), unix("s", 0o600, ns));
    assert_eq!(source("unix:s,precision=ms,mode=666"), unix("s", 0o666, ms));
    // Only known keys at the end are keys: a path may hold anything.
    assert_eq!(source("unix:a=b,c:d"), unix("a=b,c:d", 0o660, ns));
    assert_eq!(
        source("unix:a,x=1,mode=0660,y"),
        unix("a,x=1,mode=0660,y", 0o660, ns)
    );
    let longest = "p".repeat(UNIX_PATH_BYTES_MAX);
    assert_eq!(
        source(&format!("unix:{longest}")),
        unix(&longest, 0o660, ns)
    );
    assert!(
        SourceSpec::parse(&format!("unix:{longest}p"))
            .unwrap_err()
            .contains("at most 107 bytes")
    );
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
        assert_eq!(source(&format!("tcp:{spec}")), tcp);
        let udp = SourceSpec::Udp {
            port,
            precision: ms,
        };
        assert_eq!(source(&format!("udp:{spec},precision=ms")), udp);
        let SourceSpec::Tcp { port, .. } = tcp else {
            panic!("it is not tcp");
        };
        let http = SourceSpec::Http {
            door: Door::Tcp(port),
            token_file: Some("/etc/a token".into()),
            precision: ns,
        };
        let keys = "token-file=/etc/a token";
        assert_eq!(source(&format!("http:{spec},{keys}")), http);
    }
    for (keys, mode, precision) in [("", 0o660, ns), (",mode=0666,precision=ms", 0o666, ms)] {
        let http = SourceSpec::Http {
            door: Door::Unix {
                path: "/run/s".into(),
                mode,
            },
            token_file: None,
            precision,
        };
        assert_eq!(source(&format!("http:unix:/run/s{keys}")), http);
    }
}

/// Guards against a source that records something else than was asked for.
#[test]
fn a_wrong_source_is_rejected_with_what_is_allowed() {
    for (spec, right) in [
        ("sim:", "key=value, as in sensors=8,rate=10"),
        ("sim:,", "key=value"),
        ("sim:rate=1,", "key=value"),
        ("sim:rate", "key=value"),
        ("sim:rate=", "key=value"),
        ("http:8086,mode=0600", "mode is for http:unix:PATH"),
        ("http:", "port"),
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
        let text = SourceSpec::parse(spec).unwrap_err();
        assert!(
            text.starts_with(&format!("{spec:?} is not a source")),
            "{text}"
        );
        assert!(text.contains(right), "{text}");
    }
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
        ("007s", 7_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("1s500ms", 1_500_000_000),
    ] {
        let expected = Duration::from_nanos(ns);
        assert_eq!(units::parse_duration(text), Some(expected), "{text}");
    }
    for text in [
        "",
        " ",
        "s",
        ".",
        ".5",
        "5.",
        "1.5s",
        "0.5",
        "-1",
        "+1",
        "1 s",
        "1h 30m",
        "1h30",
        "1hm",
        "1h-1m",
        "213503982334d213503982334d",
        "1S",
        "1min",
        "1us",
        "1e3",
        "٣s",
        "1\0",
        "18446744073709552",
        "18446744073709551616ms",
        "213503982335d",
        "99999999999999999999999999999999999999999999d",
    ] {
        assert_eq!(units::parse_duration(text), None, "{text}");
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
    assert_eq!(units::duration(Duration::from_millis(1500)), "1500ms");
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
        assert_eq!(units::parse_size(text), Some(bytes), "{text}");
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
        assert_eq!(units::parse_size(text), None, "{text}");
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

proptest! {
    /// Guards against arithmetic that overflows on what somebody typed.
    #[test]
    fn no_text_makes_the_units_panic(text in any::<String>(), digits in "[0-9]{0,60}\\.?[0-9]{0,60}(ms|s|m|h|d|KiB|GiB)?") {
        for text in [text, digits] {
            if let Some(duration) = units::parse_duration(&text) {
                prop_assert_eq!(units::parse_duration(&units::duration(duration)), Some(duration));
            }
            if let Some(size) = units::parse_size(&text) {
                prop_assert_eq!(units::parse_size(&units::size(size)), Some(size));
            }
            SourceSpec::parse(&text).ok();
        }
    }

    /// Guards against a log or an error that shows another duration than the one in force.
    #[test]
    fn a_written_duration_reads_back_the_same(
        ms in prop_oneof![0u64..100_000_000, any::<u64>(), Just(u64::MAX)],
        unit in proptest::sample::select(vec![1u64, 1000, 60_000, 86_400_000]),
    ) {
        let duration = Duration::from_millis(ms / unit * unit);
        prop_assert_eq!(units::parse_duration(&units::duration(duration)), Some(duration));
    }

    /// Guards against a size that is shown as another one.
    #[test]
    fn a_written_size_reads_back_the_same(size in any::<u64>(), shift in 0u32..64) {
        let size = size >> shift << (shift / 2);
        prop_assert_eq!(units::parse_size(&units::size(size)), Some(size));
        prop_assert!(units::bytes_human(size).ends_with('B'));
    }
}

#[test]
fn a_pattern_matches_whole_names() {
    for (pattern, text, expected) in [
        ("weather", "weather", true),
        ("weather", "weather,station=sf", false),
        ("weather*", "weather,station=sf", true),
        ("*station=sf", "weather,station=sf", true),
        ("*s?", "weather,station=sf", true),
        ("*[a-g]", "weather,station=sf", true),
        ("*[^a-g]", "weather,station=sf", false),
        ("*[fx]", "weather,station=sf", true),
        ("*[]x]", "a]", true),
        ("[a-", "[a-", false),
        ("*,chip=*,*", "hwmon,channel=1,chip=x,device=y", true),
        ("*a*a*a*b", "aaaaaaaaaaaaaaaa", false),
        ("?", "ü", true),
        ("", "", true),
        ("*", "", true),
        ("?", "", false),
    ] {
        assert_eq!(
            glob::matches(pattern, text),
            expected,
            "{pattern} on {text}"
        );
    }
}

//! Points in time: guards against a time that is read as another, and a clock that was set unnoticed.

use std::time::Duration;

use seawall::time::{ClockWatch, Stamper, When, parse_rfc3339, timestamp};

const NS_PER_S: i64 = 1_000_000_000;
const NS_PER_MS: i64 = 1_000_000;

#[test]
fn a_clock_that_is_set_is_noticed_and_one_that_is_slewed_is_not() {
    let mut watch = ClockWatch::new(1_000_000_000);
    assert_eq!(watch.look(1_000_500_000), None);
    assert_eq!(
        watch.look(3_600_001_000_500_000),
        Some(3_600_000_000_000_000)
    );
    assert_eq!(watch.look(3_600_001_000_500_000), None);
    // From a machine without a battery to the real time, and back before 1970.
    assert_eq!(watch.look(-5_000_000_000), Some(-3_600_006_000_500_000));
    assert_eq!(watch.look(i64::MAX), Some(i64::MAX));
}

#[test]
fn rfc_3339_is_read_with_its_offset_and_fraction() {
    for (text, expected) in [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("1969-12-31t23:59:59.999999999z", Some(-1)),
        ("2000-02-29 00:00:00.5Z", Some(951_782_400_500_000_000)),
        ("2010-01-01T01:30:00+01:30", Some(1_262_304_000_000_000_000)),
        ("2009-12-31T16:00:00-08:00", Some(1_262_304_000_000_000_000)),
        ("2016-12-31T23:59:60Z", Some(1_483_228_800_000_000_000)),
        ("2262-04-11T23:47:16.854775807Z", Some(i64::MAX)),
        ("2262-04-11T23:47:16.854775808Z", None),
        ("2001-02-29T00:00:00Z", None),
        ("2001-13-01T00:00:00Z", None),
        ("2001-01-01T24:00:00Z", None),
        ("2001-01-01T00:00:00", None),
        ("2001-01-01T00:00:00.Z", None),
        ("2001-01-01T00:00:00+1:00", None),
        ("2001-01-01", None),
        ("+001-01-01T00:00:00Z", None),
        ("ü001-01-01T00:00:00Z", None),
        ("", None),
    ] {
        assert_eq!(parse_rfc3339(text), expected, "{text}");
    }
}

#[test]
fn a_point_in_time_is_read_as_people_and_programs_write_it() {
    let s = |seconds: i64| Some(When::At(seconds * NS_PER_S));
    let ago = |seconds| Some(When::Ago(Duration::from_secs(seconds)));
    for (text, expected) in [
        ("1769860800", s(1_769_860_800)),
        ("1769860800123", Some(When::At(1_769_860_800_123_000_000))),
        (
            "1769860800123456",
            Some(When::At(1_769_860_800_123_456_000)),
        ),
        (
            "1769860800123456789",
            Some(When::At(1_769_860_800_123_456_789)),
        ),
        ("2026-01-31", s(1_769_817_600)),
        ("2026-01-31T12:00", s(1_769_860_800)),
        ("2026-01-31T12:00Z", None),
        ("2026-01-31 12:00:00", s(1_769_860_800)),
        (
            "2026-01-31T12:00:00.5",
            Some(When::At(1_769_860_800_500_000_000)),
        ),
        ("2026-01-31T13:00:00+01:00", s(1_769_860_800)),
        ("1h30m", ago(5_400)),
        ("-1h30m", ago(5_400)),
        ("3600", ago(3_600)),
        ("300000000", ago(300_000_000)),
        ("-1769860800", ago(1_769_860_800)),
        ("+1769860800", None),
        ("9223372036854775808", None),
        ("2026-02-30", None),
        ("2026-01", None),
        ("", None),
        ("-", None),
    ] {
        assert_eq!(When::parse(text), expected, "{text}");
    }
}

#[test]
fn a_stamper_writes_what_timestamp_writes() {
    let mut stamper = Stamper::default();
    for time_ns in [0, 1_500_000, 999_999_999, -1, -1_000_000_000, i64::MAX, 7] {
        let mut out = Vec::new();
        stamper.write(&mut out, time_ns);
        assert_eq!(String::from_utf8(out).unwrap(), timestamp(time_ns));
        let read = parse_rfc3339(&timestamp(time_ns)).unwrap();
        assert_eq!(read.div_euclid(NS_PER_MS), time_ns.div_euclid(NS_PER_MS));
    }
    // The second of the first begins where 64 bits do not reach.
    for time_ns in [i64::MIN, i64::MIN + 1, i64::MAX, i64::MIN] {
        let mut out = Vec::new();
        stamper.write(&mut out, time_ns);
        assert_eq!(String::from_utf8(out).unwrap(), timestamp(time_ns));
    }
}

#[test]
fn timestamps_cover_all_that_64_bits_of_nanoseconds_can_say() {
    for (time_ns, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (951_782_400_999_999_999, "2000-02-29T00:00:00.999Z"),
        (1_262_304_000_000_000_000, "2010-01-01T00:00:00.000Z"),
        (4_107_542_399_000_000_000, "2100-02-28T23:59:59.000Z"),
        (i64::MAX, "2262-04-11T23:47:16.854Z"),
        (i64::MIN, "1677-09-21T00:12:43.145Z"),
    ] {
        assert_eq!(timestamp(time_ns), text);
    }
}

//! Guards against a line protocol parser that loses or alters what a sensor sent: a value that comes out
//! as another one, a bad line that takes its neighbours along, a result that depends on how the network
//! happened to cut the stream.
use std::fmt::Debug;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use seawall::reading::line::{self, LINE_BYTES_MAX, Parsed, ParsedLine, Precision, Reason};
use seawall::reading::series;
use seawall::reading::{Kind, Value};

/// What a source makes of a stream that comes in these pieces: a line for each reading and each rejection.
fn feed(pieces: &[&[u8]], precision: Precision) -> Vec<String> {
    let total: usize = pieces.iter().map(|piece| piece.len()).sum();
    let newlines = pieces.concat().iter().filter(|&&b| b == b'\n').count();
    let unended = pieces.concat().last().is_some_and(|&b| b != b'\n');

    let mut events = Vec::new();
    let mut line = ParsedLine::default();
    let mut buffer = Vec::new();
    let (mut at, mut consumed, mut lines, mut discarding) = (0, 0, 0, false);
    for (n, piece) in pieces.iter().enumerate() {
        let end = n + 1 == pieces.len();
        buffer.drain(..at);
        buffer.extend_from_slice(piece);
        at = 0;
        while at < buffer.len() {
            let input = &buffer[at..];
            if discarding {
                let newline = input.iter().position(|&b| b == b'\n');
                let used = newline.map_or(input.len(), |n| n + 1);
                (at, consumed, discarding) = (at + used, consumed + used, newline.is_none());
                continue;
            }
            let (used, more_lines) = match line::parse(input, end, precision, None, &mut line) {
                Parsed::Incomplete => {
                    assert!(!end, "the last line is a line");
                    assert!(input.len() < LINE_BYTES_MAX + 2, "a full buffer gets on");
                    break;
                }
                Parsed::Nothing { used } => (used, 1),
                Parsed::Record { used, lines } => {
                    events.extend(line.fields().iter().map(|field| {
                        let sensor = line.canonical_sensor(input);
                        let name = line.field_name(input, field);
                        event(
                            &sensor,
                            &name,
                            field.kind,
                            line.value(field),
                            line.time_ns(),
                        )
                    }));
                    (used, lines as usize)
                }
                Parsed::Rejected { used, reason } => {
                    events.push(rejection(lines + 1, reason));
                    (used, 1)
                }
                Parsed::TooLong { used } => {
                    events.push(rejection(lines + 1, Reason::TOO_LONG));
                    discarding = true;
                    (used, 1)
                }
            };
            assert!(used > 0, "every step gets on");
            (at, consumed, lines) = (at + used, consumed + used, lines + more_lines);
        }
    }
    assert_eq!(consumed, total, "every byte is consumed once");
    assert_eq!(lines, newlines + usize::from(unended), "so is every line");
    events
}

fn event(sensor: &str, field: &str, kind: Kind, value: Value<'_>, time: Option<i64>) -> String {
    let value = match value {
        Value::Real(v) => format!("{v:?}"),
        Value::Integer(v) => format!("{v}"),
        Value::Text(v) => format!("{v:?}"),
    };
    let time = time.map_or("now".to_owned(), |ns| ns.to_string());
    format!("{sensor} {field} {} {value} {time}", kind.name())
}

fn rejection(line: usize, reason: Reason) -> String {
    let over = if reason.runs_over { " over" } else { "" };
    format!(
        "line {line} column {}{over} {:?}",
        reason.column, reason.cause
    )
}

/// Each input gives these events, in one piece and cut in two at every byte.
fn check<S: Debug>(vectors: &[(&[u8], &[S])])
where
    String: PartialEq<S>,
{
    for (input, expected) in vectors {
        let shown = input.escape_ascii();
        assert_eq!(feed(&[input], Precision::Ns), *expected, "{shown}");
        for cut in 0..=input.len() {
            let (head, tail) = input.split_at(cut);
            let events = feed(&[head, tail], Precision::Ns);
            assert_eq!(events, *expected, "{shown} cut at {cut}");
        }
    }
}

#[rustfmt::skip]
#[test]
fn spaces_separate_the_parts_and_nothing_else_does() {
    check(&[
        (b"m f=1", &["m f float 1.0 now"]),
        (b"m f=1 7\n", &["m f float 1.0 7"]),
        (b"  m,a=b   f=1,g=2   7  \n", &["m,a=b f float 1.0 7", "m,a=b g float 2.0 7"]),
        (b"m,b=2,a=1 f=1 7\n", &["m,a=1,b=2 f float 1.0 7"]),
        (b"m\tf=1\n", &["line 1 column 2 ControlByte"]),
        (b"m f=1\t7\n", &["line 1 column 6 ControlByte"]),
        (b"m f=t\t7\n", &["line 1 column 6 ControlByte"]),
        (b"m f=1 7\t\n", &["line 1 column 8 ControlByte"]),
        (b"\tm f=1\n", &["line 1 column 1 ControlByte"]),
        (b"m f=1 7 8\n", &["line 1 column 9 AfterTimestamp"]),
        (b"m f=1 g=2\n", &["line 1 column 7 Timestamp"]),
        (b"m f=\"a\"7\n", &["line 1 column 8 AfterFieldValue"]),
    ]);
}

#[rustfmt::skip]
#[test]
fn a_line_ends_at_a_newline_with_or_without_a_carriage_return() {
    check(&[
        (b"m f=1\nm f=2\n", &["m f float 1.0 now", "m f float 2.0 now"]),
        (b"m f=1\r\nm f=2 7\r\n", &["m f float 1.0 now", "m f float 2.0 7"]),
        (b"m f=1 \r\nm f=\"a\"\r\n", &["m f float 1.0 now", "m f string \"a\" now"]),
        (b"m f=1\r", &["m f float 1.0 now"]),
        (b"m f=1 7\r", &["m f float 1.0 7"]),
        (b"m f=1\r\r\n", &["line 1 column 6 ControlByte"]),
        (b"m f=1\r\r", &["line 1 column 6 ControlByte"]),
        (b"m f=1 \r7\n", &["line 1 column 7 Timestamp"]),
        (b"m f=t\rx\nm f=1", &["line 1 column 6 ControlByte", "m f float 1.0 now"]),
        (b"m\r f=1\n", &["line 1 column 2 ControlByte"]),
        (b"m,a\r=b f=1\n", &["line 1 column 4 ControlByte"]),
        (b"m,a=b\rc f=1\n", &["line 1 column 6 ControlByte"]),
        (b"m f\r=1\n", &["line 1 column 4 ControlByte"]),
        (b"m f=\"a\rb\" 7\n", &["m f string \"a\\rb\" 7"]),
        (b"m f=\"a\r\nb\" 7\n", &["m f string \"a\\r\\nb\" 7"]),
    ]);
}

#[rustfmt::skip]
#[test]
fn empty_lines_and_comments_are_nothing() {
    check(&[
        (b"", &[]),
        (b"\n\r\n  \n  \r\n\r", &[]),
        (b"   ", &[]),
        (b"\rm f=1\n", &["line 1 column 1 ControlByte"]),
        (b"# client a\n  # \"m f=1\r\n#\nm f=1 7\n#", &["m f float 1.0 7"]),
        ("# grün\n#\r".as_bytes(), &[]),
        (b"# a\tb\nm f=1\n", &["line 1 column 4 ControlByte", "m f float 1.0 now"]),
        (b"# a\rb\n#\x7f\n", &["line 1 column 4 ControlByte", "line 2 column 2 ControlByte"]),
        (b"# \xff\n", &["line 1 column 3 Utf8"]),
        (br"\#m f=1", &[r"\#m f float 1.0 now"]),
        (b"m# #f=1", &["m# #f float 1.0 now"]),
    ]);
}

#[rustfmt::skip]
#[test]
fn nothing_is_empty_and_nothing_is_missing() {
    check(&[
        (b"m\n", &["line 1 column 2 NoField"]),
        (b"m,a=b", &["line 1 column 6 NoField"]),
        (b"m \nm,a=b  \r\n", &["line 1 column 3 NoField", "line 2 column 8 NoField"]),
        (b",a=b f=1\n", &["line 1 column 1 NoMeasurement"]),
        (b"m, f=1\n", &["line 1 column 3 NoTagKey"]),
        (b"m,\nm,a=b,", &["line 1 column 3 NoTagKey", "line 2 column 7 NoTagKey"]),
        (b"m,,a=b f=1\n", &["line 1 column 3 NoTagKey"]),
        (b"m,a=b,,c=d f=1\n", &["line 1 column 7 NoTagKey"]),
        (b"m,a=b, f=1\n", &["line 1 column 7 NoTagKey"]),
        (b"m,=b f=1\n", &["line 1 column 3 NoTagKey"]),
        (b"m,a f=1\n", &["line 1 column 4 NoTagEquals"]),
        (b"m,a,b=c f=1\n", &["line 1 column 4 NoTagEquals"]),
        (b"m,a= f=1\n", &["line 1 column 5 NoTagValue"]),
        (b"m,a=,b=c f=1\n", &["line 1 column 5 NoTagValue"]),
        (b"m =1\n", &["line 1 column 3 NoFieldKey"]),
        (b"m f=1,,g=2\n", &["line 1 column 7 NoFieldKey"]),
        (b"m f=1, 7\nm f=1,", &["line 1 column 7 NoFieldKey", "line 2 column 7 NoFieldKey"]),
        (b"m f\nm f 7\n", &["line 1 column 4 NoFieldEquals", "line 2 column 4 NoFieldEquals"]),
        (b"m f=\nm f= 7\n", &["line 1 column 5 NoFieldValue", "line 2 column 5 NoFieldValue"]),
        (b"m f=,g=1\n", &["line 1 column 5 NoFieldValue"]),
        (b"GET / HTTP/1.1\r\n", &["line 1 column 6 NoFieldEquals"]),
    ]);
}

#[rustfmt::skip]
#[test]
fn names_are_utf8_without_control_bytes_and_tag_values_may_have_them() {
    check(&[
        ("größe,ort=köln °c=1".as_bytes(), &["größe,ort=köln °c float 1.0 now"]),
        (b"m\x00 f=1\n", &["line 1 column 2 ControlByte"]),
        (b"m\x7f f=1\n", &["line 1 column 2 ControlByte"]),
        (b"m,a\x1f=b f=1\n", &["line 1 column 4 ControlByte"]),
        (b"m,\x01a=b f=1\n", &["line 1 column 3 ControlByte"]),
        (b"m f\x7f=1\n", &["line 1 column 4 ControlByte"]),
        (b"m,a=\x00b\t\x7f f=1\n", &["m,a=\0b\t\x7f f float 1.0 now"]),
        (b"m,a=b\nc f=1\n", &["line 1 column 6 NoField", "c f float 1.0 now"]),
        (b"m f=\"\x00\x1f\x7f\"\n", &["m f string \"\\0\\u{1f}\\u{7f}\" now"]),
        (b"m\xff f=1\n", &["line 1 column 2 Utf8"]),
        (b"m,a=\xc3 f=1\n", &["line 1 column 5 Utf8"]),
        (b"m f=\"\xed\xa0\x80\"\nm f=1\n", &["line 1 column 6 Utf8", "m f float 1.0 now"]),
        (b"m\xff f=\"a\nb\"\n", &["line 1 column 2 Utf8", "line 2 column 3 NoField"]),
    ]);
}

#[rustfmt::skip]
#[test]
fn a_backslash_escapes_the_delimiters_of_its_place_and_is_itself_elsewhere() {
    check(&[
        (br"m\,a\ b f=1", &[r"m\,a\ b f float 1.0 now"]),
        (br"m\=a\b\\c f=1", &[r"m\=a\b\\c f float 1.0 now"]),
        (br"m=a f=1", &["m=a f float 1.0 now"]),
        (br"m\\,a=b f=1", &[r"m\\,a=b f float 1.0 now"]),
        (br"m\\\ x f=1", &[r"m\\\ x f float 1.0 now"]),
        (br"m,a\,\=\ \x=b\,\=\ \x f=1", &[r"m,a\,\=\ \x=b\,\=\ \x f float 1.0 now"]),
        (br"m,a=b\\c f=1", &[r"m,a=b\\c f float 1.0 now"]),
        (br"m f\,\=\ \x\\y=1", &[r"m f,= \x\\y float 1.0 now"]),
        (br"m,a=b=c f=1", &["line 1 column 6 TagValueEquals"]),
        (br"m,a==c f=1", &["line 1 column 5 TagValueEquals"]),
        (br"m\ f=1", &["line 1 column 7 NoField"]),
        (br"m,a=b\ f=1", &["line 1 column 9 TagValueEquals"]),
        (br"m f\=1", &["line 1 column 7 NoFieldEquals"]),
        (b"m\\\nm f=1\n", &["line 1 column 3 NoField", "m f float 1.0 now"]),
        (b"m,a=b\\\r\nm f=1\n", &["line 1 column 7 NoField", "m f float 1.0 now"]),
    ]);
}

#[rustfmt::skip]
#[test]
fn a_string_unescapes_quotes_and_backslashes_and_keeps_the_rest() {
    check(&[
        (br#"m f="""#, &[r#"m f string "" now"#]),
        (br#"m f="say \"hi\"",g="b" 7"#, &[r#"m f string "say \"hi\"" 7"#, r#"m g string "b" 7"#]),
        (br#"m f="a\\b\\""#, &[r#"m f string "a\\b\\" now"#]),
        (br#"m f="a\nb\,c\ d\=""#, &[r#"m f string "a\\nb\\,c\\ d\\=" now"#]),
        (br#"m f="\\\\\"""#, &[r#"m f string "\\\\\"" now"#]),
        (br#"m f="a,b=c d",g=1"#, &[r#"m f string "a,b=c d" now"#, "m g float 1.0 now"]),
        ("m f=\"grün \\\" 🌊\"".as_bytes(), &[r#"m f string "grün \" 🌊" now"#]),
        (b"m f=\"a\nb\\\nc\"\nn f=1\n", &["m f string \"a\\nb\\\\\\nc\" now", "n f float 1.0 now"]),
        (br#"m f="a"b"#, &["line 1 column 8 AfterFieldValue"]),
        (br#"m f="a""b""#, &["line 1 column 8 AfterFieldValue"]),
    ]);
}

#[rustfmt::skip]
#[test]
fn quotes_outside_a_field_value_are_ordinary() {
    check(&[
        (
            br#""m","a"="b" "f"=1,g"=2"#,
            &[r#""m","a"="b" "f" float 1.0 now"#, r#""m","a"="b" g" float 2.0 now"#],
        ),
        (b"m,a=\"b c\" f=1\n", &["line 1 column 10 NoFieldEquals"]),
        (br#"m f=\"a\""#, &["line 1 column 5 FieldValue"]),
        (br#"m f='a'"#, &["line 1 column 5 FieldValue"]),
    ]);
}

/// Each value alone at the end of the input, before a line ending, a timestamp and another field.
fn check_values(values: &[(&str, &str)]) {
    for (text, expected) in values {
        for (rest, time) in [("", "now"), ("\n", "now"), ("\r\n", "now"), (" 7\n", "7")] {
            let one = format!("m f={text}{rest}");
            let expected = match expected.split_once(' ') {
                Some(_) => format!("m f {expected} {time}"),
                None => format!("line 1 column 5 {expected}"),
            };
            check(&[(one.as_bytes(), &[&expected[..]])]);
            let two = format!("m f={text},g=t{rest}");
            assert_eq!(feed(&[two.as_bytes()], Precision::Ns)[0], expected);
        }
    }
}

#[rustfmt::skip]
#[test]
fn numbers_keep_their_type_and_their_last_digit() {
    check_values(&[
        ("1", "float 1.0"), ("-1.5", "float -1.5"), ("1.", "float 1.0"), (".5", "float 0.5"),
        ("-.5", "float -0.5"), ("-0", "float -0.0"), ("007.50", "float 7.5"),
        ("1e5", "float 100000.0"), ("1.5E-3", "float 0.0015"), ("1.e+2", "float 100.0"),
        (".5e1", "float 5.0"), ("0.1", "float 0.1"),
        ("9007199254740993", "float 9007199254740992.0"),
        ("123456789012345678901234567890", "float 1.2345678901234568e29"),
        ("2.2250738585072014e-308", "float 2.2250738585072014e-308"), ("5e-324", "float 5e-324"),
        ("1e-400", "float 0.0"), ("1.7976931348623157e308", "float 1.7976931348623157e308"),
        ("12i", "integer 12"), ("-3i", "integer -3"), ("-0i", "integer 0"),
        ("9223372036854775807i", "integer 9223372036854775807"),
        ("-9223372036854775808i", "integer -9223372036854775808"), ("12u", "unsigned 12"),
        ("9223372036854775807u", "unsigned 9223372036854775807"),
        ("9223372036854775808u", r#"unsigned "9223372036854775808""#),
        ("0000000000000000000000007i", "integer 7"), ("0e99999999999999999999", "float 0.0"),
        ("0018446744073709551615u", r#"unsigned "18446744073709551615""#),
    ]);
}

#[test]
fn what_is_no_number_or_does_not_fit_is_an_error() {
    check_values(&["1e309", "-1e309"].map(|text| (text, "Number(FloatRange)")));
    let integers = ["9223372036854775808i", "-9223372036854775809i"];
    check_values(&integers.map(|text| (text, "Number(IntegerRange)")));
    check_values(&[("18446744073709551616u", "Number(UnsignedRange)")]);
    let words = [
        "NaN", "nan", "Inf", "inf", "+1", "i", "\u{663}", "$1", "(1)",
    ];
    check_values(&words.map(|text| (text, "FieldValue")));
    let signs = ["-", "--1", "-+1", "-i", "-1u", "-Inf", "-nan", "-infinity"];
    check_values(&signs.map(|text| (text, "Number(Form)")));
    let points = [
        ".", "-.", ".e1", "1.2.3", "1e", "1e+", "1e-", "1e1.5", "1ee5",
    ];
    check_values(&points.map(|text| (text, "Number(Form)")));
    let suffixes = [
        "1.5i", "1e3i", "1.i", "12ii", "12I", "1.5u", "12U", "1f", "1x",
    ];
    check_values(&suffixes.map(|text| (text, "Number(Form)")));
    let others = ["0x1F", "0x1p3", "1_000", "1'000", "1\"2\"", "1\\"];
    check_values(&others.map(|text| (text, "Number(Form)")));
}

#[test]
fn booleans_are_ten_words() {
    check_values(&["t", "T", "true", "True", "TRUE"].map(|word| (word, "boolean 1")));
    check_values(&["f", "F", "false", "False", "FALSE"].map(|word| (word, "boolean 0")));
    let others = ["tr", "tRUE", "truee", "yes", "true1", "t.", "null", "fALSE"];
    check_values(&others.map(|word| (word, "FieldValue")));
}

#[rustfmt::skip]
#[test]
fn a_timestamp_is_a_whole_number_in_the_given_precision() {
    check(&[
        (b"m f=1 -7", &["m f float 1.0 -7"]),
        (b"m f=1 -0", &["m f float 1.0 0"]),
        (b"m f=1 00000000000000000000000007", &["m f float 1.0 7"]),
        (b"m f=1 9223372036854775807", &["m f float 1.0 9223372036854775807"]),
        (b"m f=1 -9223372036854775808", &["m f float 1.0 -9223372036854775808"]),
        (b"m f=1 9223372036854775808\n", &["line 1 column 7 TimestampRange"]),
        (b"m f=1 -9223372036854775809\n", &["line 1 column 7 TimestampRange"]),
        (b"m f=1 18446744073709551617\n", &["line 1 column 7 TimestampRange"]),
        (b"m f=1 -\nm f=1 +7\n", &["line 1 column 7 Timestamp", "line 2 column 7 Timestamp"]),
        (b"m f=1 7i\nm f=1 1.5\n", &["line 1 column 7 Timestamp", "line 2 column 7 Timestamp"]),
        (b"m f=1 1e3\nm f=1 x\n", &["line 1 column 7 Timestamp", "line 2 column 7 Timestamp"]),
    ]);
    for (name, precision, unit) in [
        ("ns", Precision::Ns, 1),
        ("us", Precision::Us, 1_000),
        ("ms", Precision::Ms, 1_000_000),
        ("s", Precision::S, 1_000_000_000),
    ] {
        assert_eq!(Precision::parse(name), Some(precision));
        for time in [1, -1, i64::MAX / unit, i64::MIN / unit] {
            let events = feed(&[format!("m f=1 {time}").as_bytes()], precision);
            assert_eq!(events, [format!("m f float 1.0 {}", time * unit)]);
        }
        if unit > 1 {
            for time in [i64::MAX / unit + 1, i64::MIN / unit - 1] {
                let events = feed(&[format!("m f=1 {time}").as_bytes()], precision);
                assert_eq!(events, ["line 1 column 7 TimestampRange"]);
            }
        }
    }
    assert_eq!(Precision::parse("m"), None);
}

#[rustfmt::skip]
#[test]
fn a_tag_key_stands_once_and_a_field_key_as_often_as_it_likes() {
    check(&[
        (b"m,a=1,b=2,a=1 f=1\n", &["line 1 column 11 TagTwice"]),
        (br"m,a\,=1,a,=1 f=1", &["line 1 column 10 NoTagEquals"]),
        (br"m,a\ b=1,c=2,a\ b=3 f=1", &["line 1 column 14 TagTwice"]),
        (b"m f=1,f=2i,f=1 7", &["m f float 1.0 7", "m f integer 2 7", "m f float 1.0 7"]),
        (b"m f=1 7\nm f=1 7\n", &["m f float 1.0 7", "m f float 1.0 7"]),
        (b"m,a=1,A=2,aa=3 f=1", &["m,A=2,a=1,aa=3 f float 1.0 now"]),
    ]);
    for count in [2, 8, 9, 100, 9_000] {
        let tags: String = (1..=count).rev().map(|n| format!(",{n:x}=1")).collect();
        let events = feed(&[format!("m{tags} f=1\n").as_bytes()], Precision::Ns);
        assert_eq!(events[0].matches('=').count(), count);
        let twice = format!("m{tags},{count:x}=2 f=1\n");
        let expected = format!("line 1 column {} TagTwice", tags.len() + 3);
        assert_eq!(feed(&[twice.as_bytes()], Precision::Ns), [expected]);
    }
}

#[rustfmt::skip]
#[test]
fn one_bad_line_costs_one_line() {
    let good = "m f=1 7";
    for bad in ["m", ",", "m f=", "m f=x", "m f=\"a\"b", "m f=1 x", "m,a=b=c f=1", "m f\t=1"] {
        let input = format!("{good}\n{bad}\n{good}\r\n{bad}\r\n{good}\n{bad}");
        let events = feed(&[input.as_bytes()], Precision::Ns);
        let kept: Vec<_> = events.iter().map(|e| e == "m f float 1.0 7").collect();
        assert_eq!(kept, [true, false, true, false, true, false], "{input:?}");
        check(&[(input.as_bytes(), &events)]);
    }
}

#[rustfmt::skip]
#[test]
fn a_quote_that_is_never_closed_costs_its_own_line() {
    check(&[
        (b"m f=\"a", &["line 1 column 5 OpenQuote"]),
        (b"m f=\"a\\\"", &["line 1 column 5 OpenQuote"]),
        (b"m f=\"a\\", &["line 1 column 5 OpenQuote"]),
        (b"m f=\"a\nn f=1 7\n", &["line 1 column 5 OpenQuote", "n f float 1.0 7"]),
        (b"m f=\"\r\nn f=1 7\r", &["line 1 column 5 OpenQuote", "n f float 1.0 7"]),
        // The quote of the second line closes that of the first; garbage follows it.
        (
            b"m f=\"a\nn f=\"b\" 7\no f=2\n",
            &["line 1 column 5 over AfterFieldValue", "n f string \"b\" 7", "o f float 2.0 now"],
        ),
        (
            b"m f=\"a\nb\" x\nn f=1\n",
            &["line 1 column 5 over Timestamp", "line 2 column 5 NoFieldEquals", "n f float 1.0 now"],
        ),
        (
            b"m f=\"a\nb\",g=\"c\nn f=1",
            &["line 1 column 5 over OpenQuote", "line 2 column 8 NoField", "n f float 1.0 now"],
        ),
    ]);
}

/// Each input gives these events, in one piece, in pieces like a socket's, and cut around the limit.
fn check_long<S: Debug>(input: &str, expected: &[S])
where
    String: PartialEq<S>,
{
    let input = input.as_bytes();
    assert_eq!(feed(&[input], Precision::Ns), expected);
    let pieces: Vec<_> = input.chunks(5000).collect();
    assert_eq!(feed(&pieces, Precision::Ns), expected);
    for cut in LINE_BYTES_MAX - 1..LINE_BYTES_MAX + 4 {
        let (head, tail) = input.split_at(cut.min(input.len()));
        for more in 0..3.min(tail.len() + 1) {
            let (middle, tail) = tail.split_at(more);
            let events = feed(&[head, middle, tail], Precision::Ns);
            assert_eq!(events, expected, "cut at {cut} and {more}");
        }
    }
}

const NEXT: (&str, &str) = ("n f=2 7\n", "n f float 2.0 7");

#[test]
fn a_line_of_64_kib_is_read_and_one_byte_more_is_not() {
    let shapes = [
        ("m,a=* f=1 7", "x"),
        ("m f=\"*\"", "\u{1}"),
        ("m f=1 *", " "),
        ("*", "x"),
        ("*", " "),
        ("#*", "x"),
    ];
    for (shape, fill) in shapes {
        let line = |len: usize| shape.replace('*', &fill.repeat(len + 1 - shape.len()));
        let fits = line(LINE_BYTES_MAX);
        let own = feed(&[fits.as_bytes()], Precision::Ns);
        for ending in ["", "\r"] {
            check_long(&format!("{fits}{ending}"), &own);
        }
        for ending in ["\n", "\r\n"] {
            let expected = [&own[..], &[NEXT.1.to_owned()]].concat();
            check_long(&format!("{fits}{ending}{}", NEXT.0), &expected);
        }
        for len in [LINE_BYTES_MAX + 1, LINE_BYTES_MAX * 2] {
            let long = line(len);
            let rejected = "line 1 column 65537 TooLong";
            for ending in ["", "\r"] {
                check_long(&format!("{long}{ending}"), &[rejected]);
            }
            for ending in ["\n", "\r\n"] {
                check_long(&format!("{long}{ending}{}", NEXT.0), &[rejected, NEXT.1]);
            }
        }
    }
}

#[test]
fn a_record_over_several_lines_has_64_kib_and_beyond_them_costs_its_first_line() {
    let body = "\n# x".repeat(LINE_BYTES_MAX / 4);
    for closing in ["\"", "\" 7", "\"  "] {
        for ending in ["\n", "\r\n", "\r", ""] {
            let next = if ending.ends_with('\n') { NEXT.0 } else { "" };
            let fits = LINE_BYTES_MAX - "m f=\"".len() - closing.len();
            let input = format!("m f=\"{}{closing}{ending}{next}", &body[..fits]);
            let events = feed(&[input.as_bytes()], Precision::Ns);
            assert!(events[0].starts_with("m f string"));
            assert_eq!(events.len(), 1 + usize::from(!next.is_empty()));
            check_long(&input, &events);

            let input = format!("m f=\"{} {closing}{ending}{next}", &body[..fits]);
            let events = feed(&[input.as_bytes()], Precision::Ns);
            assert_eq!(events[0], "line 1 column 5 over TooLong");
            check_long(&input, &events);
        }
    }
}

#[test]
fn a_quote_open_beyond_64_kib_costs_its_own_line() {
    let open = format!("m f=\"{}", "x".repeat(LINE_BYTES_MAX - 5));
    check_long(&open, &["line 1 column 5 OpenQuote"]);
    for ending in ["\n", "\r\n"] {
        let expected = ["line 1 column 5 over TooLong", NEXT.1];
        check_long(&format!("{open}{ending}{}", NEXT.0), &expected);
        let expected = ["line 1 column 65537 TooLong", NEXT.1];
        check_long(&format!("{open}x{ending}{}", NEXT.0), &expected);
    }
    for lines in [1_000, 10_000, 30_000] {
        let input = format!("m f=\"a\n{}", NEXT.0.repeat(lines));
        let events = feed(&[input.as_bytes()], Precision::Ns);
        assert!(events[0].starts_with("line 1 column 5"));
        assert_eq!(events.len(), 1 + lines);
        assert!(events[1..].iter().all(|event| event == NEXT.1));
    }
}

/// Text that is rich in what the protocol treats in a special way.
fn text(special: &'static str, others: BoxedStrategy<char>) -> BoxedStrategy<String> {
    let special = select(special.chars().collect::<Vec<_>>());
    let chars = vec(prop_oneof![special, others], 1..12);
    chars.prop_map(String::from_iter).boxed()
}

/// A backslash at the end of a name would escape what follows the name: no line has such a one.
fn legal(mut name: String, forbidden: fn(char) -> bool) -> String {
    name = name.replace(forbidden, "\u{a7}");
    if name.ends_with('\\') {
        name.push('/');
    }
    name
}

fn name() -> impl Strategy<Value = String> {
    let name = text(" ,=\\\"#ab", any::<char>().boxed());
    name.prop_map(|name| legal(name, |c| c.is_ascii_control()))
}

fn tag_value() -> impl Strategy<Value = String> {
    let value = text(" ,=\\\"#\t\0\x7fab", any::<char>().boxed());
    value.prop_map(|value| legal(value, |c| c == '\n' || c == '\r'))
}

#[derive(Clone, Debug)]
enum Sent {
    Float(f64),
    Integer(i64),
    Unsigned(u64),
    Boolean(bool),
    String(String),
}

fn sent() -> impl Strategy<Value = Sent> {
    let any_bits = any::<u64>().prop_map(f64::from_bits);
    prop_oneof![
        any_bits.prop_map(|f| Sent::Float(if f.is_finite() { f } else { -0.0 })),
        (any::<i32>(), 0..6).prop_map(|(n, p)| Sent::Float(f64::from(n) / 10f64.powi(p))),
        any::<i64>().prop_map(Sent::Integer),
        any::<u64>().prop_map(Sent::Unsigned),
        any::<bool>().prop_map(Sent::Boolean),
        text("\"\\\n\r\0 ,=n", any::<char>().boxed()).prop_map(Sent::String),
        Just(Sent::String(String::new())),
    ]
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_written_reads_back_the_same(
        measurement in name(),
        tags in btree_map(name(), tag_value(), 0..12),
        fields in vec((name(), sent(), any::<i64>()), 1..4),
        cut in any::<Index>(),
    ) {
        let tags: Vec<_> = tags.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        let sensor = series::canonical(&measurement, &tags);
        let (mut written, mut expected) = (String::new(), Vec::new());
        for (field, sent, time_ns) in &fields {
            let digits;
            let (kind, value) = match sent {
                Sent::Float(v) => (Kind::Float, Value::Real(*v)),
                Sent::Integer(v) => (Kind::Integer, Value::Integer(*v)),
                Sent::Boolean(v) => (Kind::Boolean, Value::Integer(i64::from(*v))),
                Sent::String(v) => (Kind::String, Value::Text(v)),
                Sent::Unsigned(v) => {
                    digits = v.to_string();
                    let value = i64::try_from(*v).map_or(Value::Text(&digits), Value::Integer);
                    (Kind::Unsigned, value)
                }
            };
            line::write_reading(&mut written, &sensor, field, kind, value, *time_ns);
            expected.push(event(&sensor, field, kind, value, Some(*time_ns)));
        }
        let (head, tail) = written.as_bytes().split_at(cut.index(written.len() + 1));
        prop_assert_eq!(feed(&[head, tail], Precision::Ns), expected);
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_stall_nor_depend_on_the_cuts(
        input in prop_oneof![
            vec(any::<u8>(), 0..200),
            vec(select(&b"m,a=b \\\"\n\r#1.-eiut\x00\x7f\xc3\xbc"[..]), 0..200),
            vec(select(&["m ", "m,a=b ", "f=", "\"", "\\", "\n", "\r\n", ",", "1", " 7"][..]), 0..60)
                .prop_map(|parts| parts.concat().into_bytes()),
        ],
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]).collect();
        prop_assert_eq!(feed(&pieces, Precision::S), feed(&[&input], Precision::S));
    }
}

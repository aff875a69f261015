//! Guards against readings that are lost, doubled or misnamed between the bytes of a sender and the batch:
//! wherever a read ends, however little room there is, however many series there are.
use std::collections::BTreeSet;
use std::fmt::Write as _;

use seawall::reading::line::{LINE_BYTES_MAX, ParsedLine, Precision};
use seawall::reading::series::Interner;
use seawall::reading::stream::Room;
use seawall::reading::stream::{Full, Intake, Stream, Taken};
use seawall::reading::{Batch, NamedClient, StreamMark};
use seawall::source::opening::{NAME_BYTES_MAX, Opening, opening};

const ROWS_MAX: usize = 1000;

/// What a stream made of its input: readings as text, rejected line numbers, lines settled.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    readings: Vec<String>,
    rejected: Vec<u64>,
    lines: u64,
}

/// Sends `input` in pieces of the given sizes, in turn, with room for `rows` readings at a time.
fn hear(input: &[u8], pieces: &[usize], rows: usize) -> Heard {
    let mut stream = Stream::new(0, Precision::Ns, true);
    let mut interner = Interner::default();
    let mut line = ParsedLine::default();
    let mut names: Vec<String> = Vec::new();
    let mut heard = Heard::default();
    let mut rest = input;
    let mut sizes = pieces.iter().cycle();
    while !stream.ended() {
        let size = (*sizes.next().unwrap()).min(rest.len());
        let (piece, tail) = rest.split_at(size);
        rest = tail;
        stream
            .fill(|buffer| {
                let n = piece.len().min(buffer.len());
                buffer[..n].copy_from_slice(&piece[..n]);
                assert_eq!(n, piece.len(), "pieces are small");
                Ok(n)
            })
            .unwrap();
        loop {
            let mut batch = Batch::default();
            let room = Room {
                rows,
                text_bytes: 1 << 20,
            };
            let mut to = Intake {
                batch: &mut batch,
                interner: &mut interner,
                line: &mut line,
                room,
                rows_max: ROWS_MAX,
                full: Full::Waits,
                may_repeat: false,
                old_before_ns: i64::MIN,
                old: None,
            };
            let taken = stream.take(&mut to, 77, &mut |line, _, _| {
                heard.rejected.push(line);
            });
            assert!(batch.rows().len() <= rows.max(ROWS_MAX));
            assert_eq!(batch.awaited, !batch.marks().is_empty());
            let mut definitions = batch.definitions().iter().peekable();
            for (n, row) in batch.rows().iter().enumerate() {
                while let Some(d) = definitions.next_if(|d| d.from <= n) {
                    let name =
                        format!("{} {} {:?}", d.series.sensor, d.series.field, d.series.kind);
                    names.resize(names.len().max(d.slot as usize + 1), String::new());
                    names[d.slot as usize] = name;
                }
                let value = batch.value(row);
                let name = &names[row.slot as usize];
                heard
                    .readings
                    .push(format!("{name} {value:?} {}", row.time_ns));
            }
            if let Some(&StreamMark { lines, .. }) = batch.marks().first() {
                assert!(lines > heard.lines);
                heard.lines = lines;
            }
            if taken == Taken::All {
                break;
            }
            assert!(!batch.is_empty(), "no room for a line that fits alone");
        }
    }
    heard
}

const MIXED: &str = "m,b=1,a=2 x=1,y=2i 5\n# comment\n\n  \nbad line\nm,a=2,b=1 x=3\nn s=\"one\ntwo\" 6\r\nq=\nm v=\"open\nm,a=2,b=1 x=4 7\nlast v=true 8";

#[test]
fn a_line_that_begins_as_another_did_says_the_same_as_alone() {
    let lines = [
        "m,b=1,a=2 x=1,y=2i 5",
        "m,b=1,a=2 x=2,new=3 6",
        "m,b=1,a=2 x=3i 7",
        "m,b=1,a=2 x=\"t\" 8",
        "m,b=1,a=2 x=4",
        "m,b=1,a=2 x= 9",
        "m,b=1,a=2 x=5 9x",
        "m,b=1,a=2 xy=6 9",
        "m,b=1,a=2  x=7 9",
        "m,b=1,a=2,c=3 x=8 9",
        "#m x=1",
    ];
    for one in lines {
        for other in lines {
            let text = format!("{one}\n{other}\n{one}\n{other}\n");
            let mut alone = Heard::default();
            for (n, line) in (1..).zip(text.split_inclusive('\n')) {
                let heard = hear(line.as_bytes(), &[100], 100);
                alone.readings.extend(heard.readings);
                alone.rejected.extend(heard.rejected.iter().map(|_| n));
                alone.lines = n;
            }
            assert_eq!(hear(text.as_bytes(), &[100], 100), alone, "{text}");
        }
    }
}

#[test]
fn a_byte_order_mark_and_nuls_between_lines_are_no_part_of_them() {
    let input = b"\xef\xbb\xbfm x=1 1\n\0m x=2 2\n\0\0bad\n\0# comment\n\0";
    for size in 1..=input.len() {
        let heard = hear(input, &[size], 100);
        let expected = ["m x Float Real(1.0) 1", "m x Float Real(2.0) 2"];
        assert_eq!(heard.readings, expected, "{size}");
        assert_eq!(
            (heard.rejected.as_slice(), heard.lines),
            ([3].as_slice(), 4),
            "{size}"
        );
    }
    // There is one mark, wherever the first read ends.
    let twice = b"\xef\xbb\xbf\xef\xbb\xbfm x=1 1\n";
    for size in 1..=twice.len() {
        let expected = ["\u{feff}m x Float Real(1.0) 1"];
        assert_eq!(hear(twice, &[size], 100).readings, expected, "{size}");
    }
    // Within a line a NUL is an error as any control byte, and the mark is one of the beginning only.
    let heard = hear(b"m\0 x=1 1\nm x=2 2\n\xef\xbb\xbfm x=3 3\n", &[7], 100);
    assert_eq!(heard.rejected, [1]);
    assert_eq!(heard.readings.len(), 2);
}

#[test]
fn the_same_is_heard_wherever_the_reads_end() {
    let whole = hear(MIXED.as_bytes(), &[60_000], 100);
    let expected: Vec<String> = [
        "m,a=2,b=1 x Float Real(1.0) 5",
        "m,a=2,b=1 y Integer Integer(2) 5",
        "m,a=2,b=1 x Float Real(3.0) 77",
        "n s String Text(\"one\\ntwo\") 6",
        "m,a=2,b=1 x Float Real(4.0) 7",
        "last v Boolean Integer(1) 8",
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(whole.readings, expected);
    assert_eq!(
        (whole.rejected.as_slice(), whole.lines),
        ([5, 9, 10].as_slice(), 12)
    );
    for size in 1..MIXED.len() {
        assert_eq!(
            hear(MIXED.as_bytes(), &[size], 100),
            whole,
            "pieces of {size}"
        );
    }
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let sizes: Vec<usize> = (0..20).map(|_| rng.usize(1..40)).collect();
        assert_eq!(hear(MIXED.as_bytes(), &sizes, 100), whole, "seed {seed}");
    }
}

#[test]
fn a_line_waits_for_room_and_is_never_split() {
    let whole = hear(MIXED.as_bytes(), &[60_000], 100);
    // The largest line has two readings.
    for rows in [2, 3, 5] {
        for size in [1, 7, 60_000] {
            assert_eq!(
                hear(MIXED.as_bytes(), &[size], rows),
                whole,
                "room for {rows}"
            );
        }
    }
}

#[test]
fn a_line_with_more_readings_than_the_queue_holds_is_rejected() {
    let mut line = "m f=1".to_owned();
    for n in 0..ROWS_MAX {
        let _ = write!(line, ",f{n}=1");
    }
    let heard = hear(format!("{line}\nm f=2 1\n").as_bytes(), &[30_000], ROWS_MAX);
    assert_eq!(heard.rejected, [1]);
    assert_eq!(heard.readings, ["m f Float Real(2.0) 1"]);
}

#[test]
fn an_endless_line_costs_one_line_and_little_memory() {
    let mut input = "m f=1 1\n".to_owned();
    input += &"x".repeat(1_000_000);
    input += "\nm f=2 2\nm s=\"";
    input += &"y".repeat(200_000);
    input += "\nm f=3 3\n";
    let heard = hear(input.as_bytes(), &[60_000], 100);
    assert_eq!(
        (heard.rejected.as_slice(), heard.lines),
        ([2, 4].as_slice(), 5)
    );
    assert_eq!(heard.readings.len(), 3);
}

#[test]
fn more_series_than_are_known_at_a_time_keep_their_names() {
    const SERIES: usize = 20_000;
    let mut input = String::new();
    for round in 0..2 {
        for n in 0..SERIES {
            let _ = writeln!(input, "m,n={n} f={n} {round}");
        }
    }
    let heard = hear(input.as_bytes(), &[50_000], ROWS_MAX);
    let distinct: BTreeSet<&String> = heard.readings.iter().collect();
    assert_eq!(
        (heard.readings.len(), distinct.len()),
        (2 * SERIES, 2 * SERIES)
    );
    for (n, reading) in heard.readings.iter().enumerate() {
        let (n, round) = (n % SERIES, n / SERIES);
        assert_eq!(*reading, format!("m,n={n} f Float Real({n}.0) {round}"));
    }
}

#[test]
fn every_kind_of_value_arrives_as_it_was_sent() {
    let input = "m a=1,b=2i,c=18446744073709551615u,d=3u,e=f,f=\"\" 1\n";
    let heard = hear(input.as_bytes(), &[100], 100);
    let values: Vec<&str> = heard
        .readings
        .iter()
        .map(|r| r.splitn(3, ' ').nth(2).unwrap())
        .collect();
    assert_eq!(
        values,
        [
            "Float Real(1.0) 1",
            "Integer Integer(2) 1",
            "Unsigned Text(\"18446744073709551615\") 1",
            "Unsigned Integer(3) 1",
            "Boolean Integer(0) 1",
            "String Text(\"\") 1"
        ]
    );
}

/// Sends `input` over one connection of a client that gave its name, and cuts it there. Gives the readings,
/// and how many of the client's lines are settled.
fn named(input: &str, settled: u64, interner: &mut Interner, readings: &mut Vec<String>) -> u64 {
    let mut stream = Stream::of_connection(1, Precision::Ns);
    let mut batch = Batch::default();
    let mut line = ParsedLine::default();
    let mut bytes = input.as_bytes();
    let room = Room::UNBOUNDED;
    stream.skip_hello(0);
    stream.resume(NamedClient {
        name: "c".into(),
        lines: settled,
        uid: None,
    });
    while !stream.ended() {
        stream
            .fill(|buffer| {
                let n = bytes.len().min(buffer.len());
                buffer[..n].copy_from_slice(&bytes[..n]);
                bytes = &bytes[n..];
                Ok(n)
            })
            .unwrap();
        let mut to = Intake {
            batch: &mut batch,
            interner,
            line: &mut line,
            room,
            rows_max: ROWS_MAX,
            full: Full::Waits,
            may_repeat: false,
            old_before_ns: i64::MIN,
            old: None,
        };
        let taken = stream.take(&mut to, 77, &mut |_, _, _| ());
        assert_eq!(taken, Taken::All);
    }
    readings.extend(
        batch
            .rows()
            .iter()
            .map(|r| format!("{} {:?} {}", r.slot, batch.value(r), r.time_ns)),
    );
    let settled = batch
        .clients()
        .first()
        .map_or(settled, |client| client.lines);
    assert_eq!(
        stream.marked(),
        batch.marks().first().map_or(0, |mark| mark.lines)
    );
    settled
}

#[test]
fn a_client_that_sends_on_after_a_cut_anywhere_is_heard_once() {
    // A quote that is never closed would keep all behind it from being settled.
    let text = format!("{MIXED}\n").replace("v=\"open", "v=\"closed\"");
    let mut interner = Interner::default();
    let mut whole = Vec::new();
    let all = named(&text, 0, &mut interner, &mut whole);
    assert_eq!(all, text.matches('\n').count() as u64);
    for cut in 0..=text.len() {
        let mut readings = Vec::new();
        let settled = named(&text[..cut], 0, &mut interner, &mut readings);
        let sent_before = text
            .split_inclusive('\n')
            .take(settled as usize)
            .map(str::len)
            .sum::<usize>();
        assert!(sent_before <= cut, "what was not sent is not settled");
        let in_all = named(&text[sent_before..], settled, &mut interner, &mut readings);
        assert_eq!((in_all, &readings), (all, &whole), "cut at {cut}");
    }
}

#[test]
fn only_a_reading_with_a_time_of_its_own_may_be_one_that_was_sent_before() {
    for may_repeat in [true, false] {
        let mut stream = Stream::of_connection(1, Precision::Ns);
        let input = b"m a=1,b=2 5\nm a=1,b=2\nm a=\"t\" -1\n";
        let read = |buffer: &mut [u8]| {
            buffer[..input.len()].copy_from_slice(input);
            Ok(input.len())
        };
        stream.fill(read).unwrap();
        let (mut batch, mut later) = (Batch::default(), Batch::default());
        let mut to = Intake {
            batch: &mut later,
            interner: &mut Interner::default(),
            line: &mut ParsedLine::default(),
            room: Room::UNBOUNDED,
            rows_max: ROWS_MAX,
            full: Full::Waits,
            may_repeat,
            old_before_ns: i64::MIN,
            old: None,
        };
        assert_eq!(stream.take(&mut to, 77, &mut |_, _, _| ()), Taken::All);
        // As the queue joins them.
        batch.append(&mut later);
        let marked: Vec<_> = batch.rows().iter().map(|row| row.may_repeat).collect();
        let own_time = [true, true, false, false, true];
        assert_eq!(marked, own_time.map(|own| own && may_repeat));
    }
}

#[test]
fn a_connection_is_known_by_its_first_line() {
    let client = |name, used| Opening::Client { name, used };
    assert_eq!(opening(b"# client a-1\nm v=1\n"), client("a-1", 13));
    assert_eq!(opening(b"# client a-1\r\n"), client("a-1", 14));
    assert_eq!(opening(b"# client gr\xc3\xbcn\n"), client("grün", 15));
    assert_eq!(opening(b"# client"), Opening::More);
    assert_eq!(opening(b"# clients are many\n"), Opening::Line);
    assert_eq!(opening(b"# comment\n"), Opening::Line);
    assert_eq!(opening(b"\n# client a\n"), Opening::Line);
    assert_eq!(opening(b"m v=1\n"), Opening::Line);
    // Readings, and lines to reject as any other, that look like a request.
    for line in [
        &b"GET v=\"to HTTP/1.1\nand on\"\n"[..],
        b"GET /v=\"HTTP/1.1\n\"\n",
        b"Alarm v=1 HTTP/1.1\n",
        b"POST v=1 HTTP/1.1x\n",
        b"POST  HTTP/1.1\n",
        b"GET / at HTTP/1.1\n",
        b"GET /\n",
        b"\x16\x03x v=1\n",
    ] {
        assert_eq!(opening(line), Opening::Line, "{line:?}");
    }
    for wrong in [
        &b"# client \n"[..],
        b"# client a b\n",
        b"# client \xff\n",
        b"GET /ping HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ] {
        assert!(matches!(opening(wrong), Opening::Wrong(_)), "{wrong:?}");
    }
    assert!(matches!(
        opening(format!("# client {}\n", "n".repeat(NAME_BYTES_MAX + 1)).as_bytes()),
        Opening::Wrong(_)
    ));
    assert_eq!(opening(&vec![b'm'; LINE_BYTES_MAX]), Opening::More);
    assert_eq!(opening(&vec![b'm'; LINE_BYTES_MAX + 1]), Opening::Line);
}

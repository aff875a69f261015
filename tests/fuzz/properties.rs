//! What the fuzzers hold the parsers to: no panic, every byte taken once, the same result however the bytes
//! are cut, and what is accepted comes back the same when it is written out and read again.
//!
//! Each function takes any bytes. The fuzz targets call them with what libFuzzer makes up, and
//! `tests/fuzz_corpus.rs` with the inputs that are kept in `corpus`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::rc::Rc;
use std::time::{Duration, Instant};

use seawall::cli::{self, Invocation};
use seawall::reading::line::{self, LINE_BYTES_MAX, Parsed, ParsedLine, Precision};
use seawall::reading::number::{self, Number};
use seawall::reading::series::{Beginning, Interner};
use seawall::reading::stream::Room;
use seawall::reading::stream::{Excerpt, Full, Intake, Stream, Taken};
use seawall::reading::{Batch, Value};
use seawall::record::settings::RecordSettings as Record;
use seawall::source::http::framing::Framing;
use seawall::source::http::head::{self, HEAD_BYTES_MAX, Length};
use seawall::source::http::reply::Health;
use seawall::source::http::{Http, Rules};
use seawall::source::inflate::Inflate;
use seawall::source::protocol::{Now, Protocol, Turn};
use seawall::source::spec::{Door, Port, SimRate, SourceSpec};
use seawall::source::sysfs::parse_number;
use seawall::units;

const ARRIVAL_NS: i64 = 77;

fn precision(byte: u8) -> Precision {
    [Precision::Ns, Precision::Us, Precision::Ms, Precision::S][usize::from(byte % 4)]
}

/// Line protocol, taken record by record. The first byte chooses the precision.
pub fn line(data: &[u8]) {
    let Some((&first, input)) = data.split_first() else {
        return;
    };
    let mut line = ParsedLine::default();
    let mut at = 0;
    let mut began = None;
    while at < input.len() {
        let rest = &input[at..];
        let outcome = line::parse(rest, true, precision(first), None, &mut line);
        // As an earlier record began, and as this one does.
        let own = beginning(&line, rest).or(began.clone());
        for (bytes, sensor_bytes) in began.iter().chain(&own) {
            let expected = Beginning {
                bytes,
                sensor_bytes: *sensor_bytes,
            };
            let mut again = ParsedLine::default();
            let same = line::parse(rest, true, precision(first), Some(expected), &mut again);
            assert_eq!(same, outcome);
            assert_eq!(parts(&again, rest), parts(&line, rest));
        }
        began = own;
        let used = match outcome {
            Parsed::Incomplete => panic!("the last line is a line"),
            Parsed::Nothing { used } => used,
            Parsed::Rejected { used, reason } => {
                assert!(!reason.to_string().is_empty() && reason.column > 0);
                assert!(used == rest.len() || rest[used - 1] == b'\n');
                used
            }
            Parsed::TooLong { used } => {
                assert!(used > LINE_BYTES_MAX);
                let newline = rest[used..].first().is_some_and(|&b| b == b'\n');
                used + usize::from(newline)
            }
            Parsed::Record { used, lines } => {
                let newlines = rest[..used].iter().filter(|&&b| b == b'\n').count();
                let unended = u32::from(rest[used - 1] != b'\n');
                assert_eq!(newlines as u32 + unended, lines);
                written_out_it_is_the_same(&line, rest);
                used
            }
        };
        assert!(used > 0, "every step gets on");
        at += used;
    }
    assert_eq!(at, input.len(), "every byte is taken once");
}

/// What is before the value of the first field, where a sender writes no more spaces than it has to.
fn beginning(line: &ParsedLine, input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let field = line.fields().first()?;
    let sensor = line.sensor(input);
    let bytes = [sensor, b" ", line.field_key(input, field), b"="].concat();
    Some((bytes, sensor.len()))
}

fn parts(line: &ParsedLine, input: &[u8]) -> String {
    let fields = line.fields().iter();
    let fields = fields.map(|f| (line.field_key(input, f), f.kind, line.value(f)));
    let fields: Vec<_> = fields.collect();
    if fields.is_empty() {
        return String::new();
    }
    let (sensor, time_ns) = (line.canonical_sensor(input), line.time_ns());
    format!("{sensor} {fields:?} {time_ns:?}")
}

fn written_out_it_is_the_same(line: &ParsedLine, input: &[u8]) {
    let sensor = line.canonical_sensor(input);
    let time_ns = line.time_ns().unwrap_or(ARRIVAL_NS);
    for field in line.fields() {
        let name = line.field_name(input, field);
        let value = line.value(field);
        let mut out = String::new();
        line::write_reading(&mut out, &sensor, &name, field.kind, value, time_ns);
        if out.len() > LINE_BYTES_MAX {
            continue;
        }
        let mut again = ParsedLine::default();
        let outcome = line::parse(out.as_bytes(), false, Precision::Ns, None, &mut again);
        assert!(
            matches!(outcome, Parsed::Record { used, .. } if used == out.len()),
            "{out:?}"
        );
        assert_eq!(again.canonical_sensor(out.as_bytes()), sensor, "{out:?}");
        assert_eq!(again.time_ns(), Some(time_ns), "{out:?}");
        let [it] = again.fields() else {
            panic!("{out:?}")
        };
        assert_eq!(again.field_name(out.as_bytes(), it), name, "{out:?}");
        assert_eq!(it.kind, field.kind, "{out:?}");
        match (again.value(it), value) {
            (Value::Real(a), Value::Real(b)) => assert_eq!(a.to_bits(), b.to_bits(), "{out:?}"),
            (a, b) => assert_eq!(a, b, "{out:?}"),
        }
    }
}

/// What a stream made of its input.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    readings: Vec<String>,
    rejected: Vec<String>,
    lines: u64,
}

/// Those of a batch, with their series written out. `names` are known from the batches before.
fn readings(batch: &Batch, names: &mut Vec<String>) -> Vec<String> {
    let mut definitions = batch.definitions().iter().peekable();
    let mut readings = Vec::new();
    for (n, row) in batch.rows().iter().enumerate() {
        while let Some(d) = definitions.next_if(|d| d.from <= n) {
            let slot = d.slot as usize;
            names.resize(names.len().max(slot + 1), String::new());
            names[slot] = format!("{:?}", d.series);
        }
        let (name, value) = (&names[row.slot as usize], batch.value(row));
        readings.push(format!(
            "{name} {value:?} {} {}",
            row.time_ns, row.may_repeat
        ));
    }
    readings
}

fn hear(input: &[u8], precision: Precision, pieces: &[u8], rows: usize) -> Heard {
    /// Lines with more readings than this are rejected, whatever room there is.
    const ROWS_MAX: usize = 4;
    let mut stream = Stream::new(0, precision, true);
    let (mut interner, mut line) = (Interner::default(), ParsedLine::default());
    let mut names: Vec<String> = Vec::new();
    let mut heard = Heard::default();
    let mut rest = input;
    let mut sizes = pieces.iter().cycle();
    while !stream.ended() {
        let size = sizes
            .next()
            .map_or(usize::MAX, |&size| usize::from(size).max(1));
        let mut got = 0;
        let filled = stream.fill(|buffer| {
            got = size.min(rest.len()).min(buffer.len());
            buffer[..got].copy_from_slice(&rest[..got]);
            Ok(got)
        });
        assert!(filled.is_ok());
        rest = &rest[got..];
        loop {
            let mut batch = Batch::default();
            let text_bytes = seawall::record::queue::TEXT_BYTES_MAX;
            let mut reject = |line: u64, text: Excerpt<'_>, why: &dyn std::fmt::Display| {
                heard.rejected.push(format!("{line} {text} {why}"));
            };
            let mut to = Intake {
                batch: &mut batch,
                interner: &mut interner,
                line: &mut line,
                room: Room { rows, text_bytes },
                rows_max: ROWS_MAX,
                full: Full::Waits,
                may_repeat: false,
                old_before_ns: i64::MIN,
                old: None,
            };
            let taken = stream.take(&mut to, ARRIVAL_NS, &mut reject);
            heard.readings.extend(readings(&batch, &mut names));
            if let Some(mark) = batch.marks().first() {
                assert!(mark.lines > heard.lines);
                heard.lines = mark.lines;
            }
            if taken == Taken::All {
                break;
            }
            assert!(!batch.is_empty(), "no room for a line that fits alone");
        }
    }
    assert!(rest.is_empty(), "all of it is read");
    heard
}

/// A stream of line protocol, cut at arbitrary bytes, with little room. The first byte chooses the
/// precision and the room, the second how many of the next are sizes of reads.
pub fn stream(data: &[u8]) {
    let [first, count, rest @ ..] = data else {
        return;
    };
    let (pieces, input) = rest.split_at(usize::from(count % 16).min(rest.len()));
    let precision = precision(*first);
    let whole = hear(input, precision, &[], 1000);
    let rows = 4 + usize::from(first / 4);
    assert_eq!(hear(input, precision, pieces, rows), whole);
    let newlines = input.iter().filter(|&&b| b == b'\n').count();
    // A byte order mark at the beginning and NULs behind a newline are no lines.
    let lines = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let last = lines.rsplit(|&b| b == b'\n').next().unwrap_or_default();
    let unended = usize::from(last.iter().any(|&b| b != 0));
    assert_eq!(
        whole.lines,
        (newlines + unended) as u64,
        "every line is counted once"
    );
}

/// A command line, an argument a line; lines that begin with `SEAWALL_` and hold a `=` are variables.
pub fn settings(data: &[u8]) {
    let mut args = Vec::new();
    let mut variables: Vec<(&[u8], &[u8])> = Vec::new();
    for line in data.split(|&b| b == b'\n').take(64) {
        let pair = line
            .iter()
            .position(|&b| b == b'=')
            .map(|at| (&line[..at], &line[at + 1..]));
        match pair {
            Some((name, value)) if name.starts_with(b"SEAWALL_") => variables.push((name, value)),
            _ => args.push(OsString::from_vec(line.to_vec())),
        }
    }
    let variable = |name: &str| {
        let mut found = variables.iter().filter(|(it, _)| *it == name.as_bytes());
        found
            .next()
            .map(|(_, value)| OsString::from_vec(value.to_vec()))
    };
    match cli::parse(args.into_iter(), &variable) {
        Ok(Invocation::Record(record)) => {
            if let Some(args) = written(&record) {
                let again = cli::parse(args.clone().into_iter(), &|_| None);
                assert_eq!(again, Ok(Invocation::Record(record)), "{args:?}");
            }
        }
        Ok(_) => {}
        Err(usage) => {
            let one_line = !usage.0.is_empty() && !usage.0.contains('\n');
            assert!(one_line, "{usage:?}");
        }
    }
    units(&String::from_utf8_lossy(data));
}

fn units(text: &str) {
    if let Some(time) = units::parse_duration(text) {
        assert_eq!(units::parse_duration(&units::duration(time)), Some(time));
    }
    if let Some(bytes) = units::parse_size(text) {
        assert_eq!(units::parse_size(&units::size(bytes)), Some(bytes));
    }
}

/// The command line that asks for these settings; none where a path cannot be written as text.
fn written(record: &Record) -> Option<Vec<OsString>> {
    let mut args: Vec<OsString> = vec!["record".into()];
    let mut flag = |name: &str, value: String| args.push(format!("--{name}={value}").into());
    for source in &record.sources {
        flag("source", written_source(source)?);
    }
    flag("commit-interval", units::duration(record.commit_interval));
    flag("commit-rows", record.commit_rows.to_string());
    flag("queue-rows", record.queue_rows.to_string());
    flag("synchronous", record.synchronous.to_string());
    let interval = record
        .checkpoint_interval
        .map_or("0".into(), units::duration);
    flag("checkpoint-interval", interval);
    flag("checkpoint-mode", record.checkpoint_mode.to_string());
    flag("wal-autocheckpoint", record.wal_autocheckpoint.to_string());
    flag("busy-timeout", units::duration(record.busy_timeout));
    flag("stop-timeout", units::duration(record.stop_timeout));
    flag("http-wait", units::duration(record.http_wait));
    let retain = record.retain.map_or("none".into(), units::duration);
    flag("retain", retain);
    let max_size = record.max_size_bytes.map_or("none".into(), units::size);
    flag("max-size", max_size);
    flag("min-free", units::size(record.min_free_bytes));
    flag("create", record.create.to_string());
    flag("on-damage", record.on_damage.to_string());
    flag("ack", if record.ack { "yes" } else { "no" }.into());
    flag("log-level", record.log_level.to_string());
    // Paths are bytes, and need not be text.
    let mut db = b"--db=".to_vec();
    db.extend_from_slice(record.db.as_os_str().as_bytes());
    args.push(OsString::from_vec(db));
    Some(args)
}

fn written_source(source: &SourceSpec) -> Option<String> {
    Some(match source {
        SourceSpec::Sim(sim) => {
            let rate = match sim.rate {
                SimRate::Max => "max".into(),
                SimRate::PerSecond(rate) => rate.to_string(),
            };
            let seed = sim
                .seed
                .map_or(String::new(), |seed| format!(",seed={seed}"));
            let (sensors, count) = (sim.sensors, sim.count);
            format!("sim:sensors={sensors},rate={rate},count={count}{seed}")
        }
        SourceSpec::Sysfs {
            root,
            interval,
            choice,
        } => {
            let key = |name: &str, globs: &[String]| -> String {
                globs.iter().map(|glob| format!(",{name}={glob}")).collect()
            };
            format!(
                "sysfs:root={},interval={}{}{}",
                root.to_str()?,
                units::duration(*interval),
                key("include", &choice.include),
                key("exclude", &choice.exclude)
            )
        }
        SourceSpec::Stdin { precision } => format!("stdin:precision={}", name(*precision)),
        SourceSpec::Unix {
            path,
            mode,
            precision,
        } => {
            let (path, precision) = (path.to_str()?, name(*precision));
            format!("unix:{path},mode={mode:04o},precision={precision}")
        }
        SourceSpec::Tcp { port, precision } => {
            format!("tcp:{},precision={}", place(port), name(*precision))
        }
        SourceSpec::Udp { port, precision } => {
            format!("udp:{},precision={}", place(port), name(*precision))
        }
        SourceSpec::Http {
            door,
            token_file,
            precision,
        } => {
            let door = match door {
                Door::Unix { path, mode } => format!("unix:{},mode={mode:04o}", path.to_str()?),
                Door::Tcp(port) => place(port),
            };
            let token = match token_file {
                Some(path) => format!(",token-file={}", path.to_str()?),
                None => String::new(),
            };
            format!("http:{door},precision={}{token}", name(*precision))
        }
    })
}

fn name(precision: Precision) -> &'static str {
    match precision {
        Precision::Ns => "ns",
        Precision::Us => "us",
        Precision::Ms => "ms",
        Precision::S => "s",
        Precision::M | Precision::H => unreachable!("no source has it"),
    }
}

fn place(port: &Port) -> String {
    format!("[{}]:{}", port.host, port.number)
}

/// Numbers: of the kernel's files, and of line protocol, which the standard library reads as the same.
pub fn number(data: &[u8]) {
    if let Some(value) = parse_number(data) {
        assert!(value.is_finite());
        let out = format!("{value}");
        let again = parse_number(out.as_bytes());
        assert_eq!(again.map(f64::to_bits), Some(value.to_bits()), "{out}");
    }
    let mut at = 0;
    let taken = number::take(data, &mut at);
    assert!(at <= data.len());
    let literal = str::from_utf8(&data[..at]).expect("only ASCII is taken");
    match taken {
        Ok(Number::Float(value)) => {
            let std: f64 = literal.parse().expect(literal);
            assert_eq!(value.to_bits(), std.to_bits(), "{literal}");
        }
        Ok(Number::Integer(value)) => {
            assert_eq!(
                literal.strip_suffix('i').and_then(|n| n.parse().ok()),
                Some(value)
            );
        }
        Ok(Number::Unsigned(value)) => {
            assert_eq!(
                literal.strip_suffix('u').and_then(|n| n.parse().ok()),
                Some(value)
            );
        }
        Err(_) => {}
    }
    let mut at = 0;
    if let Ok(value) = number::take_integer(data, &mut at) {
        assert_eq!(
            str::from_utf8(&data[..at]).map(|n| n.parse()),
            Ok(Ok(value))
        );
    }
}

/// The text, and whether it is whole; none where it is longer than is worth comparing.
fn inflated(input: &[u8], pieces: usize, room: usize) -> Option<Result<(Vec<u8>, bool), String>> {
    const TEXT_BYTES_MAX: usize = 64 * 1024;
    /// A length of 258 in two bits.
    const TEXT_BYTES_FOR_A_BYTE: usize = 1032;
    let (mut inflate, mut out, mut text) = (Inflate::new(), vec![0; room], Vec::new());
    for mut piece in input.chunks(pieces) {
        let mut written = room;
        while written == room {
            let used;
            (used, written) = match inflate.inflate(piece, &mut out) {
                Ok(both) => both,
                Err(reason) => {
                    assert!(!inflate.is_whole());
                    assert_eq!(inflate.inflate(input, &mut out), Err(reason), "it stays");
                    return Some(Err(reason.to_owned()));
                }
            };
            piece = &piece[used..];
            text.extend_from_slice(&out[..written]);
            if text.len() > TEXT_BYTES_MAX {
                return None;
            }
        }
        assert!(piece.is_empty(), "it waits for input that is there");
    }
    assert!(text.len() <= TEXT_BYTES_FOR_A_BYTE * input.len());
    Some(Ok((text, inflate.is_whole())))
}

/// Gzip, cut at arbitrary bytes, into little room. The first byte chooses the room and whether a header is put before
/// the rest, the second the size of the pieces.
pub fn inflate(data: &[u8]) {
    let [first, pieces, input @ ..] = data else {
        return;
    };
    let header: &[u8] = match first % 2 {
        0 => b"",
        _ => b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
    };
    let input = [header, input].concat();
    if let Some(whole) = inflated(&input, usize::MAX, 4096) {
        let (pieces, room) = (1 + usize::from(*pieces), 1 + usize::from(first / 2));
        // Where only one of them is too long, the other found an error in what is behind.
        let cut = inflated(&input, pieces, room);
        assert_eq!(cut.unwrap_or(whole.clone()), whole);
    }
}

/// What a connection made of its input.
#[derive(Debug, PartialEq)]
struct Conversation {
    answers: String,
    readings: Vec<String>,
    rejected: Vec<String>,
    /// The last text did not end.
    is_torn: bool,
}

fn converse(input: &[u8], has_token: bool, pieces: &[u8], rows: usize) -> Conversation {
    const ROWS_MAX: usize = 4;
    /// A read, what it makes of the stream's line, and an answer to each of its requests.
    const HELD_BYTES_MAX: usize = 1024 * 1024;
    let now = Instant::now();
    let rules = Rules {
        token: has_token.then(|| b"t".to_vec()),
        precision: Precision::Ns,
        wait: Duration::from_secs(4),
    };
    let mut http = Http::new(1, Rc::new(rules), now);
    let (mut interner, mut line) = (Interner::default(), ParsedLine::default());
    let (mut names, mut readings) = (Vec::new(), Vec::new());
    let (mut said, mut rejected) = (Vec::new(), Vec::new());
    let health = Health {
        reasons: String::new(),
        metrics: "up 1\n".to_owned(),
    };
    let (mut rest, mut sizes) = (input, pieces.iter().cycle());
    while !http.is_over(now) {
        let size = sizes
            .next()
            .map_or(usize::MAX, |&size| usize::from(size).max(1));
        if http.is_open() {
            let read = http.read(now, &mut |buffer| {
                let got = size.min(rest.len()).min(buffer.len());
                buffer[..got].copy_from_slice(&rest[..got]);
                rest = &rest[got..];
                Ok(got)
            });
            assert!(read.is_ok());
        }
        // With pieces, each body that is inflated waits for a place first.
        let mut may_inflate = pieces.is_empty();
        loop {
            let mut batch = Batch::default();
            let mut to = Intake {
                batch: &mut batch,
                interner: &mut interner,
                line: &mut line,
                room: Room {
                    rows,
                    text_bytes: seawall::record::queue::TEXT_BYTES_MAX,
                },
                rows_max: ROWS_MAX,
                full: Full::Waits,
                may_repeat: false,
                old_before_ns: i64::MIN,
                old: None,
            };
            let mut reject = |line: u64, text: Excerpt<'_>, why: &dyn std::fmt::Display| {
                rejected.push(format!("{line} {text} {why}"));
            };
            let now = Now {
                time: now,
                arrived_ns: ARRIVAL_NS,
                may_inflate,
            };
            let turn = http.take(&mut to, now, &mut reject);
            readings.extend(self::readings(&batch, &mut names));
            may_inflate = true;
            match turn {
                Turn::NoRoom => {
                    assert!(!batch.is_empty(), "no room for a line that fits alone");
                }
                _ if !http.is_held() => break,
                _ => {}
            }
            assert!(http.held_bytes() < HELD_BYTES_MAX);
            answer(&mut http, &health, size, &mut said);
            assert!(!http.is_held() || http.can_go_on(true), "it waits for ever");
        }
        answer(&mut http, &health, size, &mut said);
    }
    let answers = String::from_utf8(said).expect("answers are text");
    Conversation {
        answers,
        readings,
        rejected,
        is_torn: http.held_bytes() > 0,
    }
}

/// Everything so far is on the disk. The client takes so many bytes at once.
fn answer(http: &mut Http, health: &Health, size: usize, said: &mut Vec<u8>) {
    http.settle(u64::MAX);
    while http.has_answer() || http.asks() {
        http.answer(health);
        http.flush(Instant::now(), &mut |bytes| {
            let taken = size.min(bytes.len());
            said.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        });
    }
}

/// Requests of one connection, cut at arbitrary bytes, with little room. The first byte chooses the room and whether a
/// token is asked for, the second how many of the next are sizes of reads.
pub fn http(data: &[u8]) {
    /// The smallest request takes 18 bytes, and an answer some hundred; an error may quote what was sent.
    const ANSWER_BYTES_FOR_A_BYTE: usize = 40;
    let [first, count, rest @ ..] = data else {
        return;
    };
    let (pieces, input) = rest.split_at(usize::from(count % 16).min(rest.len()));
    let has_token = first % 2 == 1;
    let whole = converse(input, has_token, &[], 1000);
    let mut cut = converse(input, has_token, pieces, 4 + usize::from(first / 2));
    // What was inflated together with damage is lost with it, and a text that never ends is read as far as newlines
    // come: none of that is acknowledged.
    if whole.is_torn || cut.is_torn || whole.answers.contains("gzip: ") {
        for (whole, cut) in [
            (&whole.readings, &mut cut.readings),
            (&whole.rejected, &mut cut.rejected),
        ] {
            assert!(whole.iter().zip(cut.iter()).all(|(a, b)| a == b));
            cut.clone_from(whole);
        }
        cut.is_torn = whole.is_torn;
    }
    assert_eq!(cut, whole);
    let most = 1000 + ANSWER_BYTES_FOR_A_BYTE * input.len();
    assert!(whole.answers.len() < most, "{}", whole.answers);
    head_is_the_same_in_parts(input, pieces);
    for length in [Length::Chunked, Length::Bytes(u64::from(*count))] {
        let sizes = [1, 1 + usize::from(*first)];
        let parts = sizes.map(|size| body(length, input.chunks(size)));
        assert_eq!(parts[0], body(length, [input].into_iter()));
        assert_eq!(parts[0], parts[1]);
    }
}

fn head_is_the_same_in_parts(input: &[u8], pieces: &[u8]) {
    let whole = head::parse(input);
    if let Ok(Some((head, used))) = &whole {
        assert!(*used <= HEAD_BYTES_MAX && *used <= input.len());
        assert!(!head.method.contains(' ') && !head.target.contains([' ', '\r', '\n']));
    }
    for part in pieces.iter().map(|&end| usize::from(end).min(input.len())) {
        let found = head::parse(&input[..part]);
        match &whole {
            Ok(Some((_, used))) if part < *used => assert_eq!(found, Ok(None)),
            Ok(Some(_)) => assert_eq!(found, whole),
            Ok(None) => assert_eq!(found, Ok(None)),
            Err(_) => assert!(found.is_err() || found == Ok(None)),
        }
    }
}

/// The data of a body, the bytes behind it, and the status of an error.
fn body<'a>(
    length: Length,
    parts: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, usize, Option<u16>) {
    let mut framing = Framing::new(length);
    let (mut data, mut behind) = (Vec::new(), 0);
    for mut part in parts {
        while !part.is_empty() && !framing.is_over() {
            let (skip, count) = match framing.next(part) {
                Ok(both) => both,
                Err((status, _)) => return (data, 0, Some(status)),
            };
            data.extend_from_slice(&part[skip..skip + count]);
            framing.advance(count);
            part = &part[skip + count..];
        }
        behind += part.len();
    }
    (data, behind, None)
}

//! A stream of line protocol: bytes in, whole lines out, in order, each accepted or rejected.
//!
//! It holds at most one line that is not whole and one read beyond it. Nothing is consumed before there
//! is room for it, so that a full queue is felt by the sender. Of many streams only one is read at a time,
//! so that they share a read buffer, and each holds only its unfinished line.

use std::fmt::{self, Display};
use std::io;

use crate::reading::batch::{Batch, Kind, NamedClient, StreamMark, Value};
use crate::reading::buffer::{Buffer, READ_BYTES};
use crate::reading::line::{self, LINE_BYTES_MAX, Parsed, ParsedLine, Precision, Reason};
use crate::reading::series::Interner;

/// Upper bound on the names that one line may make.
const NAME_BYTES_MAX: usize = 256 * 1024;
/// Editors and .NET begin a text with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether `take` took all whole lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    All,
    /// The next line waits for room.
    NoRoom,
}

/// Treatment of a line without room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Waits,
    IsDropped,
}

/// Free room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub rows: usize,
    pub text_bytes: usize,
}

impl Room {
    pub const UNBOUNDED: Room = Room {
        rows: usize::MAX,
        text_bytes: usize::MAX,
    };

    pub fn fits(self, rows: usize, text_bytes: usize) -> bool {
        rows <= self.rows && text_bytes <= self.text_bytes
    }
}

/// Destination of lines and samples.
pub struct Intake<'a> {
    pub batch: &'a mut Batch,
    pub interner: &'a mut Interner,
    pub line: &'a mut ParsedLine,
    pub room: Room,
    pub rows_max: usize,
    pub full: Full,
    /// The sender sends again what it has no answer to, and does not know how far it came.
    pub may_repeat: bool,
    /// Times before this are hardly meant.
    pub old_before_ns: i64,
    /// The first such time that was accepted.
    pub old: Option<OldTime>,
}

/// A time that a line gave, too old to be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldTime {
    pub sensor: String,
    pub time_ns: i64,
}

/// 1972: what a clock that was never set, or a time in seconds taken for nanoseconds, stays below.
pub const AFTER_1970_NS: i64 = 2 * 365 * 86_400 * 1_000_000_000;

impl Intake<'_> {
    /// Takes one sample of a sensor, or drops it where there is no room.
    pub fn sample(&mut self, time_ns: i64, sensor: &str, field: &str, value: f64) {
        if self.batch.rows().len() >= self.room.rows {
            self.batch.counts.dropped += 1;
            return;
        }
        let names = || (sensor.into(), field.into());
        let (name, key) = (sensor.as_bytes(), field.as_bytes());
        let slot = self
            .interner
            .slot(self.batch, name, key, Kind::Float, names);
        self.batch.push(time_ns, slot, Value::Real(value));
    }
}

/// Called with the number of each rejected line, its text and the reason.
pub type Reject<'a> = &'a mut dyn FnMut(u64, Excerpt<'_>, &dyn Display);

/// A rejected line, of which the log shows the beginning.
#[derive(Clone, Copy)]
pub struct Excerpt<'a>(pub &'a [u8]);

const EXCERPT_BYTES_MAX: usize = 60;

impl Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.0.trim_ascii_end();
        let shown = line.get(..EXCERPT_BYTES_MAX).unwrap_or(line);
        f.write_str(&String::from_utf8_lossy(shown))?;
        f.write_str(if shown.len() < line.len() { "…" } else { "" })
    }
}

/// Reason for a line that a cut connection left unfinished.
const CUT: &str = "the connection ended before the newline of this line";

#[derive(Debug)]
pub struct Stream {
    id: u64,
    precision: Precision,
    /// The sender waits for an ack of whatever was taken.
    awaited: bool,
    buffer: Buffer,
    /// Whether there may be a whole line in the buffer.
    fresh: bool,
    /// Lines taken so far.
    lines: u64,
    /// Lines before the text that is being taken.
    text_from: u64,
    /// The text may begin with a mark.
    awaits_mark: bool,
    /// Within a line that was rejected as too long.
    skipping: bool,
    ended: bool,
    /// A line needs its newline: a cut connection may leave `m v=12` of `m v=123`.
    strict: bool,
    /// The buffer holds all remaining bytes.
    last: bool,
    /// The input ended within a line, which is not rejected yet.
    cut: bool,
    /// A named client's input ended within a record of several lines, which is not settled.
    is_torn: bool,
    /// A carriage return stands within a line without a newline or a quote.
    has_bare_return: bool,
    /// Lines in the batches so far.
    marked: u64,
    /// The client of the lines from the second on, and its lines settled before.
    client: Option<NamedClient>,
}

impl Stream {
    pub fn new(id: u64, precision: Precision, awaited: bool) -> Self {
        Stream {
            id,
            precision,
            awaited,
            buffer: Buffer::default(),
            fresh: false,
            lines: 0,
            text_from: 0,
            awaits_mark: true,
            skipping: false,
            ended: false,
            strict: false,
            last: false,
            cut: false,
            is_torn: false,
            has_bare_return: false,
            marked: 0,
            client: None,
        }
    }

    /// A stream of a connection, which may be cut anywhere.
    pub fn of_connection(id: u64, precision: Precision) -> Self {
        Stream {
            strict: true,
            ..Self::new(id, precision, true)
        }
    }

    /// Whether the last line, too, needs its newline.
    pub fn strict(self, strict: bool) -> Self {
        Stream { strict, ..self }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    /// Lines marked in batches so far.
    pub fn marked(&self) -> u64 {
        self.marked
    }

    /// Bytes read and not taken yet.
    pub fn waiting(&self) -> &[u8] {
        self.buffer.waiting()
    }

    /// Whether a quote was open when the input of a named client ended: from its line on nothing is settled.
    /// True once.
    pub fn take_torn(&mut self) -> bool {
        std::mem::take(&mut self.is_torn)
    }

    /// Whether lines seem to end with a carriage return alone.
    pub fn take_bare_return(&mut self) -> bool {
        std::mem::take(&mut self.has_bare_return)
    }

    /// Lines taken so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The first line was the client's name.
    pub fn skip_hello(&mut self, used: usize) {
        self.advance(used, 1);
    }

    /// The following lines are the client's, after the lines of earlier connections.
    pub fn resume(&mut self, settled: NamedClient) {
        self.client = Some(settled);
        self.fresh = true;
    }

    /// Reads into `memory` from here on.
    pub fn borrow(&mut self, memory: &mut Vec<u8>) {
        self.buffer.borrow(memory);
    }

    /// Drops what is held.
    pub fn forget(&mut self) {
        self.buffer.forget();
    }

    /// Returns the memory and keeps the unfinished line.
    pub fn give_back(&mut self, memory: &mut Vec<u8>) {
        self.buffer.give_back(memory);
    }

    /// The next text of a connection that carries several, each with whole lines and times of its own precision.
    pub fn begin_text(&mut self, precision: Precision) {
        self.precision = precision;
        self.text_from = self.lines;
        self.awaits_mark = true;
        self.last = false;
        self.skipping = false;
    }

    /// Drops the part of the text that waits.
    pub fn drop_text(&mut self) {
        self.buffer.truncate(0);
    }

    /// The text is whole: its last line needs no newline.
    pub fn end_text(&mut self) {
        self.last = true;
        self.fresh = true;
    }

    /// Lines taken before this text.
    pub fn text_from(&self) -> u64 {
        self.text_from
    }

    /// Marks the end of the input.
    pub fn end(&mut self) {
        self.ended = true;
        self.last |= !self.strict;
        self.fresh = true;
    }

    /// The end of the input was seen.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Reads once. The caller knows that the source is ready: no byte is the end of the input.
    pub fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
        if self.put(read)? == 0 {
            self.end();
        }
        Ok(())
    }

    /// Reads once. Returns the number of bytes read.
    pub fn put(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        let (held, count) = self.buffer.fill(read)?;
        let has_newline = self.waiting()[held..].contains(&b'\n');
        if !has_newline {
            let new = &self.waiting()[held.saturating_sub(1)..];
            let is_bare = |pair: &[u8]| pair[0] == b'\r' && pair[1] != b'\n';
            self.has_bare_return = new.windows(2).any(is_bare) && !self.waiting().contains(&b'"');
        }
        // One at most, however the text is cut.
        let is_at_start = self.awaits_mark && self.lines == self.text_from;
        if is_at_start && self.waiting().len() >= BYTE_ORDER_MARK.len() {
            self.awaits_mark = false;
            if self.waiting().starts_with(BYTE_ORDER_MARK) {
                self.buffer.advance(BYTE_ORDER_MARK.len());
            }
        }
        // A sender of single bytes must not have the same line parsed again for each of them.
        self.fresh |= has_newline || self.skipping || self.waiting().len() > LINE_BYTES_MAX;
        Ok(count)
    }

    /// Takes whole lines into the batch while they fit. A record without a time gets `now_ns`.
    pub fn take(&mut self, to: &mut Intake<'_>, now_ns: i64, reject: Reject<'_>) -> Taken {
        let before = self.lines;
        let taken = self.take_lines(to, now_ns, reject);
        // A client that ends right behind its name waits for an ack of that.
        let is_only_hello = self.ended && self.lines > self.marked;
        if self.awaited && (self.lines > before || is_only_hello) {
            let lines = self.lines;
            self.mark(to.batch);
            if let Some(client) = &self.client
                && self.lines > before
            {
                // The line that gave the name is not one of the client's.
                to.batch.client(NamedClient {
                    lines: client.lines + lines - 1,
                    ..client.clone()
                });
            }
        }
        taken
    }

    /// The sender waits for the commit of `batch`: with it all lines so far are settled.
    pub fn mark(&mut self, batch: &mut Batch) {
        self.marked = self.lines;
        batch.awaited = true;
        batch.mark(StreamMark {
            stream: self.id,
            lines: self.lines,
        });
    }

    fn take_lines(&mut self, to: &mut Intake<'_>, now_ns: i64, reject: Reject<'_>) -> Taken {
        if !std::mem::take(&mut self.fresh) {
            return Taken::All;
        }
        loop {
            if self.skipping {
                self.skip_to_newline();
            }
            self.skip_nuls();
            let input = self.buffer.waiting();
            if input.is_empty() {
                if std::mem::take(&mut self.cut) {
                    to.batch.counts.rejected += 1;
                    reject(self.lines + 1, Excerpt(b""), &CUT);
                }
                return Taken::All;
            }
            let number = self.lines + 1;
            let expected = to.interner.beginning();
            match line::parse(input, self.last, self.precision, expected, to.line) {
                Parsed::Incomplete if self.ended && !self.last => self.cut_off(),
                Parsed::Incomplete => return Taken::All,
                Parsed::Nothing { used } => self.advance(used, 1),
                Parsed::Rejected { used, reason } => {
                    to.batch.counts.rejected += 1;
                    reject(number, Excerpt(&input[..used]), &reason);
                    self.advance(used, 1);
                }
                Parsed::TooLong { used } => {
                    to.batch.counts.rejected += 1;
                    reject(number, Excerpt(&input[..used]), &Reason::TOO_LONG);
                    self.buffer.advance(used);
                    self.lines += 1;
                    self.skipping = true;
                }
                Parsed::Record { used, lines } => {
                    let fields = to.line.fields().len();
                    let rows = to.batch.rows().len() + fields;
                    let rows_max = to.rows_max;
                    // Each field that is new is a series with the sensor in its name.
                    let name_bytes = fields * to.line.sensor(&self.buffer.waiting()[..used]).len();
                    if name_bytes > NAME_BYTES_MAX {
                        to.batch.counts.rejected += 1;
                        reject(
                            number,
                            Excerpt(&input[..used]),
                            &format_args!(
                                "{fields} fields with a sensor's name as long as this take {name_bytes} bytes of names, at most {NAME_BYTES_MAX} may be"
                            ),
                        );
                    } else if fields > rows_max {
                        to.batch.counts.rejected += 1;
                        reject(
                            number,
                            Excerpt(&input[..used]),
                            &format_args!(
                                "{fields} readings in one line, --queue-rows is {rows_max}"
                            ),
                        );
                    } else if to
                        .room
                        .fits(rows, to.batch.text_bytes() + used + name_bytes)
                    {
                        self.accept(used, to, now_ns);
                    } else if to.full == Full::IsDropped {
                        to.batch.counts.dropped += fields as u64;
                    } else {
                        self.fresh = true;
                        return Taken::NoRoom;
                    }
                    self.advance(used, lines);
                }
            }
        }
    }

    /// Handles an unfinished line at the end of the input.
    fn cut_off(&mut self) {
        self.last = true;
        let whole = match &self.client {
            // It sends on from what is settled, and this is not: the record may have been cut in its middle.
            Some(_) => {
                self.is_torn = self.waiting().contains(&b'\n');
                0
            }
            None => {
                let newline = self.waiting().iter().rposition(|&b| b == b'\n');
                let whole = newline.map_or(0, |at| at + 1);
                self.cut = !self.waiting()[whole..].trim_ascii().is_empty();
                whole
            }
        };
        self.buffer.truncate(whole);
    }

    fn accept(&self, used: usize, to: &mut Intake<'_>, now_ns: i64) {
        let input = &self.buffer.waiting()[..used];
        let (batch, interner, line) = (&mut *to.batch, &mut *to.interner, &*to.line);
        let time_ns = line.time_ns().unwrap_or(now_ns);
        // Readings that get their time here cannot be told apart.
        let may_repeat = to.may_repeat && line.time_ns().is_some();
        let sensor = line.sensor(input);
        if time_ns < to.old_before_ns && to.old.is_none() && line.time_ns().is_some() {
            let sensor = line.canonical_sensor(input);
            to.old = Some(OldTime { sensor, time_ns });
        }
        for (n, field) in line.fields().iter().enumerate() {
            let expected = match n {
                0 if line.is_expected => interner.expected(field.kind),
                _ => None,
            };
            let slot = expected.unwrap_or_else(|| {
                let key = line.field_key(input, field);
                interner.slot(batch, sensor, key, field.kind, || {
                    let name = line.field_name(input, field);
                    (line.canonical_sensor(input).into(), name.into())
                })
            });
            batch.push_sent(time_ns, slot, line.value(field), may_repeat);
        }
    }

    fn advance(&mut self, used: usize, lines: u32) {
        self.buffer.advance(used);
        self.lines += u64::from(lines);
    }

    /// C programs send the NUL behind each newline of their strings.
    fn skip_nuls(&mut self) {
        let nuls = self.waiting().iter().take_while(|&&byte| byte == 0).count();
        self.buffer.advance(nuls);
    }

    /// The line was counted when it was found too long.
    fn skip_to_newline(&mut self) {
        let input = self.buffer.waiting();
        match input.iter().position(|&b| b == b'\n') {
            Some(newline) => {
                self.buffer.advance(newline + 1);
                self.skipping = false;
            }
            None => self.buffer.truncate(0),
        }
    }
}

const _: () = assert!(READ_BYTES >= LINE_BYTES_MAX);

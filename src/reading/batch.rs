//! Readings: each is one number, boolean or text, of one series, at one time.
//!
//! A `Batch` carries readings from the recorder's thread to the writer's:
//! flat vectors that are reused, so that a reading costs no allocation.

use std::sync::Arc;

/// Type of a series in line protocol; kept in the database so that an export has the same type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Float,
    Integer,
    Unsigned,
    Boolean,
    String,
}

impl Kind {
    pub const ALL: [Kind; 5] = [
        Kind::Float,
        Kind::Integer,
        Kind::Unsigned,
        Kind::Boolean,
        Kind::String,
    ];

    /// Word in the `series` table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Float => "float",
            Kind::Integer => "integer",
            Kind::Unsigned => "unsigned",
            Kind::Boolean => "boolean",
            Kind::String => "string",
        }
    }

    /// False for a text where this type has none; an unsigned is one where 63 bits do not hold it.
    pub fn may_be(self, value: Value<'_>) -> bool {
        match (value, self) {
            (Value::Text(text), Kind::Unsigned) => text.len() <= 20 && text.parse::<u64>().is_ok(),
            (Value::Text(_), kind) => kind == Kind::String,
            _ => true,
        }
    }
}

/// A value as SQLite will store it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Real(f64),
    Integer(i64),
    Text(&'a str),
}

/// Canonical name of a series, as in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Measurement and tags as line protocol writes them, tags sorted by key.
    pub sensor: Box<str>,
    /// The field key, unescaped.
    pub field: Box<str>,
    pub kind: Kind,
}

/// Number of a series between the two threads, for as long as it is in the interner.
pub type Slot = u32;

/// One reading, 24 bytes.
#[derive(Clone, Copy, Debug)]
pub struct PackedReading {
    pub time_ns: i64,
    /// A float's or an integer's bits, or a text's start (high half) and length (low half).
    bits: u64,
    pub slot: Slot,
    form: StoredForm,
    /// It has its time from a sender who may send it again: equal to one of the last readings, it is the same.
    pub may_repeat: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u8)]
enum StoredForm {
    Real,
    Integer,
    Text,
}

/// Series of a slot from row `from` of its batch on.
#[derive(Clone, Debug)]
pub struct Definition {
    pub from: usize,
    pub slot: Slot,
    pub series: Series,
}

/// The first `lines` lines of a stream are in this batch or in an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamMark {
    pub stream: u64,
    pub lines: u64,
}

/// Lines of a named client over all its connections; kept in the file, so that it can send on
/// from there after a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedClient {
    pub name: Arc<str>,
    pub lines: u64,
    /// User at the other end of a unix socket, who has the name from then on.
    pub uid: Option<u32>,
}

/// A stream that named its client and waits for `resume`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub stream: u64,
    pub name: Arc<str>,
    pub uid: Option<u32>,
}

/// The settled lines of the client that a stream named; `None` where the name is another user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    pub stream: u64,
    pub lines: Option<u64>,
}

/// The system clock was set by `step_ns` before row `from` of the batch was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    pub from: usize,
    pub step_ns: i64,
}

/// Counters of a run besides its readings; the batch carries them to the run's row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Readings that found no room in the queue.
    pub dropped: u64,
    /// Lines that did not parse.
    pub rejected: u64,
    /// Failures of sources, commits and checkpoints.
    pub errors: u64,
}

impl Counts {
    pub fn add(&mut self, more: Counts) {
        self.dropped += more.dropped;
        self.rejected += more.rejected;
        self.errors += more.errors;
    }
}

/// Memory for text that an empty batch keeps.
const TEXT_BYTES_KEPT: usize = 64 * 1024;

/// Readings in the order in which they will get their ids.
#[derive(Debug, Default)]
pub struct Batch {
    rows: Vec<PackedReading>,
    text: String,
    definitions: Vec<Definition>,
    /// Bytes of the names in `definitions`.
    name_bytes: usize,
    /// By stream.
    marks: Vec<StreamMark>,
    /// By name.
    clients: Vec<NamedClient>,
    hellos: Vec<Hello>,
    clock_steps: Vec<ClockStep>,
    pub counts: Counts,
    /// Its commit is to be synced and acknowledged.
    pub awaited: bool,
    /// Somebody can go on only when it is committed.
    pub hurried: bool,
}

impl Batch {
    pub fn rows(&self) -> &[PackedReading] {
        &self.rows
    }

    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    pub fn marks(&self) -> &[StreamMark] {
        &self.marks
    }

    pub fn clients(&self) -> &[NamedClient] {
        &self.clients
    }

    pub fn hellos(&self) -> &[Hello] {
        &self.hellos
    }

    pub fn clock_steps(&self) -> &[ClockStep] {
        &self.clock_steps
    }

    /// Bytes of text in it: string values, and the names of series that are new.
    pub fn text_bytes(&self) -> usize {
        self.text.len() + self.name_bytes
    }

    /// Marks, clients and hellos: what each connection may add, however short it is.
    pub fn streams(&self) -> usize {
        self.marks.len() + self.clients.len() + self.hellos.len()
    }

    /// Nothing to commit, acknowledge or look up.
    pub fn is_empty(&self) -> bool {
        !self.has_data() && self.marks.is_empty() && self.hellos.is_empty()
    }

    /// Something to commit.
    pub fn has_data(&self) -> bool {
        !self.rows.is_empty()
            || !self.clock_steps.is_empty()
            || !self.clients.is_empty()
            || self.counts != Counts::default()
    }

    pub fn value(&self, row: &PackedReading) -> Value<'_> {
        match row.form {
            StoredForm::Real => Value::Real(f64::from_bits(row.bits)),
            StoredForm::Integer => Value::Integer(row.bits as i64),
            StoredForm::Text => {
                let start = (row.bits >> 32) as usize;
                let len = (row.bits & u64::from(u32::MAX)) as usize;
                Value::Text(&self.text[start..start + len])
            }
        }
    }

    pub fn define(&mut self, slot: Slot, series: Series) {
        let from = self.rows.len();
        self.name_bytes += series.sensor.len() + series.field.len();
        self.definitions.push(Definition { from, slot, series });
    }

    pub fn clock_step(&mut self, step_ns: i64) {
        let from = self.rows.len();
        self.clock_steps.push(ClockStep { from, step_ns });
    }

    pub fn push(&mut self, time_ns: i64, slot: Slot, value: Value<'_>) {
        self.push_sent(time_ns, slot, value, false);
    }

    /// As `push`. `may_repeat` as in `PackedReading`.
    pub fn push_sent(&mut self, time_ns: i64, slot: Slot, value: Value<'_>, may_repeat: bool) {
        let (form, bits) = match value {
            Value::Real(v) => (StoredForm::Real, v.to_bits()),
            Value::Integer(v) => (StoredForm::Integer, v as u64),
            Value::Text(v) => {
                let start = self.text.len() as u64;
                self.text.push_str(v);
                (StoredForm::Text, start << 32 | v.len() as u64)
            }
        };
        self.rows.push(PackedReading {
            time_ns,
            bits,
            slot,
            form,
            may_repeat,
        });
    }

    /// Replaces an earlier mark of the same stream.
    pub fn mark(&mut self, mark: StreamMark) {
        let place = |known: &StreamMark| known.stream.cmp(&mark.stream);
        match self.marks.binary_search_by(place) {
            Ok(at) => self.marks[at].lines = mark.lines,
            Err(at) => self.marks.insert(at, mark),
        }
    }

    /// Sets the lines of a named client.
    pub fn client(&mut self, client: NamedClient) {
        let place = |known: &NamedClient| known.name.cmp(&client.name);
        match self.clients.binary_search_by(place) {
            Ok(at) => self.clients[at] = client,
            Err(at) => self.clients.insert(at, client),
        }
    }

    /// Asks for the lines of a client, those in earlier batches included. Of two with
    /// one name the newer counts, so that reconnects do not pile up.
    pub fn hello(&mut self, hello: Hello) {
        self.hellos.retain(|older| older.name != hello.name);
        self.hellos.push(hello);
    }

    /// Moves everything from `more` to the end of this batch; `more` keeps its memory.
    pub fn append(&mut self, more: &mut Batch) {
        let (row0, text0) = (self.rows.len(), self.text.len() as u64);
        let text_shift = text0 << 32;
        self.rows.extend(more.rows.iter().map(|row| match row.form {
            StoredForm::Text => PackedReading {
                bits: row.bits + text_shift,
                ..*row
            },
            _ => *row,
        }));
        self.text.push_str(&more.text);
        self.name_bytes += more.name_bytes;
        self.definitions
            .extend(more.definitions.drain(..).map(|d| Definition {
                from: d.from + row0,
                ..d
            }));
        let steps = more.clock_steps.iter().map(|step| ClockStep {
            from: step.from + row0,
            ..*step
        });
        self.clock_steps.extend(steps);
        for &mark in &more.marks {
            self.mark(mark);
        }
        for client in more.clients.drain(..) {
            self.client(client);
        }
        for hello in more.hellos.drain(..) {
            self.hello(hello);
        }
        self.counts.add(more.counts);
        self.awaited |= more.awaited;
        self.hurried |= more.hurried;
        more.clear();
    }

    /// Keeps memory for the next readings, but not for many new names or much text, which may never come again.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.text.clear();
        self.text.shrink_to(TEXT_BYTES_KEPT);
        self.definitions = Vec::new();
        self.name_bytes = 0;
        self.marks.clear();
        self.clients.clear();
        self.hellos.clear();
        self.clock_steps.clear();
        self.counts = Counts::default();
        self.awaited = false;
        self.hurried = false;
    }
}

//! One request behind its head: the body on its way into the stream, and the answer that it earns.

use std::time::Instant;

use super::framing::Framing;
use super::head::{Coding, Head, Refusal};
use super::reply::{Reply, ReplyForm};
use super::route::{self, Route};
use crate::reading::Buffer;
use crate::reading::stream::{Intake, Reject, Stream, Taken};
use crate::source::answers::bounded;
use crate::source::inflate::Inflate;
use crate::source::protocol::Now;

/// Upper bound on a form with a statement.
const FORM_BYTES_MAX: usize = 4096;

/// Text after which others are next: a read may hold a thousand times its size.
const TEXT_BYTES_PER_TURN: usize = 512 * 1024;
/// Upper bound on the input of one part: a block may take long to read and give no text.
const INFLATED_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug)]
enum Body {
    Lines,
    /// A statement, in a form.
    Form(Vec<u8>),
    /// Answered already, or of no concern.
    Ignored,
}

/// Cause of a connection's wait, besides input and room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Too many answers are due.
    Answers,
    /// Too many bodies are being inflated.
    Place,
    /// Other connections are next.
    Others,
}

/// How far a body is.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// More has to come.
    More,
    /// The next line waits for room in the queue.
    NoRoom,
    Held(Held),
    /// It is no good. The rest of it is passed over, so that the client reads why.
    Refused(Refusal),
    Whole,
}

#[derive(Debug)]
pub struct Request {
    pub form: ReplyForm,
    pub began: Instant,
    pub statement: Option<String>,
    framing: Framing,
    body: Body,
    is_gzip: bool,
    inflate: Option<Box<Inflate>>,
    /// Why it cannot be inflated.
    damage: Option<&'static str>,
    /// The last byte of the text is in the stream.
    is_whole: bool,
    /// Lines that were rejected, and the first of them.
    rejected: u64,
    first: Option<(u64, String)>,
}

impl Request {
    pub fn new(head: &Head<'_>, route: &Route, form: ReplyForm, now: Instant) -> Self {
        let body = match route {
            Route::Write(_) => Body::Lines,
            Route::Query(_) => Body::Form(Vec::new()),
            Route::Status(_) | Route::Answer(_) => Body::Ignored,
        };
        Request {
            form,
            began: now,
            statement: None,
            framing: Framing::new(head.length),
            // An empty body has no coding, whatever its head says.
            is_gzip: matches!(body, Body::Lines) && head.coding == Coding::Gzip,
            body,
            inflate: None,
            damage: None,
            is_whole: false,
            rejected: 0,
            first: None,
        }
    }

    /// Text that is kept of it. A body that is inflated has one of few places.
    pub fn held_bytes(&self) -> usize {
        let form = match &self.body {
            Body::Form(form) => form.len(),
            Body::Lines | Body::Ignored => 0,
        };
        form + self.statement.as_ref().map_or(0, String::len)
    }

    pub fn inflates(&self) -> bool {
        self.inflate.is_some()
    }

    /// Decodes what is on the wire, and takes its lines.
    pub fn decode(
        &mut self,
        wire: &mut Buffer,
        stream: &mut Stream,
        to: &mut Intake<'_>,
        now: Now,
        reject: Reject<'_>,
    ) -> Result<Decoded, Refusal> {
        if !matches!(self.body, Body::Lines) {
            return self.collect(wire);
        }
        let mut text_bytes = 0;
        while text_bytes < TEXT_BYTES_PER_TURN {
            if self.take(stream, to, now.arrived_ns, reject) == Taken::NoRoom {
                return Ok(Decoded::NoRoom);
            }
            if self.is_whole {
                return Ok(Decoded::Whole);
            }
            if self.is_gzip && self.inflate.is_none() && !self.framing.is_over() {
                let (skip, count) = self.framing.next(wire.waiting())?;
                wire.advance(skip);
                match (count, now.may_inflate) {
                    (0, _) if !self.framing.is_over() => return Ok(Decoded::More),
                    (0, _) => {}
                    (_, false) => return Ok(Decoded::Held(Held::Place)),
                    (_, true) => self.inflate = Some(Inflate::new()),
                }
            }
            let mut part = Ok((0, 0));
            // The memory itself cannot fail.
            let _ = stream.put(|buffer| {
                part = self.next_part(wire, buffer);
                Ok(part.map_or(0, |(_, written)| written))
            });
            let (used, written) = part?;
            if let Some(reason) = self.damage {
                return Ok(self.ignore((400, reason)));
            }
            text_bytes += written;
            if used + written > 0 {
                continue;
            }
            if !self.framing.is_over() {
                return Ok(Decoded::More);
            }
            if self
                .inflate
                .as_ref()
                .is_some_and(|inflate| !inflate.is_whole())
            {
                return Ok(self.ignore((400, "gzip: the body ends within a member")));
            }
            self.is_whole = true;
            stream.end_text();
        }
        Ok(Decoded::Held(Held::Others))
    }

    fn take(
        &mut self,
        stream: &mut Stream,
        to: &mut Intake<'_>,
        arrived_ns: i64,
        reject: Reject<'_>,
    ) -> Taken {
        let before = stream.text_from();
        let (rejected, first) = (&mut self.rejected, &mut self.first);
        to.may_repeat = true;
        let taken = stream.take(to, arrived_ns, &mut |line, text, reason| {
            let line = line - before;
            *rejected += 1;
            first.get_or_insert_with(|| (line, bounded(reason)));
            reject(line, text, reason);
        });
        to.may_repeat = false;
        taken
    }

    /// Decodes the next bytes into `buffer`. Returns how many were used and written: none where more has to come, or
    /// the body is over.
    fn next_part(
        &mut self,
        wire: &mut Buffer,
        buffer: &mut [u8],
    ) -> Result<(usize, usize), Refusal> {
        let (skip, count) = self.framing.next(wire.waiting())?;
        wire.advance(skip);
        let (used, written) = match &mut self.inflate {
            Some(inflate) => {
                let data = &wire.waiting()[..count.min(INFLATED_BYTES_MAX)];
                match inflate.inflate(data, buffer) {
                    Ok(part) => part,
                    Err(reason) => {
                        self.damage = Some(reason);
                        (0, 0)
                    }
                }
            }
            None => {
                let count = count.min(buffer.len());
                buffer[..count].copy_from_slice(&wire.waiting()[..count]);
                (count, count)
            }
        };
        wire.advance(used);
        self.framing.advance(used);
        Ok((used, written))
    }

    fn ignore(&mut self, refusal: Refusal) -> Decoded {
        self.body = Body::Ignored;
        self.inflate = None;
        Decoded::Refused(refusal)
    }

    /// Passes a body that holds no lines.
    fn collect(&mut self, wire: &mut Buffer) -> Result<Decoded, Refusal> {
        loop {
            let (skip, count) = self.framing.next(wire.waiting())?;
            wire.advance(skip);
            if self.framing.is_over() {
                return Ok(Decoded::Whole);
            }
            if count == 0 {
                return Ok(Decoded::More);
            }
            if let Body::Form(form) = &mut self.body {
                if form.len() + count > FORM_BYTES_MAX {
                    return Ok(self.ignore((413, "a statement is longer than 4096 bytes")));
                }
                form.extend_from_slice(&wire.waiting()[..count]);
            }
            wire.advance(count);
            self.framing.advance(count);
        }
    }

    /// The answer to a whole request; `None` where it has one already.
    pub fn reply(self) -> Option<Reply> {
        match (self.body, self.first) {
            (Body::Ignored, _) => None,
            (Body::Form(form), _) => {
                let statement = self.statement.or_else(|| route::statement_of(&form));
                Some(route::answer_query(&statement.unwrap_or_default()))
            }
            (Body::Lines, Some((line, reason))) => {
                Some(Reply::partial(line, &reason, self.rejected))
            }
            (Body::Lines, None) => Some(Reply::empty(204)),
        }
    }
}

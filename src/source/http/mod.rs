//! HTTP as the clients of InfluxDB speak it: each request's lines go through the connection's `Stream`, and 204 is
//! written when the commit that holds all of them is on the disk.
//!
//! A body is decoded and parsed as it comes, so that its size is bounded by time only. Requests of one connection are
//! answered in order. Where a commit does not come within `--http-wait` the connection is closed without an answer:
//! the only thing on which every client that tries again does so. Touches no socket: `Client` reads and writes.

pub mod dues;
pub mod framing;
pub mod head;
pub mod reply;
pub mod request;
pub mod route;

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::reading::Buffer;
use crate::reading::line::Precision;
use crate::reading::stream::{Intake, Reject, Stream};
use dues::{Answer, Due, Dues, Written};
use head::{HEAD_BYTES_MAX, Refusal};
use reply::{Form, Reply, State};
use request::{Decoded, Now, Request};
use route::Route;

/// Requests of one connection that wait for their answers; more are not read.
const PIPELINED_MAX: usize = 64;
/// Upper bound on a read before it is known where the bytes go: a thousand connections may wait there.
const HEAD_READ_BYTES: usize = 2048;
/// Upper bound on the time that a head takes, and between two reads of a body.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Upper bound on the wait for a client to read its answer.
const UNREAD_MAX: Duration = Duration::from_secs(60);
/// What a listener asks of its clients.
#[derive(Debug)]
pub struct Rules {
    pub token: Option<Vec<u8>>,
    pub precision: Precision,
    /// `--http-wait`
    pub wait: Duration,
}

/// Result of a turn.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// More has to come, or an answer is due first.
    Waits,
    /// The next line waits for room in the queue.
    NoRoom,
}

#[derive(Debug)]
enum Step {
    /// Between two requests, or within a head.
    Head,
    Body(Box<Request>),
    /// Nothing more is read. The connection closes when the answers are written.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// Too many answers are due.
    Answers,
    /// Too many bodies are being inflated.
    Place,
    /// Other connections are next.
    Others,
}

#[derive(Debug)]
pub struct Http {
    rules: Rc<Rules>,
    /// Bytes that were read and not decoded yet.
    wire: Buffer,
    step: Step,
    dues: Dues,
    /// What the next request or its body waits for, besides input and room.
    held: Option<Held>,
    /// When the head that is read began to come.
    head_since: Instant,
    /// When something was read, taken or written last.
    active: Instant,
    input_ended: bool,
    /// What is not read whole by now is not waited for.
    is_stopping: bool,
    /// Why the last request was refused, to be logged.
    complaint: Option<String>,
}

impl Http {
    pub fn new(rules: Rc<Rules>, now: Instant) -> Self {
        Http {
            rules,
            wire: Buffer::default(),
            step: Step::Head,
            dues: Dues::default(),
            held: None,
            head_since: now,
            active: now,
            input_ended: false,
            is_stopping: false,
            complaint: None,
        }
    }

    /// All that grows with what a client sends and does not read.
    pub fn held_bytes(&self) -> usize {
        let request = match &self.step {
            Step::Body(request) => request.held_bytes(),
            Step::Head | Step::Over => 0,
        };
        self.wire.waiting().len() + request + self.dues.held_bytes()
    }

    /// It may be read.
    pub fn is_open(&self) -> bool {
        !self.input_ended && self.held.is_none() && !matches!(self.step, Step::Over)
    }

    /// It goes on without input, once something else is free.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// A body waits for a place to be inflated.
    pub fn awaits_place(&self) -> bool {
        self.held == Some(Held::Place)
    }

    /// What it waited for is there.
    pub fn can_go_on(&self, has_place: bool) -> bool {
        match self.held {
            Some(Held::Answers) => self.dues.len() < PIPELINED_MAX,
            Some(Held::Place) => has_place,
            Some(Held::Others) => true,
            None => false,
        }
    }

    /// When the body began that is being inflated.
    pub fn inflates_since(&self) -> Option<Instant> {
        match &self.step {
            Step::Body(request) if request.inflates() => Some(request.began),
            _ => None,
        }
    }

    /// Nothing is due to the client.
    pub fn is_settled(&self) -> bool {
        self.dues.is_empty() && self.held.is_none()
    }

    pub fn take_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    pub fn borrow(&mut self, memory: &mut Vec<u8>) {
        self.wire.borrow(memory);
    }

    pub fn give_back(&mut self, memory: &mut Vec<u8>) {
        self.wire.give_back(memory);
    }

    /// Reads once. No byte is the end of the input.
    pub fn read(
        &mut self,
        now: Instant,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let is_head = matches!(self.step, Step::Head);
        if is_head && self.wire.waiting().is_empty() {
            self.head_since = now;
        }
        let (_, count) = self.wire.fill(|buffer| match is_head {
            true => read(&mut buffer[..HEAD_READ_BYTES]),
            false => read(buffer),
        })?;
        self.active = now;
        self.input_ended |= count == 0;
        Ok(())
    }

    /// The connection is broken.
    pub fn cut(&mut self) {
        self.input_ended = true;
        self.step = Step::Over;
        self.dues = Dues::default();
    }

    /// A request that was not read whole is given up; those before it go on.
    pub fn stop(&mut self, is_blocked: bool) {
        self.is_stopping = true;
        if !is_blocked && self.held.is_none() {
            self.wait_for_input();
        }
    }

    /// Takes what was read, as far as there is room.
    pub fn take(
        &mut self,
        stream: &mut Stream,
        to: &mut Intake<'_>,
        now: Now,
        reject: Reject<'_>,
    ) -> Progress {
        self.held = None;
        loop {
            let step = std::mem::replace(&mut self.step, Step::Over);
            match step {
                Step::Over => {
                    self.wire.forget();
                    return Progress::Waits;
                }
                Step::Head => {
                    self.step = Step::Head;
                    if self.dues.len() >= PIPELINED_MAX {
                        self.held = Some(Held::Answers);
                        return Progress::Waits;
                    }
                    match self.begin(stream, now.time) {
                        Ok(true) => {}
                        Ok(false) => return self.wait_for_input(),
                        Err((status, reason)) => {
                            self.refuse(status, reason, Form::default(), stream, now.time)
                        }
                    }
                }
                Step::Body(mut request) => {
                    let decoded = request.decode(&mut self.wire, stream, to, now, reject);
                    match decoded {
                        Ok(Decoded::Whole) => self.finish(*request, stream, to, now.time),
                        Ok(Decoded::Refused((status, reason))) => {
                            stream.drop_text();
                            let form = request.form;
                            self.answer_error(status, reason, form, stream, now.time);
                            self.step = Step::Body(request);
                        }
                        Ok(decoded) => {
                            self.step = Step::Body(request);
                            match decoded {
                                Decoded::NoRoom => return Progress::NoRoom,
                                Decoded::NoPlace | Decoded::HadItsTurn => {
                                    let is_place = decoded == Decoded::NoPlace;
                                    self.held =
                                        Some(if is_place { Held::Place } else { Held::Others });
                                    return Progress::Waits;
                                }
                                _ => return self.wait_for_input(),
                            }
                        }
                        Err((status, reason)) => {
                            let form = request.form;
                            self.refuse(status, reason, form, stream, now.time);
                        }
                    }
                }
            }
        }
    }

    fn wait_for_input(&mut self) -> Progress {
        if self.input_ended || self.is_stopping {
            self.step = Step::Over;
        }
        Progress::Waits
    }

    /// Begins the next request; false where its head is not whole yet.
    fn begin(&mut self, stream: &mut Stream, now: Instant) -> Result<bool, Refusal> {
        let Some((head, used)) = head::parse(self.wire.waiting())? else {
            return Ok(false);
        };
        let route = route::route(&head, self.rules.token.as_deref());
        let is_final = matches!(route, Route::Answer(_) | Route::Status(_));
        let form = Form {
            is_head: head.method == "HEAD",
            // Whether a body follows that was announced and is refused is the client's choice.
            keeps_alive: head.keeps_alive && !(is_final && head.expects_continue),
            is_old: head.is_old,
        };
        let mut request = Request::new(&head, &route, form, now);
        // Not the query, which may hold the token.
        let path = head.target.split('?').next().unwrap_or_default();
        let complaint = match &route {
            Route::Answer(reply) if reply.status >= 400 => Some(format!(
                "{} {path} is answered with {}",
                head.method, reply.status
            )),
            _ => None,
        };
        let expects = head.expects_continue && !is_final;
        self.wire.advance(used);
        self.head_since = now;
        match route {
            Route::Write(precision) => stream.begin_text(precision.unwrap_or(self.rules.precision)),
            Route::Query(Some(statement)) => request.statement = Some(statement),
            Route::Query(None) => {}
            Route::Status(wanted) => self.due(Answer::Status(wanted), form, stream, now),
            Route::Answer(reply) => {
                self.complaint = complaint;
                self.due(Answer::Reply(reply), form, stream, now);
            }
        }
        if expects {
            self.due(Answer::Continue, form, stream, now);
        }
        self.step = Step::Body(Box::new(request));
        Ok(true)
    }

    /// The request is read whole.
    fn finish(&mut self, request: Request, stream: &mut Stream, to: &mut Intake<'_>, now: Instant) {
        // The next head may have begun to come with the end of this body.
        self.head_since = now;
        self.step = match request.form.keeps_alive {
            true => Step::Head,
            false => Step::Over,
        };
        // Lines before are committed as they come. The last commit syncs them.
        if stream.lines() > stream.marked() {
            stream.mark(to.batch);
        }
        to.batch.hurried |= stream.marked() > self.dues.settled();
        let form = request.form;
        if let Some(reply) = request.reply() {
            self.due(Answer::Reply(reply), form, stream, now);
        }
    }

    /// Answers with an error, behind which nothing can be read.
    fn refuse(&mut self, status: u16, reason: &str, form: Form, stream: &Stream, now: Instant) {
        let form = Form {
            keeps_alive: false,
            ..form
        };
        self.answer_error(status, reason, form, stream, now);
        self.step = Step::Over;
    }

    fn answer_error(
        &mut self,
        status: u16,
        reason: &str,
        form: Form,
        stream: &Stream,
        now: Instant,
    ) {
        let reply = Reply::error(status, reason);
        self.complaint = Some(format!("answered with {status}: {reason}"));
        self.due(Answer::Reply(reply), form, stream, now);
    }

    /// Behind the answers to earlier requests, and to the lines taken so far.
    fn due(&mut self, answer: Answer, form: Form, stream: &Stream, now: Instant) {
        self.dues.push(Due {
            lines: stream.marked(),
            since: now,
            form,
            answer,
        });
    }

    /// So many lines are on the disk.
    pub fn settle(&mut self, lines: u64) {
        self.dues.settle(lines);
    }

    pub fn asks(&self) -> bool {
        self.dues.asks()
    }

    pub fn answer(&mut self, state: &State) {
        self.dues.answer(state);
    }

    pub fn is_ready(&self) -> bool {
        self.dues.is_ready()
    }

    /// Writes as much as `write` takes.
    pub fn flush(&mut self, now: Instant, write: impl FnMut(&[u8]) -> io::Result<usize>) {
        match self.dues.flush(write) {
            Written::Nothing => {}
            Written::Something => self.active = now,
            Written::Failed => self.cut(),
        }
    }

    /// Everything that was read is answered, and nothing more will be read.
    pub fn is_over(&self) -> bool {
        let may_come = !matches!(self.step, Step::Over);
        !may_come && self.dues.is_empty()
    }

    /// When to close, and why, if nothing happens until then. `is_blocked`: lines wait for room.
    pub fn deadline(&self, is_blocked: bool) -> Option<(Instant, &'static str)> {
        let committed = self.dues.unsettled_since();
        let taken = (is_blocked || self.awaits_place()).then_some(self.active);
        let promised = committed.into_iter().chain(taken).min();
        let promised = promised.map(|since| {
            (
                since + self.rules.wait,
                "no commit within --http-wait: the client has to send again",
            )
        });
        let stalled = match &self.step {
            _ if is_blocked || self.held.is_some() || self.input_ended => None,
            Step::Head if !self.wire.waiting().is_empty() => Some(self.head_since),
            Step::Body(_) => Some(self.active),
            _ => None,
        };
        let stalled =
            stalled.map(|since| (since + STALL_MAX, "the rest of its request did not come"));
        let unread = self
            .dues
            .is_unread()
            .then(|| (self.active + UNREAD_MAX, "its answer was not read"));
        [promised, stalled, unread]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests;

const _: () = assert!(HEAD_READ_BYTES <= HEAD_BYTES_MAX);

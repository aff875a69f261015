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
use crate::reading::stream::{Intake, Reject, Stream, Taken};
use crate::source::protocol::{Memory, Now, Protocol, Read, Turn, Write};
use crate::store::ack::Ack;
use dues::{Answer, Due, Dues};
use head::{HEAD_BYTES_MAX, Refusal};
use reply::{Health, Reply, ReplyForm};
use request::{Decoded, Held, Request};
use route::Route;

/// Requests of one connection that wait for their answers; more are not read.
const PIPELINED_MAX: usize = 64;
/// Upper bound on a read before it is known where the bytes go: a thousand connections may wait there.
const HEAD_READ_BYTES: usize = 2048;
/// Upper bound on the time that a head takes, and between two reads of a body.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Upper bound on the wait for a client to read its answer.
const UNREAD_MAX: Duration = Duration::from_secs(60);
/// Rules of a listener for its clients.
#[derive(Debug)]
pub struct Rules {
    pub token: Option<Vec<u8>>,
    pub precision: Precision,
    /// `--http-wait`
    pub wait: Duration,
}

#[derive(Debug)]
enum Stage {
    /// Between two requests, or within a head.
    Head,
    Body(Box<Request>),
    /// Nothing more is read. The connection closes when the answers are written.
    Over,
}

#[derive(Debug)]
pub struct Http {
    rules: Rc<Rules>,
    stream: Stream,
    /// Bytes that were read and not decoded yet.
    wire: Buffer,
    stage: Stage,
    dues: Dues,
    /// Cause of a wait of the next request or its body, besides input and room.
    held: Option<Held>,
    /// When the head that is read began to come.
    head_since: Instant,
    /// When something was read, taken or written last.
    active: Instant,
    input_ended: bool,
    /// A request that is not read whole by now is not waited for.
    is_stopping: bool,
    /// Why the last request was refused, to be logged.
    complaint: Option<String>,
}

impl Http {
    pub fn new(id: u64, rules: Rc<Rules>, now: Instant) -> Self {
        Http {
            // It waits for whole requests only.
            stream: Stream::new(id, rules.precision, false).strict(true),
            rules,
            wire: Buffer::default(),
            stage: Stage::Head,
            dues: Dues::default(),
            held: None,
            head_since: now,
            active: now,
            input_ended: false,
            is_stopping: false,
            complaint: None,
        }
    }

    /// It goes on without input, once something else is free.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// A body waits for a place to be inflated.
    pub fn awaits_place(&self) -> bool {
        self.held == Some(Held::Place)
    }

    /// The cause of the wait has gone.
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
        match &self.stage {
            Stage::Body(request) if request.inflates() => Some(request.began),
            _ => None,
        }
    }

    /// A request that was not read whole is given up; those before it go on.
    pub fn stop(&mut self, is_blocked: bool) {
        self.is_stopping = true;
        if !is_blocked && self.held.is_none() {
            self.wait_for_input();
        }
    }

    fn take_requests(&mut self, to: &mut Intake<'_>, now: Now, reject: Reject<'_>) -> Taken {
        self.held = None;
        loop {
            match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Over => {
                    self.wire.forget();
                    return Taken::All;
                }
                Stage::Head => {
                    self.stage = Stage::Head;
                    if self.dues.len() >= PIPELINED_MAX {
                        self.held = Some(Held::Answers);
                        return Taken::All;
                    }
                    match self.begin(now.time) {
                        Ok(true) => {}
                        Ok(false) => return self.wait_for_input(),
                        Err(refusal) => self.refuse(refusal, ReplyForm::default(), now.time),
                    }
                }
                Stage::Body(mut request) => {
                    let form = request.form;
                    let decoded = request.decode(&mut self.wire, &mut self.stream, to, now, reject);
                    if decoded == Ok(Decoded::Whole) {
                        self.finish(*request, to, now.time);
                        continue;
                    }
                    self.stage = Stage::Body(request);
                    match decoded {
                        Ok(Decoded::Refused(refusal)) => {
                            self.stream.drop_text();
                            self.answer_error(refusal, form, now.time);
                        }
                        Ok(Decoded::Held(held)) => {
                            self.held = Some(held);
                            return Taken::All;
                        }
                        Ok(Decoded::NoRoom) => return Taken::NoRoom,
                        Ok(Decoded::More | Decoded::Whole) => return self.wait_for_input(),
                        Err(refusal) => self.refuse(refusal, form, now.time),
                    }
                }
            }
        }
    }

    fn wait_for_input(&mut self) -> Taken {
        if self.input_ended || self.is_stopping {
            self.stage = Stage::Over;
        }
        Taken::All
    }

    /// The connection is broken.
    fn break_off(&mut self) {
        self.input_ended = true;
        self.stage = Stage::Over;
        self.dues = Dues::default();
    }

    /// Begins the next request; false where its head is not whole yet.
    fn begin(&mut self, now: Instant) -> Result<bool, Refusal> {
        let Some((head, used)) = head::parse(self.wire.waiting())? else {
            return Ok(false);
        };
        let route = route::route(&head, self.rules.token.as_deref());
        let is_final = matches!(route, Route::Answer(_) | Route::Status(_));
        let form = ReplyForm {
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
                "{} {path} is answered with {}: {}",
                head.method,
                reply.status,
                reply.message()
            )),
            _ => None,
        };
        let expects = head.expects_continue && !is_final;
        self.wire.advance(used);
        self.head_since = now;
        match route {
            Route::Write(precision) => {
                let precision = precision.unwrap_or(self.rules.precision);
                self.stream.begin_text(precision);
            }
            Route::Query(Some(statement)) => request.statement = Some(statement),
            Route::Query(None) => {}
            Route::Status(wanted) => self.due(Answer::Status(wanted), form, now),
            Route::Answer(reply) => {
                self.complaint = complaint;
                self.due(Answer::Reply(reply), form, now);
            }
        }
        if expects {
            self.due(Answer::Continue, form, now);
        }
        self.stage = Stage::Body(Box::new(request));
        Ok(true)
    }

    /// The request is read whole.
    fn finish(&mut self, request: Request, to: &mut Intake<'_>, now: Instant) {
        // The next head may have begun to come with the end of this body.
        self.head_since = now;
        self.stage = match request.form.keeps_alive {
            true => Stage::Head,
            false => Stage::Over,
        };
        // Lines before are committed as they come. The last commit syncs them.
        if self.stream.lines() > self.stream.marked() {
            self.stream.mark(to.batch);
        }
        to.batch.hurried |= self.stream.marked() > self.dues.settled();
        let form = request.form;
        if let Some(reply) = request.reply() {
            self.due(Answer::Reply(reply), form, now);
        }
    }

    /// Answers with an error, behind which nothing can be read.
    fn refuse(&mut self, refusal: Refusal, form: ReplyForm, now: Instant) {
        let form = ReplyForm {
            keeps_alive: false,
            ..form
        };
        self.answer_error(refusal, form, now);
        self.stage = Stage::Over;
    }

    fn answer_error(&mut self, (status, reason): Refusal, form: ReplyForm, now: Instant) {
        self.complaint = Some(format!("answered with {status}: {reason}"));
        self.due(Answer::Reply(Reply::error(status, reason)), form, now);
    }

    /// Behind the answers to earlier requests, and to the lines taken so far.
    fn due(&mut self, answer: Answer, form: ReplyForm, now: Instant) {
        self.dues.push(Due {
            lines: self.stream.marked(),
            since: now,
            form,
            answer,
        });
    }

    /// So many lines are on the disk.
    pub fn settle(&mut self, lines: u64) {
        self.dues.settle(lines);
    }

    /// The next answer is the health or the metrics.
    pub fn asks(&self) -> bool {
        self.dues.asks()
    }

    pub fn answer(&mut self, health: &Health) {
        self.dues.answer(health);
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
        let stalled = match &self.stage {
            _ if is_blocked || self.held.is_some() || self.input_ended => None,
            Stage::Head if !self.wire.waiting().is_empty() => Some(self.head_since),
            Stage::Body(_) => Some(self.active),
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

impl Protocol for Http {
    fn held_bytes(&self) -> usize {
        let request = match &self.stage {
            Stage::Body(request) => request.held_bytes(),
            Stage::Head | Stage::Over => 0,
        };
        let waiting = self.wire.waiting().len() + self.stream.waiting().len();
        waiting + request + self.dues.held_bytes()
    }

    fn is_open(&self) -> bool {
        !self.input_ended && self.held.is_none() && !matches!(self.stage, Stage::Over)
    }

    fn is_idle(&self, _: Duration) -> bool {
        self.dues.is_empty() && self.held.is_none()
    }

    fn borrow(&mut self, memory: &mut Memory) {
        self.stream.borrow(&mut memory.lines);
        self.wire.borrow(&mut memory.wire);
    }

    fn give_back(&mut self, memory: &mut Memory) {
        self.stream.give_back(&mut memory.lines);
        self.wire.give_back(&mut memory.wire);
    }

    fn read(&mut self, now: Instant, read: Read<'_>) -> io::Result<()> {
        let is_head = matches!(self.stage, Stage::Head);
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

    fn cut(&mut self, _: Instant, _: &io::Error) {
        self.break_off();
    }

    fn take(&mut self, to: &mut Intake<'_>, now: Now, reject: Reject<'_>) -> Turn {
        match self.take_requests(to, now, reject) {
            Taken::NoRoom => Turn::NoRoom,
            Taken::All => self.complaint.take().map_or(Turn::Done, Turn::Refused),
        }
    }

    fn put(&mut self, ack: Ack) {
        self.settle(ack.lines());
    }

    fn has_answer(&self) -> bool {
        self.dues.is_ready()
    }

    fn flush(&mut self, now: Instant, write: Write<'_>) {
        match self.dues.flush(write) {
            Ok(false) => {}
            Ok(true) => self.active = now,
            Err(_) => self.break_off(),
        }
    }

    fn is_over(&mut self, _: Instant) -> bool {
        matches!(self.stage, Stage::Over) && self.dues.is_empty()
    }

    fn gives_up(&self, is_blocked: bool) -> Option<Instant> {
        self.deadline(is_blocked).map(|(at, _)| at)
    }

    fn forget(&mut self) {
        self.stream.forget();
    }
}

const _: () = assert!(HEAD_READ_BYTES <= HEAD_BYTES_MAX);

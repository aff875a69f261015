//! The one bounded queue between the thread that takes readings and the thread that commits them.
//!
//! It holds whole lines in order and hands all of them to the writer at once, so a line is never
//! split over two commits. Readings in the writer's hands count as held until they are committed.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::reading::Batch;
use crate::reading::stream::Room;
use crate::record::stop::Stop;

/// Text of readings in memory, and names of series that are new in them; either can be as long as a line.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Upper bound on readings of streams, which can wait: enough to keep the writer busy, and few enough to be
/// committed within a stop.
const STREAM_ROWS_AHEAD: usize = 8192;
/// Minimum interval between commits that hellos bring forward: each writes pages, and a hello is a few bytes.
const HURRY_PERIOD: Duration = Duration::from_millis(100);
/// Upper bound on marks, names and hellos that wait for a commit, those of closed connections included.
const STREAMS_WAITING_MAX: usize = 4096;

const _: () = assert!(TEXT_BYTES_MAX >= 2 * crate::reading::line::LINE_BYTES_MAX);

/// When waiting readings are committed.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub interval: Duration,
    pub rows: usize,
}

/// When a batch of `rows` rows is due; `oldest` is the time of its first row. `None` for an empty batch.
fn due(now: Instant, oldest: Option<Instant>, rows: usize, policy: Policy) -> Option<Instant> {
    let oldest = oldest?;
    if rows >= policy.rows {
        return Some(now);
    }
    Some(oldest.checked_add(policy.interval).unwrap_or(now))
}

/// A client sends nothing more before its hello or its request is answered, and nobody new is accepted while
/// too much of connections waits.
fn is_awaited(batch: &Batch) -> bool {
    batch.hurried || !batch.hellos().is_empty() || batch.streams() >= STREAMS_WAITING_MAX
}

/// Next task of the writer.
#[derive(Debug)]
pub enum Order {
    /// The batch given to `next` was filled.
    Commit,
    /// SIGUSR1 came.
    Checkpoint,
    /// `wake` has passed.
    Woken,
    /// The queue is empty and closed.
    Finish,
}

#[derive(Default)]
struct Inner {
    pending: Batch,
    oldest: Option<Instant>,
    /// When a hello may bring a commit forward again.
    hurry_again: Option<Instant>,
    in_hand_rows: usize,
    in_hand_text: usize,
    room_wanted: bool,
    /// The last order was no commit, so a due commit is next.
    commit_is_next: bool,
    checkpoint_wanted: bool,
    /// Set when the process is to end; all pending readings are due from then on.
    stop: Option<Stop>,
    /// Nothing more will be pushed.
    is_closed: bool,
}

impl Inner {
    fn room(&self, rows_max: usize) -> Room {
        let rows = self.pending.rows().len() + self.in_hand_rows;
        let text = self.pending.text_bytes() + self.in_hand_text;
        Room {
            rows: rows_max.saturating_sub(rows),
            text_bytes: TEXT_BYTES_MAX.saturating_sub(text),
        }
    }
}

pub struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
    rows_max: usize,
    policy: Policy,
}

impl Queue {
    pub fn new(rows_max: usize, policy: Policy) -> Self {
        Queue {
            inner: Mutex::default(),
            changed: Condvar::new(),
            rows_max,
            policy,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing below panics halfway through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readings in memory: waiting or being committed.
    pub fn held(&self) -> usize {
        let inner = self.lock();
        inner.pending.rows().len() + inner.in_hand_rows
    }

    /// Whether new connections may be accepted: what each leaves to be committed takes memory.
    pub fn may_accept(&self) -> bool {
        self.lock().pending.streams() < STREAMS_WAITING_MAX
    }

    /// Upper bound on readings held.
    pub fn rows_max(&self) -> usize {
        self.rows_max
    }

    /// Room for a source that cannot wait.
    pub fn room(&self) -> Room {
        self.lock().room(self.rows_max)
    }

    /// Room for a source that can.
    pub fn stream_room(&self) -> Room {
        let inner = self.lock();
        let room = inner.room(self.rows_max);
        let waiting = inner.pending.rows().len();
        let ahead = STREAM_ROWS_AHEAD.max(2 * self.policy.rows);
        Room {
            // An empty queue takes any line that it can hold.
            rows: if waiting == 0 {
                room.rows
            } else {
                room.rows.min(ahead.saturating_sub(waiting))
            },
            ..room
        }
    }

    /// A line waits for room: what is pending is committed now.
    pub fn want_room(&self) {
        self.lock().room_wanted = true;
        self.changed.notify_one();
    }

    /// Takes everything out of `batch`; its memory stays with it.
    pub fn push(&self, batch: &mut Batch, now: Instant) {
        if batch.is_empty() && batch.definitions().is_empty() && !batch.hurried {
            return;
        }
        let mut inner = self.lock();
        let before = inner.pending.rows().len();
        let was_idle = inner.oldest.is_none();
        let was_awaited = is_awaited(&inner.pending);
        inner.pending.append(batch);
        inner.pending.hurried &= !inner.pending.is_empty();
        if was_idle && !inner.pending.is_empty() {
            inner.oldest = Some(now);
        }
        let after = inner.pending.rows().len();
        let is_urgent = !was_awaited && is_awaited(&inner.pending);
        if was_idle || is_urgent || (before < self.policy.rows && after >= self.policy.rows) {
            self.changed.notify_one();
        }
    }

    pub fn want_checkpoint(&self) {
        self.lock().checkpoint_wanted = true;
        self.changed.notify_one();
    }

    pub fn stop(&self, stop: Stop) {
        self.lock().stop = Some(stop);
        self.changed.notify_one();
    }

    /// Another signal came.
    pub fn signal_again(&self, now: Instant) {
        if let Some(stop) = &mut self.lock().stop {
            stop.signal(now);
        }
    }

    /// The stop that has begun, as both threads know it.
    pub fn stopping(&self) -> Option<Stop> {
        self.lock().stop
    }

    /// Nothing more will be pushed.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Waits for the next order. `batch` is empty and receives the readings to commit.
    pub fn next(&self, batch: &mut Batch, wake: Option<Instant>) -> Order {
        let mut inner = self.lock();
        loop {
            let now = Instant::now();
            let is_stopping = inner.stop.is_some();
            let wake = wake.filter(|_| !is_stopping);
            let rows = inner.pending.rows().len();
            let mut due = due(now, inner.oldest, rows, self.policy);
            if !inner.pending.hellos().is_empty() {
                // A lookup without a commit writes nothing.
                let again = inner.hurry_again.filter(|_| inner.pending.has_data());
                due = due.map(|due| due.min(again.unwrap_or(now)));
            }
            let is_crowded = inner.pending.streams() >= STREAMS_WAITING_MAX;
            let is_urgent = is_stopping || inner.room_wanted || is_crowded || inner.pending.hurried;
            let is_due = due.is_some_and(|due| due <= now || is_urgent);
            // Commits and checkpoints take turns, so neither starves.
            if !is_due || !inner.commit_is_next {
                let wanted = std::mem::take(&mut inner.checkpoint_wanted);
                let woken = wake.is_some_and(|wake| wake <= now);
                inner.commit_is_next = wanted || woken;
                if wanted {
                    return Order::Checkpoint;
                }
                if woken {
                    return Order::Woken;
                }
            }
            if is_due {
                inner.commit_is_next = false;
                if !inner.pending.hellos().is_empty() && inner.pending.has_data() {
                    inner.hurry_again = Some(now + HURRY_PERIOD);
                }
                std::mem::swap(&mut inner.pending, batch);
                inner.oldest = None;
                inner.in_hand_rows = batch.rows().len();
                inner.in_hand_text = batch.text_bytes();
                return Order::Commit;
            }
            if inner.is_closed {
                return Order::Finish;
            }
            let until = match (due, wake) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            inner = match until {
                Some(until) => {
                    let wait = until.saturating_duration_since(now);
                    let waited = self.changed.wait_timeout(inner, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.changed.wait(inner);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    /// The batch that `next` returned is committed.
    pub fn done(&self) {
        let mut inner = self.lock();
        inner.in_hand_rows = 0;
        inner.in_hand_text = 0;
        inner.room_wanted = false;
    }

    /// Waits before a retry; a stop shortens the wait.
    pub fn pause(&self, wait: Duration) {
        let inner = self.lock();
        if inner.stop.is_none() {
            drop(
                self.changed
                    .wait_timeout_while(inner, wait, |inner| inner.stop.is_none()),
            );
        } else {
            drop(inner);
            std::thread::sleep(wait.min(RETRY_WHILE_STOPPING));
        }
    }
}

/// Interval between retries of a failed commit during a stop.
const RETRY_WHILE_STOPPING: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Hello, Value};

    const POLICY: Policy = Policy {
        interval: Duration::from_secs(1),
        rows: 10,
    };

    fn rows(n: usize) -> Batch {
        let mut batch = Batch::default();
        for i in 0..n {
            batch.push(i as i64, 0, Value::Real(0.0));
        }
        batch
    }

    #[test]
    fn readings_in_the_writers_hand_take_room_until_they_are_committed() {
        let queue = Queue::new(20, POLICY);
        queue.push(&mut rows(12), Instant::now());
        assert_eq!(queue.room().rows, 8);
        let mut batch = Batch::default();
        assert!(matches!(queue.next(&mut batch, None), Order::Commit));
        assert_eq!(
            (batch.rows().len(), queue.room().rows, queue.held()),
            (12, 8, 12)
        );
        queue.want_room();
        queue.done();
        assert_eq!((queue.room().rows, queue.held()), (20, 0));
    }

    #[test]
    fn commits_and_checkpoints_take_turns() {
        let queue = Queue::new(20, Policy { rows: 1, ..POLICY });
        let past = Some(Instant::now());
        let mut batch = Batch::default();
        let mut orders = String::new();
        for _ in 0..3 {
            queue.push(&mut rows(1), Instant::now());
            for _ in 0..2 {
                match queue.next(&mut batch, past) {
                    Order::Commit => {
                        batch.clear();
                        orders.push('c');
                    }
                    _ => orders.push('w'),
                }
            }
        }
        assert_eq!(orders, "wcwcwc");
    }

    #[test]
    fn hellos_bring_commits_forward_only_now_and_then() {
        let queue = Queue::new(20, POLICY);
        let greet = |mut batch: Batch| {
            batch.hello(Hello {
                stream: 1,
                name: "a".into(),
                uid: None,
            });
            queue.push(&mut batch, Instant::now());
        };
        let mut batch = Batch::default();
        // A commit that is due comes within two orders, and the other is to look around.
        let mut is_committed = || {
            let past = Some(Instant::now());
            let is_due = (0..2).any(|_| matches!(queue.next(&mut batch, past), Order::Commit));
            batch.clear();
            is_due
        };
        greet(rows(1));
        assert!(is_committed());
        let again = queue.lock().hurry_again.expect("the next has to wait");
        let later = again + Duration::from_secs(3600);
        queue.lock().hurry_again = Some(later);
        // A lookup writes nothing.
        greet(Batch::default());
        assert!(is_committed());
        greet(rows(1));
        queue.lock().oldest = Some(later);
        assert!(!is_committed());
        queue.lock().hurry_again = Some(again - HURRY_PERIOD);
        assert!(is_committed());
    }
}

//! Recording: the thread that takes readings and listens to signals (`recorder`), the thread that owns the
//! database (`writer`), and what they share: the queue one way, the exchange (`progress`) the other. A `sysfs` source has
//! a thread besides, which hands its samples to the first (`sampler`).
//!
//! A reading, from the socket to the ack:
//!
//! 1. `Recorder::wait` (recorder.rs): the socket is readable.
//! 2. `Recorder::take`, `Sockets::take`, `Client::turn` (source/): one read, whole lines.
//! 3. `Stream::take` (reading/stream.rs): a line is parsed and put into the staged batch, or rejected.
//! 4. `Staging::push` (staging.rs), `Queue::push` (queue.rs): the batch waits until it is due.
//! 5. `Queue::next`, `Writer::commit` (writer.rs), `Db::commit` (store/): one transaction; `Committed`.
//! 6. `Writer::settle`: an `Ack` from the `Committed`, into the `Mail` (progress.rs); the bell rings.
//! 7. `Recorder::hear_writer`, `Sockets::put`, `Answers::flush` (source/answers.rs): `ack N` is written.
//!
//! A SIGTERM, from the handler to the exit status:
//!
//! 1. `sys::note`: the handler stores one flag; `sys::wait` returns.
//! 2. `Recorder::hear_signals`: a `Stop` (stop.rs) with its one deadline, held by the queue for both threads.
//! 3. `Recorder::take_streams`, `Recorder::close_drained_queue`: all that was read goes into the queue.
//! 4. `Queue::next`: what is pending is committed first, then the order to finish.
//! 5. `Writer::finish` and `Writer::close` (ending.rs): the run is ended, the WAL copied, the file closed.
//! 6. `Recorder::hear_writer`: the last acks, until the last step is done or the deadline has come.
//! 7. `Recorder::leave`, `Outcome` (outcome.rs): the last line of the log and the exit status.

pub mod ending;
pub mod expiry;
pub mod notify;
pub mod opening;
pub mod outcome;
pub mod progress;
pub mod queue;
pub mod recorder;
pub mod retry;
pub mod sampler;
pub mod settings;
pub mod staging;
pub mod status;
pub mod stop;
pub mod terminal;
pub mod writer;

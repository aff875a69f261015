//! What happens in one start of the recorder: all of it drawn from the seed and the number of the start, so
//! that a start can be had again. How far the recorder comes in the given time is the machine's to say.

use fastrand::Rng;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// SIGKILL, so many microseconds after the process was made.
    KillStarting(u64),
    /// SIGKILL, so many microseconds after the first line was sent.
    KillRecording(u64),
    /// A stop signal after the first time, SIGKILL after the second.
    KillStopping(i32, u64, u64),
    Stop(i32, u64),
    /// A stop signal, and another one so many microseconds after it.
    StopTwice(i32, u64, i32, u64),
    /// The end of the input.
    Input,
}

/// What another process does while the recorder records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Beside {
    Nothing,
    /// A reader that does not end its transaction for so many starts more.
    Pin(u64),
    /// Opens, reads and closes.
    Touch,
    /// Holds the write lock for so many milliseconds.
    Lock(u64),
    /// SIGUSR1 to the recorder.
    AskForCheckpoint,
    /// `seawall checkpoint` in this mode.
    Checkpoint(&'static str),
    /// Takes all room on the disk; true: and gives it back before the end.
    Fill(bool),
}

/// What happens to the file while no recorder runs, before the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Before {
    Nothing,
    /// Another tool opens, reads and closes: as the last user it empties the WAL and deletes it.
    Touch,
    Checkpoint(&'static str),
    Check,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub number: u64,
    pub before: Before,
    pub options: String,
    pub beside: Beside,
    pub end: End,
    /// Lines sent at most.
    pub lines: u64,
    pub simulated: bool,
    /// For the sender.
    pub seed: u64,
}

const STOPS: [i32; 5] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGPWR,
];
const MODES: [&str; 4] = ["passive", "full", "restart", "truncate"];

fn one<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(0..of.len())]
}

impl Plan {
    pub fn new(seed: u64, number: u64) -> Self {
        let rng = &mut Rng::with_seed(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .wrapping_add(number),
        );
        let before = match rng.u8(0..100) {
            0..8 => Before::Touch,
            8..10 => Before::Checkpoint(one(rng, &MODES)),
            10 => Before::Check,
            _ => Before::Nothing,
        };
        let recording_us = rng.u64(0..30_000);
        let end = match rng.u8(0..100) {
            0..18 => End::KillStarting(rng.u64(0..15_000)),
            18..80 => End::KillRecording(recording_us),
            80..90 => End::KillStopping(one(rng, &STOPS), recording_us, rng.u64(0..6_000)),
            90..95 => End::Stop(one(rng, &STOPS), recording_us),
            95..98 => {
                let (first, second) = (one(rng, &STOPS), one(rng, &STOPS));
                End::StopTwice(first, recording_us, second, rng.u64(0..4_000))
            }
            _ => End::Input,
        };
        let beside = match rng.u8(0..100) {
            0..5 => Beside::Pin(rng.u64(0..4)),
            5..10 => Beside::Touch,
            10..14 => Beside::Lock(rng.u64(0..20)),
            14..19 => Beside::AskForCheckpoint,
            19..21 => Beside::Checkpoint(one(rng, &MODES)),
            21..23 => Beside::Fill(rng.bool()),
            _ => Beside::Nothing,
        };
        // So that a stop which a reader holds up does not hold up the torture.
        let mut options = "--source stdin --ack --stop-timeout 1s".to_owned();
        options += one(
            rng,
            &[
                "",
                " --commit-interval 0",
                " --commit-interval 1ms",
                " --commit-interval 10ms",
            ],
        );
        options += one(rng, &["", " --commit-rows 20"]);
        options += one(rng, &["", " --queue-rows 50"]);
        options += one(rng, &["", " --synchronous full", " --synchronous normal"]);
        options += one(
            rng,
            &[
                "",
                "",
                " --wal-autocheckpoint 5",
                " --wal-autocheckpoint 50",
                " --wal-autocheckpoint 0 --checkpoint-interval 0",
                " --checkpoint-interval 5ms",
                " --checkpoint-interval 5ms --checkpoint-mode truncate",
                " --checkpoint-interval 5ms --checkpoint-mode restart",
            ],
        );
        let simulated = rng.u8(0..8) == 0;
        if simulated {
            options += " --source sim:sensors=3,rate=300";
        }
        Plan {
            number,
            before,
            options,
            beside,
            end,
            lines: one(rng, &[20, 200, 400]),
            simulated,
            seed: rng.u64(..),
        }
    }
}

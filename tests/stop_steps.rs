//! Guards against a stop that forgets its deadline, or a signal that costs a commit: the steps of a stop, by themselves.

use std::time::{Duration, Instant};

use seawall::record::stop::{Step, Stop, StopReason};
use seawall::sys::signals::Signal;

/// Two signals within this time are one, as `timeout` sends it.
const SAME_SIGNAL: Duration = Duration::from_millis(200);
const TIMEOUT: Duration = Duration::from_secs(5);

fn signalled(start: Instant, timeout: Duration) -> Stop {
    Stop::new(StopReason::Signal(Signal::Term), start, timeout)
}

#[test]
fn the_deadline_leaves_time_to_say_so() {
    let start = Instant::now();
    let stop = signalled(start, TIMEOUT);
    let deadline = start + Duration::from_millis(4900);
    assert_eq!(stop.next_look(start), Some(deadline));
    assert!(!stop.is_over(Step::EndRun, start) && stop.is_over(Step::EndRun, deadline));
    assert_eq!(stop.patience(deadline), Duration::ZERO);
    let hasty = signalled(start, Duration::from_millis(100));
    assert_eq!(
        hasty.next_look(start),
        Some(start + Duration::from_millis(80))
    );
}

#[test]
fn the_end_of_input_waits_for_the_commit_until_a_signal_comes() {
    let start = Instant::now();
    let mut stop = Stop::new(StopReason::Eof, start, TIMEOUT);
    let later = start + Duration::from_secs(3600);
    assert!(!stop.is_over(Step::Record, later));
    assert_eq!(stop.next_look(later), None);
    assert_eq!(stop.patience(later), TIMEOUT / 2);
    stop.signal(later);
    assert!(!stop.is_over(Step::Record, later));
    assert!(stop.is_over(Step::Record, later + TIMEOUT));
}

#[test]
fn a_second_signal_drops_the_checkpoint_and_never_the_commit() {
    let start = Instant::now();
    let soon = start + Duration::from_secs(1);
    let mut stop = signalled(start, TIMEOUT);
    assert!(!stop.is_over(Step::Checkpoint, soon));
    stop.signal(soon);
    assert!(stop.is_over(Step::Checkpoint, soon));
    assert!(!stop.is_over(Step::EndRun, soon));
    assert!(stop.is_over(Step::EndRun, start + TIMEOUT));
}

#[test]
fn one_signal_that_comes_twice_is_one_signal() {
    let start = Instant::now();
    let mut stop = signalled(start, TIMEOUT);
    stop.signal(start);
    assert!(!stop.is_over(Step::Checkpoint, start));
    assert_eq!(stop.next_look(start), Some(start + SAME_SIGNAL));
    // Also where the input has ended long before.
    let later = start + Duration::from_secs(60);
    let mut stop = Stop::new(StopReason::Eof, start, TIMEOUT);
    stop.signal(later);
    stop.signal(later);
    assert!(!stop.is_over(Step::Checkpoint, later));
    assert_eq!(stop.next_look(later), Some(later + SAME_SIGNAL));
}

//! How old readings are, for retention. The clock of a device may be wrong, and so may the times that senders give,
//! so that age by the clock alone never deletes what is young.
//!
//! The file has a second measure: the running time, for which recorders had it open, over all runs. It stands in
//! each run's row and in each span. Nothing goes by age that was recorded in the last day of running time. After a step
//! of the clock, a day of running time has to pass before ages by the clock count again; a span that is too old by
//! running time alone goes meanwhile.

use std::time::{Duration, Instant};

use crate::sys;

/// Running time in which nothing goes by age, and after which a clock that was set is trusted.
pub const DAY: Duration = Duration::from_secs(DAY_S as u64);
const DAY_S: i64 = 86_400;
/// A smaller step is corrected often, and makes no difference to an age in days.
const STEP_NS: i64 = 60 * 1_000_000_000;
/// A device may be off for so long; a clock that was further ahead at a start may be wrong.
const OFF_NS: i64 = DAY_S * 1_000_000_000;

/// One moment by the steady clock and by the system clock.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub at: Instant,
    pub clock_ns: i64,
    /// The system clock less the time since boot, which also counts while the machine is suspended. `None` where
    /// they could not be read together.
    pub offset_ns: Option<i64>,
}

impl Moment {
    pub fn now() -> Self {
        let (at, clock_ns) = sys::moment();
        Moment {
            at,
            clock_ns,
            offset_ns: sys::clock_offset_ns(),
        }
    }
}

/// The part of a run's row that is about time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunTimes {
    /// Seconds for which recorders had the file open, over all runs.
    pub running_s: i64,
    /// `running_s` at the last step of the clock.
    pub steady_from_s: i64,
    /// System clock at the last commit.
    pub seen_ns: i64,
}

/// Whether readings may go by their age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AgeVerdict {
    Young,
    /// Too old by a clock that was set less than a day of running time ago.
    Held,
    Old,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Age {
    /// As of the last look.
    times: RunTimes,
    /// Running time before this run.
    before_s: i64,
    began: Option<Instant>,
    offset_ns: Option<i64>,
}

impl Age {
    /// At the start of a run, after the one that left `last`. `boot_ns` is the time since boot.
    pub fn begin(last: Option<RunTimes>, now_ns: i64, boot_ns: i64) -> Self {
        let is_set = |last: RunTimes| {
            let passed_ns = now_ns.saturating_sub(last.seen_ns);
            !(-STEP_NS..=OFF_NS).contains(&passed_ns)
        };
        let before_s = last.map_or(0, |last| last.running_s.max(0));
        let steady_from_s = match last {
            Some(last) if !is_set(last) => last.steady_from_s,
            _ => before_s,
        };
        Age {
            times: RunTimes {
                running_s: before_s,
                steady_from_s,
                seen_ns: now_ns,
            },
            before_s,
            began: None,
            offset_ns: Some(now_ns.saturating_sub(boot_ns)),
        }
    }

    pub fn times(&self) -> RunTimes {
        self.times
    }

    /// Looks at both clocks.
    pub fn tick(&mut self, now: Moment) {
        let began = *self.began.get_or_insert(now.at);
        let ran = now.at.saturating_duration_since(began);
        self.times.running_s = self.before_s.saturating_add(seconds(ran));
        self.times.seen_ns = now.clock_ns;
        if let (Some(before), Some(offset)) = (self.offset_ns, now.offset_ns)
            && offset.abs_diff(before) > STEP_NS as u64
        {
            self.times.steady_from_s = self.times.running_s;
        }
        self.offset_ns = now.offset_ns.or(self.offset_ns);
    }

    /// Whether ages by the clock count.
    pub fn is_steady(&self) -> bool {
        self.times
            .running_s
            .saturating_sub(self.times.steady_from_s)
            >= DAY_S
    }

    /// Judges readings that were recorded at this running time, with times up to `newest_ns`.
    pub fn judge(&self, recorded_s: i64, newest_ns: i64, retain: Duration) -> AgeVerdict {
        let ago_s = self.times.running_s.saturating_sub(recorded_s);
        let is_old_by_clock = newest_ns < self.cutoff_ns(retain);
        match (is_old_by_clock, self.is_steady()) {
            _ if ago_s < DAY_S => AgeVerdict::Young,
            _ if ago_s >= seconds(retain) => AgeVerdict::Old,
            (true, true) => AgeVerdict::Old,
            (true, false) => AgeVerdict::Held,
            (false, _) => AgeVerdict::Young,
        }
    }

    /// The time before which readings are too old by the clock.
    pub fn cutoff_ns(&self, retain: Duration) -> i64 {
        let retain_ns = i64::try_from(retain.as_nanos()).unwrap_or(i64::MAX);
        self.times.seen_ns.saturating_sub(retain_ns)
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;
    const MONTH: Duration = Duration::from_secs(30 * 86_400);
    /// 2026.
    const NOW_S: i64 = 1_790_000_000;

    /// A file on which recorders have run for 100 days, with a clock that is right.
    fn steady() -> Age {
        let last = RunTimes {
            running_s: 100 * DAY_S,
            steady_from_s: 0,
            seen_ns: NOW_S * S,
        };
        Age::begin(Some(last), (NOW_S + 60) * S, 60 * S)
    }

    /// So many seconds later, with the clock set by `step_s`.
    fn tick(age: &mut Age, began: Instant, after_s: i64, step_s: i64) {
        age.tick(Moment {
            at: began + Duration::from_secs(after_s as u64),
            clock_ns: (NOW_S + 60 + after_s + step_s) * S,
            offset_ns: Some((NOW_S + step_s) * S),
        });
    }

    #[test]
    fn what_was_recorded_in_the_last_day_of_running_time_never_goes() {
        let (mut age, began) = (steady(), Instant::now());
        tick(&mut age, began, 10, 0);
        assert!(age.is_steady());
        assert_eq!(age.judge(99 * DAY_S, S, MONTH), AgeVerdict::Old);
        assert_eq!(age.judge(99 * DAY_S + 11, S, MONTH), AgeVerdict::Young);
        assert_eq!(
            age.judge(90 * DAY_S, (NOW_S - 29 * DAY_S) * S, MONTH),
            AgeVerdict::Young
        );
        assert_eq!(
            age.judge(90 * DAY_S, (NOW_S - 31 * DAY_S) * S, MONTH),
            AgeVerdict::Old
        );
        // Even where less is to be kept.
        assert_eq!(
            age.judge(100 * DAY_S, S, Duration::from_secs(1)),
            AgeVerdict::Young
        );
    }

    #[test]
    fn a_step_of_the_clock_holds_ages_by_the_clock_for_a_day() {
        for step_s in [40 * DAY_S, -40 * DAY_S, 61] {
            let (mut age, began) = (steady(), Instant::now());
            tick(&mut age, began, 10, 0);
            tick(&mut age, began, 20, step_s);
            let old = (90 * DAY_S, S, MONTH);
            assert_eq!(age.judge(old.0, old.1, old.2), AgeVerdict::Held);
            // Too old by running time alone.
            assert_eq!(age.judge(70 * DAY_S, NOW_S * S, MONTH), AgeVerdict::Old);
            tick(&mut age, began, DAY_S, step_s);
            assert_eq!(age.judge(old.0, old.1, old.2), AgeVerdict::Held);
            // Set back to what is right: a day begins anew.
            tick(&mut age, began, DAY_S + 5, 0);
            tick(&mut age, began, 2 * DAY_S, 0);
            assert!(!age.is_steady());
            tick(&mut age, began, 2 * DAY_S + 5, 0);
            assert_eq!(age.judge(old.0, old.1, old.2), AgeVerdict::Old);
        }
        let (mut age, began) = (steady(), Instant::now());
        tick(&mut age, began, 10, 0);
        tick(&mut age, began, 20, 2);
        assert!(age.is_steady());
    }

    #[test]
    fn a_clock_that_was_set_while_nobody_recorded_is_noticed_at_the_start() {
        let last = steady().times();
        let at = |passed_s: i64| {
            let start_ns = last.seen_ns + passed_s * S;
            Age::begin(Some(last), start_ns, 0).times()
        };
        for passed_s in [-1, 0, 3_600, DAY_S - 1] {
            assert_eq!(at(passed_s).steady_from_s, 0, "{passed_s}");
        }
        for passed_s in [-61, -45 * DAY_S, DAY_S + 1, 40 * DAY_S] {
            let times = at(passed_s);
            assert_eq!(times.steady_from_s, 100 * DAY_S, "{passed_s}");
            // Kept over starts.
            let again = Age::begin(Some(times), times.seen_ns + S, 0);
            assert_eq!(again.times().steady_from_s, 100 * DAY_S);
        }
    }

    #[test]
    fn times_in_the_future_do_not_keep_readings_for_ever() {
        let (mut age, began) = (steady(), Instant::now());
        tick(&mut age, began, 0, 0);
        let in_2106 = 4_294_967_296 * S;
        assert_eq!(age.judge(71 * DAY_S, in_2106, MONTH), AgeVerdict::Young);
        assert_eq!(age.judge(70 * DAY_S, in_2106, MONTH), AgeVerdict::Old);
    }
}

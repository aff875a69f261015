//! Makes the status report from the state of both threads: the state, and whether it is healthy. Pure but for
//! the time.

use std::path::Path;
use std::time::{Duration, Instant};

use super::report::Report;
use crate::reading::Counts;
use crate::record::progress::Progress;
use crate::record::stop::Step;
use crate::store;

/// A commit or a checkpoint that fails or hangs for longer than this makes the recorder unhealthy.
pub const HEALTH_LIMIT: Duration = Duration::from_secs(10);

/// State of the recorder's thread.
pub struct Facts<'a> {
    pub db: &'a Path,
    pub began: Instant,
    pub is_stopping: bool,
    pub sources: usize,
    /// `sysfs` sources without a sensor that can be read.
    pub blind_sources: usize,
    pub counts: Counts,
    pub queued: usize,
    pub queue_max: usize,
    pub written_bytes: Option<u64>,
    /// State of the writer.
    pub progress: &'a Progress,
}

/// For how long no commit was possible.
fn waiting(progress: &Progress, now: Instant) -> Duration {
    let since = match (&progress.trouble, progress.busy_since) {
        (Some(trouble), _) => Some(trouble.since),
        (None, busy) => busy,
    };
    since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
}

fn reasons(facts: &Facts, now: Instant) -> Vec<String> {
    let progress = facts.progress;
    let waiting = waiting(progress, now);
    let seconds = waiting.as_secs();
    let mut reasons = Vec::new();
    match &progress.trouble {
        Some(trouble) if trouble.is_full => {
            reasons.push(format!(
                "the disk is full, for {seconds} s: {}",
                trouble.reason
            ));
        }
        Some(trouble) if waiting >= HEALTH_LIMIT => {
            reasons.push(format!("it fails, for {seconds} s: {}", trouble.reason));
        }
        None if waiting >= HEALTH_LIMIT => {
            let what = match progress.step {
                Step::Open => "the database is not open yet",
                _ => "the disk has not answered",
            };
            reasons.push(format!("{what}, for {seconds} s"));
        }
        _ => {}
    }
    if progress.set_aside > 0 {
        reasons.push(format!(
            "{} damaged and set aside: take away {}.damaged-* when it has been looked at",
            progress.set_aside,
            facts.db.display()
        ));
    }
    for path in &progress.lost_sockets {
        reasons.push(format!(
            "the file of the socket {path} was taken away or replaced, and no client reaches it: start seawall again"
        ));
    }
    if facts.blind_sources > 0 {
        reasons.push("sysfs finds no sensor that can be read".into());
    }
    reasons
}

pub fn report(facts: &Facts) -> Report {
    report_at(facts, Instant::now())
}

fn report_at(facts: &Facts, now: Instant) -> Report {
    let progress = facts.progress;
    let waiting = waiting(progress, now);
    let state = if facts.is_stopping {
        "stopping"
    } else if progress.trouble.is_some() || waiting >= HEALTH_LIMIT {
        "waiting"
    } else if progress.step == Step::Open {
        "starting"
    } else {
        "recording"
    };
    let mut report = Report::default();
    report.put("state", state);
    report.judge(&reasons(facts, now));
    report.put("db", facts.db.display());
    if !progress.device.is_empty() {
        report.put("device", &progress.device);
        report.put("run", progress.run);
    }
    report.put("version", crate::VERSION);
    report.put("pid", std::process::id());
    report.put("uptime_s", (now - facts.began).as_secs());
    report.put("sources", facts.sources);
    report.put("committed", progress.committed);
    report.put("queued", facts.queued);
    report.put("queue_max", facts.queue_max);
    report.put("dropped", facts.counts.dropped);
    report.put("rejected", facts.counts.rejected);
    report.put("repeated", progress.repeated);
    report.put("errors", facts.counts.errors + progress.errors);
    report.put("expired", progress.expired);
    report.put("set_aside", progress.set_aside);
    let wal_bytes = store::wal_bytes(progress.wal_frames, progress.page_bytes);
    report.put("wal_bytes", wal_bytes);
    report.put_if_known("free_bytes", progress.free_bytes);
    report.put_if_known("written_bytes", facts.written_bytes);
    report.put_age("last_commit_ms", progress.last_commit.map(|at| now - at));
    report.put_age(
        "last_checkpoint_ms",
        progress.last_checkpoint.map(|at| now - at),
    );
    report.put("waiting_s", waiting.as_secs());
    if let Some(trouble) = &progress.trouble {
        report.put("waiting_for", &trouble.reason);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::progress::Trouble;

    fn reported(progress: &Progress, blind_sources: usize, now: Instant) -> (bool, String) {
        let facts = Facts {
            db: Path::new("/x.db"),
            began: now,
            is_stopping: false,
            sources: 1,
            blind_sources,
            counts: Counts::default(),
            queued: 0,
            queue_max: 1,
            written_bytes: None,
            progress,
        };
        let report = report_at(&facts, now);
        (report.is_healthy(), report.text())
    }

    #[test]
    fn it_is_healthy_until_there_is_a_reason_against_it() {
        let start = Instant::now();
        let late = start + HEALTH_LIMIT;
        let mut progress = Progress {
            step: Step::Record,
            ..Progress::default()
        };
        assert!(reported(&progress, 0, late).0);
        progress.busy_since = Some(start);
        assert!(reported(&progress, 0, late - Duration::from_millis(1)).0);
        let (healthy, text) = reported(&progress, 0, late);
        assert!(!healthy && text.contains("state=waiting\n"), "{text}");
        assert!(
            text.contains("reason=the disk has not answered, for 10 s\n"),
            "{text}"
        );
        progress.trouble = Some(Trouble {
            since: start,
            reason: "locked".into(),
            is_full: false,
        });
        // Healthy for now, and said already.
        let (healthy, text) = reported(&progress, 0, start);
        assert!(healthy && text.contains("waiting_for=locked\n"), "{text}");
        let (healthy, text) = reported(&progress, 0, late);
        assert!(
            !healthy && text.contains("reason=it fails, for 10 s: locked\n"),
            "{text}"
        );
        // A full disk does not pass by waiting.
        progress.trouble.as_mut().unwrap().is_full = true;
        assert!(!reported(&progress, 0, start).0);
        progress.trouble = None;
        progress.busy_since = None;
        assert!(!reported(&progress, 1, start).0);
        progress.lost_sockets = vec!["/s".into()];
        let (healthy, text) = reported(&progress, 0, start);
        assert!(!healthy && text.contains("the socket /s was"), "{text}");
        progress.set_aside = 1;
        let (healthy, text) = reported(&progress, 0, start);
        assert!(!healthy && text.contains("/x.db.damaged-*"), "{text}");
    }
}

//! The status report of a recorder: values by name, and whether it is healthy. Pure.
//!
//! `KEYS` is the one table: the order of the lines, and what Prometheus calls each.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::source::http::reply::Health;

/// A value as Prometheus gets it: type, name and help of a metric.
#[derive(Clone, Copy)]
enum Metric {
    /// Not a number.
    None,
    Gauge(&'static str, &'static str),
    /// Milliseconds here, seconds there.
    GaugeOfMs(&'static str, &'static str),
    Counter(&'static str, &'static str),
}

use Metric::{Counter, Gauge, GaugeOfMs};

#[rustfmt::skip]
const KEYS: &[(&str, Metric)] = &[
    ("state", Metric::None),
    ("healthy", Gauge("seawall_healthy", "Whether readings are taken and committed, 1 or 0")),
    ("reason", Metric::None),
    ("db", Metric::None),
    ("device", Metric::None),
    ("version", Metric::None),
    ("pid", Metric::None),
    ("uptime_s", Gauge("seawall_uptime_seconds", "Time since the recorder was started")),
    ("run", Gauge("seawall_run", "Number of this start of the recorder in the database")),
    ("sources", Gauge("seawall_sources", "Sources that are recorded")),
    ("committed", Counter("seawall_committed_readings_total", "Readings committed since the start")),
    ("queued", Gauge("seawall_queued_readings", "Readings accepted and not committed yet")),
    ("queue_max", Gauge("seawall_queue_limit_readings", "Readings that can be held in memory")),
    ("dropped", Counter("seawall_dropped_readings_total", "Readings that found no room in the queue")),
    ("rejected", Counter("seawall_rejected_lines_total", "Lines that did not parse")),
    ("repeated", Counter("seawall_repeated_readings_total", "Readings that were sent again and not stored again")),
    ("errors", Counter("seawall_errors_total", "Failures of sources, commits and checkpoints")),
    ("expired", Counter("seawall_expired_readings_total", "Readings that retention dropped since the start")),
    ("set_aside", Gauge("seawall_set_aside_databases", "Damaged databases that wait for somebody to look")),
    ("wal_bytes", Gauge("seawall_wal_bytes", "Bytes in the -wal that are still needed there")),
    ("free_bytes", Gauge("seawall_free_bytes", "Bytes free on the filesystem of the database")),
    ("written_bytes", Counter("seawall_written_bytes_total", "Bytes written to storage, as the kernel counts them")),
    ("last_commit_ms", GaugeOfMs("seawall_last_commit_age_seconds", "Time since the last commit")),
    ("last_checkpoint_ms", GaugeOfMs("seawall_last_checkpoint_age_seconds", "Time since the last checkpoint")),
    ("waiting_s", Gauge("seawall_waiting_seconds", "How long commits have been failing or blocked")),
    ("waiting_for", Metric::None),
];

/// Value of an event that has not happened yet.
const NONE: &str = "none";

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report(Vec<(&'static str, String)>);

impl Report {
    /// The report where no recorder answers.
    pub fn none(db: &Path, reason: &str) -> Self {
        let mut report = Report::default();
        report.put("state", NONE);
        report.put("healthy", "no");
        report.put("reason", reason);
        report.put("db", db.display());
        report
    }

    pub fn put(&mut self, key: &str, value: impl std::fmt::Display) {
        let known = KEYS.iter().find(|(known, _)| *known == key);
        debug_assert!(known.is_some(), "{key} is not in the table");
        if let Some((key, _)) = known {
            // A line is a line, whatever a path is made of.
            let value = value.to_string().replace(char::is_control, "?");
            self.0.push((key, value));
        }
    }

    pub fn put_if_known(&mut self, key: &str, number: Option<u64>) {
        match number {
            Some(number) => self.put(key, number),
            None => self.put(key, NONE),
        }
    }

    /// The time since something, in milliseconds.
    pub fn put_age(&mut self, key: &str, age: Option<Duration>) {
        self.put_if_known(key, age.map(|age| age.as_millis() as u64));
    }

    /// Adds the health: unhealthy for each reason given.
    pub fn judge(&mut self, reasons: &[String]) {
        self.put("healthy", if reasons.is_empty() { "yes" } else { "no" });
        for reason in reasons {
            self.put("reason", reason);
        }
    }

    fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.0.iter().filter(move |(known, _)| *known == key);
        found.map(|(_, value)| value.as_str())
    }

    pub fn is_healthy(&self) -> bool {
        self.all("healthy").eq(["yes"])
    }

    /// For clients that ask over HTTP.
    pub fn health(&self) -> Health {
        let reasons: Vec<&str> = self.all("reason").collect();
        Health {
            reasons: reasons.join("; "),
            metrics: self.prometheus(),
        }
    }

    /// A line each, in the order of the table.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (key, _) in KEYS {
            for value in self.all(key) {
                let _ = writeln!(text, "{key}={value}");
            }
        }
        text
    }

    /// Parses the output of `text`; ignores keys of a newer recorder.
    pub fn parse(text: &str) -> Option<Self> {
        let mut report = Report::default();
        for line in text.lines() {
            let (key, value) = line.split_once('=')?;
            if KEYS.iter().any(|(known, _)| *known == key) {
                report.put(key, value);
            }
        }
        (report.all("state").next().is_some() && report.all("healthy").next().is_some())
            .then_some(report)
    }

    /// The text exposition format of Prometheus.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        let labels: Vec<String> = ["db", "device", "version", "state"]
            .into_iter()
            .filter_map(|key| Some(format!("{key}=\"{}\"", escaped(self.all(key).next()?))))
            .collect();
        let _ = writeln!(
            text,
            "# HELP seawall_info The recorder\n# TYPE seawall_info gauge\nseawall_info{{{}}} 1",
            labels.join(",")
        );
        for (key, metric) in KEYS {
            let (name, help, kind, per) = match metric {
                Metric::None => continue,
                Gauge(name, help) => (name, help, "gauge", 1.0),
                GaugeOfMs(name, help) => (name, help, "gauge", 1000.0),
                Counter(name, help) => (name, help, "counter", 1.0),
            };
            let value = match self.all(key).next() {
                Some("yes") => "1".to_owned(),
                Some("no") => "0".to_owned(),
                Some(value) => match value.parse::<f64>() {
                    Ok(_) if per == 1.0 => value.to_owned(),
                    Ok(number) => (number / per).to_string(),
                    Err(_) => continue,
                },
                None => continue,
            };
            let _ = writeln!(
                text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
            );
        }
        text
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut report = Report::default();
        report.put("state", "recording");
        report.judge(&["one".into(), "and = another".into()]);
        report.put("db", "/a\nb");
        report.put_age("last_commit_ms", Some(Duration::from_millis(1_500)));
        report.put_age("last_checkpoint_ms", None);
        let text = report.text();
        assert_eq!(
            text,
            "state=recording\nhealthy=no\nreason=one\nreason=and = another\ndb=/a?b\n\
             last_commit_ms=1500\nlast_checkpoint_ms=none\n"
        );
        let read = Report::parse(&format!("{text}of_tomorrow=1\n")).unwrap();
        assert_eq!(read.text(), text);
        assert!(!read.is_healthy());
        assert_eq!(Report::parse("nonsense"), None);
        assert_eq!(Report::parse(""), None);
        assert_eq!(Report::parse("a=b"), None);
    }

    #[test]
    fn prometheus_gets_seconds_and_no_value_that_is_none() {
        let mut report = Report::default();
        report.put("state", "recording");
        report.judge(&[]);
        report.put("db", "/a\"\\");
        report.put_age("last_commit_ms", Some(Duration::from_millis(1_500)));
        report.put_age("last_checkpoint_ms", None);
        let text = report.prometheus();
        assert!(text.contains("seawall_info{db=\"/a\\\"\\\\\",state=\"recording\"} 1\n"));
        assert!(text.contains("\nseawall_healthy 1\n"));
        assert!(text.contains("\nseawall_last_commit_age_seconds 1.5\n"));
        assert!(!text.contains("seawall_last_checkpoint"));
    }
}

//! Guards against a dashboard that shows nothing, or something else than the file has, or that reads the whole file for an
//! hour of it.
//!
//! Grafana is not here: its queries are run by SQLite as Grafana and the plugin `frser-sqlite-datasource` send them, with
//! what stands for the time range, the resolution and the choice of sensors filled in.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::manifest::{deployed, values};
use crate::support::*;

const S: i64 = 1_000_000_000;
const BEGIN_S: i64 = 1_790_000_000;
/// Readings of each of two sensors, one a second: several spans.
const READINGS: i64 = 10_000;

/// What is asked for.
struct Window {
    from_s: i64,
    to_s: i64,
    step_s: i64,
    sensors: &'static str,
}

impl Window {
    fn fill(&self, query: &str) -> String {
        let mut query = query.to_owned();
        for (name, value) in [
            ("$__from", (self.from_s * 1000).to_string()),
            ("$__to", (self.to_s * 1000).to_string()),
            ("$__interval_ms", (self.step_s * 1000).to_string()),
            ("${sensor:sqlstring}", self.sensors.to_owned()),
            ("${field:sqlstring}", "'v'".to_owned()),
        ] {
            query = query.replace(name, &value);
        }
        assert!(!query.contains('$'), "what is this: {query}");
        query
    }

    fn ask(&self, db: &Path, query: &str) -> Vec<String> {
        let rows = sql(db, &self.fill(query));
        rows.lines().map(str::to_owned).collect()
    }
}

fn queries(dashboard: &BTreeMap<String, String>) -> [&String; 5] {
    let panel = |n: usize| {
        let of = |key: &str| &dashboard[&format!("0.panels.{n}.targets.0.{key}")];
        assert_eq!(of("rawQueryText"), of("queryText"));
        of("rawQueryText")
    };
    let variable = |n: usize| &dashboard[&format!("0.templating.list.{n}.query")];
    [panel(0), panel(1), panel(2), variable(1), variable(2)]
}

fn value(second: i64) -> f64 {
    (second % 97) as f64 / 2.0
}

#[test]
fn each_query_of_the_dashboard_gives_what_the_file_has() {
    let Some(dashboard) = values(&deployed("grafana.json")) else {
        return;
    };
    let [means, last, runs, sensors, fields] = queries(&dashboard);
    let dir = Dir::new("grafana");
    let db = dir.file("x.db");
    let lines = (0..READINGS).map(|n| {
        let time = (BEGIN_S + n) * S;
        let v = value(n);
        format!("a,room=it's v={v} {time}\nb v={n}i {time}\nb text=\"no number\" {time}\n")
    });
    record_lines(&db, &lines.collect::<String>());
    let hour = Window {
        from_s: BEGIN_S + 7000,
        to_s: BEGIN_S + 7600,
        step_s: 100,
        sensors: "'a,room=it''s'",
    };
    let expected = (0..6).map(|step| {
        let first = 7000 + 100 * step;
        let mean = (first..first + 100).map(value).sum::<f64>() / 100.0;
        format!("{:.1}|a,room=it's v|{mean}", (BEGIN_S + first) as f64)
    });
    assert_eq!(hour.ask(&db, means), expected.collect::<Vec<_>>());
    let expected = [format!(
        "a,room=it's|v|{:?}|{:.1}",
        value(7599),
        (BEGIN_S + 7599) as f64
    )];
    assert_eq!(hour.ask(&db, last), expected);
    assert_eq!(hour.ask(&db, sensors), ["a,room=it's", "b"]);
    assert_eq!(hour.ask(&db, fields), ["v"]);
    let run = &hour.ask(&db, runs)[0];
    assert!(
        run.starts_with("1|1") && run.ends_with(&format!("|eof|{}|0|0", 3 * READINGS)),
        "{run}"
    );

    // The ids of the spans around the hour, and no others.
    for query in [means, last] {
        let plan = hour
            .ask(&db, &format!("EXPLAIN QUERY PLAN {query}"))
            .join("\n");
        let by_id = "SEARCH readings USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)";
        assert!(
            plan.contains(by_id) && !plan.contains("SCAN readings"),
            "{plan}"
        );
    }
    // Where there is nothing.
    let later = Window {
        from_s: BEGIN_S + 20_000,
        to_s: BEGIN_S + 30_000,
        ..hour
    };
    assert_eq!(later.ask(&db, means), [""; 0]);
}

/// A panel that has another's number or place is not drawn, and one without the variable asks no database.
#[test]
fn the_panels_have_numbers_and_places_of_their_own() {
    let Some(dashboard) = values(&deployed("grafana.json")) else {
        return;
    };
    let mut taken: Vec<(String, [u32; 4])> = Vec::new();
    for n in 0..3 {
        let of = |key: &str| dashboard[&format!("0.panels.{n}.{key}")].clone();
        assert_eq!(of("datasource.type"), "frser-sqlite-datasource");
        assert_eq!(of("targets.0.datasource.uid"), "${database}");
        let place = ["x", "w", "y", "h"]
            .map(|of_place| of(&format!("gridPos.{of_place}")).parse::<u32>().unwrap());
        let [x, width, y, height] = place;
        assert!(x + width <= 24, "{place:?}");
        for (id, [other_x, other_width, other_y, other_height]) in &taken {
            assert_ne!(*id, of("id"));
            let is_beside = x + width <= *other_x || other_x + other_width <= x;
            let is_below = y + height <= *other_y || other_y + other_height <= y;
            assert!(is_beside || is_below, "{place:?}");
        }
        taken.push((of("id"), place));
    }
    assert!(!dashboard.contains_key("0.panels.3.id"));
    assert_eq!(dashboard["0.templating.list.0.name"], "database");
    assert_eq!(
        dashboard["0.templating.list.0.query"],
        "frser-sqlite-datasource"
    );
}

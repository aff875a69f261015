//! Simulated sensors: each reading that was asked for, at its rate, with values that a seed repeats.

use std::time::{Duration, Instant};

use seawall::source::sim::Sim;
use seawall::source::spec::{SimRate, SimSpec};

use crate::support::recording::*;
use crate::support::stop::*;
use crate::support::*;

#[test]
fn a_simulation_gives_as_many_readings_as_it_was_asked_for() {
    let dir = Dir::new("sim");
    for count in ["1", "7", "1000", "2500"] {
        for rate in ["max", "1000"] {
            let db = dir.file(&format!("sim-{count}-{rate}.db"));
            let source = format!("sim:sensors=3,rate={rate},count={count}");
            let last = record_all(&db, &format!("--source {source}"));
            assert_eq!(
                (last.committed.to_string(), last.dropped),
                (count.to_owned(), 0)
            );
        }
    }
}

#[test]
fn a_simulation_keeps_its_rate() {
    let dir = Dir::new("rate");
    let db = dir.file("rate.db");
    let last = record_all(&db, "--source sim:sensors=4,rate=50,count=200");
    assert_eq!((last.committed, last.dropped), (200, 0));
    let per_sensor = "SELECT count(DISTINCT sensor), min(n), max(n) FROM
        (SELECT sensor, count(*) AS n FROM sensor_readings GROUP BY sensor)";
    assert_eq!(sql(&db, per_sensor), "4|50|50");
    let times = times(&db, "sim,sensor=1");
    assert_on_schedule(&times, 20_000_000);
}

#[test]
fn the_same_seed_gives_the_same_readings() {
    let dir = Dir::new("seed");
    let rows = |name: &str, source: &str| {
        let db = dir.file(name);
        record_all(&db, &format!("--source {source}"));
        sql(
            &db,
            "SELECT sensor, field, value FROM sensor_readings ORDER BY id",
        )
    };
    let one = rows("one.db", "sim:sensors=3,rate=max,count=999,seed=42");
    let same = rows("same.db", "sim:sensors=3,rate=2000,count=999,seed=42");
    let other = rows("other.db", "sim:sensors=3,rate=max,count=999,seed=43");
    assert_eq!(one.lines().count(), 999);
    assert_eq!(one, same);
    assert_ne!(one, other);
}

#[test]
fn several_sources_are_recorded_side_by_side() {
    let dir = Dir::new("several");
    let db = dir.file("several.db");
    let sources = "--source sim:sensors=2,rate=500,count=500,seed=1 --source stdin \
                   --source sim:sensors=5,rate=max,count=20000,seed=2";
    let mut running = record(&db, sources);
    running.send(&lines(0..5000));
    running.close_stdin();
    let last = assert_stopped(&db, &running.wait(), 0, "eof");
    assert_eq!((last.committed, last.dropped), (25_500, 0));
    let count =
        "SELECT count(*), count(DISTINCT value) FROM sensor_readings WHERE sensor = 'm,k=a'";
    assert_eq!(sql(&db, count), "5000|5000");
}

#[test]
fn the_greatest_rate_drops_nothing() {
    let dir = Dir::new("max");
    for (readings, options) in [
        (100_000, "--source sim:rate=max,count=100000"),
        (
            20_000,
            "--source sim:rate=max,count=20000 --queue-rows 100 --commit-rows 10",
        ),
        (
            500,
            "--source sim:rate=max,count=500 --queue-rows 1 --commit-rows 1",
        ),
        // Two that share the room.
        (
            8_000,
            "--source sim:rate=max,count=5000 --source sim:rate=max,count=3000 --queue-rows 100",
        ),
    ] {
        let db = dir.file(&format!("max-{readings}.db"));
        let last = record_all(&db, options);
        assert_eq!((last.dropped, last.committed), (0, readings), "{options}");
    }
}

fn spec(rate: SimRate, count: u64) -> SimSpec {
    SimSpec {
        sensors: 3,
        rate,
        count,
        seed: None,
    }
}

fn collect(sim: &mut Sim, now: Instant, now_ns: i64) -> Vec<(i64, String, f64)> {
    let mut out = Vec::new();
    sim.sample(now, now_ns, &mut |t, s, v| out.push((t, s.to_owned(), v)));
    out
}

#[test]
fn samples_that_are_caught_up_keep_the_time_of_their_schedule() {
    let start = Instant::now();
    let mut sim = Sim::new(&spec(SimRate::PerSecond(1000.0), 0), 1, start);
    let late = Duration::from_millis(5);
    let taken = collect(&mut sim, start + late, 1_000_000_000);
    let times: Vec<i64> = taken.iter().step_by(3).map(|r| r.0).collect();
    let expected: Vec<i64> = (0..=5).map(|ms| 995_000_000 + ms * 1_000_000).collect();
    assert_eq!(times, expected);
    assert_eq!(sim.next(), Some(start + Duration::from_millis(6)));
}

#[test]
fn a_long_pause_is_skipped_and_counted() {
    let start = Instant::now();
    let mut sim = Sim::new(&spec(SimRate::PerSecond(10.0), 0), 1, start);
    assert_eq!(sim.skip_missed(start + Duration::from_millis(900)), 0);
    assert_eq!(sim.skip_missed(start + Duration::from_secs(60)), 600 * 3);
    assert_eq!(sim.next(), Some(start + Duration::from_secs(60)));
}

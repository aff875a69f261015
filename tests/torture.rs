//! Guards against what only many faults on one file bring out: a database that lives through kills, stops,
//! full disks, readers and other tools for a while, and loses a reading that was acknowledged at last.
//!
//! `just torture MINUTES [SEED]` runs it for as long as asked and prints the figures; the same in short is
//! an ordinary test. A seed gives the same starts, options, faults and moments in the same order; how far a
//! recorder comes until its moment is up to the machine.

mod disk;
mod engine;
mod plan;
mod tool;
use std::time::{Duration, Instant};

use engine::Torture;

const SEED: u64 = 12;

fn seed() -> u64 {
    let seed = std::env::var("SEAWALL_TEST_SEED").map_or(SEED, |text| text.parse().unwrap());
    println!("SEAWALL_TEST_SEED={seed}");
    seed
}

fn torture(seed: u64, enough: impl Fn(&Torture, Duration) -> bool) -> Torture {
    const TOLD_EVERY: Duration = Duration::from_secs(30);
    let mut torture = Torture::new(seed);
    let start = Instant::now();
    let mut told = start;
    while !enough(&torture, start.elapsed()) {
        torture.once();
        assert!(
            torture.complaints.is_empty(),
            "seed {seed}: {:#?}",
            torture.complaints
        );
        if told.elapsed() > TOLD_EVERY {
            told = Instant::now();
            println!("after {} s: {}", start.elapsed().as_secs(), torture.figures);
        }
    }
    torture.finish();
    println!(
        "torture: seed={seed} seconds={} {}",
        start.elapsed().as_secs(),
        torture.figures
    );
    assert!(
        torture.complaints.is_empty(),
        "seed {seed}: {:#?}",
        torture.complaints
    );
    let figures = torture.figures;
    assert!(figures.found >= figures.acknowledged && figures.lost == 0 && figures.damaged == 0);
    torture
}

#[test]
fn one_database_lives_through_everything() {
    /// With the fixed seed, all kinds of fault are among them.
    const STARTS: u64 = 150;
    let torture = torture(seed(), |torture, _| torture.figures.starts >= STARTS);
    let f = torture.figures;
    for (what, many) in [
        ("kills while starting", f.killed_starting),
        ("kills while recording", f.killed_recording),
        ("kills while stopping", f.killed_stopping),
        ("stops", f.stops),
        ("full disks", f.full_disks),
        ("pins", f.pins),
        ("tools", f.tools),
    ] {
        assert!(
            many > 0 || std::env::var_os("SEAWALL_TEST_SEED").is_some(),
            "no {what}"
        );
    }
    assert!(f.acknowledged > 1000, "{f}");
}

#[test]
#[ignore = "as long as SEAWALL_TORTURE_MINUTES says: just torture"]
fn one_database_lives_for_as_long_as_asked() {
    let minutes: f64 = std::env::var("SEAWALL_TORTURE_MINUTES")
        .expect("SEAWALL_TORTURE_MINUTES")
        .parse()
        .expect("SEAWALL_TORTURE_MINUTES is a number");
    let enough = Duration::from_secs_f64(minutes * 60.0);
    torture(seed(), |_, elapsed| elapsed >= enough);
}

/// The control: a harness that cannot fail shows nothing.
#[test]
fn the_harness_notices_what_is_lost() {
    let mut torture = Torture::new(seed());
    torture.kill_with_all_in_wal();
    torture.kill_with_all_in_wal();
    assert_eq!((torture.figures.lost, torture.figures.damaged), (0, 0));
    torture.take_one_reading();
    torture.kill_with_all_in_wal();
    assert_eq!(torture.figures.lost, 1);
    torture.take_wal();
    let owed = torture.figures.acknowledged - torture.figures.found;
    torture.finish();
    assert!(
        owed > 10 && torture.figures.lost > owed / 2,
        "{}",
        torture.figures
    );
}

//! Guards against what the crash simulator cannot see, because it is ours: a real kernel and its filesystem on a disk whose
//! power goes while the image's program records, and acknowledged readings that are not there afterwards.
//!
//! This is `just powercut` in short; tests/powercut/rig.py says what it does. The controls have to lose, or the run fails.

use std::process::Command;

use crate::support::skip;

/// Stdin, HTTP and TCP in five cuts, of which PHASES tells when they come.
const SEED: &str = "1";
const PHASES: &str = "cuts=5 (recording=3 start=1 stop=1) ";
/// The rig's status where it lacks something.
const SKIPPED: i32 = 77;

#[test]
fn what_was_acknowledged_survives_the_power_of_a_guest_and_the_controls_lose() {
    let rig = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/powercut/rig.py");
    let output = Command::new("python3")
        .args([rig, "5", SEED, "--states", "10", "--filesystems", "ext4"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(SKIPPED) {
        return skip(told.trim());
    }
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{failed}");
    assert!(told.contains(PHASES), "{told}");
    assert!(told.contains("\n| seawall, all sources | 5 | "), "{told}");
}

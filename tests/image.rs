//! Guards against an image that outgrows small devices without anybody noticing: each feature adds its few
//! KB, a crate or a flag adds hundreds, and memory goes the same way. Looks at the binaries that `just image`
//! built, of both architectures, and runs the one for this machine.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::stop::*;
use crate::support::*;

/// What the program may weigh, which is all there is in the image.
const SIZE_MAX: u64 = 1_340_000;
const ARCHITECTURES: [(&str, &str, u16); 2] = [("amd64", "x86_64", 62), ("arm64", "aarch64", 183)];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_binary_is_small_and_static() {
    const ET_DYN: u64 = 3;
    const PT_INTERP: u64 = 3;
    for (architecture, machine, number_of_machine) in ARCHITECTURES {
        let Some(path) = static_program(machine) else {
            continue;
        };
        let elf = fs::read(&path).unwrap();
        let number = |at: usize, bytes: usize| {
            let bytes = &elf[at..at + bytes];
            bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
        };
        assert_eq!(
            number(18, 2),
            u64::from(number_of_machine),
            "{architecture}"
        );
        // rustc makes static programs position-independent on amd64 only.
        let is_independent = number(16, 2) == ET_DYN;
        assert_eq!(is_independent, architecture == "amd64", "{architecture}");
        let (headers, size, count) = (number(32, 8), number(54, 2), number(56, 2));
        let interpreter = (0..count).any(|n| number((headers + n * size) as usize, 4) == PT_INTERP);
        assert!(count > 0 && !interpreter, "it needs a dynamic linker");
        let len = elf.len() as u64;
        assert!(len <= SIZE_MAX, "{architecture}: {len} bytes of {SIZE_MAX}");
    }
}

#[test]
fn the_archive_of_the_image_is_the_same_bytes_each_time() {
    let dir = Dir::new("archive");
    let program = dir.file("program");
    fs::write(&program, "any").unwrap();
    let pack = |name: &str| {
        let archive = dir.file(name);
        let status = Command::new("python3")
            .arg(root().join(".image/pack.py"))
            .arg(root().join("Dockerfile.scratch"))
            .arg(&program)
            .args(["arm64", "1.2.3", "1700000000", "seawall:test"])
            .arg(&archive)
            .status()
            .unwrap();
        assert!(status.success());
        fs::read(archive).unwrap()
    };
    assert_eq!(pack("one.tar"), pack("two.tar"));
}

/// The greatest resident size of a process so far.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// Runs the image's binary until so many are committed, and gives its peak. What `lines` gives is sent to its
/// stdin again and again.
fn peak_after(options: &str, lines: &str, readings: u64) -> Option<u64> {
    let binary = static_program(std::env::consts::ARCH)?;
    let dir = Dir::new("memory");
    let db = dir.file("memory.db");
    let mut command = Command::new(binary);
    command.args(["record", "--db", text(&db)]);
    let mut running = Running::spawn(command.args(options.split(' ')));
    running.wait_for("ready");
    let mut stdin = running.stdin.take().unwrap();
    let lines = lines.to_owned();
    let sending =
        thread::spawn(
            move || while !lines.is_empty() && stdin.write_all(lines.as_bytes()).is_ok() {},
        );
    until("so many are committed", || {
        (try_count(&db)? >= readings).then_some(())
    });
    let peak = peak_kib(running.pid());
    let ended = running.stop_within(libc::SIGTERM, Duration::from_secs(5));
    assert_stopped(&db, &ended, 0, "SIGTERM");
    sending.join().unwrap();
    Some(peak)
}

#[test]
fn a_thousand_readings_a_second_take_no_more_than_4_mib() {
    if let Some(peak) = peak_after("--source sim:sensors=10,rate=100", "", 3_000) {
        assert!(peak <= 4 * 1024, "{peak} KiB");
    }
}

#[test]
fn full_throughput_takes_no_more_than_8_mib() {
    let lines: String = (0..1000)
        .map(|n| format!("weather,station={n} temperature={n}.5,note=\"n {n}\"\n"))
        .collect();
    for (options, lines) in [
        ("--source sim:rate=max", ""),
        ("--source stdin --ack", &lines),
    ] {
        if let Some(peak) = peak_after(options, lines, 500_000) {
            println!("{options}: {peak} KiB");
            assert!(peak <= 8 * 1024, "{options}: {peak} KiB");
        }
    }
}

//! Sensors that fail: guards against a 0 for what could not be read, and against one sick sensor that stops or silences
//! the others.

use std::cell::Cell;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::*;
use seawall::source::sysfs::{Failure, parse_number};

use crate::support::sysfs::*;

#[test]
fn what_is_no_number_is_no_reading_and_told_once() {
    let nines = "9".repeat(400);
    // What is read of it, one page, would be a number.
    let page = format!("45.{}\n", "0".repeat(5000));
    let bad = [
        ("", "Empty"),
        ("\n", "NoNumber"),
        ("n/a\n", "NoNumber"),
        ("12 34\n", "NoNumber"),
        ("0x1f\n", "NoNumber"),
        ("1e3\n", "NoNumber"),
        ("nan\n", "NoNumber"),
        ("inf\n", "NoNumber"),
        ("-\n", "NoNumber"),
        ("1000\n2000\n", "NoNumber"),
        (&nines, "NoNumber"),
        (&page, "NoNumber"),
    ];
    for (text, reason) in bad {
        let tree = Tree::new();
        let node = one_temperature(&tree);
        let file = format!("{node}/temp1_input");
        let mut watched = Watched::of(&tree);
        assert_eq!(watched.said(), ["found temp1_input"]);
        assert_eq!(watched.values(), [45.125]);
        tree.write(&file, text);
        for _ in 0..3 {
            assert_eq!(watched.values(), [], "{text:?}");
        }
        watched.rescan();
        assert_eq!(watched.values(), []);
        let expected = format!("failing temp1_input: {reason}");
        assert_eq!(watched.said(), [expected], "{text:?}");
        tree.write(&file, "46000\n");
        assert_eq!(watched.values(), [46.0]);
        assert_eq!(watched.values(), [46.0]);
        assert_eq!(watched.said(), ["recovered temp1_input"]);
    }
}

#[test]
fn a_value_beyond_all_numbers_is_no_reading() {
    let tree = Tree::new();
    tree.device("platform/adc", "platform");
    let large = format!("1{}\n", "0".repeat(300));
    tree.iio(
        0,
        "platform/adc",
        &[("in_pressure_raw", &large), ("in_pressure_scale", &large)],
    );
    let mut watched = Watched::of(&tree);
    watched.said();
    assert_eq!(watched.values(), []);
    assert_eq!(watched.said(), ["failing in_pressure_raw: OutOfRange"]);
}

#[test]
fn a_read_error_is_told_once_and_its_end_once_and_costs_nobody_else_a_reading() {
    let tree = Tree::new();
    let node = one_temperature(&tree);
    // The read fails with EISDIR.
    fs::create_dir(tree.path(&node).join("temp2_input")).unwrap();
    tree.write(&format!("{node}/temp3_input"), "3000\n");
    let mut watched = Watched::of(&tree);
    watched.said();
    for _ in 0..3 {
        assert_eq!(watched.values(), [45.125, 3.0]);
    }
    let expected = format!("failing temp2_input: {:?}", Failure::Errno(21));
    assert_eq!(watched.said(), [expected]);
    assert_eq!(
        Failure::Errno(21).to_string(),
        "Is a directory (os error 21)"
    );
    tree.remove(&format!("{node}/temp2_input"));
    tree.write(&format!("{node}/temp2_input"), "2000\n");
    assert_eq!(watched.values(), [45.125, 2.0, 3.0]);
    assert_eq!(watched.values(), [45.125, 2.0, 3.0]);
    assert_eq!(watched.said(), ["recovered temp2_input"]);
}

/// As iwlwifi, a sleeping disk and many batteries do.
#[test]
fn a_sensor_that_answers_every_other_time_does_not_fill_the_log() {
    let tree = Tree::new();
    let node = one_temperature(&tree);
    let mut watched = Watched::of(&tree);
    watched.said();
    for _ in 0..50 {
        tree.write(&format!("{node}/temp1_input"), "\n");
        assert_eq!(watched.values(), []);
        tree.write(&format!("{node}/temp1_input"), "2000\n");
        assert_eq!(watched.values(), [2.0]);
    }
    let said = watched.said();
    let failing = said
        .iter()
        .filter(|said| said.starts_with("failing "))
        .count();
    assert!((1..=10).contains(&failing), "{said:#?}");
    // Each has its end.
    assert_eq!(said.len(), 2 * failing, "{said:#?}");
}

#[test]
fn a_sensor_that_answers_eio_is_tried_again() {
    let tree = Tree::new();
    let node = one_temperature(&tree);
    tree.remove(&format!("{node}/temp1_input"));
    // No process has anything at address 0, so that the kernel says EIO.
    let memory = Path::new("/proc/self/mem");
    symlink(memory, tree.path(&node).join("temp1_input")).unwrap();
    let mut watched = Watched::of(&tree);
    watched.said();
    for _ in 0..3 {
        assert_eq!(watched.values(), []);
    }
    assert_eq!(watched.said(), ["failing temp1_input: Errno(5)"]);
    tree.remove(&format!("{node}/temp1_input"));
    tree.write(&format!("{node}/temp1_input"), "2000\n");
    assert_eq!(watched.values(), [2.0]);
}

#[test]
fn a_file_that_may_not_be_read_is_told_once() {
    let tree = Tree::new();
    let node = one_temperature(&tree);
    let file = tree.path(&node).join("temp1_input");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o000)).unwrap();
    if File::open(&file).is_ok() {
        eprintln!("skipped: root may read everything");
        return;
    }
    let mut watched = Watched::of(&tree);
    watched.said();
    assert_eq!(watched.values(), []);
    assert_eq!(watched.values(), []);
    assert_eq!(watched.said(), ["failing temp1_input: Errno(13)"]);
}

#[test]
fn a_fifo_in_place_of_a_file_blocks_nothing() {
    let tree = Tree::new();
    let node = one_temperature(&tree);
    for name in [
        "name",
        "temp1_label",
        "temp2_input",
        "temp2_label",
        "temp1_enable",
        "label",
    ] {
        let path = format!("{node}/{name}");
        if tree.path(&path).exists() {
            tree.remove(&path);
        }
        tree.mkfifo(&path);
    }
    let start = Instant::now();
    let mut watched = Watched::of(&tree);
    watched.said();
    assert_eq!(watched.values(), [45.125]);
    assert_eq!(watched.said(), ["failing temp2_input: Empty"]);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_sensor_with_a_fault_gives_no_reading() {
    let tree = Tree::new();
    let node = one_temperature(&tree);
    let fault = format!("{node}/temp1_fault");
    tree.write(&fault, "0\n");
    let mut watched = Watched::of(&tree);
    watched.said();
    assert_eq!(watched.values(), [45.125]);
    tree.write(&fault, "1\n");
    assert_eq!(watched.values(), []);
    assert_eq!(watched.values(), []);
    tree.write(&fault, "0\n");
    assert_eq!(watched.values(), [45.125]);
    assert_eq!(
        watched.said(),
        ["failing temp1_input: Fault", "recovered temp1_input"]
    );
    tree.write(&fault, "unreadable\n");
    assert_eq!(watched.values(), [45.125]);
}

#[test]
fn a_channel_that_is_switched_off_gives_no_reading() {
    let tree = Tree::new();
    tree.device("platform/x", "platform");
    let files = [
        ("in1_input", "1000\n"),
        ("in1_enable", "0\n"),
        ("in2_input", "2000\n"),
        ("in2_enable", "1\n"),
        ("power1_average", "3000000\n"),
        ("power1_enable", "0\n"),
    ];
    let node = tree.hwmon(0, "platform/x", &files);
    let mut watched = Watched::of(&tree);
    watched.said();
    assert_eq!(watched.values(), [2.0]);
    assert_eq!(watched.values(), [2.0]);
    tree.write(&format!("{node}/in1_enable"), "1\n");
    assert_eq!(watched.values(), [1.0, 2.0]);
    assert_eq!(
        watched.said(),
        [
            "failing in1_input: SwitchedOff",
            "failing power1_average: SwitchedOff",
            "recovered in1_input"
        ]
    );
}

#[test]
fn alarm_files_are_never_read() {
    let tree = Tree::new();
    let node = one_temperature(&tree);
    let unread = [
        "temp1_alarm",
        "temp1_crit_alarm",
        "fan1_alarm",
        "in0_alarm",
        "alarms",
        "temp1_max",
    ];
    for name in unread {
        tree.write(&format!("{node}/{name}"), "1\n");
    }
    // Last read long ago, and before the last write: then even relatime notes the next read.
    let old = SystemTime::now() - Duration::from_secs(1_000_000);
    let read_since = |name: &str| {
        let file = tree.path(&node).join(name);
        let accessed = fs::metadata(file).unwrap().accessed().unwrap();
        accessed > old + Duration::from_secs(1)
    };
    for name in unread.iter().chain(&["temp1_input"]) {
        let file = File::options()
            .write(true)
            .open(tree.path(&node).join(name));
        let times = FileTimes::new().set_accessed(old);
        file.unwrap().set_times(times).unwrap();
        assert!(!read_since(name));
    }
    let mut watched = Watched::of(&tree);
    watched.sample();
    watched.rescan();
    watched.sample();
    if !read_since("temp1_input") {
        eprintln!("skipped: this filesystem does not note when a file is read");
        return;
    }
    for name in unread {
        assert!(!read_since(name), "{name} was read");
    }
}

#[test]
fn a_stop_ends_the_pass_between_two_channels() {
    let tree = Tree::new();
    let node = one_temperature(&tree);
    tree.write(&format!("{node}/temp2_input"), "2000\n");
    tree.write(&format!("{node}/temp3_input"), "3000\n");
    let mut watched = Watched::of(&tree);
    let count = Cell::new(0);
    let halt = |_: &Path| count.get() == 2;
    let mut emit = |_: &str, _: &str, _: f64| count.set(count.get() + 1);
    watched
        .sysfs
        .sample(Duration::MAX, &mut emit, &halt, &mut |_| {});
    assert_eq!(count.get(), 2);
    assert_eq!(watched.values(), [45.125, 2.0, 3.0]);
}

/// Open descriptors of this process under `root`.
fn open_files(root: &Path) -> Vec<PathBuf> {
    let links = fs::read_dir("/proc/self/fd").unwrap();
    let mut paths: Vec<_> = links
        .filter_map(|link| fs::read_link(link.unwrap().path()).ok())
        .filter(|path| path.starts_with(root))
        .collect();
    paths.sort();
    paths
}

#[test]
fn no_file_stays_open_between_two_samples() {
    let tree = Tree::new();
    one_temperature(&tree);
    let mut watched = Watched::of(&tree);
    for _ in 0..2 {
        assert_eq!(watched.values(), [45.125]);
        assert_eq!(open_files(&tree.root), Vec::<PathBuf>::new());
        watched.rescan();
    }
}

/// What the kernel's drivers write, and what they do not.
#[test]
fn plain_decimals_are_numbers_and_nothing_else_is() {
    for (text, number) in [
        ("45125\n", Some(45125.0)),
        ("-40000", Some(-40000.0)),
        ("+7\n", Some(7.0)),
        (" 0.000061035\n", Some(0.000061035)),
        ("12.\n", Some(12.0)),
        (".5", Some(0.5)),
        ("1e3", None),
        ("0x10", None),
        ("inf", None),
        ("nan", None),
        ("1 2", None),
        ("1,5", None),
        ("--1", None),
        ("", None),
        ("-", None),
    ] {
        assert_eq!(parse_number(text.as_bytes()), number, "{text:?}");
    }
    // More digits than a number can hold.
    assert_eq!(parse_number("9".repeat(400).as_bytes()), None);
}

proptest! {
    #[test]
    fn any_bytes_are_a_finite_number_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Some(number) = parse_number(&bytes) {
            prop_assert!(number.is_finite());
            prop_assert!(bytes.iter().any(u8::is_ascii_digit));
        }
    }
}

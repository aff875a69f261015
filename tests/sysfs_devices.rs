//! Devices that come and go: no reading under the name of one that was there before.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use seawall::source::spec::Choice;
use seawall::source::sysfs::{Notice, Sysfs};

use crate::support::sysfs::*;

#[test]
fn a_device_that_appears_is_picked_up_at_the_next_rescan() {
    let tree = Tree::new();
    let node = one_temperature(&tree);
    let mut watched = Watched::of(&tree);
    watched.sample();
    tree.write(&format!("{node}/temp2_input"), "2000\n");
    tree.device("i2c-1/1-0048", "i2c");
    let files = [("name", "lm75\n"), ("temp1_input", "3000\n")];
    tree.hwmon(1, "i2c-1/1-0048", &files);
    assert_eq!(watched.values(), [45.125]);
    watched.said();
    watched.rescan();
    assert_eq!(watched.said(), ["found temp2_input", "found temp1_input"]);
    assert_eq!(watched.values(), [45.125, 3.0, 2.0]);
    watched.rescan();
    assert_eq!(watched.said(), Vec::<String>::new());
}

#[test]
fn a_device_that_goes_is_dropped_quietly_and_the_others_go_on() {
    let tree = Tree::new();
    one_temperature(&tree);
    tree.device("usb1/1-1", "usb");
    let files = [
        ("name", "stick\n"),
        ("temp1_input", "3000\n"),
        ("temp2_input", "4000\n"),
    ];
    let stick = tree.hwmon(1, "usb1/1-1", &files);
    let mut watched = Watched::of(&tree);
    assert_eq!(watched.values(), [45.125, 3.0, 4.0]);
    watched.said();
    // First one file, then all of the device.
    tree.remove(&format!("{stick}/temp1_input"));
    assert_eq!(watched.values(), [45.125, 4.0]);
    tree.remove("class/hwmon/hwmon1");
    tree.remove("devices/usb1");
    assert_eq!(watched.values(), [45.125]);
    assert_eq!(watched.values(), [45.125]);
    assert_eq!(watched.said(), Vec::<String>::new());
    watched.rescan();
    assert_eq!(watched.said(), ["gone temp1_input", "gone temp2_input"]);
    assert_eq!(watched.sysfs.channels(), 1);
    // And it returns, under another number.
    tree.device("usb1/1-1", "usb");
    tree.hwmon(9, "usb1/1-1", &files);
    watched.rescan();
    assert_eq!(
        watched.names()[1],
        "hwmon,channel=temp1,chip=stick,device=usb/1-1 temperature_c"
    );
}

#[test]
fn a_file_that_is_replaced_is_read_anew_at_once() {
    let tree = Tree::new();
    let node = one_temperature(&tree);
    let mut watched = Watched::of(&tree);
    assert_eq!(watched.values(), [45.125]);
    for celsius in ["1000\n", "2000\n"] {
        tree.write("new", celsius);
        fs::rename(tree.path("new"), tree.path(&node).join("temp1_input")).unwrap();
        expect(
            watched.sample(),
            &[(ONE_TEMPERATURE, f64::from(celsius.as_bytes()[0] - b'0'))],
        );
    }
    assert_eq!(watched.said(), ["found temp1_input"]);
}

#[test]
fn a_device_replaced_before_or_during_a_pass_never_gets_the_name_of_the_one_before() {
    for is_during in [false, true] {
        let tree = Tree::new();
        tree.device("platform/x", "platform");
        let files = |name: &'static str| {
            let values = [("temp1_input", "1000\n"), ("temp2_input", "2000\n")];
            [("name", name)].into_iter().chain(values)
        };
        let node = tree.hwmon(0, "platform/x", &files("old\n").collect::<Vec<_>>());
        let replace = || {
            fs::rename(tree.path(&node), tree.path("gone")).unwrap();
            tree.files(&node, &files("new\n").collect::<Vec<_>>());
            tree.link(&format!("{node}/device"), "devices/platform/x");
        };
        let mut watched = Watched::of(&tree);
        if !is_during {
            replace();
        }
        let mut values = Vec::new();
        let mut emit = |_: &str, _: &str, value: f64| {
            values.push(value);
            replace();
        };
        watched
            .sysfs
            .sample(std::time::Duration::MAX, &mut emit, &|_| false, &mut |_| {});
        assert_eq!(values, [1.0][..usize::from(is_during)]);
    }
}

#[test]
fn another_device_in_the_place_of_one_that_went_never_gets_its_name() {
    let tree = Tree::new();
    let files = [("type", "cpu\n"), ("temp", "50000\n")];
    let zone = tree.virtual_node("thermal", "thermal_zone0", &files);
    let mut watched = Watched::of(&tree);
    expect(
        watched.sample(),
        &[("thermal,type=cpu temperature_c", 50.0)],
    );
    watched.said();
    // Not removed: unlike sysfs, another filesystem may give the inode's number to the next folder.
    fs::rename(tree.path(&zone), tree.path("gone")).unwrap();
    tree.files(&zone, &[("type", "gpu\n"), ("temp", "90000\n")]);
    assert_eq!(watched.values(), []);
    watched.rescan();
    assert_eq!(watched.said(), ["gone temp", "found temp"]);
    expect(
        watched.sample(),
        &[("thermal,type=gpu temperature_c", 90.0)],
    );
}

#[test]
fn a_twin_that_comes_or_goes_does_not_rename_the_one_that_stays() {
    let tree = Tree::new();
    tree.device("platform/x", "platform");
    let node = |number: u32, celsius| {
        let files = [("name", "x\n"), ("temp1_input", celsius)];
        tree.hwmon(number, "platform/x", &files);
    };
    node(5, "5000\n");
    let mut watched = Watched::of(&tree);
    node(3, "3000\n");
    watched.rescan();
    let plain = "hwmon,channel=temp1,chip=x,device=platform/x temperature_c";
    let second = "hwmon,channel=temp1,chip=x,device=platform/x,node=2 temperature_c";
    expect(watched.sample(), &[(plain, 5.0), (second, 3.0)]);
    tree.remove("class/hwmon/hwmon5");
    watched.rescan();
    expect(watched.sample(), &[(second, 3.0)]);
}

#[test]
fn a_scale_that_appears_later_is_used_from_the_next_rescan_on() {
    let tree = Tree::new();
    tree.device("platform/adc", "platform");
    let node = tree.iio(0, "platform/adc", &[("in_pressure_raw", "100\n")]);
    let mut watched = Watched::of(&tree);
    assert_eq!(watched.values(), [100.0]);
    tree.write(&format!("{node}/in_pressure_scale"), "2\n");
    watched.rescan();
    assert_eq!(watched.values(), [200.0]);
    tree.write(&format!("{node}/in_pressure_input"), "7\n");
    watched.rescan();
    assert_eq!(watched.values(), [7.0]);
    assert_eq!(watched.said(), ["found in_pressure_raw"]);
}

#[test]
fn no_sensors_at_all_is_said_once_each_time_that_it_becomes_so() {
    let tree = Tree::new();
    let mut watched = Watched::of(&tree);
    watched.rescan();
    assert_eq!(watched.values(), []);
    let none = format!("none in {}", tree.root.display());
    assert_eq!(watched.said(), [&*none]);
    one_temperature(&tree);
    watched.rescan();
    assert_eq!(watched.said(), ["found temp1_input"]);
    tree.remove("class/hwmon/hwmon0");
    watched.rescan();
    watched.rescan();
    assert_eq!(watched.said(), ["gone temp1_input", &none]);

    let mut nowhere = Sysfs::new(tree.path("nowhere"), Default::default());
    let mut count = 0;
    for _ in 0..3 {
        nowhere.rescan(&mut |notice| {
            let root = &tree.path("nowhere");
            assert_eq!(notice, Notice::None { root });
            count += 1;
        });
    }
    assert_eq!((count, nowhere.channels()), (1, 0));
}

#[test]
fn class_folders_that_are_files_or_lead_nowhere_are_no_sensors() {
    let tree = Tree::new();
    tree.write("class/hwmon", "no folder");
    tree.write("class/power_supply/BAT0", "no folder");
    tree.link("class/thermal/thermal_zone0", "devices/virtual/gone");
    symlink("devices", tree.path("bus")).unwrap();
    let said = Watched::of(&tree).said();
    assert_eq!(said, [format!("none in {}", tree.root.display())]);
}

#[test]
fn the_sys_of_this_machine_can_be_read() {
    let mut sysfs = Sysfs::new("/sys".into(), Default::default());
    let mut found = BTreeSet::new();
    sysfs.rescan(&mut |notice| {
        if let Notice::Channel { sensor, field, .. } = notice {
            assert!(
                found.insert(format!("{sensor} {field}")),
                "{notice:?} twice"
            );
        }
    });
    assert_eq!(sysfs.channels(), found.len());
    for _ in 0..2 {
        let mut emit = |sensor: &str, field: &str, value: f64| {
            assert!(
                found.contains(&format!("{sensor} {field}")),
                "{sensor} {field}"
            );
            assert!(value.is_finite(), "{sensor} {field}={value}");
        };
        sysfs.sample(std::time::Duration::MAX, &mut emit, &|_| false, &mut |_| {});
    }
}

/// Reading some sensors keeps a disk or a graphics card awake.
#[test]
fn a_device_that_is_excluded_is_not_opened() {
    let tree = Tree::new();
    for (number, chip) in [(0, "drivetemp"), (1, "amdgpu"), (2, "k10temp")] {
        let device = format!("pci/0000:00:0{number}.0");
        tree.device(&device, "pci");
        tree.hwmon(
            number,
            &device,
            &[("name", chip), ("temp1_input", "30000\n")],
        );
    }
    let zone = [("type", "x86_pkg_temp\n"), ("temp", "40000\n")];
    tree.virtual_node("thermal", "thermal_zone0", &zone);
    let chips = |include: &[&str], exclude: &[&str]| {
        let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
        let choice = Choice {
            include: words(include),
            exclude: words(exclude),
        };
        let names = Watched::chosen(&tree, choice).names();
        let known = ["drivetemp", "amdgpu", "k10temp", "x86_pkg_temp"];
        let is_there = |chip: &&str| names.iter().any(|name| name.contains(*chip));
        known.into_iter().filter(is_there).collect::<Vec<_>>()
    };
    assert_eq!(chips(&[], &[]).len(), 4);
    assert_eq!(
        chips(&[], &["drive*", "amdgpu"]),
        ["k10temp", "x86_pkg_temp"]
    );
    assert_eq!(chips(&["hwmon"], &["amdgpu"]), ["drivetemp", "k10temp"]);
    assert_eq!(
        chips(&["pci/0000:00:02.0", "thermal"], &[]),
        ["k10temp", "x86_pkg_temp"]
    );
    assert_eq!(chips(&[], &["hwmon"]), ["x86_pkg_temp"]);
    assert_eq!(chips(&["nothing"], &[]), [""; 0]);
}

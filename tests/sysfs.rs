//! Guards against a recorder that tells lies about the kernel's sensors: a value off by a factor, one
//! sensor's readings under another's name, a 0 for what could not be read, a history that breaks at a
//! reboot; and against one sick sensor that stops or silences all others.
//!
//! Each test builds a small `/sys` of its own, with links as the kernel makes them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::*;
use seawall::source::sysfs::{Notice, Reason, Sysfs, parse_number};

/// A root like `/sys`; taken away at the end of the test.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn new() -> Tree {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(format!("seawall-sysfs-{pid}-{count}"));
        fs::create_dir_all(&root).unwrap();
        Tree { root }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.path(path);
        match path.symlink_metadata().unwrap().is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }

    /// A relative link from `link` to `target`, both under the root, as the kernel makes them.
    fn link(&self, link: &str, target: &str) {
        let path = self.path(link);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let up = "../".repeat(Path::new(link).components().count() - 1);
        symlink(format!("{up}{target}"), path).unwrap();
    }

    /// A device at `devices/PLACE` on `bus`.
    fn device(&self, place: &str, bus: &str) {
        let device = format!("devices/{place}");
        fs::create_dir_all(self.path(&device)).unwrap();
        self.link(&format!("{device}/subsystem"), &format!("bus/{bus}"));
    }

    /// The node `hwmonN` of a device, with its `device` link.
    fn hwmon(&self, number: u32, device: &str, files: &[(&str, &str)]) -> String {
        let node = format!("devices/{device}/hwmon/hwmon{number}");
        self.files(&node, files);
        self.link(&format!("{node}/device"), &format!("devices/{device}"));
        self.link(&format!("class/hwmon/hwmon{number}"), &node);
        node
    }

    /// The node of a device that is no child of another: without a `device` link.
    fn virtual_node(&self, class: &str, name: &str, files: &[(&str, &str)]) -> String {
        let node = format!("devices/virtual/{class}/{name}");
        self.files(&node, files);
        self.link(&format!("class/{class}/{name}"), &node);
        node
    }

    /// The iio bus gives its devices no `device` link.
    fn iio(&self, number: u32, device: &str, files: &[(&str, &str)]) -> String {
        let node = format!("devices/{device}/iio:device{number}");
        self.files(&node, files);
        self.link(&format!("{node}/subsystem"), "bus/iio");
        self.link(&format!("bus/iio/devices/iio:device{number}"), &node);
        node
    }

    fn files(&self, dir: &str, files: &[(&str, &str)]) {
        for (name, content) in files {
            self.write(&format!("{dir}/{name}"), content);
        }
    }

    fn mkfifo(&self, path: &str) {
        let status = Command::new("mkfifo").arg(self.path(path)).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// A source with what it said and gave.
struct Watched {
    sysfs: Sysfs,
    notices: Vec<String>,
}

impl Watched {
    fn of(tree: &Tree) -> Watched {
        let mut watched = Watched {
            sysfs: Sysfs::new(tree.root.clone()),
            notices: Vec::new(),
        };
        watched.rescan();
        watched
    }

    fn rescan(&mut self) {
        self.sysfs.rescan(&mut |n| self.notices.push(told(n)));
    }

    /// One pass, by `sensor field`; no name may come twice.
    fn sample(&mut self) -> BTreeMap<String, f64> {
        let mut got = BTreeMap::new();
        let mut emit = |sensor: &str, field: &str, value: f64| {
            assert!(value.is_finite());
            let twice = got.insert(format!("{sensor} {field}"), value);
            assert_eq!(twice, None, "{sensor} {field} came twice");
        };
        self.sysfs
            .sample(&mut emit, &|| false, &mut |n| self.notices.push(told(n)));
        got
    }

    fn values(&mut self) -> Vec<f64> {
        self.sample().into_values().collect()
    }

    fn names(&mut self) -> Vec<String> {
        self.sample().into_keys().collect()
    }

    /// What was said since the last time that this was asked.
    fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }
}

fn told(notice: Notice<'_>) -> String {
    let file = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    match notice {
        Notice::Found { path, .. } => format!("found {}", file(path)),
        Notice::Gone { path, .. } => format!("gone {}", file(path)),
        Notice::Failing { path, reason, .. } => format!("failing {}: {reason:?}", file(path)),
        Notice::Recovered { path, .. } => format!("recovered {}", file(path)),
        Notice::None => "none".to_owned(),
    }
}

/// One hwmon node with one temperature, and where it is.
fn one_temperature(tree: &Tree) -> String {
    tree.device("platform/coretemp.0", "platform");
    tree.hwmon(
        0,
        "platform/coretemp.0",
        &[("name", "coretemp\n"), ("temp1_input", "45125\n")],
    )
}

const ONE_TEMPERATURE: &str =
    "hwmon,channel=temp1,chip=coretemp,device=platform/coretemp.0 temperature_c";

fn expect(got: BTreeMap<String, f64>, expected: &[(&str, f64)]) {
    let expected: BTreeMap<String, f64> = expected
        .iter()
        .map(|&(name, value)| (name.to_owned(), value))
        .collect();
    assert_eq!(got, expected);
}

// The scaling table.

#[test]
fn every_hwmon_file_is_scaled_to_its_unit() {
    let tree = Tree::new();
    tree.device("platform/x.0", "platform");
    tree.hwmon(
        3,
        "platform/x.0",
        &[
            ("name", "x\n"),
            ("in0_input", "12123\n"),
            ("in12_input", "-5\n"),
            ("temp1_input", "-40500\n"),
            ("curr1_input", "2500\n"),
            ("power1_input", "65123456\n"),
            ("power1_average", "64000001\n"),
            ("energy1_input", "9007199254740991\n"),
            ("humidity1_input", "45600\n"),
            ("fan2_input", "1200\n"),
            ("pwm1", "255\n"),
            ("temp1_max", "100000\n"),
        ],
    );
    let name = |channel: &str, field: &str| {
        format!("hwmon,channel={channel},chip=x,device=platform/x.0 {field}")
    };
    let expected = [
        (name("in0", "voltage_v"), 12.123),
        (name("in12", "voltage_v"), -0.005),
        (name("temp1", "temperature_c"), -40.5),
        (name("curr1", "current_a"), 2.5),
        (name("power1", "power_w"), 65.123456),
        (name("power1", "power_average_w"), 64.000001),
        (name("energy1", "energy_j"), 9007199254.740991),
        (name("humidity1", "humidity_percent"), 45.6),
        (name("fan2", "fan_rpm"), 1200.0),
    ];
    let mut watched = Watched::of(&tree);
    assert_eq!(watched.sample(), BTreeMap::from(expected));
    assert_eq!(watched.sysfs.channels(), 9);
}

#[test]
fn a_thermal_zone_is_scaled_and_named_by_its_type() {
    let tree = Tree::new();
    let files = [("type", "cpu-thermal\n"), ("temp", "51234\n")];
    tree.virtual_node("thermal", "thermal_zone7", &files);
    tree.virtual_node(
        "thermal",
        "cooling_device0",
        &[("type", "Processor\n"), ("temp", "1\n")],
    );
    expect(
        Watched::of(&tree).sample(),
        &[("thermal,type=cpu-thermal temperature_c", 51.234)],
    );
}

#[test]
fn every_iio_type_is_scaled_from_its_own_unit() {
    // Of type, raw, scale and field; each processed value is the type's ABI unit.
    let types = [
        ("voltage0", "voltage_v", 1.5),
        ("current0", "current_a", 1.5),
        ("power0", "power_w", 1.5),
        ("temp", "temperature_c", 1.5),
        ("humidityrelative", "humidity_percent", 1.5),
        ("pressure", "pressure_kpa", 1500.0),
        ("accel_x", "acceleration_m_s2", 1500.0),
        ("anglvel_z", "angular_velocity_rad_s", 1500.0),
        ("magn_y", "magnetic_field_gauss", 1500.0),
        ("illuminance", "illuminance_lux", 1500.0),
    ];
    let tree = Tree::new();
    tree.device("platform/raw", "platform");
    tree.device("platform/processed", "platform");
    let raw = tree.iio(0, "platform/raw", &[("name", "r\n")]);
    let processed = tree.iio(1, "platform/processed", &[("name", "p\n")]);
    let mut expected = BTreeMap::new();
    for (channel, field, value) in types {
        // (550 + 50) * 2.5 = 1500
        tree.write(&format!("{raw}/in_{channel}_raw"), "550\n");
        tree.write(&format!("{raw}/in_{channel}_offset"), "50\n");
        tree.write(&format!("{raw}/in_{channel}_scale"), "2.500000000\n");
        tree.write(&format!("{processed}/in_{channel}_input"), "1500.000000\n");
        // For what is processed already, these are not applied once more.
        tree.write(&format!("{processed}/in_{channel}_raw"), "7\n");
        tree.write(&format!("{processed}/in_{channel}_scale"), "100\n");
        tree.write(&format!("{processed}/in_{channel}_offset"), "100\n");
        for (chip, device) in [("r", "raw"), ("p", "processed")] {
            let sensor = format!("iio,channel={channel},chip={chip},device=platform/{device}");
            expected.insert(format!("{sensor} {field}"), value);
        }
    }
    assert_eq!(Watched::of(&tree).sample(), expected);
}

#[test]
fn every_power_supply_file_is_scaled_to_its_unit() {
    let tree = Tree::new();
    tree.device("acpi/PNP0C0A:00", "acpi");
    let node = "devices/acpi/PNP0C0A:00/power_supply/BAT0";
    tree.files(
        node,
        &[
            ("voltage_now", "12345678\n"),
            ("current_now", "-1500000\n"),
            ("power_now", "18500000\n"),
            ("temp", "305\n"),
            ("capacity", "87\n"),
            ("voltage_min_design", "11000000\n"),
            ("energy_now", "1\n"),
        ],
    );
    tree.link(&format!("{node}/device"), "devices/acpi/PNP0C0A:00");
    tree.link("class/power_supply/BAT0", node);
    tree.virtual_node("power_supply", "test_ac", &[("voltage_now", "5000000\n")]);
    let battery = "power_supply,device=acpi/PNP0C0A:00,supply=BAT0";
    let expected = [
        (format!("{battery} voltage_v"), 12.345678),
        (format!("{battery} current_a"), -1.5),
        (format!("{battery} power_w"), 18.5),
        (format!("{battery} temperature_c"), 30.5),
        (format!("{battery} capacity_percent"), 87.0),
        ("power_supply,supply=test_ac voltage_v".to_owned(), 5.0),
    ];
    assert_eq!(Watched::of(&tree).sample(), BTreeMap::from(expected));
}

// iio: which offset and scale.

fn iio_values(files: &[(&str, &str)]) -> Vec<f64> {
    let tree = Tree::new();
    tree.device("platform/adc", "platform");
    tree.iio(0, "platform/adc", files);
    Watched::of(&tree).values()
}

#[test]
fn a_channels_own_scale_goes_before_the_shared_one() {
    let files = [
        ("in_voltage0_raw", "1000\n"),
        ("in_voltage0_scale", "0.5\n"),
        ("in_voltage1_raw", "1000\n"),
        ("in_voltage_scale", "2\n"),
        ("in_voltage_offset", "-100\n"),
        ("in_voltage1_offset", "24\n"),
    ];
    assert_eq!(iio_values(&files), [0.45, 2.048]);
}

#[test]
fn the_three_axes_share_the_scale_of_their_type() {
    let files = [
        ("in_accel_x_raw", "1000\n"),
        ("in_accel_y_raw", "-500\n"),
        ("in_accel_z_raw", "0\n"),
        ("in_accel_scale", "0.000598205\n"),
        ("in_accel_x_calibbias", "77\n"),
        ("in_accel_x_calibscale", "3.0\n"),
        ("in_anglvel_scale", "17\n"),
    ];
    let expected = [1000.0 * 0.000598205, -500.0 * 0.000598205, 0.0];
    assert_eq!(iio_values(&files), expected);
}

#[test]
fn a_modifier_may_have_a_scale_of_its_own_and_a_named_channel_that_of_its_number() {
    let files = [
        ("in_magn_x_raw", "10\n"),
        ("in_magn_x_scale", "0.25\n"),
        ("in_magn_scale", "100\n"),
        ("in_temp_ambient_raw", "2500\n"),
        ("in_temp_ambient_offset", "-500\n"),
        ("in_temp_scale", "10\n"),
        ("in_voltage3_supply_raw", "100\n"),
        ("in_voltage3_scale", "33\n"),
        ("in_voltage_scale", "1\n"),
    ];
    assert_eq!(iio_values(&files), [2.5, 20.0, 3.3]);
}

#[test]
fn a_differential_channel_is_one_channel_with_its_own_scale() {
    let tree = Tree::new();
    tree.device("platform/adc", "platform");
    tree.iio(
        0,
        "platform/adc",
        &[
            ("in_voltage0-voltage1_raw", "-2000\n"),
            ("in_voltage0-voltage1_scale", "0.5\n"),
            ("in_voltage2-voltage3_raw", "2000\n"),
            ("in_voltage-voltage_scale", "0.25\n"),
            ("in_voltage2_raw", "2000\n"),
            ("in_voltage2_scale", "4\n"),
        ],
    );
    let name = |channel| format!("iio,channel={channel},device=platform/adc voltage_v");
    let expected = [
        (name("voltage0-voltage1"), -1.0),
        (name("voltage2"), 8.0),
        (name("voltage2-voltage3"), 0.5),
    ];
    assert_eq!(Watched::of(&tree).sample(), BTreeMap::from(expected));
    let shared = [
        ("in_voltage0-voltage1_raw", "7\n"),
        ("in_voltage0_scale", "9\n"),
        ("in_voltage_scale", "1000\n"),
    ];
    assert_eq!(iio_values(&shared), [7.0]);
}

#[test]
fn a_scale_that_changes_counts_from_the_next_reading_on() {
    let tree = Tree::new();
    tree.device("platform/adc", "platform");
    let node = tree.iio(
        0,
        "platform/adc",
        &[("in_pressure_raw", "100\n"), ("in_pressure_scale", "1\n")],
    );
    let mut watched = Watched::of(&tree);
    assert_eq!(watched.values(), [100.0]);
    tree.write(&format!("{node}/in_pressure_scale"), "0.125\n");
    assert_eq!(watched.values(), [12.5]);
}

#[test]
fn without_a_scale_the_raw_number_counts_as_the_abis_unit() {
    assert_eq!(iio_values(&[("in_voltage0_raw", "1234\n")]), [1.234]);
}

#[test]
fn a_scale_that_cannot_be_read_leaves_no_value_rather_than_a_wrong_one() {
    let tree = Tree::new();
    tree.device("platform/adc", "platform");
    tree.iio(
        0,
        "platform/adc",
        &[
            ("in_voltage0_raw", "1\n"),
            ("in_voltage0_scale", "\n"),
            ("in_voltage1_raw", "1\n"),
            ("in_voltage1_offset", "none\n"),
        ],
    );
    let mut watched = Watched::of(&tree);
    watched.said();
    assert_eq!(watched.values(), []);
    assert_eq!(
        watched.said(),
        [
            "failing in_voltage0_scale: NoNumber",
            "failing in_voltage1_offset: NoNumber"
        ]
    );
}

// Names.

/// A machine with a bit of everything, its numbers given out from `first` in this or the other order.
fn machine(first: u32, turned: bool) -> Tree {
    let tree = Tree::new();
    let order: Vec<u32> = match turned {
        false => (0..6).collect(),
        true => (0..6).rev().collect(),
    };
    let number = |at: usize| first + order[at];
    tree.device("platform/coretemp.0", "platform");
    tree.device("platform/coretemp.1", "platform");
    for (at, celsius) in [(0, "50000\n"), (1, "60000\n")] {
        tree.hwmon(
            number(at),
            &format!("platform/coretemp.{at}"),
            &[("name", "coretemp\n"), ("temp1_input", celsius)],
        );
    }
    // A disk: its hwmon node belongs to nvmeN, which is numbered in load order as well.
    for (at, place, celsius) in [
        (2, "0000:01:00.0", "33000\n"),
        (3, "0000:02:00.0", "34000\n"),
    ] {
        let pci = format!("pci0000:00/{place}");
        tree.device(&pci, "pci");
        let nvme = format!("{pci}/nvme/nvme{}", number(at));
        let node = tree.hwmon(
            number(at),
            &nvme,
            &[("name", "nvme\n"), ("temp1_input", celsius)],
        );
        tree.link(&format!("devices/{nvme}/subsystem"), "class/nvme");
        assert!(tree.path(&node).join("device").exists());
    }
    // Two nodes of one device with one name, told apart by what they measure.
    tree.device("platform/wmi", "platform");
    let fans = [
        ("name", "asus\n"),
        ("fan1_input", "900\n"),
        ("temp1_input", "1000\n"),
    ];
    let voltage = [
        ("name", "asus\n"),
        ("in0_input", "2000\n"),
        ("temp1_input", "2000\n"),
    ];
    tree.hwmon(number(4), "platform/wmi", &fans);
    tree.hwmon(number(5), "platform/wmi", &voltage);
    // Or by a label, which tells apart the channels beside it too.
    tree.device("platform/psu", "platform");
    for (at, label, celsius) in [(4, "left\n", "3000\n"), (5, "right\n", "4000\n")] {
        let files = [
            ("temp1_input", celsius),
            ("temp1_label", label),
            ("temp2_input", celsius),
        ];
        tree.hwmon(number(at) + 20, "platform/psu", &files);
    }
    for (at, address, kpa) in [(0, "1-0076", "100\n"), (1, "1-0077", "101\n")] {
        let place = format!("platform/soc/i2c-1/{address}");
        tree.device(&place, "i2c");
        let files = [("name", "bmp280\n"), ("in_pressure_input", kpa)];
        tree.iio(number(at), &place, &files);
    }
    for (at, kind, celsius) in [
        (0, "cpu-thermal\n", "70000\n"),
        (1, "gpu-thermal\n", "71000\n"),
    ] {
        let zone = format!("thermal_zone{}", number(at));
        tree.virtual_node("thermal", &zone, &[("type", kind), ("temp", celsius)]);
    }
    // Of a thermal zone: there is no bus to name it by, only its type.
    let zone = format!("virtual/thermal/thermal_zone{}", number(0));
    tree.link(&format!("devices/{zone}/subsystem"), "class/thermal");
    let files = [("name", "cpu_thermal\n"), ("temp1_input", "70000\n")];
    tree.hwmon(first + 7, &zone, &files);
    // A second connection of the same HID device gets another number.
    let hid = format!(
        "pci0000:00/usb1/1-3/1-3:1.0/0003:1B1C:0C10.{:04X}",
        number(0)
    );
    tree.device(&hid, "hid");
    let files = [("name", "corsaircpro\n"), ("in0_input", "12000\n")];
    tree.hwmon(first + 8, &hid, &files);
    tree
}

#[test]
fn renumbering_at_a_reboot_changes_no_name() {
    let before = Watched::of(&machine(0, false)).sample();
    assert_eq!(before.len(), 18);
    assert_eq!(before, Watched::of(&machine(0, true)).sample());
    assert_eq!(before, Watched::of(&machine(7, false)).sample());
    assert_eq!(before, Watched::of(&machine(97, true)).sample());
    for name in [
        "hwmon,channel=temp1,chip=nvme,device=pci/0000:01:00.0 temperature_c",
        "hwmon,channel=temp1,chip=asus,device=platform/wmi temperature_c",
        "hwmon,channel=temp1,chip=asus,device=platform/wmi,node=2 temperature_c",
        "hwmon,channel=temp1,chip=cpu_thermal temperature_c",
        "hwmon,channel=in0,chip=corsaircpro,device=hid/0003:1B1C:0C10 voltage_v",
        "iio,channel=pressure,chip=bmp280,device=i2c/1-0076 pressure_kpa",
    ] {
        assert!(before.contains_key(name), "{name} in {before:#?}");
    }
}

#[test]
fn two_nodes_of_one_device_with_one_name_stay_two() {
    let tree = Tree::new();
    tree.device("platform/x", "platform");
    for (number, celsius) in [(2, "2000\n"), (10, "10000\n"), (1, "1000\n")] {
        let files = [("name", "x\n"), ("temp1_input", celsius)];
        tree.hwmon(number, "platform/x", &files);
    }
    let plain = "hwmon,channel=temp1,chip=x,device=platform/x";
    let expected = [
        (format!("{plain} temperature_c"), 1.0),
        (format!("{plain},node=2 temperature_c"), 2.0),
        (format!("{plain},node=3 temperature_c"), 10.0),
    ];
    assert_eq!(Watched::of(&tree).sample(), BTreeMap::from(expected));
}

#[test]
fn nodes_without_a_device_link_are_named_by_their_chip_and_told_apart() {
    let tree = Tree::new();
    let files = [("name", "pmbus\n"), ("in1_input", "1000\n")];
    tree.virtual_node("hwmon", "hwmon4", &files);
    let files = [("name", "pmbus\n"), ("in1_input", "2000\n")];
    tree.virtual_node("hwmon", "hwmon5", &files);
    // Neither link nor name, and no link in the class folder either.
    tree.write("class/hwmon/hwmon6/fan1_input", "3000\n");
    for (zone, celsius) in [("thermal_zone0", "5000\n"), ("thermal_zone1", "6000\n")] {
        let files = [("type", "acpitz\n"), ("temp", celsius)];
        tree.virtual_node("thermal", zone, &files);
    }
    expect(
        Watched::of(&tree).sample(),
        &[
            ("hwmon,channel=in1,chip=pmbus voltage_v", 1.0),
            ("hwmon,channel=in1,chip=pmbus,node=2 voltage_v", 2.0),
            ("hwmon,channel=fan1 fan_rpm", 3000.0),
            ("thermal,type=acpitz temperature_c", 5.0),
            ("thermal,node=2,type=acpitz temperature_c", 6.0),
        ],
    );
}

#[test]
fn a_device_without_a_bus_is_named_by_its_whole_path() {
    let tree = Tree::new();
    for (number, place) in [(0, "soc/a/sensor"), (1, "soc/b/sensor")] {
        fs::create_dir_all(tree.path(&format!("devices/{place}"))).unwrap();
        let files = [("name", "s\n"), ("in0_input", "1000\n")];
        tree.hwmon(number, place, &files);
    }
    // A link that leads nowhere still says its last component.
    tree.write("class/hwmon/hwmon2/in0_input", "1000\n");
    symlink("../nowhere/1-004c", tree.path("class/hwmon/hwmon2/device")).unwrap();
    assert_eq!(
        Watched::of(&tree).names(),
        [
            "hwmon,channel=in0,chip=s,device=soc/a/sensor voltage_v",
            "hwmon,channel=in0,chip=s,device=soc/b/sensor voltage_v",
            "hwmon,channel=in0,device=1-004c voltage_v",
        ]
    );
}

#[test]
fn attributes_in_the_devices_folder_are_found_with_their_name() {
    let tree = Tree::new();
    tree.device("i2c-1/1-004c", "i2c");
    tree.hwmon(0, "i2c-1/1-004c", &[("uevent", "")]);
    tree.files(
        "devices/i2c-1/1-004c",
        &[
            ("name", "lm75\n"),
            ("temp1_input", "21500\n"),
            ("temp1_label", "board\n"),
            ("temp1_fault", "0\n"),
        ],
    );
    // A second such node of the same device shows the same files: that is one sensor, not two.
    tree.hwmon(1, "i2c-1/1-004c", &[("uevent", "")]);
    expect(
        Watched::of(&tree).sample(),
        &[(
            "hwmon,channel=temp1,chip=lm75,device=i2c/1-004c,label=board temperature_c",
            21.5,
        )],
    );
}

#[test]
fn a_node_with_attributes_of_its_own_takes_none_from_its_device() {
    let tree = Tree::new();
    tree.device("platform/x", "platform");
    let files = [("name", "x\n"), ("temp1_input", "1000\n")];
    tree.hwmon(0, "platform/x", &files);
    tree.write("devices/platform/x/temp2_input", "2000\n");
    assert_eq!(Watched::of(&tree).values(), [1.0]);
}

#[test]
fn labels_are_tags_whatever_bytes_they_hold() {
    let labels: [(&[u8], &str); 8] = [
        (b"Core 0\n", r",label=Core\ 0"),
        (b"a,b=c d\n", r",label=a\,b\=c\ d"),
        (b"t\xff\xfemp\n", ",label=t\u{fffd}\u{fffd}mp"),
        (b"two\nlines\x00\x1b[31m\n", r",label=two\ lines\ \ [31m"),
        (b"back\\\n", ",label=back/"),
        ("Gehäuse\n".as_bytes(), ",label=Gehäuse"),
        (b" \n", ""),
        (b"", ""),
    ];
    for (label, tag) in labels {
        let tree = Tree::new();
        let node = one_temperature(&tree);
        tree.write(&format!("{node}/temp1_label"), label);
        let (sensor, field) = ONE_TEMPERATURE.split_once(' ').unwrap();
        let names = Watched::of(&tree).names();
        assert_eq!(names, [format!("{sensor}{tag} {field}")], "{label:?}");
    }
}

#[test]
fn labels_that_come_out_the_same_do_not_merge_their_channels() {
    let tree = Tree::new();
    tree.device("platform/x", "platform");
    for (number, label) in [(0, "a/\n"), (1, "a\\\n")] {
        let node = tree.hwmon(number, "platform/x", &[("temp1_input", "1000\n")]);
        tree.write(&format!("{node}/temp1_label"), label);
    }
    assert_eq!(Watched::of(&tree).values(), [1.0, 1.0]);
}

#[test]
fn a_label_without_end_does_not_make_a_name_without_end() {
    let tree = Tree::new();
    let node = one_temperature(&tree);
    tree.write(&format!("{node}/temp1_label"), "x".repeat(100_000));
    let names = Watched::of(&tree).names();
    assert_eq!(names.len(), 1);
    assert!(names[0].len() < 256);
}

#[test]
fn an_iio_label_and_the_nodes_own_label_are_tags() {
    let tree = Tree::new();
    tree.device("spi0/spi0.0", "spi");
    let files = [
        ("name", "ad7124\n"),
        ("label", "main board\n"),
        ("in_voltage0_raw", "1\n"),
        ("in_voltage0_label", "vbat\n"),
    ];
    tree.iio(0, "spi0/spi0.0", &files);
    assert_eq!(
        Watched::of(&tree).names(),
        [
            r"iio,channel=voltage0,chip=ad7124,device=spi/spi0.0,device_label=main\ board,label=vbat voltage_v"
        ]
    );
}

#[test]
fn names_that_are_not_utf8_stop_nothing() {
    let tree = Tree::new();
    let node = one_temperature(&tree);
    let odd = tree.path(&node).join(OsStr::from_bytes(b"temp\xff_input"));
    fs::write(odd, "1\n").unwrap();
    let odd = tree
        .path("class/hwmon")
        .join(OsStr::from_bytes(b"hwmon\xff"));
    fs::create_dir_all(odd).unwrap();
    expect(Watched::of(&tree).sample(), &[(ONE_TEMPERATURE, 45.125)]);
}

// Reading.

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
    let expected = format!("failing temp2_input: {:?}", Reason::Errno(21));
    assert_eq!(watched.said(), [expected]);
    assert_eq!(
        Reason::Errno(21).to_string(),
        "Is a directory (os error 21)"
    );
    tree.remove(&format!("{node}/temp2_input"));
    tree.write(&format!("{node}/temp2_input"), "2000\n");
    assert_eq!(watched.values(), [45.125, 2.0, 3.0]);
    assert_eq!(watched.values(), [45.125, 2.0, 3.0]);
    assert_eq!(watched.said(), ["recovered temp2_input"]);
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
    let halt = || count.get() == 2;
    let mut emit = |_: &str, _: &str, _: f64| count.set(count.get() + 1);
    watched.sysfs.sample(&mut emit, &halt, &mut |_| {});
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

// Coming and going.

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
    tree.remove(&zone);
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
    assert_eq!(watched.said(), ["none"]);
    one_temperature(&tree);
    watched.rescan();
    assert_eq!(watched.said(), ["found temp1_input"]);
    tree.remove("class/hwmon/hwmon0");
    watched.rescan();
    watched.rescan();
    assert_eq!(watched.said(), ["gone temp1_input", "none"]);

    let mut nowhere = Sysfs::new(tree.path("nowhere"));
    let mut count = 0;
    for _ in 0..3 {
        nowhere.rescan(&mut |notice| {
            assert_eq!(notice, Notice::None);
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
    assert_eq!(Watched::of(&tree).said(), ["none"]);
}

#[test]
fn the_sys_of_this_machine_can_be_read() {
    let mut sysfs = Sysfs::new("/sys".into());
    sysfs.rescan(&mut |notice| println!("{notice:?}"));
    let mut emit = |sensor: &str, field: &str, value: f64| println!("{sensor} {field}={value}");
    for _ in 0..2 {
        sysfs.sample(&mut emit, &|| false, &mut |notice| println!("{notice:?}"));
    }
    println!("channels={}", sysfs.channels());
}

// Numbers.

/// What the kernel's drivers write, and near misses.
fn attribute_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (any::<i32>(), 0u32..1_000_000_000).prop_map(|(n, nano)| format!("{n}.{nano:09}")),
        "[-+]{0,2}[0-9]{0,30}[.]{0,2}[0-9]{0,30}",
        "[-+0-9.eExinfnaNIF_ ]{0,12}",
    ]
}

proptest! {
    #[test]
    fn plain_decimals_parse_as_rust_parses_them(
        text in attribute_text(), before in "[ \t\n]{0,3}", after in "[ \t\r\n]{0,3}"
    ) {
        let plain = text.trim_ascii();
        let decimal = plain.bytes().all(|b| b.is_ascii_digit() || b"+-.".contains(&b));
        let expected = plain.parse::<f64>().ok().filter(|n| decimal && n.is_finite());
        let got = parse_number(format!("{before}{text}{after}").as_bytes());
        prop_assert_eq!(got.map(f64::to_bits), expected.map(f64::to_bits));
    }

    #[test]
    fn any_bytes_are_a_finite_number_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Some(number) = parse_number(&bytes) {
            prop_assert!(number.is_finite());
            prop_assert!(bytes.iter().any(u8::is_ascii_digit));
        }
    }
}

//! Names: guards against one sensor's readings under another's name, and a history that breaks at a reboot.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use crate::support::sysfs::*;

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

/// An SMBus sensor behind a PCI adapter, a wireless mouse, a sensor hub: all three are counted by the kernel.
fn counted(adapter: u32, mouse: u32, hub: u32) -> Tree {
    let tree = Tree::new();
    tree.device("pci0000:00/0000:00:1f.4", "pci");
    let adapter_path = format!("pci0000:00/0000:00:1f.4/i2c-{adapter}");
    tree.device(&adapter_path, "i2c");
    let chip = format!("{adapter_path}/{adapter}-0018");
    tree.device(&chip, "i2c");
    tree.hwmon(
        adapter,
        &chip,
        &[("name", "jc42\n"), ("temp1_input", "41250\n")],
    );
    let hid = format!("pci0000:00/usb1/1-4/1-4:1.0/0003:046D:4051.{mouse:04X}");
    tree.device(&hid, "hid");
    let battery = format!("devices/{hid}/power_supply/hidpp_battery_{mouse}");
    tree.files(&battery, &[("capacity", "55\n")]);
    tree.link(&format!("{battery}/device"), &format!("devices/{hid}"));
    tree.link(
        &format!("class/power_supply/hidpp_battery_{mouse}"),
        &battery,
    );
    let hub_path =
        format!("pci0000:00/usb1/1-6/1-6:1.0/0003:2047:0855.0001/HID-SENSOR-200041.{hub}.auto");
    tree.device(&hub_path, "platform");
    tree.iio(
        hub,
        &hub_path,
        &[("name", "als\n"), ("in_illuminance_raw", "120\n")],
    );
    tree
}

#[test]
fn what_the_kernel_counts_is_in_no_name() {
    let expected = [
        (
            "hwmon,channel=temp1,chip=jc42,device=pci/0000:00:1f.4/0018 temperature_c",
            41.25,
        ),
        (
            "power_supply,device=hid/0003:046D:4051,supply=hidpp_battery capacity_percent",
            55.0,
        ),
        (
            "iio,channel=illuminance,chip=als,device=platform/HID-SENSOR-200041 illuminance_lux",
            120.0,
        ),
    ];
    for (adapter, mouse, hub) in [(0, 1, 3), (9, 12, 7)] {
        expect(
            Watched::of(&counted(adapter, mouse, hub)).sample(),
            &expected,
        );
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

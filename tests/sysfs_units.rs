//! Units: guards against a value of the kernel's sensors that is off by a factor.

use std::collections::BTreeMap;

use crate::support::sysfs::*;

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
            ("energy_full_design", "1\n"),
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

/// Sensors of air, water and distance, as SCD4x, SPS30, BME680 and others have them.
#[test]
fn what_else_the_abi_documents_is_recorded_in_its_unit() {
    let tree = Tree::new();
    tree.device("i2c-1/1-0062", "i2c");
    let files = [
        ("name", "air\n"),
        ("in_concentration_co2_raw", "812\n"),
        ("in_concentration_co2_scale", "0.000100000\n"),
        ("in_massconcentration_pm2p5_input", "5.1\n"),
        ("in_resistance_input", "52344\n"),
        ("in_distance_input", "1.25\n"),
        ("in_proximity_raw", "77\n"),
        ("in_uvindex_input", "6\n"),
        ("in_ph_raw", "7\n"),
        ("in_angl0_raw", "3\n"),
        ("in_angl0_scale", "0.5\n"),
    ];
    tree.iio(0, "i2c-1/1-0062", &files);
    let supply = "devices/virtual/power_supply/BAT0";
    let files = [
        ("energy_now", "36000000\n"),
        ("charge_now", "1000000\n"),
        ("cycle_count", "312\n"),
    ];
    tree.files(supply, &files);
    tree.link("class/power_supply/BAT0", supply);
    let iio = |channel: &str, field: &str| {
        format!("iio,channel={channel},chip=air,device=i2c/1-0062 {field}")
    };
    let expected = [
        (iio("concentration_co2", "concentration_percent"), 0.0812),
        (
            iio("massconcentration_pm2p5", "mass_concentration_ug_m3"),
            5.1,
        ),
        (iio("resistance", "resistance_ohm"), 52344.0),
        (iio("distance", "distance_m"), 1.25),
        (iio("proximity", "proximity"), 77.0),
        (iio("uvindex", "uv_index"), 6.0),
        (iio("ph", "ph"), 7.0),
        (iio("angl0", "angle_rad"), 1.5),
        ("power_supply,supply=BAT0 energy_j".into(), 129_600.0),
        ("power_supply,supply=BAT0 charge_c".into(), 3_600.0),
        ("power_supply,supply=BAT0 cycles".into(), 312.0),
    ];
    let got = Watched::of(&tree).sample();
    assert_eq!(got.len(), expected.len(), "{got:#?}");
    for (name, value) in expected {
        let found = got
            .get(&name)
            .unwrap_or_else(|| panic!("{name} in {got:#?}"));
        assert!((found - value).abs() <= value * 1e-12, "{name} {found}");
    }
}

#[test]
fn the_words_of_a_battery_are_recorded_as_numbers_that_stay() {
    let tree = Tree::new();
    let supply = "devices/virtual/power_supply/BAT0";
    tree.link("class/power_supply/BAT0", supply);
    let values = |health: &str, status: &str, charge_type: &str| {
        let files = [
            ("health", health),
            ("status", status),
            ("charge_type", charge_type),
        ];
        tree.files(supply, &files);
        let got = Watched::of(&tree).sample();
        ["health", "status", "charge_type"].map(|field| {
            got.get(&format!("power_supply,supply=BAT0 {field}"))
                .copied()
        })
    };
    let some = |numbers: [f64; 3]| numbers.map(Some);
    assert_eq!(
        values("Unknown\n", "Unknown\n", "Unknown\n"),
        some([0.0; 3])
    );
    assert_eq!(
        values("Good\n", "Discharging\n", "N/A\n"),
        some([1.0, 2.0, 1.0])
    );
    assert_eq!(
        values("No battery\n", "Full\n", "Long Life\n"),
        some([14.0, 4.0, 7.0])
    );
    // The kernel writes the number of a word that it does not know.
    assert_eq!(
        values("Under voltage\n", "9\n", "Slow\n"),
        [Some(17.0), Some(9.0), None]
    );
}

#[test]
fn what_looks_like_a_channel_and_is_not_known_is_told_once_a_device() {
    let tree = Tree::new();
    tree.device("platform/x", "platform");
    let files = [
        ("name", "x\n"),
        ("freq1_input", "1\n"),
        ("temp1_input", "1000\n"),
        ("temp1_max", "1\n"),
    ];
    tree.hwmon(0, "platform/x", &files);
    tree.device("platform/y", "platform");
    let files = [
        ("in_gravity_x_raw", "1\n"),
        ("in_radiation_input", "1\n"),
        ("in_temp_input", "1\n"),
        ("in_temp_raw", "1\n"),
        ("in_accel_x_calibbias", "1\n"),
    ];
    tree.iio(0, "platform/y", &files);
    tree.device("platform/z", "platform");
    tree.iio(1, "platform/z", &[("in_rot_raw", "1\n")]);
    let mut watched = Watched::of(&tree);
    watched.rescan();
    let said = watched.said();
    let unknown: Vec<_> = said.iter().filter(|s| s.starts_with("unknown ")).collect();
    let expected = [
        "unknown freq1_input",
        "unknown in_gravity_x_raw,in_radiation_input",
        "unknown in_rot_raw",
    ];
    assert_eq!(unknown, expected);
    assert_eq!(watched.values().len(), 2);
}

/// Drivers give what their registers hold where no sensor is connected.
#[test]
fn below_absolute_zero_there_is_no_reading() {
    let tree = Tree::new();
    tree.device("platform/x", "platform");
    let files = [
        ("name", "x\n"),
        ("temp1_input", "-650788984\n"),
        ("temp2_input", "-273150\n"),
    ];
    tree.hwmon(0, "platform/x", &files);
    let mut watched = Watched::of(&tree);
    assert_eq!(watched.values(), [-273.15]);
    assert!(
        watched
            .notices
            .iter()
            .any(|notice| notice == "failing temp1_input: OutOfRange"),
        "{:?}",
        watched.notices
    );
}

#[test]
fn alarms_limits_and_calibrations_are_neither_channels_nor_parts_of_one() {
    let tree = Tree::new();
    tree.device("platform/x", "platform");
    let files = [
        ("alarms", "1\n"),
        ("fan1_alarm", "1\n"),
        ("fan1_input", "1000\n"),
        ("in0_input", "1000\n"),
        ("in0_max_alarm", "1\n"),
        ("in_input", "1\n"),
        ("intrusion0_alarm", "1\n"),
        ("power1_average", "1000000\n"),
        ("power1_average_interval", "1\n"),
        ("power1_cap_alarm", "1\n"),
        ("power1_input_highest", "1\n"),
        ("temp1_crit_alarm", "1\n"),
        ("temp1_input", "1000\n"),
        ("temp1_max", "1\n"),
        ("temp1_offset", "500\n"),
        ("tempx_input", "1\n"),
    ];
    tree.hwmon(0, "platform/x", &files);
    let name = |channel| format!("hwmon,channel={channel},device=platform/x");
    let expected = [
        (name("fan1") + " fan_rpm", 1000.0),
        (name("in0") + " voltage_v", 1.0),
        (name("power1") + " power_average_w", 1.0),
        (name("temp1") + " temperature_c", 1.0),
    ];
    assert_eq!(Watched::of(&tree).sample(), BTreeMap::from(expected));
    let files = [
        ("in_accel_x_calibbias", "1\n"),
        ("in_accel_x_calibscale", "1\n"),
        ("in_accel_x_raw", "3\n"),
        ("in_illuminance0_target_input", "1\n"),
        ("in_temperature_raw", "1\n"),
        ("in_voltage0_mean_raw", "1\n"),
        ("out_voltage0_raw", "1\n"),
        ("sampling_frequency", "1\n"),
    ];
    assert_eq!(iio_values(&files), [3.0]);
}

#[test]
fn the_nearest_scale_counts() {
    let all = [
        ("in_voltage0_vdd_scale", "1\n"),
        ("in_voltage0_scale", "2\n"),
        ("in_voltage_scale", "3\n"),
        ("in_scale", "4\n"),
        ("scale", "5\n"),
    ];
    for (nearest, scale) in [1.0, 2.0, 3.0, 4.0, 5.0].into_iter().enumerate() {
        let files = [&all[nearest..], &[("in_voltage0_vdd_raw", "1000\n")]].concat();
        assert_eq!(iio_values(&files), [scale]);
    }
}

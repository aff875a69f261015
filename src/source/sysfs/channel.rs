//! Channels by the names of a folder's files, with their units, and numbers from the files' text.
//!
//! Pure. No file is opened that no `Spec` names, above all no `*_alarm`, because reading some of
//! those clears them.

/// The kernel's classes of sensors. The name is the measurement of their readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SensorClass {
    Hwmon,
    Thermal,
    Iio,
    PowerSupply,
}

impl SensorClass {
    pub const ALL: [SensorClass; 4] = [
        SensorClass::Hwmon,
        SensorClass::Thermal,
        SensorClass::Iio,
        SensorClass::PowerSupply,
    ];

    pub fn name(self) -> &'static str {
        match self {
            SensorClass::Hwmon => "hwmon",
            SensorClass::Thermal => "thermal",
            SensorClass::Iio => "iio",
            SensorClass::PowerSupply => "power_supply",
        }
    }

    /// Folder of the nodes, below the root.
    pub fn folder(self) -> &'static str {
        match self {
            SensorClass::Hwmon => "class/hwmon",
            SensorClass::Thermal => "class/thermal",
            SensorClass::Iio => "bus/iio/devices",
            SensorClass::PowerSupply => "class/power_supply",
        }
    }

    /// Prefix of a node's name; cooling devices and triggers are in the same folders.
    pub fn prefix(self) -> &'static str {
        match self {
            SensorClass::Hwmon => "hwmon",
            SensorClass::Thermal => "thermal_zone",
            SensorClass::Iio => "iio:device",
            SensorClass::PowerSupply => "",
        }
    }

    /// File with the kind of node, and the tag for it.
    pub fn title(self) -> Option<(&'static str, &'static str)> {
        match self {
            SensorClass::Hwmon | SensorClass::Iio => Some(("name", "chip")),
            SensorClass::Thermal => Some(("type", "type")),
            SensorClass::PowerSupply => None,
        }
    }
}

/// A field, and the divisor from the file's unit to the field's.
type Unit = (&'static str, f64);

/// `prefixN_suffix`.
const HWMON: [(&str, &str, Unit); 8] = [
    ("in", "input", ("voltage_v", 1e3)),
    ("temp", "input", ("temperature_c", 1e3)),
    ("curr", "input", ("current_a", 1e3)),
    ("power", "input", ("power_w", 1e6)),
    ("power", "average", ("power_average_w", 1e6)),
    ("energy", "input", ("energy_j", 1e6)),
    ("humidity", "input", ("humidity_percent", 1e3)),
    ("fan", "input", ("fan_rpm", 1.0)),
];

const THERMAL: [(&str, Unit); 1] = [("temp", ("temperature_c", 1e3))];

/// Joules and coulombs in a µWh and a µAh, as a divisor.
const PER_HOUR: f64 = 1e6 / 3600.0;

const POWER_SUPPLY: [(&str, Unit); 8] = [
    ("voltage_now", ("voltage_v", 1e6)),
    ("current_now", ("current_a", 1e6)),
    ("power_now", ("power_w", 1e6)),
    ("temp", ("temperature_c", 10.0)),
    ("capacity", ("capacity_percent", 1.0)),
    ("energy_now", ("energy_j", PER_HOUR)),
    ("charge_now", ("charge_c", PER_HOUR)),
    ("cycle_count", ("cycles", 1.0)),
];

/// Files that hold a word, and the number of each word, which stays: the kernel adds to its own in the middle.
#[rustfmt::skip]
const WORDS: [(&str, &[&str]); 3] = [
    ("health", &[
        "Unknown", "Good", "Overheat", "Dead", "Over voltage", "Unspecified failure", "Cold", "Watchdog timer expire",
        "Safety timer expire", "Over current", "Calibration required", "Warm", "Cool", "Hot", "No battery", "Blown fuse",
        "Cell imbalance", "Under voltage",
    ]),
    ("status", &["Unknown", "Charging", "Discharging", "Not charging", "Full"]),
    ("charge_type", &[
        "Unknown", "N/A", "Trickle", "Fast", "Standard", "Adaptive", "Custom", "Long Life", "Bypass",
    ]),
];

/// `in_TYPE…_raw` and `in_TYPE…_input`.
const IIO: [(&str, Unit); 18] = [
    ("voltage", ("voltage_v", 1e3)),
    ("current", ("current_a", 1e3)),
    ("power", ("power_w", 1e3)),
    ("temp", ("temperature_c", 1e3)),
    ("humidityrelative", ("humidity_percent", 1e3)),
    ("pressure", ("pressure_kpa", 1.0)),
    ("accel", ("acceleration_m_s2", 1.0)),
    ("anglvel", ("angular_velocity_rad_s", 1.0)),
    ("magn", ("magnetic_field_gauss", 1.0)),
    ("illuminance", ("illuminance_lux", 1.0)),
    ("concentration", ("concentration_percent", 1.0)),
    ("massconcentration", ("mass_concentration_ug_m3", 1.0)),
    ("resistance", ("resistance_ohm", 1.0)),
    ("distance", ("distance_m", 1.0)),
    // In metres where the driver knows a scale, and a bare number otherwise.
    ("proximity", ("proximity", 1.0)),
    ("uvindex", ("uv_index", 1.0)),
    ("ph", ("ph", 1.0)),
    ("angl", ("angle_rad", 1.0)),
];

/// Suffixes of iio names that are no channels: statistics of one, and a setting.
const IIO_NO_CHANNEL: [&str; 4] = ["_mean", "_peak", "_trough", "_target"];

/// One channel by the names of its files: (`input` + `offset`) * `scale` / `divisor` is its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Empty where the field is enough (thermal, power_supply).
    pub channel: String,
    pub field: &'static str,
    pub divisor: f64,
    pub input: String,
    pub label: Option<String>,
    pub enable: Option<String>,
    pub fault: Option<String>,
    pub offset: Option<String>,
    pub scale: Option<String>,
    /// Words that `input` may hold in place of a number.
    pub words: &'static [&'static str],
}

impl Spec {
    fn plain(channel: &str, (field, divisor): Unit, input: &str) -> Spec {
        Spec {
            channel: channel.to_owned(),
            field,
            divisor,
            input: input.to_owned(),
            label: None,
            enable: None,
            fault: None,
            offset: None,
            scale: None,
            words: &[],
        }
    }
}

/// Channels of a node, from the names of its files, which are in order.
pub fn channels(class: SensorClass, names: &[String]) -> Vec<Spec> {
    match class {
        SensorClass::Hwmon => names.iter().filter_map(|name| hwmon(name, names)).collect(),
        SensorClass::Iio => names.iter().filter_map(|name| iio(name, names)).collect(),
        SensorClass::Thermal => listed(&THERMAL, names),
        SensorClass::PowerSupply => {
            let mut specs = listed(&POWER_SUPPLY, names);
            for (name, words) in WORDS {
                if has(names, name) {
                    specs.push(Spec {
                        words,
                        ..Spec::plain("", (name, 1.0), name)
                    });
                }
            }
            specs
        }
    }
}

/// Files that look like channels and are none of `specs`, comma-separated.
pub fn unknown(class: SensorClass, names: &[String], specs: &[Spec]) -> String {
    let is_channel = |name: &str| match class {
        SensorClass::Hwmon => name.ends_with("_input"),
        SensorClass::Thermal => false,
        SensorClass::Iio => {
            let channel = name
                .strip_prefix("in_")
                .and_then(|rest| rest.rsplit_once('_'));
            channel.is_some_and(|(channel, suffix)| {
                let is_raw = suffix == "raw" && !has(names, &format!("in_{channel}_input"));
                let is_other = IIO_NO_CHANNEL.iter().any(|end| channel.ends_with(end));
                (is_raw || suffix == "input") && !is_other
            })
        }
        SensorClass::PowerSupply => ["_now", "_avg", "_ambient"]
            .iter()
            .any(|end| name.ends_with(end)),
    };
    let mut unknown = String::new();
    for name in names {
        if is_channel(name) && specs.iter().all(|spec| spec.input != *name) {
            unknown += if unknown.is_empty() { "" } else { "," };
            unknown += name;
        }
    }
    unknown
}

fn listed(table: &[(&str, Unit)], names: &[String]) -> Vec<Spec> {
    table
        .iter()
        .filter(|(name, _)| has(names, name))
        .map(|&(name, unit)| Spec::plain("", unit, name))
        .collect()
}

fn hwmon(name: &str, names: &[String]) -> Option<Spec> {
    let (channel, suffix) = name.rsplit_once('_')?;
    let &(_, _, unit) = HWMON.iter().find(|(prefix, ending, _)| {
        suffix == *ending
            && channel
                .strip_prefix(prefix)
                .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })?;
    Some(Spec {
        label: present(names, format!("{channel}_label")),
        enable: present(names, format!("{channel}_enable")),
        fault: present(names, format!("{channel}_fault")),
        ..Spec::plain(channel, unit, name)
    })
}

fn iio(name: &str, names: &[String]) -> Option<Spec> {
    let (channel, suffix) = name.strip_prefix("in_")?.rsplit_once('_')?;
    let raw = match suffix {
        "raw" if has(names, &format!("in_{channel}_input")) => return None,
        "raw" => true,
        "input" => false,
        _ => return None,
    };
    if IIO_NO_CHANNEL.iter().any(|end| channel.ends_with(end)) {
        return None;
    }
    let &(quantity, unit) = IIO.iter().find(|(quantity, _)| {
        channel
            .strip_prefix(quantity)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']) || digits(rest) > 0)
    })?;
    let shared = |what| {
        raw.then(|| lookup(names, channel, quantity, what))
            .flatten()
    };
    Some(Spec {
        label: present(names, format!("in_{channel}_label")),
        enable: present(names, format!("in_{channel}_enable")),
        offset: shared("offset"),
        // The ABI has a scale only "if known". Without one the raw number counts as the ABI's unit, as it
        // does for the kernel's own consumers (iio_read_channel_processed).
        scale: shared("scale"),
        ..Spec::plain(channel, unit, name)
    })
}

/// File with `what` of a raw channel: its own, or the nearest shared one.
fn lookup(names: &[String], channel: &str, quantity: &str, what: &str) -> Option<String> {
    let rest = &channel[quantity.len()..];
    let indexed = &channel[..quantity.len() + digits(rest)];
    // A differential channel shares with other differential ones, not with the first of its two inputs.
    let near = match channel[indexed.len()..].starts_with('-') {
        true => format!("in_{quantity}-{quantity}_{what}"),
        false => format!("in_{indexed}_{what}"),
    };
    [
        format!("in_{channel}_{what}"),
        near,
        format!("in_{quantity}_{what}"),
        format!("in_{what}"),
        what.to_owned(),
    ]
    .into_iter()
    .find(|name| has(names, name))
}

fn present(names: &[String], name: String) -> Option<String> {
    has(names, &name).then_some(name)
}

fn has(names: &[String], name: &str) -> bool {
    names.iter().any(|of| of == name)
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Number of an attribute's text: decimal digits, an optional sign and fraction, white space
/// around them. `None` for anything else and for what an `f64` cannot hold.
pub fn parse_number(text: &[u8]) -> Option<f64> {
    let text = str::from_utf8(text.trim_ascii()).ok()?;
    // `f64` would also take exponents, `inf` and `nan`.
    if !text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.'))
    {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

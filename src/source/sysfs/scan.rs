//! Nodes of a class, and what identifies each over a reboot.
//!
//! Reads folders, links and names, and no sensor.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::attribute::{PAGE_BYTES, open};
use super::channel::{SensorClass, Spec, channels, unknown};
use crate::order;
use crate::source::spec::Choice;

/// Upper bound on a label, long enough for any that a person wrote.
const TEXT_CHARS_MAX: usize = 128;

/// Keys and values, the same at every boot for one device.
pub type Tags = Vec<(&'static str, String)>;

/// One node as a scan sees it.
#[derive(Debug)]
pub struct Seen {
    /// Its folder, all links resolved.
    pub place: PathBuf,
    pub tags: Tags,
    /// The number in its name, which changes between boots.
    pub number: u64,
    /// Folder of the attributes.
    pub dir: PathBuf,
    pub specs: Vec<Spec>,
    /// Files that look like channels and are not known.
    pub unknown: String,
}

/// Chosen nodes of a class that have channels, by number. An error means that the system could not list
/// them now; a class that does not exist has none.
pub fn nodes(root: &Path, class: SensorClass, choice: &Choice) -> io::Result<Vec<Seen>> {
    let mut seen: Vec<Seen> = Vec::new();
    for name in list(&root.join(class.folder()))? {
        if !name.starts_with(class.prefix()) {
            continue;
        }
        let Ok(place) = fs::canonicalize(root.join(class.folder()).join(&name)) else {
            continue;
        };
        let tags = tags(root, class, &place);
        let names = tags.iter().map(|(_, name)| name.as_str());
        if !choice.takes(names.chain([class.name()])) {
            continue;
        }
        let (dir, specs, unknown) = attributes(class, &place)?;
        if !specs.is_empty() || !unknown.is_empty() {
            seen.push(Seen {
                tags,
                number: number(&name),
                place,
                dir,
                specs,
                unknown,
            });
        }
    }
    order::sort_by(&mut seen, &|a, b| {
        (a.number, &a.place).cmp(&(b.number, &b.place))
    });
    // Two old hwmon nodes may both have the attributes of one device.
    let mut dirs: Vec<PathBuf> = Vec::new();
    seen.retain(|node| {
        let is_new = !dirs.contains(&node.dir);
        dirs.push(node.dir.clone());
        is_new
    });
    Ok(seen)
}

/// Identity of a folder: differs after it was removed and created again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folder {
    inode: u64,
    changed: (i64, i64),
}

pub fn folder(place: &Path) -> Option<Folder> {
    let found = fs::metadata(place).ok()?;
    Some(Folder {
        inode: found.ino(),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

/// Old hwmon drivers put the attributes into the device's folder instead of the node's.
fn attributes(class: SensorClass, place: &Path) -> io::Result<(PathBuf, Vec<Spec>, String)> {
    let names = list(place)?;
    let specs = channels(class, &names);
    if specs.is_empty()
        && class == SensorClass::Hwmon
        && let Ok(device) = fs::canonicalize(place.join("device"))
    {
        let names = list(&device)?;
        let specs = channels(class, &names);
        let unknown = unknown(class, &names, &specs);
        return Ok((device, specs, unknown));
    }
    let unknown = unknown(class, &names, &specs);
    Ok((place.to_owned(), specs, unknown))
}

/// Names in a folder, in order; none if it does not exist or may not be read.
fn list(dir: &Path) -> io::Result<Vec<String>> {
    let passing = |error: &io::Error| {
        matches!(
            error.raw_os_error(),
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EINTR)
        )
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if passing(&error) => return Err(error),
        Err(_) => return Ok(Vec::new()),
    };
    let mut names = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => names.extend(entry.file_name().into_string().ok()),
            Err(error) if passing(&error) => return Err(error),
            Err(_) => break,
        }
    }
    order::sort_by(&mut names, &Ord::cmp);
    Ok(names)
}

fn number(name: &str) -> u64 {
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().unwrap_or(u64::MAX)
}

/// Tags that identify the node whatever its number is. They depend on this node alone, so no other node that comes or
/// goes changes it.
pub fn tags(root: &Path, class: SensorClass, place: &Path) -> Tags {
    let mut tags = Tags::new();
    if let Some(device) = device(root, class, place) {
        tags.push(("device", device));
    }
    if let Some((file, key)) = class.title() {
        let title = text(&place.join(file)).or_else(|| text(&place.join("device").join(file)));
        tags.extend(title.map(|title| (key, title)));
    }
    if class == SensorClass::PowerSupply {
        tags.extend(last(place).map(|name| ("supply", without_count(&name).to_owned())));
    }
    // The board's own name for the node, if it has one.
    if matches!(class, SensorClass::Hwmon | SensorClass::Iio) {
        tags.extend(text(&place.join("label")).map(|label| ("device_label", label)));
    }
    tags
}

/// Bus and address of the node's device, from its `device` link or from the folder that
/// it lies in (devices on the iio bus have no such link).
fn device(root: &Path, class: SensorClass, place: &Path) -> Option<String> {
    let root = fs::canonicalize(root).ok()?;
    let devices = root.join("devices");
    let link = place.join("device");
    let device = match fs::read_link(&link) {
        Ok(target) => match fs::canonicalize(&link) {
            Ok(device) => device,
            Err(_) => return last(&target),
        },
        Err(_) => {
            let parent = place.strip_prefix(&devices).ok()?.parent()?;
            // Between a device and its nodes of one class lies a folder with the name of the class.
            match parent.file_name() == Some(OsStr::new(class.name())) {
                true => devices.join(parent.parent()?),
                false => devices.join(parent),
            }
        }
    };
    if device == devices || device == devices.join("virtual") {
        return None;
    }
    if subsystem(&device).is_none() {
        let inside = device
            .strip_prefix(&devices)
            .or_else(|_| device.strip_prefix(&root));
        return match inside {
            Ok(inside) => tidy(inside.as_os_str().as_bytes()),
            Err(_) => last(&device),
        };
    }
    let (device, bus) = on_bus(&device, &devices)?;
    address(&device, &bus, &devices)
}

/// The nearest device on a bus, from this one upwards. Devices of a class (nvme0, phy0, thermal_zone0) are numbered in
/// load order: what lasts is the device on a bus that they belong to.
fn on_bus(device: &Path, devices: &Path) -> Option<(PathBuf, String)> {
    let mut above = device.ancestors().take_while(|above| *above != devices);
    above.find_map(|above| match subsystem(above)? {
        Subsystem::Bus(bus) => Some((above.to_owned(), bus)),
        Subsystem::Class => None,
    })
}

/// Bus and address, without what the kernel counts.
fn address(device: &Path, bus: &str, devices: &Path) -> Option<String> {
    let name = last(device)?;
    // Adapters are numbered in load order: one is known by the device that it is on.
    if bus == "i2c"
        && let Some((_, address)) = name.split_once('-')
        && let Some(adapter) = device.parent()
        && let Some((parent, bus)) = adapter.parent().and_then(|above| on_bus(above, devices))
        && parent != adapter
    {
        return Some(format!(
            "{}/{address}",
            self::address(&parent, &bus, devices)?
        ));
    }
    let name = match bus {
        // Connections are counted after the last dot (0003:1B1C:0C10.0005).
        "hid" => name.rsplit_once('.').map_or(&*name, |(kind, _)| kind),
        // As are devices of one kind (HID-SENSOR-200073.7.auto).
        "platform" => match name
            .strip_suffix(".auto")
            .and_then(|name| name.rsplit_once('.'))
        {
            Some((kind, _)) => kind,
            None => &name,
        },
        _ => &name,
    };
    Some(format!("{bus}/{name}"))
}

/// Batteries of wireless mice and keyboards are counted by their connections; their device tells them apart.
fn without_count(name: &str) -> &str {
    match name.rsplit_once('_') {
        Some((kind, count)) if kind == "hidpp_battery" && count.parse::<u32>().is_ok() => kind,
        _ => name,
    }
}

enum Subsystem {
    Bus(String),
    Class,
}

fn subsystem(device: &Path) -> Option<Subsystem> {
    let target = fs::read_link(device.join("subsystem")).ok()?;
    match target.parent().and_then(Path::file_name) {
        Some(kind) if kind == "class" => Some(Subsystem::Class),
        _ => last(&target).map(Subsystem::Bus),
    }
}

fn last(path: &Path) -> Option<String> {
    tidy(path.file_name()?.as_bytes())
}

/// The text of a name or label file, if it has any.
pub fn text(path: &Path) -> Option<String> {
    let mut page = [0; PAGE_BYTES];
    let len = open(path).ok()?.read_at(&mut page, 0).ok()?;
    tidy(page.get(..len)?)
}

/// Free text as a tag's value: invalid UTF-8 is replaced, control characters become spaces.
fn tidy(bytes: &[u8]) -> Option<String> {
    let text: String = String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let text: String = text.trim().chars().take(TEXT_CHARS_MAX).collect();
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

//! Which machine this is, so that a database that was cloned with its card or disk takes a device id of its own there.
//!
//! Each name that the system has for the machine is kept as a hash: a container sees fewer of them than its host,
//! and root more than others, so that only names which both sides know are compared.

use std::fs;
use std::path::Path;

use crate::reading::fingerprint;
use crate::sys;

/// Board, product and system ids; the card and CPU are added in `look`.
const FILES: [(&str, &str); 4] = [
    ("board", "/sys/firmware/devicetree/base/serial-number"),
    ("product", "/sys/class/dmi/id/product_uuid"),
    ("product-serial", "/sys/class/dmi/id/product_serial"),
    ("system", "/etc/machine-id"),
];

/// Hashes of the machine's names, each with its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine(Vec<(String, u64)>);

impl Machine {
    /// Names this machine, with the card that holds the file of this device number.
    pub fn look(device: Option<u64>) -> Self {
        let read = |path: &Path| fs::read_to_string(path).ok();
        let mut names: Vec<_> = FILES
            .iter()
            .map(|(kind, path)| (*kind, read(Path::new(path))))
            .collect();
        let cpu = read(Path::new("/proc/cpuinfo"));
        names.push(("cpu", cpu.as_deref().and_then(cpu_serial)));
        let card = device.and_then(|device| {
            let (major, minor) = sys::device_numbers(device);
            // A partition's folder is in its disk's.
            let block = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
            let mut folders = block.ancestors().take(2);
            folders.find_map(|folder| read(&folder.join("device/cid")))
        });
        names.push(("card", card));
        let hashed = names.into_iter().filter_map(|(kind, name)| {
            let name = name?;
            let name = name.trim_matches(['\0', '\n', ' ', '\t']);
            let is_name = name.chars().any(|c| c.is_ascii_alphanumeric() && c != '0');
            is_name.then(|| (kind.to_owned(), fingerprint::name(name)))
        });
        Machine(hashed.collect())
    }

    /// As the file keeps it.
    pub fn parse(text: &str) -> Self {
        let known = text.split(' ').filter_map(|word| {
            let (kind, hash) = word.split_once(':')?;
            Some((kind.to_owned(), u64::from_str_radix(hash, 16).ok()?))
        });
        Machine(known.collect())
    }

    pub fn text(&self) -> String {
        let words = self
            .0
            .iter()
            .map(|(kind, hash)| format!("{kind}:{hash:016x}"));
        words.collect::<Vec<_>>().join(" ")
    }

    /// A name that both know differs.
    pub fn is_another_than(&self, other: &Machine) -> bool {
        let differs = |(kind, hash): &(String, u64)| other.hash(kind).is_some_and(|of| of != *hash);
        self.0.iter().any(differs)
    }

    /// This machine's names, and those of `before` that are not seen now.
    pub fn with_names_of(&self, before: &Machine) -> Self {
        let unseen = before
            .0
            .iter()
            .filter(|(kind, _)| self.hash(kind).is_none());
        Machine(self.0.iter().chain(unseen).cloned().collect())
    }

    fn hash(&self, kind: &str) -> Option<u64> {
        let (_, hash) = self.0.iter().find(|(of, _)| of == kind)?;
        Some(*hash)
    }
}

/// A Raspberry Pi's serial number.
fn cpu_serial(cpuinfo: &str) -> Option<String> {
    let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let (_, serial) = lines.find(|(key, _)| key.trim() == "Serial")?;
    Some(serial.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_both_sides_know_are_compared() {
        let machine = |text: &str| Machine::parse(text);
        let host = machine("board:0000000000000001 system:0000000000000002");
        assert_eq!(
            host.text(),
            "board:0000000000000001 system:0000000000000002"
        );
        assert!(!host.is_another_than(&machine("")));
        // In a container without /etc/machine-id.
        assert!(!machine("board:1").is_another_than(&host));
        assert!(machine("board:1 system:3").is_another_than(&host));
        let both = machine("board:1 card:5").with_names_of(&host);
        assert_eq!(both, machine("board:1 card:5 system:2"));
        assert_eq!(machine("nonsense card:x"), machine(""));
    }

    #[test]
    fn a_serial_of_the_processor_is_read_where_there_is_one() {
        let pi = "processor\t: 0\n\nHardware\t: BCM2835\nSerial\t\t: 10000000abcdef01\n";
        assert_eq!(cpu_serial(pi).unwrap().trim(), "10000000abcdef01");
        assert_eq!(cpu_serial("processor : 0\n"), None);
    }
}

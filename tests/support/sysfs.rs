//! A `/sys` of the tests' own, with links as the kernel makes them, and what is seen of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use seawall::source::spec::Choice;
use seawall::source::sysfs::{Change, Notice, Sysfs};

/// A root like `/sys`; taken away at the end of the test.
pub struct Tree {
    pub root: PathBuf,
}

impl Tree {
    pub fn new() -> Tree {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(format!("seawall-sysfs-{pid}-{count}"));
        fs::create_dir_all(&root).unwrap();
        Tree { root }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn remove(&self, path: &str) {
        let path = self.path(path);
        match path.symlink_metadata().unwrap().is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }

    /// A relative link from `link` to `target`, both under the root, as the kernel makes them.
    pub fn link(&self, link: &str, target: &str) {
        let path = self.path(link);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let up = "../".repeat(Path::new(link).components().count() - 1);
        symlink(format!("{up}{target}"), path).unwrap();
    }

    /// A device at `devices/PLACE` on `bus`.
    pub fn device(&self, place: &str, bus: &str) {
        let device = format!("devices/{place}");
        fs::create_dir_all(self.path(&device)).unwrap();
        self.link(&format!("{device}/subsystem"), &format!("bus/{bus}"));
    }

    /// The node `hwmonN` of a device, with its `device` link.
    pub fn hwmon(&self, number: u32, device: &str, files: &[(&str, &str)]) -> String {
        let node = format!("devices/{device}/hwmon/hwmon{number}");
        self.files(&node, files);
        self.link(&format!("{node}/device"), &format!("devices/{device}"));
        self.link(&format!("class/hwmon/hwmon{number}"), &node);
        node
    }

    /// The node of a device that is no child of another: without a `device` link.
    pub fn virtual_node(&self, class: &str, name: &str, files: &[(&str, &str)]) -> String {
        let node = format!("devices/virtual/{class}/{name}");
        self.files(&node, files);
        self.link(&format!("class/{class}/{name}"), &node);
        node
    }

    /// The iio bus gives its devices no `device` link.
    pub fn iio(&self, number: u32, device: &str, files: &[(&str, &str)]) -> String {
        let node = format!("devices/{device}/iio:device{number}");
        self.files(&node, files);
        self.link(&format!("{node}/subsystem"), "bus/iio");
        self.link(&format!("bus/iio/devices/iio:device{number}"), &node);
        node
    }

    pub fn files(&self, dir: &str, files: &[(&str, &str)]) {
        for (name, content) in files {
            self.write(&format!("{dir}/{name}"), content);
        }
    }

    pub fn mkfifo(&self, path: &str) {
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
pub struct Watched {
    pub sysfs: Sysfs,
    pub notices: Vec<String>,
}

impl Watched {
    pub fn of(tree: &Tree) -> Watched {
        Watched::chosen(tree, Choice::default())
    }

    pub fn chosen(tree: &Tree, choice: Choice) -> Watched {
        let mut watched = Watched {
            sysfs: Sysfs::new(tree.root.clone(), choice),
            notices: Vec::new(),
        };
        watched.rescan();
        watched
    }

    pub fn rescan(&mut self) {
        self.sysfs.rescan(&mut |n| self.notices.push(told(n)));
    }

    /// One pass, by `sensor field`; no name may come twice.
    pub fn sample(&mut self) -> BTreeMap<String, f64> {
        let mut got = BTreeMap::new();
        let mut emit = |sensor: &str, field: &str, value: f64| {
            assert!(value.is_finite());
            let twice = got.insert(format!("{sensor} {field}"), value);
            assert_eq!(twice, None, "{sensor} {field} came twice");
        };
        self.sysfs
            .sample(std::time::Duration::MAX, &mut emit, &|_| false, &mut |n| {
                self.notices.push(told(n))
            });
        got
    }

    pub fn values(&mut self) -> Vec<f64> {
        self.sample().into_values().collect()
    }

    pub fn names(&mut self) -> Vec<String> {
        self.sample().into_keys().collect()
    }

    /// What was said since the last time that this was asked.
    pub fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }
}

pub fn told(notice: Notice<'_>) -> String {
    let file = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    match notice {
        Notice::Channel { change, path, .. } => match change {
            Change::Found => format!("found {}", file(path)),
            Change::Gone => format!("gone {}", file(path)),
            Change::Failing(failure, _) => format!("failing {}: {failure:?}", file(path)),
            Change::Recovered => format!("recovered {}", file(path)),
        },
        Notice::Unknown { names, .. } => format!("unknown {names}"),
        Notice::None { root } => format!("none in {}", root.display()),
    }
}

/// One hwmon node with one temperature, and where it is.
pub fn one_temperature(tree: &Tree) -> String {
    tree.device("platform/coretemp.0", "platform");
    tree.hwmon(
        0,
        "platform/coretemp.0",
        &[("name", "coretemp\n"), ("temp1_input", "45125\n")],
    )
}

pub const ONE_TEMPERATURE: &str =
    "hwmon,channel=temp1,chip=coretemp,device=platform/coretemp.0 temperature_c";

pub fn expect(got: BTreeMap<String, f64>, expected: &[(&str, f64)]) {
    let expected: BTreeMap<String, f64> = expected
        .iter()
        .map(|&(name, value)| (name.to_owned(), value))
        .collect();
    assert_eq!(got, expected);
}

//! Guards against a package that does not install, that loses readings when it is upgraded below a running recorder,
//! or that takes readings away when it goes.
//!
//! Nothing is installed on this machine: the packages go into a folder, and into a machine made of this one's files
//! with a systemd of its own (tests/package/machine.sh).

use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::support::client::{Client, connect, number};
use crate::support::stop::text;
use crate::support::{BINARY, Dir, assert_sound, is_there, skip, sql, static_program, until};

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");
const ARCHITECTURES: [(&str, &str); 2] = [("amd64", "x86_64"), ("arm64", "aarch64")];
const DATA: &str = "var/lib/seawall/sensor_data.db";

/// As Debian calls it.
fn architecture() -> &'static str {
    let ours = |(_, machine): &&(_, &str)| *machine == std::env::consts::ARCH;
    ARCHITECTURES.iter().find(ours).unwrap().0
}

/// Writes package and archive into the folder; gives the package.
fn pack(dir: &Path, program: &Path, architecture: &str, version: &str) -> PathBuf {
    let output = Command::new("python3")
        .arg(".image/package.py")
        .arg(program)
        .args([&BINARY[..], architecture, version, "1700000000"])
        .arg(dir)
        .current_dir(CHECKOUT)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    dir.join(format!("seawall_{version}_{architecture}.deb"))
}

fn can_use(program: &str) -> bool {
    let found = is_there(program);
    if !found {
        skip(&format!("there is no {program}"));
    }
    found
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_package_is_the_same_bytes_each_time() {
    let dirs = [Dir::new("package-one"), Dir::new("package-two")];
    for dir in &dirs {
        fs::write(dir.file("program"), "any").unwrap();
        pack(dir.path(), &dir.file("program"), "arm64", "1.2.3");
    }
    for name in [
        "seawall_1.2.3_arm64.deb",
        "seawall-1.2.3-linux-arm64.tar.gz",
    ] {
        let [one, two] = dirs.each_ref().map(|dir| fs::read(dir.file(name)).unwrap());
        assert!(one == two, "{name}");
    }
}

#[test]
fn lintian_finds_no_fault_in_the_packages() {
    if !can_use("lintian") {
        return;
    }
    for (architecture, machine) in ARCHITECTURES {
        let Some(program) = static_program(machine) else {
            continue;
        };
        let dir = Dir::new("package-lintian");
        let package = pack(dir.path(), &program, architecture, "1.2.3");
        let output = Command::new("lintian")
            .args(["--fail-on", "error,warning", "--allow-root"])
            .arg(&package)
            .output();
        assert_eq!(succeeded(&output.unwrap()), "");
    }
}

#[test]
fn the_archive_has_the_files_of_the_package() {
    if !can_use("dpkg-deb") {
        return;
    }
    let dir = Dir::new("package-files");
    fs::write(dir.file("program"), "any").unwrap();
    let package = pack(dir.path(), &dir.file("program"), "amd64", "1.2.3");
    for folder in ["package", "archive"] {
        fs::create_dir(dir.file(folder)).unwrap();
    }
    let unpacked = Command::new("dpkg-deb")
        .args(["--extract", text(&package)])
        .arg(dir.file("package"))
        .output();
    succeeded(&unpacked.unwrap());
    let unpacked = Command::new("tar")
        .args([
            "-xzf",
            text(&dir.file("seawall-1.2.3-linux-amd64.tar.gz")),
            "-C",
        ])
        .arg(dir.file("archive"))
        .output();
    succeeded(&unpacked.unwrap());
    // What was set is not overwritten by what is unpacked.
    let example = dir.file("archive/usr/share/doc/seawall/examples/seawall.default");
    let settings = dir.file("archive/etc/default/seawall");
    assert!(!settings.exists());
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    fs::rename(example, settings).unwrap();
    let compared = Command::new("diff")
        .arg("-r")
        .args([dir.file("package"), dir.file("archive")])
        .output();
    assert_eq!(succeeded(&compared.unwrap()), "");
    let unit = dir.file("package/usr/lib/systemd/system/seawall.service");
    let unit = fs::read_to_string(unit).unwrap();
    assert!(unit.contains("\nExecStart=/usr/bin/seawall\n"), "{unit}");
    assert!(
        unit.contains("\nEnvironmentFile=-/etc/default/seawall\n"),
        "{unit}"
    );
    let variables = fs::read_to_string(dir.file("package/etc/default/seawall")).unwrap();
    let table = seawall::cli::table().unwrap();
    let (_, rows) = table
        .iter()
        .find(|(command, _)| *command == "record")
        .unwrap();
    for row in rows {
        assert!(
            variables.contains(&format!("\n#{}=", row.variable)),
            "{variables}"
        );
    }
}

/// As into an image that is being built: no systemd runs there, and none of this machine is touched.
#[test]
fn without_systemd_it_installs_and_goes_and_leaves_the_readings() {
    if !can_use("dpkg") || !can_use("deb-systemd-helper") {
        return;
    }
    let dir = Dir::new("package-folder");
    fs::write(dir.file("program"), "any").unwrap();
    let package = pack(dir.path(), &dir.file("program"), architecture(), "1.2.3");
    let root = dir.file("root");
    for folder in [
        "var/lib/dpkg/info",
        "var/lib/dpkg/updates",
        "var/lib/seawall",
    ] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    fs::write(root.join(DATA), "readings").unwrap();
    let dpkg = |arguments: &[&str]| {
        let output = Command::new("dpkg")
            .arg(format!("--root={}", root.display()))
            .args([
                "--force-not-root",
                "--force-script-chrootless",
                "--log=/dev/null",
            ])
            .args(arguments)
            .output();
        succeeded(&output.unwrap());
    };
    let enabled = root.join("etc/systemd/system/multi-user.target.wants/seawall.service");
    dpkg(&["--install", text(&package)]);
    assert!(root.join("usr/bin/seawall").exists());
    assert!(enabled.symlink_metadata().is_ok());
    dpkg(&["--remove", "seawall"]);
    assert!(!root.join("usr/bin/seawall").exists());
    assert!(root.join("etc/default/seawall").exists());
    dpkg(&["--purge", "seawall"]);
    assert!(!root.join("etc/default/seawall").exists());
    assert!(enabled.symlink_metadata().is_err());
    assert_eq!(fs::read(root.join(DATA)).unwrap(), b"readings");
}

/// The control group of the machine.
fn group() -> String {
    format!("seawall-test-package-{}", std::process::id())
}

/// A machine with a systemd of its own; gone with the value.
struct Machine {
    namespaces: Child,
    init: u32,
    dir: Dir,
}

impl Machine {
    fn boot() -> Option<Self> {
        if !Path::new("/lib/systemd/systemd").exists() {
            skip("there is no systemd");
            return None;
        }
        let dir = Dir::new("package-machine");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--ipc", "--uts", "--net", "--fork"]);
        command.args(["--kill-child", "sh"]);
        command.arg(Path::new(CHECKOUT).join("tests/package/machine.sh"));
        command
            .arg(dir.path())
            .arg(group())
            .stdin(Stdio::null())
            .process_group(0);
        command.stderr(fs::File::create(dir.file("said")).unwrap());
        let mut namespaces = command.spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", namespaces.id());
        let booted = until("systemd runs in a machine of its own", || {
            if namespaces.try_wait().unwrap().is_some() {
                return Some(None);
            }
            let init = fs::read_to_string(&children).ok()?;
            let init: u32 = init.trim().parse().ok()?;
            let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
            (name == "systemd\n").then_some(Some(init))
        });
        let Some(init) = booted else {
            let said = fs::read_to_string(dir.file("said")).unwrap();
            skip(&format!("no machine can be made: {said}"));
            return None;
        };
        let machine = Machine {
            namespaces,
            init,
            dir,
        };
        until("systemd has started", || {
            let state = machine.run("systemctl is-system-running --wait");
            let state = String::from_utf8(state.stdout).unwrap();
            ["running\n", "degraded\n"]
                .contains(&&state[..])
                .then_some(())
        });
        Some(machine)
    }

    fn run(&self, line: &str) -> Output {
        let init = self.init.to_string();
        let mut command = Command::new("nsenter");
        command.args([
            "--target", &init, "--mount", "--pid", "--ipc", "--uts", "--net",
        ]);
        command.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.args(["DEBIAN_FRONTEND=noninteractive", "sh", "-c", line]);
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn told(&self, line: &str) -> String {
        succeeded(&self.run(line)).trim().to_owned()
    }

    /// A file in it, as seen from here.
    fn file(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.init)).join(path)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.run("journalctl --no-pager _TRANSPORT=journal + _TRANSPORT=stdout");
            eprintln!("{}", String::from_utf8_lossy(&log.stdout));
        }
        let _ = self.namespaces.kill();
        let _ = self.namespaces.wait();
        // Where the last of its processes may still be ending.
        let remove =
            "mount -t cgroup2 cgroup \"$1\" && find \"$1\" -depth -path \"$1/$2*\" -type d -delete";
        until("its control group is gone", || {
            let removed = Command::new("unshare")
                .args(["--mount", "sh", "-c", remove, "-"])
                .arg(self.dir.path())
                .arg(group())
                .output();
            removed.unwrap().status.success().then_some(())
        });
    }
}

/// Sends numbered lines until it is to end, across restarts of the recorder; gives how many were sent.
fn send_until(socket: &Path, acked: &AtomicU64, ends: &AtomicBool) -> u64 {
    let hello = |client: &mut Client<UnixStream>| {
        client.try_send(b"# client upgraded\n");
        number(&client.answer()?, "resume ")
    };
    while !ends.load(Ordering::Relaxed) {
        let resumed = UnixStream::connect(socket).ok().and_then(|_| {
            let mut client = connect(socket);
            let settled = hello(&mut client)?;
            Some((client, settled))
        });
        let Some((mut client, settled)) = resumed else {
            thread::yield_now();
            continue;
        };
        assert!(settled >= acked.load(Ordering::Relaxed), "{settled}");
        let mut next = settled;
        while !ends.load(Ordering::Relaxed) {
            next += 1;
            if !client.try_send(format!("m v={next}i {next}\n").as_bytes()) {
                break;
            }
            let Some(answer) = client.answer() else { break };
            // The line with the name is the connection's first.
            if let Some(lines) = number(&answer, "ack ") {
                acked.store(settled + lines - 1, Ordering::Relaxed);
            }
        }
    }
    acked.load(Ordering::Relaxed)
}

#[test]
fn an_upgrade_below_a_running_recorder_loses_nothing_and_a_purge_leaves_the_readings() {
    let Some(program) = static_program(std::env::consts::ARCH) else {
        return;
    };
    if !can_use("dpkg") || !can_use("nsenter") || !can_use("unshare") {
        return;
    }
    let dir = Dir::new("package-upgrade");
    let [old, new] =
        ["1.0.0", "1.0.1"].map(|version| pack(dir.path(), &program, architecture(), version));
    let Some(machine) = Machine::boot() else {
        return;
    };
    let dpkg = |arguments: &str| {
        machine.told(&format!(
            "dpkg --no-triggers --log=/dev/null {arguments} 2>&1"
        ))
    };
    let main_pid = || machine.told("systemctl show --property=MainPID --value seawall");

    for (package, name) in [(&old, "old.deb"), (&new, "new.deb")] {
        fs::copy(package, machine.file(name)).unwrap();
    }
    dpkg("--install /old.deb");
    assert_eq!(machine.told("systemctl is-active seawall"), "active");
    assert_eq!(machine.told("systemctl is-enabled seawall"), "enabled");
    let conffile = machine.file("etc/default/seawall");
    let settings = fs::read_to_string(&conffile).unwrap()
        + "SEAWALL_SOURCE=\"unix:/var/lib/seawall/in,mode=0666\"\nSEAWALL_COMMIT_INTERVAL=0\n";
    fs::write(&conffile, &settings).unwrap();
    machine.told("systemctl restart seawall");
    let socket = machine.file("var/lib/seawall/in");
    until("the recorder listens", || UnixStream::connect(&socket).ok());

    let (acked, ends) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let sender = {
        let (socket, acked, ends) = (socket.clone(), acked.clone(), ends.clone());
        thread::spawn(move || send_until(&socket, &acked, &ends))
    };
    let more = |than: u64| {
        until("more is acknowledged", || {
            let now = acked.load(Ordering::Relaxed);
            (now > than + 20).then_some(now)
        })
    };
    let before = more(0);
    let pid = main_pid();
    dpkg("--install /new.deb");
    assert_ne!(main_pid(), pid, "the new program runs");
    assert_eq!(machine.told("systemctl is-active seawall"), "active");
    assert_eq!(fs::read_to_string(&conffile).unwrap(), settings);
    more(acked.load(Ordering::Relaxed).max(before));
    ends.store(true, Ordering::Relaxed);
    let acked = sender.join().unwrap();

    dpkg("--remove seawall");
    assert!(!machine.file("usr/bin/seawall").exists());
    assert!(conffile.exists());
    dpkg("--purge seawall");
    assert!(!conffile.exists());
    let kept = dir.file("kept.db");
    let left = machine.told(&format!("ls -d /{DATA}* | grep -v [.]db$ || true"));
    assert_eq!(left, "", "the stop left one file");
    let copied = machine.run(&format!("cat /{DATA}"));
    fs::write(&kept, &copied.stdout).unwrap();
    assert_sound(&kept);
    let rows = sql(
        &kept,
        "SELECT count(*), count(DISTINCT value) FROM sensor_readings WHERE sensor = 'm'",
    );
    let (count, different) = rows.split_once('|').unwrap();
    assert_eq!(count, different, "each once");
    assert!(count.parse::<u64>().unwrap() >= acked, "{count} of {acked}");
    let reasons = sql(&kept, "SELECT group_concat(DISTINCT reason) FROM runs");
    assert_eq!(reasons, "SIGTERM");
}

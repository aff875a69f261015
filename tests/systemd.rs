//! Guards against a unit file that gives the recorder more than it needs or less, and against a recorder that systemd
//! takes for started, stopped or alive where it is not. systemd itself runs here as process 1 of namespaces of its own, on
//! a root of its own in memory, where it sees nothing of this machine that it could write to.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::mounts::Mount;
use crate::support::shim::Shim;
use crate::support::*;

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");
/// Of `systemd-analyze security`, from 0 to 10.
const EXPOSURE_MAX: f64 = 2.0;
const DROP_INS: [&str; 3] = ["", "seawall-sysfs.conf", "seawall-sockets.conf"];

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(CHECKOUT).join("docs").join(name)).unwrap()
}

#[test]
fn the_unit_and_its_drop_ins_expose_little() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        return skip("there is no systemd-analyze");
    }
    for drop_in in DROP_INS {
        let dir = Dir::new("exposure");
        let unit = dir.file("seawall.service");
        fs::write(&unit, document("seawall.service")).unwrap();
        if !drop_in.is_empty() {
            fs::create_dir(dir.file("seawall.service.d")).unwrap();
            fs::write(dir.file("seawall.service.d/x.conf"), document(drop_in)).unwrap();
        }
        let mut command = Command::new("systemd-analyze");
        command
            .args(["security", "--offline=true", "--no-pager"])
            .arg(&unit);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let number = |word: &str| word.parse::<f64>().ok();
        let last = text.lines().last().unwrap_or_default();
        let exposure = last.split_whitespace().find_map(number);
        assert!(
            exposure.is_some_and(|exposure| exposure <= EXPOSURE_MAX),
            "{drop_in}: {text}"
        );
        // Only that one opens the network.
        let is_open = !text.contains("✓ RestrictAddressFamilies=~AF_(INET|INET6)");
        assert_eq!(is_open, drop_in.contains("sockets"), "{drop_in}: {text}");
    }
}

/// A systemd with no unit but ours and empty targets: it must set nothing up, least of all by tmpfiles.
struct Systemd {
    child: Child,
    root: PathBuf,
    cgroup: PathBuf,
    _dir: Dir,
}

const BOOT: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir -p usr etc/systemd/system proc sys dev run home root tmp var/lib var/tmp data old
chmod 1777 tmp var/tmp
for link in bin sbin lib lib64; do ln -s "usr/$link" "$link"; done
mount --bind /usr usr
mount -o remount,ro,bind usr
for empty in usr/local usr/lib/systemd/system usr/lib/systemd/system-generators; do
    mount -t tmpfs tmpfs "$empty"
done
mkdir usr/local/bin
cp "$2" usr/local/bin/seawall
for target in sysinit basic shutdown multi-user; do
    printf '[Unit]\nDefaultDependencies=no\n' >"usr/lib/systemd/system/$target.target"
done
cp "$3" etc/systemd/system/seawall.service
printf 'root:x:0:0::/:/bin/sh\n' >etc/passwd
printf 'root:x:0:\n' >etc/group
printf '%032d\n' 1 >etc/machine-id
mount --bind "$4" data
mount -t tmpfs tmpfs dev
for node in null zero random urandom full tty; do touch "dev/$node"; mount --bind "/dev/$node" "dev/$node"; done
mkdir dev/pts dev/shm dev/mqueue dev/hugepages
mount -t devpts devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount --bind /sys sys
mount -o remount,ro,bind sys
mount -t tmpfs tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t proc proc proc
pivot_root . old
umount -l old
exec env -i container=test PATH=/usr/bin:/usr/sbin /lib/systemd/systemd --system --unit=multi-user.target \
    --log-target=null --show-status=no
"#;

impl Systemd {
    fn boot(data: &Path) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let groups = mounts.lines().find_map(|line| {
            line.split(" cgroup2 ")
                .next()
                .filter(|_| line.contains(" cgroup2 "))
        });
        let Some(groups) = groups.and_then(|line| line.split(' ').nth(1)) else {
            skip("there is no cgroup2");
            return None;
        };
        let cgroup = Path::new(groups).join(format!("seawall-test-{}", std::process::id()));
        let may = Command::new("unshare")
            .args(["-m", "-p", "-f", "-C", "true"])
            .status();
        let is_there = Path::new("/lib/systemd/systemd").exists();
        if !is_there
            || !may.is_ok_and(|status| status.success())
            || fs::create_dir(&cgroup).is_err()
        {
            skip("no systemd can be run here, or not by this user");
            return None;
        }
        let dir = Dir::new("systemd");
        let root = dir.file("root");
        fs::create_dir(&root).unwrap();
        let join = "echo $$ >\"$1/cgroup.procs\"; shift; exec unshare -m -p -f -i -u -C --kill-child \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-ec", join, "sh"]).arg(&cgroup);
        command
            .args(["sh", "-ec", BOOT, "sh"])
            .arg(&root)
            .arg(BINARY);
        command
            .arg(Path::new(CHECKOUT).join("docs/seawall.service"))
            .arg(data);
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let first = until("unshare has a child", || {
            let text = fs::read_to_string(&children).ok()?;
            text.split(' ').next()?.parse::<u32>().ok()
        });
        let systemd = Systemd {
            child,
            root: PathBuf::from(format!("/proc/{first}/root")),
            cgroup,
            _dir: dir,
        };
        until("systemd has started", || {
            systemd
                .root
                .join("run/systemd/private")
                .exists()
                .then_some(())
        });
        Some(systemd)
    }

    /// Runs a program beside the recorder.
    fn run(&self, args: &[&str]) -> (bool, String) {
        let first = self
            .root
            .components()
            .nth(2)
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let mut command = Command::new("nsenter");
        command.args(["-t", first, "-m", "-p", "--"]).args(args);
        let output = command.output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text.into_owned())
    }

    fn systemctl(&self, verb: &str) {
        let (is_done, text) = self.run(&["systemctl", verb, "seawall"]);
        assert!(
            is_done,
            "systemctl {verb}: {text}{}{}",
            self.run(&["systemctl", "status", "seawall"]).1,
            self.log()
        );
    }

    fn property(&self, name: &str) -> String {
        let (_, text) = self.run(&["systemctl", "show", "--value", "-p", name, "seawall"]);
        text.trim().to_owned()
    }

    fn set(&self, lines: &str) {
        let folder = self.root.join("etc/systemd/system/seawall.service.d");
        fs::create_dir_all(&folder).unwrap();
        let text = format!("[Service]\nStandardError=append:/run/log\n{lines}");
        fs::write(folder.join("test.conf"), text).unwrap();
        assert!(self.run(&["systemctl", "daemon-reload"]).0);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.root.join("run/log")).unwrap_or_default()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // With process 1 all others of its namespace end.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Those that have just ended may still be in them; what is left after all these looks is empty and does no harm.
        for _ in 0..200 {
            let mut find = Command::new("find");
            find.arg(&self.cgroup)
                .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]);
            if find.stderr(Stdio::null()).status().is_err() || !self.cgroup.exists() {
                break;
            }
        }
    }
}

#[test]
fn systemd_starts_stops_and_restarts_it() {
    let shim = Shim::make("sync");
    let Some(disk) = Mount::fuse("subtype=slow", |command| shim.preload(command)) else {
        return;
    };
    fs::set_permissions(disk.at(), fs::Permissions::from_mode(0o777)).unwrap();
    let Some(systemd) = Systemd::boot(disk.at()) else {
        return;
    };
    systemd.set("");
    // Returns when READY=1 has come.
    systemd.systemctl("start");
    assert!(systemd.log().contains(" event=ready "), "{}", systemd.log());
    let mut lines = UnixStream::connect(systemd.root.join("run/seawall/lines")).unwrap();
    lines.write_all(b"m v=1\n").unwrap();
    let mut answer = String::new();
    BufReader::new(&lines).read_line(&mut answer).unwrap();
    assert_eq!(answer, "ack 1\n");
    let db = "/var/lib/seawall/sensor_data.db";
    let (is_healthy, status) = systemd.run(&["/usr/local/bin/seawall", "status", db]);
    assert!(is_healthy, "{status}");
    until("its status is shown", || {
        systemd
            .property("StatusText")
            .starts_with("1 readings, ")
            .then_some(())
    });
    systemd.systemctl("stop");
    let log = systemd.log();
    assert!(
        log.lines()
            .last()
            .unwrap()
            .contains(" event=stopped reason=SIGTERM committed=1 "),
        "{log}"
    );
    assert_eq!(
        (
            &*systemd.property("Result"),
            &*systemd.property("ExecMainStatus")
        ),
        ("success", "0")
    );
    let (_, said) = systemd.run(&["/usr/local/bin/seawall", "check", db]);
    assert!(said.starts_with("sound readings=1 "), "{said}");

    systemd.set(
        "WatchdogSec=2\nRestartSec=100ms\nReadWritePaths=/data\nEnvironment=SEAWALL_DB=/data/x.db SEAWALL_STOP_TIMEOUT=1s \
         SEAWALL_SYNCHRONOUS=full SEAWALL_COMMIT_INTERVAL=100ms SEAWALL_SOURCE=sim\n",
    );
    systemd.systemctl("start");
    shim.set(8000);
    until("the hang is logged", || {
        systemd
            .log()
            .contains(" event=watchdog-unfed ")
            .then_some(())
    });
    until("it ends with what it could not commit", || {
        let log = systemd.log();
        let last = log
            .lines()
            .rfind(|line| line.contains(" event=stopped reason=SIGTERM "))?;
        (fields(last).get("uncommitted")? != "0").then_some(())
    });
    shim.set(0);
    until("it is restarted", || {
        (systemd.property("NRestarts") == "1").then_some(())
    });
    until("it records again", || {
        (systemd.property("SubState") == "running").then_some(())
    });
    systemd.systemctl("stop");
    assert_eq!(systemd.property("Result"), "success");
    assert_sound(&disk.file("x.db"));
}

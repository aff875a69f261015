//! What the tests in containers share: Docker's commands, and containers, folders and volumes that are
//! removed with the value that stands for them.
//!
//! `just image` builds the image. Whatever is made in Docker here has the label `seawall-test` with the
//! process id of the test, and is removed by it or, if it was killed, by the next one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::stop::text;
use super::{Dir, Ended, Running, skip, until};

pub const IMAGE: &str = "seawall";
pub const LABEL: &str = "seawall-test";
/// How the image is meant to run.
pub const CONFINED: &str = "--read-only --cap-drop ALL --network none --memory 6m";

/// Whether containers can be run here.
pub fn can_run() -> bool {
    static WHY_NOT: OnceLock<Option<String>> = OnceLock::new();
    let why_not = WHY_NOT.get_or_init(|| {
        let looked = docker(&["version", "--format", "{{.Server.Version}}"])
            .and_then(|_| docker(&["image", "inspect", IMAGE]));
        if looked.is_ok() {
            sweep();
        }
        looked.err()
    });
    why_not.as_ref().map(|why| skip(why)).is_none()
}

/// Removes what tests that were killed left behind.
pub fn sweep() {
    let label = format!("label={LABEL}");
    let containers = format!("{{{{.Label \"{LABEL}\"}}}} {{{{.Names}}}}");
    let by_label = ["ps", "-a", "--filter", &label, "--format", &containers];
    for line in docker(&by_label).unwrap().lines() {
        let (pid, name) = line.split_once(' ').unwrap();
        if has_ended(pid) {
            let _ = docker(&["rm", "-f", name]);
        }
    }
    // A list does not show an image's label, and Compose names volumes after its project.
    for (kind, name) in [("volume", "{{.Name}}"), ("image", "{{.Repository}}")] {
        for name in docker(&[kind, "ls", "--format", name]).unwrap().lines() {
            let own = name.strip_prefix(LABEL).and_then(|n| n.strip_prefix('-'));
            let pid = own.and_then(|own| own.split(['-', '_']).next());
            if pid.is_some_and(has_ended) {
                let _ = docker(&[kind, "rm", name]);
            }
        }
    }
}

fn has_ended(pid: &str) -> bool {
    pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()
}

/// Runs a docker command: what it printed, or what it said was wrong.
pub fn docker(args: &[&str]) -> Result<String, String> {
    let output = Command::new("docker")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run docker: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!("docker {}: {}", args.join(" "), error.trim()))
}

pub fn label() -> String {
    format!("{LABEL}={}", std::process::id())
}

pub fn new_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{LABEL}-{}-{n}", std::process::id())
}

/// Who runs in the container: somebody without rights, whose files the test may remove.
pub fn user_and_group() -> (u32, u32) {
    // SAFETY: these two cannot fail and touch no memory.
    match unsafe { (libc::geteuid(), libc::getegid()) } {
        (0, _) => (1000, 1000),
        ids => ids,
    }
}

/// A folder of the host in which the container's user may write.
pub struct Data(pub Dir);

impl Data {
    pub fn new(name: &str) -> Self {
        Self::with_mode(name, 0o777)
    }

    pub fn with_mode(name: &str, mode: u32) -> Self {
        let dir = Dir::new(name);
        fs::create_dir(dir.file("data")).unwrap();
        fs::set_permissions(dir.file("data"), fs::Permissions::from_mode(mode)).unwrap();
        Data(dir)
    }

    pub fn db(&self) -> PathBuf {
        self.0.file("data/sensor_data.db")
    }

    pub fn mount(&self) -> String {
        format!("{}:/app/data", text(&self.0.file("data")))
    }
}

/// A container, removed with the value.
pub struct Container {
    pub name: String,
}

impl Container {
    pub fn command(&self, options: &str, mount: &str, args: &str) -> Command {
        let mut command = Command::new("docker");
        let (user, group) = user_and_group();
        command.args(["run", "--name", &self.name, "--label", &label()]);
        command.args(options.split_whitespace());
        command.args(CONFINED.split_whitespace());
        command.args(["--user", &format!("{user}:{group}"), "-v", mount, IMAGE]);
        command.args(args.split_whitespace());
        command
    }

    /// Runs seawall in the background.
    pub fn start(mount: &str, args: &str) -> Self {
        let container = Container { name: new_name() };
        let output = container.command("-d", mount, args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        container
    }

    /// Runs seawall with its three streams here, and waits until it records.
    pub fn attach(mount: &str, args: &str) -> (Self, Running) {
        let container = Container { name: new_name() };
        let running = Running::spawn(&mut container.command("-i", mount, args));
        running.wait_for("ready");
        (container, running)
    }

    /// Waits until Docker takes it to be so.
    pub fn until_health_is(&self, wanted: &str) {
        until(&format!("it is {wanted}"), || {
            (self.inspect("{{.State.Health.Status}}") == wanted).then_some(())
        });
    }

    /// Runs a docker command on it.
    pub fn docker(&self, command: &str) -> String {
        let mut args: Vec<&str> = command.split_whitespace().collect();
        args.push(&self.name);
        docker(&args).unwrap()
    }

    pub fn inspect(&self, format: &str) -> String {
        docker(&["inspect", "--format", format, &self.name]).unwrap()
    }

    /// What it wrote so far.
    pub fn output(&self) -> (Vec<String>, Vec<String>) {
        let output = Command::new("docker").args(["logs", &self.name]).output();
        let output = output.unwrap();
        let lines = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            text.lines().map(str::to_owned).collect()
        };
        (lines(&output.stdout), lines(&output.stderr))
    }

    /// Waits until so many lines of its log have the event.
    pub fn wait_for(&self, event: &str, times: usize) {
        let wanted = format!(" event={event} ");
        until(
            &format!("{times} × {wanted} in {:?}", self.output()),
            || {
                let (_, log) = self.output();
                let found = log.iter().filter(|line| line.contains(&wanted));
                (found.count() >= times).then_some(())
            },
        );
    }

    /// Waits until it has ended by itself or by a command that was given.
    pub fn ended(&self) -> Ended {
        until("the container ends", || {
            (self.inspect("{{.State.Running}}") == "false").then_some(())
        });
        let code: i32 = self.inspect("{{.State.ExitCode}}").parse().unwrap();
        let (out, log) = self.output();
        Ended {
            status: ExitStatus::from_raw(code << 8),
            log,
            out,
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Where the test fails early there may be none.
        let _ = docker(&["rm", "-f", &self.name]);
    }
}

/// A named volume, removed with the value.
pub struct Volume(pub String);

impl Volume {
    /// In memory; the system forgets it with its last container. `options`: those of its mount.
    pub fn in_memory(options: &str) -> Self {
        let (volume, label) = (Volume(new_name()), label());
        let memory = "volume create --opt type=tmpfs --opt device=tmpfs --opt";
        let mut args: Vec<&str> = memory.split(' ').collect();
        args.extend([options, "--label", &label, &volume.0]);
        docker(&args).unwrap();
        volume
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = docker(&["volume", "rm", &self.0]);
    }
}

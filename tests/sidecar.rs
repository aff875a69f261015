//! Guards against the reading that falls between two containers: seawall was restarted while a sidecar wrote
//! to its socket, or the sidecar was, and what had been on its way was lost, or sent and recorded twice.
//!
//! `tests/sidecar/sidecar.rs` runs beside seawall as the files of docs/deploy have it, both `FROM scratch`, without a
//! network, as a user without rights; either is killed, stopped and started again. The sidecar numbers its
//! readings, so that the database shows whether each is there once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::docker::*;
use crate::support::manifest::{Pod, deployed};
use crate::support::stop::*;
use crate::support::*;

const SOCKET: &str = "/run/seawall/seawall.sock";
/// Readings that are settled before the next thing happens.
const SOME: u64 = 5;

/// The sidecar, static; or why there is none.
fn build_sidecar() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sidecar");
    fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let program = folder.join("sidecar");
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sidecar/sidecar.rs");
    let output = Command::new("rustc")
        .args(["--edition", "2024", "-O", "-Cstrip=symbols"])
        .args(["--target", &target, "-o", text(&program)])
        .arg(source)
        .output()
        .map_err(|e| format!("rustc: {e}"))?;
    if !output.status.success() {
        // `just image` installs the target.
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(folder)
}

/// An image with the sidecar, removed with the value.
struct Image(String);

impl Image {
    /// None where containers cannot be run.
    fn new() -> Option<Self> {
        static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        if !can_run() {
            return None;
        }
        let folder = match FOLDER.get_or_init(build_sidecar) {
            Ok(folder) => folder,
            Err(why) => {
                skip(why);
                return None;
            }
        };
        let image = Image(new_name());
        let dockerfile =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sidecar/Dockerfile.sidecar");
        let build = [
            "build",
            "-q",
            "-t",
            &image.0,
            "--label",
            &label(),
            "-f",
            text(&dockerfile),
        ];
        docker(&[&build[..], &[text(folder)]].concat()).unwrap();
        Some(image)
    }

    /// Runs the sidecar in the background.
    fn start(&self, run: &Volume, user: &str) -> Container {
        let container = Container { name: new_name() };
        let mount = format!("{}:/run/seawall", run.0);
        let label = label();
        let mut args = vec!["run", "-d", "--name", &container.name, "--label", &label];
        args.extend(CONFINED.split(' '));
        args.extend(["--user", user, "-v", &mount, &self.0]);
        args.extend([SOCKET, "boiler", "/proc/loadavg"]);
        docker(&args).unwrap();
        container
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = docker(&["image", "rm", "-f", &self.0]);
    }
}

/// A volume for the socket, which the system forgets with its last container.
fn volume_for_socket(mode: &str) -> Volume {
    let (user, group) = user_and_group();
    Volume::in_memory(&format!("o=uid={user},gid={group},mode={mode}"))
}

fn start_seawall(data: &Data, run: &Volume, options: &str) -> Container {
    let container = Container { name: new_name() };
    let volume = format!("-d -v {}:/run/seawall", run.0);
    let args = format!("--source unix:{SOCKET}{options} --commit-interval 50ms");
    let output = container
        .command(&volume, &data.mount(), &args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    container.wait_for("ready", 1);
    container
}

/// The last reading that a sidecar knows to be settled.
fn settled(out: &[String]) -> u64 {
    let number = |line: &String| line.strip_prefix("settled ")?.parse().ok();
    out.iter().rev().find_map(number).unwrap_or(0)
}

fn wait_until_settled(sidecar: &Container, reading: u64) -> u64 {
    let what = format!("reading {reading} is settled: {:#?}", sidecar.output());
    until(&what, || {
        let settled = settled(&sidecar.output().0);
        (settled >= reading).then_some(settled)
    })
}

/// Every reading is there once, in order, at a time of its own. Gives how many.
fn assert_each_once(db: &Path) -> u64 {
    assert_sound(db);
    let row = sql(
        db,
        "SELECT count(*), count(DISTINCT value), min(value), max(value), count(DISTINCT time_ns)
         FROM sensor_readings WHERE sensor = 'boiler' AND field = 'n'",
    );
    let numbers: Vec<u64> = row.split('|').map(|n| n.parse().unwrap()).collect();
    let readings = numbers[0];
    assert_eq!(numbers, [readings, readings, 1, readings, readings]);
    let others = "SELECT count(*) FROM sensor_readings
                  WHERE sensor = 'boiler' AND field = 'value' AND typeof(value) = 'real'";
    assert_eq!(sql(db, others), readings.to_string());
    assert_eq!(count(db), 2 * readings);
    let backwards = "SELECT count(*) FROM (SELECT value, lag(value) OVER (ORDER BY id) AS before
                     FROM sensor_readings WHERE field = 'n') WHERE value <= before";
    assert_eq!(sql(db, backwards), "0");
    readings
}

#[test]
fn each_reading_of_a_sidecar_is_there_once_whichever_of_the_two_is_ended() {
    let Some(image) = Image::new() else { return };
    let (user, group) = user_and_group();
    let run = volume_for_socket("0770");
    let data = Data::new("sidecar");
    let seawall = start_seawall(&data, &run, "");
    let sidecar = image.start(&run, &format!("{user}:{group}"));
    let mut seen = wait_until_settled(&sidecar, SOME);
    for (who, how) in [
        (&seawall, "kill"),
        (&sidecar, "kill"),
        (&seawall, "stop"),
        (&sidecar, "restart -t 0"),
        (&seawall, "restart"),
        (&seawall, "pause"),
    ] {
        who.docker(how);
        match how {
            "kill" | "stop" => who.docker("start"),
            "pause" => who.docker("unpause"),
            _ => String::new(),
        };
        seen = wait_until_settled(&sidecar, seen + SOME);
    }
    seawall.docker("stop");
    let code = seawall.inspect("{{.State.ExitCode}}");
    assert_eq!(code, "0", "{:#?}", seawall.output());
    sidecar.docker("kill");
    let seen = settled(&sidecar.output().0);

    assert_one_file(&data.db());
    let readings = assert_each_once(&data.db());
    // All that it heard of is there, and nobody has more than the file.
    assert!(seen <= readings, "{seen} settled, {readings} there");
    let lines = sql(
        &data.db(),
        "SELECT lines FROM clients WHERE name = 'boiler'",
    );
    assert_eq!(lines, readings.to_string());
    let ends = sql(&data.db(), "SELECT reason FROM runs ORDER BY id");
    assert_eq!(ends, "unclean\nSIGTERM\nSIGTERM\nSIGTERM");
}

#[test]
fn the_socket_is_open_to_its_group_and_closed_to_others() {
    let Some(image) = Image::new() else { return };
    let (user, group) = user_and_group();
    let (another, other_group) = (user + 1, group + 1);
    // A folder that everybody may enter, so that it is the socket that decides.
    let run = volume_for_socket("0755");
    let data = Data::new("group");
    let seawall = start_seawall(&data, &run, "");
    let member = image.start(&run, &format!("{another}:{group}"));
    wait_until_settled(&member, 1);
    drop(member);
    let stranger = image.start(&run, &format!("{another}:{other_group}"));
    let denied = format!("{SOCKET}: Permission denied");
    until(&denied, || {
        let (_, log) = stranger.output();
        log.iter()
            .any(|line| line.starts_with(&denied))
            .then_some(())
    });
    drop(stranger);
    seawall.docker("stop");
    drop(seawall);

    let before = assert_each_once(&data.db());
    let seawall = start_seawall(&data, &run, ",mode=0666");
    let stranger = image.start(&run, &format!("{another}:{other_group}"));
    wait_until_settled(&stranger, before + 1);
    seawall.docker("stop");
    assert_each_once(&data.db());
}

/// A project of Docker Compose, taken down with the value.
struct Project {
    name: String,
    command: Vec<&'static str>,
    folder: Dir,
}

impl Project {
    /// None where there is no Compose.
    fn new(sidecar: &Image) -> Option<Self> {
        let is_there = |command: &&[&str]| {
            let output = Command::new(command[0])
                .args(&command[1..])
                .arg("version")
                .output();
            output.is_ok_and(|output| output.status.success())
        };
        let known: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
        let Some(command) = known.iter().find(|command| is_there(command)) else {
            skip("there is no docker compose, and no docker-compose");
            return None;
        };
        let project = Project {
            name: new_name(),
            command: command.to_vec(),
            folder: Dir::new("compose"),
        };
        // What Compose makes bears the project's name; only the containers need the label.
        let ours = |service: &str, image: &str| {
            let labels = format!("{{{LABEL}: \"{}\"}}", std::process::id());
            format!("  {service}:\n    image: {image}\n    labels: {labels}\n")
        };
        let ours = ours("seawall", IMAGE) + &ours("sidecar", &sidecar.0);
        let ours = format!("services:\n{ours}");
        fs::write(project.folder.file("ours.yaml"), ours).unwrap();
        Some(project)
    }

    fn compose(&self, args: &str) -> Result<String, String> {
        let output = Command::new(self.command[0])
            .args(&self.command[1..])
            .args(["-p", &self.name, "-f", text(&deployed("compose.yaml"))])
            .args(["-f", text(&self.folder.file("ours.yaml"))])
            .args(args.split(' '))
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(format!("compose {args}: {}", text(&output.stderr)))
    }

    fn service(&self, service: &str) -> Container {
        Container {
            name: self.compose(&format!("ps -q {service}")).unwrap(),
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = self.compose("down -v -t 0");
    }
}

#[test]
fn the_example_for_compose_records_each_reading_once_over_restarts() {
    let Some(image) = Image::new() else { return };
    let Some(project) = Project::new(&image) else {
        return;
    };
    project.compose("up -d").unwrap();
    let seawall = project.service("seawall");
    let sidecar = project.service("sidecar");
    let mut seen = wait_until_settled(&sidecar, SOME);
    for how in ["restart -t 10 seawall", "kill seawall", "restart sidecar"] {
        project.compose(how).unwrap();
        if how.starts_with("kill") {
            project.compose("start seawall").unwrap();
        }
        seen = wait_until_settled(&sidecar, seen + SOME);
    }
    project.compose("stop seawall").unwrap();
    let code = seawall.inspect("{{.State.ExitCode}}");
    assert_eq!(code, "0", "{:#?}", seawall.output());
    project.compose("stop sidecar").unwrap();
    let seen = settled(&sidecar.output().0);

    let db = project.folder.file("sensor_data.db");
    let from = format!("{}:/app/data/sensor_data.db", seawall.name);
    docker(&["cp", &from, text(&db)]).unwrap();
    let readings = assert_each_once(&db);
    assert!(seen <= readings, "{seen} settled, {readings} there");
}

/// In a cluster both are given the same: a user, a group, a folder in memory and a volume that are the group's.
#[test]
fn the_pod_with_a_sidecar_records_each_reading_once() {
    let Some(image) = Image::new() else { return };
    let Some(pod) = Pod::new("kubernetes-sidecar.yaml") else {
        return;
    };
    const SEAWALL: &str = "initContainers.0";
    assert_eq!(pod.get("initContainers.0.restartPolicy"), "Always");
    let start = || {
        let seawall = pod.run(SEAWALL, IMAGE, &["--network", "none"]);
        until("the probe succeeds", || {
            pod.probe(SEAWALL, "startupProbe", &seawall).ok()
        });
        seawall
    };
    let seawall = start();
    let sensor = pod.run("containers.0", &image.0, &["--network", "none"]);
    let seen = wait_until_settled(&sensor, SOME);
    seawall.docker("kill");
    let seawall = start();
    wait_until_settled(&sensor, seen + SOME);
    // The sidecar is the last to be stopped.
    pod.stop(&sensor);
    let seen = settled(&sensor.output().0);
    pod.stop(&seawall);
    assert_eq!(seawall.ended().code(), 0, "{:#?}", seawall.output());
    let readings = assert_each_once(&pod.dir.file("data/sensor_data.db"));
    assert!(seen <= readings, "{seen} settled, {readings} there");
}

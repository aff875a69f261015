//! Guards against the failure that seawall was written for: `docker stop` sent SIGTERM to process 1, which
//! died of it or never heard it; the WAL was never checkpointed, and what people found in the volume
//! afterwards, or after `docker rm`, was not what had been recorded. Every way in which Docker ends a
//! container is gone through here, idle and under load, in the image as it is meant to run.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::docker::*;
use crate::support::mounts::Mount;
use crate::support::stop::*;
use crate::support::*;

const STOP_SIGNALS: [&str; 5] = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGPWR"];
/// Acknowledged before a recorder under load is ended: many commits.
const MANY_LINES: u64 = 20_000;

fn assert_image(format: &str, wanted: &str) {
    let is = docker(&["image", "inspect", "--format", format, IMAGE]).unwrap();
    assert_eq!(is, wanted, "{format}");
}

#[test]
fn the_image_says_what_it_is() {
    if !can_run() {
        return;
    }
    assert_image("{{json .Config.Entrypoint}}", "[\"/seawall\"]");
    assert_image("{{.Config.WorkingDir}}", "/app");
    assert_image("{{.Config.StopSignal}}", "SIGTERM");
    assert_image("{{json .Config.Volumes}}", "null");
    assert_image(
        "{{json .Config.Healthcheck.Test}}",
        "[\"CMD\",\"/seawall\",\"status\"]",
    );
    let native = docker(&["version", "--format", "{{.Server.Arch}}"]).unwrap();
    assert_image("{{.Os}}/{{.Architecture}}", &format!("linux/{native}"));
    assert_image(
        "{{index .Config.Labels \"org.opencontainers.image.version\"}}",
        env!("CARGO_PKG_VERSION"),
    );
}

/// `just image` packs the image itself; whoever builds it with Docker gets the same one.
#[test]
fn docker_build_makes_the_same_image() {
    if !can_run() {
        return;
    }
    let dir = Dir::new("docker-build");
    fs::create_dir_all(dir.file("rootfs/app/data")).unwrap();
    fs::write(dir.file("rootfs/seawall"), "any").unwrap();
    let dockerfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile.scratch");
    let version = concat!("VERSION=", env!("CARGO_PKG_VERSION"));
    let name = new_name();
    docker(&[
        "build",
        "-q",
        "-f",
        text(&dockerfile),
        "-t",
        &name,
        "--build-arg",
        version,
        text(dir.path()),
    ])
    .unwrap();
    let format = "{{json .Config.Entrypoint}} {{json .Config.Cmd}} {{json .Config.Env}} {{.Config.WorkingDir}} \
        {{.Config.StopSignal}} {{json .Config.Labels}} {{json .Config.Healthcheck}} {{json .Config.User}} \
        {{.Os}}/{{.Architecture}}";
    let built = docker(&["image", "inspect", "--format", format, &name]);
    let _ = docker(&["image", "rm", "-f", &name]);
    assert_image(format, &built.unwrap());
}

#[test]
fn a_hundred_thousand_readings_a_second_fit_into_6_mb() {
    if !can_run() {
        return;
    }
    const READINGS: u64 = 300_000;
    let data = Data::new("memory");
    let source = format!("--source sim:sensors=10,rate=10000,count={READINGS}");
    let container = Container::start(&data.mount(), &source);
    let ended = container.ended();
    assert_eq!(container.inspect("{{.State.OOMKilled}}"), "false");
    let last = assert_stopped(&data.db(), &ended, 0, "eof");
    // Whether each found room is the machine's affair.
    assert_eq!(last.committed + last.dropped, READINGS, "{last:?}");
}

#[test]
fn process_1_is_seawall_and_there_is_no_other() {
    if !can_run() {
        return;
    }
    let data = Data::new("process-1");
    let container = Container::start(&data.mount(), "");
    container.wait_for("ready", 1);
    let pid = container.inspect("{{.State.Pid}}");
    let processes = docker(&["top", &container.name, "-o", "pid,args"]).unwrap();
    let rows: Vec<Vec<&str>> = processes
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[1..], [[pid.as_str(), "/seawall"]], "{processes}");
    container.docker("stop");
    assert_stopped(&data.db(), &container.ended(), 0, "SIGTERM");
}

#[test]
fn dockers_health_turns_when_the_disk_is_taken_away_and_turns_back() {
    if !can_run() {
        return;
    }
    let Some(disk) = Mount::small_disk(32, "4096") else {
        return;
    };
    fs::set_permissions(disk.at(), fs::Permissions::from_mode(0o777)).unwrap();
    let mount = format!("{}:/app/data", text(disk.at()));
    let container = Container { name: new_name() };
    let options = "-d --health-interval 500ms --health-retries 2";
    let args = "--source sim:sensors=1,rate=100 --commit-interval 100ms --min-free 2MiB";
    let started = container.command(options, &mount, args).output().unwrap();
    assert!(started.status.success(), "{started:?}");
    container.until_health_is("healthy");
    let filler = disk.fill();
    container.until_health_is("unhealthy");
    let told = container.inspect("{{json .State.Health.Log}}");
    assert!(told.contains("reason=the disk is full"), "{told}");
    fs::remove_file(filler).unwrap();
    container.until_health_is("healthy");

    // In the container, and of no other: the paths are the same.
    let data = Data::new("status");
    let other = Container::start(&data.mount(), "");
    other.wait_for("ready", 1);
    let pid = |container: &Container| {
        let told = docker(&["exec", &container.name, "/seawall", "status"]).unwrap();
        assert!(told.contains("pid=1\n"), "{told}");
        let device = told.lines().find(|line| line.starts_with("device="));
        device.unwrap().to_owned()
    };
    assert_ne!(pid(&container), pid(&other));
    container.docker("stop");
    let ended = container.ended();
    assert_stopped(&disk.at().join("sensor_data.db"), &ended, 0, "SIGTERM");
}

/// There is no shell and no sqlite3 in the image: what was recorded is looked at, and carried away, through
/// `docker exec`, in the memory and on the read-only root that the recorder has.
#[test]
fn readings_are_shown_exported_and_backed_up_through_docker_exec() {
    if !can_run() {
        return;
    }
    let data = Data::new("exec");
    let filled = Container::start(&data.mount(), "--source sim:rate=max,count=200000");
    assert_eq!(filled.ended().code(), 0);
    let container = Container::start(&data.mount(), "--source sim:rate=100");
    container.wait_for("ready", 1);
    let exec = |command: &str| {
        let mut args = vec!["exec", &container.name, "/seawall"];
        args.extend(command.split(' '));
        let output = Command::new("docker").args(args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && error.is_empty(),
            "{command}: {error}"
        );
        output.stdout
    };
    let table = String::from_utf8(exec("show")).unwrap();
    assert!(
        table.lines().count() == 9 && table.contains("sim,sensor=8"),
        "{table}"
    );
    let rows = exec("export --limit 200000");
    assert_eq!(rows.iter().filter(|&&byte| byte == b'\n').count(), 200_001);
    let copy = data.0.file("copy.db");
    fs::write(&copy, exec("backup -")).unwrap();
    assert_sound(&copy);
    assert!(count(&copy) >= 200_000);
    exec("backup data/copy.db");
    assert_sound(&data.0.file("data/copy.db"));
    container.docker("stop");
    assert_stopped(&data.db(), &container.ended(), 0, "SIGTERM");
}

#[test]
fn each_stop_signal_ends_an_idle_recorder_with_all_saved() {
    if !can_run() {
        return;
    }
    for signal in STOP_SIGNALS {
        let data = Data::new("idle");
        let (container, mut running) =
            Container::attach(&data.mount(), "--source stdin --ack --commit-interval 0");
        running.send(&lines(0..3));
        running.wait_for_ack(3);
        container.docker(&format!("kill --signal {signal}"));
        let ended = running.wait();
        assert_eq!(
            assert_stopped(&data.db(), &ended, 0, signal).committed,
            3,
            "{signal}"
        );
    }
}

#[test]
fn each_stop_signal_ends_a_recorder_at_full_load_with_all_saved() {
    if !can_run() {
        return;
    }
    for signal in STOP_SIGNALS {
        let data = Data::new("load");
        let container = Container::start(&data.mount(), "--source sim:rate=max");
        container.wait_for("checkpoint", 1);
        container.docker(&format!("kill --signal {signal}"));
        let last = assert_stopped(&data.db(), &container.ended(), 0, signal);
        assert!(last.committed > MANY_LINES, "{last:?}");
        assert_eq!(last.dropped, 0, "{last:?}");
    }
}

#[test]
fn docker_stop_at_full_load_settles_and_acknowledges_all_that_was_accepted() {
    if !can_run() {
        return;
    }
    let data = Data::new("stop");
    let (container, mut running) = Container::attach(&data.mount(), "--source stdin --ack");
    let flood = Flood::start(running.stdin.take().unwrap());
    running.wait_for_ack(MANY_LINES);
    container.docker("stop");
    let ended = running.wait();
    let sent = flood.end();
    let last = assert_stopped(&data.db(), &ended, 0, "SIGTERM");
    assert_eq!(ended.acked(), last.committed);
    assert!(last.committed <= sent);
    assert_eq!(held(&data.db()), last.committed);
}

/// Lines of a flood in the file, which have to be the first of it.
fn held(db: &Path) -> u64 {
    let row = sql(
        db,
        "SELECT count(*), count(DISTINCT value), coalesce(min(value), 0), coalesce(max(value) + 1, 0)
         FROM sensor_readings WHERE sensor = 'm,k=a'",
    );
    let [count, different, first, after_last] = row
        .split('|')
        .map(|n| n.parse().unwrap())
        .collect::<Vec<u64>>()[..]
    else {
        panic!("{row}")
    };
    assert_eq!((different, first, after_last), (count, 0, count), "{row}");
    count
}

/// A new container finds on the volume all that was acknowledged in one that is gone, and goes on.
fn assert_next_goes_on(data: &Data, ended: &Ended) {
    const MORE: u64 = 100;
    let next = Container::start(&data.mount(), &format!("--source sim:count={MORE}"));
    let next = next.ended();
    let last = assert_stopped(&data.db(), &next, 0, "eof");
    assert_eq!(last.committed, MORE);
    let held = held(&data.db());
    assert!(held >= ended.acked(), "{} acked, {held}", ended.acked());
    let reason = sql(&data.db(), "SELECT reason FROM runs WHERE id = 1");
    if reason == "unclean" {
        let recovered = format!(" event=recovered run=1 reason=unclean readings={held}");
        assert!(next.has(&recovered), "{recovered}: {:#?}", next.log);
    } else {
        // Killed in the last checkpoint, or not at all.
        assert_eq!(reason, "SIGTERM");
    }
    let ids = sql(
        &data.db(),
        "SELECT run, min(id), max(id) FROM sensor_readings GROUP BY run",
    );
    let wanted = format!("1|1|{held}\n2|{}|{}", held + 1, held + MORE);
    assert_eq!(ids, wanted);
}

/// What was acknowledged survives the command that ends the container.
fn assert_acked_survives(command: &str) {
    let data = Data::new("killed");
    let (container, mut running) = Container::attach(&data.mount(), "--source stdin --ack");
    let flood = Flood::start(running.stdin.take().unwrap());
    running.wait_for_ack(MANY_LINES);
    container.docker(command);
    let ended = running.wait();
    flood.end();
    drop(container);
    assert_next_goes_on(&data, &ended);
}

#[test]
fn acked_readings_survive_docker_kill_and_a_new_container_goes_on() {
    if can_run() {
        assert_acked_survives("kill");
    }
}

#[test]
fn acked_readings_survive_docker_stop_without_a_grace_period() {
    if can_run() {
        assert_acked_survives("stop -t 0");
    }
}

#[test]
fn acked_readings_survive_docker_rm_of_a_running_container() {
    if can_run() {
        assert_acked_survives("rm -f");
    }
}

#[test]
fn docker_restart_at_full_load_saves_all_and_goes_on() {
    if !can_run() {
        return;
    }
    let data = Data::new("restart");
    let container = Container::start(&data.mount(), "--source sim:rate=max");
    container.wait_for("checkpoint", 1);
    container.docker("restart");
    container.wait_for("ready", 2);
    container.docker("stop");
    let mut ended = container.ended();
    let first_end = ended
        .log
        .iter()
        .position(|line| line.contains(" event=stopped "))
        .unwrap();
    let second = ended.log.split_off(first_end + 1);
    let first = assert_last_line(&ended.log, "SIGTERM");
    ended.log = second;
    let second = assert_stopped(&data.db(), &ended, 0, "SIGTERM");
    let ledger = ledger(&data.db());
    assert_eq!(ledger.runs, 2);
    assert_eq!(ledger.readings, first.committed + second.committed);
    assert_eq!(first.uncommitted, 0);
}

#[test]
fn docker_stop_of_a_paused_container_saves_all() {
    if !can_run() {
        return;
    }
    let data = Data::new("pause");
    let container = Container::start(&data.mount(), "--source sim:rate=max");
    container.wait_for("checkpoint", 1);
    container.docker("pause");
    assert_eq!(container.inspect("{{.State.Paused}}"), "true");
    container.docker("stop");
    assert_stopped(&data.db(), &container.ended(), 0, "SIGTERM");
}

#[test]
fn acked_readings_survive_an_out_of_memory_kill() {
    if !can_run() {
        return;
    }
    if docker(&["info", "--format", "{{.MemoryLimit}}"]).unwrap() != "true" {
        return skip("the kernel does not limit a container's memory");
    }
    // A lock that is never let go, and a queue that may grow over the container's memory.
    let options = "--source stdin --source sim:sensors=8,rate=10000 --ack --queue-rows 16000000";
    let data = Data::new("oom");
    let (container, mut running) = Container::attach(&data.mount(), options);
    running.send(&lines(0..MANY_LINES));
    running.wait_for_ack(MANY_LINES);
    let lock = Holder::start(&data.db(), "BEGIN IMMEDIATE");
    let ended = running.wait();
    assert_eq!(ended.code(), 128 + libc::SIGKILL, "{:#?}", ended.log);
    until("Docker knows of the kill", || {
        (container.inspect("{{.State.OOMKilled}}") == "true").then_some(())
    });
    // A holder that closed the file would do the recovery.
    lock.kill();
    drop(container);

    let next = Container::start(&data.mount(), "--source sim:count=100");
    let next = next.ended();
    let last = assert_stopped(&data.db(), &next, 0, "eof");
    assert_eq!(last.committed, 100);
    assert!(next.has(" event=recovered run=1 reason=unclean "));
    assert_eq!(held(&data.db()), MANY_LINES);
}

#[test]
fn a_new_named_volume_is_writable_and_outlives_its_containers() {
    if !can_run() {
        return;
    }
    let volume = Volume(new_name());
    docker(&["volume", "create", "--label", &label(), &volume.0]).unwrap();
    let mount = format!("{}:/app/data", volume.0);
    let mut readings = 0;
    for _ in 0..2 {
        let container = Container::start(&mount, "--source sim:rate=max");
        container.wait_for("checkpoint", 1);
        container.docker("stop");
        let ended = container.ended();
        assert_eq!(ended.code(), 0, "{:#?}", ended.log);
        readings += assert_last_line(&ended.log, "SIGTERM").committed;
    }
    let check = Container::start(&mount, "check --full");
    let ended = check.ended();
    assert_eq!(ended.code(), 0, "{:?}", ended.log);
    let sound = format!("sound readings={readings} runs=2 unclean=0");
    assert_eq!(ended.out.last(), Some(&sound));

    // Through Docker, since the volume's own folder is root's.
    let data = Data::new("volume");
    let from = format!("{}:/app/data/sensor_data.db", check.name);
    docker(&["cp", &from, text(&data.db())]).unwrap();
    assert_eq!(count(&data.db()), readings);
    drop(check);
}

#[test]
fn a_second_container_on_the_same_volume_is_refused() {
    if !can_run() {
        return;
    }
    let data = Data::new("second");
    let first = Container::start(&data.mount(), "");
    first.wait_for("ready", 1);
    let second = Container::start(&data.mount(), "").ended();
    assert_eq!(second.code(), 1, "{:#?}", second.log);
    assert!(second.has("is recording to it"), "{:#?}", second.log);
    first.docker("stop");
    assert_stopped(&data.db(), &first.ended(), 0, "SIGTERM");
}

#[test]
fn a_folder_that_may_not_be_written_is_told_with_user_group_and_path() {
    if !can_run() {
        return;
    }
    let data = Data::with_mode("unwritable", 0o555);
    let ended = Container::start(&data.mount(), "").ended();
    assert_eq!(ended.code(), 1, "{:#?}", ended.log);
    let (user, group) = user_and_group();
    let error = ended
        .log
        .iter()
        .find(|line| line.contains(" level=error "))
        .expect("an error");
    let error = &fields(error)["error"];
    for part in [
        format!("uid {user}"),
        format!("gid {group}"),
        "data".to_owned(),
    ] {
        assert!(error.contains(&part), "no {part:?} in {error}");
    }
    assert_last_line(&ended.log, "error");
}

#[test]
fn the_containers_own_layer_is_warned_of() {
    if !can_run() {
        return;
    }
    let container = Container { name: new_name() };
    let (label, name) = (label(), &*container.name);
    let mut args = vec!["run", "--name", name, "--label", &label, IMAGE];
    args.extend(["--source", "sim:count=1"]);
    docker(&args).unwrap();
    let ended = container.ended();
    assert!(ended.has(" event=not-lasting "), "{:#?}", ended.log);
    assert_last_line(&ended.log, "eof");
}

/// The original story's names are few, so that tests that run at the same time take turns.
struct Story {
    folder: Dir,
    _turn: fs::File,
    before: Option<String>,
}

const SENSOR_APP: &str = "sensor-app";

impl Story {
    fn new() -> Self {
        // SAFETY: it cannot fail and touches no memory.
        let lock = format!("{LABEL}-story-{}.lock", unsafe { libc::geteuid() });
        let turn = fs::File::create(std::env::temp_dir().join(lock)).unwrap();
        // SAFETY: the descriptor is open as long as `turn`.
        assert_eq!(unsafe { libc::flock(turn.as_raw_fd(), libc::LOCK_EX) }, 0);
        sweep();
        let before = docker(&["image", "inspect", "--format", "{{.Id}}", SENSOR_APP]).ok();
        // Containers have the labels of their image.
        let mut build = Command::new("docker")
            .args(["build", "-q", "-t", SENSOR_APP, "--label", &label(), "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(build.stdin.take().unwrap(), "FROM {IMAGE}").unwrap();
        let build = build.wait_with_output().unwrap();
        assert!(build.status.success(), "{build:?}");
        Story {
            folder: Dir::new("story"),
            _turn: turn,
            before,
        }
    }

    /// A line of the story for the shell, in a folder of its own.
    fn line(&self, folder: &str, line: &str) -> Command {
        let folder = self.folder.file(folder);
        // Docker would make it, but for root, whose files nobody else can remove.
        fs::create_dir_all(folder.join("data")).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(folder);
        command
    }

    fn say(&self, folder: &str, line: &str) -> (String, String) {
        let output = self.line(folder, line).output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{line}: {out} {err}");
        (out, err)
    }

    /// `SELECT COUNT(*)`, word for word where there is a shell's sqlite3, and by Python's in any case.
    fn count(&self, folder: &str) -> u64 {
        let db = self.folder.file(folder).join("data/sensor_data.db");
        let readings = count(&db);
        if Command::new("sqlite3").arg("--version").output().is_ok() {
            let line = "sqlite3 data/sensor_data.db \"SELECT COUNT(*) FROM sensor_readings;\"";
            assert_eq!(self.say(folder, line).0, readings.to_string());
        }
        assert_one_file(&db);
        assert_sound(&db);
        readings
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        let mut args = vec!["ps", "-aq", "--filter"];
        let label = format!("label={}", label());
        args.extend([&*label, "--filter", "ancestor=sensor-app"]);
        for container in docker(&args).unwrap_or_default().lines() {
            let _ = docker(&["rm", "-f", container]);
        }
        let _ = docker(&["rmi", SENSOR_APP]);
        if let Some(before) = &self.before {
            let _ = docker(&["tag", before, SENSOR_APP]);
        }
    }
}

#[test]
fn a_container_saves_all_in_the_original_story_word_for_word() {
    if !can_run() {
        return;
    }
    let story = Story::new();

    let line = "exec docker run -v $(pwd)/data:/app/data sensor-app";
    let running = Running::spawn(&mut story.line("ctrl-c", line));
    running.wait_for("ready");
    let db = story.folder.file("ctrl-c").join("data/sensor_data.db");
    until("a commit", || (try_count(&db)? > 0).then_some(()));
    let ended = running.stop(libc::SIGINT);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    let last = assert_last_line(&ended.log, "SIGINT");
    assert!(last.committed > 0);
    assert_eq!(story.count("ctrl-c"), last.committed);

    for line in [
        "docker run -d --name test-sensor -v $(pwd)/data:/app/data sensor-app",
        "sleep 30",
        "docker stop test-sensor",
    ] {
        story.say("stop", line);
    }
    let (_, log) = story.say("stop", "docker logs test-sensor");
    let log: Vec<String> = log.lines().map(str::to_owned).collect();
    let last = assert_last_line(&log, "SIGTERM");
    // 8 sensors at 10 Hz for 30 s, less what the start of the container took.
    assert!(last.committed > 8 * 10 * 25, "{last:?}");
    assert_eq!((last.dropped, last.uncommitted), (0, 0));
    assert_eq!(story.count("stop"), last.committed);
}

#[test]
fn ctrl_c_on_a_terminal_saves_all() {
    if !can_run() {
        return;
    }
    let script = "
import os, pty, re, select, sys, time

def read(deadline):
    if not select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
        sys.exit('waited in vain: %r' % written)
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b''

child, terminal = pty.fork()
if child == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
written = b''
deadline = time.monotonic() + 60
while not re.search(rb'[1-9][0-9,]* readings', written):
    got = read(deadline)
    if not got:
        sys.exit('ended too soon: %r' % written)
    written += got
os.write(terminal, b'\\x03')
while got := read(deadline):
    written += got
sys.stdout.buffer.write(written)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";
    let data = Data::new("terminal");
    let container = Container { name: new_name() };
    let run = container.command("-it", &data.mount(), "--source sim:rate=max");
    let output = python3()
        .args(["-c", script])
        .arg(run.get_program())
        .args(run.get_args())
        .output()
        .expect("run python3");
    let written = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        written.contains('\x1b'),
        "no status line: {written:?} {error}"
    );
    // What stands on the terminal's lines in the end.
    let log: Vec<String> = written
        .lines()
        .map(|line| line.trim_end().rsplit("\x1b[K").next().unwrap().to_owned())
        .filter(|line| line.starts_with("ts="))
        .collect();
    let ended = Ended {
        status: output.status,
        log,
        out: Vec::new(),
    };
    assert_stopped(&data.db(), &ended, 0, "SIGINT");
}

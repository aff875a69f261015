//! Guards against advice that makes things worse: what docs/operating.md says to type is run as it is printed, each section
//! in the situation that it is about, and what it says is seen is compared with what is seen.
//!
//! `systemctl`, `journalctl` and `sudo` are played by scripts; `/var/lib/seawall`, the card and `/mnt` are folders and
//! files of the test. As root, the service has a user of its own and a folder that is a link into a closed one, as
//! `DynamicUser` makes it, and who types is another user. A comment before a block says how it is run, as for README: `status N`, that of its last command;
//! `numbers differ`; `values differ`, of lines `key=value`; `until Ctrl-C`, a recorder that is ended behind the next block;
//! `elsewhere`, on a machine that has no database yet; `then a clone starts`, from what the block has left; `cron`, its lines.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;

use crate::support::docker::can_run;
use crate::support::document::{Block, Reader, blocks, document};
use crate::support::mounts::Mount;
use crate::support::shim::Shim;
use crate::support::stop::{copy_of_the_program, text};
use crate::support::*;

/// The first words of the blocks that are not run, and no others.
const NOT_RUN: [&str; 1] = ["[Service]"];
const OPTIONS: &str = "--source sim:sensors=2,rate=50 --commit-interval 50ms --stop-timeout 2s";

/// The user of the service and the one who types, where they are not who runs the test. Nobody else has these.
const SERVICE: u32 = 64_901;
const TYPIST: u32 = 64_902;

/// Plays sudo for the typist: the caller hands his files and his folder to a server of root's, which runs the words.
const SUDO: &str = r#"
import json, os, socket, struct, subprocess, sys
at, typist, *words = sys.argv[1:]
end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
if words:
    end.connect(at)
    socket.send_fds(end, [json.dumps(words).encode()], [0, 1, 2, os.open(".", os.O_PATH)])
    sys.exit(end.recv(1)[0])
end.bind(at)
os.chmod(at, 0o666)
end.listen()
while True:
    caller, _ = end.accept()
    _, uid, _ = struct.unpack("3i", caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid == int(typist):
        words, (stdin, stdout, stderr, folder), _, _ = socket.recv_fds(caller, 65536, 4)
        ended = subprocess.run(json.loads(words), stdin=stdin, stdout=stdout, stderr=stderr, cwd=f"/proc/self/fd/{folder}",
                               pass_fds=[folder])
        for fd in (stdin, stdout, stderr, folder):
            os.close(fd)
        caller.send(bytes([ended.returncode & 255]))
    caller.close()
"#;

/// One section: its folder, its service, and what has to live as long.
struct Scene {
    reader: Reader,
    state: PathBuf,
    _disk: Option<Mount>,
    sudo: Option<Child>,
    before: String,
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

impl Scene {
    fn new(disk: Option<Mount>) -> Self {
        // Below a folder that any user reaches.
        let mut reader = Reader::within(Dir::below(&std::env::temp_dir(), "runbook"));
        let dir = reader.dir.path().to_owned();
        let (closed, state) = (dir.join("private"), dir.join("state"));
        for folder in [&closed, &dir.join("mnt")] {
            fs::create_dir_all(folder).unwrap();
        }
        match &disk {
            Some(disk) => symlink(disk.at(), closed.join("seawall")).unwrap(),
            None => fs::create_dir(closed.join("seawall")).unwrap(),
        }
        symlink("private/seawall", &state).unwrap();
        let named = |path: &str| text(&dir.join(path)).to_owned();
        let on_card = |path: &str| format!("/mnt/{path}/lib");
        let instead = [
            // What lies on the card is none of this machine's.
            (on_card("var"), on_card("VAR")),
            ("/var/lib/seawall".into(), text(&state).into()),
            ("/var/log".into(), text(&dir).into()),
            ("/var/backups".into(), text(&dir).into()),
            ("/usr/local/bin/seawall".into(), "seawall".into()),
            ("/etc/machine-id".into(), named("machine-id")),
            ("/dev/mmcblk0p2".into(), named("card")),
            (" /mnt".into(), format!(" {}", named("mnt"))),
            (on_card("VAR"), on_card("var")),
            (
                "sysfs:interval".into(),
                format!("sysfs:root={},interval", named("sys")),
            ),
        ];
        reader.instead.extend(instead);
        let db = state.join("sensor_data.db");
        let (db, dir) = (text(&db), text(&dir).to_owned());
        let (mut own, mut sudo) = (String::new(), "exec \"$@\"".to_owned());
        if is_root() {
            fs::remove_file(reader.dir.file("bin/seawall")).unwrap();
            copy_of_the_program(&reader.dir.file("bin"));
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
            // systemd shows it to the service alone.
            fs::set_permissions(&closed, fs::Permissions::from_mode(0o710)).unwrap();
            chown(&closed, Some(0), Some(SERVICE)).unwrap();
            chown(&state, Some(SERVICE), Some(SERVICE)).unwrap();
            chown(&dir, Some(TYPIST), Some(TYPIST)).unwrap();
            own = format!(
                "umask 077; exec setpriv --reuid={SERVICE} --regid={SERVICE} --clear-groups"
            );
            fs::write(reader.dir.file("sudo.py"), SUDO).unwrap();
            sudo = format!("exec python3 {dir}/sudo.py {dir}/sudo.socket {TYPIST} \"$@\"");
            reader.user = Some(TYPIST);
        }
        // Ends as its recorder does, and begins again if nobody stops it.
        let service = format!(
            "cd {dir}
             case $1 in
             start)
                 rm -f ended left stopping
                 (until [ -e stopping ] || [ ! -e {dir} ]; do
                      sh -c 'echo $$ >pid; {own} seawall --db {db} {OPTIONS}' </dev/null >/dev/null 2>>journal
                      echo $? >>ended
                      sleep 0.2
                  done
                  : >left) </dev/null >/dev/null 2>&1 &
                 until [ -e ended ] || seawall status {db} 2>/dev/null | grep -q state=recording; do sleep 0.02; done ;;
             stop | disable)
                 : >stopping
                 kill \"$(cat pid)\" || true
                 until [ -e left ]; do sleep 0.02; done ;;
             esac"
        );
        for (name, script) in [
            ("sudo", sudo),
            ("journalctl", format!("cat {dir}/journal")),
            ("systemctl", service),
        ] {
            let path = reader.dir.file("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let server = [
            text(&reader.dir.file("sudo.py")),
            text(&reader.dir.file("sudo.socket")),
        ]
        .map(str::to_owned);
        let sudo = reader.user.map(|user| {
            let mut command =
                reader.command_of_the_test(&["python3", &server[0], &server[1]], &user.to_string());
            let server = command.spawn().unwrap();
            until("sudo can be called", || {
                fs::metadata(reader.dir.file("sudo.socket")).ok()
            });
            server
        });
        Scene {
            reader,
            state,
            _disk: disk,
            sudo,
            before: String::new(),
        }
    }

    fn db(&self) -> PathBuf {
        self.state.join("sensor_data.db")
    }

    fn type_in(&self, command: &str) -> String {
        let output = self.reader.run(&["sh", "-ec"], command);
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What is done before somebody comes and types.
    fn arrange(&self, script: &str) {
        let mut command = self.reader.command_of_the_test(&["sh", "-ec"], script);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
    }

    fn start(&self) {
        self.arrange("systemctl start seawall");
        until("readings are committed", || {
            (count(&self.db()) > 20).then_some(())
        });
    }

    /// Ends the service by SIGKILL, for good.
    fn kill(&self) {
        self.arrange(": >stopping; kill -9 $(cat pid); until [ -e left ]; do sleep 0.02; done");
        self.ended(137);
    }

    fn ended(&self, status: i32) {
        let ended = self.reader.dir.file("ended");
        let ended = until("the service has ended", || {
            fs::read_to_string(&ended)
                .ok()
                .filter(|text| text.ends_with('\n'))
        });
        assert_eq!(ended.trim(), status.to_string());
    }

    fn owns(&self, file: &Path) {
        if self.reader.user.is_some() {
            chown(file, Some(SERVICE), Some(SERVICE)).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    fn device(&self) -> String {
        sql(&self.db(), "SELECT id FROM device")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Only of a service that was started and has not ended. It is to see that it stops before the folder goes.
        let script = ": >stopping; [ ! -e pid ] || [ -e left ] || kill -9 $(cat pid)
                      until [ ! -e pid ] || [ -e left ]; do sleep 0.02; done";
        let _ = self
            .reader
            .command_of_the_test(&["sh", "-c"], script)
            .output();
        if let Some(mut sudo) = self.sudo.take() {
            let _ = sudo.kill();
            let _ = sudo.wait();
        }
    }
}

/// A database of some thousand readings with one page of them overwritten.
fn damage_a_page(db: &Path) {
    let lines = (0..9_000).map(|n| format!("m v={n} {n}\n"));
    record_lines(db, &lines.collect::<String>());
    let bytes = fs::read(db).unwrap();
    // A leaf of a table, in the middle of the file, where the readings are.
    let page = (bytes.len() / PAGE_BYTES / 2..).find(|page| bytes[page * PAGE_BYTES] == 13);
    overwrite_page(db, page.unwrap());
}

fn overwrite_page(db: &Path, page: usize) {
    let mut bytes = fs::read(db).unwrap();
    bytes[page * PAGE_BYTES..][..PAGE_BYTES].fill(0xa5);
    fs::write(db, bytes).unwrap();
}

/// What has happened when somebody opens the page at this section. `None` where it cannot happen here.
fn situation(section: &str) -> Option<Scene> {
    let disk = match section {
        "The disk is full" => Some(Mount::small_disk(40, "4096")?),
        _ => None,
    };
    let mut scene = Scene::new(disk);
    let db = scene.db();
    match section {
        "The disk is full" => {
            scene.start();
            let free = "df --output=avail -B1M /var/lib/seawall | tail -1";
            let fill =
                format!("head -c $(($({free}) - 6))M /dev/zero > /var/lib/seawall/old-copy.db");
            scene.arrange(&fill);
            until("it is unhealthy", || {
                (seawall(&["status", text(&db)]).0 == 1).then_some(())
            });
        }
        "The card died" => {
            let inside = scene.reader.dir.file("root/var/lib/private/seawall");
            fs::create_dir_all(&inside).unwrap();
            let link = scene.reader.dir.file("root/var/lib/seawall");
            symlink("private/seawall", link).unwrap();
            damage_a_page(&inside.join("sensor_data.db"));
            scene.owns(&inside.join("sensor_data.db"));
            scene.arrange("truncate -s 16M card && mkfs.ext4 -q -d root card");
        }
        "The file was set aside" => {
            record_lines(&db, "m v=1 1\nm v=2 2\n");
            let runs = sql(
                &db,
                "SELECT rootpage FROM sqlite_master WHERE name = 'runs'",
            );
            overwrite_page(&db, runs.parse::<usize>().unwrap() - 1);
            scene.owns(&db);
            scene.start();
        }
        "The file in use is damaged" => {
            damage_a_page(&db);
            scene.owns(&db);
            scene.arrange("systemctl start seawall");
        }
        "Readings are lost" => {
            scene.start();
            scene.kill();
            fs::remove_file(scene.state.join("sensor_data.db-wal")).unwrap();
            scene.start();
        }
        "The clock was wrong" => {
            let shim = Shim::make("clock");
            let mut command = command(&db, &OPTIONS.split(' ').collect::<Vec<_>>());
            shim.preload(&mut command);
            let run = Running::spawn(&mut command);
            run.wait_for("ready");
            until("readings are committed", || (count(&db) > 20).then_some(()));
            shim.set(3600);
            run.wait_for("clock-set");
            let before = count(&db);
            until("more are committed", || {
                (count(&db) > before + 20).then_some(())
            });
            assert_eq!(run.stop(libc::SIGTERM).code(), 0);
            record_lines(&db, "old v=1 5\n");
            scene.owns(&db);
        }
        "Status 3" => {
            scene.start();
            let reader = Holder::start(&db, "BEGIN; SELECT count(*) FROM readings");
            let before = count(&db);
            until("more are committed", || (count(&db) > before).then_some(()));
            scene.arrange("systemctl stop seawall");
            scene.ended(3);
            reader.release();
        }
        "Status 4" => {
            scene.start();
            scene.before = scene.device();
            fs::rename(&db, scene.state.join("moved.db")).unwrap();
            scene.ended(4);
            until("the service has begun again", || {
                (db.exists() && stop::try_count(&db)? > 20).then_some(())
            });
        }
        "Restoring a backup" => {
            scene.start();
            scene.arrange("seawall backup --db /var/lib/seawall/sensor_data.db copy.db");
        }
        "A Pi with 1-wire sensors" => {
            let device = "sys/devices/w1_bus_master1/28-000000000001";
            let place = format!("{device}/hwmon/hwmon1");
            scene.arrange(&format!(
                "mkdir -p {place} sys/class/hwmon sys/bus/w1
                 ln -s ../../../bus/w1 {device}/subsystem
                 ln -s ../.. {place}/device
                 ln -s ../../devices/w1_bus_master1/28-000000000001/hwmon/hwmon1 sys/class/hwmon/hwmon1
                 echo w1_slave_temp > {place}/name
                 echo 21500 > {place}/temp1_input"
            ));
        }
        "Rotating logs" => {}
        "Moving a database" | "Two devices from one image" | "Status" | "Copies" => scene.start(),
        section => panic!("nobody knows the situation of {section}"),
    }
    // Of Status 4 it is that of the moved one.
    let is_known = ["The file in use is damaged", "Status 4"].contains(&section);
    if db.exists() && !is_known {
        scene.before = scene.device();
    }
    Some(scene)
}

/// What has come of it.
fn outcome(section: &str, scene: &Scene) {
    let dir = &scene.reader.dir;
    match section {
        "The file was set aside" => assert_eq!(count(&dir.file("salvaged.db")), 2),
        "The file in use is damaged" => {
            let kept = sql(
                &scene.db(),
                "SELECT count(*) FROM sensor_readings WHERE sensor = 'm'",
            );
            assert!((8_000..9_000).contains(&kept.parse().unwrap()), "{kept}");
        }
        "The clock was wrong" => {
            let all = fs::read_to_string(dir.file("corrected.csv")).unwrap();
            let of_run = all.lines().filter(|line| line.contains("sim"));
            let times: Vec<i64> = of_run
                .map(|line| line.rsplit(',').next().unwrap().trim().parse().unwrap())
                .collect();
            assert!(times.len() > 40 && times.is_sorted(), "{all}");
            assert!(
                times[times.len() - 1] - times[0] < 1_800_000_000_000,
                "{all}"
            );
            let old = fs::read_to_string(dir.file("of-1970.lp")).unwrap();
            assert_eq!(old, "old v=1.0 5\n");
        }
        "Status 4" => {
            assert_eq!(scene.device(), scene.before);
            let journal = fs::read_to_string(dir.file("journal")).unwrap();
            let stopped = journal
                .lines()
                .find(|line| line.contains(" event=stopped "))
                .unwrap();
            // The last commit was not acknowledged, because the file had gone.
            let query =
                "SELECT count(*) FROM readings WHERE id < (SELECT first_id FROM runs WHERE id = 2)";
            let of_run: u64 = sql(&scene.db(), query).parse().unwrap();
            assert!(
                of_run >= fields(stopped)["committed"].parse().unwrap(),
                "{journal}"
            );
            assert!(count(&scene.state.join("since/sensor_data.db")) > 20);
        }
        "Moving a database" => {
            assert_eq!(scene.device(), scene.before);
            assert!(scene.state.join("before/sensor_data.db").exists());
        }
        "Restoring a backup" | "Two devices from one image" => {
            assert_ne!(scene.device(), scene.before);
            let before = scene.state.join("before/sensor_data.db");
            assert_eq!(sql(&before, "SELECT id FROM device"), scene.before);
        }
        "Rotating logs" => {
            let log = fs::read_to_string(dir.file("seawall.log")).unwrap();
            assert!(
                log.starts_with("ts=") && log.contains("event=stopped"),
                "{log:?}"
            );
        }
        _ => {}
    }
}

fn follow(scene: &mut Scene, block: &Block, beside: &mut Option<Running>) {
    let reader = &scene.reader;
    let text = &block.text;
    let notes: Vec<&str> = block.note.split(", ").collect();
    let status = notes
        .iter()
        .find_map(|note| note.strip_prefix("status ")?.parse().ok());
    let ended = beside.take();
    match (block.note.as_str(), block.language.as_str()) {
        ("until Ctrl-C", "sh") => {
            let recorder =
                Running::spawn(&mut reader.command(&["sh", "-c"], &format!("exec {text}")));
            let db = reader.dir.file("trial.db");
            until("a reading is committed", || {
                (db.exists() && stop::try_count(&db)? > 0).then_some(())
            });
            *beside = Some(recorder);
        }
        ("docker", "sh") if !can_run() => {}
        ("logrotate", _) if !is_there("logrotate") => skip("there is no logrotate"),
        ("logrotate", _) => {
            let mut conf = text.clone();
            for (printed, here) in &reader.instead {
                conf = conf.replace(printed, here);
            }
            fs::write(reader.dir.file("conf"), conf).unwrap();
            scene.arrange("logrotate --force --state rotated conf");
            assert!(reader.dir.file("seawall.log.1.gz").exists());
        }
        ("elsewhere", "sh") => {
            scene.arrange("rm -rf state/*");
            scene.type_in(text);
        }
        ("then a clone starts", "sh") => {
            fs::write(reader.dir.file("machine-id"), "0123").unwrap();
            scene.type_in(text);
            assert_eq!(fs::read(reader.dir.file("machine-id")).unwrap(), b"");
            assert!(!scene.db().exists());
            scene.start();
            assert_ne!(scene.device(), scene.before);
            scene.before = scene.device();
        }
        ("cron", _) => {
            let lines: Vec<&str> = text.lines().collect();
            let commands = lines.iter().map(|line| {
                let command = line.strip_prefix("0 3 * * * root ").unwrap();
                command.replace("\\%", "%") + "\n"
            });
            for command in commands {
                if command.contains("docker") {
                    if !can_run() {
                        continue;
                    }
                    scene.arrange(
                        "docker run -d --name sensors seawall --source sim >/dev/null
                         until docker exec sensors /seawall status >/dev/null; do sleep 0.1; done",
                    );
                }
                scene.arrange(&command);
            }
            let copies = match can_run() {
                true => {
                    scene.arrange("docker rm -f sensors >/dev/null");
                    "ls seawall-?.db sensors-?.db"
                }
                false => "ls seawall-?.db",
            };
            for copy in scene.type_in(copies).lines() {
                assert_sound(&reader.dir.file(copy));
            }
        }
        ("values differ", "console") => {
            let (command, expected) = text.strip_prefix("$ ").unwrap().split_once('\n').unwrap();
            let keys = |text: &str| -> Vec<String> {
                let keys = text
                    .lines()
                    .map(|line| line.split('=').next().unwrap().to_owned());
                keys.collect()
            };
            assert_eq!(keys(&scene.type_in(command)), keys(expected));
        }
        (_, "console") => {
            reader.repeat(text, notes.contains(&"numbers differ"), status.unwrap_or(0))
        }
        ("docker", "sh") => {
            scene.arrange(text);
            scene.arrange("docker stop sensors >/dev/null && docker rm sensors >/dev/null");
        }
        ("", "sh") => drop(scene.type_in(text)),
        (note, language) => panic!("a block of no known kind: {note:?} {language}"),
    }
    if let Some(recorder) = ended {
        assert_eq!(recorder.stop(libc::SIGINT).code(), 0);
    }
}

fn play(section: &[Block]) {
    let name = &section[0].section;
    println!("{name}");
    let Some(mut scene) = situation(name) else {
        return;
    };
    let mut beside = None;
    for block in section {
        follow(&mut scene, block, &mut beside);
    }
    drop(beside);
    outcome(name, &scene);
}

#[test]
fn what_the_runbook_says_to_type_does_what_it_says() {
    if let Some(missing) = ["sqlite3", "mkfs.ext4"]
        .iter()
        .find(|program| !is_there(program))
    {
        return skip(&format!("there is no {missing}"));
    }
    let mut not_run = Vec::new();
    let mut blocks = blocks(&document("docs/operating.md"));
    blocks.retain(|block| {
        let is_run = !block.note.starts_with("not run: ");
        if !is_run {
            not_run.push(block.text.clone());
        }
        is_run
    });
    let sections = blocks.chunk_by(|one, next| one.section == next.section);
    let sections: Vec<&[Block]> = sections.collect();
    // They mostly wait, each in a folder of its own: two at a time.
    thread::scope(|scope| {
        for first in 0..2 {
            let half = sections.iter().skip(first).step_by(2);
            scope.spawn(move || half.for_each(|section| play(section)));
        }
    });
    let is_listed = |(text, first): (&String, &&str)| text.starts_with(*first);
    assert_eq!(not_run.len(), NOT_RUN.len(), "{not_run:?}");
    assert!(not_run.iter().zip(&NOT_RUN).all(is_listed), "{not_run:?}");
}

/// What may happen has one form, so that it can be read in a hurry.
#[test]
fn each_section_of_what_may_happen_says_what_is_seen_what_to_type_and_what_not_to_do() {
    let page = document("docs/operating.md");
    let (happens, _) = page.split_once("\n## Status\n").unwrap();
    let sections: Vec<&str> = happens.split("\n## ").skip(1).collect();
    assert_eq!(sections.len(), 13);
    for section in sections {
        let name = section.lines().next().unwrap();
        assert_eq!(section.matches("\n**Type:**").count(), 1, "{name}");
        assert_eq!(section.matches("\n**Do not** ").count(), 1, "{name}");
        assert!(section.matches("\n**Seen:**").count() <= 1, "{name}");
    }
}

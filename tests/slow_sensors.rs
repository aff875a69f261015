//! Guards against one sensor that costs the others: a driver that sleeps in each read (1-wire: 750 ms), or that hangs.
//! Sockets, acks, `status` and the stop wait for none; a slow device costs its own readings only.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::client::connect;
use crate::support::shim::Shim;
use crate::support::*;

/// A hwmon device with one temperature.
fn device(root: &Path, name: &str, number: usize) {
    let device = root.join(format!("devices/{name}"));
    let hwmon = device.join(format!("hwmon/hwmon{number}"));
    fs::create_dir_all(&hwmon).unwrap();
    fs::create_dir_all(root.join("class/hwmon")).unwrap();
    fs::write(hwmon.join("name"), format!("{name}\n")).unwrap();
    fs::write(hwmon.join("temp1_input"), "21500\n").unwrap();
    symlink(&device, hwmon.join("device")).unwrap();
    symlink(&hwmon, root.join(format!("class/hwmon/hwmon{number}"))).unwrap();
}

fn start(db: &Path, root: &Path, socket: &Path, shim: &Shim) -> Running {
    let mut command = Command::new(BINARY);
    command.args(["--db", db.to_str().unwrap(), "--commit-interval=0"]);
    command.arg(format!(
        "--source=sysfs:root={},interval=200ms",
        root.display()
    ));
    command.arg(format!("--source=unix:{}", socket.display()));
    shim.preload(&mut command);
    let run = Running::spawn(&mut command);
    run.wait_for("ready");
    run
}

fn readings(db: &Path, chip: &str) -> u64 {
    let count = format!("SELECT count(*) FROM sensor_readings WHERE sensor LIKE '%={chip}%'");
    sql(db, &count).parse().unwrap()
}

fn acked_lines(socket: &Path) {
    let mut client = connect(socket);
    for n in 1..=20 {
        client.send("m v=1\n").until_ack(n);
    }
}

#[test]
fn a_slow_device_costs_its_own_readings_only() {
    let dir = Dir::new("sensors");
    let (db, root, socket) = (dir.file("x.db"), dir.file("sys"), dir.file("s"));
    device(&root, "quick", 0);
    for n in 1..=4 {
        device(&root, &format!("slow{n}"), n);
    }
    let shim = Shim::make("slow");
    shim.set(300);
    let run = start(&db, &root, &socket, &shim);
    acked_lines(&socket);
    let slow = |n: u64| readings(&db, &format!("slow{n}"));
    until("each slow device was read some times", || {
        (1..=4).all(|n| slow(n) >= 3).then_some(())
    });
    let (status, said, _) = seawall(&["status", "--db", db.to_str().unwrap()]);
    assert_eq!(status, 0, "{said}");
    // In one pass after another, all would have as many.
    let (quick, most) = (readings(&db, "quick"), (1..=4).map(slow).max().unwrap());
    assert!(quick >= 2 * most, "{quick} {most}");
    let ended = run.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    assert_eq!(ended.stopped()["dropped"], "0");
    assert_sound(&db);
}

#[test]
fn a_driver_that_hangs_keeps_neither_acks_nor_status_nor_the_stop() {
    let dir = Dir::new("sensor");
    let (db, root, socket) = (dir.file("x.db"), dir.file("sys"), dir.file("s"));
    device(&root, "hangs", 0);
    let shim = Shim::make("slow");
    let run = start(&db, &root, &socket, &shim);
    acked_lines(&socket);
    let (status, said, _) = seawall(&["status", "--db", db.to_str().unwrap()]);
    assert_eq!(status, 0, "{said}");
    let ended = run.stop(libc::SIGTERM);
    assert_eq!(
        (ended.code(), &*ended.stopped()["committed"]),
        (0, "20"),
        "{:#?}",
        ended.log
    );
    assert_sound(&db);
}

#[test]
fn a_driver_that_hangs_costs_its_own_readings_only_and_is_read_again_once_it_returns() {
    let dir = Dir::new("hanging");
    let (db, root, socket) = (dir.file("x.db"), dir.file("sys"), dir.file("s"));
    device(&root, "hangs", 0);
    device(&root, "quick", 1);
    let shim = Shim::make("slow");
    let run = start(&db, &root, &socket, &shim);
    let line = run.wait_for("sensor-hanging");
    assert!(fields(&line)["path"].ends_with("hwmon/hwmon0"), "{line}");
    let before = readings(&db, "quick");
    until("the other device is read", || {
        (readings(&db, "quick") >= before + 5).then_some(())
    });
    assert_eq!(readings(&db, "hangs"), 0);
    shim.set(1);
    until("the device is read again", || {
        (readings(&db, "hangs") >= 3).then_some(())
    });
    let ended = run.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    let found = ended
        .log
        .iter()
        .filter(|line| line.contains("=sensor-found "));
    assert_eq!(found.count(), 2, "{:#?}", ended.log);
    assert_sound(&db);
}

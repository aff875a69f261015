//! Guards against a filesystem on which a promise does not hold: one that the recorder was never tried on,
//! one that goes with the container, and one on the network, where SQLite's WAL mode ruins files.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::mounts::Mount;
use crate::support::{Dir, Ended, Running, assert_sound, count, seawall, skip, sql, start, until};

fn recorder(db: &Path) -> Running {
    let run = Running::start(&[
        "--db",
        db.to_str().unwrap(),
        "--source",
        "sim:rate=500",
        "--commit-interval",
        "5ms",
    ]);
    run.wait_for("ready");
    run
}

fn records(db: &Path, run: Running, more: u64) -> Running {
    let before = count(db);
    until("it records", || (count(db) >= before + more).then_some(()));
    run
}

fn beside(db: &Path) -> Vec<String> {
    let entries = fs::read_dir(db.parent().unwrap()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("x.db-")).collect()
}

/// Records, is killed, recovers, stops. Gives how the stop ended.
fn live(at: &Path) -> Ended {
    let db = at.join("folder/x.db");
    records(&db, recorder(&db), 100).kill();
    let run = records(&db, recorder(&db), 100);
    assert!(run.wait_for("recovered").contains(" reason=unclean "));
    let ended = run.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    assert!(beside(&db).is_empty(), "{:?}", beside(&db));
    assert_sound(&db);
    let total = sql(&db, "SELECT sum(committed) FROM runs");
    assert_eq!(count(&db).to_string(), total);
    ended
}

/// Is killed and loses its -wal, and the next start reports it: the filesystem keeps the mark.
fn lose_wal(at: &Path) {
    let db = at.join("folder/x.db");
    // Without a checkpoint, after which nothing would be lost with the -wal.
    let no_checkpoints = ["--checkpoint-interval", "0", "--wal-autocheckpoint", "0"];
    let fixed = ["--source", "sim:rate=500", "--commit-interval", "5ms"];
    let run = start(&db, &[fixed, no_checkpoints].concat());
    run.wait_for("ready");
    records(&db, run, 10).kill();
    for name in ["x.db-wal", "x.db-shm"] {
        fs::remove_file(db.with_file_name(name)).unwrap();
    }
    let run = recorder(&db);
    let told = run.wait_for("recovered");
    assert!(told.contains(" reason=lost "), "{told}");
    assert_eq!(run.stop(libc::SIGTERM).code(), 0);
    let (code, out, _) = seawall(&["check", "--db", db.to_str().unwrap()]);
    assert_eq!((code, out.lines().count()), (1, 2), "{out}");
}

fn assert_silent(mount: Option<Mount>) {
    let Some(mount) = mount else { return };
    let ended = live(mount.at());
    lose_wal(mount.at());
    assert!(!ended.has(" event=not-lasting "), "{:#?}", ended.log);
}

fn assert_warned(mount: Option<Mount>, what: &str) {
    let Some(mount) = mount else { return };
    let ended = live(mount.at());
    lose_wal(mount.at());
    let warning = ended.log.iter().find(|l| l.contains(" event=not-lasting "));
    let warning = warning.unwrap_or_else(|| panic!("{:#?}", ended.log));
    assert!(
        warning.contains(what) && warning.contains("mount a volume"),
        "{warning}"
    );
}

#[test]
fn on_ext4() {
    assert_silent(Mount::image("ext4", 32, &["-q"]));
}

/// As small filesystems were made for long: their files' times are in whole seconds.
#[test]
fn on_ext4_with_small_inodes() {
    assert_silent(Mount::image("ext4", 32, &["-q", "-I", "128"]));
}

#[test]
fn on_xfs() {
    assert_silent(Mount::image("xfs", 320, &["-q"]));
}

#[test]
fn on_btrfs() {
    assert_silent(Mount::image("btrfs", 160, &["-q"]));
}

#[test]
fn on_f2fs_where_the_kernel_has_it() {
    let kernels = fs::read_to_string("/proc/filesystems").unwrap();
    if kernels.lines().any(|line| line.trim() == "f2fs") {
        assert_silent(Mount::image("f2fs", 64, &["-q"]));
    } else {
        println!("skipped: this kernel has no f2fs");
    }
}

#[test]
fn on_a_fuse_mount_of_a_local_disk() {
    let Some(mount) = Mount::fuse("subtype=ntfs-3g,fsname=near", |_| {}) else {
        return;
    };
    let ended = live(mount.at());
    assert!(!ended.has(" event=not-lasting "), "{:#?}", ended.log);
}

#[test]
fn on_tmpfs_with_a_warning() {
    assert_warned(Mount::tmpfs(), "this is memory (tmpfs)");
}

/// As log2ram and the like have it; zram by the name of its disk.
#[test]
fn on_a_disk_that_is_a_file_in_memory_with_a_warning() {
    let Some(memory) = Mount::tmpfs() else { return };
    let disk = Mount::image_in(Some(memory.at()), "ext4", 32, &["-q"]);
    assert_warned(disk, "this is memory (loop");
}

#[test]
fn on_an_overlay_with_a_warning() {
    // What it is called depends on where the tests run: a container, or a machine of its own.
    let is_container = ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|mark| Path::new(mark).exists());
    if is_container {
        assert_warned(Mount::overlay(), "the container's own layer");
    } else {
        // Its upper directory is on a disk: what is written stays.
        assert_silent(Mount::overlay());
    }
}

/// Folders of the host in a virtual machine, as Docker Desktop, OrbStack, Podman machine and others mount them.
#[test]
fn a_folder_that_a_virtual_machine_shares_is_refused() {
    for kind in ["virtiofs", "grpcfuse", "osxfs", "vmhgfs-fuse"] {
        let reason = "a folder of the host that a virtual machine shares";
        assert_refused(&format!("subtype={kind},fsname=host"), reason);
    }
}

/// A FUSE mount with these options is refused, and nothing is written there.
fn assert_refused(options: &str, reason: &str) {
    let Some(mount) = Mount::fuse(options, |_| {}) else {
        return;
    };
    let db = mount.file("x.db");
    let ended = Running::start(&["--db", db.to_str().unwrap()]).wait();
    assert_eq!(ended.code(), 1, "{:#?}", ended.log);
    assert!(ended.has(reason), "{:#?}", ended.log);
    assert_eq!(fs::read_dir(mount.at()).unwrap().count(), 0);
}

/// `docker run -v $PWD/sensor.db:/app/data/sensor_data.db`
#[test]
fn a_database_that_is_mounted_without_its_folder_is_named_and_never_torn() {
    let dir = Dir::new("mounted-alone");
    let (host, folder) = (dir.file("sensor.db"), dir.file("a b"));
    fs::create_dir(&folder).unwrap();
    let db = folder.join("x.db");
    fs::write(&host, "").unwrap();
    fs::write(&db, "").unwrap();
    let bound = Command::new("mount")
        .arg("--bind")
        .args([&host, &db])
        .output();
    if !bound.is_ok_and(|output| output.status.success()) {
        return skip("this user may not mount");
    }
    let _bound = Bound(&db);
    let recorder = recorder(&db);
    assert!(
        recorder
            .log()
            .iter()
            .any(|line| line.contains("mounted without its folder"))
    );
    recorder.kill();
    // Its mark lies beside it still, and the header is damaged.
    sql(&db, "PRAGMA wal_checkpoint(TRUNCATE)");
    let file = fs::File::options().write(true).open(&host).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"garbage-garbage-", 0).unwrap();
    let before = beside(&db);
    for _ in 0..2 {
        let ended = Running::start(&["--db", db.to_str().unwrap(), "--source=stdin"]).wait();
        assert_eq!(ended.code(), 1);
        assert!(
            ended.has("cannot be renamed; stop the recorder, move it away"),
            "{:#?}",
            ended.log
        );
        assert_eq!(beside(&db), before);
    }
}

/// A bind mount, gone with the value.
struct Bound<'a>(&'a Path);

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_disk_that_is_not_mounted_is_told_or_refused() {
    let dir = Dir::new("not-mounted");
    let db = dir.file("usb/data/x.db");
    let path = db.to_str().unwrap();
    let never = ["--db", path, "--source=sim:count=1", "--create=never"];
    let ended = Running::start(&never).wait();
    assert_eq!(ended.code(), 1);
    assert!(
        ended.has("--create never: if it is on a disk of its own, is that mounted?"),
        "{:#?}",
        ended.log
    );
    assert!(!dir.file("usb").exists());
    let ended = Running::start(&never[..3]).wait();
    assert_eq!(ended.code(), 0);
    assert!(ended.has("was not there and is made"), "{:#?}", ended.log);
    // Once there is a database, both are content.
    for arguments in [&never[..3], &never] {
        let ended = Running::start(arguments).wait();
        assert_eq!(ended.code(), 0);
        assert!(!ended.has("not-lasting"), "{:#?}", ended.log);
    }
    assert_eq!(count(&db), 3);
}

#[test]
fn a_network_filesystem_is_refused_before_anything_is_written() {
    for kind in ["sshfs", "rclone", "s3fs"] {
        let reason = format!("it is on {kind}, a network filesystem");
        assert_refused(&format!("subtype={kind},fsname=me@far:/"), &reason);
    }
}

//! Guards against two devices that were set up from one card image and give the same name to different readings.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::*;

/// Records lines on a machine of this id, which has a copy of /etc; gives the log. None where this user may not mount.
fn on_machine(id: &str, db: &Path, lines: &str) -> Option<String> {
    let may_mount = Command::new("unshare").args(["--mount", "true"]).output();
    if !may_mount.is_ok_and(|output| output.status.success()) {
        skip("this user may not mount");
        return None;
    }
    let folder = db.parent().unwrap();
    fs::write(folder.join("lines"), lines).unwrap();
    let script = "rm -rf \"$1/etc\"; cp -a /etc \"$1/etc\"; rm -f \"$1/etc/machine-id\"; echo \"$4\" >\"$1/etc/machine-id\"; \
        mount --bind \"$1/etc\" /etc; exec \"$2\" record --db \"$3\" --source stdin <\"$1/lines\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-ec", script, "sh"])
        .arg(folder)
        .arg(&*BINARY)
        .arg(db)
        .arg(id)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    Some(log)
}

#[test]
fn a_database_that_was_cloned_takes_an_id_of_its_own_on_another_machine() {
    let dir = Dir::new("machines");
    let golden = dir.file("golden.db");
    let Some(log) = on_machine("aaaa0000", &golden, "m v=1 1\nm v=2 2\n") else {
        return;
    };
    assert!(!log.contains("new-device"), "{log}");
    let mut names = Vec::new();
    for (place, machine) in [("north", "bbbb1111"), ("south", "cccc2222")] {
        let db = dir.file(&format!("{place}.db"));
        fs::copy(&golden, &db).unwrap();
        let log = on_machine(machine, &db, &format!("m,at={place} v=3 3\n")).unwrap();
        assert!(log.contains("event=new-device"), "{log}");
        // Once.
        let log = on_machine(machine, &db, &format!("m,at={place} v=4 4\n")).unwrap();
        assert!(!log.contains("new-device"), "{log}");
        let (code, rows, err) = seawall(&["export", "--db", db.to_str().unwrap()]);
        assert_eq!(code, 0, "{err}");
        let rows = rows.lines().skip(1).map(|row| {
            let columns: Vec<_> = row.split(',').collect();
            (
                columns[0].to_owned(),
                columns[1].to_owned(),
                row.contains("at="),
            )
        });
        names.extend(rows);
        assert_sound(&db);
    }
    // What was recorded before has the same name on both; what came after has not.
    assert_eq!(names[..2], names[4..6]);
    let new: Vec<_> = names.iter().filter(|(.., is_new)| *is_new).collect();
    assert_eq!(new.len(), 4);
    assert_eq!(new[0].0, new[1].0);
    assert_eq!(new[2].0, new[3].0);
    assert_ne!(new[0].0, new[2].0);
    assert!(new.iter().all(|(device, ..)| *device != names[0].0));
}

/// A backup is restored and recorded onto, and the file of which it is a copy has gone on since.
#[test]
fn a_backup_that_is_recorded_onto_takes_an_id_of_its_own() {
    let dir = Dir::new("machines");
    let db = dir.file("x.db");
    record_lines(&db, "m v=1 1\n");
    if sql(&db, "SELECT machine FROM device").is_empty() {
        return skip("this machine has no name");
    }
    let path = db.to_str().unwrap();
    for dest in ["copy.db", "-"] {
        let copy = dir.file("copy.db");
        let to = if dest == "-" {
            dest
        } else {
            copy.to_str().unwrap()
        };
        let output = Command::new(&*BINARY)
            .args(["backup", to, "--min-free", "0", "--db", path])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        if dest == "-" {
            fs::write(&copy, output.stdout).unwrap();
        }
        assert_sound(&copy);
        let device = |db: &Path| sql(db, "SELECT id FROM device");
        assert_eq!(device(&copy), device(&db));
        for is_first in [true, false] {
            let ended = start(&copy, &["--source=sim:count=1"]).wait();
            assert_eq!(
                ended.has(" event=new-device "),
                is_first,
                "{:#?}",
                ended.log
            );
        }
        assert_ne!(device(&copy), device(&db));
        let ended = start(&db, &["--source=sim:count=1"]).wait();
        assert!(!ended.has(" event=new-device "), "{:#?}", ended.log);
        // The reading of before has the same name in both; none that came since has.
        let names = |db: &Path| sql(db, "SELECT group_concat(device || ' ' || id) FROM runs");
        let (theirs, ours) = (names(&copy), names(&db));
        let theirs: Vec<_> = theirs.split(',').collect();
        let runs = theirs.len() - 2;
        assert!(theirs[..runs].iter().all(|run| ours.contains(run)));
        assert!(theirs[runs..].iter().all(|run| !ours.contains(run)));
        assert_sound(&copy);
    }
}

//! A disk that can be filled up: a small filesystem on a loop device.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use super::Dir;

/// A filesystem of a few megabytes in a file, unmounted at the end.
pub struct SmallDisk {
    dir: Dir,
    pub at: PathBuf,
}

impl SmallDisk {
    /// None, with a word of why, where this user may not mount.
    pub fn new(megabytes: u64, block_bytes: &str) -> Option<Self> {
        let dir = Dir::new("small-disk");
        let image = dir.file("image");
        let at = dir.file("mnt");
        File::create(&image)
            .unwrap()
            .set_len(megabytes << 20)
            .unwrap();
        fs::create_dir(&at).unwrap();
        let run = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).output();
            output.map_err(|e| format!("{program}: {e}")).and_then(|o| {
                let said = String::from_utf8_lossy(&o.stderr).into_owned();
                o.status
                    .success()
                    .then_some(())
                    .ok_or(format!("{program}: {said}"))
            })
        };
        let (image, mount) = (image.to_str().unwrap(), at.to_str().unwrap());
        let made = run("mkfs.ext4", &["-q", "-m", "0", "-b", block_bytes, image])
            .and_then(|()| run("mount", &["-o", "loop", image, mount]));
        match made {
            Ok(()) => Some(SmallDisk { dir, at }),
            Err(why) if std::env::var_os("CI").is_some() => panic!("no small disk: {why}"),
            Err(why) => {
                println!("skipped: no small disk: {why}");
                None
            }
        }
    }

    /// Gives the file that takes all the room.
    pub fn fill(&self) -> PathBuf {
        let path = self.at.join("filler");
        let mut file = File::create(&path).unwrap();
        for size in [1 << 16, 4096, 1] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
        let _ = file.sync_all();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.at).status();
        assert!(unmounted.is_ok_and(|s| s.success()) || std::thread::panicking());
        let _ = self.dir.path();
    }
}

//! The filesystem that the torture fills: one of its own in a file, where this user may mount one.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Dir;

const MEGABYTES: u64 = 1024;

pub struct Disk {
    dir: Dir,
    /// None: the disk of the checkout, which nobody may fill.
    mounted: Option<PathBuf>,
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    output
        .status
        .success()
        .then_some(())
        .ok_or(format!("{program}: {said}"))
}

impl Disk {
    /// Says why where it cannot be a filesystem of its own.
    pub fn new() -> Self {
        let dir = Dir::new("torture");
        let (image, at) = (dir.file("image"), dir.file("mnt"));
        File::create(&image)
            .unwrap()
            .set_len(MEGABYTES << 20)
            .unwrap();
        fs::create_dir(&at).unwrap();
        let made = run("mkfs.ext4", &["-q", "-m", "0", image.to_str().unwrap()]).and_then(|()| {
            run(
                "mount",
                &["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()],
            )
        });
        let mounted = match made {
            Ok(()) => Some(at),
            Err(why) if std::env::var_os("CI").is_some() => panic!("no disk to fill: {why}"),
            Err(why) => {
                println!("no disk to fill, --min-free takes its place: {why}");
                None
            }
        };
        Disk { dir, mounted }
    }

    pub fn path(&self) -> &Path {
        self.mounted.as_deref().unwrap_or(self.dir.path())
    }

    pub fn can_be_filled(&self) -> bool {
        self.mounted.is_some()
    }

    /// Takes all the room that there is; it is given back when the answer is dropped.
    pub fn fill(&self) -> Filler {
        assert!(self.can_be_filled());
        let path = self.path().join("filler");
        let file = File::create(&path).unwrap();
        let (mut held, mut piece) = (0, MEGABYTES << 20);
        while piece >= 512 {
            // SAFETY: no pointers, and the descriptor is open.
            let result =
                unsafe { libc::fallocate(file.as_raw_fd(), 0, held, piece as libc::off_t) };
            if result == 0 {
                held += piece as libc::off_t;
            } else {
                piece /= 2;
            }
        }
        Filler(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(at) = &self.mounted {
            let unmounted = run("umount", &[at.to_str().unwrap()]);
            assert!(
                unmounted.is_ok() || std::thread::panicking(),
                "{unmounted:?}"
            );
        }
    }
}

pub struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

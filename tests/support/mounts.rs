//! Filesystems of the tests' own, mounted for as long as a test has them. Where this user may not mount, the
//! test is skipped with a word of why; never on CI.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Dir, until};

pub struct Mount {
    dir: Dir,
    at: PathBuf,
}

/// Runs a program to its end; what it said if it failed.
fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{program}: {said}"))
}

impl Mount {
    fn new(what: &str, mount: impl FnOnce(&Dir, &Path) -> Result<(), String>) -> Option<Self> {
        let dir = Dir::new("mount");
        let at = dir.file("mnt");
        fs::create_dir(&at).unwrap();
        match mount(&dir, &at) {
            Ok(()) => Some(Mount { dir, at }),
            Err(why) if std::env::var_os("CI").is_some() => panic!("no {what}: {why}"),
            Err(why) => {
                println!("skipped: no {what}: {why}");
                None
            }
        }
    }

    /// A filesystem in a file.
    pub fn image(kind: &str, megabytes: u64, options: &[&str]) -> Option<Self> {
        Self::image_in(None, kind, megabytes, options)
    }

    /// A filesystem in a file in a folder, such as another mount: a disk that behaves as that one does.
    pub fn image_in(
        folder: Option<&Path>,
        kind: &str,
        megabytes: u64,
        options: &[&str],
    ) -> Option<Self> {
        Self::new(kind, |dir, at| {
            let image = folder.unwrap_or(dir.path()).join("image");
            let file = File::create(&image).unwrap();
            file.set_len(megabytes << 20).unwrap();
            run(Command::new(format!("mkfs.{kind}"))
                .args(options)
                .arg(&image))?;
            run(Command::new("mount")
                .args(["-t", kind, "-o", "loop"])
                .args([&image, at]))
        })
    }

    /// One that can be filled up.
    pub fn small_disk(megabytes: u64, block_bytes: &str) -> Option<Self> {
        let options = ["-q", "-m", "0", "-b", block_bytes];
        Self::image("ext4", megabytes, &options)
    }

    pub fn tmpfs() -> Option<Self> {
        Self::new("tmpfs", |_, at| {
            run(Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
                .arg(at))
        })
    }

    pub fn overlay() -> Option<Self> {
        Self::new("overlay", |dir, at| {
            let layers = ["lower", "upper", "work"].map(|name| {
                let layer = dir.file(name);
                fs::create_dir(&layer).unwrap();
                layer.display().to_string()
            });
            let [lower, upper, work] = layers;
            let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
            run(Command::new("mount")
                .args(["-t", "overlay", "-o", &options, "overlay"])
                .arg(at))
        })
    }

    /// A folder again, through a FUSE process. `options`: as of a mount. `prepare` may change how it runs.
    pub fn fuse(options: &str, prepare: impl FnOnce(&mut Command)) -> Option<Self> {
        Self::new("FUSE", |dir, at| {
            let folder = dir.file("folder");
            fs::create_dir(&folder).unwrap();
            let mut command = Command::new("bindfs");
            command.args(["-o", options]).args([&folder, at]);
            prepare(&mut command);
            run(&mut command)
        })
    }

    /// Gives the file that takes all the room.
    pub fn fill(&self) -> PathBuf {
        let path = self.file("filler");
        let mut file = File::create(&path).unwrap();
        for size in [1 << 16, 4096, 1] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
        let _ = file.sync_all();
        path
    }

    pub fn at(&self) -> &Path {
        &self.at
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.at.join(name)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What holds it may still run.
            let _ = Command::new("umount").arg("-l").arg(&self.at).status();
            return;
        }
        // A process that has just ended may still be letting go.
        until(
            &format!("{} is unmounted", self.dir.path().display()),
            || run(Command::new("umount").arg(&self.at)).ok(),
        );
    }
}

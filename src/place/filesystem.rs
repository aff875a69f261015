//! Verdict on the filesystem of a place: good, gone with the power or the container, or one on which WAL mode cannot
//! work. By the type that mountinfo has, which says what is behind FUSE and 9p too, and by the number of statfs(2)
//! where the mount is not listed, as in a subvolume of btrfs.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::paths::folder_of;
use crate::sys;

/// Verdict on a filesystem.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// Ends a refusal that begins with the path.
    Refused(String),
    Warning(String),
}

const OWN_LAYER: &str = "this is the container's own layer, gone when the container is removed; mount a volume: docker run -v seawall-data:/app/data";
const FAT: &str =
    "this is FAT, where a file ends at 4 GiB: give --max-size 3GiB, or record to ext4";

/// With those of disks that several machines write to.
#[rustfmt::skip]
const NETWORK: [&str; 19] = [
    "nfs", "cifs", "smb", "9p", "ceph", "afs", "coda", "ncp", "sshfs", "s3fs", "rclone", "glusterfs", "gcsfuse", "davfs",
    "curlftpfs", "juicefs", "lustre", "ocfs2", "gfs2",
];
/// Folders of a host in its virtual machine: Docker Desktop, OrbStack, Podman machine, Lima, VirtualBox, Parallels,
/// VMware.
#[rustfmt::skip]
const SHARED: [&str; 7] = ["virtiofs", "grpcfuse", "osxfs", "fakeowner", "vboxsf", "prl_fs", "vmhgfs"];

fn network(name: &str) -> Verdict {
    Verdict::Refused(format!(
        "it is on {name}, a network filesystem, where SQLite's WAL mode cannot work (it needs memory that all processes on the file share); give a --db on a local disk"
    ))
}

fn memory(what: &str) -> Verdict {
    Verdict::Warning(format!(
        "this is memory ({what}), gone with the power; give a --db on a disk, or mount a volume: docker run -v seawall-data:/app/data"
    ))
}

/// A disk that is memory: zram, and a file in memory that is mounted, as log2ram and the like make them.
fn judge_disk(device: &str) -> Verdict {
    let block = fs::canonicalize(format!("/sys/dev/block/{device}")).unwrap_or_default();
    let name = block.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("zram") || name.starts_with("ram") {
        return memory(&name);
    }
    let file = fs::read_to_string(block.join("loop/backing_file")).unwrap_or_default();
    let below = sys::filesystem(&folder_of(Path::new(file.trim_end())));
    match below.map(|below| judge_magic(below.magic)) {
        Ok(Verdict::Warning(_)) if !file.is_empty() => memory(&name),
        _ => Verdict::Good,
    }
}

/// By the filesystem's type as the kernel mounts it. `None`: a disk, or one that is not known here.
fn judge_type(name: &str) -> Option<Verdict> {
    let is_of = |known: &&&str| name.contains(**known);
    if let Some(known) = NETWORK.iter().find(is_of) {
        return Some(network(known));
    }
    if let Some(known) = SHARED.iter().find(is_of) {
        return Some(Verdict::Refused(format!(
            "it is on {known}, a folder of the host that a virtual machine shares, where SQLite's WAL mode ruins files; use a volume: docker run -v seawall-data:/app/data"
        )));
    }
    match name {
        "jffs2" => Some(Verdict::Refused(
            "it is on jffs2, which cannot share memory between processes, as SQLite's WAL mode needs; give a --db on ext4, f2fs or ubifs".into(),
        )),
        "fuse.fuse-overlayfs" => Some(Verdict::Warning(OWN_LAYER.into())),
        "tmpfs" | "ramfs" => Some(memory("tmpfs")),
        "vfat" | "msdos" => Some(Verdict::Warning(FAT.into())),
        _ => None,
    }
}

/// By the numbers of statfs(2).
fn judge_magic(magic: u64) -> Verdict {
    match magic {
        0x6969 => network("NFS"),
        0x517b | 0xfe53_4d42 => network("SMB"),
        0xff53_4d42 => network("CIFS"),
        0x0102_1997 => network("9p"),
        0x00c3_6400 => network("Ceph"),
        0x0102_1994 | 0x8584_58f6 => memory("tmpfs"),
        _ => Verdict::Good,
    }
}

/// A line of /proc/self/mountinfo.
struct Mount<'a> {
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

fn mounts(mountinfo: &str) -> impl Iterator<Item = (&str, Mount<'_>)> {
    mountinfo.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let (device, point) = (mount.next()?, mount.nth(1)?);
        let mut filesystem = filesystem.split(' ');
        let (kind, options) = (filesystem.next()?, filesystem.nth(1)?);
        let mount = Mount {
            point,
            kind,
            options,
        };
        Some((device, mount))
    })
}

/// An overlay is a container's own layer, or what OpenWrt and overlayroot make of a disk.
fn judge_overlay(options: &str, is_container: bool) -> Verdict {
    if is_container {
        return Verdict::Warning(OWN_LAYER.into());
    }
    let upper = options
        .split(',')
        .find_map(|option| option.strip_prefix("upperdir="));
    let upper = upper.unwrap_or("its upper directory");
    match sys::filesystem(Path::new(upper)).map(|upper| judge_magic(upper.magic)) {
        Ok(Verdict::Good) => Verdict::Good,
        Ok(_) => Verdict::Warning(format!(
            "this is an overlay whose changes are in memory ({upper}), gone at the next boot; give a --db on a disk that is mounted by itself"
        )),
        Err(_) => Verdict::Warning(format!(
            "this is an overlay: what is written goes to {upper}, and lasts only if that is on a disk"
        )),
    }
}

pub fn is_container() -> bool {
    let marks = ["/.dockerenv", "/run/.containerenv"];
    marks.iter().any(|mark| Path::new(mark).exists()) || std::env::var_os("container").is_some()
}

/// The verdict on the filesystem of a folder.
pub fn verdict(folder: &Path) -> io::Result<Verdict> {
    let magic = sys::filesystem(folder)?.magic;
    let (major, minor) = sys::device_numbers(fs::metadata(folder)?.dev());
    let device = format!("{major}:{minor}");
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = mounts(&text).find(|(of, _)| *of == device);
    Ok(match mount.map(|(_, mount)| mount) {
        Some(mount) if mount.kind == "overlay" => judge_overlay(mount.options, is_container()),
        Some(mount) => judge_type(mount.kind).unwrap_or_else(|| judge_magic(magic)),
        None => judge_magic(magic),
    })
    .map(|verdict| match verdict {
        Verdict::Good => judge_disk(&device),
        other => other,
    })
}

/// Whether a file is mounted by itself, and not with its folder.
pub fn is_mounted_alone(file: &Path) -> bool {
    let Ok(path) = fs::canonicalize(file) else {
        return false;
    };
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // Spaces and the like are written as \040.
    let escaped: String = path
        .to_string_lossy()
        .chars()
        .map(|c| match c {
            ' ' | '\t' | '\n' | '\\' => format!("\\{:03o}", c as u32),
            c => c.to_string(),
        })
        .collect();
    mounts(&text).any(|(_, mount)| mount.point == escaped)
}

/// Free bytes on the filesystem of a database.
pub fn free_bytes(db: &Path) -> Option<u64> {
    let filesystem = sys::filesystem(&folder_of(db)).ok()?;
    Some(filesystem.free_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filesystems_are_told_by_their_number_where_no_mount_is_listed() {
        assert_eq!(judge_magic(0x6969), network("NFS"));
        assert_eq!(judge_magic(0xff53_4d42), network("CIFS"));
        assert_eq!(judge_magic(0xef53), Verdict::Good);
        assert!(matches!(judge_magic(0x0102_1994), Verdict::Warning(_)));
    }

    #[test]
    fn what_is_behind_fuse_and_9p_is_told_by_the_mount() {
        let mountinfo = "\
36 35 254:1 / / rw,noatime - ext4 /dev/vda rw
81 36 0:53 / /mnt/far rw,nosuid - fuse.sshfs me@host:/ rw,user_id=0
82 36 0:54 / /app rw master:3 - fuse.fuse-overlayfs fuse-overlayfs rw
83 36 0:55 / /mnt/a\\040b rw - fuse.ntfs-3g /dev/sdb1 rw
84 36 0:56 / /lima rw - 9p mount0 rw,trans=virtio
85 36 0:57 / /mac rw - virtiofs mac rw
86 36 8:1 / /usb rw - vfat /dev/sda1 rw
";
        let judged = |wanted: &str| {
            let mut all = mounts(mountinfo);
            let (_, mount) = all.find(|(device, _)| *device == wanted).unwrap();
            judge_type(mount.kind)
        };
        assert_eq!(judged("0:53"), Some(network("sshfs")));
        assert_eq!(judged("0:54"), Some(Verdict::Warning(OWN_LAYER.into())));
        assert_eq!(judged("0:55"), None);
        assert_eq!(judged("0:56"), Some(network("9p")));
        assert!(matches!(judged("0:57"), Some(Verdict::Refused(why)) if why.contains("virtiofs")));
        assert_eq!(judged("8:1"), Some(Verdict::Warning(FAT.into())));
        assert_eq!(judged("254:1"), None);
        let points: Vec<_> = mounts(mountinfo).map(|(_, mount)| mount.point).collect();
        assert_eq!(points[3], "/mnt/a\\040b");
    }

    #[test]
    fn an_overlay_is_named_for_what_it_is() {
        let options = "rw,lowerdir=/lower,upperdir=/no/such/folder,workdir=/work";
        assert_eq!(
            judge_overlay(options, true),
            Verdict::Warning(OWN_LAYER.into())
        );
        let told = judge_overlay(options, false);
        assert!(matches!(told, Verdict::Warning(why) if why.contains("/no/such/folder")));
        assert_eq!(
            judge_overlay("rw,upperdir=/", false),
            judge_magic(sys::filesystem(Path::new("/")).unwrap().magic)
        );
    }
}

//! Verdict on the filesystem of a place: good, gone with the power or the container, or on
//! the network, where WAL mode cannot work.

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
    Network(&'static str),
    Fleeting(&'static str),
}

const OWN_LAYER: Verdict = Verdict::Fleeting(
    "this is the container's own layer, gone when the container is removed; mount a volume: docker run -v seawall-data:/app/data",
);

/// FUSE, of which statfs(2) does not say what is behind it.
const FUSE_MAGIC: u64 = 0x6573_5546;

/// By the filesystem's type as the kernel mounts it.
fn judge_fuse(name: &str) -> Verdict {
    const NETWORK: [&str; 10] = [
        "sshfs",
        "s3fs",
        "rclone",
        "glusterfs",
        "ceph",
        "gcsfuse",
        "davfs",
        "curlftpfs",
        "smbnetfs",
        "juicefs",
    ];
    let name = name.strip_prefix("fuse.").unwrap_or(name);
    if name == "fuse-overlayfs" {
        return OWN_LAYER;
    }
    let known = NETWORK.into_iter().find(|known| name.contains(known));
    known.map_or(Verdict::Good, Verdict::Network)
}

/// The type of the filesystem on a device, from the text of /proc/self/mountinfo.
fn mounted_type(mountinfo: &str, (major, minor): (u32, u32)) -> Option<&str> {
    let device = format!("{major}:{minor}");
    let mut lines = mountinfo.lines();
    lines.find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        (mount.split(' ').nth(2)? == device).then(|| filesystem.split(' ').next())?
    })
}

/// By the numbers of statfs(2).
fn judge(magic: u64) -> Verdict {
    match magic {
        0x6969 => Verdict::Network("NFS"),
        0x517b => Verdict::Network("SMB"),
        0xff53_4d42 => Verdict::Network("CIFS"),
        0xfe53_4d42 => Verdict::Network("SMB2"),
        0x0102_1997 => Verdict::Network("9p"),
        0x00c3_6400 => Verdict::Network("Ceph"),
        0x5346_414f => Verdict::Network("AFS"),
        0x7375_7245 => Verdict::Network("Coda"),
        0x564c => Verdict::Network("NCP"),
        0x794c_7630 => OWN_LAYER,
        0x0102_1994 | 0x8584_58f6 => Verdict::Fleeting(
            "this is memory (tmpfs), gone with the power; give a --db on a disk, or mount a volume: docker run -v seawall-data:/app/data",
        ),
        _ => Verdict::Good,
    }
}

/// The verdict on the filesystem of a folder.
pub fn verdict(folder: &Path) -> io::Result<Verdict> {
    let filesystem = sys::filesystem(folder)?;
    if filesystem.magic != FUSE_MAGIC {
        return Ok(judge(filesystem.magic));
    }
    let device = fs::metadata(folder)?.dev();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    Ok(mounted_type(&mounts, sys::device_numbers(device)).map_or(Verdict::Good, judge_fuse))
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
    fn network_filesystems_are_told_by_their_number() {
        assert_eq!(judge(0x6969), Verdict::Network("NFS"));
        assert_eq!(judge(0xff53_4d42), Verdict::Network("CIFS"));
        assert_eq!(judge(0xef53), Verdict::Good);
        assert!(matches!(judge(0x794c_7630), Verdict::Fleeting(_)));
    }

    #[test]
    fn what_is_behind_fuse_is_told_by_the_mount() {
        let mountinfo = "\
36 35 254:1 / / rw,noatime - ext4 /dev/vda rw
81 36 0:53 / /mnt/far rw,nosuid - fuse.sshfs me@host:/ rw,user_id=0
82 36 0:54 / /app rw master:3 - fuse.fuse-overlayfs fuse-overlayfs rw
83 36 0:55 / /mnt/near rw - fuse.ntfs-3g /dev/sdb1 rw
";
        let judged = |minor| judge_fuse(mounted_type(mountinfo, (0, minor)).unwrap());
        assert_eq!(judged(53), Verdict::Network("sshfs"));
        assert_eq!(judged(54), OWN_LAYER);
        assert_eq!(judged(55), Verdict::Good);
        assert_eq!(mounted_type(mountinfo, (254, 1)), Some("ext4"));
        assert_eq!(mounted_type(mountinfo, (9, 9)), None);
    }
}

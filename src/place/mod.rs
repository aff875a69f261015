//! The place where the database is to be: its folder, its filesystem, and the lock that keeps a second
//! recorder out. Looked at before SQLite writes anything.

pub mod evidence;
pub mod set_aside;
pub mod wal;

use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sys;
use set_aside::OnDamage;

/// A place that the recorder may have.
#[derive(Debug)]
pub struct Place {
    /// Where the file really is: SQLite puts its -wal beside what a link points to.
    pub path: PathBuf,
    pub lock: Lock,
    pub warning: Option<&'static str>,
}

/// A command that asks whether somebody records has the lock for that moment.
const LOCK_TRIES: u32 = 5;
const LOCK_AGAIN: Duration = Duration::from_millis(20);

/// The lock that keeps a second recorder out, held until the process ends, whichever way it does.
///
/// Never closed while SQLite has the file open: closing any descriptor of a file drops the process's POSIX
/// locks on it, and SQLite's are of that kind.
#[derive(Debug, Default)]
pub struct Lock {
    _file: Option<ManuallyDrop<File>>,
}

/// What a filesystem means for a recording.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
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

/// Makes the folders that are missing, refuses a place where a recording would be lost or in the way of
/// another, and takes the lock. The message of a refusal says all that the user needs.
pub fn prepare(given: &Path, on_damage: OnDamage) -> Result<Place, String> {
    let real = follow_links(given);
    prepare_real(&real, on_damage).map_err(|message| {
        if real == given {
            message
        } else {
            format!("{message} (given as {})", given.display())
        }
    })
}

fn prepare_real(db: &Path, on_damage: OnDamage) -> Result<Place, String> {
    let folder = folder_of(db);
    make_folders(&folder).map_err(|e| refused("make the folder", &folder, &e))?;
    let filesystem = sys::filesystem(&folder).map_err(|e| refused("look at", &folder, &e))?;
    let verdict = if filesystem.magic == FUSE_MAGIC {
        let device = fs::metadata(&folder)
            .map_err(|e| refused("look at", &folder, &e))?
            .dev();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        mounted_type(&mounts, sys::device_numbers(device)).map_or(Verdict::Good, judge_fuse)
    } else {
        judge(filesystem.magic)
    };
    let warning = match verdict {
        Verdict::Good => None,
        Verdict::Fleeting(warning) => Some(warning),
        Verdict::Network(name) => {
            return Err(format!(
                "cannot record to {}: it is on {name}, a network filesystem, where SQLite's WAL mode cannot work (it needs memory that all processes on the file share); give a --db on a local disk",
                db.display()
            ));
        }
    };
    // SQLite makes its -wal and -shm beside the file.
    sys::may_write(&folder).map_err(|e| refused("write in", &folder, &e))?;
    save_orphan(db, on_damage)?;
    Ok(Place {
        path: db.to_owned(),
        lock: lock(db)?,
        warning,
    })
}

/// The files that a recording goes into, by device and inode: `rm` or `mv` on a live database leaves SQLite
/// writing on into nothing, and nothing but a look at the folder tells.
#[derive(Debug)]
pub struct Identity {
    files: Vec<(PathBuf, (u64, u64))>,
}

impl Identity {
    /// Of the database and its -wal, as they are now.
    pub fn of(db: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        for path in [db.to_owned(), wal_of(db)] {
            let id = inode(&path)?;
            files.push((path, id));
        }
        Ok(Identity { files })
    }

    /// The file that is no longer at its place, if any.
    pub fn missing(&self) -> Option<&Path> {
        let gone = |(path, id): &&(PathBuf, (u64, u64))| inode(path).ok() != Some(*id);
        self.files.iter().find(gone).map(|(path, _)| path.as_path())
    }
}

/// Device and inode.
/// Whether a recorder has the database. Only while this process has it open nowhere else: closing any
/// descriptor of a file drops the process's POSIX locks on it.
pub fn is_recorded(db: &Path) -> bool {
    // To open a pipe would wait for its other end.
    fs::metadata(db).is_ok_and(|file| file.is_file())
        && File::open(db).is_ok_and(|file| sys::try_lock(&file).is_ok_and(|is_free| !is_free))
}

pub fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|m| (m.dev(), m.ino()))
}

/// On the filesystem of a database.
pub fn free_bytes(db: &Path) -> Option<u64> {
    let filesystem = sys::filesystem(&folder_of(db)).ok()?;
    Some(filesystem.free_bytes)
}

pub fn wal_of(db: &Path) -> PathBuf {
    with_end(db, "-wal")
}

pub fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

pub fn folder_of(db: &Path) -> PathBuf {
    match db.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A -wal without its database: SQLite would delete it, with all that is in it, once there is an empty file
/// of that name.
fn save_orphan(db: &Path, on_damage: OnDamage) -> Result<(), String> {
    let wal = wal_of(db);
    let is_orphan = !db.exists() && fs::metadata(&wal).is_ok_and(|m| m.len() > 0);
    match on_damage {
        _ if !is_orphan => Ok(()),
        OnDamage::Refuse => Err(format!(
            "cannot record to {}: there is a -wal beside it with readings in it, but no database; bring both back together, or take the -wal away",
            db.display()
        )),
        OnDamage::SetAside => set_aside::set_aside(db, sys::clock_ns(sys::Clock::Real))
            .map(drop)
            .map_err(|e| refused("set aside", &wal, &e)),
    }
}

/// The path that links lead to, whether there is a file yet or not.
pub fn follow_links(db: &Path) -> PathBuf {
    const LINKS_MAX: usize = 40;
    let mut path = db.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(target) => path = folder_of(&path).join(target),
            Err(_) => break,
        }
    }
    path
}

/// Makes a folder and those above it, each on the disk before the next.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder_of(folder);
    if !folder.as_os_str().is_empty() {
        make_folders(&above)?;
    }
    match fs::create_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made.and_then(|()| File::open(&above)?.sync_all()),
    }
}

/// Takes the lock of the file at `db`, which is made if it is not there.
pub fn lock(db: &Path) -> Result<Lock, String> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(db)
        .map_err(|e| refused("open", db, &e))?;
    let metadata = file.metadata().map_err(|e| refused("look at", db, &e))?;
    if !metadata.is_file() {
        return Err(format!(
            "cannot record to {}: it is not a file",
            db.display()
        ));
    }
    let mut locked = sys::try_lock(&file);
    for _ in 0..LOCK_TRIES {
        if !locked.as_ref().is_ok_and(|locked| !locked) {
            break;
        }
        std::thread::sleep(LOCK_AGAIN);
        locked = sys::try_lock(&file);
    }
    match locked {
        Ok(true) => Ok(Lock {
            _file: Some(ManuallyDrop::new(file)),
        }),
        Ok(false) => {
            let holder = fs::read_to_string("/proc/locks")
                .ok()
                .and_then(|locks| holder(&locks, metadata.ino()));
            Err(match holder {
                Some(pid) => format!(
                    "cannot record to {}: process {pid} is recording to it",
                    db.display()
                ),
                None => format!(
                    "cannot record to {}: a recorder in another container is recording to it",
                    db.display()
                ),
            })
        }
        Err(e) => Err(refused("lock", db, &e)),
    }
}

/// The process that holds the whole-file lock of an inode, from the text of /proc/locks. Processes of
/// other containers are not listed there.
fn holder(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        if words.next()? != "FLOCK" {
            return None;
        }
        let pid = words.nth(2)?.parse().ok()?;
        let file = words.next()?.rsplit(':').next()?;
        (file.parse() == Ok(inode)).then_some(pid)
    })
}

fn refused(verb: &str, path: &Path, error: &io::Error) -> String {
    let (uid, gid) = sys::user_and_group();
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; let this user write there (chown), or run as the user who may"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; mount a volume that may be written",
        _ => "",
    };
    format!(
        "cannot {verb} {}: {error} (uid {uid}, gid {gid}){advice}",
        std::path::absolute(path)
            .as_deref()
            .unwrap_or(path)
            .display()
    )
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

    #[test]
    fn the_holder_of_a_lock_is_found_among_others() {
        let locks = "\
1: POSIX  ADVISORY  WRITE 301 fe:01:77 128 128
2: FLOCK  ADVISORY  WRITE 302 fe:01:7 0 EOF
3: -> FLOCK  ADVISORY  WRITE 400 fe:01:77 0 EOF
4: FLOCK  ADVISORY  WRITE 303 fe:01:77 0 EOF
bad line
";
        assert_eq!(holder(locks, 77), Some(303));
        assert_eq!(holder(locks, 78), None);
    }
}

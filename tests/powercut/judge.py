"""Judges a disk after a cut: mounts a copy, which replays the journal of its filesystem, and asks the program and its data."""

import ctypes
import fcntl
import os
import subprocess
from dataclasses import dataclass, field

from guest import run

FLUSH_BUFFERS = 0x1261  # BLKFLSBUF of linux/fs.h
LIBC = ctypes.CDLL(None, use_errno=True)
# What a filesystem of the guest needs here beyond its name: two of one btrfs are never mounted at once.
MOUNT_OPTIONS = {"xfs": b"nouuid"}


@dataclass
class Verdict:
    lost: int = 0
    complaints: list = field(default_factory=list)  # the data is damaged, or is not what was sent
    starts: bool = True                             # again, by itself
    has_filesystem: bool = True

    def is_good(self):
        return not self.lost and not self.complaints and self.starts


class Bench:
    """A file that is a loop device, and the folder where it is mounted."""

    def __init__(self, home, size):
        self.file = home / "trial"
        self.at = home / "mounted"
        self.at.mkdir(exist_ok=True)
        self.fd = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.ftruncate(self.fd, size)
        self.loop = run("losetup", "--find", "--show", self.file).decode().strip()

    def mount(self, filesystem):
        # Whoever looks through all block devices holds this one open, and what the kernel has cached of the state before outlives it.
        device = os.open(self.loop, os.O_RDONLY)
        fcntl.ioctl(device, FLUSH_BUFFERS)
        os.close(device)
        options = MOUNT_OPTIONS.get(filesystem, b"")
        if LIBC.mount(self.loop.encode(), bytes(self.at), filesystem.encode(), 0, options):
            raise OSError(ctypes.get_errno(), f"the {filesystem} of the guest cannot be mounted")

    def unmount(self):
        if LIBC.umount2(bytes(self.at), 0):
            raise OSError(ctypes.get_errno(), "cannot unmount")

    def close(self):
        subprocess.run(["umount", self.at], stderr=subprocess.DEVNULL)
        subprocess.run(["losetup", "-d", self.loop])
        os.close(self.fd)


def compare(verdict, numbers, lives):
    """Compares the numbers that were found, in their order, with what each life sent and got acknowledged.

    Of a life, what is there has to be all from its first number up to one that is not below what was acknowledged.
    """
    at = 0
    for first, acked, sent in lives:
        have = first
        while at < len(numbers) and numbers[at] == have < sent:
            at, have = at + 1, have + 1
        verdict.lost += max(0, acked - have)
    if at < len(numbers):
        verdict.complaints.append(f"number {numbers[at]}, at {at} of {len(numbers)}, does not go on with what {lives} sent")

"""Judges a disk after a cut: mounts a copy, which replays the journal of its filesystem, and asks program and data."""

import ctypes
import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path

LOOP_SET_FD, LOOP_CLR_FD, LOOP_CTL_GET_FREE = 0x4C00, 0x4C01, 0x4C82  # linux/loop.h
MS_BIND = 4096
LIBC = ctypes.CDLL(None, use_errno=True)
# What a filesystem of the guest needs here beyond its name: two of one btrfs are never mounted at once.
MOUNT_OPTIONS = {"xfs": b"nouuid"}


def mount(what, at, filesystem="", options=b"", is_bind=False):
    flags = MS_BIND if is_bind else 0
    if LIBC.mount(bytes(Path(what)), bytes(Path(at)), filesystem.encode(), flags, options):
        raise OSError(ctypes.get_errno(), f"{what} cannot be mounted")


def unmount(at):
    if LIBC.umount2(bytes(Path(at)), 0):
        raise OSError(ctypes.get_errno(), f"{at} cannot be unmounted")


@dataclass
class Verdict:
    lost: int = 0
    complaints: list = field(default_factory=list)  # the data is damaged, or is not what was sent
    starts: bool = True                             # again, by itself
    has_filesystem: bool = True

    def is_good(self):
        return not self.lost and not self.complaints and self.starts


class Bench:
    """A file with the state of a disk, which becomes a loop device while it is mounted.

    Both are new for each state: whoever looks through all block devices holds a device open, and then what the kernel
    has cached of one state is still there in the next, and reads as a loss.
    """

    def __init__(self, home, size):
        self.file, self.at, self.size = home / "trial", home / "mounted", size
        self.at.mkdir(exist_ok=True)
        self.fd = self.loop = None

    def begin(self):
        """An empty file; returns its descriptor."""
        if self.fd is not None:
            os.close(self.fd)
            self.file.unlink()
        self.fd = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.ftruncate(self.fd, self.size)
        return self.fd

    def mount(self, filesystem):
        device = self.attach()
        options = MOUNT_OPTIONS.get(filesystem, b"")
        try:
            mount(device, self.at, filesystem, options)
        except OSError:
            self.detach()
            raise

    def attach(self):
        with open("/dev/loop-control") as control:
            while True:
                device = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
                self.loop = os.open(device, os.O_RDWR)
                try:
                    fcntl.ioctl(self.loop, LOOP_SET_FD, self.fd)
                    return device
                except OSError:
                    # Another process took it first.
                    os.close(self.loop)

    def detach(self):
        fcntl.ioctl(self.loop, LOOP_CLR_FD)
        os.close(self.loop)
        self.loop = None

    def unmount(self):
        unmount(self.at)
        self.detach()

    def close(self):
        if self.loop is not None:
            LIBC.umount2(bytes(self.at), 0)
            self.detach()


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
        place = f"number {numbers[at]}, at {at} of {len(numbers)}"
        verdict.complaints.append(f"{place}, does not go on with what {lives} sent")

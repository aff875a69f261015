"""Judges a disk after a cut: mounts a copy, which replays the journal of its filesystem, and asks the program and its data."""

import ctypes
import os
import sqlite3
import subprocess
from dataclasses import dataclass, field

from guest import run

LIBC = ctypes.CDLL(None, use_errno=True)
# What a filesystem of the guest needs here beyond its name: two of one btrfs are never mounted at once.
MOUNT_OPTIONS = {"xfs": b"nouuid"}


@dataclass
class Verdict:
    lost: int = 0
    complaints: list = field(default_factory=list)  # the data is damaged, or is not what was sent
    starts: bool = True                             # again, by itself

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


def are_whole(numbers, lives, may_expire=False):
    """Compares the numbers that were found, in their order, with what each life sent and got acknowledged.

    Of a life, what is there has to be all from its first number up to one that is not below what was acknowledged. With retention,
    numbers may be missing from the old end of all. Returns how many acknowledged ones are lost, and complaints.
    """
    lost, complaints, at = 0, [], 0
    if may_expire and numbers:
        lives = [(max(first, numbers[0]), acked, sent) for first, acked, sent in lives if sent > numbers[0]]
    for first, acked, sent in lives:
        have = first
        while at < len(numbers) and numbers[at] == have and have < sent:
            at, have = at + 1, have + 1
        lost += max(0, acked - have)
    if at < len(numbers):
        complaints.append(f"number {numbers[at]} at row {at} of {len(numbers)} is no continuation of the lives {lives}")
    if may_expire and not numbers:
        complaints.append("retention left nothing")
    return lost, complaints


class Seawall:
    """check --full, then a start that records a line more and stops, then check --full again and a comparison by Python's sqlite3."""

    def __init__(self, binary):
        self.binary = binary

    def command(self, *arguments, text=""):
        return subprocess.run([self.binary, *arguments], input=text, capture_output=True, text=True, timeout=60)

    def __call__(self, folder, lives, may_expire=False, arguments=()):
        verdict = Verdict()
        db = folder / "x.db"
        if not db.exists():
            verdict.lost = sum(acked - first for first, acked, _ in lives)
            return verdict
        # Nothing was recorded yet where the cut came between the making of the file and its first transaction; check says so.
        if db.stat().st_size or db.with_name("x.db-wal").exists():
            self.check(db, verdict)
        again = self.command("--db", db, "--source", "stdin", "--ack", *arguments, text="again n=1i\n")
        if again.returncode or "ack 1\n" not in again.stdout or "reason=lost" in again.stderr:
            verdict.starts = False
            verdict.complaints.append(f"status {again.returncode}: {again.stderr}")
        self.check(db, verdict)
        if any("aside" in name for name in os.listdir(folder)):
            verdict.complaints.append(f"set aside: {os.listdir(folder)}")
        with sqlite3.connect(f"file:{db}?mode=ro", uri=True) as connection:
            rows = connection.execute("SELECT value FROM sensor_readings WHERE sensor = 'load,of=rig' ORDER BY id")
            numbers = [value for value, in rows]
        connection.close()
        verdict.lost, complaints = are_whole(numbers, lives, may_expire)
        verdict.complaints += complaints
        return verdict

    def check(self, db, verdict):
        done = self.command("check", "--full", db)
        if done.returncode or not done.stdout.startswith("sound "):
            verdict.complaints.append(f"check: status {done.returncode}: {done.stdout}{done.stderr}")

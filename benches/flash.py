"""Bytes that reach the block device for each reading: data, metadata and journal, as cards and eMMC have them.

Each program writes to a filesystem of its own on a loop device of 1 GiB. Counting begins when the files are made and the
filesystem is synced, and ends with the unmount, so that the stop counts. All run side by side: bytes are counted, not
time. For root. What an erase block costs beyond these bytes, the device alone knows."""

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from programs import DATA, IMAGE, ROOT, Running, interrupted, loop, said, seawall
from table import Column, Row, Skip, Table

SECONDS = 900
RATES = 10, 100, 1000
MADE_IN = 10
# A device that has blocks of 4 KiB; mkfs.ext4 would take 1 KiB for a small one.
EXT4 = "-t ext4 -b 4096 -E lazy_itable_init=0,lazy_journal_init=1"
F2FS, BTRFS = "-t f2fs", "-t btrfs"


def by_seawall(*options):
    def command(db, rate):
        source = f"sim:sensors=10,rate={rate // 10}"
        return seawall(IMAGE, "record", "--db", db, "--source", source, "--min-free", "0", *options)

    return command


def by_loop(page, commit_s=1):
    return lambda db, rate: loop(db, 0, page, pace=(rate, max(1, rate // 100), commit_s))


def by_python(db, rate):
    return [sys.executable, f"{ROOT}/benches/logger.py", db, "0", "1", str(rate)]


class Device:
    def __init__(self, name, kind, options):
        if os.geteuid() != 0:
            raise Skip("loop devices and mounts are for root")
        filesystem, *more = kind.split()[1:]
        with open("/proc/filesystems") as file:
            if filesystem not in file.read().split():
                raise Skip(f"this kernel has no {filesystem}")
        self.file, self.mount = f"{DATA}/{name}.img", f"{DATA}/{name}"
        with open(self.file, "wb") as file:
            file.truncate(1 << 30)
        try:
            said(f"mkfs.{filesystem}", "-q", *more, self.file)
        except FileNotFoundError:
            raise Skip(f"mkfs.{filesystem} is not installed") from None
        self.loop = said("losetup", "--find", "--show", self.file)
        os.makedirs(self.mount, exist_ok=True)
        said("mount", "-o", options or "defaults", self.loop, self.mount)

    def written(self):
        with open(f"/sys/block/{os.path.basename(self.loop)}/stat") as file:
            return int(file.read().split()[6]) * 512

    def unmount(self):
        said("umount", self.mount)

    def close(self):
        subprocess.run(["umount", "-q", self.mount], capture_output=True)
        said("losetup", "-d", self.loop)
        os.remove(self.file)
        os.rmdir(self.mount)


def last_id(db, how):
    connection = sqlite3.connect(f"file:{db}?{how}", uri=True)
    found = connection.execute("SELECT max(id) FROM readings").fetchone()[0]
    connection.close()
    return found


def bytes_each(command, rate, kind, options):
    name = f"flash-{abs(hash((command, kind, options)))}-{rate}"
    device = Device(name, kind, options)
    try:
        db = f"{device.mount}/a.db"
        running = Running(command(db, rate))
        interrupted.wait(MADE_IN)
        said("sync", "-f", device.mount)
        before, first = device.written(), last_id(db, "mode=ro")
        if interrupted.wait(SECONDS):
            raise Skip("interrupted")
        running.stop()
        readings = last_id(db, "immutable=1") - first
        device.unmount()
        return (device.written() - before) / readings
    finally:
        device.close()


def row(what, command, kind=EXT4, options="", yardstick=False):
    name = kind.split()[1] + f", {options}" * bool(options)

    def measure():
        with ThreadPoolExecutor(len(RATES)) as pool:
            found = pool.map(lambda rate: bytes_each(command, rate, kind, options), RATES)
            return {f"{rate}": each for rate, each in zip(RATES, found)}

    return Row(f"{name}: {what}", measure, name, yardstick)


def rows():
    for kind, options in (EXT4, ""), (EXT4, "commit=60"), (EXT4, "lazytime"), (F2FS, ""), (BTRFS, ""):
        yield row("loop, pages of 1024", by_loop(1024), kind, options, True)
        yield row("loop, pages of 4096", by_loop(4096), kind, options, True)
        yield row("seawall", by_seawall(), kind, options)
        if not options:
            yield row("seawall, --commit-interval 10s", by_seawall("--commit-interval", "10s"), kind, options)
    yield row("Python logger, 1 a commit", by_python)


FLASH = Table(
    "flash",
    [Column(f"{rate}/s", f"{rate}") for rate in RATES],
    list(rows()),
    rounds=1,
    at_once=True,
    about=f"""bytes each, {SECONDS} s and the stop, files made before; ten sensors; the image's program; the loop, recommended, commits each second
ext4: mkfs.ext4 {EXT4[8:]}; others as they come; each 1 GiB on a loop device""",
    heading="bytes to the device for each reading, at",
)

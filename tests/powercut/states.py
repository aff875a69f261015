"""What a disk may hold after the power went: rebuilt from the log of its writes and flushes (qemu's blklogwrites).

A write that was followed by a flush is on the disk. Of those since, a disk may keep all, none, or any, and of the last one some sectors.
"""

import os
import random
import struct
from dataclasses import dataclass

SECTOR_BYTES = 512
MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD = 1, 2, 4
UNDER_WAY_SECTORS = 2048
KINDS = ("all", "lost", "torn")


@dataclass
class Entry:
    is_flush: bool
    offset: int
    data: bytes
    end: int  # of the entry, in bytes of the log


def read(path):
    """The entries up to the first that was not written whole when qemu was killed."""
    log = path.read_bytes()
    entries, at = [], SECTOR_BYTES
    while at + SECTOR_BYTES <= len(log):
        sector, sectors, flags, _ = struct.unpack_from("<QQQQ", log, at)
        start = at + SECTOR_BYTES
        at = start + sectors * SECTOR_BYTES
        if (sectors == 0 and flags == 0) or at > len(log):
            break
        if flags & ~FLUSH:
            raise RuntimeError(f"the log has an entry of flags {flags}, which this rig does not make")
        entries.append(Entry(bool(flags & FLUSH), sector * SECTOR_BYTES, log[start:at], at))
    return entries


def without_flushes(entries):
    """A disk that says that it flushed and did not."""
    return [Entry(False, 0, b"", each.end) if each.is_flush else each for each in entries]


def copy(source, target):
    """Copies what is not a hole."""
    size = os.fstat(source).st_size
    os.ftruncate(target, 0)
    os.ftruncate(target, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError:
            break
        end = os.lseek(source, at, os.SEEK_HOLE)
        while at < end:
            part = os.pread(source, min(end - at, 1 << 20), at)
            os.pwrite(target, part, at)
            at += len(part)


def kept(since, kind, rng):
    """The writes that a disk kept of those since the last flush, as (offset, bytes)."""
    writes = [(each.offset, each.data) for each in since if each.data]
    if kind == "all":
        return writes
    if kind == "lost" or not writes:
        return []
    part = rng.choice((0.2, 0.5, 0.9))
    writes = [each for each in writes if rng.random() < part] or [rng.choice(writes)]
    offset, data = writes.pop()
    sectors = len(data) // SECTOR_BYTES
    # Either the first sectors of the last write, or any of them.
    survivors = range(rng.randrange(sectors)) if rng.random() < 0.5 else [n for n in range(sectors) if rng.random() < 0.5]
    at = SECTOR_BYTES
    return writes + [(offset + n * at, data[n * at:(n + 1) * at]) for n in survivors]


class Disk:
    """The disk at a life's begin, to which its log is applied."""

    def __init__(self, base, entries, scratch):
        self.entries = entries
        self.stable = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        source = os.open(base, os.O_RDONLY)
        copy(source, self.stable)
        os.close(source)
        self.applied = 0

    def write(self, place, kind, seed, target):
        """Writes the state at a place of the log to `target`. Places must not go back."""
        flush = max((n for n in range(self.applied, place) if self.entries[n].is_flush), default=self.applied)
        for each in self.entries[self.applied:flush]:
            os.pwrite(self.stable, each.data, each.offset)
        self.applied = flush
        copy(self.stable, target)
        for offset, data in kept(self.entries[flush:place], kind, random.Random(seed)):
            os.pwrite(target, data, offset)

    def close(self):
        os.close(self.stable)


def assert_same(base, entries, disk, scratch):
    """Only what the log may have missed, the writes that were under way at the cut, may differ."""
    rebuilt = Disk(base, entries, scratch)
    for each in entries:
        os.pwrite(rebuilt.stable, each.data, each.offset)
    flush = max((n for n, each in enumerate(entries) if each.is_flush), default=0)
    open_sectors = {(each.offset + at) // SECTOR_BYTES for each in entries[flush:] for at in range(0, len(each.data), SECTOR_BYTES)}
    with open(disk, "rb") as left, open(scratch, "rb") as right:
        at = 0
        while part := left.read(1 << 20):
            other = right.read(1 << 20)
            if part != other:
                differ = {(at + n) // SECTOR_BYTES for n in range(0, len(part), SECTOR_BYTES) if part[n:n + SECTOR_BYTES] != other[n:n + SECTOR_BYTES]}
                # Writes that were not in the log yet are at most those of one queue.
                if len(differ - open_sectors) > UNDER_WAY_SECTORS:
                    raise RuntimeError(f"{len(differ)} sectors of the disk are not what its log says")
            at += len(part)
    rebuilt.close()


def places(entries, number, rng):
    """So many places of the log in order, each with what was kept there and a seed for the choice."""
    found = [(rng.randint(0, len(entries)), rng.choice(KINDS), rng.getrandbits(32)) for _ in range(number)]
    return sorted(found)

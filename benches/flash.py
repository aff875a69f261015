"""`just bench --flash`: bytes that reach the block device for each reading, data and journal.

Root only. Each program writes to an ext4 of its own on a loop device, stops as it does, and the filesystem is
unmounted; then the device's own counter is read. Programs run side by side: bytes are counted, not time. The
yardsticks are the kind of Python logger that seawall replaces, which commits each reading, and a bare loop of
inserts with seawall's pragmas that commits once a second, or each 1000 readings, with SQLite's pages of 4 KiB
and with seawall's of 1 KiB. FACTOR stretches the time, which is longest for the slow ones: making the file
and filling the journal for the first time count with all of them.
"""

import os
import signal
import subprocess
import sys
import tempfile

BINARY = os.path.abspath(sys.argv[1])
FACTOR = float(sys.argv[2])
# Readings a second, and for how many seconds.
SLOW, FAST = {10: 300, 100: 120, 1000: 60}, {100_000: 20}
MIB = 1 << 20

LOOP = """
import sqlite3, sys, time
path, rate, seconds, page = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
bare = page > 0
db = sqlite3.connect(path, isolation_level=None)
if bare:
    db.execute("PRAGMA page_size=%d" % page)
db.execute("PRAGMA journal_mode=WAL"); db.execute("PRAGMA synchronous=NORMAL")
if bare:
    db.execute("CREATE TABLE readings(id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, series INTEGER NOT NULL, value NOT NULL)")
    insert, row = "INSERT INTO readings VALUES(NULL, ?, ?, ?)", lambda n, now: (now, n % 10 + 1, 20 + n % 700 / 100)
else:
    db.execute("CREATE TABLE readings(id INTEGER PRIMARY KEY, timestamp TEXT, sensor TEXT, value REAL)")
    insert, row = "INSERT INTO readings VALUES(NULL, ?, ?, ?)", lambda n, now: (time.strftime("%Y-%m-%dT%H:%M:%S"), "sensor_%d" % (n % 10), 20 + n % 700 / 100)
chunk = max(1, rate // 10) if bare else max(1, min(rate // 100, 1000) if rate > 100 else 1)
per_commit = (min(rate, 1000) if bare else 1)
start, n, checkpointed = time.monotonic(), 0, 0
db.execute("BEGIN")
while n < rate * seconds:
    time.sleep(max(0, start + n / rate - time.monotonic()))
    if time.monotonic() - start > seconds * 1.5:
        break
    for _ in range(chunk):
        db.execute(insert, row(n, time.time_ns()))
        n += 1
        if n % per_commit == 0:
            db.execute("COMMIT"); db.execute("BEGIN")
    if bare and time.monotonic() - start - checkpointed >= 60:
        checkpointed += 60
        db.execute("COMMIT"); db.execute("PRAGMA wal_checkpoint(PASSIVE)"); db.execute("BEGIN")
db.execute("COMMIT"); db.close()
print(n)
"""


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Device:
    def __init__(self, folder, name, mib):
        self.file, self.mount = f"{folder}/{name}.img", f"{folder}/{name}"
        with open(self.file, "wb") as file:
            file.truncate(mib * MIB)
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.file)
        self.loop = run("losetup", "--find", "--show", self.file)
        os.mkdir(self.mount)
        run("mount", self.loop, self.mount)
        run("sync", "-f", self.mount)
        self.before = self.written()

    def written(self):
        with open(f"/sys/block/{os.path.basename(self.loop)}/stat") as file:
            return int(file.read().split()[6]) * 512

    def close(self):
        run("umount", self.mount)
        written = self.written() - self.before
        run("losetup", "-d", self.loop)
        os.remove(self.file)
        return written


PROGRAMS = {"seawall": None, "bare": "4096", "bare1k": "1024", "python": "0"}


class Run:
    """One program at one rate."""

    def __init__(self, folder, rate, seconds, name, page):
        self.device = Device(folder, f"{name}-{rate}", 200 + rate * seconds * 64 // MIB)
        self.readings = rate * seconds
        db = f"{self.device.mount}/a.db"
        if page is None:
            source = f"sim:sensors=10,rate={rate // 10},count={self.readings}"
            command = [BINARY, "record", "--db", db, "--source", source, "--min-free", "0", "--log-level", "warn"]
        else:
            command = [sys.executable, "-c", LOOP, db, str(rate), str(seconds), page]
        self.counts = page is not None
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def bytes_each(self):
        out, _ = self.process.communicate()
        assert self.process.returncode == 0, out
        return self.device.close() / (int(out) if self.counts else self.readings)


def measure(folder, rates):
    """Starts all, then waits for one after the other."""
    runs = {
        rate: {name: Run(folder, rate, max(1, round(seconds * FACTOR)), name, page) for name, page in PROGRAMS.items()}
        for rate, seconds in rates.items()
    }
    for rate, programs in sorted(runs.items(), reverse=True):
        yield rate, {name: run.bytes_each() for name, run in programs.items()}


def main():
    if os.geteuid() != 0:
        sys.exit("flash.py: loop devices and mounts are for root")
    print("bytes to the device for each reading, the stop included")
    print("readings/s    seawall  bare loop  ratio  1 KiB pages  ratio     Python  ratio")
    with tempfile.TemporaryDirectory(dir=os.path.dirname(BINARY)) as folder:
        for rates in SLOW, FAST:
            for rate, each in measure(folder, rates):
                ours, bare, small, python = (each[name] for name in PROGRAMS)
                print(
                    f"{rate:>10} {ours:>10.1f} {bare:>10.1f} {ours / bare:>6.2f} {small:>12.1f} {ours / small:>6.2f}"
                    f" {python:>10.1f} {ours / python:>6.3f}",
                    flush=True,
                )


main()

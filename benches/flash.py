"""`just bench --flash`: bytes that reach the block device for each reading, data and journal.

Root only. Each program writes for SECONDS to an ext4 of its own on a loop device, stops as it does, and the
filesystem is unmounted; then the device's own counter is read. All programs of one rate run at the same
time: bytes are counted, not time. The yardsticks are the kind of Python logger that seawall replaces, which
commits each reading, and a bare loop of inserts with seawall's pragmas that commits once a second, or each
1000 readings.
"""

import os
import signal
import subprocess
import sys
import tempfile

BINARY = os.path.abspath(sys.argv[1])
SECONDS = int(sys.argv[2])
RATES = [10, 100, 1000, 100_000]
MIB = 1 << 20

LOOP = """
import sqlite3, sys, time
path, rate, seconds, bare = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "bare"
db = sqlite3.connect(path, isolation_level=None)
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


def measure(folder, rate):
    mib = 200 + rate * SECONDS * 64 // MIB
    programs = {}
    for name in ["seawall", "bare", "python"]:
        device = Device(folder, f"{name}-{rate}", mib)
        db = f"{device.mount}/a.db"
        if name == "seawall":
            source = f"sim:sensors=10,rate={rate // 10},count={rate * SECONDS}"
            command = [BINARY, "record", "--db", db, "--source", source, "--min-free", "0", "--log-level", "warn"]
        else:
            command = [sys.executable, "-c", LOOP, db, str(rate), str(SECONDS), name]
        programs[name] = device, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    each = {}
    for name, (device, process) in programs.items():
        out, _ = process.communicate()
        assert process.returncode == 0, out
        readings = rate * SECONDS if name == "seawall" else int(out)
        each[name] = device.close() / readings
    return each


def main():
    if os.geteuid() != 0:
        sys.exit("flash.py: loop devices and mounts are for root")
    print(f"bytes to the device for each reading, {SECONDS} s and the stop")
    print(f"{'readings/s':>10} {'seawall':>10} {'bare loop':>10} {'ratio':>6} {'Python':>10} {'ratio':>6}")
    with tempfile.TemporaryDirectory(dir=os.path.dirname(BINARY)) as folder:
        for rate in RATES:
            each = measure(folder, rate)
            ours, bare, python = each["seawall"], each["bare"], each["python"]
            print(f"{rate:>10} {ours:>10.0f} {bare:>10.0f} {ours / bare:>6.2f} {python:>10.0f} {ours / python:>6.3f}", flush=True)


main()

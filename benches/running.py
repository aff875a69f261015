"""What recording takes of the machine while it goes on, and when samples at 1 kHz are taken whatever the disk does."""

import os
import sqlite3
import subprocess
import threading
import time

from network import Influx
from programs import DATA, IMAGE, RELEASE, Running, compiled, cpu_s, loop, remove, seawall, status_of
from table import Column, Row, Table

SAMPLES, SAMPLE_S = 5, 4
TICK_S = 0.008


def wakeups(pid):
    """How often its threads have gone to sleep by themselves."""
    return sum(status_of(f"{pid}/task/{task}", "voluntary_ctxt_switches") for task in os.listdir(f"/proc/{pid}/task"))


def watched(start, name, is_fed=False):
    def measure():
        db = f"{DATA}/{name}.db"
        running = start(db)
        over = threading.Event()
        feeder = threading.Thread(target=feed, args=(running.process.stdin, over)) if is_fed else None
        if feeder:
            feeder.start()
        # What a start writes, and the first commits.
        time.sleep(2)
        found = {"cpu": [], "wakeups": [], "written": []}
        before = None
        for _ in range(SAMPLES + 1):
            now = time.monotonic(), cpu_s(running.pid), wakeups(running.pid), status_of(running.pid, "write_bytes", "io")
            if before:
                took, cpu, woken, written = (one - other for one, other in zip(now, before))
                found["cpu"].append(cpu / took * 100)
                found["wakeups"].append(woken / took)
                found["written"].append(written / took)
            before = now
            time.sleep(SAMPLE_S)
        found["mib"] = status_of(running.pid, "VmHWM") / 1024
        over.set()
        if feeder:
            feeder.join()
        running.stop()
        return found

    return measure


def feed(pipe, over):
    """1,000 lines a second."""
    lines = "".join(f"weather,station=s{n} temperature_c={20 + n / 8}\n" for n in range(8)).encode()
    due = time.monotonic()
    while not over.is_set():
        pipe.write(lines)
        pipe.flush()
        due += TICK_S
        time.sleep(max(0, due - time.monotonic()))


def recorder(program, *sources):
    options = [word for source in sources for word in ("--source", source)]
    return lambda db: Running(seawall(program, "record", "--db", db, *options), stdin=subprocess.PIPE)


def by_loop(page, per_tick):
    return lambda db: Running(loop(db, 0, page, pace=(1000, per_tick, 1)))


COLUMNS = [
    Column("% of a core", "cpu", has_spread=True),
    Column("MiB", "mib"),
    Column("wakeups/s", "wakeups", has_ratio=False),
    Column("bytes/s", "written", has_ratio=False),
]
RESOURCES = Table(
    "resources",
    COLUMNS,
    [
        Row("loop, 8 rows each 8 ms, pages of 1024", watched(by_loop(1024, 8), "l8"), "eight", True),
        Row("loop, 8 rows each 8 ms, pages of 4096", watched(by_loop(4096, 8), "m8"), "eight", True),
        Row("seawall, sim, 8 each 8 ms", watched(recorder(RELEASE, "sim:sensors=8,rate=125"), "s8"), "eight"),
        Row("seawall, sim, 8 each 8 ms, the image's", watched(recorder(IMAGE, "sim:sensors=8,rate=125"), "i8"), "eight"),
        Row("seawall, stdin, 8 each 8 ms, the image's", watched(recorder(IMAGE, "stdin"), "p8", True), "eight"),
        Row("loop, 1 row each ms, pages of 4096", watched(by_loop(4096, 1), "l1"), "one", True),
        Row("seawall, sim, 1 each ms, the image's", watched(recorder(IMAGE, "sim:sensors=1,rate=1000"), "s1"), "one"),
        Row("idle: wakes once a second", watched(lambda db: Running([compiled("idle", "-O2 -static")]), "sleep"), "idle", True),
        Row("idle: seawall, tcp: and http:, the image's", watched(recorder(IMAGE, "tcp:0", "http:0"), "idle"), "idle"),
        Row("idle: InfluxDB 1.x", watched(lambda db: Influx(), "influx"), "idle"),
    ],
    rounds=1,
    at_once=True,
    about=f"1,000 readings/s; {SAMPLES} samples of {SAMPLE_S} s; MiB resident at most; bytes by the kernel's count of the process",
    heading="while it runs",
)

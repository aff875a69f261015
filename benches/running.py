"""What recording takes of the machine while it goes on, and when samples at 1 kHz are taken whatever the disk does."""

import contextlib
import os
import sqlite3
import struct
import subprocess
import tempfile
import threading
import time
from bisect import bisect_left

from network import Influx
from programs import DATA, IMAGE, RELEASE, ROOT, Running, compiled, cpu_s, has, loop, remove, said, seawall, status_of
from table import Column, Row, Skip, Table

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

SECONDS = 8
STEP_NS = 1_000_000
SHARED = "-O2 -shared -fPIC"
# A wake may seem to come before the time that it was for by as much as the clocks are read apart.
APART_NS = 10_000


def busy(over):
    with open(f"{DATA}/busy", "wb", buffering=0) as file:
        while not over.is_set():
            for _ in range(250):
                file.write(b"7" * 4096)
            file.seek(0)
            os.fdatasync(file.fileno())


@contextlib.contextmanager
def stalling():
    """A filesystem on which a sync takes two seconds from the second of the eight on; one thread serves it."""
    has("bindfs")
    at, folder, number = tempfile.mkdtemp(dir=DATA), tempfile.mkdtemp(dir=DATA), f"{DATA}/number"
    shim = compiled("../tests/shims/sync", SHARED)
    put_number(number, 0)
    environment = {**os.environ, "LD_PRELOAD": shim, "SHIM_SYNC": number}
    if subprocess.run(["bindfs", "-o", "subtype=slow", folder, at], env=environment, capture_output=True).returncode:
        raise Skip("bindfs may not mount")
    timers = [threading.Timer(2, put_number, (number, 2000)), threading.Timer(2.5, put_number, (number, 0))]
    try:
        for timer in timers:
            timer.start()
        yield at
    finally:
        for timer in timers:
            timer.join()
        said("umount", at)


def put_number(path, number):
    with open(f"{path}.new", "w") as file:
        file.write(str(number))
    os.rename(f"{path}.new", path)


def sampled(disk):
    """Both at once: seawall's samples, and those of the clock, which `beside` keeps for its own row."""

    def measure():
        over, wakes = threading.Event(), f"{DATA}/wakes"
        with stalling() if disk == "stalls 2 s" else contextlib.nullcontext(DATA) as folder:
            db = f"{folder}/sampling.db"
            environment = {**os.environ, "LD_PRELOAD": compiled("wakes", SHARED), "WAKES": wakes}
            options = "--source", "sim:sensors=1,rate=1000", "--synchronous", "full"
            running = Running(seawall(RELEASE, "record", "--db", db, *options), env=environment)
            busily = threading.Thread(target=busy, args=(over,)) if disk == "busy" else None
            if busily:
                busily.start()
            beside[disk] = [float(line) for line in said(compiled("clock"), str(SECONDS * 1000)).split()]
            over.set()
            if busily:
                busily.join()
            running.stop()
            connection = sqlite3.connect(db)
            times = [time_ns for time_ns, in connection.execute("SELECT time_ns FROM readings ORDER BY id")]
            dropped = connection.execute("SELECT dropped FROM runs").fetchone()[0]
            connection.close()
            remove(db)
        with open(wakes, "rb") as file:
            woken = [wake for wake, in struct.iter_unpack("=q", file.read())]
        late = [max(0, woken[bisect_left(woken, due - APART_NS)] - due) / 1e3 for due in times]
        missed = round((times[-1] - times[0]) / STEP_NS) + 1 - len(times) + dropped
        lags = [due - n * STEP_NS for n, due in enumerate(times)]
        return {"late": late, "missed": missed, "off": max(lags) / 1e3 - min(lags) / 1e3}

    return measure


beside = {}


def clocked(disk):
    def measure():
        if disk not in beside:
            raise Skip("seawall was not measured beside it")
        return {"late": beside[disk]}

    return measure


SAMPLING = Table(
    "sampling",
    [
        *(Column(f"us late, {name}", "late", percent) for name, percent in (("p50", 50), ("p99", 99), ("most", 100))),
        Column("time off by", "off", has_ratio=False),
        Column("missed", "missed", has_ratio=False),
    ],
    [
        row
        for disk in ("idle", "busy", "stalls 2 s")
        for row in (Row(f"disk {disk}: seawall", sampled(disk), disk), Row(f"disk {disk}: sleep loop", clocked(disk), disk, True))
    ],
    rounds=1,
    about=f"{SECONDS} s, both at the same time; microseconds; a time is off by what it lies from a grid of whole milliseconds",
    heading="one sensor at 1 kHz",
)

"""Recording: how fast, and with what processor and memory; how long a start and a stop take."""

import contextlib
import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time

from programs import (
    ABOUT, DATA, IMAGE, PLAIN, RECOMMENDED, RELEASE, ROOT, Running, compiled, has, lines, loop, record_lines, remove, run,
    said, seawall,
)
from table import Column, Row, Skip, Table

COUNT = 2_000_000
ABOUT_LOOP = "loop: benches/loop.c, recommended, as in the table of throughput"


def rates(took, count):
    return {"rate": count / took["s"], "cpu": took["cpu_s"] / count * 1e9, "mib": took["mib"]}


def whole(command, count=COUNT, stdin=None):
    """Whole processes, from the exec to the exit, each into a new file."""

    def measure():
        db = f"{DATA}/recording.db"
        remove(db)
        took = run(command(db), stdin() if stdin else None)
        remove(db)
        return rates(took, count)

    return measure


def by_loop(page, synchronous="normal", flags=RECOMMENDED):
    return whole(lambda db: loop(db, COUNT, page, synchronous, flags))


def by_stdin(program, *options):
    return whole(lambda db: record_lines(program, db, *options), stdin=lambda: lines(COUNT))


def by_socket(program, spec):
    """From the exec to the exit too: the client connects at once, and SIGTERM comes with the last ack."""

    def measure():
        db, path = f"{DATA}/recording.db", f"{DATA}/socket"
        with open(lines(COUNT), "rb") as file:
            text = file.read()
        remove(db)
        start = time.perf_counter()
        recorder = Running(seawall(program, "record", "--db", db, "--source", spec.format(path)))
        tcp = spec.startswith("tcp")
        with socket.socket(socket.AF_INET if tcp else socket.AF_UNIX) as client:
            client.connect(("127.0.0.1", recorder.port()) if tcp else path)
            sender = threading.Thread(target=client.sendall, args=(text,))
            sender.start()
            acks = b""
            while not acks.endswith(b"ack %d\n" % COUNT):
                acks = acks[-20:] + client.recv(1 << 16)
            sender.join()
        mib = recorder.peak_mib()
        recorder.stop()
        took = {"s": time.perf_counter() - start, "cpu_s": recorder.cpu_s, "mib": mib}
        remove(db)
        return rates(took, COUNT)

    return measure


def by_python(batch, count):
    return whole(lambda db: [sys.executable, f"{ROOT}/benches/logger.py", db, str(count), str(batch)], count)


def by_import():
    """The command's own way is one transaction around all, in a new file without a WAL."""
    has("sqlite3")
    rows, db = f"{DATA}/rows.csv", f"{DATA}/recording.db"
    if not os.path.exists(rows):
        with open(rows, "w") as file:
            for n in range(COUNT):
                print(1_700_000_000_000_000_000 + n * 1_000_000, n % 8 + 1, 18 + n * 7919 % 800 / 100, sep=",", file=file)
    remove(db)
    create = "CREATE TABLE readings(time_ns INTEGER, series INTEGER, value REAL)"
    took = run(["sqlite3", db, "PRAGMA synchronous=NORMAL", create, f".import --csv {rows} readings"])
    remove(db)
    return rates(took, COUNT)


def loops(beside, synchronous="normal"):
    builds = [("plain", PLAIN), ("recommended", RECOMMENDED)]
    what = "" if synchronous == "normal" else ", each commit synced"
    return [
        Row(f"loop, {build}, pages of {page}{what}", by_loop(page, synchronous, flags), beside, True)
        for build, flags in (builds if synchronous == "normal" else builds[1:])
        for page in (1024, 4096)
    ]


THROUGHPUT = Table(
    "throughput",
    [Column("readings/s", "rate", has_spread=True, best=max), Column("CPU ns each", "cpu"), Column("MiB", "mib")],
    [
        *loops("normal"),
        Row("lines on stdin", by_stdin(RELEASE), "normal"),
        Row("lines on stdin, the image's program", by_stdin(IMAGE), "normal"),
        Row("Python logger, 1 a commit", by_python(1, COUNT // 20), "normal"),
        Row("Python logger, 100 a commit", by_python(100, COUNT // 4), "normal"),
        Row("Python logger, 1000 a commit", by_python(1000, COUNT // 4), "normal"),
        Row("sqlite3 .import of CSV, one commit", by_import, "normal"),
        *loops("full", "full"),
        Row("stdin --ack", by_stdin(RELEASE, "--ack"), "full"),
        Row("stdin --ack, the image's program", by_stdin(IMAGE, "--ack"), "full"),
        Row("one client of unix:, the image's program", by_socket(IMAGE, "unix:{}"), "full"),
        Row("one client of tcp:, the image's program", by_socket(IMAGE, "tcp:0"), "full"),
    ],
    about=lambda: f"{COUNT:,} readings, whole processes, processor of all threads (user and system)\n{ABOUT}",
    heading="defaults; then with acks, for which each commit is synced",
)


def stopping(command, name):
    def measure():
        db, n = f"{DATA}/stop-{name}.db", 0
        while True:
            recorder = Running(command(db))
            # Some checkpoints in: then it is in full swing. Each round stops at another moment.
            while os.stat(db).st_size < 4 << 20:
                time.sleep(0.001)
            time.sleep(n * 37 % 100 / 1000)
            n += 1
            ms = recorder.stop()
            remove(db)
            yield {"ms": ms}

    return measure


def simulated(program):
    return lambda db: seawall(program, "record", "--db", db, "--source", "sim:rate=max")


STOPS = Table(
    "stops",
    [Column("ms, p50", "ms", has_spread=True), Column("ms, p99", "ms", 99)],
    [
        Row("loop, pages of 1024", stopping(lambda db: loop(db, 0), "loop-1024"), "load", True),
        Row("loop, pages of 4096", stopping(lambda db: loop(db, 0, 4096), "loop-4096"), "load", True),
        Row("seawall", stopping(simulated(RELEASE), "release"), "load"),
        Row("seawall, the image's program", stopping(simulated(IMAGE), "image"), "load"),
    ],
    rounds=200,
    about="the loop, recommended, commits, checkpoints, leaves WAL mode and closes, as seawall does",
    heading="SIGTERM to exit at full load",
)


def docker_stop(program, *arguments):
    """Of an image with that one static program."""

    def measure():
        has("docker")
        if subprocess.run(["docker", "version"], capture_output=True).returncode != 0:
            raise Skip("no Docker answers")
        path = program()
        if not path:
            raise Skip("`just bench` builds it")
        name = f"seawall-bench-{os.getpid()}-{os.path.basename(path)[:7]}"
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(path, "program")
        subprocess.run(["docker", "import", "-", name], input=archive.getvalue(), check=True, capture_output=True)
        data = f"{DATA}/docker-data"
        try:
            while True:
                os.makedirs(data)
                said("docker", "run", "-d", "--name", name, "-v", f"{data}:/data", name, "/program", *arguments)
                time.sleep(0.5)
                start = time.perf_counter()
                said("docker", "stop", name)
                ms = (time.perf_counter() - start) * 1e3
                assert said("docker", "inspect", "-f", "{{.State.ExitCode}}", name) == "0"
                said("docker", "rm", name)
                shutil.rmtree(data)
                yield {"ms": ms}
        finally:
            subprocess.run(["docker", "rm", "-f", name], capture_output=True)
            said("docker", "rmi", name)
            shutil.rmtree(data, ignore_errors=True)

    return measure


DOCKER = Table(
    "docker-stop",
    [Column("ms, p50", "ms", has_spread=True), Column("ms, p90", "ms", 90)],
    [
        Row(
            "a program that exits at SIGTERM",
            docker_stop(lambda: compiled("idle", "-O2 -static")),
            "docker",
            True,
        ),
        Row("seawall, the image's program", docker_stop(lambda: IMAGE, "--db", "/data/a.db", "--source", "sim:rate=max"), "docker"),
    ],
    rounds=20,
    about="the whole command; the exit status of each was 0",
    heading="docker stop at full load",
)

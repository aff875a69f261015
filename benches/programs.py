"""What is measured, as programs: seawall in both builds, and the yardsticks, built as their users would build them."""

import atexit
import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import textwrap
import threading
import time

from table import Skip

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = f"{ROOT}/target/bench"
# Gone after each table.
DATA = f"{FOLDER}/data"
# `cargo build --release`, and the static program of the image.
RELEASE, IMAGE = f"{ROOT}/target/release/seawall", os.environ.get("BENCH_IMAGE_PROGRAM", "")

# Set where `just bench` itself is stopped.
interrupted = threading.Event()

# SQLite as it comes, and with what its documentation recommends to a program of one thread.
PLAIN = "-O2 -DHAVE_FDATASYNC=1"
RECOMMENDED = (
    "-O2 -DHAVE_FDATASYNC=1 -DSQLITE_THREADSAFE=0 -DSQLITE_DQS=0 -DSQLITE_DEFAULT_MEMSTATUS=0"
    " -DSQLITE_DEFAULT_WAL_SYNCHRONOUS=1 -DSQLITE_LIKE_DOESNT_MATCH_BLOBS -DSQLITE_MAX_EXPR_DEPTH=0"
    " -DSQLITE_OMIT_DECLTYPE -DSQLITE_OMIT_DEPRECATED -DSQLITE_OMIT_PROGRESS_CALLBACK -DSQLITE_OMIT_SHARED_CACHE"
    " -DSQLITE_USE_ALLOCA -DSQLITE_STRICT_SUBTYPE=1"
)
ABOUT = "\n".join(
    textwrap.wrap(
        "loop: benches/loop.c and sqlite3.c of the same SQLite, SQLITE_OPEN_NOMUTEX, WAL, checkpoints and cache as SQLite"
        f" has them, a prepared INSERT, 1000 rows a commit, nothing to parse; plain: cc {PLAIN}; recommended: cc {RECOMMENDED}",
        width=120, break_on_hyphens=False,
    )
)


def said(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **more).stdout.strip()


def has(program, what=None):
    if not shutil.which(program):
        raise Skip(f"{what or program} is not installed")


@functools.cache
def compiled(name, flags="-O2"):
    """A program of benches/*.c; with SQLite where it wants that, which comes with the locked crate. Kept as long as they hold."""
    out = f"{FOLDER}/built/{os.path.basename(name)}-{hash_of(flags):x}"
    source = f"{ROOT}/benches/{name}.c"
    if os.path.exists(out) and all(os.path.getmtime(out) > os.path.getmtime(of) for of in (source, f"{ROOT}/Cargo.lock")):
        return out
    os.makedirs(os.path.dirname(out), exist_ok=True)
    more = []
    if name == "loop":
        metadata = json.loads(said("cargo", "metadata", "--locked", "--format-version", "1", cwd=ROOT))
        crate = next(package for package in metadata["packages"] if package["name"] == "libsqlite3-sys")
        sqlite = f"{os.path.dirname(crate['manifest_path'])}/sqlite3"
        more = [f"-I{sqlite}", f"{sqlite}/sqlite3.c", "-lm", "-lpthread", "-ldl"]
    said("cc", *flags.split(), source, *more, "-o", out)
    return out


def hash_of(text):
    return functools.reduce(lambda found, byte: (found * 31 + byte) % (1 << 32), text.encode(), 0)


def loop(db, rows, page=1024, synchronous="normal", flags=RECOMMENDED, pace=()):
    return [compiled("loop", flags), db, str(rows), str(page), synchronous, *map(str, pace)]


def seawall(program, *arguments):
    if not program or not os.path.exists(program):
        raise Skip("`just bench` builds it")
    return [program, *map(str, arguments)]


def record_lines(program, db, *options):
    return seawall(program, "record", "--source", "stdin", "--log-level", "warn", "--db", db, *options)


def remove(db):
    for end in "", "-wal", "-shm", "-mark", "-journal":
        with contextlib.suppress(FileNotFoundError):
            os.remove(db + end)


def lines(count, series=8, first_ns=1_700_000_000_000_000_000, step_ns=1_000_000, order="turn"):
    """A file of so many lines, made once for a table."""
    path = f"{DATA}/lines-{count}-{series}-{first_ns}-{order}"
    if os.path.exists(path):
        return path
    with open(path, "wb") as file:
        subprocess.run([compiled("lines"), *map(str, (count, series, first_ns, step_ns, order))], stdout=file, check=True)
    return path


def run(command, stdin=None, **more):
    """Runs it to its end; its seconds, seconds of the processor, and MiB resident at most."""
    took = f"{DATA}/took-{threading.get_ident()}"
    with open(stdin or os.devnull, "rb") as file:
        done = subprocess.run(
            [compiled("run"), took, shutil.which(command[0]), *command[1:]],
            stdin=more.pop("pipe", file), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more,
        )
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.returncode}: {done.stderr.decode()}")
    with open(took) as file:
        wall, user, system, kib = map(int, file.read().split())
    return {"s": wall / 1e9, "cpu_s": (user + system) / 1e6, "mib": kib / 1024}


def status_of(pid, key, file="status"):
    with open(f"/proc/{pid}/{file}") as lines_:
        return next(int(line.split()[1]) for line in lines_ if line.startswith(key + ":"))


def cpu_s(pid):
    """Seconds of the processor that all threads of a process have had: CPUCLOCK_SCHED of it."""
    return time.clock_gettime((~pid) << 3 | 2)


class Running:
    """A program that says event=ready, until it is stopped. Its log is read on, so that it never waits for that."""

    def __init__(self, command, **more):
        start = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=more.pop("stdin", subprocess.DEVNULL), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more
        )
        self.pid, self.log = self.process.pid, []
        atexit.register(self.process.kill)
        while not (self.log and b"event=ready " in self.log[-1]):
            line = self.process.stderr.readline()
            if not line:
                raise RuntimeError(f"{command} does not start: {self.log}")
            self.log.append(line)
        self.ready_ms = (time.perf_counter() - start) * 1e3
        self.heard = threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            with self.heard:
                self.log.append(line)
                self.heard.notify()

    def wait_for(self, text, times=1):
        with self.heard:
            assert self.heard.wait_for(lambda: sum(text in line for line in self.log) >= times, timeout=60), text

    def port(self):
        return next(int(found[1]) for line in self.log if (found := re.search(rb"address=127\.0\.0\.1:(\d+)", line)))

    def peak_mib(self):
        return status_of(self.pid, "VmHWM") / 1024

    def stop(self):
        """Milliseconds from SIGTERM to the exit."""
        os.kill(self.pid, signal.SIGTERM)
        start = time.perf_counter()
        _, status, used = os.wait4(self.pid, 0)
        ms = (time.perf_counter() - start) * 1e3
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_s = used.ru_utime + used.ru_stime
        self.reader.join()
        assert self.process.returncode == 0, (self.process.args, self.log[-5:])
        return ms

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()

"""Stories of seawall, and of recorders that lose: the controls."""

import os
import sqlite3
import subprocess
import time

import load
from judge import Verdict, compare

RETENTION = ["--retain", "2d", "--max-size", "16MiB"]
OLD_READINGS = 140_000
READY = "(while ! grep -q event=ready /err; do sleep 0.02; done; echo ready >&3)"


class Story:
    """A program with its settings on a filesystem, and how its data is judged."""

    filesystem = "ext4"
    lives = 1
    phase = "recording"
    acks_max = 300
    rate = 100
    waits_for_ready = True
    needs_programs = False
    guest_port = None
    base = "empty"
    has_lying_disk = False
    has_to_lose = False
    stops_by = "kill -TERM $pid"
    is_orderly = False
    # Each cut begins with the machine in which the program has become ready, once.
    is_started_once = False

    def prepare(self, machine, port):
        """What is to be there before the load, where the program is ready."""


class Seawall(Story):
    """The image's program with one source and its options."""

    def __init__(self, name, binary, source, options=()):
        self.name, self.binary, self.source, self.options = name, binary, source, list(options)
        self.waits_for_ready = source != "stdin"
        self.guest_port = {"stdin": None, "http": 8086}.get(source, 8094)

    def settings(self):
        source = {"stdin": "stdin --ack", "http": "http:0.0.0.0:8086"}.get(self.source, "tcp:0.0.0.0:8094")
        return " ".join(["--source", source, *self.options])

    def __str__(self):
        named = ", a named client" if self.source == "named" else ""
        return f"{self.name}, {self.filesystem}, {self.base}, {self.phase}: {self.settings()}{named}, {self.rate}/s"

    def version(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True).stdout.strip()

    def start_line(self):
        streams = "<&4 >&4" if self.source == "stdin" else "</dev/null >/dev/null"
        return f"/seawall --db /data/x.db {self.settings()} {streams} 2>/err & pid=$!; {READY} &"

    def producer(self, machine, port, first, log_bytes):
        if self.source == "stdin":
            return load.Lines(machine.data, first, self.rate, log_bytes)
        stream = load.connect(port, time.monotonic() + 10)
        if self.source == "http":
            return load.Http(stream, first, self.rate, log_bytes)
        return load.Lines(stream, first, self.rate, log_bytes, client="rig" if self.source == "named" else None)

    def command(self, *arguments, text=""):
        return subprocess.run([self.binary, *arguments], input=text, capture_output=True, text=True, timeout=60)

    def judge(self, folder, lives):
        """check --full, a start that records one line more and stops, check --full again, and Python's sqlite3."""
        verdict = Verdict()
        if self.source == "named":
            # Each life goes on where the one before was settled: all is one stream.
            lives = [(0, max(acked for _, acked, _ in lives), max(sent for *_, sent in lives))]
        db = folder / "x.db"
        if db.exists():
            self.check(db, verdict, may_be_empty=True)
        again = self.command("--db", db, "--source", "stdin", "--ack", text="again n=1i\n")
        if again.returncode or again.stdout != "ack 1\n" or "reason=lost" in again.stderr:
            verdict.starts = False
            verdict.complaints.append(f"status {again.returncode}: {again.stderr}")
        self.check(db, verdict)
        if beside := set(os.listdir(folder)) - {"x.db", "lost+found"}:
            verdict.complaints.append(f"files beside: {beside}")
        connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True)
        rows = connection.execute("SELECT value FROM sensor_readings WHERE sensor = 'load,of=rig' ORDER BY id")
        compare(verdict, [value for value, in rows], lives)
        connection.close()
        return verdict

    def check(self, db, verdict, may_be_empty=False):
        done = self.command("check", "--full", db)
        # The cut may come between the making of the file and its first transaction: if an ack came before, it is
        # lost, and counted.
        if may_be_empty and "it is empty" in done.stderr:
            return
        if done.returncode or not done.stdout.startswith("sound "):
            verdict.complaints.append(f"check: status {done.returncode}: {done.stdout}{done.stderr}")


def at_random(rng, binary, filesystems):
    """Any source, options, retention and filesystem, for a few lives with cuts in start, recording and stop."""
    options = [
        "--commit-interval", rng.choice(("0", "10ms", "100ms", "1s")),
        "--synchronous", rng.choice(("auto", "auto", "full")),
        "--checkpoint-interval", rng.choice(("60s", "200ms")),
        "--checkpoint-mode", rng.choice(("passive", "truncate")),
        "--wal-autocheckpoint", rng.choice(("2000", "20")),
    ]
    is_retained = rng.random() < 0.2
    story = Seawall("seawall", binary, rng.choice(("stdin", "tcp", "named", "http")), options + RETENTION * is_retained)
    story.base = "retained" if is_retained else "empty"
    story.filesystem = rng.choice(filesystems)
    story.rate = rng.choice((100, 500, 2000))
    story.acks_max = 600
    story.lives = rng.randint(1, 4)
    story.phase = None
    return story


def old_readings(binary, folder):
    """A database of readings of which the older half is past --retain, in a file that is at --max-size."""
    db = folder / "x.db"
    now = int(time.time())

    def record(lines):
        command = [binary, "--db", db, "--source", "stdin", "--retain", "36600d"]
        subprocess.run(command, input=lines.encode(), check=True, stderr=subprocess.DEVNULL)

    half = OLD_READINGS // 2
    record("".join(f"old n={n}i {(now - 3 * 86400) * 10**9 + n}\n" for n in range(half)))
    record("".join(f"old n={n}i {now * 10**9 + n}\n" for n in range(half, OLD_READINGS)))
    record("")
    # As if recorders had run for a day since: what was recorded in the last one does not go by age.
    connection = sqlite3.connect(db)
    with connection:
        connection.execute("UPDATE runs SET running_s = running_s + 86400")
    connection.close()
    return db


class AckEarly(Seawall):
    """A shell before seawall that acknowledges each line as it comes."""

    has_to_lose = True

    def settings(self):
        return "--source stdin, behind a shell that answers `ack N` as line N comes"

    def start_line(self):
        return (
            "mkfifo /lines; /seawall --db /data/x.db --source stdin </lines 2>/err & pid=$!; (n=0; exec 5>/lines;"
            f" while read -r line <&4; do echo $line >&5; n=$((n+1)); echo ack $n >&4; done) & {READY} &"
        )


def controls(binary):
    lying = Seawall("a disk that ignores flushes", binary, "stdin")
    lying.has_lying_disk = lying.has_to_lose = True
    options = ["--synchronous", "normal", "--commit-interval", "100ms"]
    normal = Seawall("acknowledges at NORMAL", binary, "stdin", options)
    normal.has_to_lose = True
    return [AckEarly("acknowledges before the commit", binary, "stdin"), normal, lying]

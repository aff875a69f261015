"""What is used where seawall could be: each as its documentation has it, at its defaults and at its safest setting.

They run in the guest from Debian's packages, and on what the cut left of their folder here, in a chroot of the same
files.
"""

import json
import re
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import clients
import guest
import judge
import load
from judge import Verdict
from seawall import Seawall, Story

PACKAGES = (
    "python3-minimal libpython3.11-stdlib sqlite3 coreutils redis-server influxdb mosquitto rsyslog rsyslog-relp"
).split()
IN_CHROOT = "PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot /root"
CHROOT = f"mount --bind /data /root/data; {IN_CHROOT}"
STARTS_S = 30
# Who has had no processor for so long, and waits for neither that nor a disk, waits for what does not come.
IDLE_S = 3
RESTS_S = 1
# What the set-up made is on the disk before the load, as where a program has run for long.
SYNCED = "sync; echo ready >&3"


def ready_at(port):
    """A socket listens at the port of the guest."""
    is_listening = f"cat /proc/net/tcp /proc/net/tcp6 | grep -q ':{port:04X} 0*:0000 0A'"
    return f"(while ! {is_listening}; do sleep 0.05; done; {SYNCED}) &"


def write_line(text, path):
    """The guest takes one line at a time."""
    escaped = text.replace("\n", "\\n")
    return f"printf %b '{escaped}' >{path}"


class Other(Story):
    """A program of which the folder of data is /data."""

    needs_programs = True
    is_started_once = True
    root = None  # its files, here
    program = ""

    def __init__(self, name, settings):
        self.name, self._settings = name, settings

    def settings(self):
        return self._settings

    def __str__(self):
        return f"{self.name}: {self.settings()}"

    def version(self):
        done = subprocess.run(["chroot", self.root, *self.version_by], capture_output=True, text=True)
        return (done.stdout + done.stderr).splitlines()[0]

    def here(self, folder, command, **more):
        """Runs it here, with /data bound to the folder of the disk, until `with` ends."""
        return Here(self.root, folder, command, **more)

    def judge(self, folder, lives):
        verdict = Verdict()
        try:
            numbers = self.numbers(folder)
        except sqlite3.DatabaseError as e:
            verdict.complaints.append(str(e))
            numbers = []
        except OSError as e:
            verdict.starts = False
            verdict.complaints.append(str(e))
            numbers = []
        # Neither their order nor being there once is promised by all of them.
        found = set(numbers)
        for first, acked, sent in lives:
            verdict.lost += len(set(range(first, acked)) - found)
            found -= set(range(first, sent))
        if found:
            verdict.complaints.append(f"never sent: {sorted(found)[:5]}")
        return verdict


class Here:
    def __init__(self, root, folder, command):
        self.data, self.folder = root / "data", folder
        self.command = ["chroot", root, *command]
        # Not a pipe: what says more than a pipe holds would wait for a reader.
        self.words = tempfile.TemporaryFile()
        self.used = self.since = None

    def __enter__(self):
        judge.mount(self.folder, self.data, is_bind=True)
        judge.mount("tmp", self.data.parent / "run", "tmpfs")
        judge.mount("/dev", self.data.parent / "dev", is_bind=True)
        self.process = subprocess.Popen(
            [str(part) for part in self.command], stdin=subprocess.DEVNULL, stdout=self.words, stderr=self.words
        )
        return self

    def until(self, look):
        """What `look` returns once it is something. A program that ends, or stands still, has not started by itself."""
        deadline = time.monotonic() + STARTS_S
        while time.monotonic() < deadline and self.process.poll() is None and self.idle_s() < IDLE_S:
            try:
                if (found := look()) is not None:
                    return found
            except OSError:
                pass
            time.sleep(0.01)
        raise TimeoutError(f"{self.command[2]} did not start, status {self.process.poll()}: {self.said()}")

    def rests(self):
        """It has done what it had to do."""
        while self.idle_s() < RESTS_S:
            time.sleep(0.01)

    def idle_s(self):
        """For how long all its threads have slept."""
        if self.used != (used := self.ticks()):
            self.used, self.since = used, time.monotonic()
        return time.monotonic() - self.since

    def ticks(self):
        """Of a processor that its threads have had. None are the same where one waits for a processor or a disk."""
        stats = Path(f"/proc/{self.process.pid}/task").glob("*/stat")
        tasks = [path.read_text().rpartition(")")[2].split() for path in stats]
        works = any(state != "S" for state, *_ in tasks)
        return time.monotonic() if works else [fields[11:13] for fields in tasks]

    def said(self):
        self.words.seek(0)
        return self.words.read().decode(errors="replace")[-2000:]

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.words.close()
        for name in "dev", "run", "data":
            judge.unmount(self.data.parent / name)


class Logger(Other):
    """A logger in Python: acknowledges after its commit."""

    version_by = [
        "python3", "-c",
        "import sqlite3, sys; print('Python', sys.version.split()[0], 'SQLite', sqlite3.sqlite_version)",
    ]

    def __init__(self, level):
        super().__init__(
            f"Python logger, {level}",
            f"journal_mode=WAL, synchronous={level}, a commit of what has come, then its ack",
        )
        self.level = level

    def start_line(self):
        return (f"{CHROOT} python3 /logger.py /data/x.db {self.level} <&4 >&4 2>/err & pid=$!;"
                f" (while ! grep -q ready /err; do sleep 0.05; done; {SYNCED}) &")

    def producer(self, machine, port, first, log_bytes):
        return load.Lines(machine.data, first, self.rate, log_bytes)

    def numbers(self, folder):
        db = folder / "x.db"
        if not db.exists():
            return []
        connection = sqlite3.connect(db)
        try:
            if (word := connection.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(word)
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'readings'").fetchone():
                return []
            return [n for n, in connection.execute("SELECT n FROM readings ORDER BY id")]
        finally:
            connection.close()


class Shell(Logger):
    """sqlite3's shell, a transaction for each reading."""

    version_by = ["sqlite3", "--version"]

    def __init__(self, name, pragmas):
        pragma = pragmas.rstrip(";") or "no pragma: journal_mode=DELETE, synchronous=FULL"
        Other.__init__(self, name, f"{pragma}; INSERT and SELECT for each reading")
        self.pragmas = pragmas

    def start_line(self):
        # The ack must not wait in a buffer of the shell.
        make = f"{self.pragmas} CREATE TABLE IF NOT EXISTS readings(id INTEGER PRIMARY KEY, n INTEGER);"
        return f'{CHROOT} stdbuf -oL sqlite3 -cmd "{make}" /data/x.db <&4 >&4 2>/err & pid=$!; sleep 1; {SYNCED}'

    def producer(self, machine, port, first, log_bytes):
        return clients.Sql(machine.data, first, self.rate, log_bytes)


class OverUnix(Seawall):
    """Seawall's unix socket, to which a program in the guest passes what comes by the port."""

    needs_programs = True

    def settings(self):
        return " ".join(["--source unix:/root/run/seawall", *self.options])

    def start_line(self):
        return (
            f"/seawall --db /data/x.db {self.settings()} </dev/null >/dev/null 2>/err & pid=$!;"
            f" {IN_CHROOT} python3 /relay.py 8094 /run/seawall 2>/relay.err & {ready_at(8094)}"
        )


class RedisStory(Other):
    version_by = ["redis-server", "--version"]
    guest_port = 6379

    def __init__(self, sync):
        super().__init__(
            f"Redis, appendfsync {sync}", f"--appendonly yes --appendfsync {sync}; RPUSH of each reading"
        )
        self.options = f"--dir /data --appendonly yes --appendfsync {sync}"

    def start_line(self):
        return (
            f"echo 1 >/proc/sys/vm/overcommit_memory; {CHROOT} redis-server --bind 0.0.0.0 --protected-mode no"
            f" {self.options} >/err 2>&1 & pid=$!; {ready_at(6379)}"
        )

    def producer(self, machine, port, first, log_bytes):
        return clients.Redis(load.connect(port, time.monotonic() + 10), first, self.rate, log_bytes)

    def numbers(self, folder):
        def answer():
            with socket.socket(socket.AF_UNIX) as stream:
                stream.connect(str(self.root / "run/redis"))
                stream.sendall(b"LRANGE load 0 -1\r\n")
                text = b""
                with stream.makefile("rb") as lines:
                    head = lines.readline()
                    if not head.startswith(b"*"):
                        return None  # it loads
                    count = int(head[1:])
                    for _ in range(count):
                        lines.readline()
                        text += lines.readline()
            return [int(word) for word in text.split()]

        command = ["redis-server", "--port", "0", "--unixsocket", "/run/redis", *self.options.split()]
        with self.here(folder, command) as here:
            return here.until(answer)


INFLUX_CONF = """reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
  dir = "/data/meta"
[data]
  dir = "/data/data"
  wal-dir = "/data/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "0.0.0.0:%d"
  log-enabled = false
"""


class Influx(Other):
    version_by = ["influxd", "version"]
    guest_port = 8086
    FIRST = "load,of=rig n=-1i 1699999999000000000"

    def __init__(self, name, is_new):
        new = "the database just created" if is_new else "the database has a point that is on the disk"
        super().__init__(
            name,
            f"its defaults, which are its safest: wal-fsync-delay = 0s; {new};"
            " POST /write of what is due when the one before is answered",
        )
        self.is_new = is_new

    def start_line(self):
        conf = INFLUX_CONF % 8086
        make = "wget -q -O /dev/null --post-data 'q=CREATE DATABASE load' http://127.0.0.1:8086/query"
        first = f"wget -q -O /dev/null --post-data '{self.FIRST}' 'http://127.0.0.1:8086/write?db=load'"
        return (
            f"{write_line(conf, '/root/tmp/influx.conf')};"
            f" {CHROOT} influxd -config /tmp/influx.conf >/err 2>&1 & pid=$!;"
            f" (while ! {make}; do sleep 0.1; done; {'' if self.is_new else first + ';'} {SYNCED}) &"
        )

    def producer(self, machine, port, first, log_bytes):
        return load.Http(load.connect(port, time.monotonic() + 10), first, self.rate, log_bytes)

    def numbers(self, folder):
        port = guest.free_port()
        (self.root / "tmp/influx.conf").write_text(INFLUX_CONF % port)

        def answer():
            query = urllib.parse.urlencode({"db": "load", "q": "SELECT n FROM load"})
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/query?{query}", timeout=10) as done:
                found = json.load(done)["results"][0]
            if "database not found" not in found.get("error", "database not found"):
                return None
            return [n for _, n in found["series"][0]["values"] if n >= 0] if "series" in found else []

        with self.here(folder, ["influxd", "-config", "/tmp/influx.conf"]) as here:
            return here.until(answer)


class Mosquitto(Other):
    version_by = ["mosquitto", "-h"]
    guest_port = 1883

    def __init__(self, name, more):
        # Without this, all but 1000 messages are dropped by design.
        saves = more or "autosave_interval 1800, which is the default"
        super().__init__(
            name, f"persistence true, max_queued_messages 0, {saves}; QoS 1 to a lasting session that is away"
        )
        self.more = more

    def conf(self, port):
        lines = [
            f"listener {port}", "allow_anonymous true", "user root", "persistence true",
            "persistence_location /data/", "max_queued_messages 0", *filter(None, self.more.split(", ")),
        ]
        return "".join(f"{line}\n" for line in lines)

    def start_line(self):
        conf = write_line(self.conf(1883), "/root/tmp/conf")
        return f"{conf}; {CHROOT} mosquitto -c /tmp/conf >/err 2>&1 & pid=$!; {ready_at(1883)}"

    def prepare(self, machine, port):
        clients.subscribe(port)
        # SIGUSR1 has it save at once, so that the session is there after the cut.
        machine.tell("kill -USR1 $pid; sleep 1; sync; echo kept >&3")
        machine.hears("kept")

    def producer(self, machine, port, first, log_bytes):
        return clients.Mqtt(load.connect(port, time.monotonic() + 10), first, self.rate, log_bytes)

    def numbers(self, folder):
        port = guest.free_port()
        (self.root / "tmp/conf").write_text(self.conf(port))
        with self.here(folder, ["mosquitto", "-c", "/tmp/conf"]) as here:
            here.until(lambda: socket.create_connection(("127.0.0.1", port)).close() or True)
            return clients.queued(port)


RSYSLOG_CONF = """global(workDirectory="/data")
main_queue(queue.type="Direct")
module(load="imrelp")
input(type="imrelp" port="%d")
action(name="kept" %s queue.type="Disk" queue.filename="kept"%s)
"""
# Where the messages are to go cannot be reached: they are to be in the queue.
AWAY = (
    'type="omfwd" target="127.0.0.1" port="9" protocol="tcp"'
    ' action.resumeRetryCount="-1" action.resumeInterval="1"'
)
TO_FILE = 'type="omfile" file="/run/out"'


class Rsyslog(Other):
    """A message is acknowledged when it is in the disk queue of the action: nothing but that is between."""

    version_by = ["rsyslogd", "-v"]
    guest_port = 2514

    def __init__(self, name, more):
        super().__init__(
            name,
            'imrelp, main_queue(queue.type="Direct"), action(type="omfwd" action.resumeRetryCount="-1"'
            f' queue.type="Disk" queue.filename="kept"{more}), its target away',
        )
        self.more = more

    def conf(self, port, action):
        return RSYSLOG_CONF % (port, action, self.more)

    def start_line(self):
        conf = write_line(self.conf(2514, AWAY), "/root/tmp/conf")
        return f"{conf}; {CHROOT} rsyslogd -n -f /tmp/conf -i /run/pid >/err 2>&1 & pid=$!; {ready_at(2514)}"

    def producer(self, machine, port, first, log_bytes):
        return clients.Relp(load.connect(port, time.monotonic() + 10), first, self.rate, log_bytes)

    def numbers(self, folder):
        out, port = self.root / "run/out", guest.free_port()
        (self.root / "tmp/conf").write_text(self.conf(port, TO_FILE))

        with self.here(folder, ["rsyslogd", "-n", "-f", "/tmp/conf", "-i", "/run/pid"]) as here:
            here.until(lambda: socket.create_connection(("127.0.0.1", port)).close() or True)
            here.rests()
            return [int(n) for n in re.findall(r"n=(\d+)\n", out.read_text())] if out.exists() else []


def all_of(binary):
    """By name, in the order of the table."""
    safest = ' queue.syncqueuefiles="on" queue.checkpointInterval="1" queue.saveOnShutdown="on"'
    stories = {
        "seawall-auto": Seawall("seawall, defaults", binary, "tcp"),
        "seawall-full": Seawall("seawall, safest", binary, "tcp", ["--synchronous", "full"]),
        "seawall-http": Seawall("seawall, defaults, HTTP", binary, "http"),
        "seawall-unix": OverUnix("seawall, defaults, unix socket", binary, "tcp"),
        "seawall-soon": Seawall("seawall, --commit-interval 0", binary, "tcp", ["--commit-interval", "0"]),
        "python-normal": Logger("NORMAL"),
        "python-full": Logger("FULL"),
        "redis-everysec": RedisStory("everysec"),
        "redis-always": RedisStory("always"),
        "influxdb": Influx("InfluxDB 1", False),
        "influxdb-new": Influx("InfluxDB 1, a new database", True),
        "mosquitto": Mosquitto("mosquitto, defaults", ""),
        "mosquitto-safest": Mosquitto("mosquitto, safest", "autosave_on_changes true, autosave_interval 1"),
        "sqlite3": Shell("sqlite3 shell, defaults", ""),
        "sqlite3-safest": Shell("sqlite3 shell, safest", "PRAGMA synchronous=EXTRA;"),
        "rsyslog": Rsyslog("rsyslog's disk queue, defaults", ""),
        "rsyslog-safest": Rsyslog("rsyslog's disk queue, safest", safest),
    }
    for story in stories.values():
        story.is_started_once, story.acks_max = True, 150
    return stories

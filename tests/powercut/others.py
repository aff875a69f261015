"""What is used where seawall could be: each as its documentation has it for such data, at its defaults and at its safest setting.

They run in the guest from Debian's packages, and on what the cut left of their folder here, in a chroot of the same files.
"""

import json
import re
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.parse
import urllib.request

import clients
import guest
import load
from judge import Verdict
from seawall import Seawall, Story

PACKAGES = ["python3-minimal", "libpython3.11-stdlib", "sqlite3", "coreutils", "redis-server", "influxdb", "mosquitto", "rsyslog", "rsyslog-relp"]
CHROOT = "mount --bind /data /root/data; PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot /root"
STARTS_S = 30
# What the set-up made is on the disk before the load, as where a program has run for long.
SYNCED = "sync; echo ready >&3"


def ready_at(port):
    """A socket listens at the port of the guest."""
    return f"(while ! cat /proc/net/tcp /proc/net/tcp6 | grep -q ':{port:04X} 0*:0000 0A'; do sleep 0.05; done; {SYNCED}) &"


def write_line(text, path):
    """The guest takes one line at a time."""
    escaped = text.replace("\n", "\\n")
    return f"printf %b '{escaped}' >{path}"


class Other(Story):
    """A program of which the folder of data is /data."""

    needs_programs = True
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
        except TimeoutError as e:
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

    def __enter__(self):
        guest.run("mount", "--bind", self.folder, self.data)
        guest.run("mount", "-t", "tmpfs", "tmp", self.data.parent / "run")
        guest.run("mount", "--bind", "/dev", self.data.parent / "dev")
        self.process = subprocess.Popen([str(part) for part in self.command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        stdin=subprocess.DEVNULL)
        return self

    def until(self, look):
        """What `look` returns once it is something. A program that ends before that has not started by itself."""
        deadline = time.monotonic() + STARTS_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if (found := look()) is not None:
                    return found
            except OSError:
                pass
            time.sleep(0.01)
        self.process.kill()
        raise TimeoutError(f"{self.command[2]} did not start: {self.process.stderr.read()[-300:]}")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stderr.close()
        for name in "dev", "run", "data":
            guest.run("umount", self.data.parent / name)


class Logger(Other):
    """A logger in Python: acknowledges after its commit."""

    version_by = ["python3", "-c", "import sqlite3, sys; print('Python', sys.version.split()[0], 'SQLite', sqlite3.sqlite_version)"]

    def __init__(self, level):
        super().__init__(f"Python logger, {level}", f"journal_mode=WAL, synchronous={level}, a commit of what has come, then its ack")
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
        Other.__init__(self, name, f"{pragmas or 'no pragma: journal_mode=DELETE, synchronous=FULL'}; INSERT and SELECT for each reading")
        self.pragmas = pragmas

    def start_line(self):
        # The ack must not wait in a buffer of the shell.
        make = f"{self.pragmas} CREATE TABLE IF NOT EXISTS readings(id INTEGER PRIMARY KEY, n INTEGER);"
        return f'{CHROOT} stdbuf -oL sqlite3 -cmd "{make}" /data/x.db <&4 >&4 2>/err & pid=$!; sleep 1; {SYNCED}'

    def producer(self, machine, port, first, log_bytes):
        return clients.Sql(machine.data, first, self.rate, log_bytes)


class RedisStory(Other):
    version_by = ["redis-server", "--version"]
    guest_port = 6379

    def __init__(self, sync):
        super().__init__(f"Redis, appendfsync {sync}", f"--appendonly yes --appendfsync {sync}; RPUSH of each reading")
        self.options = f"--dir /data --appendonly yes --appendfsync {sync}"

    def start_line(self):
        return f"echo 1 >/proc/sys/vm/overcommit_memory; {CHROOT} redis-server --bind 0.0.0.0 --protected-mode no {self.options} >/err 2>&1 & pid=$!; {ready_at(6379)}"

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
        with self.here(folder, ["redis-server", "--port", "0", "--unixsocket", "/run/redis", *self.options.split()]) as here:
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

    def __init__(self):
        super().__init__("InfluxDB 1", "its defaults, which are its safest: wal-fsync-delay = 0s; POST /write of what is due when the one before is answered")

    def start_line(self):
        conf = INFLUX_CONF % 8086
        return (f"{write_line(conf, '/root/tmp/influx.conf')}; {CHROOT} influxd -config /tmp/influx.conf >/err 2>&1 & pid=$!;"
                " (while ! wget -q -O /dev/null --post-data 'q=CREATE DATABASE load' http://127.0.0.1:8086/query; do sleep 0.1; done;"
                f" {SYNCED}) &")

    def producer(self, machine, port, first, log_bytes):
        return load.Http(load.connect(port, time.monotonic() + 10), first, self.rate, log_bytes)

    def numbers(self, folder):
        port = guest.free_port()
        (self.root / "tmp/influx.conf").write_text(INFLUX_CONF % port)

        def answer():
            query = urllib.parse.urlencode({"db": "load", "q": "SELECT n FROM load"})
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/query?{query}", timeout=10) as done:
                found = json.load(done)["results"][0]
            return [n for _, n in found["series"][0]["values"]] if "series" in found else []
        with self.here(folder, ["influxd", "-config", "/tmp/influx.conf"]) as here:
            return here.until(answer)


class Mosquitto(Other):
    version_by = ["mosquitto", "-h"]
    guest_port = 1883

    def __init__(self, name, more):
        # Without this, all but 1000 messages are dropped by design.
        super().__init__(name, f"persistence true, max_queued_messages 0, {more or 'autosave_interval 1800, which is the default'};"
                               " QoS 1 to a lasting session that is away")
        self.more = more

    def conf(self, port):
        lines = [f"listener {port}", "allow_anonymous true", "user root", "persistence true", "persistence_location /data/", "max_queued_messages 0",
                 *filter(None, self.more.split(", "))]
        return "\n".join(lines) + "\n"

    def start_line(self):
        return f"{write_line(self.conf(1883), '/root/tmp/conf')}; {CHROOT} mosquitto -c /tmp/conf >/err 2>&1 & pid=$!; {ready_at(1883)}"

    def producer(self, machine, port, first, log_bytes):
        clients.subscribe(port)
        # SIGUSR1 has it save at once, so that the session is there after the cut.
        machine.tell("kill -USR1 $pid; sleep 1; sync; echo kept >&3")
        machine.hears("kept")
        return clients.Mqtt(load.connect(port, time.monotonic() + 10), first, self.rate, log_bytes)

    def numbers(self, folder):
        port = guest.free_port()
        (self.root / "tmp/conf").write_text(self.conf(port))
        with self.here(folder, ["mosquitto", "-c", "/tmp/conf"]) as here:
            stream = here.until(lambda: socket.create_connection(("127.0.0.1", port)))
            with stream:
                return clients.queued(stream, 0.5)


RSYSLOG_CONF = """global(workDirectory="/data")
main_queue(queue.type="%(type)s" queue.filename="main"%(more)s)
module(load="imrelp")
input(type="imrelp" port="%(port)d")
%(action)s
"""
# Where the messages are to go cannot be reached: they are to be in the queue.
AWAY = 'action(type="omfwd" target="127.0.0.1" port="9" protocol="tcp" action.resumeRetryCount="-1" action.resumeInterval="1")'


class Rsyslog(Other):
    version_by = ["rsyslogd", "-v"]
    guest_port = 2514

    def __init__(self, name, kind, more):
        super().__init__(name, f'imrelp, main_queue(queue.type="{kind}" queue.filename="main"{more}), the target away')
        self.kind, self.more = kind, more

    def conf(self, port, action):
        return RSYSLOG_CONF % {"type": self.kind, "more": self.more, "port": port, "action": action}

    def start_line(self):
        return (f"{write_line(self.conf(2514, AWAY), '/root/tmp/conf')}; {CHROOT} rsyslogd -n -f /tmp/conf -i /run/pid >/err 2>&1 & pid=$!;"
                f" {ready_at(2514)}")

    def producer(self, machine, port, first, log_bytes):
        return clients.Relp(load.connect(port, time.monotonic() + 10), first, self.rate, log_bytes)

    def numbers(self, folder):
        out = self.root / "run/out"
        action = 'action(type="omfile" file="/run/out")'
        (self.root / "tmp/conf").write_text(self.conf(guest.free_port(), action))
        found = []

        def has_all():
            """It has given what it has when nothing comes for a while."""
            now = re.findall(r"n=(\d+)", out.read_text()) if out.exists() else []
            found.append(len(now))
            return [int(n) for n in now] if len(found) > 50 and len(set(found[-50:])) == 1 else None
        with self.here(folder, ["rsyslogd", "-n", "-f", "/tmp/conf", "-i", "/run/pid"]) as here:
            return here.until(has_all)


def all_of(binary):
    """By name, in the order of the table."""
    safest = ' queue.syncqueuefiles="on" queue.checkpointInterval="1" queue.saveOnShutdown="on"'
    stories = {
        "seawall-auto": Seawall("seawall, defaults", binary, "tcp"),
        "seawall-full": Seawall("seawall, safest", binary, "tcp", ["--synchronous", "full"]),
        "seawall-http": Seawall("seawall, defaults, HTTP", binary, "http"),
        "seawall-soon": Seawall("seawall, --commit-interval 0", binary, "tcp", ["--commit-interval", "0"]),
        "python-normal": Logger("NORMAL"),
        "python-full": Logger("FULL"),
        "redis-everysec": RedisStory("everysec"),
        "redis-always": RedisStory("always"),
        "influxdb": Influx(),
        "mosquitto": Mosquitto("mosquitto, defaults", ""),
        "mosquitto-safest": Mosquitto("mosquitto, safest", "autosave_on_changes true, autosave_interval 1"),
        "sqlite3": Shell("sqlite3 shell, defaults", ""),
        "sqlite3-safest": Shell("sqlite3 shell, safest", "PRAGMA synchronous=EXTRA;"),
        "rsyslog": Rsyslog("rsyslog, disk queue", "Disk", ""),
        "rsyslog-safest": Rsyslog("rsyslog, disk queue, safest", "Disk", safest),
    }
    return stories

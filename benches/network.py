"""HTTP and single lines, beside InfluxDB 1.x with the same requests and a bare write and sync."""

import contextlib
import gzip
import os
import selectors
import shutil
import signal
import socket
import subprocess
import time

from programs import DATA, IMAGE, Running, cpu_s, has, lines, remove, seawall, status_of
from table import Column, Row, Table

COUNT = 500_000


class Influx:
    """A server with a folder of its own, as its documentation sets it up; nothing is logged or monitored."""

    def __init__(self):
        has("influxd")
        self.folder = f"{DATA}/influxdb"
        shutil.rmtree(self.folder, ignore_errors=True)
        os.mkdir(self.folder)
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
            self.http, rpc = (found.getsockname()[1] for found in sockets)
        with open(f"{self.folder}/conf", "w") as file:
            file.write(
                f'reporting-disabled = true\nbind-address = "127.0.0.1:{rpc}"\n[meta]\ndir = "{self.folder}/meta"\n'
                f'[data]\ndir = "{self.folder}/data"\nwal-dir = "{self.folder}/wal"\n[monitor]\nstore-enabled = false\n'
                f'[http]\nbind-address = "127.0.0.1:{self.http}"\nlog-enabled = false\n'
            )
        command = ["influxd", "run", "-config", f"{self.folder}/conf"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = self.process.pid
        for _ in range(3000):
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.http)) as s:
                s.sendall(b"POST /query?q=CREATE%20DATABASE%20bench HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
                assert b" 200 " in s.recv(1000)
                return
            time.sleep(0.02)
        raise RuntimeError("influxd does not listen")

    def port(self):
        return self.http

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


class Seawall(Running):
    def __init__(self):
        self.db = f"{DATA}/http.db"
        remove(self.db)
        super().__init__(seawall(IMAGE, "record", "--db", self.db, "--source", "http:0"))


def request(body, headers=""):
    head = f"POST /write?db=bench&precision=ns HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def requests(size, packed):
    with open(lines(COUNT), "rb") as file:
        all_lines = file.readlines()
    bodies = [b"".join(all_lines[at : at + size]) for at in range(0, COUNT, size)]
    if packed:
        return [request(gzip.compress(body, 6), "Content-Encoding: gzip\r\n") for body in bodies]
    return [request(body) for body in bodies]


def send(port, clients, pending):
    """Each client waits for its 204, and then takes the next request."""
    pending, answers = list(reversed(pending)), {}
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for _ in range(min(clients, len(pending))):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.sendall(pending.pop())
            selector.register(client, selectors.EVENT_READ)
            answers[client] = b""
        while answers:
            for key, _ in selector.select():
                client = key.fileobj
                answers[client] += client.recv(4096)
                if not answers[client].endswith(b"\r\n\r\n"):
                    continue
                assert answers[client].startswith(b"HTTP/1.1 204 "), answers[client]
                if pending:
                    answers[client] = b""
                    client.sendall(pending.pop())
                else:
                    selector.unregister(client)
                    del answers[client]


def served(server, clients, size, packed=False):
    """The server runs and is idle before; what it takes is counted from the first request to the last 204."""

    def measure():
        prepared = requests(size, packed)
        running = server()
        try:
            start, before = time.perf_counter(), cpu_s(running.pid)
            send(running.port(), clients, prepared)
            took, cpu = time.perf_counter() - start, cpu_s(running.pid) - before
            mib = status_of(running.pid, "VmHWM") / 1024
        finally:
            running.stop()
        return {"rate": COUNT / took, "cpu": cpu / COUNT * 1e9, "mib": mib}

    return measure


def http_rows():
    shapes = [
        ("1 client, 5000 lines", 1, 5000, False),
        ("the same as gzip", 1, 5000, True),
        ("4 clients, 5000 lines", 4, 5000, False),
        ("100 clients, 64 lines", 100, 64, False),
    ]
    for name, *shape in shapes:
        yield Row(f"InfluxDB 1.x, {name}", served(Influx, *shape), name, True)
        yield Row(f"seawall, {name}", served(Seawall, *shape), name)


HTTP = Table(
    "http",
    [Column("lines/s", "rate", has_spread=True, best=max), Column("CPU ns each", "cpu"), Column("MiB", "mib")],
    list(http_rows()),
    about=f"""{COUNT:,} lines in requests that are each awaited, to a server that runs; the client has a part of the processor from both;
InfluxDB with its defaults: each write is synced before its 204, as it is by seawall; the image's program""",
    heading="over HTTP",
)


def synced():
    fd = os.open(f"{DATA}/pages", os.O_CREAT | os.O_WRONLY)
    while True:
        start = time.perf_counter()
        os.write(fd, b"7" * 4096)
        os.fdatasync(fd)
        yield {"ms": (time.perf_counter() - start) * 1e3}


LINE = b"weather,station=s1 temperature_c=21.5\n"


def answered(server, text, answer):
    def measure():
        running = server()
        try:
            with socket.create_connection(("127.0.0.1", running.port())) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while True:
                    start = time.perf_counter()
                    client.sendall(text)
                    got = client.recv(4096)
                    ms = (time.perf_counter() - start) * 1e3
                    assert got.startswith(answer), got
                    yield {"ms": ms}
        finally:
            running.stop()

    return measure


def streaming():
    return Running(seawall(IMAGE, "record", "--db", f"{DATA}/tcp.db", "--source", "tcp:0", "--commit-interval", "0"))


LATENCY = Table(
    "latency",
    [Column("ms, p50", "ms", has_spread=True), Column("ms, p99", "ms", 99)],
    [
        Row("write and fdatasync of 4 KiB", synced, "line", True),
        Row("InfluxDB 1.x, to its 204", answered(Influx, request(LINE), b"HTTP/1.1 204 "), "line"),
        Row("seawall, http: to its 204", answered(Seawall, request(LINE), b"HTTP/1.1 204 "), "line"),
        Row("seawall, tcp: to its ack, --commit-interval 0", answered(streaming, LINE, b"ack "), "line"),
    ],
    rounds=500,
    about="one after another, while nothing else comes; the image's program",
    heading="one line",
)

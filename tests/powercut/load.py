"""Producers outside the guest: what was acknowledged is known here and nowhere else.

Readings are numbered. A producer sends from `first` on, and notes for each ack when it came and how long the log of the disk was by then:
a state of the disk at that place of the log, or a later one, has to have the reading.
"""

import select
import socket
import time


class Producer:
    """Sends `rate` readings a second as they fall due, without waiting for acks unless the protocol has to."""

    def __init__(self, stream, first, rate, log_bytes):
        self.stream, self.first, self.next, self.rate, self.log_bytes = stream, first, first, rate, log_bytes
        self.sent_at = []          # by number, from `first`
        self.acked = first         # all numbers below are acknowledged
        self.acks = []             # (acked, bytes of the log)
        self.times = []            # seconds from sending to ack
        self.begun = time.monotonic()
        self.out, self.received = bytearray(), b""
        stream.setblocking(False)

    def due(self, now):
        return max(0, int((now - self.begun) * self.rate) - (self.next - self.first))

    def take(self, number):
        """So many readings are sent now; their numbers."""
        numbers = range(self.next, self.next + number)
        self.sent_at += [time.monotonic()] * number
        self.next += number
        return numbers

    def is_acked_below(self, number):
        if number > self.acked:
            now = time.monotonic()
            self.times += [now - at for at in self.sent_at[self.acked - self.first:number - self.first]]
            self.acked = number
            self.acks.append((number, self.log_bytes()))

    def turn(self, seconds):
        """Sends what is due and hears what has come."""
        numbers = self.take(min(self.due(time.monotonic()), self.room()))
        if numbers:
            self.out += self.message(numbers)
        readable, writable, _ = select.select([self.stream], [self.stream] if self.out else [], [], seconds)
        try:
            if writable:
                del self.out[:self.stream.send(self.out)]
            if readable:
                part = self.stream.recv(65536)
                if not part:
                    raise ConnectionError("closed")
                self.received = self.hear(self.received + part)
        except BlockingIOError:
            pass

    def room(self):
        return 1000 if len(self.out) < 65536 else 0

    def required(self, log_bytes):
        """All numbers below are acknowledged, where the disk is at that place of its log."""
        return max((acked for acked, at in self.acks if at <= log_bytes), default=self.first)


class Lines(Producer):
    """Line protocol to a stream that answers `ack N`: stdin with --ack, or a socket."""

    def __init__(self, *rest, client=None):
        super().__init__(*rest)
        self.offset = self.first
        if client:
            self.offset, self.first, self.next, self.acked = None, 0, 0, 0
            self.out += f"# client {client}\n".encode()

    def room(self):
        return 0 if self.offset is None else super().room()

    def message(self, numbers):
        return b"".join(b"load,of=rig n=%di\n" % n for n in numbers)

    def hear(self, text):
        *lines, rest = text.split(b"\n")
        for line in lines:
            word, _, number = line.partition(b" ")
            if word == b"resume":
                # A named client goes on where it is settled. Acks count the connection's lines, and the name is the first.
                self.first = self.acked = self.next = int(number)
                self.offset = self.next - 1
                self.begun = time.monotonic()
            elif word == b"ack":
                self.is_acked_below(self.offset + int(number))
            else:
                raise RuntimeError(f"answered {line}")
        return rest


class Http(Producer):
    """One request after another over one connection, each with what is due by then."""

    def __init__(self, *rest, path="/write?db=load", most=200):
        super().__init__(*rest)
        self.path, self.most, self.waits_for = path, most, None

    def room(self):
        return self.most if self.waits_for is None else 0

    def message(self, numbers):
        body = b"".join(b"load,of=rig n=%di %d\n" % (n, 1700000000000000000 + n * 1000000) for n in numbers)
        self.waits_for = numbers[-1] + 1
        return f"POST {self.path} HTTP/1.1\r\nHost: guest\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def hear(self, text):
        head, end, rest = text.partition(b"\r\n\r\n")
        if not end:
            return text
        if b" 204 " not in head.split(b"\r\n")[0]:
            raise ConnectionError(f"answered {text}")
        self.is_acked_below(self.waits_for)
        self.waits_for = None
        return rest


def connect(port, deadline):
    """qemu takes the connection at once and closes it where the guest does not listen yet."""
    while time.monotonic() < deadline:
        stream = socket.create_connection(("127.0.0.1", port))
        readable, _, _ = select.select([stream], [], [], 0.05)
        if not readable:
            return stream
        stream.close()
    raise RuntimeError(f"nothing listens at port {port} of the guest")

"""Producers for what seawall is put beside, each by its own protocol.

None waits for an ack unless the protocol has to.
"""

import socket
import struct

from load import Producer


class Redis(Producer):
    """RPUSH for each reading; its answer is the ack."""

    def message(self, numbers):
        return b"".join(b"*3\r\n$5\r\nRPUSH\r\n$4\r\nload\r\n$%d\r\n%d\r\n" % (len(str(n)), n) for n in numbers)

    def hear(self, text):
        *lines, rest = text.split(b"\r\n")
        for line in lines:
            if not line.startswith(b":"):
                raise ConnectionError(f"answered {line}")
        self.is_acked_below(self.acked + len(lines))
        return rest


class Sql(Producer):
    """A statement for each reading to sqlite3's shell, and one behind it of which the answer is the ack."""

    def message(self, numbers):
        return b"".join(b"INSERT INTO readings(n) VALUES(%d); SELECT 'ack', %d;\n" % (n, n) for n in numbers)

    def hear(self, text):
        *lines, rest = text.split(b"\n")
        for line in lines:
            word, _, number = line.partition(b"|")
            if word != b"ack":
                raise ConnectionError(f"answered {line}")
            self.is_acked_below(int(number) + 1)
        return rest


def text_of(name):
    return struct.pack(">H", len(name)) + name


def packet(kind, body):
    length, rest = b"", len(body)
    while True:
        rest, part = rest >> 7, rest & 127
        length += bytes([part | (128 if rest else 0)])
        if not rest:
            return bytes([kind]) + length + body


def packets(text):
    """Whole packets of MQTT as (kind, body), and the rest."""
    found = []
    while len(text) >= 2:
        length, at = 0, 1
        while True:
            if at >= len(text):
                return found, text
            length |= (text[at] & 127) << (7 * (at - 1))
            at += 1
            if text[at - 1] < 128:
                break
        if len(text) < at + length:
            break
        found.append((text[0], text[at:at + length]))
        text = text[at + length:]
    return found, text


def mqtt_connect(name, clean):
    return packet(0x10, text_of(b"MQTT") + bytes([4, 2 if clean else 0]) + struct.pack(">H", 0) + text_of(name))


def exchange(stream, out, kind):
    """Sends, and waits for a packet of a kind."""
    stream.sendall(out)
    text = b""
    while True:
        found, text = packets(text + stream.recv(4096))
        for each, body in found:
            if each & 0xF0 == kind:
                return body


class Mqtt(Producer):
    """QoS 1 to a topic that a session which is away has subscribed to; PUBACK is the ack."""

    def __init__(self, stream, *rest):
        exchange(stream, mqtt_connect(b"rig", True), 0x20)
        super().__init__(stream, *rest)

    def message(self, numbers):
        return b"".join(packet(0x32, text_of(b"load") + struct.pack(">H", n % 65535 + 1) + b"%d" % n) for n in numbers)

    def hear(self, text):
        found, rest = packets(text)
        for kind, body in found:
            if kind != 0x40 or struct.unpack(">H", body)[0] != self.acked % 65535 + 1:
                raise ConnectionError(f"answered {kind} {body}")
            self.is_acked_below(self.acked + 1)
        return rest


def subscribe(port):
    """A session that stays when its client goes."""
    with socket.create_connection(("127.0.0.1", port), 10) as stream:
        exchange(stream, mqtt_connect(b"reader", False), 0x20)
        exchange(stream, packet(0x82, struct.pack(">H", 1) + text_of(b"load") + b"\x01"), 0x90)
        stream.sendall(packet(0xE0, b""))


LAST = -1


def queued(port):
    """What a broker has kept for that session, in its order, up to what is published now."""
    with socket.create_connection(("127.0.0.1", port), 10) as other:
        exchange(other, mqtt_connect(b"last", True), 0x20)
        exchange(other, packet(0x32, text_of(b"load") + struct.pack(">H", 1) + b"%d" % LAST), 0x40)
    numbers, text = [], b""
    with socket.create_connection(("127.0.0.1", port), 10) as stream:
        stream.sendall(mqtt_connect(b"reader", False))
        while part := stream.recv(65536):
            found, text = packets(text + part)
            for kind, body in found:
                if kind == 0x20 and not body[0] & 1:
                    return []  # the session is not there
                if kind & 0xF0 != 0x30:
                    continue
                at = 2 + struct.unpack(">H", body[:2])[0]
                stream.sendall(packet(0x40, body[at:at + 2]))
                if (number := int(body[at + 2:])) == LAST:
                    return numbers
                # One that is sent again is no reading more.
                numbers += [number] if number not in numbers[-100:] else []
    raise ConnectionError("the broker closed before the last message")


class Relp(Producer):
    """rsyslog's own reliable protocol: its answer says that the message is in the queue."""

    WINDOW = 100

    def __init__(self, *rest):
        super().__init__(*rest)
        offer = b"relp_version=0\nrelp_software=rig,1,rig\ncommands=syslog"
        self.out += b"1 open %d %s\n" % (len(offer), offer)
        self.is_open = False

    def room(self):
        return max(0, self.WINDOW - (self.next - self.acked)) if self.is_open else 0

    def message(self, numbers):
        lines = ((n - self.first + 2, b"<14>Nov 28 00:00:00 rig load: n=%d" % n) for n in numbers)
        return b"".join(b"%d syslog %d %s\n" % (each, len(line), line) for each, line in lines)

    def hear(self, text):
        while len(parts := text.split(b" ", 3)) == 4 or (len(parts) == 3 and parts[2].endswith(b"\n")):
            number, word, length = int(parts[0]), parts[1], int(parts[2].split(b"\n")[0])
            head = len(parts[0]) + len(word) + len(parts[2].split(b"\n")[0]) + 2
            end = head + (1 + length if length else 0) + 1
            if len(text) < end:
                break
            body, text = text[head + 1:end - 1], text[end:]
            if word != b"rsp" or not body.startswith(b"200"):
                raise ConnectionError(f"answered {word} {body}")
            if self.is_open:
                self.is_acked_below(self.first + number - 1)
            self.is_open = True
        return text

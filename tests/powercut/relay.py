"""Passes each connection at a port of the guest to a unix socket: from outside, only ports can be reached."""

import select
import socket
import sys
import time
from pathlib import Path

port, path = int(sys.argv[1]), sys.argv[2]
while not Path(path).exists():
    time.sleep(0.05)
listener = socket.create_server(("", port))
while True:
    one, _ = listener.accept()
    other = socket.socket(socket.AF_UNIX)
    other.connect(path)
    to = {one: other, other: one}
    with one, other:
        is_open = True
        while is_open:
            readable, _, _ = select.select([one, other], [], [])
            for each in readable:
                part = each.recv(65536)
                to[each].sendall(part)
                is_open = is_open and bool(part)

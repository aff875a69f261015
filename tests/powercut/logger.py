"""The kind of logger that seawall replaces: reads lines, commits what has come to SQLite in WAL mode, and then acknowledges it."""

import os
import sqlite3
import sys

db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA journal_mode=WAL")
db.execute(f"PRAGMA synchronous={sys.argv[2]}")
db.execute("CREATE TABLE IF NOT EXISTS readings(id INTEGER PRIMARY KEY, n INTEGER)")
db.commit()
print("ready", file=sys.stderr, flush=True)
rest, count = b"", 0
while part := os.read(0, 65536):
    *lines, rest = (rest + part).split(b"\n")
    if lines:
        db.executemany("INSERT INTO readings(n) VALUES(?)", [(int(line.rpartition(b"=")[2].rstrip(b"i")),) for line in lines])
        db.commit()
        count += len(lines)
        os.write(1, b"ack %d\n" % count)

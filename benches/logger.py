"""The kind of program that seawall replaces, as the documentation of Python's sqlite3 would have it fast: WAL, NORMAL,
one executemany and one commit for each batch.

    logger.py DB COUNT ROWS_PER_COMMIT [ROWS_PER_SECOND]     COUNT 0 goes on until SIGTERM
"""

import signal
import sqlite3
import sys
import time

path, (count, batch) = sys.argv[1], map(int, sys.argv[2:4])
pace = batch / float(sys.argv[4]) if len(sys.argv) > 4 else 0
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
db = sqlite3.connect(path)
db.execute("PRAGMA journal_mode=WAL")
db.execute("PRAGMA synchronous=NORMAL")
db.execute("CREATE TABLE readings(id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, series INTEGER NOT NULL, value NOT NULL)")
print("event=ready ", file=sys.stderr, flush=True)
start = time.monotonic()
n = 0
try:
    while count == 0 or n < count:
        rows = [(1_700_000_000_000_000_000 + m * 1_000_000, m % 8 + 1, 18 + m % 1000 / 100) for m in range(n, n + batch)]
        db.executemany("INSERT INTO readings(time_ns, series, value) VALUES(?, ?, ?)", rows)
        db.commit()
        n += batch
        if pace:
            time.sleep(max(0, start + n / batch * pace - time.monotonic()))
finally:
    db.close()

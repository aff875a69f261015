"""Starts, and what it costs to look at readings: on small files and large ones, and as files and names grow."""

import os
import shutil
import sqlite3
import subprocess
import time

from programs import DATA, IMAGE, Running, compiled, has, lines, loop, record_lines, remove, run, seawall
from recording import ABOUT_LOOP
from table import Column, Row, Skip, Table, percentile

STEP_NS = 1_000_000_000 // 8
GIB = 1 << 30


def need_room(size):
    free = shutil.disk_usage(DATA).free
    if free < size:
        raise Skip(f"{free / 1e9:.1f} GB are free and {size / 1e9:.1f} are needed")


def fill(db, count, series=8, step_ns=STEP_NS):
    """Records lines of eight sensors that end now, each once a second, as long as nothing else is said."""
    first = time.time_ns() - count * step_ns
    made = subprocess.Popen([compiled("lines"), *map(str, (count, series, first, step_ns))], stdout=subprocess.PIPE)
    took = run(record_lines(IMAGE, db), pipe=made.stdout)
    made.stdout.close()
    assert made.wait() == 0
    return took


def recording(db):
    return Running(seawall(IMAGE, "record", "--db", db, "--source", "stdin"), stdin=subprocess.PIPE)


def evict(path):
    """Lets the kernel forget what it has of a file in memory."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def starts(make, command, is_cold):
    def measure():
        db = f"{DATA}/start-{make.__name__}.db"
        if not os.path.exists(db):
            make(db)
        if is_cold:
            evict(db)
        running = command(db)
        running.stop() if command is recording else running.process.wait()
        return {"ms": running.ready_ms}

    return measure


def open_by_loop(db):
    return Running(loop(db, -1))


def small(db):
    fill(db, 5000)


def small_by_loop(db):
    run(loop(db, 5000))


def large(db):
    """The start reads the last few thousand readings; these are as usual. The others are long texts."""
    if not is_large:
        raise Skip("only with --large")
    need_room(12 * GIB)
    command = record_lines(IMAGE, db)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        text = "x" * 60_000
        for n in range(10_000_000_000 // 60_000):
            child.stdin.write(f'log text="{text}" {n + 1}\n'.encode())
        child.stdin.close()
    assert child.returncode == 0
    fill(db, 5000)


is_large = False


def killed(db):
    """A -wal of 64 MiB that nothing has copied, as a kill leaves it."""
    options = "--source", "sim:rate=max", "--checkpoint-interval", 0, "--wal-autocheckpoint", 0
    recorder = Running(seawall(IMAGE, "record", "--db", db, *options))
    while os.stat(f"{db}-wal").st_size < 64 << 20:
        time.sleep(0.001)
    recorder.kill()


def after_kill(command, name):
    def measure():
        db = f"{DATA}/{name}.db"
        killed(db)
        running = command(db)
        running.kill()
        remove(db)
        return {"ms": running.ready_ms}

    return measure


def start_rows():
    for where, is_cold in ("cached", False), ("not cached", True):
        yield Row(f"loop, 5000 readings, {where}", starts(small_by_loop, open_by_loop, is_cold), where, True)
        yield Row(f"seawall, 5000 readings, {where}", starts(small, recording, is_cold), where)
        yield Row(f"seawall, 10 GB, {where}", starts(large, recording, is_cold), where)
    yield Row("loop, killed with 64 MiB of -wal", after_kill(open_by_loop, "killed-loop"), "killed", True)
    yield Row("seawall, killed with 64 MiB of -wal", after_kill(recording, "killed"), "killed")


START = Table(
    "start",
    [Column("ms, p50", "ms", has_spread=True), Column("ms, most", "ms", 100)],
    list(start_rows()),
    rounds=20,
    about=f"the image's program; the loop opens, sets its pragmas and looks for the last id\n{ABOUT_LOOP}",
    heading="exec to ready",
)

COUNT = 10_000_000
HOUR_NS = 3600 * 1_000_000_000


def looked_at(make):
    """What `make` gives for a file of 10 million readings, the same for all, as whole processes."""

    def measure():
        need_room(3 * GIB)
        db = f"{DATA}/looking.db"
        if not os.path.exists(db):
            fill(db, COUNT)
            # The same readings as a user would keep them to look by time.
            bare = sqlite3.connect(f"{DATA}/indexed.db")
            bare.executescript(
                f"ATTACH 'file:{db}?mode=ro' AS s; PRAGMA journal_mode=OFF;"
                "CREATE TABLE readings(id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, series INTEGER NOT NULL, value NOT NULL);"
                f"INSERT INTO readings SELECT id, time_ns, series, value FROM s.readings;"
                "CREATE INDEX by_time ON readings(series, time_ns);"
            )
            bare.close()
        command = make(db)
        # The first has the file cached for the second.
        run(command)
        return {"ms": run(command)["s"] * 1e3}

    return measure


def by_sqlite(sql, name="looking", *options):
    def command(_):
        has("sqlite3")
        return ["sqlite3", *options, f"{DATA}/{name}.db", sql]

    return command


def by_seawall(*arguments):
    return lambda db: seawall(IMAGE, *arguments, "--db", db)


SINCE = "(strftime('%s', 'now') - 3600) * 1000000000"
SPANS = f"""SELECT r.time_ns, r.value FROM spans_to_now AS s CROSS JOIN readings AS r ON r.id BETWEEN s.first_id AND s.last_id
    WHERE s.newest_ns >= {SINCE} AND r.time_ns >= {SINCE} AND r.series = 2"""
GROUPED = "SELECT series, count(*), max(time_ns), min(value), avg(value), max(value) FROM readings GROUP BY series"

LOOKING = Table(
    "looking",
    [Column("ms", "ms", has_spread=True)],
    [
        Row("sqlite3: last hour of a sensor, by an index", looked_at(by_sqlite(f"SELECT time_ns, value FROM readings WHERE series = 2 AND time_ns >= {SINCE}", "indexed")), "hour", True),
        Row("sqlite3: last hour of a sensor, by spans", looked_at(by_sqlite(SPANS)), "hour"),
        Row("seawall export --since 1h of a sensor", looked_at(by_seawall("export", "--since", "1h", "--sensor", "*s1")), "hour"),
        Row("sqlite3: least, mean, most of each sensor", looked_at(by_sqlite(GROUPED)), "all", True),
        Row("seawall show --since none", looked_at(by_seawall("show", "--since", "none")), "all"),
        Row("sqlite3 -csv, the table of 2 million", looked_at(by_sqlite("SELECT * FROM readings LIMIT 2000000", "looking", "-csv")), "csv", True),
        Row("sqlite3 -csv, names and times of 2 million", looked_at(by_sqlite("SELECT * FROM sensor_readings LIMIT 2000000", "looking", "-csv")), "csv"),
        Row("seawall export --limit 2000000", looked_at(by_seawall("export", "--limit", 2_000_000)), "csv"),
    ],
    about="whole processes, the file cached, the image's program; the index takes as much room as the readings",
    heading="of 10 million readings",
)


def costs(db, append):
    """What a file costs that is there: its start, and what looks at it; the middle of three where that is quick."""

    def timed(*arguments):
        first = run(seawall(IMAGE, *arguments, "--db", db))
        more = [run(seawall(IMAGE, *arguments, "--db", db)) for _ in range(2 if first["s"] < 2 else 0)]
        return percentile([took["s"] * 1e3 for took in [first, *more]], 50), first["mib"]

    size = os.stat(db).st_size
    readings = last_id(db)
    ready = []
    for _ in range(3):
        recorder = recording(db)
        ready.append(recorder.ready_ms)
        recorder.stop()
    check, check_mib = timed("check")
    found = {
        "bytes": size / readings,
        "start": percentile(ready, 50),
        "check": check,
        "check_mib": check_mib,
        "show": timed("show")[0],
        "export": timed("export", "--since", "1h")[0],
    }
    took = run(record_lines(IMAGE, db), append)
    return {**found, "mib": took["mib"], "rate": MORE / took["s"]}


def last_id(db):
    connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True)
    found = connection.execute("SELECT max(id) FROM readings").fetchone()[0]
    connection.close()
    return found


MORE = 1_000_000
COSTS = [
    Column("adds/s", "rate", has_ratio=False),
    Column("MiB", "mib", has_ratio=False),
    Column("start ms", "start", has_ratio=False),
    Column("check ms", "check", has_ratio=False),
    Column("MiB", "check_mib", has_ratio=False),
    Column("show ms", "show", has_ratio=False),
    Column("export ms", "export", has_ratio=False),
    Column("bytes each", "bytes", has_ratio=False),
]


def of_readings(count):
    def measure():
        if count > 10_000_000 and not is_large:
            raise Skip("only with --large")
        need_room(count * 80 + GIB)
        db = f"{DATA}/growth.db"
        remove(db)
        fill(db, count)
        found = costs(db, lines(MORE))
        remove(db)
        run(loop(db, count))
        found["loop"] = MORE / run(loop(db, MORE))["s"]
        remove(db)
        return found

    return measure


def of_series(series):
    """All in a few hours, so that the last hour has a third of them."""

    def measure():
        need_room(3 * GIB)
        db = f"{DATA}/growth.db"
        remove(db)
        took = fill(db, MORE, series, 10_000_000)
        drawn = lines(MORE, series, order="random")
        found = {**costs(db, lines(MORE, series)), "new": MORE / took["s"], "new_mib": took["mib"]}
        found["random"] = MORE / run(record_lines(IMAGE, db), drawn)["s"]
        remove(db)
        return found

    return measure


ABOUT_COSTS = """\
adds/s, MiB: a million more lines on stdin, whole process; check, show (--since 1h), export (--since 1h): whole processes,
the file cached; the image's program; MiB resident at most, of the recorder and of check"""
GROWTH = Table(
    "growth",
    [COSTS[0], Column("loop's", "loop", has_ratio=False), *COSTS[1:]],
    [Row(f"{count:,} readings", of_readings(count)) for count in (10**4, 10**5, 10**6, 10**7, 10**8)],
    rounds=1,
    about=f"eight sensors, each once a second, to now; loop's: the loop with as many rows, pages of 1024\n{ABOUT_COSTS}\n{ABOUT_LOOP}",
    heading="in a file of",
)
SERIES = Table(
    "series",
    [
        *(Column("new/s", "new", has_ratio=False), Column("MiB", "new_mib", has_ratio=False)),
        *(Column("random/s", "random", has_ratio=False), *COSTS),
    ],
    [Row(f"{count:,} series", of_series(count)) for count in (10, 1000, 10**5, 10**6)],
    rounds=1,
    about=f"""a million readings of climate,site=plant-7,building=b00,room=r000,sensor=bme280-000000 temperature_c, in turn
new/s, MiB: while these were recorded first, with their names new; random/s: as adds/s, the series drawn\n{ABOUT_COSTS}""",
    heading="of a million readings, in",
)

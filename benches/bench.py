"""`just bench`: what seawall does and what it takes, beside yardsticks that anybody can check.

Rows are measured in turn, or side by side where they are counted and not timed, because the machine may be shared.
Each table goes into docs/figures.md as soon as it is measured. Nothing here is held to a limit.

    bench.py [--large] [--rounds=N] [PART...]    only these tables; fewer rounds to see that it works
    bench.py --rows                              the names of the parts, their headings and their rows, for tests/figures.rs
"""

import datetime
import os
import platform
import shutil
import signal
import sys
import time

import flash
import looking
import network
import recording
import running
from programs import DATA, RECOMMENDED, ROOT, compiled, interrupted, said
from table import put

looking.is_large = "--large" in sys.argv
TABLES = [
    *(recording.THROUGHPUT, recording.STOPS, recording.DOCKER, looking.START, looking.LOOKING, looking.GROWTH, looking.SERIES),
    *(network.HTTP, network.LATENCY, running.RESOURCES, running.SAMPLING, flash.FLASH),
]


def machine():
    with open("/proc/cpuinfo") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")] or [platform.machine()]
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores of {models[0]}, Linux {platform.release()}, load {load:.2f} before"


def say(what):
    """What goes on, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r{what}\033[K", end="\r", file=sys.stderr, flush=True)


def clear():
    shutil.rmtree(DATA, ignore_errors=True)
    os.makedirs(DATA)


def main():
    if "--rows" in sys.argv:
        for table in TABLES:
            for name in [table.heading, *(row.name for row in table.rows)]:
                print(f"{table.name}\t{name}")
        return
    asked = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    unknown = set(asked) - {table.name for table in TABLES}
    if unknown:
        sys.exit(f"bench.py: no part is called {', '.join(unknown)}: {', '.join(table.name for table in TABLES)}")
    # So that a stop ends what was started, and unmounts what was mounted.
    signal.signal(signal.SIGTERM, lambda *_: (interrupted.set(), sys.exit(1)))
    for arguments in ("run",), ("lines",), ("loop", RECOMMENDED):
        compiled(*arguments)
    commit = said("git", "describe", "--always", "--dirty", "--abbrev=12", cwd=ROOT)
    homeless = []
    for table in TABLES:
        if asked and table.name not in asked:
            continue
        table.rounds = next((int(a[9:]) for a in sys.argv if a.startswith("--rounds=")), table.rounds)
        clear()
        stamp, start = f"{table.rounds} rounds, {commit}, {datetime.date.today()}, {machine()}", time.monotonic()
        text = table.measure(say)
        print(f"{text}\n{stamp}", flush=True)
        print(f"({time.monotonic() - start:.0f} s)\n", flush=True)
        if not put(f"{ROOT}/docs/figures.md", table.name, f"{text}\n{stamp}"):
            homeless.append(table.name)
    clear()
    if homeless:
        sys.exit(f"bench.py: docs/figures.md has no marker for {', '.join(homeless)}")


main()

"""`just bench --quick`: instructions for each reading, against the numbers in benches/expected.txt.

Counts what the binary of the image executes (valgrind's callgrind), which does not depend on how busy the
machine is. Each figure is the difference between a longer and a shorter run, so that the start and the stop
are not in it. Fails when a figure is more than 10 % above what is expected. One that has become better by
more than that is told: then benches/expected.txt wants its new number.
"""

import os
import subprocess
import sys
import tempfile

BINARY, EXPECTED = sys.argv[1:3]
SHORT, LONG = 10_000, 30_000
TOLERANCE = 0.10


def lines(count):
    return "".join(
        f"weather,station=s{n % 8} temperature_c={18 + n * 7919 % 800 / 100:.2f} {1700000000000000000 + n * 1000000}\n"
        for n in range(count)
    ).encode()


def instructions(arguments, stdin=b""):
    with tempfile.NamedTemporaryFile() as out:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", BINARY, *arguments],
            input=stdin,
            capture_output=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("SEAWALL_")},
        )
        if done.returncode != 0:
            sys.exit(f"quick.py: {arguments}: {done.stderr.decode()}")
        text = open(out.name).read()
    total = next(line for line in text.splitlines() if line.startswith(("totals:", "summary:")))
    return int(total.split()[1])


def figures():
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(BINARY))) as folder:

        def each(name, arguments, stdin=lambda count: b""):
            found = []
            for count in (SHORT, LONG):
                db = f"{folder}/{name.replace(' ', '-')}-{count}.db"
                found.append(instructions([*arguments(count), "--db", db], stdin(count)))
            return name, (found[1] - found[0]) / (LONG - SHORT)

        quiet = ["--log-level", "warn"]
        yield each("line on stdin", lambda n: ["record", "--source", "stdin", *quiet], lines)
        yield each("line on stdin, acknowledged", lambda n: ["record", "--source", "stdin", "--ack", *quiet], lines)
        yield each("sample of sim", lambda n: ["record", "--source", f"sim:rate=max,seed=1,count={n}", *quiet])

        def audited(n):
            # What the first figure has recorded.
            return ["check"]

        found = []
        for count in (SHORT, LONG):
            found.append(instructions([*audited(count), "--db", f"{folder}/line-on-stdin-{count}.db"]))
        yield "reading in check", (found[1] - found[0]) / (LONG - SHORT)


def main():
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.strip()
    expected, made_by = {}, ""
    if os.path.exists(EXPECTED):
        for line in open(EXPECTED):
            name, _, number = line.strip().rpartition("  ")
            if line.startswith("# with "):
                made_by = line[len("# with ") :].strip()
            elif name and not line.startswith("#"):
                expected[name.strip()] = float(number)
    print(f"{'instructions for each':<32} {'now':>8} {'expected':>9} {'ratio':>6}")
    worse = []
    for name, now in figures():
        wanted = expected.get(name)
        if wanted is None:
            print(f"{name:<32} {now:>8.0f} {'none':>9}")
            worse.append(name)
            continue
        print(f"{name:<32} {now:>8.0f} {wanted:>9.0f} {now / wanted:>6.2f}", flush=True)
        if now > wanted * (1 + TOLERANCE):
            worse.append(name)
        elif now < wanted * (1 - TOLERANCE):
            print(f"{'':<32} better: put the new number into {EXPECTED}")
    if made_by != rustc:
        print(f"the expected numbers are of another compiler: {made_by}; this is {rustc}")
    if worse:
        sys.exit(f"more than 10 % above, or without, what {EXPECTED} expects: {', '.join(worse)}")


main()

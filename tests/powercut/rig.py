"""Cuts the power of a guest that records, and looks for what it had acknowledged: `just powercut CUTS [SEED]`.

A story is a disk with a few lives: the program starts on what the cut before left, records what a producer outside
sends, may be told to stop, and the power goes. A seed fixes the filesystem, the source, the options, the moment of each
cut, what the disk kept of what it was not asked to flush, and the places at which states are rebuilt. What was found
bad is kept, and is judged again by `--again FOLDER`.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

sys.dont_write_bytecode = True
import guest
import judge
import others
import seawall
import states
from table import Row, table

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / "target/powercut"
BINARY = ROOT / "target/x86_64-unknown-linux-musl/release/seawall"
LIFE_S = 60
SKIPPED = 77


@dataclass
class Life:
    """What the producer knows after a cut."""
    before: list  # of each life before: its first number, and the numbers below which all is acknowledged, and sent
    first: int
    sent: int
    acks: list
    times: list

    def lives(self, log_bytes):
        """What a disk has to have when its log is so long."""
        acked = max((acked for acked, at in self.acks if at <= log_bytes), default=self.first)
        return [*self.before, (self.first, acked, self.sent)]


class Cut:
    """When the power goes: by what the disk has written since the start, by acks, or after the order to stop."""

    def __init__(self, story, rng):
        self.phase = story.phase or rng.choices(("start", "recording", "stop"), (1, 2, 1))[0]
        self.start_bytes, self.stop_bytes = rng.randrange(1, 200_000), rng.randrange(1, 60_000)
        self.acks = rng.randrange(1, story.acks_max)
        self.stop_s = 1
        if story.is_orderly:
            self.phase, self.stop_bytes, self.stop_s = "stop", 1 << 40, 8
        self.boot = uuid.UUID(int=rng.getrandbits(128))
        self.stop_sent = None

    def is_due(self, age, log_bytes, machine, story, producer):
        """`age` in seconds and `log_bytes` since the start of the program."""
        if self.phase == "start":
            # Where it writes less than that, the start is over by then.
            return log_bytes >= self.start_bytes or age > 3
        if self.stop_sent:
            at, bytes_then = self.stop_sent
            return age > at + self.stop_s or log_bytes >= bytes_then + self.stop_bytes
        if producer and producer.acked - producer.first >= self.acks:
            if self.phase == "recording":
                return True
            machine.tell(story.stops_by)
            self.stop_sent = age, log_bytes
        return False


def mount(machine, story, boot):
    machine.tell(
        f"date -s @{int(time.time())} >/dev/null; echo {boot} >/boot_id; mount --bind /boot_id"
        f" /proc/sys/kernel/random/boot_id; mount -t {story.filesystem} /dev/vda /data; echo mounted >&3"
    )
    machine.hears("mounted")


class Rig:
    def __init__(self, home, made):
        self.home, self.guest = home, made
        self.bench = judge.Bench(home, guest.DISK_BYTES)
        self.is_compared = False

    def base(self, story):
        """The disk with which a story begins."""
        if story.is_started_once:
            return self.started(story)[0]
        return self.empty(story)

    def empty(self, story):
        path = self.home / f"{story.filesystem}.{story.base}"
        if not path.exists():
            guest.make_filesystem(story.filesystem, path)
            if story.base == "retained":
                self.copy_to_bench(path)
                self.bench.mount(story.filesystem)
                shutil.copy(self.retained(), self.bench.at)
                self.bench.unmount()
                guest.run("cp", "--sparse=always", self.bench.file, path)
        return path

    def started(self, story):
        """Disk and machine with the program ready: the start of most costs more than the recording up to a cut."""
        disk, state = self.home / f"{story.key}.disk", self.home / f"{story.key}.state"
        if not state.exists():
            guest.run("cp", "--sparse=always", self.empty(story), disk)
            machine, port = self.machine(story, disk, None, self.guest.state)
            try:
                mount(machine, story, uuid.UUID(int=0))
                machine.tell(story.start_line())
                machine.hears("ready")
                story.prepare(machine, port)
                machine.save(state)
            finally:
                machine.cut()
        return disk, state

    def machine(self, story, disk, log, state):
        """A machine that goes on with that state, and the port here that leads to the program's."""
        port = guest.free_port()
        forward = [(port, story.guest_port)] if story.guest_port else []
        return guest.Machine(self.guest, disk, log, state, forward), port

    def retained(self):
        folder = self.home / "retained"
        if not folder.exists():
            folder.mkdir()
            seawall.old_readings(BINARY, folder)
        return folder / "x.db"

    def copy_to_bench(self, path):
        source = os.open(path, os.O_RDONLY)
        states.copy(source, self.bench.begin())
        os.close(source)

    def live(self, story, base, before, rng):
        """From the state after the boot to the cut. The log of the disk is in `log`."""
        disk, log = self.home / "disk", self.home / "log"
        guest.run("cp", "--sparse=always", base, disk)
        log.write_bytes(b"")
        log_fd = os.open(log, os.O_RDONLY)
        log_bytes = lambda: os.fstat(log_fd).st_size
        first = max((sent for *_, sent in before), default=0)
        cut, producer = Cut(story, rng), None
        is_ready = story.is_started_once
        state = self.started(story)[1] if is_ready else self.guest.state
        machine, port = self.machine(story, disk, log, state)
        try:
            if is_ready:
                machine.tell("echo back >&3")
                machine.hears("back")
            else:
                mount(machine, story, cut.boot)
            begun, at_start = time.monotonic(), log_bytes()
            if not is_ready:
                machine.tell(story.start_line())
            while not cut.is_due(time.monotonic() - begun, log_bytes() - at_start, machine, story, producer):
                if time.monotonic() - begun > LIFE_S:
                    raise RuntimeError(f"{story}: acked={producer and producer.acked}: {machine.words()}")
                if not producer and (is_ready or machine.has_said("ready") or not story.waits_for_ready):
                    producer = story.producer(machine, port, first, log_bytes)
                if not producer or cut.stop_sent:
                    time.sleep(0.002)
                if producer:
                    try:
                        producer.turn(0.005)
                    except ConnectionError as e:
                        if not cut.stop_sent:
                            raise RuntimeError(f"{story}: {e}: {machine.words()}") from e
        finally:
            machine.cut()
            os.close(log_fd)
        if not producer:
            return Life(before, 0, 0, [], []), cut.phase
        return Life(before, producer.first, producer.next, producer.acks, producer.times), cut.phase

    def judged(self, story, lives):
        """The verdict on the disk that is on the bench."""
        try:
            self.bench.mount(story.filesystem)
        except OSError:
            # Its superblock, torn. ext4 and btrfs trust that a disk writes it whole: not for a program to mend.
            return judge.Verdict(has_filesystem=False)
        try:
            return story.judge(self.bench.at, lives)
        except (OSError, sqlite3.Error) as e:
            # It was mounted, and what is in it cannot be read.
            return judge.Verdict(complaints=[repr(e)])
        finally:
            self.bench.unmount()

    def read_log(self, story, base, disk):
        entries = states.read(self.home / "log")
        if not self.is_compared:
            # The rig itself: what is rebuilt from the whole log is what qemu left.
            states.assert_same(base, entries, disk, self.home / "stable")
            self.is_compared = True
        return states.without_flushes(entries) if story.has_lying_disk else entries

    def tell(self, story, per_cut, row, keep):
        """All lives of one story. Each cut is judged, and so are the states at places before it."""
        base, before = self.base(story), []
        for number in range(story.lives):
            # How much a life before has written depends on the machine, and its draws on that.
            rng = random.Random(f"{story.seed}-{number}")
            life, phase = self.live(story, base, before, rng)
            entries = self.read_log(story, base, self.home / "disk")
            end = (len(entries), "all" if story.is_orderly else rng.choice(states.KINDS), rng.getrandbits(32))
            after = self.home / f"after.{number % 2}"
            row.has_lived(life, phase)
            disk = states.Disk(base, entries, self.home / "stable")
            plan = [*states.places(entries, per_cut, rng), end]
            for place in plan:
                disk.write(*place, self.bench.begin())
                if place is plan[-1] and number + 1 < story.lives:
                    guest.run("cp", "--sparse=always", self.bench.file, after)
                # An ack that came after the last whole entry belongs to no state of the log but the last.
                lives = life.lives(1 << 62 if place is plan[-1] else entries[place[0] - 1].end if place[0] else 0)
                verdict = self.judged(story, lives)
                if place is end and not verdict.has_filesystem:
                    plan.append((len(entries), "all", 0))
                row.is_judged(verdict, place is plan[-1])
                if not keep and verdict.complaints:
                    print(f"{story.seed}: {verdict}", flush=True)
                if not verdict.is_good() and keep:
                    keep(self, story, number, base, lives, place, verdict)
            disk.close()
            base, before = after, life.lives(1 << 62)


def keep_in(folder):
    """What was bad is kept in a folder of its own, so that it can be judged again."""
    def keep(rig, story, number, base, lives, place, verdict):
        into = folder / f"{story.seed}-{number}-{place[0]}"
        if not into.exists():
            into.mkdir(parents=True)
            guest.run("cp", "--sparse=always", base, into / "base")
            shutil.copy(rig.home / "log", into / "log")
        found = {"seed": story.seed, "lives": lives, "place": place, "filesystem": story.filesystem}
        found |= {"story": str(story), "verdict": asdict(verdict)}
        (into / "place.json").write_text(json.dumps(found))
        print(f"{into}: {story}, life {number + 1}, {place[1]} at {place[0]}: {verdict}", flush=True)
    return keep


def again(folder, home):
    """Judges once more what was kept."""
    kept = json.loads((folder / "place.json").read_text())
    story = story_of(kept["seed"], [kept["filesystem"]])
    bench = judge.Bench(home, guest.DISK_BYTES)
    rig = Rig.__new__(Rig)
    rig.bench = bench
    try:
        entries = states.read(folder / "log")
        disk = states.Disk(folder / "base", entries, home / "stable")
        disk.write(*kept["place"], bench.begin())
        verdict = rig.judged(story, [tuple(life) for life in kept["lives"]])
        print(f"{story}: {verdict}")
        return verdict.is_good()
    finally:
        bench.close()


def missing():
    """Why it cannot run here, if it cannot."""
    tools = "qemu-system-x86_64 apt-get dpkg-deb mkfs.ext4 mkfs.xfs mkfs.btrfs"
    absent = [tool for tool in tools.split() if not shutil.which(tool)]
    if absent:
        return f"there is no {absent[0]}"
    if os.geteuid():
        return "loop devices are for root"
    if not BINARY.exists():
        return f"`just binary amd64` has not made {BINARY}"
    return None


def story_of(seed, filesystems):
    story = seawall.at_random(random.Random(seed), BINARY, filesystems)
    story.seed = seed
    return story


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("cuts", type=int, nargs="?", default=10)
    asked.add_argument("seed", nargs="?", default="17")
    asked.add_argument("--states", type=int, default=20, help="states rebuilt for each cut")
    asked.add_argument("--filesystems", default="ext4,xfs,btrfs")
    asked.add_argument("--of", default="seawall,controls", help="seawall, controls, or names of others; see --list")
    asked.add_argument("--list", action="store_true")
    orderly = "stop and sync before the cut: nothing may lose, or the set-up is not fair"
    asked.add_argument("--orderly", action="store_true", help=orderly)
    rows = "a folder that keeps the rows of others: a run goes on where one ended, and one of 0 cuts prints them"
    asked.add_argument("--rows", type=Path, help=rows)
    asked.add_argument("--again", type=Path)
    asked = asked.parse_args()
    if why := missing():
        print(f"skipped: {why}")
        return SKIPPED
    filesystems = asked.filesystems.split(",")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    home = Path(tempfile.mkdtemp(prefix="seawall-powercut-", dir="/dev/shm"))
    rig = None
    try:
        if asked.again:
            return 0 if again(asked.again, home) else 1
        compared = others.all_of(BINARY)
        if asked.list:
            print("\n".join(f"{name}: {story.settings()}" for name, story in compared.items()))
            return 0
        names = asked.of.split(",")
        wanted = [story for name, story in compared.items() if name in names]
        for name, story in compared.items():
            story.key = name
        if asked.rows and not asked.cuts:
            print(table([Row.kept(asked.rows / f"{story.key}.json", story.name) for story in wanted]))
            return 0
        needs = any(story.needs_programs for story in wanted)
        rig = Rig(home, guest.Guest(STORE, home, BINARY, others.PACKAGES if needs else ()))
        others.Other.root = rig.guest.root
        print(rig.guest.versions(), flush=True)
        for story in wanted:
            if asked.orderly:
                story.is_orderly, story.stops_by = True, "(kill -TERM $pid; sleep 3; sync) &"
            print(f"{story.name}: {story.version()}; {story.settings()}", flush=True)
        print(f"seed={asked.seed} cuts={asked.cuts} states={asked.states} filesystems={asked.filesystems}", flush=True)
        rows = []
        if "seawall" in names:
            rows.append(row := Row("seawall, all sources"))
            number = 0
            while row.cuts < asked.cuts:
                number += 1
                story = story_of(f"{asked.seed}-{number}", filesystems)
                story.lives = min(story.lives, asked.cuts - row.cuts)
                try:
                    rig.tell(story, asked.states, row, keep_in(STORE / "found"))
                except RuntimeError as e:
                    row.broken += 1
                    print(f"{story.seed}: broken: {e}", flush=True)
                print(f"{story.seed} {row}", flush=True)
        if "controls" in names:
            for story in seawall.controls(BINARY):
                story.key = story.name.replace(" ", "-")
                wanted.append(story)
        if asked.rows:
            asked.rows.mkdir(parents=True, exist_ok=True)
        compared_rows = []
        for story in wanted:
            story.file = asked.rows / f"{story.key}.json" if asked.rows else None
            row = Row.kept(story.file, story.name) if asked.rows else Row(story.name)
            row.has_to_lose = story.has_to_lose
            compared_rows.append((story, row))
        rows += [row for _, row in compared_rows]
        for number in range(asked.cuts):
            for story, row in compared_rows:
                # A control that has lost has done what it is for.
                is_done = story.has_to_lose and row.has_lost()
                if is_done or number < row.cuts + row.broken or row.broken > 2 + row.cuts // 10:
                    continue
                story.seed = f"{asked.seed}-{story.name}-{number}"
                try:
                    rig.tell(story, asked.states, row, None)
                except RuntimeError as e:
                    row.broken += 1
                    print(f"{story.seed}: broken: {e}", flush=True)
                if story.file:
                    row.keep(story.file)
                print(f"{story.seed} {row}", flush=True)
        print(table(rows))
        return 0 if all(row.is_as_it_has_to_be() for row in rows) else 1
    finally:
        if rig:
            rig.bench.close()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

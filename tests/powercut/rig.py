"""Cuts the power of a guest that records, and looks for what it had acknowledged. `just powercut N [SEED]`.

A story is a disk with a few lives: the program starts on what the cut before left, records what a producer outside sends, may be told to
stop, and the power goes. A seed fixes the filesystem, the source, the options, the moment of each cut, what the disk kept of what it was
not asked to flush, and the places at which states are rebuilt.
"""

import json
import os
import random
import shutil
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import guest
import judge
import load
import states

PATIENCE_S = 60


@dataclass
class Life:
    """What the producer knows after a cut, and where the disk's log of the life is."""
    base: Path
    log: Path
    lives_before: list
    first: int
    sent: int
    acks: list
    times: list
    phase: str

    def required(self, log_bytes):
        return max((acked for acked, at in self.acks if at <= log_bytes), default=self.first)

    def lives(self, log_bytes):
        return self.lives_before + [(self.first, self.required(log_bytes), self.sent)]


class Phases:
    """When the power goes: by the bytes that the disk has written since the start, by acks, or after the order to stop."""

    def __init__(self, rng):
        self.phase = rng.choices(("start", "recording", "stop"), (1, 2, 1))[0]
        self.bytes = rng.randrange(1, 200_000)
        self.acks = rng.randrange(1, 600)
        self.seconds = rng.random() * 0.2
        self.stop_bytes = rng.randrange(1, 60_000)


class Rig:
    def __init__(self, home, binary):
        self.home, self.binary = home, binary
        self.bench = judge.Bench(home, guest.DISK_BYTES)

    def live(self, story, base, first, lives_before, rng, log_name):
        """One life: from the state after the boot to the cut."""
        disk, log = self.home / "disk", self.home / log_name
        guest.run("cp", "--sparse=always", base, disk)
        log.write_bytes(b"")
        log_fd = os.open(log, os.O_RDONLY)
        log_bytes = lambda: os.fstat(log_fd).st_size
        port = 20000 + os.getpid() % 20000
        phases = Phases(rng)
        phase = phases.phase
        machine = guest.Machine(self.home, disk, log, self.home / "state", [(port, story.guest_port)] if story.guest_port else [])
        try:
            machine.tell(f"date -s @{int(time.time())} >/dev/null; echo {uuid.UUID(int=rng.getrandbits(128))} >/boot_id;"
                         f" mount --bind /boot_id /proc/sys/kernel/random/boot_id; mount -t {story.filesystem} /dev/vda /data;"
                         f" {story.start_line()} & pid=$!; {story.ready_line()} & echo started >&3")
            while machine.hear() != "started":
                pass
            began, at_start = time.monotonic(), log_bytes()
            machine.control.setblocking(False)
            producer, is_ready, told_at, heard = None, False, None, ""
            if not story.waits_for_ready:
                producer = story.producer(machine, port, first, log_bytes)
            while True:
                now = time.monotonic()
                if now - began > PATIENCE_S:
                    raise RuntimeError(f"{story} in {phase}: ready={is_ready} acked={producer and producer.acked}: {self.words(machine)}")
                if phase == "start" and (log_bytes() - at_start >= phases.bytes or is_ready and now - began > 2 + phases.seconds):
                    break
                if producer and producer.acked - producer.first >= phases.acks and told_at is None:
                    if phase == "recording":
                        break
                    machine.control.setblocking(True)
                    machine.tell("kill -TERM $pid")
                    machine.control.setblocking(False)
                    told_at, told_bytes = now, log_bytes()
                if told_at and (now - told_at > 1 + phases.seconds or log_bytes() - told_bytes >= phases.stop_bytes):
                    break
                try:
                    heard += machine.control.recv(4096).decode()
                except BlockingIOError:
                    pass
                if "ready\n" in heard and not is_ready:
                    is_ready = True
                    producer = producer or story.producer(machine, port, first, log_bytes)
                if producer:
                    try:
                        producer.turn(0.005)
                    except (ConnectionError, BrokenPipeError):
                        if told_at is None:
                            raise
                        time.sleep(0.005)
                else:
                    time.sleep(0.005)
        finally:
            machine.cut()
            os.close(log_fd)
        if producer is None:
            return Life(base, log, lives_before, first, first, [], [], phase)
        return Life(base, log, lives_before, producer.first, producer.next, producer.acks, producer.times, phase)

    def words(self, machine):
        machine.control.setblocking(True)
        machine.control.settimeout(3)
        try:
            machine.tell("cat /err /boot_id >&3; dmesg | tail -5 >&3")
            time.sleep(1)
            return machine.control.recv(65536).decode()
        except OSError as e:
            return str(e)

    def judged(self, story, lives):
        """The verdict on the trial's disk."""
        try:
            self.bench.mount(story.filesystem)
        except OSError as e:
            return judge.Verdict(complaints=[str(e)])
        try:
            return story.judge(self.bench.at, lives)
        finally:
            self.bench.unmount()


class SeawallStory:
    """Which source and options seawall has, on which filesystem."""

    def __init__(self, rng, binary, filesystems=("ext4",)):
        self.filesystem = rng.choice(filesystems)
        self.source = rng.choice(("stdin", "tcp", "named", "http"))
        self.interval = rng.choice(("0", "10ms", "100ms", "1s"))
        self.rate = rng.choice((100, 500, 2000))
        self.checkpoint = rng.choice(("60s", "200ms"))
        self.autocheckpoint = rng.choice((1000, 20))
        self.level = rng.choice(("auto", "auto", "full"))
        self.lives = rng.randint(1, 4)
        self.waits_for_ready = self.source != "stdin"
        self.guest_port = {"stdin": None, "http": 8086}.get(self.source, 8094)
        self.judge_ = judge.Seawall(binary)

    def __str__(self):
        return f"{self.filesystem} {' '.join(self.options())} rate={self.rate} ({self.source})"

    def options(self):
        source = {"stdin": "stdin --ack", "http": "http:0.0.0.0:8086"}.get(self.source, "tcp:0.0.0.0:8094")
        return ["--source", *source.split(), "--commit-interval", self.interval, "--synchronous", self.level,
                "--checkpoint-interval", self.checkpoint, "--wal-autocheckpoint", str(self.autocheckpoint)]

    def start_line(self):
        streams = "<&4 >&4" if self.source == "stdin" else "</dev/null >/dev/null"
        return f"/seawall --db /data/x.db {' '.join(self.options())} {streams} 2>/err"

    def ready_line(self):
        return "(while ! grep -q event=ready /err; do sleep 0.02; done; echo ready >&3)"

    def producer(self, machine, port, first, log_bytes):
        if self.source == "stdin":
            return load.Lines(machine.data, first, self.rate, log_bytes)
        stream = load.connect(port, time.monotonic() + 10)
        if self.source == "http":
            return load.Http(stream, first, self.rate, log_bytes)
        return load.Lines(stream, first, self.rate, log_bytes, client="rig" if self.source == "named" else None)

    def judge(self, folder, lives):
        if self.source == "named":
            # Each life goes on where the one before was settled: all is one stream.
            lives = [(0, max(acked for _, acked, _ in lives), max(sent for *_, sent in lives))]
        return self.judge_(folder, lives)


def main():
    seed, cuts, per_cut = int(sys.argv[2]), int(sys.argv[1]), int(sys.argv[3])
    home = Path("/dev/shm/wt-power")
    binary = Path("/tmp/wt/power/target/x86_64-unknown-linux-musl/release/seawall")
    rig = Rig(home, binary)
    done = number = total = 0
    try:
        while done < cuts:
            number += 1
            rng = random.Random(f"{seed}-{number}")
            story = SeawallStory(rng, binary, sys.argv[4].split(","))
            base, before, first = home / f"base.{story.filesystem}", [], 0
            for n in range(story.lives):
                t0 = time.time()
                life = rig.live(story, base, first, before, rng, "log")
                t1 = time.time()
                entries = states.read(life.log)
                disk = states.Disk(base, entries, home / "stable")
                plan = states.places(entries, per_cut, rng)
                end = (len(entries), rng.choice(states.KINDS), rng.getrandbits(32))
                for place, kind, choice in plan + [end]:
                    disk.write(place, kind, choice, rig.bench.fd)
                    if (place, kind, choice) == end:
                        guest.run("cp", "--sparse=always", rig.bench.file, home / f"after{n % 2}")
                    at = entries[place - 1].end if place else 0
                    # An ack that came after the last whole entry of the log is of a state that the log has not.
                    verdict = rig.judged(story, life.lives(at))
                    total += 1
                    if not verdict.is_good():
                        print(f"BAD seed={seed} story={number} life={n} place={place} of {len(entries)} {kind} {choice}: {verdict} {life.lives(at)}\n{story}")
                disk.close()
                done += 1
                print(f"{number}.{n} {story} {life.phase}: entries={len(entries)} acked={life.required(1 << 60) - life.first} sent={life.sent - life.first}"
                      f" at_end={life.required(entries[-1].end if entries else 0)-life.first} live={t1 - t0:.1f} judge={time.time() - t1:.1f}", flush=True)
                before = life.lives(entries[-1].end if entries else 0)
                first = max(sent for *_, sent in before)
                base = home / f"after{n % 2}"
    finally:
        rig.bench.close()


if __name__ == "__main__":
    main()

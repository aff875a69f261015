"""What is counted of each subject, as lines and as one table."""

import json


def quantile(times, part):
    return sorted(times)[int(len(times) * part)] if times else None


def milliseconds(seconds):
    return "" if seconds is None else f"{seconds * 1000:.0f} ms"


class Row:
    def __init__(self, name):
        self.name, self.has_to_lose = name, False
        self.cuts = self.acknowledged = self.lost = self.cuts_with_loss = self.damaged = self.not_started = 0
        self.states = self.states_lost = self.states_bad = self.broken = self.torn_superblocks = 0
        self.unreadable = 0  # acknowledged, in what did not start again
        self.phases, self.times, self.complaints = {}, [], []

    @classmethod
    def kept(cls, path, name):
        """What earlier runs have written there, or nothing yet."""
        row = cls(name)
        if path.exists():
            vars(row).update(json.loads(path.read_text()))
        return row

    def keep(self, path):
        half = path.with_suffix(".half")
        half.write_text(json.dumps(vars(self)))
        half.rename(path)

    def has_lived(self, life, phase):
        self.cuts += 1
        self.acknowledged += life.lives(1 << 62)[-1][1] - life.first
        self.phases[phase] = self.phases.get(phase, 0) + 1
        self.times += life.times

    def is_judged(self, verdict, is_cut):
        self.complaints += verdict.complaints if is_cut else []
        if not verdict.has_filesystem:
            self.torn_superblocks += 1
        elif is_cut and not verdict.starts:
            # Nobody knows what somebody could still get out of it.
            self.not_started += 1
            self.unreadable += verdict.lost
        elif is_cut:
            self.lost += verdict.lost
            self.cuts_with_loss += verdict.lost > 0
            self.damaged += bool(verdict.complaints)
        else:
            self.states += 1
            self.states_lost += verdict.lost > 0
            self.states_bad += bool(verdict.complaints) or not verdict.starts

    def has_lost(self):
        return self.cuts_with_loss + self.states_lost > 0

    def is_as_it_has_to_be(self):
        """Whatever else is compared may lose; seawall may not, and a control has to."""
        if self.has_to_lose:
            return self.has_lost()
        if self.torn_superblocks > 1 + self.states // 50:
            return False
        is_good = not (self.has_lost() or self.damaged or self.not_started or self.states_bad or self.broken)
        return is_good or not self.name.startswith("seawall")

    def quantiles(self):
        return [milliseconds(quantile(self.times, part)) for part in (0.5, 0.99)]

    def __str__(self):
        phases = " ".join(f"{name}={count}" for name, count in sorted(self.phases.items()))
        p50, p99 = self.quantiles()
        return (
            f"cuts={self.cuts} ({phases}) acknowledged={self.acknowledged} lost={self.lost}"
            f" cuts_with_loss={self.cuts_with_loss} damaged={self.damaged} not_started={self.not_started}"
            f" states={self.states} states_with_loss={self.states_lost} states_damaged={self.states_bad}"
            f" torn_superblocks={self.torn_superblocks} broken={self.broken} p50={p50} p99={p99}"
        )

    def cells(self):
        not_started = f"{self.not_started} (with {self.unreadable})" if self.not_started else 0
        lost = f"{self.lost} in {self.cuts_with_loss} cuts" if self.lost else 0
        cells = [self.name, self.cuts, self.acknowledged, lost, self.damaged, not_started, *self.quantiles()]
        return cells + [f"{self.states}, {self.states_lost}, {self.states_bad}", self.broken]


HEAD = (
    "", "cuts", "acknowledged", "lost", "damaged", "not started again (with so many acknowledged)", "to ack, p50",
    "p99", "states, with loss, bad", "broken runs",
)


def table(rows):
    lines = [HEAD, ["---"] + ["---:"] * (len(HEAD) - 1), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)

"""What is counted of each subject, as lines and as one table."""


def quantile(times, part):
    return sorted(times)[int(len(times) * part)] if times else None


def milliseconds(seconds):
    return "" if seconds is None else f"{seconds * 1000:.0f} ms"


class Row:
    def __init__(self, name, has_to_lose=False):
        self.name, self.has_to_lose = name, has_to_lose
        self.cuts = self.acknowledged = self.lost = self.cuts_with_loss = self.damaged = self.not_started = 0
        self.states = self.states_lost = self.states_bad = self.broken = self.torn_superblocks = 0
        self.phases, self.times = {}, []

    def has_lived(self, life, phase):
        self.cuts += 1
        self.acknowledged += life.lives(1 << 62)[-1][1] - life.first
        self.phases[phase] = self.phases.get(phase, 0) + 1
        self.times += life.times

    def is_judged(self, verdict, is_cut):
        if not verdict.has_filesystem:
            self.torn_superblocks += 1
        elif is_cut:
            self.lost += verdict.lost
            self.cuts_with_loss += verdict.lost > 0
            self.damaged += bool(verdict.complaints)
            self.not_started += not verdict.starts
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
        if self.torn_superblocks > self.states // 50:
            return False
        return not self.name.startswith("seawall") or not (self.has_lost() or self.damaged or self.not_started or self.states_bad or self.broken)

    def __str__(self):
        phases = " ".join(f"{name}={count}" for name, count in sorted(self.phases.items()))
        return (f"cuts={self.cuts} ({phases}) acknowledged={self.acknowledged} lost={self.lost} cuts_with_loss={self.cuts_with_loss}"
                f" damaged={self.damaged} not_started={self.not_started} states={self.states} states_with_loss={self.states_lost}"
                f" states_damaged={self.states_bad} torn_superblocks={self.torn_superblocks} broken={self.broken} p50={milliseconds(quantile(self.times, 0.5))} p99={milliseconds(quantile(self.times, 0.99))}")


def table(rows):
    lines = ["| | cuts | acknowledged | lost | cuts that lost | damaged | not started again | states | states that lost, or bad | time to ack, p50 | p99 |",
             "| --- " + "| ---: " * 10 + "|"]
    for row in rows:
        lines.append(f"| {row.name} | {row.cuts} | {row.acknowledged} | {row.lost} | {row.cuts_with_loss} | {row.damaged} | {row.not_started}"
                     f" | {row.states} | {row.states_lost}, {row.states_bad} | {milliseconds(quantile(row.times, 0.5))}"
                     f" | {milliseconds(quantile(row.times, 0.99))} |")
    return "\n".join(lines)

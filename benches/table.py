"""A table of figures: its rows are declared in one place, measured in turn, printed, and put into docs/figures.md.

A row's `measure` returns a dict of samples, a number or a list of numbers each; where it is a generator function, each
`next` of it does, and it is closed after the last. In turn means one sample of each row, then the next of each, so that
whatever else the machine does hits all of them. `Skip` says why a row cannot be measured here.

The ratio stands beside a figure of a row that has yardsticks: to the best of the rows of the same `beside` that are one,
best by the table's first column.
"""

import inspect
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass


class Skip(Exception):
    """This cannot be measured here; the text says why."""


@dataclass
class Row:
    name: str
    measure: object
    beside: str = ""
    is_yardstick: bool = False


@dataclass
class Column:
    """`sample` is the key in the dicts; the figure is the percentile of the samples. `spread`: least to most of them,
    or, of a percentile, of its five consecutive fifths. `best` is what picks the best yardstick."""

    title: str
    sample: str
    percent: int = 50
    has_ratio: bool = True
    has_spread: bool = False
    best: object = min


@dataclass
class Table:
    name: str
    columns: list
    rows: list
    rounds: int = 5
    # All rows run side by side: for what is counted and not timed.
    at_once: bool = False
    # What holds for the whole table, such as how its yardstick is built; a function of no argument may give it.
    about: object = ""
    heading: str = ""

    def measure(self, say):
        samples, skipped = {row.name: {} for row in self.rows}, {}
        measures = {row.name: _repeated(row.measure) for row in self.rows}

        def one(name):
            if name in skipped:
                return
            try:
                for key, value in next(measures[name]).items():
                    values = value if isinstance(value, list) else [value]
                    samples[name].setdefault(key, []).extend(values)
            except Skip as why:
                skipped[name] = str(why)

        try:
            for n in range(self.rounds):
                if self.at_once:
                    say(f"{self.name}, all at once")
                    with ThreadPoolExecutor(len(self.rows)) as pool:
                        list(pool.map(one, measures))
                    continue
                for name in measures:
                    say(f"{self.name}, {n + 1} of {self.rounds}: {name}")
                    one(name)
        finally:
            for measure in measures.values():
                measure.close()
        return self.text(samples, skipped)

    def text(self, samples, skipped):
        present = [row for row in self.rows if row.name not in skipped]
        lines = [[self.heading] + [title for column in self.columns for title in _titles(column)]]
        first, has_yardstick = self.columns[0], False
        for row in present:
            rivals = [other for other in present if other.is_yardstick and other.beside == row.beside]
            rivals = [other for other in rivals if samples[other.name].get(first.sample)]
            yardstick = first.best(rivals, key=lambda other: _figure(first, samples[other.name]), default=None)
            has_yardstick |= yardstick is not None
            line = [row.name]
            for column in self.columns:
                line += _cells(column, samples[row.name], samples[yardstick.name] if yardstick else {})
            lines.append(line)
        widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
        text = [
            "  ".join(cell.ljust(width) if n == 0 else cell.rjust(width) for n, (cell, width) in enumerate(zip(line, widths)))
            for line in lines
        ]
        text += [f"skipped: {row.name}: {skipped[row.name]}" for row in self.rows if row.name in skipped]
        if has_yardstick:
            text.append("x: times the best yardstick of the group, the one with 1.00 in the first column")
        about = self.about() if callable(self.about) else self.about
        return "\n".join(line.rstrip() for line in text + ([about] if about else []))


def _repeated(measure):
    if inspect.isgeneratorfunction(measure):
        yield from measure()
    else:
        while True:
            yield measure()


def _titles(column):
    return [column.title] + ["x"] * column.has_ratio + ["least to most"] * column.has_spread


def _cells(column, ours, theirs):
    if not ours.get(column.sample):
        return ["-"] + [""] * (column.has_ratio + column.has_spread)
    value, other = _figure(column, ours), _figure(column, theirs) if theirs.get(column.sample) else 0
    cells = [number(value)]
    if column.has_ratio:
        cells.append(f"{value / other:.2f}" if other else "")
    if column.has_spread:
        values = ours[column.sample]
        if column.percent != 50:
            size = -(-len(values) // 5)
            values = [percentile(values[at : at + size], column.percent) for at in range(0, len(values), size)]
        cells.append(f"{number(min(values))} to {number(max(values))}")
    return cells


def _figure(column, samples):
    return percentile(samples[column.sample], column.percent)


def percentile(values, percent):
    """The sample below which so many percent of them are; 100 gives the greatest."""
    return sorted(values)[min(len(values) * percent // 100, len(values) - 1)]


def number(value):
    if value >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.{0 if value == 0 or value >= 1000 else 1 if value >= 100 else 2}f}"


def put(path, name, text):
    """Between the markers of that name in a document; returns whether it has them."""
    with open(path) as file:
        document = file.read()
    marked = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- /bench -->)", re.DOTALL)
    new, found = marked.subn(lambda match: f"{match[1]}```\n{text}\n```\n{match[2]}", document)
    if found:
        with open(path, "w") as file:
            file.write(new)
    return found == 1

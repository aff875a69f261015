"""The commands and options of the program, as its `--help` prints them from the one table in src/cli.

Options are (flag, value, variable, default, help), other lists (label, text), anything else a paragraph.
"""

import re
import subprocess

OPTION = re.compile(r"  (--[a-z-]+)(?: (\S+))?\s+(SEAWALL_[A-Z_]+)=(.*)")
# A list's label is parted from its text by columns, or stands on a line of its own.
ITEM = re.compile(r"  (\S.*?)(?:\s{2,}(\S.*))?")
LISTS = ("Commands", "Sources", "Exit status")


class Help:
    """What one `--help` says, by heading; what stands before the first heading is its introduction."""

    def __init__(self, text):
        self.usages, self.introduction, self.sections, self.options = [], [], {}, []
        for block in text.split("\n\n"):
            lines = block.strip("\n").splitlines()
            heading = re.fullmatch(r"([A-Z][\w ]+):", lines[0])
            if lines[0].startswith("Usage: "):
                self.usages = [line.removeprefix("Usage:").strip() for line in lines]
            elif OPTION.fullmatch(lines[0]):
                self.options = options(lines)
            elif heading and heading[1] in LISTS:
                self.sections[heading[1]] = items(lines[1:])
            elif heading:
                self.sections[heading[1]] = joined(lines[1:])
            elif re.match("[A-Z][a-z]+: ", lines[0]):
                # Each on a line of its own, and what goes on from it is indented.
                self.sections["Values"] = re.sub(r"\n\s+", " ", block.strip()).splitlines()
            elif lines[0].startswith("  "):
                self.sections["Commands"] += items(lines)
            else:
                self.introduction.append(joined(lines))


def joined(lines):
    return " ".join(line.strip() for line in lines)


def items(lines):
    found = []
    for line in lines:
        if line.startswith("    "):
            found[-1][1].append(line)
        else:
            label, text = ITEM.fullmatch(line).groups()
            found.append((label, [text or ""]))
    return [(label, joined(text).strip()) for label, text in found]


def options(lines):
    found = []
    for line in lines:
        option = OPTION.fullmatch(line)
        if option:
            found.append((option, []))
        elif line.startswith("  -h,"):
            break
        else:
            found[-1][1].append(line)
    return [(flag, value or "", variable, default, joined(text))
            for (flag, value, variable, default), text in ((o.groups(), text) for o, text in found)]


def of(program):
    """The overview, and the help of each command by its name."""
    ask = lambda *words: Help(subprocess.run([program, *words], check=True, capture_output=True, text=True).stdout)
    overview = ask("--help")
    names = (label for label, _ in overview.sections["Commands"] if " " not in label)
    return overview, {name: ask("help", name) for name in names}

"""Writes the manual page from what the program says of itself. `just release` calls it.

    manual.py PROGRAM SECONDS >seawall.1
"""

import re
import sys
import time

import surface

FILES = [
    ("/etc/default/seawall", "the variables of the service, each with its default; the Debian package has it, the "
     "archive has one as /usr/share/doc/seawall/examples/seawall.default"),
    ("/var/lib/seawall/sensor_data.db", "the database of the service"),
    ("data/sensor_data.db", "the database where neither --db nor SEAWALL_DB names one"),
]


def text(words):
    words = words.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("^", r"\(ha")
    words = words.replace("~", r"\(ti").replace('"', r"\(dq")
    words = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", words)
    return r"\&" + words if words.startswith(".") else words


def tagged(pairs):
    for label, words in pairs:
        yield from (".TP", label, text(words))


def option(flag, value, variable, default, words):
    label = rf"\fB{text(flag)}\fR \fI{text(value)}\fR" if value else rf"\fB{text(flag)}\fR"
    yield from (".TP", label, text(words), ".br", rf"{variable}, default {text(default)}")


def page(program, seconds):
    overview, commands = surface.of(program)
    day = time.strftime("%Y-%m-%d", time.gmtime(seconds))
    does, *more = overview.introduction
    yield f'.TH SEAWALL 1 {day} seawall "User Commands"'
    yield ".SH NAME"
    yield rf"seawall \- {text(does[0].lower() + does[1:].rstrip('.'))}"
    yield ".SH SYNOPSIS"
    usages = [usage for help in commands.values() for usage in help.usages]
    yield "\n.br\n".join(rf"\fBseawall\fR{text(usage.removeprefix('seawall'))}" for usage in usages)
    yield ".SH DESCRIPTION"
    yield text(does)
    for words in more:
        yield from (".PP", text(words))
    yield from tagged((rf"\fB{text(name)}\fR", words) for name, words in overview.sections["Commands"])
    yield ".SH OPTIONS"
    first = next(iter(commands.values()))
    yield text(first.introduction[-1].removeprefix("Options. "))
    for name, help in commands.items():
        yield f".SS {name}"
        yield "\n.PP\n".join(text(words) for words in help.introduction[:-1])
        for row in help.options:
            yield from option(*row)
    values = dict.fromkeys(line for help in commands.values() for line in help.sections["Values"])
    yield ".SH VALUES"
    yield "\n.PP\n".join(text(line) for line in values)
    for heading, content in first.sections.items():
        if heading in ("Values", "Exit status"):
            continue
        yield f".SH {heading.upper()}"
        if isinstance(content, str):
            yield text(content[0].upper() + content[1:])
        else:
            yield from tagged((rf"\fB{text(label)}\fR", words) for label, words in content)
    yield ".SH EXIT STATUS"
    yield from tagged(overview.sections["Exit status"])
    yield ".SH FILES"
    yield from tagged((rf"\fI{text(path)}\fR", words) for path, words in FILES)


def main():
    program, seconds = sys.argv[1:]
    print("\n".join(page(program, int(seconds))))


if __name__ == "__main__":
    main()

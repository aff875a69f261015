"""Writes a Debian package, and an archive of the same files to be unpacked at /, the same bytes each time. The archive
has the variables of the service as an example: unpacked again, it leaves those that were set.

    package.py PROGRAM NATIVE ARCHITECTURE VERSION SECONDS FOLDER

PROGRAM is packed; NATIVE is the same for this machine, and tells of its options. SECONDS since 1970 is the time that
everything has. Run from the checkout.
"""

import glob
import gzip
import hashlib
import lzma
import os
import re
import sys
import textwrap
import time
from email.utils import formatdate

import manual
import surface
from archive import ar, tar

DESCRIPTION = """recorder of sensor readings into one SQLite file
 Records the kernel's sensors, and what clients send as InfluxDB line protocol
 over HTTP, TCP, UDP or unix sockets, and loses no reading that it
 acknowledged: not at a stop, not when it is killed, not when the power goes.
 .
 The package starts it as a service that records into
 /var/lib/seawall/sensor_data.db what is sent to the socket /run/seawall/lines.
 Drop-ins for the kernel's sensors and for HTTP and TCP are in its examples,
 its settings in /etc/default/seawall."""
# An address that leads nowhere: whoever hands packages out puts their own.
MAINTAINER = "The seawall authors <seawall@packages.example.org>"
# What is linked into the program beside its own code, which all may be used by the Expat license but SQLite.
LINKED = """\
 SQLite: in the public domain
 musl: Copyright 2005-2020 Rich Felker, et al.
 libsqlite3-sys: Copyright 2014 The rusqlite developers
 libc, the standard library of Rust: Copyright The Rust Project Developers
 getrandom: Copyright 2018-2026 The rust-random Project Developers, 2014 The Rust Project Developers
 cfg-if: Copyright 2014 Alex Crichton
 fastrand: Copyright its authors"""
CONFFILE = "etc/default/seawall"
EXAMPLES = "usr/share/doc/seawall/examples"
OVERRIDES = """\
# It runs where there is no library, and SQLite is compiled with options of its own (.cargo/config.toml).
seawall: statically-linked-binary *usr/bin/seawall*
seawall: shared-library-lacks-prerequisites *usr/bin/seawall*
seawall: embedded-library *usr/bin/seawall*
"""
# As debhelper writes them: a machine without systemd, or one that is being built in a folder, is left alone.
POSTINST = """\
#!/bin/sh
set -e
case "$1" in
configure | abort-upgrade | abort-deconfigure | abort-remove)
    deb-systemd-helper unmask seawall.service >/dev/null || true
    if deb-systemd-helper --quiet was-enabled seawall.service; then
        deb-systemd-helper enable seawall.service >/dev/null || true
    else
        deb-systemd-helper update-state seawall.service >/dev/null || true
    fi
    if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
        systemctl --system daemon-reload >/dev/null || true
        # The old program records until here; a restart commits all that it accepted.
        if [ -n "$2" ]; then action=restart; else action=start; fi
        deb-systemd-invoke "$action" seawall.service >/dev/null || true
    fi
    ;;
esac
"""
PRERM = """\
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
    deb-systemd-invoke stop seawall.service >/dev/null || true
fi
"""
POSTRM = """\
#!/bin/sh
set -e
# The readings in /var/lib/seawall stay, also at a purge.
if [ "$1" = remove ] && [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload >/dev/null || true
fi
if [ "$1" = purge ]; then
    deb-systemd-helper purge seawall.service >/dev/null || true
fi
"""


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def drop_ins():
    """Name and content of each drop-in for the unit that lies below docs."""
    for path in sorted(glob.glob("docs/**/*.conf", recursive=True)):
        if "\n[Service]\n" in "\n" + read(path):
            yield os.path.basename(path), read(path)


def unit():
    """docs/seawall.service for a program in /usr/bin, with the variables of the conffile."""
    text = read("docs/seawall.service")
    packed = text.replace("ExecStart=/usr/local/bin/seawall\n",
                          f"ExecStart=/usr/bin/seawall\nEnvironmentFile=-/{CONFFILE}\n")
    if packed == text:
        sys.exit("package.py: docs/seawall.service does not start /usr/local/bin/seawall")
    return packed


def variables(commands):
    """Each variable once, with the words of its option, not set."""
    text = f"# Variables of the service seawall, in /{CONFFILE}; they win over those of its unit.\n"
    text += "# After a change: systemctl restart seawall\n"
    if any(drop_ins()):
        text += f"# What a source needs beside them, such as a network, is in the drop-ins in /{EXAMPLES};\n"
        text += "# a SEAWALL_SOURCE here wins over theirs.\n"
    service = re.findall(r'^Environment="?(SEAWALL_\w+)=([^"\n]*)', read("docs/seawall.service"), re.M)
    for flag, _, variable, default, words in commands["record"].options:
        default = dict(service).get(variable, default)
        text += f"\n# {flag}\n" + textwrap.indent(textwrap.fill(words, 100), "# ") + f'\n#{variable}="{default}"\n'
    return text


def changelog(version, seconds):
    """The section of CHANGELOG.md of this version, or the newest, as Debian writes changes."""
    sections = re.split(r"(?m)^## ", read("CHANGELOG.md"))[1:]
    section = next((text for text in sections if text.startswith(f"[{version}]")), sections[0])
    changes = [" ".join(item.split()) for item in re.findall(r"(?m)^- (.*(?:\n  .*)*)", section)]
    items = [textwrap.fill(item, 76, initial_indent="  * ", subsequent_indent="    ") for item in changes]
    return (f"seawall ({version}) unstable; urgency=medium\n\n" + "\n".join(items)
            + f"\n\n -- {MAINTAINER}  {formatdate(seconds)}\n")


def copyright():
    license = read("LICENSE")
    holder, mit = re.search(r"MIT License\n\nCopyright \(c\) (.+)\n\n(.+?)\n\n---", license, re.S).groups()
    indented = textwrap.indent(mit, " ", lambda line: True).replace("\n \n", "\n .\n")
    return f"""\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: seawall
Comment: /usr/bin/seawall has in it
{LINKED}

Files: *
Copyright: {holder}
License: Expat or Apache-2.0

License: Expat
{indented}

License: Apache-2.0
 On Debian systems, the text is in /usr/share/common-licenses/Apache-2.0.
"""


def files(program, native, version, seconds):
    """Path, mode and content of each file, in order."""
    squeeze = lambda text: gzip.compress(text.encode(), 9, mtime=0)
    page = "\n".join(manual.page(native, seconds)) + "\n"
    _, commands = surface.of(native)
    with open(program, "rb") as file:
        binary = file.read()
    found = {
        CONFFILE: variables(commands),
        "usr/bin/seawall": binary,
        "usr/lib/systemd/system/seawall.service": unit(),
        "usr/share/doc/seawall/changelog.gz": squeeze(changelog(version, seconds)),
        "usr/share/doc/seawall/copyright": copyright(),
        "usr/share/lintian/overrides/seawall": OVERRIDES,
        "usr/share/man/man1/seawall.1.gz": squeeze(page),
    }
    for name, content in drop_ins():
        found[f"{EXAMPLES}/{name}"] = content
    for path, content in sorted(found.items()):
        mode = 0o755 if path.startswith("usr/bin/") else 0o644
        yield path, mode, content if isinstance(content, bytes) else content.encode()


def folders(paths):
    found = {path[:at] for path in paths for at, c in enumerate(path) if c == "/"}
    return [("./" + folder, 0o755, None) for folder in sorted(found)]


def package(packed, architecture, version, seconds):
    size = sum(len(content) + 1023 >> 10 for _, _, content in packed)
    control = f"""\
Package: seawall
Version: {version}
Architecture: {architecture}
Maintainer: {MAINTAINER}
Installed-Size: {size}
Section: database
Priority: optional
Description: {DESCRIPTION}
"""
    sums = "".join(f"{hashlib.md5(content).hexdigest()}  {path}\n" for path, _, content in packed if path != CONFFILE)
    controls = [("conffiles", 0o644, f"/{CONFFILE}\n"), ("control", 0o644, control), ("md5sums", 0o644, sums),
                ("postinst", 0o755, POSTINST), ("postrm", 0o755, POSTRM), ("prerm", 0o755, PRERM)]
    controls = [("./" + name, mode, text.encode()) for name, mode, text in controls]
    paths = [path for path, _, _ in packed]
    data = folders(paths) + [("./" + path, mode, content) for path, mode, content in packed]
    xz = lambda entries: lzma.compress(tar([("./", 0o755, None)] + entries, seconds, "root"), preset=9)
    return ar([("debian-binary", b"2.0\n"), ("control.tar.xz", xz(controls)), ("data.tar.xz", xz(data))], seconds)


def main():
    program, native, architecture, version, seconds, folder = sys.argv[1:]
    seconds = int(seconds)
    packed = list(files(program, native, version, seconds))
    with open(f"{folder}/seawall_{version}_{architecture}.deb", "wb") as file:
        file.write(package(packed, architecture, version, seconds))
    packed = sorted((f"{EXAMPLES}/seawall.default" if path == CONFFILE else path, *rest) for path, *rest in packed)
    with open(f"{folder}/seawall-{version}-linux-{architecture}.tar.gz", "wb") as file:
        file.write(gzip.compress(tar(packed, seconds, "root"), 9, mtime=0))


if __name__ == "__main__":
    main()

"""Archives that are the same bytes each time: everything in them has the time that is given."""

import io
import tarfile


def tar(entries, seconds, owner=""):
    """A tar of (name, mode, content): content None is a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, mode, content in entries:
            entry = tarfile.TarInfo(name)
            entry.mode, entry.mtime = mode, seconds
            entry.uname = entry.gname = owner
            if content is None:
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(content)
            archive.addfile(entry, None if content is None else io.BytesIO(content))
    return out.getvalue()


def ar(members, seconds):
    """An ar of (name, content), as a .deb is one."""
    out = b"!<arch>\n"
    for name, content in members:
        out += f"{name:<16}{seconds:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        out += content + b"\n" * (len(content) % 2)
    return out

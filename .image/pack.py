"""Writes an image as an archive that `docker load` takes, the same bytes each time.

`just image` and `just release` call it. What the image is stands in Dockerfile.scratch, which is read here,
as far as it goes: what is not understood is an error. Neither Docker nor a network is needed.

    pack.py DOCKERFILE BINARY ARCHITECTURE VERSION SECONDS TAG ARCHIVE

SECONDS since 1970 is the time that everything in it has.
"""

import hashlib
import json
import re
import shlex
import sys
import time

from archive import tar

# As `docker build` sets it.
ENVIRONMENT = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
NS = {"ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}


def instructions(text):
    text = re.sub(r"(?m)^\s*#.*\n", "", text)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), rest.strip()


def nanoseconds(text):
    return sum(int(n) * NS[unit] for n, unit in re.findall(r"(\d+)(ms|s|m|h)", text))


def healthcheck(rest):
    options, command = rest.split("CMD", 1)
    check = {"Test": ["CMD", *json.loads(command)]}
    for name, value in re.findall(r"--([a-z-]+)=(\S+)", options):
        key = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod", "retries": "Retries"}[name]
        check[key] = int(value) if key == "Retries" else nanoseconds(value)
    return check


def configuration(dockerfile, version):
    config = {"Env": ENVIRONMENT, "Cmd": None}
    for name, rest in instructions(dockerfile):
        if name == "WORKDIR":
            config["WorkingDir"] = rest
        elif name == "LABEL":
            pairs = (word.split("=", 1) for word in shlex.split(rest))
            config["Labels"] = {key: value.replace("$VERSION", version) for key, value in pairs}
        elif name == "STOPSIGNAL":
            config["StopSignal"] = rest
        elif name == "ENTRYPOINT":
            config["Entrypoint"] = json.loads(rest)
        elif name == "HEALTHCHECK":
            config["Healthcheck"] = healthcheck(rest)
        elif (name, rest) not in [("FROM", "scratch"), ("COPY", "rootfs/ /"), ("ARG", "VERSION=unknown")]:
            sys.exit(f"pack.py: cannot do this of the Dockerfile: {name} {rest}")
    return config


def main():
    dockerfile, binary, architecture, version, seconds, tag, archive = sys.argv[1:]
    with open(dockerfile) as file:
        config = configuration(file.read(), version)
    with open(binary, "rb") as file:
        program = file.read()
    seconds = int(seconds)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    # The folder of the data is open to every user, as /tmp is.
    layer = tar([("app", 0o755, None), ("app/data", 0o1777, None), ("seawall", 0o755, program)], seconds)
    layer_id = hashlib.sha256(layer).hexdigest()
    image = {
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + layer_id]},
        "history": [{"created": created, "created_by": "seawall .image/pack.py"}],
    }
    image = json.dumps(image, sort_keys=True).encode()
    image_id = hashlib.sha256(image).hexdigest()
    manifest = [{"Config": f"{image_id}.json", "RepoTags": [tag], "Layers": [f"{layer_id}.tar"]}]
    with open(archive, "wb") as file:
        file.write(
            tar(
                [
                    (f"{image_id}.json", 0o644, image),
                    (f"{layer_id}.tar", 0o644, layer),
                    ("manifest.json", 0o644, json.dumps(manifest).encode()),
                ],
                seconds,
            )
        )


main()

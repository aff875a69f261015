"""Writes the bills of materials and the state of SQLite's CVEs, the same bytes each time.

    bill.py PROGRAM VERSION SECONDS FOLDER

PROGRAM runs on this machine and tells of its SQLite. Run from the checkout: the crates are those that Cargo.lock
resolves to for the program itself on either architecture, without what only builds or tests it. Rust's targets for
both are installed, whose musl is linked in.
"""

import json
import re
import subprocess
import sys
import time
import tomllib
import uuid

TARGETS = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"]
# Of what no registry of packages has, so that a scanner knows it.
CPE = {name: f"cpe:2.3:a:{vendor}:{name}:{{}}:*:*:*:*:*:*:*"
       for vendor, name in [("sqlite", "sqlite"), ("musl-libc", "musl")]}
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "seawall")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def musl():
    """The version of the musl that Rust brings and links in, as it stands in its own libc.a."""
    libraries = output("rustc", "--print", "sysroot").strip() + "/lib/rustlib"
    found = set()
    for target in TARGETS:
        with open(f"{libraries}/{target}/lib/self-contained/libc.a", "rb") as file:
            # A member's name, its header, and the object with one constant: __libc_version.
            member = re.search(rb"version\.l?o/ .*?\0(\d+\.\d+\.\d+)\0", file.read(), re.S)
        found.add(member[1].decode())
    version, = found
    return version


def component(name, version, purl, license, sha256=None):
    return {"name": name, "version": version, "purl": purl, "license": license, "sha256": sha256, "needs": []}


def components(program):
    """What the program is made of, itself first; `needs` are indexes."""
    with open("Cargo.lock", "rb") as file:
        sums = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(file)["package"]}
    # `cargo metadata` would have the features that only the tests need.
    tree = "".join(output("cargo", "tree", "--locked", "--edges=normal", f"--target={target}", "--prefix=depth",
                          "--no-dedupe", "--format=|{p}|{l}") for target in TARGETS)
    found, above = [], []
    for line in tree.splitlines():
        depth, package, license = line.split("|")
        name, version = package.split()[:2]
        version = version.removeprefix("v")
        kind = "cargo" if sums[name, version] else "generic"
        license = license.replace("/", " OR ")
        part = component(name, version, f"pkg:{kind}/{name}@{version}", license, sums[name, version])
        if not any(known["purl"] == part["purl"] for known in found):
            found.append(part)
        at = next(n for n, known in enumerate(found) if known["purl"] == part["purl"])
        del above[int(depth):]
        if above and at not in found[above[-1]]["needs"]:
            found[above[-1]]["needs"].append(at)
        above.append(at)
    sqlite = re.search(r"sqlite (\S+)", output(program, "--version"))[1]
    rust = re.search(r"(?m)^release: (\S+)", output("rustc", "-vV"))[1]
    binding = next(c for c in found if c["name"] == "libsqlite3-sys")
    binding["needs"].append(len(found))
    found.append(component("sqlite", sqlite, f"pkg:generic/sqlite@{sqlite}", "blessing"))
    found[0]["needs"].append(len(found))
    found.append(component("rust-std", rust, f"pkg:generic/rust-std@{rust}", "MIT OR Apache-2.0"))
    found[-1]["needs"].append(len(found))
    version = musl()
    found.append(component("musl", version, f"pkg:generic/musl@{version}", "MIT"))
    return found


def cyclonedx(parts, created):
    def described(part):
        fields = {
            "type": "application" if part is parts[0] else "library",
            "bom-ref": part["purl"],
            "name": part["name"],
            "version": part["version"],
            "hashes": part["sha256"] and [{"alg": "SHA-256", "content": part["sha256"]}],
            "licenses": [{"expression": part["license"]}],
            "cpe": CPE.get(part["name"], "").format(part["version"]),
            "purl": part["purl"],
        }
        return {key: value for key, value in fields.items() if value}

    return {
        **head(parts, created, "bill"),
        "metadata": {"timestamp": created, "component": described(parts[0])},
        "components": [described(part) for part in parts[1:]],
        "dependencies": [{"ref": part["purl"], "dependsOn": [parts[n]["purl"] for n in part["needs"]]}
                         for part in parts],
    }


def head(parts, created, what):
    serial = uuid.uuid5(NAMESPACE, json.dumps([what, created, parts]))
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1}


def spdx(parts, created):
    def id(part):
        return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", part["name"])

    packages = []
    for part in parts:
        package = {
            "SPDXID": id(part),
            "name": part["name"],
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": part["license"],
            "copyrightText": "NOASSERTION",
            "versionInfo": part["version"],
            "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                              "referenceLocator": part["purl"]}],
        }
        if part["sha256"]:
            package["checksums"] = [{"algorithm": "SHA256", "checksumValue": part["sha256"]}]
        packages.append(package)
    relations = [("SPDXRef-DOCUMENT", "DESCRIBES", id(parts[0]))]
    relations += [(id(part), "DEPENDS_ON", id(parts[n])) for part in parts for n in part["needs"]]
    name = f"seawall-{parts[0]['version']}"
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://spdx.org/spdxdocs/{name}-{uuid.uuid5(NAMESPACE, json.dumps([created, parts]))}",
        "creationInfo": {"created": created, "creators": ["Tool: seawall-bill"]},
        "packages": packages,
        "relationships": [{"spdxElementId": a, "relationshipType": kind, "relatedSpdxElement": b}
                          for a, kind, b in relations],
    }


def vex(parts, created, bill):
    """The table of docs/cves.md."""
    sqlite = next(part for part in parts if part["name"] == "sqlite")
    product = f"urn:cdx:{bill['serialNumber'].removeprefix('urn:uuid:')}/1#{sqlite['purl']}"
    with open("docs/cves.md", encoding="utf-8") as file:
        rows = re.findall(r"(?m)^\| (CVE-\S+) \| (.+?) \| (.+?) \| `(\w+)`(?: `(\w+)`)? \| (.+) \|$", file.read())
    found = []
    for cve, _, versions, state, justification, why in rows:
        analysis = {"state": state, "detail": f"{versions}: {why}"}
        if justification:
            analysis["justification"] = justification
        source = {"name": "NVD", "url": f"https://nvd.nist.gov/vuln/detail/{cve}"}
        found.append({"id": cve, "source": source, "analysis": analysis, "affects": [{"ref": product}]})
    return {**head(parts, created, found), "metadata": {"timestamp": created}, "vulnerabilities": found}


def main():
    program, version, seconds, folder = sys.argv[1:]
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(seconds)))
    parts = components(program)
    bill = cyclonedx(parts, created)
    for end, document in ("spdx", spdx(parts, created)), ("cdx", bill), ("vex.cdx", vex(parts, created, bill)):
        with open(f"{folder}/seawall-{version}.{end}.json", "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()

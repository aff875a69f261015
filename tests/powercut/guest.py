"""The guest: Debian's kernel and busybox, unpacked and not installed, booted once and kept as a state of the machine.

Each life begins with that state, so that it costs a second and not a boot. The guest does what comes by its control port: lines of shell.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

KERNEL = "linux-image-amd64"
MODULES = "virtio_pci virtio_blk virtio_net virtio_console crc32c_generic xxhash_generic blake2b_generic ext4 xfs btrfs"
DISK_BYTES = 320 << 20
# The programs beside which seawall is put need a libc, and files that do not change; they lie on a second disk.
PARTS = ["busybox", "modules", "seawall"]

INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mkdir -p /dev/shm /dev/pts; mount -t tmpfs shm /dev/shm
for m in $(cat /modules/order); do insmod /modules/$m.ko; done
while [ ! -e /dev/vport0p2 ] || [ ! -e /sys/class/net/eth0 ]; do sleep 0.1; done
ip link set lo up; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2
mkdir -p /data /root
[ -e /dev/vdb ] && mount -t ext4 -o ro,noatime /dev/vdb /root
exec 3<>/dev/vport0p1 4<>/dev/vport0p2
echo booted >&3
while :; do if read -r line <&3; then eval "$line"; else sleep 0.1; fi; done
"""


def run(*command, **more):
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, **more).stdout


def unpack(packages, into, cache):
    """Downloads what is not there yet, and unpacks it without installing it."""
    cache.mkdir(parents=True, exist_ok=True)
    into.mkdir(parents=True, exist_ok=True)
    for package in packages:
        if not list(cache.glob(f"{package}_*.deb")):
            run("apt-get", "download", "-q", package, cwd=cache, stderr=subprocess.DEVNULL)
        run("dpkg-deb", "-x", next(cache.glob(f"{package}_*.deb")), into)


def modules_in_order(folder):
    """Paths of the modules and of what they depend on, each after those that it needs."""
    paths = {path.name[:-3].replace("-", "_"): path for path in folder.rglob("*.ko")}
    order = []

    def visit(name):
        found = re.search(rb"\0depends=([^\0]*)\0", paths[name].read_bytes()).group(1).decode()
        for needed in filter(None, found.split(",")):
            visit(needed.replace("-", "_"))
        if paths[name] not in order:
            order.append(paths[name])

    for name in MODULES.split():
        visit(name)
    return order


def initramfs(unpacked, seawall, into):
    shutil.rmtree(into, ignore_errors=True)
    for name in "bin modules proc sys dev tmp etc".split():
        (into / name).mkdir(parents=True)
    shutil.copy(unpacked / "bin/busybox", into / "bin/busybox")
    order = modules_in_order(next((unpacked / "lib/modules").iterdir()))
    for path in order:
        shutil.copy(path, into / "modules" / path.name)
    (into / "modules/order").write_text("\n".join(path.name[:-3] for path in order))
    shutil.copy(seawall, into / "seawall")
    (into / "init").write_text(INIT)
    (into / "init").chmod(0o755)
    archive = into.with_suffix(".cpio")
    with archive.open("wb") as out:
        names = "\n".join(str(path.relative_to(into)) for path in sorted(into.rglob("*")))
        subprocess.run([unpacked / "bin/busybox", "cpio", "-o", "-H", "newc"], input=names.encode(), stdout=out, cwd=into, check=True,
                       stderr=subprocess.DEVNULL)
    return archive


class Machine:
    """One qemu. `control` and `data` are streams to the guest's two ports, `monitor` speaks QMP."""

    def __init__(self, home, disk, log=None, incoming=None, forward=(), programs=None):
        ours, theirs = zip(*(socket.socketpair() for _ in range(3)))
        self.control, self.data, monitor = ours
        fds = [each.fileno() for each in theirs]
        file = f"driver=file,filename={disk},cache.direct=off"
        if log:
            # Each write and each flush of the disk goes into the log as it is begun.
            file = (f"driver=blklogwrites,log-sector-size=512,file.driver=file,file.filename={disk},"
                    f"log.driver=file,log.filename={log}")
        forwards = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in forward)
        command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                   "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "1", "-m", "384",
                   "-kernel", home / "vmlinuz", "-initrd", home / "initramfs.cpio", "-device", "vmgenid,guid=auto",
                   "-append", "console=ttyS0 quiet mitigations=off nopti panic=-1 random.trust_cpu=on",
                   "-serial", f"file:{home}/console",
                   "-chardev", f"socket,id=c,fd={fds[0]}", "-chardev", f"socket,id=d,fd={fds[1]}",
                   "-chardev", f"socket,id=m,fd={fds[2]}", "-mon", "chardev=m,mode=control",
                   "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=c,nr=1",
                   "-device", "virtserialport,chardev=d,nr=2",
                   "-netdev", "user,id=n" + forwards, "-device", "virtio-net-pci,netdev=n,romfile=",
                   "-blockdev", f"{file},node-name=disk", "-device", "virtio-blk-pci,drive=disk,discard=off,write-zeroes=off"]
        if programs:
            command += ["-blockdev", f"driver=file,filename={programs},node-name=programs,read-only=on",
                        "-device", "virtio-blk-pci,drive=programs"]
        if incoming:
            command += ["-incoming", f"exec:cat {incoming}"]
        self.process = subprocess.Popen([str(part) for part in command], pass_fds=fds, stdin=subprocess.DEVNULL)
        for each in theirs:
            each.close()
        self.monitor = monitor.makefile("rw")
        self.control_in = self.control.makefile("r")

    def ask(self, command, **arguments):
        if not hasattr(self, "is_greeted"):
            self.is_greeted = self.monitor.readline()
            self.ask("qmp_capabilities")
        json.dump({"execute": command, "arguments": arguments}, self.monitor)
        self.monitor.write("\n")
        self.monitor.flush()
        for line in self.monitor:
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"qemu, {command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]
        raise RuntimeError(f"qemu ended at {command}")

    def tell(self, line):
        self.control.sendall(line.encode() + b"\n")

    def hear(self):
        line = self.control_in.readline()
        if not line:
            raise RuntimeError("the guest is gone")
        return line.rstrip("\n")

    def save(self, path):
        self.ask("migrate", uri=f"exec:cat > {path}")
        while (status := self.ask("query-migrate")["status"]) != "completed":
            if status == "failed":
                raise RuntimeError("the state could not be written")
            time.sleep(0.05)

    def cut(self):
        """The power goes: nothing of the guest's memory is left."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for each in (self.control_in, self.control, self.data, self.monitor):
            try:
                each.close()
            except OSError:
                pass

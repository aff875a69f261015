"""The guest: Debian's kernel and busybox, unpacked and not installed, booted once and kept as a state of the machine.

Each life begins with that state, so that it costs a second and not a boot. The guest does what comes by its control
port: lines of shell.
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

MODULES = "virtio_pci virtio_blk virtio_net virtio_console crc32c_generic xxhash_generic blake2b_generic ext4 xfs btrfs"
DISK_BYTES = 320 << 20
ANSWER_S = 120

INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts; mount -t tmpfs shm /dev/shm
for m in $(cat /modules/order); do insmod /modules/$m.ko; done
while [ ! -e /dev/vport0p2 ] || [ ! -e /sys/class/net/eth0 ]; do sleep 0.1; done
ip link set lo up; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2
mkdir -p /data /root
if [ -e /dev/vdb ]; then
    mount -t ext4 -o ro,noatime /dev/vdb /root
    mount -t tmpfs tmp /root/tmp; mount -t tmpfs run /root/run
    mount --bind /dev /root/dev; mount --bind /proc /root/proc
fi
exec 3<>/dev/vport0p1 4<>/dev/vport0p2
echo booted >&3
while :; do if read -r line <&3; then eval "$line"; else sleep 0.1; fi; done
"""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def run(*command, **more):
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, **more).stdout


def unpack(packages, into, cache, with_dependencies=False):
    """Downloads packages where they are not there yet, and unpacks them without installing them."""
    if into.exists():
        return
    archives = cache / into.name
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    if with_dependencies:
        # As if nothing were installed here: all that the packages depend on, libc included.
        (archives / "status").touch()
        run("apt-get", "-o", f"Dir::State::status={archives}/status", "-o", f"Dir::Cache::archives={archives}",
            "-o", "Debug::NoLocking=1", "--no-install-recommends", "--download-only", "-y", "-q", "install", *packages)
    else:
        run("apt-get", "download", "-q", *packages, cwd=archives, stderr=subprocess.DEVNULL)
    half = into.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    for archive in archives.glob("*.deb"):
        run("dpkg-deb", "-x", archive, half)
    half.rename(into)


def kernel_package():
    """The kernel that Debian's linux-image-amd64 depends on."""
    found = re.search(r"Depends: (linux-image-\S+)", run("apt-cache", "depends", "linux-image-amd64").decode())
    return found.group(1)


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
        command = [unpacked / "bin/busybox", "cpio", "-o", "-H", "newc"]
        subprocess.run(command, input=names.encode(), stdout=out, stderr=subprocess.DEVNULL, cwd=into, check=True)
    return archive


def make_filesystem(filesystem, path):
    """An empty disk. Nothing is left to do for the guest's kernel in the background."""
    path.write_bytes(b"")
    os.truncate(path, DISK_BYTES)
    options = {
        "ext4": ["-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"],
        "xfs": ["-K"],
        "btrfs": ["-K"],
    }
    run(f"mkfs.{filesystem}", "-q", *options[filesystem], path)
    holes = path.with_suffix(".holes")
    run("cp", "--sparse=always", path, holes)
    holes.rename(path)


class Guest:
    """What every life of a run begins with: kernel, initramfs, the disk of programs, the state after the boot."""

    def __init__(self, store, home, seawall, packages=()):
        """`store` keeps what was downloaded, `home` is a folder for this run."""
        self.home, self.state = home, home / "state"
        kernel = kernel_package()
        unpacked = store / kernel
        unpack([kernel, "busybox-static"], unpacked, store / "archives")
        self.kernel = next((unpacked / "boot").glob("vmlinuz-*"))
        self.initramfs = initramfs(unpacked, seawall, home / "initramfs")
        self.programs, self.root = None, None
        if packages:
            self.root = store / "programs"
            unpack(packages, self.root, store / "archives", with_dependencies=True)
            for name in "data dev proc sys tmp run".split():
                (self.root / name).mkdir(exist_ok=True)
            for name in "logger.py", "relay.py":
                shutil.copy(Path(__file__).parent / name, self.root / name)
            self.programs = home / "programs"
            self.programs.write_bytes(b"")
            os.truncate(self.programs, 400 << 20)
            run("mkfs.ext4", "-q", "-F", "-d", self.root, self.programs)
        disk = home / "disk"
        disk.write_bytes(b"")
        os.truncate(disk, DISK_BYTES)
        machine = Machine(self, disk)
        try:
            machine.hears("booted")
            machine.save(self.state)
        finally:
            machine.cut()

    def versions(self):
        qemu = run("qemu-system-x86_64", "--version").decode().splitlines()[0]
        return f"{qemu}, TCG, one processor; guest: {self.kernel.name}"


class Machine:
    """One qemu. `control` and `data` are streams to the guest's two ports, `monitor` speaks QMP."""

    def __init__(self, guest, disk, log=None, incoming=None, forward=()):
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
                   "-kernel", guest.kernel, "-initrd", guest.initramfs, "-device", "vmgenid,guid=auto",
                   "-append", "console=ttyS0 quiet mitigations=off nopti panic=-1 random.trust_cpu=on",
                   "-serial", f"file:{guest.home}/console",
                   "-chardev", f"socket,id=c,fd={fds[0]}", "-chardev", f"socket,id=d,fd={fds[1]}",
                   "-chardev", f"socket,id=m,fd={fds[2]}", "-mon", "chardev=m,mode=control",
                   "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=c,nr=1",
                   "-device", "virtserialport,chardev=d,nr=2",
                   "-netdev", "user,id=n" + forwards, "-device", "virtio-net-pci,netdev=n,romfile=",
                   "-blockdev", f"{file},node-name=disk",
                   "-device", "virtio-blk-pci,drive=disk,discard=off,write-zeroes=off"]
        if guest.programs:
            command += ["-blockdev", f"driver=file,filename={guest.programs},node-name=programs,read-only=on",
                        "-device", "virtio-blk-pci,drive=programs"]
        if incoming:
            command += ["-incoming", f"exec:cat {incoming}"]
        self.process = subprocess.Popen([str(part) for part in command], pass_fds=fds, stdin=subprocess.DEVNULL)
        for each in theirs:
            each.close()
        self.monitor = monitor.makefile("rw")
        self.heard = ""

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

    def has_said(self, word):
        """Whether a line of the control port was this, and takes what came up to it."""
        try:
            part = self.control.recv(65536, socket.MSG_DONTWAIT)
            if not part:
                raise RuntimeError("the guest is gone")
            self.heard += part.decode(errors="replace")
        except BlockingIOError:
            pass
        before, found, rest = self.heard.partition(word + "\n")
        if found:
            self.heard = rest
        return bool(found)

    def hears(self, word):
        deadline = time.monotonic() + ANSWER_S
        while not self.has_said(word):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the guest did not say {word}, but {self.heard!r}")
            time.sleep(0.005)

    def words(self):
        """What went wrong there, as far as it can say."""
        self.tell("cat /err >&3; dmesg | tail -5 >&3; ps >&3; echo said >&3")
        time.sleep(2)
        self.has_said("nothing")
        return self.heard

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
        for each in (self.control, self.data, self.monitor):
            try:
                each.close()
            except OSError:
                pass

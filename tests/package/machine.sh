#!/bin/sh
# A machine below FOLDER that looks like this one, with a systemd of its own: what is written in it stays in memory.
# For root, in namespaces of its own (mount, pid, ipc, uts, net).
#   machine.sh FOLDER GROUP
set -eu
cd "$1"
mount --make-rprivate /
mount -t tmpfs machine .
cd "$1"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work machine root
cd root
mount -t proc proc proc
# Nothing reaches the kernel's settings, this machine's disks or its devices.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs run run
mount -t tmpfs tmp tmp
mount -t tmpfs -o mode=0755 dev dev
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
: >etc/fstab
# A container's image has one, so that nothing is started in it.
rm -f usr/sbin/policy-rc.d
# A control group of its own, in which systemd makes those of its units.
mount -t cgroup2 cgroup sys/fs/cgroup
mkdir "sys/fs/cgroup/$2"
echo 0 >"sys/fs/cgroup/$2/cgroup.procs"
umount sys/fs/cgroup
mkdir outside
pivot_root . outside
umount -l outside
exec unshare --cgroup sh -c 'mount -t cgroup2 cgroup /sys/fs/cgroup && exec "$@"' - \
    env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=basic.target --log-target=journal --show-status=no

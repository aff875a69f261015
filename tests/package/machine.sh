#!/bin/sh
# A machine below FOLDER that looks like this one, with a systemd of its own: what is written in it stays in memory.
# For root, in namespaces of its own (mount, pid, ipc, uts, net).
#   machine.sh FOLDER
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
mkdir dev/shm
for name in null zero full random urandom tty; do
    : >"dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
: >etc/fstab
# A container's image has one, so that nothing is started in it.
rm -f usr/sbin/policy-rc.d
mount -t tmpfs cgroup sys/fs/cgroup
mkdir sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
mkdir -p outside
pivot_root . outside
umount -l outside
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=basic.target --log-target=null --show-status=no

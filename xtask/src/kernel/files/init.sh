#!/bin/busybox sh
# The guest's first process: finds the host's files, lays a file system in memory over them, and goes there.
B=/bin/busybox
give_up() { echo "init: $*"; $B poweroff -f; }

$B mount -t proc proc /proc && $B mount -t sysfs sysfs /sys && $B mount -t devtmpfs dev /dev || give_up "no /proc, /sys or /dev"
for module in /modules/*; do
    $B insmod "$module" || give_up "cannot load $module"
done
$B mount -t virtiofs -o ro root /host || give_up "the host's files are not to be had"
$B mount -t tmpfs -o size=50% changes /changes && $B mkdir /changes/new /changes/work || give_up "no memory for changes"
$B mount -t overlay -o lowerdir=/host,upperdir=/changes/new,workdir=/changes/work overlay /root || give_up "no overlay"
for own in proc sys dev; do
    $B mount --move /$own /root/$own || give_up "cannot move /$own"
done
# What of the host runs is none of ours.
$B mount -t tmpfs -o mode=755 run /root/run || give_up "cannot empty /run"
$B mkdir -p /root/lib/modules && $B mount -t virtiofs -o ro modules /root/lib/modules || give_up "the kernel's modules are not to be had"
$B cp /guest.sh /command.sh /root/run/ || give_up "nothing to run"
exec $B switch_root /root /bin/bash /run/guest.sh

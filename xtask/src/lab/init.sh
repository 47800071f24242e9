#!/bin/busybox sh
# The init of the lab's control domain: starts Xen's daemons, then runs the commands that come in at the second serial
# line. After each it prints "##lab end STATUS".
export PATH=/bin:/xen LD_LIBRARY_PATH=/lib
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
while read -r module; do
    insmod "/modules/$module" || echo "lab: no module $module"
done < /modules/order
mount -t xenfs xenfs /proc/xen
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
ip link set lo up

fail() {
    echo "lab: $*"
    echo "##lab failed $*" > /dev/ttyS1
    poweroff -f
}

xenstored || fail "xenstored"
tries=0
until xenstore-read / > /dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 50 ] || fail "xenstored doesn't answer"
    usleep 50000
done
xen-init-dom0 > /dev/null || fail "xen-init-dom0"
xenconsoled --log=guest --log-dir=/var/log/xen/console || fail "xenconsoled"

# The console of Linux is the keyboard of a guest (xtask/src/lab/domain.rs).
stty -F /dev/hvc0 raw -echo
stty -F /dev/ttyS1 raw -echo
exec < /dev/ttyS1 > /dev/ttyS1 2>&1
echo "##lab up"
while read -r line; do
    sh -c "$line" < /dev/null
    echo "##lab end $?"
done

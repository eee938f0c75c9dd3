#!/bin/sh
# Runs inside the virtual machine, as root, under systemd with cgroup v2.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin GANTRY_BIN=/payload/bin HOME=/root
failed=0
say() { echo "VM $*" >/dev/console; } # opened each time: a login on the line hangs it up
say "kernel $(uname -r), cgroup $(stat -f -c %T /sys/fs/cgroup)"
check() {
  name=$1; shift
  if "$@" >"/tmp/$name.out" 2>&1; then say "ok   $name"; else say "FAIL $name"; tail -40 "/tmp/$name.out" >/dev/console; failed=1; fi
}
for t in /payload/tests/*.test; do
  [ -e "$t" ] || continue
  mkdir -p /tmp/cwd && cd /tmp/cwd || exit 1
  check "$(basename "$t" .test)" timeout 900 "$t" -test.timeout 15m
done

# The package: install, run, upgrade with a container running, remove.
deb=$(ls /payload/gantry_*.deb 2>/dev/null | head -1)
if [ -n "$deb" ]; then
  package() {
    set -e
    dpkg -i "$deb"
    systemctl is-active gantry.socket
    mkdir -p /root/rootfs/bin && cp /bin/busybox /root/rootfs/bin/ && ln -sf busybox /root/rootfs/bin/sh && ln -sf busybox /root/rootfs/bin/sleep
    tar -C /root/rootfs -c . | gantry import - bb:latest
    gantry run -d --name lives bb:latest /bin/sleep 1000
    pid=$(gantry inspect -f '{{.State.Pid}}' lives)
    systemctl restart gantry.service
    [ "$(gantry inspect -f '{{.State.Pid}}' lives)" = "$pid" ]
    dpkg -i "$deb"
    [ "$(gantry inspect -f '{{.State.Pid}}' lives)" = "$pid" ]
    systemctl kill -s KILL gantry.service; sleep 3
    [ "$(gantry inspect -f '{{.State.Pid}}' lives)" = "$pid" ]
    gantry exec lives /bin/sh -c 'echo still here'
    gantry rm -f lives
    dpkg -r gantry
    ! systemctl is-active gantry.service
  }
  check package package
fi
[ $failed = 0 ] && say "all passed" || say "something failed"

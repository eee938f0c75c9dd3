#!/usr/bin/env bash
# Runs what needs another host than this one: an older kernel (6.1), cgroup v2, systemd, AppArmor, the Debian package, reboots.
# Boots Debian's cloud kernel with a fresh Debian root under qemu's software emulation; nothing of the host is touched.
#   test/vm/run.sh                     all
#   VM_KEEP=1 test/vm/run.sh           keeps the root for the next run (in .cache/vm)
#   VM_ONLY="package reboot" …         some of: tests first-run package reboot
#   VM_PACKAGES="runtime internal/driver/layers" …   other packages than those in packages.txt
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=$PWD/.cache/vm
mkdir -p "$cache"
work=$(mktemp -d /var/tmp/gantry-vm-XXXXXX)
qemu=
cleanup() {
  [ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true
  rm -rf "$work"
  [ -n "${VM_KEEP:-}" ] || rm -rf "$cache"
}
trap cleanup EXIT

suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
if [ ! -e "$cache/root.ext4" ]; then
  echo "== making a Debian $suite root"
  mmdebstrap --quiet --variant=apt --include=systemd-sysv,dbus,linux-image-cloud-amd64,initramfs-tools,kmod,iproute2,nftables,busybox-static,ca-certificates,curl,procps,apparmor,jq,e2fsprogs \
    --customize-hook='echo gantry-vm >"$1/etc/hostname"' \
    --customize-hook='printf "/dev/vda / ext4 defaults 0 1\n/dev/vdb /payload ext4 defaults 0 0\n" >"$1/etc/fstab"; mkdir -p "$1/payload"' \
    --customize-hook='chroot "$1" passwd -d root' \
    --customize-hook='copy-in test/vm/gantry-vm-tests.service /etc/systemd/system' \
    --customize-hook='chroot "$1" systemctl enable gantry-vm-tests.service; chroot "$1" systemctl mask serial-getty@ttyS0.service' \
    "$suite" "$work/root" >"$work/mmdebstrap.log" 2>&1 || { tail -20 "$work/mmdebstrap.log"; exit 1; }
  printf 'virtio_pci\nvirtio_blk\next4\n' >>"$work/root/etc/initramfs-tools/modules"
  sed -i 's/^MODULES=.*/MODULES=list/' "$work/root/etc/initramfs-tools/initramfs.conf"
  chroot "$work/root" update-initramfs -u -k all >/dev/null 2>&1
  cp "$work"/root/boot/vmlinuz-* "$cache/vmlinuz"
  cp "$work"/root/boot/initrd.img-* "$cache/initrd"
  mke2fs -q -t ext4 -d "$work/root" "$cache/root.part" 3G
  mv "$cache/root.part" "$cache/root.ext4"
  rm -rf "$work/root"
fi

echo "== compiling the tests"
export CGO_ENABLED=0
bin=$(realpath "${GANTRY_BIN:-bin}")
only=${VM_ONLY:-tests first-run package reboot}
mkdir -p "$work/payload/tests" "$work/payload/packaging" "$work/payload/old"
cp -r "$bin" "$work/payload/bin"
cp -L "$(command -v docker)" "$work/payload/bin/" # the client of the tests of images
cp test/vm/inside.sh test/vm/package.sh "$work/payload/"
cp packaging/first-run.sh "$work/payload/packaging/"
echo "$only" >"$work/payload/only"
case $only in *tests*)
  # Lines of packages.txt: a package, and flags for its tests.
  while read -r pkg flags; do
    name=$work/payload/tests/$(echo "$pkg" | tr / -)
    go test -c -o "$name.test" "./$pkg"
    echo "$flags" >"$name.flags"
  done < <(if [ -n "${VM_PACKAGES:-}" ]; then tr ' ' '\n' <<<"$VM_PACKAGES"; else cat test/vm/packages.txt; fi) ;;
esac
case $only in *first-run*) go build -trimpath -ldflags '-s -w' -o "$work/payload/guestbook" ./examples/guestbook ;; esac
# Two versions of the package, so that one is an upgrade of the other.
export BIN=$bin DEB_COMPRESSION=gzip
DEB_VERSION=0.1~vm DEB_DIR=$work/payload/old packaging/build-deb.sh >/dev/null
DEB_VERSION=0.2~vm DEB_DIR=$work/payload packaging/build-deb.sh >/dev/null
truncate -s 2G "$work/payload.ext4"
mke2fs -q -t ext4 -d "$work/payload" "$work/payload.ext4"
cp --sparse=always "$cache/root.ext4" "$work/root.ext4"
# A kept root may have the unit of an older tree.
unit=gantry-vm-tests.service
printf 'cd /etc/systemd/system\nrm %s\nwrite test/vm/%s %s\n' $unit $unit $unit | debugfs -w -f - "$work/root.ext4" >/dev/null 2>&1

# boot CLOCK: runs the machine until it resets or powers off. qemu's own clock starts at CLOCK (UTC).
mkfifo "$work/monitor"
boot() {
  : >"$work/boot"
  # An end of the pipe stays open here, so that the monitor does not see its input end.
  exec 3<>"$work/monitor"
  nice -n "${VM_NICE:-5}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp "${VM_CPUS:-2}" -m 3072 -display none -no-reboot -rtc "base=$1" \
    -serial "file:$work/boot" -monitor stdio \
    -kernel "$cache/vmlinuz" -initrd "$cache/initrd" -append "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 apparmor=1 security=apparmor" \
    -drive "file=$work/root.ext4,if=virtio,format=raw,cache=unsafe" -drive "file=$work/payload.ext4,if=virtio,format=raw,cache=unsafe" \
    -nic none <&3 >/dev/null 2>"$work/qemu.log" &
  qemu=$!
  local shown=0 lines reset=
  while kill -0 "$qemu" 2>/dev/null; do
    sleep 1
    lines=$(wc -l <"$work/boot")
    if [ "$lines" -gt "$shown" ]; then
      sed -n "$((shown + 1)),${lines}p" "$work/boot" | tr -d '\r' | grep -a -E '^(VM |ok|FAIL|panic| *--- FAIL|.*_test.go:|\+ )' || true
      shown=$lines
    fi
    if [ -z "$reset" ] && grep -a -q '^VM reset me' "$work/boot"; then
      reset=1
      echo system_reset >&3 # with -no-reboot it ends qemu, as pulling the plug would
    fi
    if [ $((SECONDS)) -gt "${VM_TIMEOUT:-3600}" ]; then
      echo "== no end after ${VM_TIMEOUT:-3600} s"
      kill "$qemu"
    fi
  done
  wait "$qemu" || { cat "$work/qemu.log"; true; }
  qemu=
  sed -n "$((shown + 1)),\$p" "$work/boot" | tr -d '\r' | grep -a -E '^VM ' || true
  cat "$work/boot" >>"$work/console"
}

SECONDS=0
echo "== booting"
boot "$(date -u +%FT%T)"
if grep -a -q '^VM reset me' "$work/console"; then
  echo "== reset; the clock is set back a day"
  boot "$(date -u -d '1 day ago' +%FT%T)"
  echo "== rebooted"
  boot "$(date -u +%FT%T)"
fi
cp "$work/console" "${VM_CONSOLE:-/dev/null}"
grep -a -q '^VM all passed' "$work/console" || { echo "== the console ends:"; tail -80 "$work/console"; exit 1; }

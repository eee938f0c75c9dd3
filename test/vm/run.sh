#!/usr/bin/env bash
# Runs the tests that need another host than this one: cgroup v2, systemd, AppArmor, the Debian package.
# Boots Debian's cloud kernel with a fresh Debian root under qemu's software emulation; nothing of the host is touched.
#   test/vm/run.sh            all
#   VM_KEEP=1 test/vm/run.sh  keeps the root for the next run (in .cache/vm)
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=$PWD/.cache/vm
mkdir -p "$cache"
work=$(mktemp -d /var/tmp/gantry-vm-XXXXXX)
trap 'rm -rf "$work"; [ -n "${VM_KEEP:-}" ] || rm -rf "$cache"' EXIT

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
  mke2fs -q -t ext4 -d "$work/root" "$cache/root.ext4" 3G
  rm -rf "$work/root"
fi

echo "== compiling the tests"
mkdir -p "$work/payload/tests"
cp -r bin "$work/payload/bin"
cp dist/gantry_*.deb "$work/payload/" 2>/dev/null || true
cp test/vm/inside.sh "$work/payload/"
while read -r pkg; do
  CGO_ENABLED=0 go test -c -o "$work/payload/tests/$(echo "$pkg" | tr / -).test" "./$pkg"
done <test/vm/packages.txt
truncate -s 2G "$work/payload.ext4"
mke2fs -q -t ext4 -d "$work/payload" "$work/payload.ext4"
cp --sparse=always "$cache/root.ext4" "$work/root.ext4"

echo "== booting"
timeout "${VM_TIMEOUT:-2400}" qemu-system-x86_64 -accel tcg,thread=multi -smp 2 -m 3072 -nographic -no-reboot \
  -kernel "$cache/vmlinuz" -initrd "$cache/initrd" -append "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 apparmor=1 security=apparmor" \
  -drive "file=$work/root.ext4,if=virtio,format=raw,cache=unsafe" -drive "file=$work/payload.ext4,if=virtio,format=raw,cache=unsafe" \
  -nic none </dev/null | tee "$work/console" | grep --line-buffered -a -E '^(VM |--- FAIL|FAIL|panic)' || true
grep -a -q '^VM all passed' "$work/console" || { echo "== the console ends:"; tail -60 "$work/console"; exit 1; }

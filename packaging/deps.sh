#!/usr/bin/env bash
# Installs what a target needs from Debian's archive, saying so. Usage: deps.sh run|test|vm
set -euo pipefail
case "${1:-}" in
run)  want=(busybox-static nftables iproute2 curl ca-certificates) ;;
test) want=(busybox-static nftables iproute2 iptables ufw firewalld dbus-daemon curl ca-certificates strace jq procps docker.io docker-registry podman skopeo crun runc
            python3-docker gcc libc6-dev libseccomp-dev libcap2-bin e2fsprogs tmux zstd xz-utils shellcheck mmdebstrap gnupg chromium bind9-dnsutils dnsmasq-base docker-compose nginx-light redis-server iperf3 wrk containernetworking-plugins) ;;
vm)   want=(qemu-system-x86 mmdebstrap e2fsprogs) ;;
*) echo "usage: deps.sh run|test|vm" >&2; exit 2 ;;
esac
missing=()
for p in "${want[@]}"; do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "These Debian packages are needed; install them as root: ${missing[*]}" >&2
  exit 1
fi
echo "Installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# A package's service must not be started by its installation.
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; made=1; fi
trap '[ -z "$made" ] || rm -f $policy' EXIT
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

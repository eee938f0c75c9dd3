#!/usr/bin/env bash
# Makes dist/gantry_VERSION_ARCH.deb from bin/.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(git describe --tags --always 2>/dev/null | sed 's/^v//; s/-/+/g')
case $version in [0-9]*) ;; *) version=0.0+$version ;; esac
arch=$(dpkg --print-architecture)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
packaging/install.sh "$root" /usr
install -d "$root/DEBIAN"
sed "s/@VERSION@/$version/; s/@ARCH@/$arch/" packaging/debian/control >"$root/DEBIAN/control"
for script in postinst prerm postrm; do install -m 755 "packaging/debian/$script" "$root/DEBIAN/$script"; done
mkdir -p dist
dpkg-deb --root-owner-group --build "$root" "dist/gantry_${version}_${arch}.deb"

#!/usr/bin/env bash
# Makes dist/gantry_VERSION_ARCH.deb from bin/. DEB_VERSION, DEB_DIR and DEB_COMPRESSION say otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
# A tag vX.Y.Z names a release; anything else is a snapshot before the first one, newer by its date.
if [ -n "${DEB_VERSION:-}" ]; then
  version=$DEB_VERSION
elif version=$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null); then
  version=${version#v}
else
  version=0.0~git$(git log -1 --format=%cd --date=format:%Y%m%d%H%M%S).$(git rev-parse --short HEAD)
fi
out=${DEB_DIR:-dist}
arch=$(dpkg --print-architecture)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
rm -f "$out"/gantry_*.deb
packaging/install.sh "$root" /usr
install -d "$root/DEBIAN"
sed "s/@VERSION@/$version/; s/@ARCH@/$arch/" packaging/debian/control >"$root/DEBIAN/control"
for script in postinst prerm postrm; do install -m 755 "packaging/debian/$script" "$root/DEBIAN/$script"; done
mkdir -p "$out"
dpkg-deb "-Z${DEB_COMPRESSION:-xz}" --root-owner-group --build "$root" "$out/gantry_${version}_${arch}.deb"

#!/usr/bin/env bash
# Makes dist/gantry_VERSION_ARCH.deb from bin/.
set -euo pipefail
cd "$(dirname "$0")/.."
# A tag vX.Y.Z names a release; anything else is a snapshot before the first one, newer by its date.
if version=$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null); then
  version=${version#v}
else
  version=0.0~git$(git log -1 --format=%cd --date=format:%Y%m%d%H%M%S).$(git rev-parse --short HEAD)
fi
arch=$(dpkg --print-architecture)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
rm -f dist/gantry_*.deb
packaging/install.sh "$root" /usr
install -d "$root/DEBIAN"
sed "s/@VERSION@/$version/; s/@ARCH@/$arch/" packaging/debian/control >"$root/DEBIAN/control"
for script in postinst prerm postrm; do install -m 755 "packaging/debian/$script" "$root/DEBIAN/$script"; done
mkdir -p dist
dpkg-deb --root-owner-group --build "$root" "dist/gantry_${version}_${arch}.deb"

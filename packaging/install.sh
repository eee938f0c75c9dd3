#!/usr/bin/env bash
# Installs what `make build` made: install.sh DESTDIR PREFIX. BIN is another folder than bin/.
set -euo pipefail
cd "$(dirname "$0")/.."
dest=${1-} prefix=${2:-/usr} bin=${BIN:-bin}
install -d "$dest$prefix/bin" "$dest$prefix/libexec/gantry" "$dest/etc/gantry"
for b in gantry gantryd gantry-runtime; do install -m 755 "$bin/$b" "$dest$prefix/bin/$b"; done
for b in gantry-manifest gantry-keeper gantry-anchor gantry-net gantry-lazy gantry-init gantry-registry gantry-trust gantry-import; do install -m 755 "$bin/$b" "$dest$prefix/libexec/gantry/$b"; done
install -d "$dest/lib/systemd/system"
install -m 644 packaging/systemd/gantry.service packaging/systemd/gantry.socket "$dest/lib/systemd/system/"
for shell in bash zsh fish; do
  case $shell in
  bash) target=$dest$prefix/share/bash-completion/completions/gantry ;;
  zsh) target=$dest$prefix/share/zsh/vendor-completions/_gantry ;;
  fish) target=$dest$prefix/share/fish/vendor_completions.d/gantry.fish ;;
  esac
  install -d "$(dirname "$target")"
  "$bin/gantry" completion $shell >"$target"
done
install -d "$dest$prefix/share/doc/gantry"
install -m 644 README.md LICENSE SECURITY.md "$dest$prefix/share/doc/gantry/"

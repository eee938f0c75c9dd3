#!/usr/bin/env bash
# Formatting, vet for every platform that something is built for, shell scripts.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || { echo "gofmt would change:"; echo "$unformatted"; exit 1; }
go vet ./...
for os in darwin windows; do GOOS=$os go vet ./cmd/gantry ./internal/cli/...; done
GOARCH=arm64 go build -o /dev/null ./cmd/gantryd
if command -v shellcheck >/dev/null; then shellcheck -S warning $(git ls-files '*.sh' .ci/run); fi

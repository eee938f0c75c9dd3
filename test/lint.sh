#!/usr/bin/env bash
# Formatting, vet for every platform that something is built for, shell scripts.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
unformatted=$(git ls-files -z '*.go' | xargs -0 gofmt -l)
[ -z "$unformatted" ] || { echo "gofmt would change:"; echo "$unformatted"; exit 1; }
go vet ./...
for os in darwin windows; do GOOS=$os go vet ./cmd/gantry ./internal/cli/...; done
GOARCH=arm64 go build -o /dev/null ./cmd/gantryd
git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck -S warning

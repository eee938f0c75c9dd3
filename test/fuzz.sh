#!/usr/bin/env bash
# Runs every fuzzer of the tree for a while: fuzz.sh 30s
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-30s}
git grep -l '^func Fuzz' -- '*_test.go' | while read -r file; do
  grep -o '^func Fuzz[A-Za-z0-9_]*' "$file" | sed 's/^func //' | while read -r fuzzer; do
    echo "== $(dirname "$file") $fuzzer"
    go test "./$(dirname "$file")" -run '^$' -fuzz "^$fuzzer\$" -fuzztime "$time"
  done
done

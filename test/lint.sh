#!/usr/bin/env bash
# Formatting; vet and static analysis for every platform that something is built for; shell scripts.
# The analysers are pinned in test/lint/go.mod, a module of its own, so that the engine's does not carry them.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
root=$PWD
client=(./cmd/gantry ./cmd/gantry-manifest ./internal/cli/...)
status=0

# check TITLE COMMAND... runs all of them, so that one run shows everything that is wrong.
check() {
    local title=$1 out
    shift
    if ! out=$("$@" 2>&1); then
        printf -- '-- %s\n%s\n' "$title" "$out"
        status=1
    fi
}

# tool NAME gives the path of a pinned analyser, built when needed.
tool() { go -C "$root/test/lint" tool -n "$1"; }

formatting() {
    local files
    files=$(git ls-files -z '*.go' | xargs -0 gofmt -l)
    [ -z "$files" ] || { echo "$files"; return 1; }
}
# Wrappers of system calls keep the kernel's signature, whether or not everybody varies every argument.
parameters() {
    local found
    found=$("$(tool unparam)" ./... 2>&1 | grep -v ' always receives ' || true)
    [ -z "$found" ] || { echo "$found"; return 1; }
}
# Waiting for a channel's word without looking at it drops nothing. A Close whose error matters is the one after
# writing, and code that writes returns it; all the others have nobody to tell.
errors() {
    local found
    found=$("$(tool errcheck)" -exclude test/lint/errcheck.txt ./... 2>&1 | grep -vE $'\t(case )?<-|[cC]lose\\(.*\\)' || true)
    [ -z "$found" ] || { echo "$found"; return 1; }
}
scripts() { git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck -S warning; }

check "gofmt would change" formatting
check "vet" go vet ./...
check "vet with failpoints" go vet -tags failpoints ./...
for os in darwin windows; do
    check "vet for $os" env GOOS=$os go vet "${client[@]}"
    check "staticcheck for $os" env GOOS=$os "$(tool staticcheck)" "${client[@]}"
done
check "arm64" env GOARCH=arm64 go build -o /dev/null ./cmd/gantryd
check "staticcheck" "$(tool staticcheck)" ./...
check "values that are never used" "$(tool ineffassign)" ./...
check "parameters and results that are never used" parameters
check "errors that are dropped" errors
check "shell scripts" scripts
exit $status

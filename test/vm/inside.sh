#!/bin/bash
# Runs inside the virtual machine at every boot, as root, under systemd: one stage per boot.
#   1  tests, first run, package; containers are left running, then the machine is reset (no warning, no sync)
#   2  the clock runs a day behind; what must have come back is looked at; an orderly reboot
#   3  looked at again; the package is removed
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
export GANTRY_VM=1 # a test that misses something of the kernel fails here, and is not skipped
# shellcheck source=test/vm/package.sh
. /payload/package.sh
mkdir -p "$state" /tmp/out
stage=$(($(cat "$state"/stage 2>/dev/null || echo 0) + 1))
echo $stage >"$state"/stage
sync -f /payload
say() { echo "VM $*" >/dev/console; } # opened each time: a login on the line hangs it up

# check NAME COMMAND...: one line of the result; the end of the output when it fails
check() {
  local name=$1 began=$SECONDS; shift
  ( set -e; "$@" ) >"/tmp/out/$name" 2>&1 & # not in the condition itself, where set -e is off
  if wait $!; then
    say "ok   $name ($((SECONDS - began)) s)"
  else
    say "FAIL $name ($((SECONDS - began)) s)"
    grep -E '^ *--- FAIL|_test.go:[0-9]+[: ]|^panic: test timed out|^[[:space:]]+Test' "/tmp/out/$name" | head -40 >/dev/console # with colons what failed, without where it hangs
    tail -40 "/tmp/out/$name" >/dev/console
    echo "$name" >>"$state"/failed
  fi
  sync -f /payload
}

unit_tests() {
  local t
  for t in /payload/tests/*.test; do
    [ -e "$t" ] || continue
    mkdir -p /tmp/cwd && cd /tmp/cwd || exit 1
    # shellcheck disable=SC2046 # one word per flag
    PATH=$PATH:/payload/bin GANTRY_BIN=/payload/bin check "$(basename "$t" .test)" "$t" -test.timeout 20m $(cat "${t%.test}.flags")
  done
}

finish() {
  if [ -s "$state"/failed ]; then say "something failed: $(tr '\n' ' ' <"$state"/failed)"; else say "all passed"; fi
  sync -f /payload
  systemctl poweroff --force --force
}

say "stage $stage: kernel $(uname -r), cgroup $(stat -f -c %T /sys/fs/cgroup), $(date -u +%FT%TZ)"
only=$(cat /payload/only 2>/dev/null || echo "tests first-run package reboot")
case $stage in
1)
  case $only in *tests*) unit_tests ;; esac
  case $only in *first-run*) check first-run env GUESTBOOK=/payload/guestbook /payload/packaging/first-run.sh ;; esac
  case $only in *package*|*reboot*) check package package_installs ;; esac
  case $only in *package*)
    check package-restart package_restarts
    check package-upgrade package_upgrades
    check package-systemd-cgroups package_systemd_cgroups ;;
  esac
  case $only in *reboot*)
    check reboot-prepare reboot_prepare
    sleep 3 # what a running engine promises to write soon is written by now
    say "reset me"
    sleep 600 ;;
  esac
  case $only in *package*) check package-remove package_removes ;; esac
  finish ;;
2)
  check reset-state reboot_state unclean
  say "rebooting"
  systemctl reboot
  sleep 600 ;;
3)
  check reboot-state reboot_state clean
  check package-remove package_removes
  finish ;;
*) say "boot loop"; finish ;;
esac

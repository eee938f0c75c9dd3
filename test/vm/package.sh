# Checks of the installed package; sourced by inside.sh, each function in a subshell of its own.
# shellcheck shell=bash
state=/payload/state # on a disk of its own, which is synced: the system's is not, before a reset

# no COMMAND...: it must fail (a plain ! is not looked at by set -e)
no() { if "$@"; then echo "this should have failed: $*"; return 1; fi; }
pid_of() { gantry inspect -f '{{.State.Pid}}' "$1"; }
answers() { # the daemon, within two minutes
  local _
  for _ in $(seq 240); do gantry version >/dev/null 2>&1 && return; sleep 0.5; done
  echo "gantryd does not answer"; journalctl -u gantry -n 30 --no-pager; return 1
}
# same PID: the container's process is the one that ran before
same() { [ "$(pid_of lives)" = "$1" ] && [ -d "/proc/$1" ] && gantry exec lives /bin/sh -c 'echo still here'; }

package_installs() {
  set -ex
  dpkg -i "$(ls /payload/old/gantry_*.deb)"
  systemctl is-active gantry.socket gantry.service
  [ "$(stat -c '%a %G' /run/gantry.sock)" = "660 gantry" ]
  mkdir -p /root/rootfs/{bin,data}
  cp /bin/busybox /root/rootfs/bin/
  for a in sh sleep cat echo touch; do ln -sf busybox /root/rootfs/bin/$a; done
  tar -C /root/rootfs -c . | gantry import - bb:latest
  # shellcheck disable=SC2016 # the container's shell expands it
  gantry run -d --name lives -v keep:/data bb:latest /bin/sh -c 'i=0; while :; do i=$((i+1)); echo line $i; sleep 1; done'
  gantry info -f '{{range .SecurityOptions}}{{println .}}{{end}}' | grep name=apparmor
  grep -q '^gantry-default (enforce)' "/proc/$(pid_of lives)/attr/current"
}

package_restarts() {
  set -ex
  local pid keeper
  pid=$(pid_of lives) keeper=$(pgrep -x gantry-keeper)
  systemctl restart gantry.service; answers; same "$pid"
  systemctl kill -s KILL gantry.service --kill-who=main; sleep 2; answers; same "$pid"
  systemctl stop gantry.service gantry.socket; [ -d "/proc/$pid" ]
  systemctl start gantry.service; answers; same "$pid"
  systemctl daemon-reload; same "$pid"
  [ "$(pgrep -x gantry-keeper)" = "$keeper" ]
  # No line was lost or doubled meanwhile.
  gantry logs lives | awk '{n++; if ($2 != n) {print "line", n, "is", $0; bad = 1}} END {print n, "lines"; exit bad || !n}'
}

package_upgrades() {
  set -ex
  local pid before
  pid=$(pid_of lives) before=$(dpkg-query -W -f '${Version}' gantry)
  dpkg -i "$(ls /payload/gantry_*.deb)"
  [ "$(dpkg-query -W -f '${Version}' gantry)" != "$before" ]
  answers; same "$pid"
  # The keeper runs the new executable: nobody runs one that is gone from disk.
  sleep 2
  [ "$(readlink "/proc/$(pgrep -x gantry-keeper)/exe")" = /usr/libexec/gantry/gantry-keeper ]
  gantry run --rm bb:latest /bin/echo hello
  gantry logs lives | awk '{n++; if ($2 != n) {print "line", n, "is", $0; bad = 1}} END {print n, "lines"; exit bad || !n}'
}

# The engine with native.cgroupdriver=systemd: a scope per container, known to systemd.
package_systemd_cgroups() {
  set -ex
  mkdir -p /etc/gantry
  echo '{"exec-opts": ["native.cgroupdriver=systemd"]}' >/etc/gantry/daemon.json
  systemctl restart gantry.service; answers
  trap 'rm -f /etc/gantry/daemon.json; systemctl restart gantry.service' EXIT
  [ "$(gantry info -f '{{.CgroupDriver}}')" = systemd ]
  local id scope
  id=$(gantry run -d --name scoped -m 64m --pids-limit 50 bb:latest /bin/sleep 1000)
  scope=gantry-$id.scope
  systemctl is-active "$scope"
  [ "$(systemctl show -P Slice "$scope")" = system.slice ]
  [ "$(systemctl show -P Delegate "$scope")" = yes ]
  [ "$(systemctl show -P MemoryMax "$scope")" = $((64 << 20)) ]
  [ "$(cat /sys/fs/cgroup/system.slice/"$scope"/memory.max)" = $((64 << 20)) ]
  grep -q "/system.slice/$scope" "/proc/$(pid_of scoped)/cgroup"
  [ "$(wc -l <"/sys/fs/cgroup/system.slice/$scope/cgroup.procs")" = 1 ] # nothing but the container's process
  gantry update --memory 96m --memory-swap 96m scoped
  systemctl daemon-reload
  [ "$(cat /sys/fs/cgroup/system.slice/"$scope"/memory.max)" = $((96 << 20)) ]
  gantry pause scoped; gantry unpause scoped
  gantry stats --no-stream scoped | grep 96MiB
  gantry run -d --name sliced --cgroup-parent gantry-test.slice bb:latest /bin/sleep 1000
  grep -q '/gantry.slice/gantry-test.slice/gantry-.*scope' "/proc/$(pid_of sliced)/cgroup"
  no gantry run --rm --cgroup-parent /not/a/slice bb:latest /bin/echo never
  local code=0
  gantry run --rm bb:latest /bin/sh -c 'exit 7' || code=$?
  [ $code = 7 ]
  gantry rm -f scoped sliced
  sleep 1
  no systemctl is-active "$scope"
  [ ! -e "/sys/fs/cgroup/system.slice/$scope" ]
  # gantry-runtime asks systemd too, as Kubernetes has it do
  mkdir -p /root/bundle
  cp -a /root/rootfs /root/bundle/
  (cd /root/bundle && rm -f config.json && gantry-runtime spec)
  jq '.process.terminal = false | .process.args = ["/bin/sleep", "1000"] | .linux.cgroupsPath = "gantry-rt.slice:oci:one" | .linux.resources.pids.limit = 9' \
    /root/bundle/config.json >/root/bundle/new && mv /root/bundle/new /root/bundle/config.json
  no gantry-runtime create -b /root/bundle one
  gantry-runtime --systemd-cgroup create -b /root/bundle one </dev/null >/tmp/create.out 2>&1 || { cat /tmp/create.out; false; }
  gantry-runtime start one
  systemctl is-active oci-one.scope
  [ "$(systemctl show -P Slice oci-one.scope)" = gantry-rt.slice ]
  [ "$(systemctl show -P TasksMax oci-one.scope)" = 9 ]
  [ "$(gantry-runtime state one | jq -r .status)" = running ]
  gantry-runtime exec one /bin/echo there
  gantry-runtime delete --force one
  no systemctl is-active oci-one.scope
  # the other container, begun with the other driver, was taken over all the same
  gantry exec lives /bin/echo there
  gantry stats --no-stream lives
}

package_removes() {
  set -ex
  local pid
  gantry inspect lives >/dev/null 2>&1 || gantry run -d --name lives bb:latest /bin/sleep 1000
  gantry start lives >/dev/null 2>&1 || true
  pid=$(pid_of lives)
  dpkg -r gantry
  no systemctl is-active gantry.service
  [ "$pid" != 0 ]; [ ! -d "/proc/$pid" ]
  sleep 2
  no pgrep -f libexec/gantry
  [ -d /var/lib/gantry ] # data stays until a purge
  dpkg -P gantry
  [ ! -e /var/lib/gantry ] && [ ! -e /etc/gantry ]
  no getent group gantry
  no grep -q gantry /proc/mounts
}

reboot_prepare() {
  set -ex
  local p run=(gantry run -d --label reboot=1)
  "${run[@]}" --name always --restart always bb:latest /bin/sleep 100000
  "${run[@]}" --name always-stopped --restart always bb:latest /bin/sleep 100000
  "${run[@]}" --name unless --restart unless-stopped bb:latest /bin/sleep 100000
  "${run[@]}" --name unless-stopped --restart unless-stopped bb:latest /bin/sleep 100000
  "${run[@]}" --name onfailure --restart on-failure bb:latest /bin/sleep 100000
  "${run[@]}" --name no bb:latest /bin/sh -c 'echo before; sleep 100000'
  "${run[@]}" --name ended bb:latest /bin/sh -c 'exit 3'
  "${run[@]}" --name anonymous -v /data bb:latest /bin/sh -c 'echo kept >/data/f; sleep 100000'
  "${run[@]}" --name removed --rm -v /data -v named:/n bb:latest /bin/sleep 100000
  gantry stop -t 1 always-stopped unless-stopped
  gantry volume ls -q | sort >"$state"/volumes
  gantry inspect -f '{{range .Mounts}}{{if eq .Destination "/data"}}{{.Name}}{{end}}{{end}}' removed >"$state"/anonymous-of-removed
  for p in always unless onfailure no; do pid_of $p; done
  gantry inspect -f '{{.State.StartedAt}}' no >"$state"/no-started
  gantry inspect -f '{{.RestartCount}}' always
}

# is NAME STATUS [EXITCODE]
is() {
  local have
  have=$(gantry inspect -f '{{.State.Status}} {{.State.ExitCode}}' "$1")
  case "$have" in "$2 ${3:-0}") ;; *) echo "$1 is '$have', not '$2 ${3:-0}'"; return 1 ;; esac
}

reboot_state() { # clean|unclean
  set -ex
  answers
  local _ running=(always always-stopped unless onfailure) n
  for _ in $(seq 60); do
    [ "$(gantry ps -q --filter label=reboot=1 | wc -l)" -ge 4 ] && break
    sleep 1
  done
  gantry ps -a
  gantry ps -aq --filter label=reboot=1 | xargs gantry inspect -f '{{.Name}} {{.State.Status}} {{.State.Error}}'
  for n in "${running[@]}"; do is "$n" running; [ -d "/proc/$(pid_of "$n")" ]; done
  [ "$(gantry ps -q --filter label=reboot=1 | wc -l)" = 4 ]
  is ended exited 3
  gantry inspect -f '{{.State.Status}}' unless-stopped | grep exited
  gantry inspect -f '{{.State.Status}}' no | grep exited
  if [ "$1" = unclean ]; then
    is no exited 255
    is anonymous exited 255
    [ "$(gantry logs no)" = before ]
  fi
  # A run does not end before it began, whatever the clock says.
  [ "$(date -d "$(gantry inspect -f '{{.State.FinishedAt}}' no)" +%s)" -ge "$(date -d "$(gantry inspect -f '{{.State.StartedAt}}' no)" +%s)" ]
  no gantry inspect removed
  no gantry volume inspect "$(cat "$state/anonymous-of-removed")"
  gantry volume inspect named keep >/dev/null
  [ "$(gantry volume ls -q | wc -l)" = $(($(wc -l <"$state"/volumes) - 1)) ]
  gantry run --rm --volumes-from anonymous bb:latest /bin/cat /data/f | grep kept
  ls /var/lib/gantry/layers/volatile/*/ && [ -z "$(ls /var/lib/gantry/layers/volatile/*/)" ]
  # Everything can be used on: start, exec, logs since the jump, stop.
  gantry start no
  gantry exec always /bin/echo there
  gantry ps --format '{{.Status}}' >/tmp/status
  no grep -e '-[0-9]' /tmp/status
  [ "$(gantry logs --since 10m no | grep -c before)" -ge 1 ]
  if [ "$1" = clean ]; then gantry ps -aq --filter label=reboot=1 | xargs gantry rm -f -v; return; fi
  # For the orderly reboot: the same again, with an auto-remove container and its volume.
  gantry run -d --label reboot=1 --name removed --rm -v /data -v named:/n bb:latest /bin/sleep 100000
  gantry stop -t 1 always-stopped
  gantry inspect -f '{{range .Mounts}}{{if eq .Destination "/data"}}{{.Name}}{{end}}{{end}}' removed >"$state"/anonymous-of-removed
  gantry volume ls -q | sort >"$state"/volumes
}

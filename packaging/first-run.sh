#!/usr/bin/env bash
# The first run: an engine in directories of its own, an image made here without any registry, a web
# application with a published port, and a daemon that is killed while the application goes on answering.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/bin
port=${PORT:-18080}
dir=$(mktemp -d /var/tmp/gantry-first-run-XXXXXX)
exec_root=/run/gantry-first-run-$$
export GANTRY_HOST=unix://$dir/gantry.sock
unset DOCKER_HOST DOCKER_CONTEXT
gantry=$bin/gantry
daemon_pid=

say()  { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() { printf '  $ %s\n' "$*"; "$@" 2>&1 | sed 's/^/    /'; }

start_daemon() {
  "$bin/gantryd" --data-root "$dir/data" --exec-root "$exec_root" --pidfile "$dir/pid" -H "$GANTRY_HOST" \
    --config-file "$dir/daemon.json" --bridge-name gfr0 --firewall-table gantry-first-run --cgroup-parent /gantry-first-run >>"$dir/log" 2>&1 &
  daemon_pid=$!
  for _ in $(seq 200); do
    "$gantry" version >/dev/null 2>&1 && return
    kill -0 $daemon_pid 2>/dev/null || break
    sleep 0.05
  done
  echo "The daemon does not answer; its log says:" >&2
  tail -20 "$dir/log" >&2
  exit 1
}

cleanup() {
  status=$?
  [ $status -eq 0 ] || { echo "The first run failed; the daemon's log ends:" >&2; tail -20 "$dir/log" >&2 || true; }
  if "$gantry" version >/dev/null 2>&1; then
    ids=$("$gantry" ps -aq)
    [ -z "$ids" ] || "$gantry" rm -f -v $ids >/dev/null
    kill -TERM "$daemon_pid" 2>/dev/null || true
    wait "$daemon_pid" 2>/dev/null || true
  fi
  rm -rf "$dir" "$exec_root"
}
trap cleanup EXIT
echo '{}' >"$dir/daemon.json"

say "1. An engine of its own, below $dir"
start_daemon
show "$gantry" version --format 'server {{.Server.Version}}, API {{.Server.APIVersion}}'

say "2. An image, made here: busybox and a web application, three layers"
mkdir -p "$dir/root"/{bin,etc,tmp,data,usr/share/doc}
cp /bin/busybox "$dir/root/bin/"
for applet in $(/bin/busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$dir/root/bin/$applet"; done
chmod 1777 "$dir/root/tmp"
printf 'root:x:0:0:root:/:/bin/sh\nguest:x:1000:1000:guest:/data:/bin/sh\n' >"$dir/root/etc/passwd"
printf 'root:x:0:\nguest:x:1000:\n' >"$dir/root/etc/group"
echo 'removed by a later layer' >"$dir/root/usr/share/doc/leftover"
tar -C "$dir/root" -c . | "$gantry" import --message 'busybox from Debian' - base:1 >/dev/null
if [ -n "${GUESTBOOK:-}" ]; then # built elsewhere
  cp "$GUESTBOOK" "$dir/guestbook"
else
  CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$dir/guestbook" ./examples/guestbook
fi
"$gantry" create --name make-1 base:1 /bin/true >/dev/null
"$gantry" cp -q "$dir/guestbook" make-1:/bin/guestbook
"$gantry" commit -m 'add the guestbook' make-1 layers:2 >/dev/null
"$gantry" run --name make-2 layers:2 /bin/sh -c 'rm /usr/share/doc/leftover && chown 1000:1000 /data'
"$gantry" commit -m 'remove what is not needed' -c 'CMD []' -c 'USER guest' -c 'VOLUME /data' -c 'EXPOSE 8080' -c 'ENTRYPOINT ["/bin/guestbook"]' make-2 guestbook:latest >/dev/null
"$gantry" rm make-1 make-2 >/dev/null
show "$gantry" history guestbook:latest --format '{{.Size}}\t{{.Comment}}'

say "3. The application runs, with port $port published"
show "$gantry" run -d --name web -p "127.0.0.1:$port:8080" guestbook:latest
for _ in $(seq 100); do curl -fs "http://127.0.0.1:$port/healthz" >/dev/null && break; sleep 0.05; done
curl -fsS -o /dev/null -d 'entry=hello from the first run' "http://127.0.0.1:$port/"
fetch() { curl -fsS "http://127.0.0.1:$port/" | grep -E 'Served|<li>' | sed 's/<[^>]*>/ /g; s/^/    /'; }
fetch
show "$gantry" run --rm --volumes-from web --entrypoint /bin/ls guestbook:latest -A /usr/share/doc /data
show "$gantry" logs web
show "$gantry" stats --no-stream web
show "$gantry" ps

say "4. The daemon is killed; the application answers all the same"
kill -9 "$daemon_pid"; wait "$daemon_pid" 2>/dev/null || true
fetch
start_daemon
echo "  … and a new daemon finds it running:"
show "$gantry" ps --format '{{.Names}}: {{.Status}}'

say "5. Clean-up"
show "$gantry" stop web
show "$gantry" rm -v web

say "It works. What to try next:"
cat <<NEXT
  make install                          install the engine (or: make deb)
  gantryd &                             start it on /run/gantry.sock
  gantry import rootfs.tar my:1         make an image from a root file system
  gantry run --rm -it my:1 sh           a shell in it
  DOCKER_HOST=unix:///run/gantry.sock docker ps      any Docker client works
  make test, make bench                 see for yourself
NEXT

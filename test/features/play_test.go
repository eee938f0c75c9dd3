package features

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

// scriptTime bounds one script; a mutation may make one wait for ever.
const scriptTime = 30 * time.Second

// prelude is what every script may use.
//
//	run FLAGS IMAGE CMD   a container in the foreground, removed afterwards
//	up FLAGS IMAGE CMD    a container in the background; prints its ID
//	refused TEXT CMD…     the command fails and its output has the text
//	api METHOD PATH BODY  a request; prints the body, fails on a status of 400 and above
//	status METHOD PATH BODY   prints the status code
//	wait_for CMD…         tries for 10 seconds
//	limit "V1=X V2=Y" FLAGS   a container's cgroup has the value (file=value, for cgroup v1 and v2)
//	made JSON             a container made by a request, started and waited for: prints its output
//	typed KEYS CMD…       the command in a terminal; KEYS (with \x18 and the like) are typed; it must end
//	hijack PATH BODY KEYS a stream over an upgraded connection; it must end after KEYS were sent
//	websocket PATH TEXT   prints what comes within some seconds; leaves a file "open" where the server does not close
//	own FLAGS             a second daemon in $H/own, ended with the script
//	has TEXT PART, hasnt TEXT PART
const prelude = `
CG=/sys/fs/cgroup
refused() { t=$1; shift; if o=$("$@" 2>&1 </dev/null); then echo "not refused: $*: $o"; return 1; fi; case $o in *"$t"*) ;; *) echo "refused, but not with '$t': $o"; return 1;; esac; }
api() { m=$1; p=$2; shift 2; curl -sS --fail-with-body --max-time 20 --unix-socket $SOCKET -X $m -H 'Content-Type: application/json' ${1:+-d "$1"} "http://d/v1.56$p"; }
status() { m=$1; p=$2; shift 2; curl -sS -o /dev/null -w '%{http_code}\n' --max-time 20 --unix-socket $SOCKET -X $m -H 'Content-Type: application/json' ${1:+-d "$1"} "http://d/v1.56$p"; }
wait_for() { i=0; while ! "$@" >/dev/null 2>&1; do i=$((i+1)); [ $i -lt 100 ] || return 1; sleep 0.1; done; }
has() { case $1 in *"$2"*) ;; *) echo "'$2' is not in: $1"; return 1;; esac; }
limit() { p=${1%% *}; [ ! -e $CG/cgroup.controllers ] || p=${1##* }; shift; v=$(run "$@" bb cat $CG/${p%%=*}); [ "$v" = "$(echo ${p#*=} | tr '~' ' ')" ] || { echo "$p: the value is $v"; return 1; }; }
new() { r=$(api POST /containers/create "$1") || { echo "$r"; return 1; }; echo "$r" | sed 's/.*"Id":"\([0-9a-f]*\)".*/\1/'; }
made() { c=$(new "$1") || { echo "$c"; return 1; }; docker start -a $c && s=0 || s=$?; docker rm -f -v $c >/dev/null; return $s; }
own() { mkdir -p $H/own; $BIN/gantryd --data-root $H/own/data --exec-root $H/own/exec --pidfile $H/own/pid -H unix://$H/own/s --bridge-name ${BRIDGE}o --firewall-table ${BRIDGE}o --cgroup-parent /$PARENT --live-restore=false "$@" >$H/own/log 2>&1 & OWN=$!; trap disown EXIT; wait_for curl -sf --unix-socket $H/own/s http://d/version || { cat $H/own/log; return 1; }; }
disown() { export DOCKER_HOST=unix://$H/own/s; docker ps -aq 2>/dev/null | xargs -r docker rm -f >/dev/null 2>&1; kill $OWN 2>/dev/null && wait $OWN || true; ip link del ${BRIDGE}o 2>/dev/null || true; }
registry() { REG=${REG:-127.0.0.1:5999}; printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage:\n  filesystem: {rootdirectory: %s}\nhttp: {addr: "%s"}\n%b' $H/reg $REG "$1" >$H/reg.yml; docker-registry serve $H/reg.yml >$H/reg.log 2>&1 & trap "kill $!" EXIT; wait_for curl -s http://$REG/v2/; }
there() { for n; do docker tag bb $REG/$n && docker push -q $REG/$n >/dev/null && docker rmi $REG/$n >/dev/null || return 1; done; }
typed() { python3 $H/talk.py typed "$@"; }
hijack() { python3 $H/talk.py hijack "$@"; }
websocket() { python3 $H/talk.py websocket "$@"; }
hasnt() { case $1 in *"$2"*) echo "'$2' is in: $1"; return 1;; esac; }
`

const asRun = `
run() { docker run --rm "$@"; }
up() { docker run -d "$@"; }
`

const asCreate = `
run() { c=$(docker create "$@") || return; docker start -a $A $c && s=0 || s=$?; docker rm -f -v $c >/dev/null 2>&1; return $s; }
up() { c=$(docker create "$@") || return; docker start $c >/dev/null && echo $c; }
`

// stage is a place where scripts are played: an engine, and a folder with the client.
type stage struct {
	engine *testkit.Engine
	bin    string // folder with our executables
	mutant string // file that names the mutation in force
	home   string
	base   string // ID of the image bb
}

// open starts an engine with the image bb. Errors name what failed; the caller closes.
func open(t testing.TB, bin string, args ...string) (*stage, error) {
	t.Helper()
	scratch, err := os.MkdirTemp("/var/tmp", "gtf-")
	if err != nil {
		return nil, err
	}
	s := &stage{bin: bin, home: filepath.Join(scratch, "home"), mutant: filepath.Join(scratch, "mutant")}
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "$H", scratch)
	}
	e, err := testkit.New(testkit.Options{OwnNamespaces: true, Args: args, Env: []string{"GANTRY_MUTANT_FILE=" + s.mutant, "LC_ALL=C"}}, func() string { return bin })
	if err != nil {
		return nil, err
	}
	s.engine = e
	if err := s.clients(scratch); err != nil {
		return s, err
	}
	return s, nil
}

// start runs the daemon and loads the image; with a mutation in force where one is given.
func (s *stage) start(id string) error {
	if err := os.WriteFile(s.mutant, []byte(id), 0o600); err != nil {
		return err
	}
	if err := s.engine.Run(); err != nil {
		return fmt.Errorf("%w\n%s", err, s.engine.LogTail(2000))
	}
	if err := os.WriteFile(s.mutant, nil, 0o600); err != nil {
		return err
	}
	archive := filepath.Join(s.engine.Dir, "bb.tar")
	if err := imagemaker.WriteBusybox(archive, "bb:latest"); err != nil {
		return err
	}
	if out, errs, code := s.engine.Docker("load", "-q", "-i", archive); code != 0 {
		return fmt.Errorf("loading the image: %s%s", out, errs)
	}
	s.base, _, _ = s.engine.Docker("images", "-q", "--no-trunc", "bb:latest")
	s.base = strings.TrimSpace(s.base)
	return nil
}

// clients makes two folders for PATH: in "ours" docker is our client.
func (s *stage) clients(scratch string) error {
	if err := os.MkdirAll(filepath.Join(scratch, "ours"), 0o755); err != nil {
		return err
	}
	talk, err := files.ReadFile("testdata/talk.py")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(scratch, "talk.py"), talk, 0o600); err != nil {
		return err
	}
	return os.Symlink(filepath.Join(s.bin, "gantry"), filepath.Join(scratch, "ours", "docker"))
}

// killStrays ends the processes of a second daemon whose script did not, and tells whether there were any.
func (s *stage) killStrays() (found bool) {
	for _, name := range globs("/proc/[0-9]*/cmdline") {
		b, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(b, []byte(filepath.Dir(s.home)+"/")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			found = true
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return found
}

// dropCgroups ends what a second daemon without its --live-restore=false left running.
func (s *stage) dropCgroups() {
	parent := strings.Replace(filepath.Base(s.engine.ExecRoot), "gt-", "gantry-test-", 1)
	for _, pattern := range []string{"/sys/fs/cgroup/*/" + parent, "/sys/fs/cgroup/" + parent} {
		for _, name := range globs(pattern + "/*/cgroup.procs") {
			b, _ := os.ReadFile(name)
			for f := range strings.FieldsSeq(string(b)) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			for range 50 { // until the kernel has let the last process go
				if err := os.Remove(filepath.Dir(name)); err == nil || os.IsNotExist(err) {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
		for _, dir := range globs(pattern) {
			_ = os.Remove(dir)
		}
	}
}

func globs(pattern string) []string {
	names, _ := filepath.Glob(pattern)
	return names
}

func (s *stage) close() error {
	if s == nil {
		return nil
	}
	_ = os.WriteFile(s.mutant, nil, 0o600)
	err := s.engine.Destroy()
	for range 20 { // keeper and anchor start each other anew
		if !s.killStrays() {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.dropCgroups()
	return errors.Join(err, os.RemoveAll(s.engine.Dir), os.RemoveAll(filepath.Dir(s.home)))
}

// play runs a row's script, with the mutation id in force ("" for none).
func (s *stage) play(r row, mutant string) error {
	if err := os.RemoveAll(s.home); err != nil {
		return err
	}
	if err := os.MkdirAll(s.home, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(s.mutant, []byte(mutant), 0o600); err != nil {
		return err
	}
	err := s.shell(r)
	if werr := os.WriteFile(s.mutant, nil, 0o600); werr != nil {
		return werr
	}
	return err
}

func (s *stage) shell(r row) error {
	path, form := os.Getenv("PATH"), asRun
	if isCLI(r.id) {
		path = filepath.Join(filepath.Dir(s.home), "ours") + ":" + path
	}
	if strings.HasPrefix(r.id, "create") {
		form = asCreate
	}
	script := "set -e\n" + prelude + form + strings.Join(r.block.script, "\n") + "\n"
	ctx, cancel := context.WithTimeout(context.Background(), scriptTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "-t", fmt.Sprint(s.engine.PID()), "-m", "-n", "--wdns="+s.home, "sh", "-c", script)
	cmd.Dir = s.home
	cmd.Env = append(os.Environ(), "PATH="+path, "DOCKER_HOST=unix://"+s.engine.Socket, "DOCKER_CONFIG="+filepath.Join(s.home, ".docker"), "HOME="+s.home, "LC_ALL=C",
		"SOCKET="+s.engine.Socket, "BIN="+s.bin, "H="+filepath.Dir(s.home), "DATA="+s.engine.DataRoot, "EXEC="+s.engine.ExecRoot, "LOG="+filepath.Join(s.engine.Dir, "log"), "PARENT="+strings.Replace(filepath.Base(s.engine.ExecRoot), "gt-", "gantry-test-", 1),
		"BRIDGE="+strings.ReplaceAll(filepath.Base(s.engine.ExecRoot), "-", ""), "DPID="+fmt.Sprint(s.engine.PID()), "GANTRY_MUTANT_FILE="+s.mutant)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what the script left in the background
	if err != nil {
		return fmt.Errorf("%w\n%s%s", err, out.String(), errs.String())
	}
	if r.block.want == nil {
		return nil
	}
	if got := strings.TrimRight(out.String(), "\n"); got != strings.Join(r.block.want, "\n") {
		return fmt.Errorf("printed\n%s\nwant\n%s\n%s", got, strings.Join(r.block.want, "\n"), errs.String())
	}
	return nil
}

// reset removes what a script left in the engine.
func (s *stage) reset() error {
	c := s.engine.HTTP()
	c.Timeout = 20 * time.Second
	defer c.CloseIdleConnections()
	var containers []struct{ ID string }
	if err := call(c, http.MethodGet, "/containers/json?all=1", &containers); err != nil {
		return err
	}
	for _, x := range containers {
		if err := call(c, http.MethodDelete, "/containers/"+x.ID+"?force=1&v=1", nil); err != nil {
			return err
		}
	}
	var networks []struct{ ID string }
	if err := call(c, http.MethodGet, "/networks?filters="+url.QueryEscape(`{"type":["custom"]}`), &networks); err != nil {
		return err
	}
	for _, x := range slices.Backward(networks) { // configurations after what was made of them
		if err := call(c, http.MethodDelete, "/networks/"+x.ID, nil); err != nil {
			return err
		}
	}
	var volumes struct{ Volumes []struct{ Name string } }
	if err := call(c, http.MethodGet, "/volumes", &volumes); err != nil {
		return err
	}
	for _, v := range volumes.Volumes {
		if err := call(c, http.MethodDelete, "/volumes/"+v.Name+"?force=1", nil); err != nil {
			return err
		}
	}
	var images []struct {
		ID       string
		RepoTags []string
	}
	if err := call(c, http.MethodGet, "/images/json?all=1", &images); err != nil {
		return err
	}
	bb := false
	for _, i := range images {
		names := i.RepoTags
		if len(names) == 0 {
			names = []string{i.ID}
		}
		for _, n := range names {
			if n == "bb:latest" && i.ID == s.base {
				bb = true
				continue
			}
			_ = call(c, http.MethodDelete, "/images/"+url.PathEscape(n)+"?force=1", nil) // one of two names of an image is gone already
		}
	}
	if !bb {
		return errors.New("the image bb is gone")
	}
	return nil
}

func call(c *http.Client, method, path string, into any) error {
	req, err := http.NewRequest(method, "http://d/v1.56"+path, nil)
	if err != nil {
		return err
	}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 400 && res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusConflict {
		return fmt.Errorf("%s %s: %s", method, path, res.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(into)
}

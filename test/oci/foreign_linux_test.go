package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

// scenario is a script for sh that drives an engine. What it prints, standard errors apart, and its exit
// code must be the same with runc and with gantry-runtime as the engine's runtime. $RUN starts a command line of
// run or create, $ENGINE any other; $C is a container's name.
type scenario struct{ name, script string }

var foreign = []scenario{
	{"output and exit code", `$RUN run --rm bb sh -c 'echo out; echo err >&2; exit 3'`},
	{"no such program", `$RUN run --rm bb nosuch 2>&1 | grep -o 'executable file not found in $PATH'; $RUN run --rm bb nosuch 2>/dev/null`},
	{"a directory", `$RUN run --rm bb /etc 2>/dev/null`},
	{"not executable", `$RUN run --rm bb /etc/passwd 2>/dev/null`},
	{"user and folder", `$RUN run --rm -u 12:34 -w /nowhere/yet bb sh -c 'id; pwd'`},
	{"identity", `$RUN run --rm bb sh -c 'grep -E "Cap|Seccomp|NoNewPrivs|Groups" /proc/self/status; ulimit -a; umask; id; cat /proc/self/oom_score_adj'`},
	// Not compared: files behind the null device and empty folders, which are read-only and nosuid with us, and
	// the folder of cgroups, which is writable with runc.
	{"mounts", `$RUN run --rm bb sh -c 'cut -d" " -f5,6 /proc/self/mountinfo | grep -v " rw,relatime$" |
		grep -vE "^/(proc/(keys|timer_|kcore|latency|sched|acpi|asound|scsi)|sys/firmware|sys/dev/block|sys/fs/cgroup |etc)" | sort'`},
	{"devices", `$RUN run --rm bb sh -c 'ls -l /dev | sed "s/ [A-Z][a-z][a-z] .*[0-9:]* / /" | grep -v console'`},
	{"masked", `$RUN run --rm bb sh -c 'cat /proc/keys /proc/timer_list; ls /proc/acpi /sys/firmware 2>/dev/null; echo 1 >/proc/sys/kernel/printk; echo $?' 2>/dev/null`},
	{"read-only root", `$RUN run --rm --read-only --tmpfs /scratch bb sh -c 'touch /x; echo $?; touch /scratch/x; echo $?' 2>/dev/null`},
	{"limits", `$RUN run --rm --memory 64m --pids-limit 50 --cpu-shares 300 bb sh -c 'cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.shares'`},
	{"kernel settings", `$RUN run --rm --sysctl net.ipv4.ip_forward=1 --ulimit nofile=100:200 --hostname hh bb sh -c 'cat /proc/sys/net/ipv4/ip_forward; ulimit -Sn; ulimit -Hn; hostname'`},
	{"capabilities", `$RUN run --rm --cap-drop ALL --cap-add CHOWN bb grep Cap /proc/self/status`},
	{"no new privileges", `$RUN run --rm --security-opt no-new-privileges bb grep NoNewPrivs /proc/self/status`},
	{"bind mounts", `mkdir -p $DIR/v; echo text >$DIR/v/f; $RUN run --rm -v $DIR/v:/v:ro bb sh -c 'cat /v/f; touch /v/x' 2>/dev/null`},
	{"host namespaces", `$RUN run --rm --pid host --ipc host --uts host bb sh -c 'sleep 1000 & exit 6'`},
	{"init", `$RUN run --rm --init bb sh -c 'cat /proc/1/comm; exit 5'`},
	{"terminal", `echo | script -qec "$RUN run --rm -it bb sh -c 'tty; test -t 0 && test -t 1 && echo terminal; exit 7'" /dev/null | tr -d '\000\004' | grep -aE 'terminal|/dev'`},
	{"life", `$RUN run -d --name $C bb sh -c 'trap "echo got; exit 9" TERM; while :; do sleep 0.05; done' >/dev/null
		$ENGINE exec $C echo in; $ENGINE exec $C sh -c 'exit 4'; echo $?; $ENGINE exec $C nosuch >/dev/null 2>&1; echo $?
		$ENGINE exec -u 5 -e A=b -w /tmp $C sh -c 'id -u; echo $A; pwd'
		echo | script -qec "$ENGINE exec -it $C sh -c 'tty; exit 3'" /dev/null | tr -d '\000\004' | grep -a /dev
		$ENGINE pause $C >/dev/null; $ENGINE inspect -f '{{.State.Status}}' $C; $ENGINE unpause $C >/dev/null
		$ENGINE stop $C >/dev/null; $ENGINE logs $C; $ENGINE inspect -f '{{.State.Status}} {{.State.ExitCode}}' $C
		$ENGINE start $C >/dev/null; $ENGINE restart $C >/dev/null; $ENGINE kill $C >/dev/null; $ENGINE wait $C
		$ENGINE rm -f $C >/dev/null`},
	{"create and start", `$RUN create --name $C bb echo hi >/dev/null; $ENGINE start -a $C; echo $?; $ENGINE rm $C >/dev/null`},
}

// dockerOnly is what Debian's podman does otherwise or not at all.
var dockerOnly = []scenario{
	{"update", `$RUN run -d --name $C bb sleep 1000 >/dev/null; $ENGINE update --memory 100m --memory-swap 200m --cpu-shares 512 $C >/dev/null
		$ENGINE exec $C cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.shares; $ENGINE top $C -o pid,comm | awk '{print $2}'
		$ENGINE stats --no-stream --format '{{.PIDs}}' $C; $ENGINE rm -f $C >/dev/null`},
	{"out of memory", `$RUN run --name $C --memory 16m bb sh -c 'x=12345678; while :; do x=$x$x; done' 2>/dev/null; echo $?
		$ENGINE inspect -f '{{.State.OOMKilled}}' $C; $ENGINE rm $C >/dev/null`},
	{"health", `$RUN run -d --name $C --health-cmd 'test -e /etc/passwd' --health-interval 200ms bb sleep 1000 >/dev/null
		for i in $(seq 100); do [ "$($ENGINE inspect -f '{{.State.Health.Status}}' $C)" = healthy ] && break; sleep 0.1; done
		$ENGINE inspect -f '{{.State.Health.Status}}' $C; $ENGINE rm -f $C >/dev/null`},
}

// podmanOnly: containers that are created by the runtime and wait, which Docker does not offer.
var podmanOnly = []scenario{
	{"initialized", `$RUN create --name $C bb echo hi >/dev/null; $ENGINE init $C >/dev/null; $ENGINE inspect -f '{{.State.Status}}' $C; $ENGINE start -a $C; $ENGINE rm $C >/dev/null`},
	{"initialized and removed", `$RUN create --name $C bb echo hi >/dev/null; $ENGINE init $C >/dev/null; $ENGINE rm -f $C >/dev/null; echo $?`},
}

// play runs a scenario; env are assignments for its variables.
func play(t *testing.T, s scenario, dir string, env []string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", s.script)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "LC_ALL=C", "DIR="+dir, "C=foreign"), env...)
	cmd.WaitDelay = time.Second
	text, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Errorf("%s: %v", s.name, err)
	}
	ids := regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	return ids.ReplaceAllString(string(text), "*"), cmd.ProcessState.ExitCode()
}

// brief is what runs without GANTRY_TEST_OCI.
var brief = []string{"output and exit code", "no such program", "mounts", "terminal", "life", "initialized"}

func compareRuntimes(t *testing.T, list []scenario, dir string, env func(runtime string) []string) {
	t.Helper()
	for _, s := range list {
		if os.Getenv("GANTRY_TEST_OCI") == "" && !slices.Contains(brief, s.name) {
			continue
		}
		want, wantCode := play(t, s, dir, env("runc"))
		got, code := play(t, s, dir, env("gantry"))
		if got != want || code != wantCode {
			t.Errorf("%s\n--- runc: exit %d\n%s\n--- gantry-runtime: exit %d\n%s", s.name, wantCode, want, code, got)
		}
		if testing.Verbose() {
			t.Logf("%s: exit %d\n%s", s.name, wantCode, want)
		}
	}
}

func foreignTest(t *testing.T, engine string) (image, bin string) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts another engine")
	}
	for _, needed := range []string{engine, "runc", "docker", "script"} {
		if _, err := exec.LookPath(needed); err != nil {
			t.Skipf("%s is not installed", needed)
		}
	}
	image = filepath.Join(t.TempDir(), "image.tar")
	if err := imagemaker.WriteBusybox(image, "bb:latest"); err != nil {
		t.Fatal(err)
	}
	return image, filepath.Join(testkit.Bin(t), "gantry-runtime")
}

// TestUnderDocker runs gantry-runtime and runc beside each other under Debian's dockerd.
func TestUnderDocker(t *testing.T) {
	image, bin := foreignTest(t, "dockerd")
	e := testkit.Start(t, testkit.Options{Docker: true, OwnNamespaces: true, Args: []string{"--add-runtime", "gantry=" + bin}})
	docker := fmt.Sprintf("nsenter -t %d -n docker -H unix://%s ", e.PID(), e.Socket)
	e.Must(t, "load", "-i", image)
	dir := t.TempDir()
	env := func(runtime string) []string {
		run := filepath.Join(dir, "run-"+runtime)
		text := "#!/bin/sh\nverb=$1; shift; exec " + docker + "\"$verb\" --runtime " + runtime + " \"$@\"\n"
		if err := os.WriteFile(run, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return []string{"RUN=" + run, "ENGINE=" + docker, "HOME=" + dir}
	}
	compareRuntimes(t, append(append([]scenario{}, foreign...), dockerOnly...), dir, env)
	for _, state := range []string{"runtime-runc", "runtime-gantry"} {
		left, _ := filepath.Glob(filepath.Join(e.ExecRoot, state, "*", "*"))
		for _, l := range left {
			t.Errorf("left: %s", l)
		}
	}
}

// TestUnderPodman does the same under podman and its monitor.
func TestUnderPodman(t *testing.T) {
	image, bin := foreignTest(t, "podman")
	dir, err := os.MkdirTemp("/var/tmp", "gt-podman-")
	if err != nil {
		t.Fatal(err)
	}
	// Podman raises the limits of descriptors and processes unless told, which a host can forbid.
	conf := "[containers]\ndefault_ulimits=[\"nofile=1024:1024\",\"nproc=1024:1024\"]\nnetns=\"none\"\n[engine]\nevents_logger=\"file\"\ncgroup_manager=\"cgroupfs\"\ninit_path=\"/usr/bin/docker-init\"\n"
	if err := os.WriteFile(filepath.Join(dir, "containers.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(runtime string) []string {
		if runtime == "gantry" {
			runtime = bin
		}
		podman := fmt.Sprintf("podman --root %s/root --runroot %s/run --tmpdir %s/tmp --storage-driver vfs --runtime %s", dir, dir, dir, runtime)
		return []string{"RUN=" + podman, "ENGINE=" + podman, "CONTAINERS_CONF=" + filepath.Join(dir, "containers.conf"), "HOME=" + dir}
	}
	t.Cleanup(func() {
		play(t, scenario{"clean up", `$ENGINE rm -af; $ENGINE rmi -af`}, dir, env("runc"))
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if out, code := play(t, scenario{"load", `$ENGINE load -q -i ` + image + ` && $ENGINE tag $($ENGINE images -q | head -1) bb`}, dir, env("runc")); code != 0 {
		t.Skipf("podman does not work here: %s", out)
	}
	compareRuntimes(t, podmanScenarios(), dir, env)
}

// podmanScenarios leaves out settings of a network, which containers do not get there.
func podmanScenarios() (list []scenario) {
	for _, s := range append(append([]scenario{}, foreign...), podmanOnly...) {
		if !strings.Contains(s.script, "--sysctl net.") {
			list = append(list, s)
		}
	}
	return list
}

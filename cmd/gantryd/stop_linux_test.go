package main

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
)

const stubborn = `trap "" TERM; echo ready; while :; do sleep 0.1; done`

// Two signals are patience, the third ends the daemon at once.
func TestThirdSignalForces(t *testing.T) {
	p := launch(t, testkit.ShortTempDir(t), "--live-restore=false").ready(t).image(t)
	p.run(t, stubborn, object{"StopTimeout": 1000})
	for range 2 {
		p.signal(t, syscall.SIGINT)
		select {
		case <-p.done:
			t.Fatal("the daemon ended with its container running on")
		case <-time.After(500 * time.Millisecond):
		}
	}
	begun := time.Now()
	p.signal(t, syscall.SIGTERM)
	if code := p.exit(t); code != 1 || time.Since(begun) > 5*time.Second {
		t.Errorf("exit code %d after %s", code, time.Since(begun))
	}
}

func TestStopWithAndWithoutLiveRestore(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		keep bool
	}{{"by default", nil, true}, {"on", []string{"--live-restore=true"}, true}, {"off", []string{"--live-restore=false"}, false}} {
		t.Run(c.name, func(t *testing.T) {
			dir := testkit.ShortTempDir(t)
			p := launch(t, dir, c.args...).ready(t).image(t)
			polite := p.run(t, `trap "exit 7" TERM; echo ready; while :; do sleep 0.05; done`, object{})
			rude := p.run(t, stubborn, object{"StopTimeout": 1})
			before := map[string]int{polite: p.inspect(t, polite).State.Pid, rude: p.inspect(t, rude).State.Pid}
			p.signal(t, syscall.SIGTERM)
			if code := p.exit(t); code != 0 {
				t.Errorf("exit code %d", code)
			}
			for id, pid := range before {
				if !c.keep {
					waitGone(t, pid)
				} else if !alive(pid) {
					t.Errorf("container %s ended with the daemon", id)
				}
			}
			again := launch(t, dir, c.args...).ready(t)
			for id, code := range map[string]int{polite: 7, rude: 137} {
				st := again.inspect(t, id).State
				if st.Running != c.keep || c.keep && st.Pid != before[id] || !c.keep && st.ExitCode != code {
					t.Errorf("after the restart: %+v, want running %v or exit code %d", st, c.keep, code)
				}
			}
			again.remove(t)
		})
	}
}

// What SIGHUP changed of live-restore counts at the stop.
func TestLiveRestoreSwitchedOffBySIGHUP(t *testing.T) {
	dir := testkit.ShortTempDir(t)
	p := launch(t, dir).ready(t).image(t)
	id := p.run(t, `trap "exit 0" TERM; echo ready; while :; do sleep 0.05; done`, object{})
	pid := p.inspect(t, id).State.Pid
	p.reload(t, `{"live-restore":false}`)
	p.signal(t, syscall.SIGTERM)
	if code := p.exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	waitGone(t, pid)
}

// The cgroups above the containers' go with the engine when no container is left.
func TestCgroupParentIsNotLeftBehind(t *testing.T) {
	dir := testkit.ShortTempDir(t)
	p := launch(t, dir).ready(t).image(t)
	pattern := "/sys/fs/cgroup/*/gantry-test-" + filepath.Base(dir)
	id := p.run(t, "echo ready; sleep 1000", object{})
	if dirs, _ := filepath.Glob(pattern); len(dirs) == 0 {
		if dirs, _ = filepath.Glob("/sys/fs/cgroup/gantry-test-" + filepath.Base(dir)); len(dirs) == 0 {
			t.Fatal("the container has no cgroup below the parent")
		}
	}
	p.call(t, "DELETE", "/containers/"+id+"?force=1", nil, 204)
	p.signal(t, syscall.SIGTERM)
	p.exit(t)
	a, _ := filepath.Glob(pattern)
	b, _ := filepath.Glob("/sys/fs/cgroup/gantry-test-" + filepath.Base(dir))
	if len(a)+len(b) > 0 {
		t.Errorf("left behind: %v %v", a, b)
	}
}

package cgroup_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/sys/cgroup"
)

// eat runs a program that outgrows the cgroup's limit, and wants it to be killed for that.
func eat(t *testing.T, dirs map[string]string) {
	t.Helper()
	procs := filepath.Join(dirs["memory"], "cgroup.procs")
	cmd := exec.Command("sh", "-c", fmt.Sprintf(`echo $$ >%s; exec tail /dev/zero`, procs))
	err := cmd.Run()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		t.Fatalf("not killed: %v", err)
	}
}

// called waits for a call.
func called(t *testing.T, c <-chan bool) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody told of a kill")
	}
}

func TestOOMWatch(t *testing.T) {
	dirs := made(t, "/watched")
	if dirs["memory"] == "" {
		t.Skip("the memory controller of cgroup v1 is not here")
	}
	other := made(t, "/other")
	for _, d := range []map[string]string{dirs, other} {
		if err := os.WriteFile(filepath.Join(d["memory"], "memory.limit_in_bytes"), []byte("8m"), 0); err != nil {
			t.Fatal(err)
		}
		_ = os.WriteFile(filepath.Join(d["memory"], "memory.memsw.limit_in_bytes"), []byte("8m"), 0)
	}
	var set cgroup.OOMs
	defer func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	}()
	struck, early := make(chan bool, 10), make(chan bool, 10)
	w, err := set.Watch(dirs, func() { struck <- true })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.Watch(other, func() { t.Error("the other cgroup's kills are not its own") }); err != nil {
		t.Fatal(err)
	}
	for n := range uint64(3) {
		eat(t, dirs)
		called(t, struck)
		if got := w.Kills(); got != n+1 {
			t.Errorf("%d kills after %d", got, n+1)
		}
	}
	again, err := set.Watch(dirs, func() { early <- true }) // of what has happened before, too
	if err != nil {
		t.Fatal(err)
	}
	called(t, early)
	w.End()
	w.End()
	eat(t, dirs)
	called(t, early)
	if w.Kills() != 3 || again.Kills() != 4 {
		t.Errorf("%d and %d kills", w.Kills(), again.Kills())
	}
	if err := cgroup.Destroy(dirs); err != nil {
		t.Fatal(err)
	}
	if again.Kills() != 4 {
		t.Error("forgotten with the cgroup")
	}
	again.End()
	if len(struck)+len(early) != 0 {
		t.Error("told once more")
	}
}

// Where killing is switched off the process waits for memory, and that is told.
func TestOOMWatchWithoutKilling(t *testing.T) {
	dirs := made(t, "/held")
	if dirs["memory"] == "" {
		t.Skip("the memory controller of cgroup v1 is not here")
	}
	for name, text := range map[string]string{"memory.limit_in_bytes": "8m", "memory.oom_control": "1"} {
		if err := os.WriteFile(filepath.Join(dirs["memory"], name), []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.WriteFile(filepath.Join(dirs["memory"], "memory.memsw.limit_in_bytes"), []byte("8m"), 0)
	var set cgroup.OOMs
	defer set.Close()
	struck := make(chan bool, 10)
	w, err := set.Watch(dirs, func() { struck <- true })
	if err != nil {
		t.Fatal(err)
	}
	if w.Kills() != 0 {
		t.Errorf("%d before anything happened", w.Kills())
	}
	cmd := exec.Command("sh", "-c", fmt.Sprintf("echo $$ >%s; exec tail /dev/zero", filepath.Join(dirs["memory"], "cgroup.procs")))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	called(t, struck)
	if w.Kills() == 0 {
		t.Error("it waits, and nothing is counted")
	}
	late := make(chan bool, 10)
	if _, err := set.Watch(dirs, func() { late <- true }); err != nil {
		t.Fatal(err)
	}
	called(t, late)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	w.End()
}

// On v2 the counter's file is watched: any file system can play it.
func TestOOMWatchV2(t *testing.T) {
	dir := t.TempDir()
	write := func(kills int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "memory.events"), fmt.Appendf(nil, "low 0\nhigh 0\nmax 7\noom 1\noom_kill %d\noom_group_kill 9\n", kills), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(0)
	var set cgroup.OOMs
	defer set.Close()
	struck := make(chan bool, 10)
	w, err := set.Watch(map[string]string{"": dir}, func() { struck <- true })
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		write(n + 1)
		called(t, struck)
		write(n + 1) // another line of the file may have changed
		if got := w.Kills(); got != uint64(n+1) {
			t.Errorf("%d kills after %d", got, n+1)
		}
	}
	w.End()
	write(9)
	time.Sleep(50 * time.Millisecond)
	if len(struck) != 0 {
		t.Error("told after the end, or of no kill")
	}
	if _, err := set.Watch(map[string]string{"": t.TempDir()}, nil); !os.IsNotExist(err) {
		t.Error(err)
	}
	if _, err := set.Watch(map[string]string{"cpu": dir}, nil); err == nil {
		t.Error("watching without a memory controller")
	}
}

func BenchmarkOOMWatch(b *testing.B) {
	h, err := cgroup.Discover()
	if err != nil {
		b.Fatal(err)
	}
	dirs, err := h.Make("/gantry-test-oombench")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = cgroup.Destroy(dirs) }()
	var set cgroup.OOMs
	defer set.Close()
	for b.Loop() {
		w, err := set.Watch(dirs, func() {})
		if err != nil {
			b.Fatal(err)
		}
		w.End()
	}
}

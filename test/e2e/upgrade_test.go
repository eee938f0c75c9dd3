package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// An upgrade of the engine replaces the keeper, too: it executes the new program, the container runs on, and
// no line of it is lost or doubled.
func TestUpgradeReplacesTheKeeper(t *testing.T) {
	bin := t.TempDir()
	install := func() {
		t.Helper()
		for _, name := range []string{"gantryd", "gantry-keeper", "gantry-anchor", "gantry-init", "gantry-net"} {
			b, err := os.ReadFile(filepath.Join(testkit.Bin(t), name))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(bin, name)
			if err := os.WriteFile(path+".new", b, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		}
	}
	install()
	e, err := testkit.New(testkit.Options{}, func() string { return bin })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Destroy(); err != nil {
			t.Errorf("stopping the engine: %v", err)
		}
		if t.Failed() {
			t.Logf("the engine's log ends:\n%s", e.LogTail(4000))
		}
		_ = os.RemoveAll(e.Dir)
	})
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	load(t, e)
	id := strings.TrimSpace(e.Must(t, "run", "-d", "bb", "sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; usleep 2000; done"))
	pid := e.Must(t, "inspect", "-f", "{{.State.Pid}}", id)
	keeper := func() (pid int, exe string) {
		for p, cmd := range e.Processes() {
			if strings.Contains(strings.Fields(cmd)[0], "gantry-keeper") {
				exe, _ := os.Readlink("/proc/" + strconv.Itoa(p) + "/exe")
				return p, exe
			}
		}
		return 0, ""
	}
	before, _ := keeper()
	install()
	if err := e.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	var now int
	var exe string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if now, exe = keeper(); exe == filepath.Join(bin, "gantry-keeper") {
			break
		}
	}
	if now != before || exe != filepath.Join(bin, "gantry-keeper") {
		t.Errorf("the keeper, process %d before, is %d and runs %s", before, now, exe)
	}
	if again := e.Must(t, "inspect", "-f", "{{.State.Pid}} {{.State.Running}}", id); again != strings.TrimSpace(pid)+" true" {
		t.Errorf("the container, process %s before: %s", pid, again)
	}
	e.Must(t, "stop", "-t", "0", id)
	n := 0
	for line := range strings.Lines(e.Must(t, "logs", id)) {
		if n++; strings.TrimSpace(line) != fmt.Sprintf("line %d", n) {
			t.Fatalf("line %d of the log is %q", n, line)
		}
	}
	if n < 20 {
		t.Errorf("only %d lines", n)
	}
	e.Must(t, "rm", id)
}

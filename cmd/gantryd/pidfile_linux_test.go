package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestIsDaemon: a daemon that was killed does not hinder the next one, even while its
// parent has not taken note.
func TestIsDaemon(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("no sleep(1)")
	}
	path := filepath.Join(t.TempDir(), "gantryd")
	if err := os.Symlink(sleep, path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	pid := cmd.Process.Pid
	if !isDaemon(pid) {
		t.Error("a living daemon is not recognized")
	}
	_ = cmd.Process.Kill()
	for { // until it is a zombie: nobody has waited for it
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(b), ") Z") {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if isDaemon(pid) {
		t.Error("a dead daemon counts as living")
	}
	if isDaemon(os.Getpid()) {
		t.Error("a process of another name counts as the daemon")
	}
}

package ps

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
)

func TestTTYName(t *testing.T) {
	for dev, want := range map[int]string{0: "?", 34817: "pts/1", 4<<8 | 2: "tty2", 8 << 8: "?"} {
		if got := ttyName(dev); got != want {
			t.Errorf("%d: %s, want %s", dev, got, want)
		}
	}
}

func TestNoColumnOfProcesses(t *testing.T) {
	if _, err := parsePS("USER COMMAND\n", nil); !errdefs.IsInternal(err) {
		t.Errorf("%v", err)
	}
}

// Without a choice of its own ps lists its own user's processes: others are named to it.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs to be root to start another user's process")
	}
	cmd := exec.Command("/bin/sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	top, err := Run(t.Context(), []int{cmd.Process.Pid}, "-o uid,pid")
	if err != nil || len(top.Processes) != 1 || top.Processes[0][0] != "65534" {
		t.Errorf("%+v, %v", top, err)
	}
}

// ps lists threads below their process, without its number.
func TestThreads(t *testing.T) {
	top, err := parsePS("  PID   LWP CMD\n    7     - other\n    -     7 -\n    8     - mine  and more\n    -     8 -\n    -     9 -\n   10     - another\n    -    10 -\n", []int{8})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{{"8", "-", "mine and more"}, {"-", "8", "-"}, {"-", "9", "-"}}
	if !slices.EqualFunc(top.Processes, want, slices.Equal) {
		t.Errorf("%q", top.Processes)
	}
}

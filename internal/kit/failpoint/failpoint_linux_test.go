//go:build failpoints

package failpoint

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestMain is the victim too: it passes a point three times and says so.
func TestMain(m *testing.M) {
	if os.Getenv("FAILPOINT_VICTIM") != "" {
		for range 3 {
			Hit("test.point")
			_, _ = os.Stdout.WriteString("x")
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func victim(t *testing.T, arm string) (out string, killed bool, folder string) {
	t.Helper()
	folder = t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "hit"), 0o700); err != nil {
		t.Fatal(err)
	}
	if arm != "" {
		if err := os.WriteFile(filepath.Join(folder, "arm"), []byte(arm), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FAILPOINT_VICTIM=1", EnvName+"="+folder)
	b, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		killed = exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	} else if err != nil {
		t.Fatal(err)
	}
	return string(b), killed, folder
}

func TestStrikes(t *testing.T) {
	for _, c := range []struct {
		arm, out string
		killed   bool
	}{
		{"", "xxx", false},
		{"test.other 0 self none", "xxx", false},
		{"test.point 0 nobody none", "xxx", false},
		{"test.point 0 self none", "", true},
		{"test.point 2 self none", "xx", true},
		{"test.point 3 self none", "xxx", false},
		{"test.point 0 failpoint.test none", "", true},
		{"not well formed", "xxx", false},
	} {
		out, killed, folder := victim(t, c.arm)
		if out != c.out || killed != c.killed {
			t.Errorf("armed with %q: %q, killed %v; want %q, %v", c.arm, out, killed, c.out, c.killed)
		}
		if _, err := os.Stat(filepath.Join(folder, "hit", "test.point")); err != nil {
			t.Errorf("armed with %q: the point was not noted: %v", c.arm, err)
		}
	}
}

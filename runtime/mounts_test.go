package runtime_test

import (
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime"
)

// A tmpfs with tmpcopyup begins with what the image has there, and leaves the image alone.
func TestCopyUp(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	s := configuration(t, root, "sh", "-c", "grep -c web /etc/passwd; touch /etc/new && echo made")
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}})
	if res := run(t, init, s, runtime.Options{}); res.err != nil || res.out != "1\nmade\n" {
		t.Errorf("error %v, output %q", res.err, res.out)
	}
	if _, err := os.Stat(filepath.Join(root, "etc/new")); err == nil {
		t.Error("the image was changed")
	}
}

// A plain "ro" leaves mounts below the source writable, "rro" does not.
func TestRecursiveReadonly(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	source := t.TempDir()
	sub := filepath.Join(source, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", sub, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(sub, unix.MNT_DETACH) })
	for option, want := range map[string]string{"ro": "sub\n", "rro": ""} {
		s := configuration(t, root, "sh", "-c", "touch /v/x 2>/dev/null && echo top; touch /v/sub/x 2>/dev/null && echo sub; true")
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/v", Type: "bind", Source: source, Options: []string{"rbind", option}})
		if res := run(t, init, s, runtime.Options{}); res.err != nil || res.out != want {
			t.Errorf("%s: error %v, output %q, want %q", option, res.err, res.out, want)
		}
	}
}

package runtime_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/runtime"
)

// Root in a user namespace of its own is somebody else on the host.
func TestUserNamespace(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	for _, dir := range []string{root, filepath.Dir(root)} { // the test's own; the user outside must get through
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := configuration(t, root, "cat", "/proc/self/uid_map")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "user"})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	s.Linux.GIDMappings = s.Linux.UIDMappings
	res := run(t, init, s, runtime.Options{})
	if res.err != nil || strings.Join(strings.Fields(res.out), " ") != "0 100000 65536" {
		t.Errorf("error %v, code %d, output %q", res.err, res.code, res.out)
	}
}

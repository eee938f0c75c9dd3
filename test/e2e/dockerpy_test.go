package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// Docker's Python SDK, unchanged, at an old API version and at the newest it finds.
func TestPythonSDK(t *testing.T) {
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"1.41", "auto"} {
		t.Run(version, func(t *testing.T) {
			e := engine(t)
			out, err := exec.Command("/usr/bin/python3", root+"/test/e2e/testdata/dockerpy.py", "unix://"+e.Socket, version).CombinedOutput()
			if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "all done") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

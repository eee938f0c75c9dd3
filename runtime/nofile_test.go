package runtime_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/runtime"
)

// A program gets the limits that the engine was started with, not those that Go's runtime gives itself.
func TestDescriptorLimits(t *testing.T) {
	const child = "GANTRY_TEST_NOFILE"
	if os.Getenv(child) == "" {
		cmd := exec.Command("/bin/sh", "-c", `ulimit -Sn 1234; ulimit -Hn 5678; exec "$0" -test.run='^TestDescriptorLimits$' -test.v`, os.Args[0])
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestDescriptorLimits") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	init, root := initFile(t), rootfs(t)
	for _, useInit := range []bool{false, true} {
		for _, c := range []struct {
			limits []specs.POSIXRlimit
			want   string
		}{
			{nil, "1234 5678\n"},
			{[]specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 300, Hard: 400}}, "300 400\n"},
			{[]specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 5000, Hard: 5000}}, "5000 5000\n"},
			{[]specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}, "1234 5678\n"},
		} {
			s := configuration(t, root, "sh", "-c", "echo $(ulimit -Sn) $(ulimit -Hn)")
			s.Process.Rlimits = c.limits
			if res := run(t, init, s, runtime.Options{UseInit: useInit}); res.err != nil || res.out != c.want {
				t.Errorf("limits %v, init %v: error %v, output %q, want %q", c.limits, useInit, res.err, res.out, c.want)
			}
		}
	}
}

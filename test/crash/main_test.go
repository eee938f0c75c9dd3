package crash

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// binEnv is where the executables with failpoints are built; without it, in bin/failpoints.
const binEnv = "GANTRY_FAILPOINTS_BIN"

// TestMain builds the engine with failpoints: every test here uses it.
func TestMain(m *testing.M) {
	dir, err := build()
	if err != nil {
		fmt.Fprintln(os.Stderr, "building the engine with failpoints:", err)
		os.Exit(1)
	}
	_ = os.Setenv("GANTRY_BIN", dir)
	testkit.Main(m)
}

func build() (string, error) {
	if os.Getenv("GANTRY_CRASH_BUILT") != "" { // by the process that made our namespaces
		return os.Getenv("GANTRY_BIN"), nil
	}
	root, err := testkit.Root()
	if err != nil {
		return "", err
	}
	dir := os.Getenv(binEnv)
	if dir == "" {
		dir = filepath.Join(root, "bin", "failpoints")
	}
	for _, c := range [][]string{
		{"-tags", "failpoints", "./cmd/gantryd", "./cmd/gantry-keeper", "./cmd/gantry-anchor", "./cmd/gantry-net", "./cmd/gantry-init", "./cmd/gantry"},
	} {
		cmd := exec.Command("go", append([]string{"build", "-trimpath", "-o", dir + string(filepath.Separator)}, c...)...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w\n%s", err, out)
		}
	}
	return dir, os.Setenv("GANTRY_CRASH_BUILT", "1")
}

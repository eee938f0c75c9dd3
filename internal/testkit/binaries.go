package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var executables = []string{"gantry", "gantry-manifest", "gantryd", "gantry-keeper", "gantry-anchor", "gantry-net", "gantry-lazy", "gantry-runtime", "gantry-init", "gantry-registry", "gantry-trust", "gantry-import"}

var built = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("GANTRY_BIN"); dir != "" {
		return dir, nil
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "bin")
	args := []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", dir + string(filepath.Separator)}
	for _, e := range executables {
		args = append(args, "./cmd/"+e)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the executables: %w\n%s", err, out)
	}
	return dir, nil
})

// Bin is the folder with the engine's executables: GANTRY_BIN where that is set
// (the Makefile built them), else the tree's bin/, built here.
func Bin(t testing.TB) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Root is the folder of the tree that holds go.mod, found upwards from the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod in or above the working directory")
		}
		dir = up
	}
}

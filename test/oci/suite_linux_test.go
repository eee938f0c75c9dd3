package oci

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const suiteModule = "github.com/opencontainers/runtime-tools@v0.9.1-0.20260316125833-8a4db579f5c8"

// suite is the built validation suite: programs run with dir as working
// directory, where they look for runtimetest and the root file system.
type suite struct {
	dir      string
	programs []string
}

func goTool(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return out
}

// fetch brings the suite's sources through the Go module proxy and builds the programs named,
// or all of them.
func fetch(t *testing.T, only []string) *suite {
	t.Helper()
	scratch := t.TempDir()
	if err := os.WriteFile(filepath.Join(scratch, "go.mod"), []byte("module fetch\n\ngo 1.26\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(goTool(t, scratch, "mod", "download", "-json", suiteModule), &module); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(scratch, "suite")
	if err := os.CopyFS(dir, os.DirFS(module.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.Type()&os.ModeSymlink != 0 {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return os.Chmod(path, info.Mode()|0o200) // the module cache is read-only, and go.sum will change
	}); err != nil {
		t.Fatal(err)
	}
	// The module proxy leaves only stubs of the vendored packages.
	if err := os.RemoveAll(filepath.Join(dir, "vendor")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "validation"))
	if err != nil {
		t.Fatal(err)
	}
	s := &suite{dir: dir}
	args := []string{"build", "-o", "programs" + string(filepath.Separator)}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "util" && (len(only) == 0 || slices.Contains(only, e.Name())) {
			s.programs = append(s.programs, e.Name())
			args = append(args, "./validation/"+e.Name())
		}
	}
	goTool(t, dir, "build", "-o", "runtimetest", "./cmd/runtimetest")
	goTool(t, dir, args...)
	return s
}

// wrapper writes a script that is the runtime with a state directory of its own,
// because the suite takes the runtime as one path without arguments.
func wrapper(t *testing.T, runtime, name string) (script, root string) {
	t.Helper()
	dir := t.TempDir()
	script, root = filepath.Join(dir, name), filepath.Join(dir, "state")
	text := fmt.Sprintf("#!/bin/sh\nexec %s --root %s \"$@\"\n", runtime, root)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return script, root
}

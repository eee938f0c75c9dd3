package runtime_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/runtime"
)

// layers makes n folders with long names, the lowest with a root file system, the others with a file
// of their own number and one that each of them overwrites.
func layers(t *testing.T, n int, root string) []string {
	t.Helper()
	base := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	var lower []string
	for i := range n - 1 {
		dir := mkdir(t, filepath.Join(base, fmt.Sprint(i)))
		for _, name := range []string{fmt.Sprint("of-", i), "top"} {
			if err := os.WriteFile(filepath.Join(dir, name), fmt.Appendln(nil, i), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		lower = append(lower, dir)
	}
	return append(lower, root)
}

// As many layers as images have, in both ways that older kernels need too.
func TestManyLayers(t *testing.T) {
	root := rootfs(t)
	for way, flags := range map[string]string{"new": "", "old": "-X github.com/gantry-engine/gantry/runtime/initproc.layerKey=nosuch"} {
		init := initWith(t, flags)
		for _, n := range []int{1, 2, 41, 70, 125, 400} {
			lower := layers(t, n, root)
			up := mkdir(t, filepath.Join(t.TempDir(), "up"))
			work := mkdir(t, filepath.Join(filepath.Dir(up), "work"))
			s := configuration(t, "", "sh", "-c", "ls / | grep -c of-; cat /top; echo x >/made; grep -c overlay /proc/self/mountinfo; pwd")
			res := run(t, init, s, runtime.Options{Rootfs: runtime.Rootfs{Lower: lower, Upper: up, Work: work}})
			want := fmt.Sprintf("%d\n0\n1\n/\n", n-1)
			if n == 1 {
				want = "0\ncat: can't open '/top': No such file or directory\n1\n/\n"
			}
			if res.err != nil || res.out != want {
				t.Errorf("%s way, %d layers: error %v, output %q, want %q", way, n, res.err, res.out, want)
			}
			if _, err := os.Stat(filepath.Join(up, "made")); err != nil {
				t.Errorf("%s way, %d layers: %v", way, n, err)
			}
			s = configuration(t, "", "sh", "-c", "echo x >/made")
			if res := run(t, init, s, runtime.Options{Rootfs: runtime.Rootfs{Lower: append([]string{up}, lower...)}}); res.err != nil || !strings.Contains(res.out, "Read-only") {
				t.Errorf("%s way, %d layers without an upper one: error %v, output %q", way, n, res.err, res.out)
			}
		}
		s := configuration(t, "", "true")
		if res := run(t, init, s, runtime.Options{Rootfs: runtime.Rootfs{Lower: []string{"/nosuch", root}}}); res.err == nil || !strings.Contains(res.err.Error(), "/nosuch") {
			t.Errorf("%s way, a missing layer: %v", way, res.err)
		}
	}
	if b := readFile(t, "/proc/self/mountinfo"); strings.Contains(b, "longlong") {
		t.Error("a mount was left on the host")
	}
}

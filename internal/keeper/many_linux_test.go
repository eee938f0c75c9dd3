package keeper_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// pss is the proportional memory of the processes whose arguments name the exec root, in KiB.
func pss(t *testing.T, root string) (total int) {
	t.Helper()
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range all {
		b, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(b, []byte("--exec-root\x00"+root)) {
			continue
		}
		r, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "smaps_rollup"))
		for line := range strings.Lines(string(r)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
				n, _ := strconv.Atoi(f[1])
				total += n
			}
		}
	}
	return total
}

// TestMemoryPerProcess: keeper and anchor together cost less than 0.1 MB for each process.
func TestMemoryPerProcess(t *testing.T) {
	const many = 200
	w := newWorld(t)
	w.start(w.launch("m", "exec sleep 60"))
	before := pss(t, w.root)
	if before == 0 {
		t.Fatal("found neither keeper nor anchor")
	}
	for i := range many {
		l := w.launch(fmt.Sprintf("m%d", i), "echo a line; exec sleep 60")
		w.start(l)
	}
	each := (pss(t, w.root) - before) / many
	t.Logf("%d KiB at first, %d KiB for each process", before, each)
	if each > 100 {
		t.Errorf("each process costs %d KiB", each)
	}
}

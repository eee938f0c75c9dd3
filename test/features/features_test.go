package features

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// load gives all rows; a table with holes fails the test.
func load(t *testing.T) []row {
	t.Helper()
	all, err := blocks()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := inventory()
	if err != nil {
		t.Fatal(err)
	}
	rows, problems := rowsOf(all, ids)
	for _, p := range problems {
		t.Error(p)
	}
	return rows
}

// only picks the rows that GANTRY_FEATURES names by a part of ID or file.
func only(rows []row) []row {
	part := os.Getenv("GANTRY_FEATURES")
	var out []row
	for _, r := range rows {
		if strings.Contains(r.block.file+"/"+r.id, part) {
			out = append(out, r)
		}
	}
	return out
}

// TestTable plays every row. Rows that one block shows for the same client are played once.
func TestTable(t *testing.T) {
	rows := only(load(t))
	bin := testkit.Bin(t)
	var jobs []row
	seen := map[string]bool{}
	for _, r := range rows {
		form := r.form()
		if !seen[form] {
			seen[form] = true
			jobs = append(jobs, r)
		}
	}
	played := perform(t, bin, jobs, func(s *stage, r row) {
		err := s.play(r, "")
		if err != nil { // once more, on a machine that was busy
			if rerr := s.reset(); rerr != nil {
				t.Errorf("%s: %v", r.id, rerr)
			}
			err = s.play(r, "")
		}
		if err != nil {
			t.Errorf("rows/%s.txt:%d (%s): %v", r.block.file, r.block.line, r.id, err)
		}
	}, nil)
	t.Logf("%d rows, %d scripts played", len(rows), played)
}

// perform plays jobs on a few engines; those with flags of their own get an
// engine each. mutant names the mutation that an engine of its own starts with.
func perform(t *testing.T, bin string, jobs []row, do func(*stage, row), mutant func(row) string) int {
	t.Helper()
	queue := make(chan row)
	var wg sync.WaitGroup
	for range max(2, runtime.NumCPU()) {
		wg.Go(func() {
			var shared *stage
			defer func() {
				if err := shared.close(); err != nil {
					t.Errorf("closing a shared engine: %v", err)
				}
			}()
			for r := range queue {
				if r.block.daemon != nil {
					alone(t, bin, r, do, mutant)
					continue
				}
				if shared == nil {
					var err error
					if shared, err = open(t, bin); err == nil {
						err = shared.start("")
					}
					if err != nil {
						t.Errorf("%s: %v", r.id, err)
						continue
					}
				}
				do(shared, r)
				if err := shared.reset(); err != nil {
					t.Logf("after %s the engine is started anew: %v", r.id, err)
					_ = shared.close()
					shared = nil
				}
			}
		})
	}
	for _, r := range jobs {
		queue <- r
	}
	close(queue)
	wg.Wait()
	return len(jobs)
}

func alone(t *testing.T, bin string, r row, do func(*stage, row), mutant func(row) string) {
	s, err := open(t, bin, append([]string(nil), r.block.daemon...)...)
	if err != nil {
		t.Errorf("%s: %v", r.id, err)
		return
	}
	defer func() {
		if err := s.close(); err != nil && mutant == nil {
			t.Errorf("%s: %v", r.id, err)
		}
	}()
	id := ""
	if mutant != nil {
		id = mutant(r)
	}
	if err := s.start(id); err != nil {
		if mutant == nil {
			t.Errorf("rows/%s.txt:%d (%s): %v", r.block.file, r.block.line, r.id, err)
		}
		return
	}
	do(s, r)
}

// TestMutationsFit: every mutation names one place of the tree as it is.
func TestMutationsFit(t *testing.T) {
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mutated(root, load(t)); err != nil {
		t.Error(err)
	}
}

// TestPage: docs/features.md is what table and proof say. GANTRY_UPDATE_DOCS=1 writes it.
func TestPage(t *testing.T) {
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	known, err := readProof(filepath.Join(root, proofFile))
	if err != nil {
		t.Fatal(err)
	}
	page := pageOf(load(t), known)
	file := filepath.Join(root, "docs/features.md")
	if os.Getenv("GANTRY_UPDATE_DOCS") != "" {
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old, err := os.ReadFile(file); err != nil || string(old) != page {
		t.Errorf("docs/features.md is stale (%v): `make features` writes it anew", err)
	}
}

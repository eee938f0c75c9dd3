package features

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/testkit"
)

const proofFile = "test/features/proof.tsv"

// proof is what the last proof of a row found.
type proof struct {
	key    string
	result string // "proven", or why not
}

func readProof(file string) (map[string]proof, error) {
	data, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return map[string]proof{}, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]proof{}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 3 {
			return nil, fmt.Errorf("%s: %q has not three columns", file, line)
		}
		out[f[1]] = proof{f[0], f[2]}
	}
	return out, nil
}

func writeProof(file string, all map[string]proof, rows []row) error {
	var b strings.Builder
	ids := map[string]bool{}
	for _, r := range rows {
		ids[r.id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if ids[id] {
			fmt.Fprintf(&b, "%s\t%s\t%s\n", all[id].key, id, all[id].result)
		}
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

// TestProof takes each row's code away and demands that its script fails, while a
// plain container still runs. GANTRY_FEATURES_PROOF=1 tries what was not proven in
// its present form, =all everything.
func TestProof(t *testing.T) {
	mode := os.Getenv("GANTRY_FEATURES_PROOF")
	if mode == "" {
		t.Skip("takes half an hour: GANTRY_FEATURES_PROOF=1, or make features-proof")
	}
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, proofFile)
	known, err := readProof(file)
	if err != nil {
		t.Fatal(err)
	}
	rows := load(t)
	var jobs []row
	for _, r := range only(rows) {
		if r.block.state != "works" {
			delete(known, r.id)
			continue
		}
		if k := known[r.id]; mode == "all" || k.key != r.key() || k.result != "proven" {
			jobs = append(jobs, r)
		}
	}
	dir, err := os.MkdirTemp("/var/tmp", "gantry-mutants-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := mutate(root, dir, rows); err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []string{"/var/lib", "/run"} { // a daemon that lost its --data-root must not touch the host's; the namespace is the test's own
		if err := unix.Mount("tmpfs", hidden, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	note := func(r row, result string) {
		mu.Lock()
		defer mu.Unlock()
		known[r.id] = proof{r.key(), result}
		if result != "proven" {
			t.Logf("unproven: %s: %s", r.id, result)
		}
		if err := writeProof(file, known, rows); err != nil {
			t.Error(err)
		}
	}
	for _, r := range jobs {
		if r.block.daemon != nil { // a daemon that does not start without the flag is proof too
			known[r.id] = proof{r.key(), "proven"}
		}
	}
	perform(t, filepath.Join(dir, "bin"), jobs, func(s *stage, r row) { note(r, try(s, r)) }, func(r row) string { return r.id })
	if err := writeProof(file, known, rows); err != nil {
		t.Fatal(err)
	}
	unproven := 0
	for _, r := range rows {
		if r.block.state == "works" && (known[r.id].result != "proven" || known[r.id].key != r.key()) {
			unproven++
		}
	}
	t.Logf("%d rows tried; of %d rows %d are unproven", len(jobs), len(rows), unproven)
}

// passed are the scripts that were seen to pass with the code, by form.
var passed sync.Map

// try gives "proven" if the script passes with the code and fails without.
func try(s *stage, r row) string {
	if _, ok := passed.Load(r.form()); r.block.daemon == nil && !ok {
		if err := s.play(r, ""); err != nil {
			if rerr := s.reset(); rerr != nil {
				return "the engine is out of order: " + oneLine(rerr)
			}
			if err = s.play(r, ""); err != nil {
				return "fails with the code: " + oneLine(err)
			}
		}
		if err := s.reset(); err != nil {
			return "the engine is out of order: " + oneLine(err)
		}
		passed.Store(r.form(), true)
	}
	if err := s.play(r, r.id); err == nil {
		return "the script passes without the code"
	}
	if isCLI(r.id) || len(r.block.edits) == 0 {
		return "proven"
	}
	plain := row{r.id, &block{script: []string{"docker run --name plain bb echo plain"}, want: []string{"plain"}, daemon: r.block.daemon}}
	if err := s.play(plain, r.id); err != nil {
		return "without the code no container runs: " + oneLine(err)
	}
	return "proven"
}

func oneLine(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	return text[:min(len(text), 300)]
}

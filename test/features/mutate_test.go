package features

import (
	"cmp"
	"fmt"
	"go/parser"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const mutantPath = "github.com/gantry-engine/gantry/internal/mutant"

// hooks take away what rows without a mutation of their own name: flags and
// commands of the client, routes, parameters and fields, flags of the daemon.
var hooks = []struct{ file, old, new string }{
	{"internal/cli/app/dispatch.go", "\tif err := f.Parse(args); err != nil {",
		"\tif mutant.Command(c.Path(a)) { return errors.New(\"removed\") }\n\tmutant.Flags(c.Path(a), f)\n\terr := f.Parse(args)\n\tmutant.Parsed(c.Path(a), f)\n\tif err != nil {"},
	{"internal/cli/app/dispatch.go", "\tif err := global.Parse(args); err != nil {",
		"\tmutant.Flags(a.Name, global)\n\terr := global.Parse(args)\n\tmutant.Parsed(a.Name, global)\n\tif err != nil {"},
	{"internal/server/server.go", "\tif path == \"/_ping\" &&", "\tif mutant.Route(r.Method, path) { return \"removed\", errdefs.ErrNotFound }\n\tif path == \"/_ping\" &&"},
	{"internal/server/server.go", "\tctx := httpapi.WithVersion(",
		"\tif mutant.Route(rt.Method, rt.Path) { return \"removed\", errdefs.ErrNotFound }\n\tmutant.Request(r, rt.Path)\n\tctx := httpapi.WithVersion("},
	{"internal/config/value.go", "func (v *value) Set(s string) error {\n", "func (v *value) Set(s string) error {\n\tif mutant.Option(v.opt.Flag, v.opt.Key) { return nil }\n"},
	{"internal/config/value.go", "func (v *value) setJSON(raw json.RawMessage) error {\n", "func (v *value) setJSON(raw json.RawMessage) error {\n\tif mutant.Option(v.opt.Flag, v.opt.Key) { return nil }\n"},
}

// find settles the file of an edit that names a folder: the one file in or below
// it that has the text, so that files may be renamed.
func (e *edit) find(dir string) error {
	if strings.HasSuffix(e.file, ".go") {
		return nil
	}
	var found []string
	err := filepath.WalkDir(filepath.Join(dir, e.file), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), e.before+e.middle+e.after) {
			path, err = filepath.Rel(dir, path)
			found = append(found, path)
		}
		return err
	})
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("%q is in %d files below %s, one is needed: %v", e.before+e.middle+e.after, len(found), e.file, found)
	}
	if err == nil {
		e.file = found[0]
	}
	return err
}

// place finds an edit in a file's text: the offsets of what it replaces.
func (e edit) place(text string) (start, end int, err error) {
	whole := e.before + e.middle + e.after
	switch strings.Count(text, whole) {
	case 1:
	case 0:
		return 0, 0, fmt.Errorf("%s has no %q any more", e.file, whole)
	default:
		return 0, 0, fmt.Errorf("%s has %q more than once", e.file, whole)
	}
	start = strings.Index(text, whole) + len(e.before)
	return start, start + len(e.middle), nil
}

// wrap is the code around the place: an expression goes through a function, a statement into an if.
func (e edit) wrap(id string) (open, shut string) {
	q := strconv.Quote(id)
	if _, err := parser.ParseExpr(e.middle); err != nil {
		return "if mutant.Off(" + q + ") {", "}"
	}
	if e.repl != "" {
		return "mutant.Pick(" + q + ", ", ", " + e.repl + ")"
	}
	return "mutant.Drop(" + q + ", ", ")"
}

type insertion struct {
	at    int
	open  bool
	width int
	order int
	text  string
}

// mutate copies the tree to dir, with every mutation of the rows behind its ID, and builds it into dir/bin.
func mutate(root, dir string, rows []row) error {
	if out, err := exec.Command("bash", "-c", `set -o pipefail; tar cf - -C "$1" --exclude=./bin --exclude=./dist --exclude=./.git . | tar xf - -C "$2"`, "bash", root, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("copying the tree: %w\n%s", err, out)
	}
	source, err := files.ReadFile("testdata/mutant.go.txt")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "internal/mutant"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "internal/mutant/mutant.go"), source, 0o644); err != nil {
		return err
	}
	texts, err := mutated(dir, rows)
	if err != nil {
		return err
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(withImport(text)), 0o644); err != nil {
			return err
		}
	}
	cmd := exec.Command("go", "build", "-o", "bin/", "./cmd/gantry", "./cmd/gantry-manifest", "./cmd/gantryd", "./cmd/gantry-keeper", "./cmd/gantry-anchor", "./cmd/gantry-net", "./cmd/gantry-init")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the tree with mutations: %w\n%s", err, out)
	}
	return nil
}

// mutated gives the new text of every file that a row or a hook changes.
func mutated(dir string, rows []row) (map[string]string, error) {
	texts := map[string]string{}
	inserts := map[string][]insertion{}
	n := 0
	read := func(name string) (string, error) {
		if t, ok := texts[name]; ok {
			return t, nil
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		texts[name] = string(b)
		return string(b), err
	}
	for _, r := range rows {
		if isCLI(r.id) {
			continue
		}
		for _, e := range r.block.edits {
			if err := e.find(dir); err != nil {
				return nil, fmt.Errorf("%s: %w", r.id, err)
			}
			text, err := read(e.file)
			if err != nil {
				return nil, err
			}
			start, end, err := e.place(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.id, err)
			}
			open, shut := e.wrap(r.id)
			inserts[e.file] = append(inserts[e.file], insertion{start, true, end - start, n, open}, insertion{end, false, end - start, n, shut})
			n++
		}
	}
	for name, list := range inserts {
		texts[name] = insert(texts[name], list)
	}
	for _, h := range hooks {
		text, err := read(h.file)
		if err != nil {
			return nil, err
		}
		if strings.Count(text, h.old) != 1 {
			return nil, fmt.Errorf("%s has no single %q any more: the hook in test/features/mutate_test.go needs its new form", h.file, h.old)
		}
		texts[h.file] = strings.Replace(text, h.old, h.new, 1)
	}
	return texts, nil
}

// insert puts the pieces in, from the end: of pieces at one offset the closing ones
// come first in the text, and wider places enclose narrower ones.
func insert(text string, list []insertion) string {
	slices.SortStableFunc(list, func(a, b insertion) int {
		switch {
		case a.at != b.at:
			return b.at - a.at
		case a.open != b.open:
			if a.open {
				return -1
			}
			return 1
		case a.open:
			return cmp.Or(a.width-b.width, a.order-b.order)
		}
		return cmp.Or(b.width-a.width, b.order-a.order)
	})
	for _, in := range list {
		text = text[:in.at] + in.text + text[in.at:]
	}
	return text
}

func withImport(text string) string {
	_, tail, _ := strings.Cut(text, "\npackage ")
	if strings.HasPrefix(text, "package ") {
		tail = text[len("package "):]
	}
	name, _, _ := strings.Cut(tail, "\n")
	decl := "package " + name + "\n"
	return strings.Replace(text, decl, decl+"\nimport "+strconv.Quote(mutantPath)+"\n", 1)
}

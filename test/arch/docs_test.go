package arch

import (
	"strings"
	"testing"
)

// Every folder with Go code says in a package comment what it is for.
func TestEveryPackageHasADoc(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range tree(t) {
		if f.test || within(f.pkg, "internal/depspin") {
			continue
		}
		documented[f.pkg] = documented[f.pkg] || f.ast.Doc != nil && len(strings.TrimSpace(f.ast.Doc.Text())) > 30
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}

func TestNoPackageCalledUtil(t *testing.T) {
	for _, f := range tree(t) {
		switch name := f.ast.Name.Name; name {
		case "util", "utils", "common", "helpers", "misc":
			t.Errorf("%s: a package called %s says nothing", f.path, name)
		}
	}
}

package crash

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// points lists every failpoint of the source: the literals that failpoint.Hit is called with.
func points(t *testing.T) []string {
	t.Helper()
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	where := map[string]string{}
	for _, top := range []string{"internal", "cmd", "runtime"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				name, isHit := hitCall(n)
				if !isHit {
					return true
				}
				at := fset.Position(n.Pos()).String()
				if process, _, ok := strings.Cut(name, "."); !ok || !slices.Contains([]string{"gantryd", "keeper", "anchor", "net"}, process) {
					t.Errorf("%s: %q is no failpoint's name: \"<process>.<step>\", a literal", at, name)
				}
				if other, twice := where[name]; twice {
					t.Errorf("failpoint %s stands at two places: %s and %s", name, other, at)
				}
				where[name] = at
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var all []string
	for name := range where {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// hitCall tells whether n is a call of failpoint.Hit, and with which literal; "" if it is none.
func hitCall(n ast.Node) (name string, isHit bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) != 1 {
		return "", false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "Hit" {
		return "", false
	}
	if pkg, ok := sel.X.(*ast.Ident); !ok || pkg.Name != "failpoint" {
		return "", false
	}
	if lit, ok := call.Args[0].(*ast.BasicLit); ok {
		name, _ = strconv.Unquote(lit.Value)
	}
	return name, true
}

package features

import (
	"bufio"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

//go:embed rows/*.txt testdata/*.tsv testdata/mutant.go.txt testdata/talk.py
var files embed.FS

// block is one script and the rows that it shows.
type block struct {
	file   string // rows/<file>.txt
	line   int
	heads  []string // row IDs and patterns as written
	script []string
	want   []string // nil: only the exit status counts
	edits  []edit
	daemon []string // flags of an engine of its own; nil: a shared engine
	state  string   // "works", "not yet" or "no effect"
	reason string
}

// edit is a mutation of one place of the tree.
type edit struct {
	file                  string
	before, middle, after string // middle is what is replaced
	repl                  string // empty: zero value, or left out
}

// row is one line of the page.
type row struct {
	id    string
	block *block
}

// key tells the row's test and mutation apart from any other version of them.
func (r row) key() string {
	h := sha256.New()
	fmt.Fprintln(h, r.id, r.block.script, r.block.want, r.block.daemon)
	if !isCLI(r.id) {
		fmt.Fprintln(h, r.block.edits)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// form is what is played for the row: rows of one block that go through the same
// client and command are shown by one run.
func (r row) form() string {
	form := fmt.Sprint(r.block.file, r.block.line)
	switch first, _, _ := strings.Cut(r.id, " "); {
	case first == "create":
		form += " create"
	case isCLI(r.id):
		form += " ours"
	}
	return form
}

// isCLI tells rows of the command line from those of API and daemon.
func isCLI(id string) bool {
	first, _, _ := strings.Cut(id, " ")
	return !slices.Contains([]string{"GET", "POST", "PUT", "HEAD", "DELETE", "gantryd"}, first)
}

// blocks reads all files of rows.
func blocks() ([]*block, error) {
	names, err := fs.Glob(files, "rows/*.txt")
	if err != nil {
		return nil, err
	}
	var all []*block
	for _, n := range names {
		data, err := files.ReadFile(n)
		if err != nil {
			return nil, err
		}
		list, err := parse(strings.TrimSuffix(strings.TrimPrefix(n, "rows/"), ".txt"), string(data))
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

func parse(file, text string) ([]*block, error) {
	var all []*block
	var cur *block
	sc := bufio.NewScanner(strings.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimRight(sc.Text(), " ")
		bad := func(what string) error { return fmt.Errorf("rows/%s.txt:%d: %s", file, n, what) }
		mark, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || mark == "#":
			continue
		case mark == "==":
			cur = &block{file: file, line: n, state: "works"}
			for _, h := range strings.Split(rest, " + ") {
				cur.heads = append(cur.heads, strings.TrimSpace(h))
			}
			all = append(all, cur)
			continue
		case cur == nil:
			return nil, bad("a line before the first row")
		}
		switch mark {
		case ">":
			cur.want = append(cur.want, rest)
		case "%":
			cur.daemon = append(cur.daemon, strings.Fields(rest)...)
			if cur.daemon == nil {
				cur.daemon = []string{}
			}
		case "@":
			state, why, _ := strings.Cut(rest, ": ")
			if !slices.Contains([]string{"not yet", "no effect", "unproven"}, state) {
				return nil, bad("no such state: " + state)
			}
			cur.state, cur.reason = state, why
		case "!":
			e, err := parseEdit(rest)
			if err != nil {
				return nil, bad(err.Error())
			}
			cur.edits = append(cur.edits, e)
		default:
			cur.script = append(cur.script, line)
		}
	}
	for _, b := range all {
		if len(b.script) == 0 {
			return nil, fmt.Errorf("rows/%s.txt:%d: %v has no script", file, b.line, b.heads)
		}
	}
	return all, nil
}

func parseEdit(s string) (e edit, err error) {
	file, text, ok := strings.Cut(s, " | ")
	if !ok {
		return e, fmt.Errorf("file | text with «what is removed» is needed")
	}
	e.file = strings.TrimSpace(file)
	if t, repl, ok := strings.Cut(text, " => "); ok {
		text, e.repl = t, repl
	}
	before, tail, ok1 := strings.Cut(text, "«")
	middle, after, ok2 := strings.Cut(tail, "»")
	if !ok1 || !ok2 {
		return e, fmt.Errorf("no «» in the mutation")
	}
	plain := strings.NewReplacer(`\n`, "\n", `\t`, "\t")
	e.before, e.middle, e.after = plain.Replace(before), plain.Replace(middle), plain.Replace(after)
	return e, nil
}

// rowsOf spreads the blocks over the inventory: head → IDs. It returns what is
// named twice, what nothing names, and heads that name nothing.
func rowsOf(all []*block, inventory []string) (rows []row, problems []string) {
	owner := map[string]*block{}
	for _, b := range all {
		for _, h := range b.heads {
			ids := expand(h, inventory)
			if len(ids) == 0 {
				problems = append(problems, fmt.Sprintf("rows/%s.txt:%d: %q names nothing", b.file, b.line, h))
			}
			for _, id := range ids {
				exact := id == h
				if o := owner[id]; o != nil && exact {
					if slices.Contains(o.heads, id) {
						problems = append(problems, fmt.Sprintf("rows/%s.txt:%d: %q has a row in rows/%s.txt:%d already", b.file, b.line, id, o.file, o.line))
					}
				} else if o != nil {
					continue // the exact name goes before the pattern
				}
				owner[id] = b
			}
		}
	}
	for _, id := range inventory {
		if b := owner[id]; b != nil {
			rows = append(rows, row{id, b})
		} else {
			problems = append(problems, "no row: "+id)
		}
	}
	return rows, problems
}

// expand gives the IDs that a head means: itself, with "run --x" also "create --x",
// and with a final "*" all that begin so.
func expand(head string, inventory []string) []string {
	if prefix, ok := strings.CutSuffix(head, "*"); ok {
		var out []string
		for _, id := range inventory {
			if strings.HasPrefix(id, prefix) {
				out = append(out, id)
			}
		}
		return out
	}
	var out []string
	for _, id := range inventory {
		if id == head {
			out = append(out, id)
		}
	}
	if rest, ok := strings.CutPrefix(head, "run --"); ok && slices.Contains(inventory, "create --"+rest) {
		out = append(out, "create --"+rest)
	}
	return out
}

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits of the file.
const (
	maxFile  = 1 << 20 // bytes
	maxDepth = 16
)

// node is a value of the file, with where it is.
type node struct {
	at     int // offset of its first byte
	path   string
	value  any     // string, json.Number, bool or nil
	fields []field // of an object, in the file's order
	items  []*node // of a list
	kind   kind
}

type field struct {
	name string
	at   int
	*node
}

type kind string

const (
	object kind = "an object"
	list   kind = "a list"
	text   kind = "a text"
	other  kind = "a number, true, false or null"
)

// reader makes nodes of JSON. The standard library's decoder neither tells a field that is there twice nor where a value was.
type reader struct {
	data []byte
	dec  *json.Decoder
}

func read(data []byte) (*node, *reader, error) {
	r := &reader{data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	r.dec.UseNumber()
	n, err := r.node("", 0)
	if err == nil {
		if _, more := r.dec.Token(); !errors.Is(more, io.EOF) {
			err = r.wrong(r.next(), "", "something follows after the end of the policy")
		}
	}
	return n, r, err
}

// next is where the next token begins.
func (r *reader) next() int {
	at := int(r.dec.InputOffset())
	for at < len(r.data) && strings.IndexByte(" \t\r\n,:", r.data[at]) >= 0 {
		at++
	}
	return at
}

// wrong is an error that says where.
func (r *reader) wrong(at int, path, format string, args ...any) error {
	at = min(at, len(r.data))
	line := 1 + bytes.Count(r.data[:at], []byte("\n"))
	where := fmt.Sprintf("line %d", line)
	if path != "" {
		where += ", " + path
	}
	return fmt.Errorf(where+": "+format, args...)
}

func (r *reader) token(path string) (json.Token, int, error) {
	at := r.next()
	tok, err := r.dec.Token()
	if err != nil {
		var s *json.SyntaxError
		if errors.As(err, &s) {
			at = max(at, int(s.Offset)-1)
		}
		if errors.Is(err, io.EOF) {
			err = errors.New("the file ends in the middle")
		}
		return nil, at, r.wrong(at, path, "this is not JSON: %v", err)
	}
	return tok, at, nil
}

func (r *reader) node(path string, depth int) (*node, error) {
	tok, at, err := r.token(path)
	if err != nil {
		return nil, err
	}
	n := &node{at: at, path: path}
	if depth > maxDepth {
		return nil, r.wrong(at, path, "values are nested more than %d deep", maxDepth)
	}
	switch tok {
	case json.Delim('{'):
		n.kind = object
		for r.dec.More() {
			key, at, err := r.token(path)
			if err != nil {
				return nil, err
			}
			name, _ := key.(string)
			for _, f := range n.fields {
				if f.name == name {
					return nil, r.wrong(at, path, "the field %q is there twice: keep one", name)
				}
			}
			v, err := r.node(join(path, name), depth+1)
			if err != nil {
				return nil, err
			}
			n.fields = append(n.fields, field{name, at, v})
		}
	case json.Delim('['):
		n.kind = list
		for r.dec.More() {
			v, err := r.node(fmt.Sprintf("%s[%d]", path, len(n.items)), depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, v)
		}
	default:
		n.kind, n.value = other, tok
		if _, ok := tok.(string); ok {
			n.kind = text
		}
		return n, nil
	}
	_, _, err = r.token(path)
	return n, err
}

// join is the path of a field. Names that are scopes have dots in them.
func join(path, name string) string {
	if strings.ContainsAny(name, "./:*[] ") || name == "" {
		return fmt.Sprintf("%s[%q]", path, name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

package program

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// script is a program that answers as it is told.
func script(t *testing.T, text string) Program {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return Program{Path: path}
}

// A program that is not there, fails, or talks nonsense is an error: nobody takes it for an answer.
func TestWhatCanGoWrong(t *testing.T) {
	q := Verify{Signatures: []Signature{{Kind: Bundle}}}
	for what, c := range map[string]struct {
		p    Program
		want string
	}{
		"not there":   {Program{Path: "/none"}, "running gantry-trust, which is installed beside this program"},
		"says why":    {script(t, "echo because >&2; exit 1"), "because"},
		"killed":      {script(t, "kill -9 $$"), "killed"},
		"no JSON":     {script(t, "echo hello"), "something else than it should"},
		"says little": {script(t, "echo '{}'"), "was asked for 1 signatures and answered for 0"},
		"never ends":  {script(t, "yes"), "gantry-trust"},
	} {
		if _, err := c.p.Verify(t.Context(), q); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	q.Signatures[0].Content = make([]byte, MaxQuestion)
	if _, err := script(t, "cat").Verify(t.Context(), q); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a question that is too large: %v", err)
	}
}

// The question comes in on standard input, the verb as an argument, and nothing of our environment.
func TestAsked(t *testing.T) {
	t.Setenv("SECRET", "x")
	p := script(t, `[ "$1" = sign ] && [ -z "$SECRET" ] && [ "$(cat)" = '{"Digest":"d","Name":"n","Key":"a2V5"}' ] && echo '{"By":"me"}'`)
	s, err := p.Sign(t.Context(), Sign{Digest: "d", Name: "n", Key: []byte("key")})
	if err != nil || s.By != "me" {
		t.Error(s, err)
	}
}

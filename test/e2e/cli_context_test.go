package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Contexts, word for word as the official client has them: the same lines are given to both, each in a home of its own.
func TestCLIContextsAreDockers(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pem"), []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	homes := map[string]*shell{"docker": newShell(t), "as-docker": newShell(t)}
	for _, line := range []string{
		"context ls", "context show", "context create", "context create a b", "context create bad/name --docker host=tcp://x:1", "context create default --docker host=tcp://x:1",
		"context create one --docker host=unix:///run/one.sock --description 'the first'", "context create one --docker host=tcp://x:1", "context create two --docker foo=bar", "context create two --docker bar",
		"context create two --docker host=ssh://me@there", "context create copy --from one", "context create copy2 --from nosuch", "context create mixed --docker from=one,skip-tls-verify=true",
		"context create badbool --docker host=tcp://x:1,skip-tls-verify=perhaps", "context create nofile --docker host=tcp://x:1,ca=/nosuch", "context create sealed --docker host=tcp://x:1,ca=PEM",
		"context ls", "context ls -q", "context ls --format json", "context ls --format {{.Name}}/{{.Current}}/{{.DockerEndpoint}}/{{.Error}}/{{.Description}}",
		"context inspect", "context inspect one", "context inspect one two", "context inspect sealed", "context inspect nosuch", "context inspect -f {{.Endpoints.docker.Host}} one",
		"context update one --description changed", "context update one --docker host=tcp://other:1", "context inspect one", "context update nosuch --description x", "context update default --description x", "context update one",
		"context export one", "context export one FILE", "context export one FILE", "context export nosuch", "context export default", "context import back FILE", "context import back FILE", "context import other /nosuch",
		"context import other PEM", "context inspect back", "context use two", "context show", "context ls", "context rm two", "context rm default", "context rm nosuch", "context rm -f nosuch", "context rm -f two", "context show",
		"context use nosuch", "context use default", "context rm one nosuch copy", "context ls", "--context nosuch ps", "--context default context show", "--host tcp://x:1 context show", "--host tcp://x:1 --context one ps",
	} {
		got := map[string]result{}
		for program, s := range homes {
			home := s.env["HOME"] // without an address in the environment, so that no warning is in the way
			var args []string
			for _, w := range words(line) {
				w = strings.ReplaceAll(w, "PEM", filepath.Join(dir, "pem"))
				args = append(args, strings.ReplaceAll(w, "FILE", filepath.Join(home, "file.tar")))
			}
			cmd := s.command(program, args...)
			cmd.Dir = home
			var out, errs strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &errs
			code := status(t, cmd.Run())
			mend := func(s string) string { return strings.ReplaceAll(s, home, "HOME") }
			got[program] = result{mend(out.String()), mend(errs.String()), code}
		}
		if want := got["docker"]; got["as-docker"] != want {
			t.Errorf("%s: exit %d\n%s%s--- want %d\n%s%s", line, got["as-docker"].code, got["as-docker"].out, got["as-docker"].err, want.code, want.out, want.err)
		}
	}
	// What either has written, the other reads.
	for program, s := range homes {
		for _, reader := range []string{"docker", "gantry"} {
			if r := s.run(reader, "context", "inspect", "-f", "{{.Endpoints.docker.Host}}", "back"); strings.TrimSpace(r.out) != "tcp://other:1" {
				t.Errorf("%s reads what %s has written: %+v", reader, program, r)
			}
		}
	}
}

// words splits a line at blanks outside single quotes.
func words(line string) (list []string) {
	word, quoted, any := strings.Builder{}, false, false
	for _, r := range line + " " {
		switch {
		case r == '\'':
			quoted, any = !quoted, true
		case r == ' ' && !quoted:
			if any {
				list = append(list, word.String())
			}
			word.Reset()
			any = false
		default:
			word.WriteRune(r)
			any = true
		}
	}
	return list
}

package bootstrap

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Tool is the program that installs packages into a tree.
const Tool = "mmdebstrap"

// Find looks for mmdebstrap and says what helps where it is not.
func Find() error {
	if _, err := exec.LookPath(Tool); err != nil {
		if runtime.GOOS != "linux" {
			return fmt.Errorf("%s is needed to make an image from packages, and runs on Linux only: make the image on a Linux machine, with --output FILE, and load it here", Tool)
		}
		return fmt.Errorf("%s is needed to make an image from packages: install the package %s (apt-get install %s)", Tool, Tool, Tool)
	}
	return nil
}

// Architecture is this machine's, in dpkg's words.
func Architecture(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "dpkg", "--print-architecture").Output()
	if err != nil {
		return "", fmt.Errorf("asking dpkg for this machine's architecture: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// patience is how long mmdebstrap may take to clean up after it was told to end.
const patience = 30 * time.Second

// Install lets mmdebstrap install the packages and writes the tree as a tar archive to out. What it says about its steps goes to
// progress, a line each.
func (r *Request) Install(ctx context.Context, sources []Source, started time.Time, out *os.File, progress func(string)) error {
	keyring, remove, err := r.readableKeys()
	if err != nil {
		return err
	}
	defer remove()
	args := []string{"--format=tar", "--variant=" + r.Variant, "--mode=" + r.Mode, "--architectures=" + r.Arch, "--keyring=" + keyring, "--skip=output/dev"}
	if len(r.Include) > 0 {
		args = append(args, "--include="+strings.Join(r.Include, ","))
	}
	if r.Snapshot != "" { // what was valid then has expired since
		args = append(args, `--aptopt=Acquire::Check-Valid-Until "false"`)
	}
	args = append(args, proxies(ctx)...)
	args = append(args, r.Suite, "-")
	for _, s := range sources {
		args = append(args, s.line(keyring))
	}
	scratch, err := os.MkdirTemp("", "gantry-bootstrap-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)                      // an interrupted mmdebstrap does not always
	if err := os.Chmod(scratch, 0o755); err != nil { // apt's own user goes in
		return err
	}
	cmd := exec.CommandContext(ctx, Tool, args...)
	cmd.Stdout = out
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "APT_CONFIG=") || strings.HasPrefix(kv, "TMPDIR=") || strings.HasPrefix(kv, epochVariable+"=") // nobody's settings weaken the check of signatures
	}), fmt.Sprintf("%s=%d", epochVariable, started.Unix()), "LC_ALL=C.UTF-8", "TMPDIR="+scratch)
	inGroup(cmd)
	cmd.WaitDelay = patience
	words, w := io.Pipe()
	cmd.Stderr = w // by a pipe of ours, so that Run ends although somebody keeps the other one open
	heard := make(chan []string, 1)
	go func() { heard <- listen(words, progress) }()
	err = cmd.Run()
	endGroup(cmd)
	_ = w.Close()
	said := <-heard
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil:
		return nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(said) > 0 {
		return fmt.Errorf("%s could not make %s:%s from %s:\n  %s", Tool, r.Distribution, r.Suite, uris(sources), strings.Join(said, "\n  "))
	}
	return fmt.Errorf("%s: %w", Tool, err)
}

// readableKeys copies the keyring to where apt's own user can read it: one that it cannot read would look like a wrong one.
func (r *Request) readableKeys() (path string, remove func(), err error) {
	b, err := os.ReadFile(r.Keyring)
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "gantry-bootstrap-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	path = filepath.Join(dir, "keys.gpg")
	if bytes.HasPrefix(b, []byte(armored)) {
		path = filepath.Join(dir, "keys.asc") // apt tells by the name
	}
	if err = os.Chmod(dir, 0o755); err == nil {
		err = os.WriteFile(path, b, 0o644)
	}
	if err == nil {
		err = os.Chmod(path, 0o644) // whatever the umask
	}
	if err != nil {
		remove()
		return "", nil, err
	}
	return path, remove, nil
}

// proxies hands this machine's proxies for apt on: the tree's apt does not read the machine's configuration.
func proxies(ctx context.Context) (args []string) {
	for _, scheme := range []string{"http", "https"} {
		out, err := exec.CommandContext(ctx, "apt-config", "dump", "--format", "%v", "Acquire::"+scheme+"::Proxy").Output()
		if proxy := strings.TrimSpace(string(out)); err == nil && proxy != "" {
			args = append(args, fmt.Sprintf("--aptopt=Acquire::%s::Proxy %q", scheme, proxy))
		}
	}
	return args
}

func uris(sources []Source) string {
	var list []string
	for _, s := range sources {
		if !slices.Contains(list, s.URI) {
			list = append(list, s.URI)
		}
	}
	return strings.Join(list, ", ")
}

const (
	maxSaid = 12 // lines of complaints that are kept: the last ones say why
	maxLine = 1000
)

// listen passes on what mmdebstrap says about its steps, and keeps the end of the complaints; of everything, where nobody complains.
func listen(r io.Reader, progress func(string)) []string {
	var complaints, all []string
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := s.Text()
		if step, ok := strings.CutPrefix(line, "I: "); ok {
			if strings.HasSuffix(step, "...") {
				progress(strings.TrimSuffix(step, "..."))
			}
			continue
		}
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		line = line[:min(len(line), maxLine)]
		all = last(append(all, line))
		if strings.HasPrefix(line, "E: ") || strings.HasPrefix(line, "W: ") || strings.Contains(strings.ToLower(line), "error") {
			complaints = last(append(complaints, line))
		}
	}
	_, _ = io.Copy(io.Discard, r) // a line beyond all measure must not stop the program that writes it
	if len(complaints) > 0 {
		return complaints
	}
	return all
}

func last(lines []string) []string { return lines[max(0, len(lines)-maxSaid):] }

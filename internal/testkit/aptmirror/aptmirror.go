// Package aptmirror makes a small signed package archive, served on loopback, whose packages make a tree in which dpkg and apt
// run: their executables are this machine's. A test says what is wrong with the archive.
package aptmirror

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Suite is the archive's only one.
const Suite = "trial"

// Mirror is an archive. Change what it says and Publish it again.
type Mirror struct {
	URL     string // as in apt's sources
	Keyring string // file with the key that signs
	Dir     string // of the files: dists/, pool/

	Date       time.Time // of the Release file
	ValidUntil time.Time // zero is not said
	Unsigned   bool
	SignAs     string // another key's user; empty is the archive's
	arch, home string
	packages   []string // paragraphs of Packages
}

// Start makes the archive, signed with a key made for it, and serves it until the test's end.
func Start(t testing.TB) *Mirror {
	t.Helper()
	root := t.TempDir()
	m := &Mirror{Dir: filepath.Join(root, "www"), home: filepath.Join(root, "gpg"), Keyring: filepath.Join(root, "keys.gpg"), Date: time.Now().Add(-time.Hour)}
	m.arch = strings.TrimSpace(run(t, "dpkg", "--print-architecture"))
	if err := os.MkdirAll(filepath.Join(m.Dir, "pool"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(m.home, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", m.home, "--kill", "gpg-agent").Run() })
	m.AddKey(t, "archive")
	m.gpg(t, "--output", m.Keyring, "--export", "archive@test")
	m.basics(t)
	m.Publish(t)
	s := httptest.NewServer(http.FileServer(http.Dir(m.Dir)))
	t.Cleanup(s.Close)
	m.URL = s.URL
	return m
}

// AddKey makes a key of a user who may sign.
func (m *Mirror) AddKey(t testing.TB, user string) {
	t.Helper()
	m.gpg(t, "--passphrase", "", "--quick-gen-key", user+"@test", "ed25519", "sign", "never")
}

func (m *Mirror) gpg(t testing.TB, args ...string) {
	t.Helper()
	run(t, "gpg", append([]string{"--homedir", m.home, "--batch", "--quiet", "--yes"}, args...)...)
}

// Package is what goes into an archive's package.
type Package struct {
	Name, Version string
	Fields        string            // further lines of its control file
	Files         map[string]string // path → content; content that begins with "-> " is a link, with "#!" a script; a path that ends in / is a folder
	Copies        map[string]string // path → file of this machine
	PostInst      string            // shell script
}

// packed is the time of all that is in packages.
var packed = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

// Add builds a package and puts it in the place of an older one of its name. Publish makes it known.
func (m *Mirror) Add(t testing.TB, p Package) {
	t.Helper()
	root := t.TempDir()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: test <test@test>\nDescription: made by a test\n%s", p.Name, p.Version, m.arch, p.Fields)
	write(t, filepath.Join(root, "DEBIAN/control"), []byte(control), 0o644)
	if p.PostInst != "" {
		write(t, filepath.Join(root, "DEBIAN/postinst"), []byte("#!/bin/sh\nset -e\n"+p.PostInst+"\n"), 0o755)
	}
	for path, content := range p.Files {
		if strings.HasSuffix(path, "/") {
			if err := os.MkdirAll(filepath.Join(root, path), 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			path = filepath.Join(root, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(content, "#!") {
			mode = 0o755
		}
		write(t, filepath.Join(root, path), []byte(content), mode)
	}
	for path, source := range p.Copies {
		b, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, path), b, 0o755)
	}
	run(t, "find", root, "-exec", "touch", "-h", "-d", packed.Format(time.RFC3339), "{}", "+")
	pool := fmt.Sprintf("pool/%s_%s_%s.deb", p.Name, p.Version, m.arch)
	deb := filepath.Join(m.Dir, pool)
	run(t, "dpkg-deb", "-Znone", "--root-owner-group", "--build", root, deb)
	b, err := os.ReadFile(deb)
	if err != nil {
		t.Fatal(err)
	}
	paragraph := fmt.Sprintf("%s\nFilename: %s\nSize: %d\nSHA256: %x\n", strings.TrimSpace(control), pool, len(b), sha256.Sum256(b))
	kept := m.packages[:0]
	for _, old := range m.packages {
		if !strings.HasPrefix(old, "Package: "+p.Name+"\n") {
			kept = append(kept, old)
		}
	}
	m.packages = append(kept, paragraph)
}

// Publish writes and signs the archive's indexes.
func (m *Mirror) Publish(t testing.TB) {
	t.Helper()
	index := []byte(strings.Join(m.packages, "\n"))
	dist := filepath.Join(m.Dir, "dists", Suite)
	if err := os.RemoveAll(dist); err != nil {
		t.Fatal(err)
	}
	path := "main/binary-" + m.arch + "/Packages"
	write(t, filepath.Join(dist, path), index, 0o644)
	var r bytes.Buffer
	fmt.Fprintf(&r, "Origin: Test\nLabel: Test\nSuite: %s\nCodename: %s\nDate: %s\n", Suite, Suite, m.Date.UTC().Format(time.RFC1123))
	if !m.ValidUntil.IsZero() {
		fmt.Fprintf(&r, "Valid-Until: %s\n", m.ValidUntil.UTC().Format(time.RFC1123))
	}
	fmt.Fprintf(&r, "Architectures: %s\nComponents: main\nSHA256:\n %x %d %s\n", m.arch, sha256.Sum256(index), len(index), path)
	release := filepath.Join(dist, "Release")
	write(t, release, r.Bytes(), 0o644)
	if m.Unsigned {
		return
	}
	signer := m.SignAs
	if signer == "" {
		signer = "archive"
	}
	m.gpg(t, "--local-user", signer+"@test", "--output", filepath.Join(dist, "InRelease"), "--clearsign", release)
}

// Alter changes one byte of a file below the archive, or appends to it where it is empty, without telling the indexes.
func (m *Mirror) Alter(t testing.TB, path, old, replacement string) {
	t.Helper()
	file := filepath.Join(m.Dir, path)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(old)) || len(old) != len(replacement) {
		t.Fatalf("%s: cannot replace %q with %q", path, old, replacement)
	}
	if err := os.WriteFile(file, bytes.Replace(b, []byte(old), []byte(replacement), 1), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Index is the path of the list of packages.
func (m *Mirror) Index() string { return "dists/" + Suite + "/main/binary-" + m.arch + "/Packages" }

// Pool is the path of a package's file.
func (m *Mirror) Pool(name, version string) string {
	return "pool/" + name + "_" + version + "_" + m.arch + ".deb"
}

func write(t testing.TB, path string, b []byte, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, mode); err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

package bootstrap

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/cli/ref"
)

func TestParseName(t *testing.T) {
	for in, want := range map[string]string{
		"debian:bookworm": "debian bookworm", "debian:12": "debian bookworm", "debian": "debian stable", "debian:latest": "debian stable", "debian:sid": "debian sid",
		"ubuntu:24.04": "ubuntu noble", "ubuntu:jammy": "ubuntu jammy", "ubuntu": "", "ubuntu:latest": "", "alpine:3": "", "": "", "debian:../x": "", "debian:-x": "", "debian:A": "", "debian:a b": "",
	} {
		var r Request
		err := r.ParseName(in)
		if got := strings.TrimSpace(r.Distribution + " " + r.Suite); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func TestSources(t *testing.T) {
	configured := []target{
		{"http://third.test/linux/debian", "bookworm", "stable", ""}, {"http://third.test/debian", "bookworm", "main", "Third"},
		{"http://m.test/debian", "bookworm", "main", "Debian"}, {"http://m.test/debian", "bookworm-updates", "main", "Debian"}, {"http://sec.test/s", "bookworm-security", "main", "Debian"},
	}
	d := distributions["debian"]
	for suite, want := range map[string]string{"bookworm": "http://m.test/debian", "sid": "http://m.test/debian"} {
		if got := choose(configured, d, "debian", suite); got != want {
			t.Errorf("%s is taken from %q, want %q", suite, got, want)
		}
	}
	if got := choose(configured, distributions["ubuntu"], "ubuntu", "noble"); got != "" {
		t.Errorf("ubuntu is taken from %q", got)
	}
	if got := chooseSecurity(configured, d, "bookworm"); got != "http://sec.test/s" {
		t.Errorf("security updates are taken from %q", got)
	}
	for mirror, want := range map[string]string{"http://m/debian": "http://m/debian-security", "http://m/debian/": "http://m/debian-security", "http://s/archive/debian/20240131T000000Z/": "http://s/archive/debian-security/20240131T000000Z", "http://m/x": ""} {
		if got, ok := debianSecurity(mirror); got != want || ok != (want != "") {
			t.Errorf("security beside %s: %q", mirror, got)
		}
	}
	r := Request{Distribution: "debian", Suite: "bookworm", Mirror: "http://a/debian", Components: []string{"main", "contrib"}, Pockets: []string{"updates", "security"}}
	got, err := r.Sources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, s := range got {
		lines = append(lines, s.line("/k"))
	}
	want := `deb [signed-by="/k"] http://a/debian bookworm main contrib
deb [signed-by="/k"] http://a/debian bookworm-updates main contrib
deb [signed-by="/k"] http://a/debian-security bookworm-security main contrib`
	if strings.Join(lines, "\n") != want {
		t.Errorf("sources:\n%s", strings.Join(lines, "\n"))
	}
	if got := (Source{"file:///srv/debian", "s", []string{"main"}}).line("/k"); got != `deb [signed-by="/k"] copy:///srv/debian s main` {
		t.Errorf("files: %s", got)
	}
}

// tree is a tar archive as mmdebstrap makes it, at a time.
func tree(t *testing.T, now time.Time, seed string) []byte {
	t.Helper()
	packed := time.Unix(1_700_000_000, 0)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range []struct {
		name, data string
		when       time.Time
	}{
		{"./", "", now}, {"./dev/", "", now}, {"./dev/shm/", "", now}, {"./etc/", "", now}, {"./etc/apt/", "", now}, {"./etc/apt/sources.list", "deb x", now}, {"./etc/hostname", seed, now}, {"./etc/machine-id", seed, now},
		{"./etc/shadow", "root:*:" + days(now) + ":0\nold:*:10000:0\n", now}, {"./etc/shadow-", seed, now}, {"./etc/ssh/ssh_host_rsa_key", seed, now}, {"./usr/", "", now}, {"./usr/bin/tool", "tool", packed},
		{"./usr/lib/os-release", "ID=x\nVERSION_ID=\"7\"\n", packed.Add(-time.Hour)}, {"./var/cache/apt/archives/", "", now}, {"./var/cache/apt/archives/lock", seed, now}, {"./var/lib/dpkg/info/tool.list", "/.\n/bin/tool\n/etc/edited\n", now},
		{"./var/lib/dpkg/status", "Package: tool\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2-3\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n", now}, {"./var/lib/dpkg/status-old", seed, now},
		{"./var/log/", "", now}, {"./var/log/dpkg.log", seed, now},
	} {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: m.name, Mode: 0o644, Size: int64(len(m.data)), ModTime: m.when}
		if strings.HasSuffix(m.name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if m.name == "./usr/bin/tool" {
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "cap", "LIBARCHIVE.creationtime": seed}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func days(t time.Time) string { return strconv.FormatInt(t.Unix()/86400, 10) }

// built makes an image of a tree, and gives it with its archive.
func built(t *testing.T, raw []byte, started time.Time) (*Survey, *Image, []byte) {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "k")
	if err := os.WriteFile(keys, []byte("keys"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := Request{Distribution: "debian", Suite: "s", Variant: "apt", Arch: "armhf", Keyring: keys, Components: []string{"main"}, ImageMirror: "http://x/debian"}
	s, err := Examine(bytes.NewReader(raw), started)
	if err != nil {
		t.Fatal(err)
	}
	epoch, err := Epoch(s, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	extras, err := r.Extras([]Source{{"http://elsewhere/debian", "s", r.Components}}, s)
	if err != nil {
		t.Fatal(err)
	}
	layer, err := os.Create(filepath.Join(t.TempDir(), "layer"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { layer.Close() })
	if err := Layer(layer, bytes.NewReader(raw), epoch, extras); err != nil {
		t.Fatal(err)
	}
	img, err := Compose(ref.Ref{Domain: "docker.io", Path: "library/x", Tag: "1"}, r.Blank(s, epoch), s.List(), layer)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := img.Write(&archive); err != nil {
		t.Fatal(err)
	}
	return s, img, archive.Bytes()
}

// Two installations at different times, with different secrets, give the same bytes.
func TestSameBytes(t *testing.T) {
	one, two := time.Unix(1_800_000_000, 0), time.Unix(1_900_000_000, 0)
	s, img, a := built(t, tree(t, one, "first"), one)
	_, _, b := built(t, tree(t, two, "second!"), two)
	if !bytes.Equal(a, b) {
		t.Error("two installations of the same packages differ")
	}
	if s.List() != "tool:amd64=1:2-3" || s.Epoch.Unix() != 1_700_000_000 || s.Release["VERSION_ID"] != "7" {
		t.Errorf("survey: %q %s %v", s.List(), s.Epoch, s.Release)
	}
	if img.Manifest.Platform.Architecture != "arm" || img.Manifest.Platform.Variant != "v7" {
		t.Errorf("platform %+v", img.Manifest.Platform)
	}
	if _, err := img.layer.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	tr := tar.NewReader(img.layer)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(tr)
		got[h.Name] = string(data)
		if h.ModTime.Unix() > 1_700_000_000 || h.PAXRecords["LIBARCHIVE.creationtime"] != "" {
			t.Errorf("%s: %s %v", h.Name, h.ModTime, h.PAXRecords)
		}
		if h.Name == "usr/bin/tool" && h.PAXRecords["SCHILY.xattr.security.capability"] != "cap" {
			t.Error("the tool lost its capability")
		}
	}
	for _, gone := range []string{"", "dev/shm/", "etc/hostname", "etc/shadow-", "etc/apt/sources.list", "etc/ssh/ssh_host_rsa_key", "var/cache/apt/archives/lock", "var/lib/dpkg/status-old", "var/log/dpkg.log"} {
		if _, there := got[gone]; there {
			t.Errorf("%q is in the layer", gone)
		}
	}
	for name, want := range map[string]string{"dev/": "", "var/log/": "", "var/cache/apt/archives/": "", "etc/machine-id": "", "etc/shadow": "root:*:19675:0\nold:*:10000:0\n", "etc/apt/debian-bootstrap.gpg": "keys",
		"etc/apt/sources.list.d/debian.sources": "Types: deb\nURIs: http://x/debian\nSuites: s\nComponents: main\nSigned-By: /etc/apt/debian-bootstrap.gpg\n"} {
		if data, there := got[name]; !there || data != want {
			t.Errorf("%s: %v %q, want %q", name, there, data, want)
		}
	}
}

func TestWhatIsNoTree(t *testing.T) {
	var empty bytes.Buffer
	if err := tar.NewWriter(&empty).Close(); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"nothing": nil, "empty": empty.Bytes(), "no tar": bytes.Repeat([]byte("x"), 2000), "cut": tree(t, time.Now(), "")[:3000]} {
		if _, err := Examine(bytes.NewReader(b), time.Now()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, v := range []string{"x", "-1"} {
		if _, err := Epoch(&Survey{}, func(string) string { return v }); err == nil {
			t.Errorf("the epoch %q was taken", v)
		}
	}
}

func TestListen(t *testing.T) {
	var steps []string
	long := strings.Repeat("x", 2<<20)
	said := listen(strings.NewReader("I: one...\nI: two\nGet:1 x\nW: warned\nE: failed\n"), func(s string) { steps = append(steps, s) })
	if strings.Join(steps, ",") != "one" || strings.Join(said, ",") != "W: warned,E: failed" {
		t.Errorf("%q %q", steps, said)
	}
	if said := listen(strings.NewReader("first\n"+long+"\nlast\n"), func(string) {}); strings.Join(said, ",") != "first" {
		t.Errorf("%d lines", len(said))
	}
}

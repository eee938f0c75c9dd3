package ship

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/aptmirror"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

// from is the arguments that make an image from a test's archive.
func from(m *aptmirror.Mirror, more ...string) []string {
	return append([]string{"image", "bootstrap", "debian:" + aptmirror.Suite, "--mirror", m.URL, "--keyring", m.Keyring, "--pocket", "none", "--variant", "apt"}, more...)
}

func gantry(t *testing.T, e *testkit.Engine, args ...string) string {
	t.Helper()
	out, errs, code := e.Gantry(args...)
	if code != 0 {
		t.Fatalf("gantry %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return strings.TrimSpace(out)
}

// The same packages give the same digest, whatever the archive's date and place; the image runs, and its dpkg and apt work.
func TestBootstrap(t *testing.T) {
	e, m := testkit.Start(t, testkit.Options{}), aptmirror.Start(t)
	file, list := filepath.Join(t.TempDir(), "image.tar"), filepath.Join(t.TempDir(), "packages")
	out := gantry(t, e, from(m, "-o", file, "--list", list)...)
	for _, want := range []string{"debian:trial: running apt-get update", "5 packages of 2024-05-06T07:08:09Z", "Digest: sha256:"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	id := e.Must(t, "image", "inspect", "-f", "{{.Id}}", "debian:trial")
	m.Date = m.Date.Add(-24 * time.Hour)
	m.Publish(t)
	if again := gantry(t, e, from(m, "-q", "--mirror", "file://"+m.Dir, "--image-mirror", m.URL)...); again != id || !strings.Contains(out, "Digest: "+id) {
		t.Errorf("made again it has the ID %s, not %s", again, id)
	}
	for _, c := range []struct{ command, want string }{
		{"cat /etc/os-release", `PRETTY_NAME="Trial 1"`}, {"dpkg -l | grep ^ii", "base-files     1"}, {"apt-get update 2>&1 && ls /var/lib/apt/lists", "_dists_trial_InRelease"},
		{"cat /etc/apt/sources.list.d/debian.sources", "Signed-By: /etc/apt/debian-bootstrap.gpg"}, {"cat /etc/shadow", "root:*:19849:"}, {"wc -c /etc/machine-id", "0 /etc/machine-id"},
		{"find /tmp /var/log /var/lib/dbus /var/lib/systemd ! -type d | wc -l", "0"}, {"ls /etc/shadow- 2>&1 || true", "No such file"},
	} {
		if got := e.Must(t, "run", "--rm", "--network", "host", "debian:trial", "sh", "-c", c.command); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q is not in\n%s", c.command, c.want, got)
		}
	}
	var labels map[string]string
	if err := json.Unmarshal([]byte(e.Must(t, "image", "inspect", "-f", "{{json .Config.Labels}}", "debian:trial")), &labels); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{"suite": "trial", "distribution": "debian", "variant": "apt"} {
		if labels["io.gantry.bootstrap."+k] != want {
			t.Errorf("the label %s is %q", k, labels["io.gantry.bootstrap."+k])
		}
	}
	lines, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(lines); !strings.HasPrefix(s, "apt:") || strings.Count(s, "=1\n") != 5 {
		t.Errorf("the packages are listed as %q", s)
	}
	var manifest struct{ Annotations map[string]string }
	if err := json.Unmarshal([]byte(run(t, "skopeo", "inspect", "--raw", "oci-archive:"+file)), &manifest); err != nil {
		t.Fatal(err)
	}
	listed := manifest.Annotations["io.gantry.bootstrap.packages"]
	if listed != strings.Join(strings.Fields(string(lines)), " ") || labels["io.gantry.bootstrap.packages.digest"] != digest.FromString(listed).String() {
		t.Errorf("the manifest lists %q, the label says %s", listed, labels["io.gantry.bootstrap.packages.digest"])
	}
	if got := run(t, "skopeo", "inspect", "--format", "{{.Digest}}", "oci-archive:"+file); strings.TrimSpace(got) != id {
		t.Errorf("skopeo finds %s in the archive, not %s", got, id)
	}
	t.Run("other packages, another digest", func(t *testing.T) {
		more := gantry(t, e, from(m, "-q", "-t", "more:1", "--include", "extra")...)
		m.Add(t, aptmirror.Package{Name: "extra", Version: "2", Fields: "Priority: optional\n", Files: map[string]string{"/usr/share/extra": "new\n"}})
		m.Publish(t)
		if newer := gantry(t, e, from(m, "-q", "-t", "more:2", "--include", "extra")...); newer == more || more == id {
			t.Errorf("three sets of packages have the IDs %s, %s and %s", id, more, newer)
		}
		if got := e.Must(t, "run", "--rm", "more:2", "cat", "/usr/share/extra"); got != "new" {
			t.Errorf("the newer package's file has %q", got)
		}
	})
	t.Run("for another engine", func(t *testing.T) {
		d := testkit.Start(t, testkit.Options{Docker: true, OwnNamespaces: true})
		config := run(t, "skopeo", "inspect", "--config", "--raw", "oci-archive:"+file)
		if got := gantry(t, d, from(m, "-q")...); got != digest.FromString(config).String() {
			t.Errorf("Docker calls it %s, not by its configuration", got)
		}
		if got := d.Must(t, "run", "--rm", "debian:trial", "cat", "/etc/os-release"); !strings.Contains(got, "Trial") {
			t.Errorf("in Docker: %s", got)
		}
	})
	t.Run("a name that is taken", func(t *testing.T) {
		e.Must(t, "load", "-q", "-i", busyboxArchive(t))
		e.Must(t, "tag", "bb", "debian:taken")
		_, errs, code := e.Gantry(from(m, "-t", "debian:taken")...)
		if code != 1 || !strings.Contains(errs, "was not made by bootstrap") {
			t.Errorf("exit %d, %s", code, errs)
		}
		gantry(t, e, from(m, "-q", "-t", "debian:taken", "--force")...)
		if got := e.Must(t, "run", "--rm", "debian:taken", "cat", "/etc/os-release"); !strings.Contains(got, "Trial") {
			t.Errorf("the name was not taken: %s", got)
		}
	})
}

// What the archive's key did not sign is refused, and nothing is left of it.
func TestBootstrapRefusesAnAlteredArchive(t *testing.T) {
	e, m := testkit.Start(t, testkit.Options{}), aptmirror.Start(t)
	m.AddKey(t, "stranger")
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	for name, c := range map[string]struct {
		spoil func(t *testing.T)
		want  string
	}{
		"unsigned":          {func(t *testing.T) { m.Unsigned = true; m.Publish(t) }, "is not signed"},
		"a stranger's key":  {func(t *testing.T) { m.SignAs = "stranger"; m.Publish(t) }, "NO_PUBKEY"},
		"expired":           {func(t *testing.T) { m.ValidUntil = time.Now().Add(-time.Minute); m.Publish(t) }, "is expired"},
		"from the future":   {func(t *testing.T) { m.Date = time.Now().Add(48 * time.Hour); m.Publish(t) }, "is not valid yet"},
		"altered release":   {func(t *testing.T) { m.Alter(t, "dists/trial/InRelease", "Label: Test", "Label: Tost") }, "BADSIG"},
		"altered list":      {func(t *testing.T) { m.Alter(t, m.Index(), "made by a test", "made by a tost") }, "Hash Sum mismatch"},
		"altered package":   {func(t *testing.T) { m.Alter(t, m.Pool("extra", "1"), "extra\n", "evil!\n") }, "Hash Sum mismatch"},
		"no such component": {func(*testing.T) {}, "did not find any indices"},
	} {
		t.Run(name, func(t *testing.T) {
			m.Unsigned, m.SignAs, m.ValidUntil, m.Date = false, "", time.Time{}, time.Now().Add(-time.Hour)
			m.Publish(t)
			c.spoil(t)
			args := from(m, "--include", "extra")
			if name == "no such component" {
				args = append(args, "--components", "nowhere")
			}
			out, errs, code := e.Gantry(args...)
			if code != 1 || !strings.Contains(errs, c.want) || !strings.Contains(errs, "could not make debian:trial from "+m.URL) {
				t.Errorf("exit %d, %q is not in\n%s%s", code, c.want, out, errs)
			}
			if images := e.Must(t, "images", "-aq"); images != "" {
				t.Errorf("there are images: %s", images)
			}
			if left, _ := os.ReadDir(tmp); len(left) > 0 {
				t.Errorf("%d files were left behind, %s first", len(left), left[0].Name())
			}
		})
	}
}

// Who ends it finds neither an image nor anything in the folder for temporary files.
func TestBootstrapInterrupted(t *testing.T) {
	e, m := testkit.Start(t, testkit.Options{}), aptmirror.Start(t)
	tmp := t.TempDir()
	for _, at := range []string{"running apt-get update", "installing essential packages"} {
		cmd := exec.Command(filepath.Join(testkit.Bin(t), "gantry"), append([]string{"-H", "unix://" + e.Socket}, from(m)...)...)
		cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
		words, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		seen := false
		for s := bufio.NewScanner(words); !seen && s.Scan(); {
			seen = strings.HasSuffix(s.Text(), at)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, words)
		if err := cmd.Wait(); !seen || cmd.ProcessState.ExitCode() != 130 {
			t.Errorf("ended at %q (%v): %v", at, seen, err)
		}
		if left, _ := os.ReadDir(tmp); len(left) > 0 {
			t.Errorf("%d files were left behind, %s first", len(left), left[0].Name())
		}
		if images := e.Must(t, "images", "-aq"); images != "" {
			t.Errorf("there are images: %s", images)
		}
	}
}

// What is missing or does not fit is told before anything is fetched.
func TestBootstrapSaysWhatIsMissing(t *testing.T) {
	bin, path := testkit.Bin(t), t.TempDir()
	keys := filepath.Join(path, "keys")
	if err := os.WriteFile(keys, []byte("k"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want, args string
		bare       bool
	}{
		{"apt-get install mmdebstrap", "debian:bookworm", true},
		{`"gentoo" is not one of debian, ubuntu`, "gentoo:now", false},
		{"say which suite", "ubuntu", false},
		{"invalid variant", "debian:bookworm --variant huge", false},
		{"invalid mirror", "debian:bookworm --mirror ftp://x", false},
		{"invalid pocket", "debian:bookworm --pocket backports", false},
		{"invalid snapshot", "debian:bookworm --snapshot yesterday", false},
		{"{snapshot} in the place of the time", "debian:bookworm --snapshot 20240131T000000Z", false},
		{"say which with --snapshot", "debian:bookworm --mirror http://x/{snapshot}", false},
		{"security-mirror", "debian:bookworm --mirror http://127.0.0.1:1/x --keyring " + keys, false},
		{"nothing but --include", "debian:bookworm --variant custom", false},
		{"the keyring", "debian:bookworm --keyring /nonexistent", false},
		{"install the package ubuntu-keyring", "ubuntu:noble", false},
	} {
		cmd := exec.Command(filepath.Join(bin, "gantry"), append(strings.Fields("image bootstrap --no-load -o "+path+"/out"), strings.Fields(c.args)...)...)
		cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+path)
		if c.bare {
			cmd.Env = append(cmd.Env, "PATH="+path)
		}
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v, %q is not in\n%s", c.args, err, c.want, out)
		}
	}
}

// The archive that this machine's apt uses, with the distribution's own signature. The client runs where the machine's network is.
func TestBootstrapFromTheDistribution(t *testing.T) {
	e := testkit.Start(t, testkit.Options{})
	var id, suite string
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		switch k, v, _ := strings.Cut(strings.TrimSpace(line), "="); k {
		case "ID":
			id = v
		case "VERSION_CODENAME":
			suite = v
		}
	}
	outside := "--net=/proc/" + strings.TrimSpace(run(t, "sh", "-c", "ps -o ppid= -p $PPID")) + "/ns/net"
	name := id + ":" + suite
	run(t, "nsenter", outside, filepath.Join(testkit.Bin(t), "gantry"), "-H", "unix://"+e.Socket, "image", "bootstrap", name, "--variant", "essential")
	if got := e.Must(t, "run", "--rm", name, "sh", "-c", ". /etc/os-release; echo $ID:$VERSION_CODENAME; dpkg -l | grep -c ^ii"); !strings.HasPrefix(got, name+"\n") || len(got) < len(name)+3 {
		t.Errorf("in the image: %s", got)
	}
}

// busyboxArchive is a file with the image bb.
func busyboxArchive(t *testing.T) string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "bb.tar")
	if err := imagemaker.WriteBusybox(archive, "bb:latest"); err != nil {
		t.Fatal(err)
	}
	return archive
}

package ship

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/sys/treecopy"
	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

// dockerd starts Debian's Docker engine with an image in it. Stop leaves its data root for others to read.
func dockerd(t *testing.T, driver string) *testkit.Engine {
	t.Helper()
	d := testkit.Start(t, testkit.Options{Docker: true, OwnNamespaces: true, Args: []string{"--storage-driver", driver}})
	d.Must(t, "load", "-q", "-i", busyboxArchive(t))
	return d
}

// imported is one line of the report.
type imported struct{ Kind, Name, Result, Size, Note string }

type importReport []imported

// importFrom runs the command and gives its report, which has to come with the exit status.
func importFrom(t *testing.T, e *testkit.Engine, status int, root string, args ...string) importReport {
	t.Helper()
	out, errs, code := e.Gantry(append([]string{"system", "import-docker", "--format", "json", "--data-root", root}, args...)...)
	var r importReport
	for line := range strings.Lines(out) {
		var i imported
		if err := json.Unmarshal([]byte(line), &i); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		r = append(r, i)
	}
	if code != status {
		t.Fatalf("exit %d, want %d\n%s%s", code, status, out, errs)
	}
	return r
}

// want checks one line of the report: its result, and a part of its note.
func (r importReport) want(t *testing.T, kind, name, result, note string) {
	t.Helper()
	for _, i := range r {
		if i.Kind == kind && strings.HasPrefix(i.Name, name) {
			if i.Result != result || !strings.Contains(i.Note, note) {
				t.Errorf("%s %s: %s (%s), want %s (%s)", kind, name, i.Result, i.Note, result, note)
			}
			return
		}
	}
	t.Errorf("%s %s is not in the report: %+v", kind, name, r)
}

// fingerprint is of everything in a tree but the times of last access.
func fingerprint(t *testing.T, root string, skip ...string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(path, root)
		if slices.ContainsFunc(skip, func(s string) bool { return strings.HasPrefix(rel, s) }) {
			return nil
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		fmt.Fprintln(h, rel, st.Mode, st.Uid, st.Gid, st.Rdev, st.Nlink, st.Mtim, st.Ctim)
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			fmt.Fprintln(h, st.Size)
			if st.Size < 32<<20 {
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				_, _ = h.Write(b)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// furnish fills a Docker engine with images that share layers, volumes with odd files, and containers with odd options.
func furnish(t *testing.T, d *testkit.Engine) {
	t.Helper()
	base := busybox(t)
	odd := base.Named("odd:1", "team/odd:two").Add(imagemaker.Layer{
		imagemaker.File("/odd/file", "odd\n").Mode(0o4711).Owner(11, 22).Xattr("user.colour", "blue"), imagemaker.Link("/odd/again", "/odd/file"), imagemaker.Symlink("/odd/link", "../etc/passwd"),
		imagemaker.Device("/odd/null", 'c', 1, 3), imagemaker.Whiteout("/etc/group"), imagemaker.File("/odd/"+strings.Repeat("long", 60), "long"),
	}, imagemaker.Layer{imagemaker.Opaque("/odd"), imagemaker.File("/odd/only", "only\n")})
	archive := filepath.Join(t.TempDir(), "odd.tar")
	write(t, archive, imagemaker.Archive{Images: []imagemaker.Image{odd}, Docker: true})
	d.Must(t, "load", "-q", "-i", archive)
	d.Must(t, "volume", "create", "--label", "who=me", "data")
	d.Must(t, "volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "memory")
	d.Must(t, "run", "--name", "writer", "-v", "data:/data", "-v", "/anon", "bb", "sh", "-c", `cd /data; mkdir -p sub; echo x > plain; ln plain sub/hard; ln -s /etc/passwd link; mkfifo pipe; mknod dev c 1 3
		chown 1234:5678 plain; chmod 4755 plain; dd if=/dev/zero of=sparse bs=1 count=1 seek=100000000 2>/dev/null; chmod 1777 .; echo anonymous > /anon/file; echo mine > /wrote; rm /etc/group`)
	d.Must(t, "commit", "writer", "made:1")
	d.Must(t, "create", "--name", "web", "--restart", "unless-stopped", "-p", "127.0.0.1:18080:80", "--env", "A=b c", "--label", "l=1", "--user", "7:8", "--workdir", "/tmp", "--memory", "64m", "--cap-add", "NET_ADMIN",
		"--ulimit", "nofile=100:200", "--health-cmd", "true", "--tmpfs", "/scratch", "--volumes-from", "writer:ro", "--entrypoint", "sh", "odd:1", "-c", "cat /odd/only; id -u; pwd; echo $A; cat /data/plain; ls /data/sub")
	d.Must(t, "tag", "made:1", "gone:1")
	d.Must(t, "create", "--name", "old", "--hostname", "hostly", "gone:1", "sh", "-c", "cat /wrote; hostname; ls /etc/group")
	for _, name := range []string{"gone:1", "made:1"} { // the container's image loses its names
		d.Must(t, "tag", "bb", name)
		d.Must(t, "rmi", name)
	}
}

func busyboxRun(t *testing.T, e *testkit.Engine, container, want string) {
	t.Helper()
	out, errs, _ := e.Docker("start", "-a", container)
	if got := strings.TrimSpace(out + errs); got != want {
		t.Errorf("the container %s says %q, want %q", container, got, want)
	}
}

// Everything of a stopped Docker engine, for both kinds of storage: the same digests, the same files, containers that do what they did.
func TestImportDocker(t *testing.T) {
	for _, driver := range []string{"overlay2", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			d := dockerd(t, driver)
			furnish(t, d)
			ids := map[string]string{}
			saved := filepath.Join(t.TempDir(), "odd.tar")
			for _, name := range []string{"bb:latest", "odd:1"} {
				ids[name] = d.Must(t, "image", "inspect", "-f", "{{.Id}} {{.RootFS.Layers}}", name)
			}
			d.Must(t, "save", "-o", saved, "odd:1")
			if err := d.Stop(); err != nil {
				t.Fatal(err)
			}
			e := testkit.Start(t, testkit.Options{})
			before := fingerprint(t, d.DataRoot)
			plan := importFrom(t, e, 0, d.DataRoot, "--dry-run")
			plan.want(t, "image", "odd:1", "planned", "")
			plan.want(t, "container", "web", "planned", "")
			if out := e.Must(t, "images", "-aq") + e.Must(t, "ps", "-aq") + e.Must(t, "volume", "ls", "-q"); out != "" {
				t.Errorf("a dry run left %s", out)
			}
			r := importFrom(t, e, 0, d.DataRoot)
			for _, kind := range []string{"image bb:latest", "image odd:1", "volume data", "volume memory", "container writer", "container web", "container old"} {
				k, n, _ := strings.Cut(kind, " ")
				r.want(t, k, n, "taken", "")
			}
			if driver == "overlay2" {
				r.want(t, "container", "writer", "taken", "--writable takes it")
			}
			for name, want := range ids {
				id, layers, _ := strings.Cut(want, " ")
				if got := e.Must(t, "image", "inspect", "-f", "{{.RootFS.Layers}}", name); got != layers {
					t.Errorf("%s has the layers %s, not %s", name, got, layers)
				}
				if a, b := e.Must(t, "image", "inspect", "-f", "{{.Id}}", id), e.Must(t, "image", "inspect", "-f", "{{.Id}}", name); a != b {
					t.Errorf("%s: Docker's ID finds %s, not %s", name, a, b)
				}
			}
			was := e.Must(t, "image", "inspect", "-f", "{{.Id}}", "odd:1")
			e.Must(t, "load", "-q", "-i", saved)
			if now := e.Must(t, "image", "inspect", "-f", "{{.Id}}", "odd:1"); now != was || e.Must(t, "image", "inspect", "-f", "{{.Id}}", "team/odd:two") != was {
				t.Errorf("taken over it is %s, but loaded from Docker's archive %s", was, now)
			}
			compareVolume(t, e, filepath.Join(d.DataRoot, "volumes/data/_data"), "data")
			if got := e.Must(t, "volume", "inspect", "-f", "{{.Labels}} {{.Options}}", "data", "memory"); got != "map[who:me] map[]\nmap[] map[device:tmpfs o:size=1m type:tmpfs]" {
				t.Errorf("the volumes are %s", got)
			}
			busyboxRun(t, e, "web", "only\n7\n/tmp\nb c\nx\nhard")
			busyboxRun(t, e, "old", "mine\nhostly\nls: /etc/group: No such file or directory")
			if got := e.Must(t, "inspect", "-f", `{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.PortBindings}} {{.HostConfig.Memory}} {{.HostConfig.CapAdd}} {{.Config.Healthcheck.Test}} {{index .Config.Labels "l"}} {{.HostConfig.VolumesFrom}}`, "web"); got != "unless-stopped map[80/tcp:[{127.0.0.1 18080}]] 67108864 [NET_ADMIN] [CMD-SHELL true] 1 [writer:ro]" &&
				!strings.Contains(got, "CAP_NET_ADMIN") {
				t.Errorf("web is %s", got)
			}
			if got := e.Must(t, "run", "--rm", "--volumes-from", "writer", "bb", "cat", "/anon/file"); got != "anonymous" {
				t.Errorf("the volume without a name has %q", got)
			}
			e.Must(t, "stop", "-t", "0", "web", "old")
			for _, i := range importFrom(t, e, 0, d.DataRoot) {
				if i.Result != "present" && i.Result != "left out" {
					t.Errorf("the second time, %s %s is %s (%s)", i.Kind, i.Name, i.Result, i.Note)
				}
			}
			if after := fingerprint(t, d.DataRoot); after != before {
				t.Error("Docker's data root was changed")
			}
		})
	}
}

// compareVolume compares a folder with a volume's content.
func compareVolume(t *testing.T, e *testkit.Engine, from, name string) {
	t.Helper()
	to := e.Must(t, "volume", "inspect", "-f", "{{.Mountpoint}}", name)
	a, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if diff, err := treecopy.Difference(context.Background(), a, b, treecopy.Options{}); diff != "" || err != nil {
		t.Errorf("the volume %s differs in %q: %v", name, diff, err)
	}
	var x, y, hard unix.Stat_t
	for path, st := range map[string]*unix.Stat_t{to + "/sparse": &x, to + "/plain": &y, to + "/sub/hard": &hard} {
		if err := unix.Lstat(path, st); err != nil {
			t.Fatal(err)
		}
	}
	if x.Size != 100_000_001 || x.Blocks*512 > 1<<20 || y.Ino != hard.Ino || y.Mode&0o7777 != 0o4755 || y.Uid != 1234 {
		t.Errorf("sparse %+v\nplain %+v", x, y)
	}
}

// A running Docker engine is read as well: its databases are locked and its containers write. What they wrote comes along when asked for.
func TestImportFromARunningDocker(t *testing.T) {
	d := dockerd(t, "overlay2")
	d.Must(t, "volume", "create", "--label", "who=me", "data")
	d.Must(t, "network", "create", "--subnet", "10.99.1.0/24", "own")
	d.Must(t, "run", "-d", "--name", "runs", "-v", "data:/data", "bb", "sh", "-c", "echo before > /wrote; rm /etc/group; echo 1 > /data/one; touch /data/ready; exec sleep 1000")
	d.Must(t, "exec", "runs", "sh", "-c", "until [ -e /data/ready ]; do sleep 0.05; done")
	d.Must(t, "create", "--name", "apart", "--network", "own", "bb", "true")
	e := testkit.Start(t, testkit.Options{})
	e.Must(t, "network", "create", "--subnet", "10.99.1.0/25", "in-the-way")
	ignore := []string{"/network/files", "/containers/", "/buildkit", "/containerd", "/overlay2/"} // Docker itself writes there
	before := fingerprint(t, d.DataRoot, ignore...)
	r := importFrom(t, e, 1, d.DataRoot, "--writable")
	r.want(t, "image", "bb:latest", "taken", "")
	r.want(t, "volume", "data", "taken", "")
	r.want(t, "network", "own", "failed", "10.99.1.0/24")
	r.want(t, "writable layer", "runs", "taken", "imported/runs:latest")
	r.want(t, "container", "runs", "taken", "it runs in Docker")
	r.want(t, "container", "apart", "failed", "it needs the network own")
	if after := fingerprint(t, d.DataRoot, ignore...); after != before {
		t.Error("Docker's data root was changed")
	}
	if got := e.Must(t, "volume", "inspect", "-f", "{{.Labels}}", "data"); got != "map[who:me]" {
		t.Errorf("the volume's labels are %s", got)
	}
	if got := e.Must(t, "run", "--rm", "--volumes-from", "runs", "imported/runs", "sh", "-c", "cat /wrote /data/one; ls /etc/group 2>&1 || true"); got != "before\n1\nls: /etc/group: No such file or directory" {
		t.Errorf("what was written there is here %q", got)
	}
	if got := e.Must(t, "inspect", "-f", "{{.State.Status}} {{.Config.Image}}", "runs"); got != "created imported/runs:latest" {
		t.Errorf("the container is %s", got)
	}
	if got := d.Must(t, "inspect", "-f", "{{.State.Status}}", "runs"); got != "running" {
		t.Errorf("in Docker the container is %s", got)
	}
	if r := importFrom(t, e, 1, d.DataRoot, "--stop-on-error"); r[len(r)-1].Name != "own" || r[len(r)-1].Result != "failed" {
		t.Errorf("after the first failure it went on: %+v", r)
	}
	if _, errs, code := d.Gantry("system", "import-docker", "--data-root", d.DataRoot); code != 1 || !strings.Contains(errs, "is the one whose data root") {
		t.Errorf("into Docker itself: exit %d, %s", code, errs)
	}
}

// What is damaged is told, each thing for itself, and the rest is taken.
func TestImportFromADamagedRoot(t *testing.T) {
	d := dockerd(t, "overlay2")
	furnish(t, d)
	base := busybox(t)
	for _, n := range []string{"nodiff", "nofiles", "altered", "nosplit"} {
		archive := filepath.Join(t.TempDir(), n+".tar")
		write(t, archive, imagemaker.Archive{Images: []imagemaker.Image{base.Named(n + ":1").Add(imagemaker.Layer{imagemaker.File("/"+n, strings.Repeat(n, 1000))})}, Docker: true})
		d.Must(t, "load", "-q", "-i", archive)
	}
	d.Must(t, "create", "--name", "half", "bb", "true")
	d.Must(t, "create", "--name", "lost", "nofiles:1", "true")
	half := d.Must(t, "inspect", "-f", "{{.Id}}", "half")
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	meta := filepath.Join(d.DataRoot, "image/overlay2")
	record := func(image string) string { // of its last layer
		chains, err := filepath.Glob(meta + "/layerdb/sha256/*/cache-id")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range chains {
			id, err := os.ReadFile(c)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(d.DataRoot, "overlay2", string(id), "diff", image)); err == nil {
				return filepath.Dir(c)
			}
		}
		t.Fatalf("no layer has /%s", image)
		return ""
	}
	cache := func(image string) string {
		id, err := os.ReadFile(filepath.Join(record(image), "cache-id"))
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(d.DataRoot, "overlay2", string(id), "diff")
	}
	for what, err := range map[string]error{
		"altered": os.WriteFile(filepath.Join(cache("altered"), "altered"), []byte(strings.Repeat("ALTERED", 1000)), 0o644),
		"nosplit": os.Remove(filepath.Join(record("nosplit"), "tar-split.json.gz")),
		"nodiff":  os.WriteFile(filepath.Join(record("nodiff"), "diff"), []byte("garbage"), 0o644),
		"nofiles": os.RemoveAll(cache("nofiles")),
		"half":    os.Remove(filepath.Join(d.DataRoot, "containers", half, "hostconfig.json")),
		"volume":  os.RemoveAll(filepath.Join(d.DataRoot, "volumes/memory")),
		"network": os.WriteFile(filepath.Join(d.DataRoot, "network/files/local-kv.db"), []byte("garbage"), 0o600),
		"config":  os.WriteFile(meta+"/imagedb/content/sha256/"+strings.Repeat("0", 64), []byte("{}"), 0o600),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	e := testkit.Start(t, testkit.Options{})
	r := importFrom(t, e, 1, d.DataRoot)
	r.want(t, "image", "bb:latest", "taken", "")
	r.want(t, "image", "odd:1", "taken", "")
	r.want(t, "image", "altered:1", "failed", "checksum")
	r.want(t, "image", "nosplit:1", "failed", "no record of its archive")
	r.want(t, "image", "nodiff:1", "failed", `it says "garbage"`)
	r.want(t, "image", "nofiles:1", "failed", "no such file")
	r.want(t, "image", "sha256:0000", "failed", "damaged")
	r.want(t, "volume", "data", "taken", "")
	r.want(t, "volume", "memory", "failed", "its folder is missing")
	r.want(t, "network", "(all)", "failed", "local-kv.db")
	r.want(t, "container", half[:12], "failed", "hostconfig.json")
	r.want(t, "container", "lost", "failed", "nofiles:1")
	r.want(t, "container", "web", "taken", "")
	if got := e.Must(t, "run", "--rm", "odd:1", "cat", "/odd/only"); got != "only" {
		t.Errorf("an image that was whole has %q", got)
	}
	if out := e.Must(t, "images", "--format", "{{.Repository}}", "altered"); out != "" {
		t.Errorf("an image that was altered is here: %s", out)
	}
}

// What has the name here and is another thing stays, unless it is to be replaced; what was interrupted is finished.
func TestImportMeetsOthers(t *testing.T) {
	d := dockerd(t, "overlay2")
	d.Must(t, "volume", "create", "data")
	d.Must(t, "run", "--name", "same", "-v", "data:/data", "bb", "sh", "-c", "echo docker > /data/file")
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	e := testkit.Start(t, testkit.Options{})
	archive := filepath.Join(t.TempDir(), "other.tar")
	write(t, archive, imagemaker.Archive{Images: []imagemaker.Image{busybox(t).Named("bb:latest").Add(imagemaker.Layer{imagemaker.File("/other", "other")})}})
	e.Must(t, "load", "-q", "-i", archive)
	e.Must(t, "run", "--name", "same", "-v", "data:/data", "bb", "sh", "-c", "echo gantry > /data/file")
	mine := e.Must(t, "image", "inspect", "-f", "{{.Id}}", "bb") + e.Must(t, "inspect", "-f", "{{.Id}}", "same")
	r := importFrom(t, e, 1, d.DataRoot)
	r.want(t, "image", "bb:latest", "conflict", "--force")
	r.want(t, "volume", "data", "conflict", `"file"`)
	r.want(t, "container", "same", "conflict", "--force")
	if got := e.Must(t, "image", "inspect", "-f", "{{.Id}}", "bb") + e.Must(t, "inspect", "-f", "{{.Id}}", "same"); got != mine {
		t.Error("what was here was replaced")
	}
	content := func() string {
		return e.Must(t, "run", "--rm", "-v", "data:/data", "bb", "cat", "/data/file")
	}
	if got := content(); got != "gantry" {
		t.Errorf("the volume has %q", got)
	}
	e.Must(t, "run", "-d", "--name", "busy", "-v", "data:/data", "bb", "sleep", "1000")
	importFrom(t, e, 1, d.DataRoot, "--volumes", "--force").want(t, "volume", "data", "failed", "the container busy uses it")
	e.Must(t, "rm", "-f", "busy")
	r = importFrom(t, e, 0, d.DataRoot, "--force")
	for _, kind := range []string{"image bb:latest", "volume data", "container same"} {
		k, n, _ := strings.Cut(kind, " ")
		r.want(t, k, n, "taken", "")
	}
	if got := content(); got != "docker" {
		t.Errorf("the volume has %q", got)
	}
	e.Must(t, "run", "--rm", "-v", "data:/data", "bb", "sh", "-c", "echo half > /data/file; touch /data/.gantry-import-unfinished")
	importFrom(t, e, 0, d.DataRoot, "--volumes").want(t, "volume", "data", "taken", "")
	if got := e.Must(t, "run", "--rm", "-v", "data:/data", "bb", "sh", "-c", "cat /data/file; ls -A /data"); got != "docker\nfile" {
		t.Errorf("a copy that was not finished was not made again: %q", got)
	}
}

// A run that is killed in the middle of an image or a volume is repeated, and finishes.
func TestImportKilled(t *testing.T) {
	d := dockerd(t, "overlay2")
	large := busybox(t).Named("large:1").Add(imagemaker.Layer{imagemaker.File("/large", strings.Repeat("0123456789abcdef", 4<<20))})
	archive := filepath.Join(t.TempDir(), "large.tar")
	write(t, archive, imagemaker.Archive{Images: []imagemaker.Image{large}, Docker: true})
	d.Must(t, "load", "-q", "-i", archive)
	d.Must(t, "run", "--name", "writer", "-v", "data:/data", "large:1", "sh", "-c", "for i in 1 2 3 4 5 6; do cp /large /data/$i; done")
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	e := testkit.Start(t, testkit.Options{})
	for _, at := range []string{"large:1: Copying layers", "data: Copying volume"} {
		cmd := exec.Command(filepath.Join(testkit.Bin(t), "gantry"), "-H", "unix://"+e.Socket, "system", "import-docker", "--data-root", d.DataRoot)
		words, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		seen := false
		for s := bufio.NewScanner(words); !seen && s.Scan(); {
			seen = s.Text() == at
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		if !seen {
			t.Fatalf("%q was never said", at)
		}
	}
	r := importFrom(t, e, 0, d.DataRoot)
	r.want(t, "image", "large:1", "present", "")
	r.want(t, "volume", "data", "taken", "")
	r.want(t, "container", "writer", "taken", "")
	if got := e.Must(t, "run", "--rm", "-v", "data:/data", "large:1", "sh", "-c", "for i in 1 2 3 4 5 6; do cmp /large /data/$i || exit 1; done; ls -A /data | wc -l"); got != "6" {
		t.Errorf("the volume has %s", got)
	}
}

// What is no data root is said to be none.
func TestImportFromNothing(t *testing.T) {
	e := testkit.Start(t, testkit.Options{})
	empty := t.TempDir()
	for root, want := range map[string]string{empty: "is no data root of Docker's", empty + "/none": "no such file"} {
		_, errs, code := e.Gantry("system", "import-docker", "--data-root", root)
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %s", root, code, errs)
		}
	}
	for _, dir := range []string{"image/devicemapper/imagedb/content", "containers", "containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots/1"} {
		if err := os.MkdirAll(filepath.Join(empty, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, errs, code := e.Gantry("system", "import-docker", "--data-root", empty); code != 1 || !strings.Contains(errs, "docker save") {
		t.Errorf("a driver that is not known: exit %d, %s", code, errs)
	}
	if err := os.RemoveAll(filepath.Join(empty, "image")); err != nil {
		t.Fatal(err)
	}
	importFrom(t, e, 1, empty).want(t, "image", "(containerd's image store)", "failed", "docker save")
}

package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// Bad input: a clear error with Docker's exit code, and nothing left behind.
func TestBadInput(t *testing.T) {
	e := engine(t)
	before := footprint(t, e)
	for name, c := range map[string]struct {
		code  int
		texts []string
		args  []string
	}{
		"unknown image":         {125, []string{"nosuchimage"}, []string{"run", "--pull", "never", "nosuchimage"}},
		"bad reference":         {125, []string{"invalid reference format"}, []string{"run", "Bad!"}},
		"missing command":       {127, []string{"executable file not found"}, []string{"run", "--rm", "bb", "nosuchcommand"}},
		"not executable":        {126, []string{"permission denied"}, []string{"run", "--rm", "bb", "/etc/passwd"}},
		"a folder":              {126, []string{}, []string{"run", "--rm", "bb", "/tmp"}},
		"bad bind":              {125, []string{"bind source path does not exist"}, []string{"run", "--mount", "type=bind,src=/no/such,dst=/x", "bb"}},
		"too little memory":     {125, []string{"6MB"}, []string{"run", "-m", "1m", "bb"}},
		"unknown user":          {125, []string{"unable to find user"}, []string{"run", "--rm", "-u", "nosuch", "bb"}},
		"unknown capability":    {125, []string{"NOSUCH"}, []string{"run", "--cap-add", "NOSUCH", "bb"}},
		"missing device":        {0, nil, nil},
		"unknown sysctl":        {125, []string{"sysctl"}, []string{"run", "--rm", "--sysctl", "kernel.nosuch=1", "bb", "true"}},
		"unknown network":       {125, []string{"nosuch"}, []string{"run", "--network", "nosuch", "bb"}},
		"unknown runtime":       {125, []string{"nosuch"}, []string{"run", "--runtime", "nosuch", "bb"}},
		"unknown volume driver": {125, []string{"VolumeDriver"}, []string{"run", "--volume-driver", "nosuch", "-v", "vol:/x", "bb"}},
	} {
		if c.args == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			fails(t, e, c.code, c.texts, c.args...)
			if ids := e.Must(t, "ps", "-aq"); ids != "" {
				e.Must(t, append([]string{"rm", "-f", "-v"}, strings.Fields(ids)...)...)
			}
		})
	}
	if after := footprint(t, e); after != before {
		t.Errorf("left behind:\nbefore %s\nafter  %s", before, after)
	}
}

// footprint is what failed operations must not change: containers, volumes, processes, links, mounts.
func footprint(t *testing.T, e *testkit.Engine) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	cgroups, _ := filepath.Glob("/sys/fs/cgroup/*/gantry-test-" + strings.TrimPrefix(filepath.Base(e.ExecRoot), "gt-") + "/*/cgroup.procs")
	cgroups = slices.DeleteFunc(cgroups, func(path string) bool { return strings.Contains(path, "/spare-") }) // made ahead
	return fmt.Sprintf("containers %q volumes %q mounts %d cgroups %d", e.Must(t, "ps", "-aq"), e.Must(t, "volume", "ls", "-q"),
		bytes.Count(mounts, []byte("\n")), len(cgroups))
}

func TestPortTakenSaysByWhom(t *testing.T) {
	e := engine(t)
	l, err := net.Listen("tcp", "127.0.0.1:18555")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fails(t, e, 125, []string{"18555"}, "run", "--rm", "-p", "127.0.0.1:18555:80", "bb", "true")
	e.Must(t, "run", "-d", "--name", "holder", "-p", "127.0.0.1:18556:80", "bb", "sleep", "60")
	fails(t, e, 125, []string{"port is already allocated", "holder"}, "run", "--rm", "-p", "127.0.0.1:18556:80", "bb", "true")
}

func TestMalformedRequests(t *testing.T) {
	e := engine(t)
	c := e.HTTP()
	post := func(path, ctype string, body []byte) (int, string) {
		res, err := c.Post("http://d/v1.41"+path, ctype, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b := new(bytes.Buffer)
		_, _ = b.ReadFrom(res.Body)
		return res.StatusCode, b.String()
	}
	for name, r := range map[string]struct {
		path, ctype, body string
		want              int
	}{
		"not JSON":           {"/containers/create", "application/json", "{", http.StatusBadRequest},
		"another type":       {"/containers/create", "application/json", `{"Image": 5}`, http.StatusBadRequest},
		"wrong content type": {"/containers/create", "text/plain", `{}`, http.StatusBadRequest},
		"two values":         {"/containers/create", "application/json", `{"Image":"bb"} {}`, http.StatusBadRequest},
		"no image":           {"/containers/create", "application/json", `{"Cmd":["true"]}`, http.StatusBadRequest},
		"no container":       {"/containers/nosuch/start", "application/json", ``, http.StatusNotFound},
		"bad signal":         {"/containers/nosuch/kill?signal=x", "application/json", ``, http.StatusBadRequest},
		"no page":            {"/no/such/page", "application/json", `{}`, http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := post(r.path, r.ctype, []byte(r.body))
			if code != r.want || !strings.Contains(body, `"message"`) {
				t.Errorf("%d %s, want %d with a message", code, body, r.want)
			}
		})
	}
	huge := append([]byte(`{"Image":"`), bytes.Repeat([]byte("x"), 40<<20)...)
	if code, body := post("/containers/create", "application/json", huge); code < 400 || code >= 500 || len(body) > 1000 {
		t.Errorf("a body of 40 MB: %d, %d bytes of answer", code, len(body))
	}
}

// Archives that try to write outside the container.
func TestHostileArchives(t *testing.T) {
	e := engine(t)
	e.Must(t, "create", "--name", "box", "bb", "true")
	canary := filepath.Join(t.TempDir(), "canary")
	entries := map[string][]tar.Header{
		"upwards":          {{Name: "../../../../../../../.." + canary, Typeflag: tar.TypeReg, Size: 1, Mode: 0o644}},
		"absolute":         {{Name: canary, Typeflag: tar.TypeReg, Size: 1, Mode: 0o644}},
		"through a link":   {{Name: "out", Typeflag: tar.TypeSymlink, Linkname: filepath.Dir(canary)}, {Name: "out/canary", Typeflag: tar.TypeReg, Size: 1, Mode: 0o644}},
		"through .. links": {{Name: "up", Typeflag: tar.TypeSymlink, Linkname: "../../../../../../../.."}, {Name: "up" + canary, Typeflag: tar.TypeReg, Size: 1, Mode: 0o644}},
		"hard link":        {{Name: "hl", Typeflag: tar.TypeLink, Linkname: "../../../../../../etc/hostname"}},
	}
	for name, headers := range entries {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, h := range headers {
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
				if h.Size == 1 {
					_, _ = w.Write([]byte("x"))
				}
			}
			_ = w.Close()
			req, err := http.NewRequest("PUT", "http://d/v1.41/containers/box/archive?path=/tmp", &b)
			if err != nil {
				t.Fatal(err)
			}
			res, err := e.HTTP().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if _, err := os.Lstat(canary); err == nil {
				t.Fatalf("the archive wrote %s on the host (%s)", canary, res.Status)
			}
		})
	}
}

// Disk full: a clear error, nothing left behind, and the engine goes on when there is room.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{
		{"truncate", "-s", "24M", disk}, {"mkfs.ext4", "-q", "-F", disk}, {"mount", "-o", "loop", disk, data},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	t.Cleanup(func() { _ = syscall.Unmount(data, syscall.MNT_DETACH) })
	var st, up syscall.Stat_t
	if syscall.Stat(data, &st) != nil || syscall.Stat(dir, &up) != nil || st.Dev == up.Dev {
		t.Fatal("the loop mount does not hold: writing here would fill the real disk")
	}
	e := testkit.Start(t, testkit.Options{Args: []string{"--data-root", data}})
	load(t, e)
	used := du(t, data)
	big := filepath.Join(dir, "big.tar")
	f, err := os.Create(big)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	if err := w.WriteHeader(&tar.Header{Name: "big", Typeflag: tar.TypeReg, Size: 60 << 20, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 1<<20)
	for i := range chunk {
		chunk[i] = byte(i * 7)
	}
	for range 60 {
		if _, err := w.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Close()
	_ = f.Close()
	fails(t, e, 1, []string{"no space left on device"}, "import", big, "big:1")
	if now := du(t, data); now > used+1<<20 {
		t.Errorf("a failed import left %d bytes behind", now-used)
	}
	fails(t, e, 1, []string{"No space left"}, "run", "--name", "filler", "bb", "dd", "if=/dev/zero", "of=/fill", "bs=1M", "count=60")
	e.Must(t, "rm", "filler")
	if out := e.Must(t, "run", "--rm", "bb", "echo", "room again"); out != "room again" {
		t.Errorf("after the disk was full: %q", out)
	}
}

func du(t *testing.T, dir string) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // files come and go meanwhile
		}
		if info, err := d.Info(); err == nil {
			sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// A data root that cannot be used is refused with a reason.
func TestUnusableDataRoot(t *testing.T) {
	bin := filepath.Join(testkit.Bin(t), "gantryd")
	start := func(data string) string {
		dir := testkit.ShortTempDir(t)
		cmd := exec.Command("timeout", "20", bin, "--data-root", data, "--exec-root", filepath.Join(dir, "x"), "-H", "unix://"+filepath.Join(dir, "s"), "--pidfile", filepath.Join(dir, "p"))
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("gantryd started on %s", data)
		}
		return string(out)
	}
	ro := t.TempDir()
	if err := syscall.Mount("tmpfs", ro, "tmpfs", syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Unmount(ro, syscall.MNT_DETACH) }()
	if out := start(ro); !strings.Contains(out, "read-only") {
		t.Errorf("a read-only data root: %s", out)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := start(file); !strings.Contains(out, "not a directory") {
		t.Errorf("a file as data root: %s", out)
	}
}

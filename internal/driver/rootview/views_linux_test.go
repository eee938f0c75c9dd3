package rootview

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// overlay makes the directories of a container with two layers.
func overlay(t *testing.T) spec.Rootfs {
	t.Helper()
	dir := t.TempDir()
	r := spec.Rootfs{Lower: []string{filepath.Join(dir, "l2"), filepath.Join(dir, "l1")}, Upper: filepath.Join(dir, "c", "upper"), Work: filepath.Join(dir, "c", "work"), Options: []string{"volatile"}}
	for _, d := range append([]string{r.Upper, r.Work}, r.Lower...) {
		must(t, os.MkdirAll(d, 0o755))
	}
	must(t, os.MkdirAll(filepath.Join(r.Lower[1], "etc"), 0o755))
	must(t, os.WriteFile(filepath.Join(r.Lower[1], "etc", "f"), []byte("from below"), 0o644))
	must(t, os.Symlink("/etc/f", filepath.Join(r.Lower[0], "link")))
	must(t, os.Symlink("/data/sub", filepath.Join(r.Lower[0], "d")))
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, v containers.View, path, base string) map[string]string {
	t.Helper()
	var b bytes.Buffer
	must(t, v.TarOut(t.Context(), path, base, &b))
	found := map[string]string{}
	tr := tar.NewReader(&b)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		must(t, err)
		data, err := io.ReadAll(tr)
		must(t, err)
		found[h.Name] = string(data) + h.Linkname
	}
}

func archive(t testing.TB, entries ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range entries {
		data := ""
		if h.Typeflag == tar.TypeReg {
			data, h.Linkname = h.Linkname, ""
			h.Size = int64(len(data))
		}
		must(t, tw.WriteHeader(&h))
		_, err := io.WriteString(tw, data)
		must(t, err)
	}
	must(t, tw.Close())
	return &b
}

func TestStoppedContainerWithVolumes(t *testing.T) {
	r := overlay(t)
	vol, ro := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(filepath.Join(vol, "sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(vol, "sub", "v"), []byte("in the volume"), 0o644))
	mountsBefore, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	v, err := New().Open(t.Context(), r, []specs.Mount{
		{Destination: "/data", Source: vol, Type: "bind", Options: []string{"rbind", "rw"}},
		{Destination: "/ro", Source: ro, Type: "bind", Options: []string{"rbind", "ro"}},
		{Destination: "/proc", Source: "proc", Type: "proc"},
	}, 0)
	must(t, err)
	defer v.Close()
	if got := read(t, v, "/link", "link"); got["link"] != "/etc/f" {
		t.Errorf("a link is copied as %v", got)
	}
	st, err := v.Stat("/link")
	if err != nil || st.LinkTarget != "/etc/f" || os.FileMode(st.Mode)&os.ModeSymlink == 0 || st.Name != "link" {
		t.Errorf("stat of a link: %+v %v", st, err)
	}
	if got := read(t, v, "/d/v", "v"); got["v"] != "in the volume" {
		t.Errorf("through a link into a volume: %v", got)
	}
	if got := read(t, v, "/data", "x"); got["x/sub/v"] != "in the volume" {
		t.Errorf("the volume: %v", got)
	}
	if got := read(t, v, "/", ""); got["etc/f"] != "from below" || got["data/sub/v"] != "" {
		t.Errorf("export: %v", got)
	}
	must(t, v.TarIn(t.Context(), "/d", archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "new", Mode: 0o640, Linkname: "hello"}), containers.TarInOptions{}))
	if b, err := os.ReadFile(filepath.Join(vol, "sub", "new")); err != nil || string(b) != "hello" {
		t.Errorf("copied into the volume: %q %v", b, err)
	}
	err = v.TarIn(t.Context(), "/ro", archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "x", Mode: 0o640}), containers.TarInOptions{})
	if !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "mounted volume is marked read-only") {
		t.Errorf("into a read-only volume: %v", err)
	}
	if _, err := v.Stat("/nowhere/x"); !errdefs.IsNotFound(err) {
		t.Errorf("stat of nothing: %v", err)
	}
	mountsAfter, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	if !bytes.Equal(mountsBefore, mountsAfter) {
		t.Error("the host's mount table has changed")
	}
}

func TestOverwritingDirectories(t *testing.T) {
	v, err := New().Open(t.Context(), overlay(t), nil, 0)
	must(t, err)
	defer v.Close()
	file := tar.Header{Typeflag: tar.TypeReg, Name: "etc", Mode: 0o600, Linkname: "x"}
	dir := tar.Header{Typeflag: tar.TypeDir, Name: "f/", Mode: 0o700}
	for at, h := range map[string]tar.Header{"/": file, "/etc": dir} {
		err := v.TarIn(t.Context(), at, archive(t, h), containers.TarInOptions{NoOverwriteDirNonDir: true})
		if err == nil || !strings.Contains(err.Error(), "cannot overwrite") {
			t.Errorf("%s over %s: %v", h.Name, at, err)
		}
	}
	if err := v.TarIn(t.Context(), "/etc/f", archive(t, file), containers.TarInOptions{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("into a file: %v", err)
	}
	must(t, v.TarIn(t.Context(), "/", archive(t, file), containers.TarInOptions{CopyUIDGID: true, UID: 12, GID: 13}))
	if got := read(t, v, "/etc", "etc"); got["etc"] != "x" {
		t.Errorf("a file over a folder: %v", got)
	}
}

func TestRunningContainerIsSeenThroughItsInit(t *testing.T) {
	cmd := exec.Command("/bin/busybox", "sh", "-c", "mount -t tmpfs -o ro none /mnt && echo ready && sleep 60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	_, err = io.ReadFull(out, make([]byte, 6))
	must(t, err)
	v, err := New().Open(t.Context(), spec.Rootfs{}, nil, cmd.Process.Pid)
	must(t, err)
	defer v.Close()
	err = v.TarIn(t.Context(), "/mnt", archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "x", Mode: 0o600}), containers.TarInOptions{})
	if !errdefs.IsPermissionDenied(err) {
		t.Errorf("its read-only mount: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if _, err := New().Open(t.Context(), spec.Rootfs{}, nil, cmd.Process.Pid); !errdefs.IsNotFound(err) {
		t.Errorf("an ended process: %v", err)
	}
}

// A container that swaps a folder for a link to the host's, while files are
// copied in and out, reaches only its own tree.
func TestSwappedPathsNeverReachTheHost(t *testing.T) {
	r := overlay(t)
	secret := t.TempDir()
	must(t, os.WriteFile(filepath.Join(secret, "s"), []byte("secret of the host"), 0o644))
	must(t, os.MkdirAll(filepath.Join(r.Upper, "a", "b"), 0o755))
	must(t, os.WriteFile(filepath.Join(r.Upper, "a", "b", "s"), []byte("own"), 0o644))
	must(t, os.Symlink(strings.Repeat("../", 20)+secret, filepath.Join(r.Upper, "a", "evil")))
	v, err := New().Open(t.Context(), r, nil, 0)
	must(t, err)
	defer v.Close()
	root := int(v.(*view).root.Fd())
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			_ = unix.Renameat2(root, "a/b", root, "a/evil", unix.RENAME_EXCHANGE)
		}
	})
	for range 3000 {
		var b bytes.Buffer
		if err := v.TarOut(ctx, "/a/b/s", "s", &b); err == nil && bytes.Contains(b.Bytes(), []byte("secret")) {
			t.Error("the host's file was read")
			break
		}
		_ = v.TarIn(ctx, "/a/b", archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "w", Mode: 0o600, Linkname: "w"}), containers.TarInOptions{})
	}
	stop()
	wg.Wait()
	left, err := os.ReadDir(secret)
	must(t, err)
	if len(left) != 1 {
		t.Errorf("files were written to the host: %v", left)
	}
	if b, _ := os.ReadFile(filepath.Join(secret, "s")); string(b) != "secret of the host" {
		t.Errorf("the host's file was changed: %q", b)
	}
}

package keeper_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/anchor"
	driver "github.com/gantry-engine/gantry/internal/driver/keeper"
	"github.com/gantry-engine/gantry/internal/keeper"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/testkit"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The test binary is keeper and anchor too: which one, says its first argument.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "keeper":
		os.Exit(mainKeeper())
	case "anchor":
		os.Exit(mainAnchor())
	}
	testkit.Main(m)
}

func flagValue(name string) string {
	for i, a := range os.Args {
		if a == name && i+1 < len(os.Args) {
			return os.Args[i+1]
		}
	}
	return ""
}

func flagFD(name string) int {
	n, err := strconv.Atoi(flagValue(name))
	if err != nil {
		return -1
	}
	return n
}

func mainKeeper() int {
	root := flagValue("--exec-root")
	dir := filepath.Dir(os.Args[0])
	k, err := keeper.Open(keeper.Config{
		ExecRoot: root, AnchorFD: flagFD("--anchor-fd"), Spawner: plainSpawner{}, Build: "test",
		AnchorPath: filepath.Join(dir, "anchor"), AnchorArgs: []string{"--exec-root", root},
		SpoolLimit: 4 << 20,
	})
	if err == nil {
		err = k.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		_ = os.WriteFile(filepath.Join(root, "keeper.failed"), []byte(err.Error()), 0o600)
		return 1
	}
	return 0
}

func mainAnchor() int {
	root := flagValue("--exec-root")
	err := anchor.Run(anchor.Config{
		ExecRoot: root, Keeper: filepath.Join(filepath.Dir(os.Args[0]), "keeper"),
		KeeperArgs: []string{"--exec-root", root}, Adopt: flagFD("--adopt"),
	})
	if err != nil {
		return 1
	}
	return 0
}

// world is an exec root with a keeper in it.
type world struct {
	t    testing.TB
	root string
	d    *driver.Driver
	ctx  context.Context
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, 0)
}

// newWorldOn makes the exec root a file system of its own, with so many bytes.
func newWorldOn(t testing.TB, size int) *world {
	t.Helper()
	root, err := os.MkdirTemp("/dev/shm", "gk")
	if err != nil {
		t.Fatal(err)
	}
	if size > 0 {
		smallDisk(t, root, size)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"keeper", "anchor"} {
		if err := os.Symlink(self, filepath.Join(root, "bin", n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "failpoints", "hit"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv(failpoint.EnvName, filepath.Join(root, "failpoints"))
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	w := &world{t: t, root: root, ctx: ctx}
	t.Cleanup(func() {
		if w.d != nil {
			all, _ := w.d.Alive(ctx)
			for k := range all {
				_ = w.d.Signal(ctx, k, 9)
			}
			for range 100 {
				if w.d.Stop(ctx) == nil {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
		cancel()
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(root, "keeper", "keeper.log"))
			t.Logf("keeper's log:\n%s", b)
		}
		_ = unix.Unmount(root, unix.MNT_DETACH)
		_ = os.RemoveAll(root)
	})
	w.connect()
	return w
}

func (w *world) connect() {
	w.t.Helper()
	d, err := driver.New(driver.Config{
		ExecRoot: w.root, KeeperPath: filepath.Join(w.root, "bin", "keeper"), AnchorPath: filepath.Join(w.root, "bin", "anchor"),
		Logger: slog.New(slog.DiscardHandler),
		Compile: func(l spec.Launch) ([]byte, []byte, error) {
			return []byte(l.OCI.Process.Args[0]), nil, nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.d = d
}

func (w *world) launch(id, script string) spec.Launch {
	return spec.Launch{
		Key: spec.ProcessKey{Container: id},
		OCI: &specs.Spec{Process: &specs.Process{Args: []string{script}}},
		Log: spec.LogConfig{Driver: "json-file", Path: filepath.Join(w.root, id+".log"), Options: map[string]string{"max-size": "-1"}},
	}
}

func (w *world) start(l spec.Launch) spec.Running {
	w.t.Helper()
	r, err := w.d.Launch(w.ctx, l)
	if err != nil {
		w.t.Fatalf("launch: %v", err)
	}
	return r
}

func (w *world) exit() spec.Exit {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	select {
	case x, ok := <-w.d.Exits(ctx):
		if !ok {
			w.t.Fatal("no exit came in time")
		}
		return x
	case <-time.After(20 * time.Second):
		w.t.Fatal("no exit came in 20 s")
	}
	return spec.Exit{}
}

// logged gives what a json-file log holds, by stream.
func (w *world) logged(path string) (stdout, stderr string) {
	w.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	var out, errs strings.Builder
	for line := range bytes.Lines(b) {
		var e struct{ Log, Stream, Time string }
		if err := json.Unmarshal(line, &e); err != nil {
			w.t.Fatalf("log line %q: %v", line, err)
		}
		if e.Stream == "stderr" {
			errs.WriteString(e.Log)
		} else {
			out.WriteString(e.Log)
		}
	}
	return out.String(), errs.String()
}

func readAll(ctx context.Context, r interface {
	Next(context.Context) (spec.Chunk, error)
}) (string, error) {
	var b strings.Builder
	for {
		c, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return b.String(), nil
		}
		if err != nil {
			return b.String(), err
		}
		b.Write(c.Data)
	}
}

func TestRunLogAttachExit(t *testing.T) {
	w := newWorld(t)
	l := w.launch("aa", `echo hello; echo oops >&2; printf tail; exit 7`)
	r, err := w.d.Follow(w.ctx, l.Key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	run := w.start(l)
	if run.PID <= 0 || run.Started.IsZero() {
		t.Errorf("running = %+v", run)
	}
	got, err := readAll(w.ctx, r)
	if err != nil || !strings.Contains(got, "hello\n") || !strings.Contains(got, "oops\n") {
		t.Errorf("attached: %q, %v", got, err)
	}
	x := w.exit()
	if x.Code != 7 || x.Signal != 0 || x.Unknown || x.OOM || x.Key != l.Key {
		t.Errorf("exit = %+v", x)
	}
	out, errs := w.logged(l.Log.Path)
	if out != "hello\ntail" || errs != "oops\n" {
		t.Errorf("logged %q and %q", out, errs)
	}
	if err := w.d.Forget(w.ctx, l.Key); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Join(w.root, "keeper", "p")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSignalStdinAndHandle(t *testing.T) {
	w := newWorld(t)
	l := w.launch("bb", `cat; sleep 100`)
	l.Stdin = true
	r, _ := w.d.Follow(w.ctx, l.Key)
	defer r.Close()
	w.start(l)
	in, err := w.d.Handle(w.ctx, l.Key, spec.HandleStdin)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(in, "to and fro")
	in.Close()
	c, err := r.Next(w.ctx)
	if err != nil || string(c.Data) != "to and fro\n" {
		t.Fatalf("%q, %v", c.Data, err)
	}
	if err := w.d.CloseStdin(w.ctx, l.Key); err != nil {
		t.Fatal(err)
	}
	if err := w.d.Signal(w.ctx, l.Key, 9); err != nil {
		t.Fatal(err)
	}
	if x := w.exit(); x.Code != 137 || x.Signal != 9 {
		t.Errorf("exit = %+v", x)
	}
	if err := w.d.Signal(w.ctx, l.Key, 9); err == nil {
		t.Error("an ended process took a signal")
	}
}

func TestTerminal(t *testing.T) {
	w := newWorld(t)
	l := w.launch("cc", `read x; echo got $x; stty size`)
	l.OCI.Process.Terminal, l.Stdin = true, true
	r, _ := w.d.Follow(w.ctx, l.Key)
	defer r.Close()
	w.start(l)
	if err := w.d.Resize(w.ctx, l.Key, 33, 99); err != nil {
		t.Fatal(err)
	}
	h, err := w.d.Handle(w.ctx, l.Key, spec.HandleTerminal)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(h, "it\n")
	h.Close()
	got, err := readAll(w.ctx, r)
	if err != nil || !strings.Contains(got, "got it\r\n") || !strings.Contains(got, "33 99\r\n") {
		t.Errorf("%q, %v", got, err)
	}
	if x := w.exit(); x.Code != 0 {
		t.Errorf("exit = %+v", x)
	}
}

func TestLaunchFailureLeavesNothing(t *testing.T) {
	w := newWorld(t)
	l := w.launch("dd", "#fail")
	if _, err := w.d.Launch(w.ctx, l); err == nil || !strings.Contains(err.Error(), "told to fail") {
		t.Errorf("err = %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(w.root, "keeper", "p")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	l = w.launch("dd", "exit 3")
	w.start(l)
	if x := w.exit(); x.Code != 3 {
		t.Errorf("exit = %+v", x)
	}
}

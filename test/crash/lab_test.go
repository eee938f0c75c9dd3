package crash

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
	"github.com/gantry-engine/gantry/internal/testkit/registry"
)

// lab is an engine with containers that stand through every kill: they print
// numbered lines and serve a port, over which one connection counts all the time.
type lab struct {
	registry *registry.Registry // that images are pulled from and pushed to
	e        *testkit.Engine
	fp       string // the failpoints' folder
	http     *http.Client
	echo     *echoing
	pids     map[string]int
	log      *follower
	base     leftovers
	fds      map[string]int // how many descriptors the small processes may have
	n        int            // containers made

	tries int // kills at failpoints
}

const standing = `trap 'exit 23' TERM; i=0; while :; do i=$((i+1)); echo "line $i"; [ $((i % 10)) = 0 ] && usleep 30000; done`

func newLab(t *testing.T) *lab {
	t.Helper()
	fp, err := os.MkdirTemp("/dev/shm", "fp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(fp) })
	if err := os.Mkdir(filepath.Join(fp, "hit"), 0o700); err != nil {
		t.Fatal(err)
	}
	// For the engine, and for the keeper that a driver in this process starts when it finds none.
	t.Setenv(failpoint.EnvName, fp)
	e := testkit.Start(t, testkit.Options{})
	l := &lab{e: e, fp: fp, fds: map[string]int{}, registry: registry.New(t), http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", e.Socket)
		},
	}}}
	t.Cleanup(func() {
		l.disarm()
		if err := l.revive(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(e.ExecRoot, "keeper", "keeper.log"))
			t.Logf("the keeper's log ends:\n%s", b[max(0, len(b)-6000):])
		}
	})
	archive := filepath.Join(e.Dir, "bb.tar")
	if err := imagemaker.WriteBusybox(archive, "bb:latest"); err != nil {
		t.Fatal(err)
	}
	e.Must(t, "load", "-q", "-i", archive)
	e.Must(t, "run", "-d", "--name", "writer0", "--log-opt", "max-size=1g", "bb", "sh", "-c", standing)
	e.Must(t, "run", "-d", "--name", "writer1", "--log-driver", "local", "--log-opt", "max-size=1g", "bb", "sh", "-c", standing)
	e.Must(t, "run", "-d", "--name", "server", "-p", "127.0.0.1:18999:9", "bb", "nc", "-ll", "-p", "9", "-e", "cat")
	l.pids = pids(t, e)
	l.echo = startEcho(t)
	l.log = &follower{path: e.Must(t, "inspect", "-f", "{{.LogPath}}", "writer0"), next: 1}
	return l
}

// revive starts the daemon again if it has died; one that is killed while it starts is started again.
func (l *lab) revive() error {
	for try := 0; ; try++ {
		if !l.e.Ended() {
			return nil
		}
		err := l.e.Run()
		if err == nil || !l.e.Ended() || try == 5 {
			return err
		}
	}
}

func (l *lab) arm(file, point, victims string, skip int) error {
	path := filepath.Join(l.fp, file)
	text := fmt.Sprintf("%s %d %s %s", point, skip, victims, l.e.ExecRoot)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (l *lab) disarm() {
	for range 5000 { // one that is under way belongs to this trial
		if _, err := os.Stat(filepath.Join(l.fp, "striking")); err != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for _, f := range []string{"arm", "next", "striking", "struck"} {
		_ = os.Remove(filepath.Join(l.fp, f))
	}
}

// struck tells whether the strike at a point has happened.
func (l *lab) struck(point string) bool {
	b, err := os.ReadFile(filepath.Join(l.fp, "struck"))
	if err != nil || !strings.HasPrefix(string(b), point+" ") {
		return false
	}
	_, striker, _ := strings.Cut(string(b), " and ")
	if pid, err := strconv.Atoi(striker); err == nil {
		for range 1000 { // it dies now
			if syscall.Kill(pid, 0) != nil || zombie(pid) {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	return true
}

// zombie tells whether a process has ended, and nobody has taken note yet.
func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return err != nil || strings.HasPrefix(rest, "Z")
}

// hits takes what was reached since the last call.
func (l *lab) hits() ([]string, error) {
	old := filepath.Join(l.fp, "hit")
	away, fresh := old+".old", old+".new"
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return nil, err
	}
	if err := errors.Join(os.Rename(old, away), os.Rename(fresh, old)); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(away)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, errors.Join(err, os.RemoveAll(away))
}

// crew counts the engine's own processes by executable.
func (l *lab) crew() map[string][]int {
	all := map[string][]int{}
	procs := l.e.Processes()
	for pid, cmd := range procs {
		if parent, ok := procs[parentOf(pid)]; ok && parent == cmd {
			continue // a child that is about to become gantry-init
		}
		name := filepath.Base(strings.Fields(cmd)[0])
		all[name] = append(all[name], pid)
	}
	return all
}

// parentOf gives 0 for a process that is gone.
func parentOf(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n
}

// settle waits until each of the small processes is there, once.
func (l *lab) settle() error {
	if err := l.revive(); err != nil {
		return err
	}
	return insist("waiting for the engine's processes", func() (bool, string, error) {
		if err := l.revive(); err != nil {
			return false, "", err
		}
		c := l.crew()
		for _, name := range []string{"gantryd", "gantry-keeper", "gantry-anchor", "gantry-net"} {
			if len(c[name]) != 1 {
				return false, fmt.Sprintf("there are %v", c), nil
			}
		}
		st, b, err := l.do("GET", "/containers/json", nil) // the daemon is through with its start
		if err != nil && !errors.Is(err, errDown) {
			return false, "", err
		}
		return st == http.StatusOK, fmt.Sprintf("%s %v", b, err), nil
	})
}

// unharmed checks what must hold after every kill.
func (l *lab) unharmed() error {
	var errs []error
	for _, name := range []string{"writer0", "writer1", "server"} {
		d, err := l.inspect(name)
		switch {
		case err != nil:
			errs = append(errs, err)
		case d == nil:
			errs = append(errs, fmt.Errorf("%s is gone", name))
		case d.State.Pid != l.pids[name] || d.State.Status != "running":
			errs = append(errs, fmt.Errorf("%s was PID %d and is %s as %d", name, l.pids[name], d.State.Status, d.State.Pid))
		}
	}
	select {
	case err := <-l.echo.err:
		errs = append(errs, fmt.Errorf("the connection to the published port broke: %w", err))
		l.echo.err <- err
	default:
	}
	return errors.Join(append(errs, l.log.check())...)
}

// follower reads a json-file log that is being written, and wants lines without gap or repetition.
type follower struct {
	path string
	off  int64
	next int
}

// check reads what is new, and waits for more where there is nothing: the writer never rests.
func (f *follower) check() error {
	in, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer in.Close()
	return insist("output of writer0", func() (bool, string, error) {
		b, err := io.ReadAll(io.NewSectionReader(in, f.off, 1<<40))
		if err != nil {
			return false, "", err
		}
		// The keeper may have written a part of its batch: whole lines only.
		n := bytes.LastIndexByte(b, '\n') + 1
		seen := 0
		for line := range bytes.Lines(b[:n]) {
			want := fmt.Sprintf(`{"log":"line %d\n","stream":"stdout"`, f.next)
			if !bytes.HasPrefix(line, []byte(want)) {
				return false, "", fmt.Errorf("the log of writer0 at %d: %q stands where line %d is due", f.off, line, f.next)
			}
			f.next++
			f.off += int64(len(line))
			seen++
		}
		return seen > 0, fmt.Sprintf("nothing after line %d", f.next-1), nil
	})
}

// numbered makes "line 1" … "line n".
func numbered(n int) string {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, "line %d\n", i+1)
	}
	return s.String()
}

// same compares output with what is due, and tells where they part.
func same(what, got, want string) error {
	if got == want {
		return nil
	}
	g, w := bufio.NewScanner(strings.NewReader(got)), strings.Split(want, "\n")
	for i := 0; g.Scan(); i++ {
		if i >= len(w) || g.Text() != w[i] {
			return fmt.Errorf("%s: line %d is %q", what, i+1, g.Text())
		}
	}
	return fmt.Errorf("%s has %d bytes of the %d that are due", what, len(got), len(want))
}

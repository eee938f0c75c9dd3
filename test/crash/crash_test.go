package crash

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

// victims are what a kill strikes; each is a set of executables' names.
var victims = map[string][]string{
	"gantryd":            {"gantryd"},
	"keeper":             {"gantry-keeper"},
	"gantryd and keeper": {"gantryd", "gantry-keeper"},
	"anchor":             {"gantry-anchor"},
}

var order = []string{"gantryd", "keeper", "gantryd and keeper", "anchor"}

func number(t *testing.T, env string, def int) int {
	s := os.Getenv(env)
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s=%q is not a number", env, s)
	}
	return n
}

func engine(t *testing.T) *testkit.Engine {
	e := testkit.Start(t, testkit.Options{})
	t.Cleanup(func() {
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
	return e
}

// strike kills the named executables of the engine and says how many processes it hit.
func strike(e *testkit.Engine, names []string) int {
	hit := 0
	for pid, cmd := range e.Processes() {
		exe := filepath.Base(strings.Fields(cmd)[0])
		for _, n := range names {
			if exe == n && syscall.Kill(pid, syscall.SIGKILL) == nil {
				hit++
			}
		}
	}
	return hit
}

// TestRandomKills is the heart: writers print numbered lines, a server counts over one
// connection to its published port, and processes are killed all the while.
func TestRandomKills(t *testing.T) {
	seed := number(t, "GANTRY_CRASH_SEED", int(time.Now().UnixNano()&0x7fffffff))
	kills := number(t, "GANTRY_CRASH_KILLS", 40)
	t.Logf("seed %d, %d kills (GANTRY_CRASH_SEED=%d repeats)", seed, kills, seed)
	rnd := rand.New(rand.NewPCG(uint64(seed), 1))
	e := engine(t)

	const writers = 4
	for i := range writers {
		e.Must(t, "run", "-d", "--name", fmt.Sprintf("writer%d", i), "--log-opt", "max-size=1g", "bb", "sh", "-c",
			`trap 'exit 23' TERM; i=0; while :; do i=$((i+1)); echo "line $i"; [ $((i % 20)) = 0 ] && usleep 5000; done`)
	}
	e.Must(t, "run", "-d", "--name", "server", "-p", "127.0.0.1:18999:9", "bb", "nc", "-ll", "-p", "9", "-e", "cat")
	before := pids(t, e)
	echo := startEcho(t)

	count := map[string]int{}
	for k := range kills {
		what := order[rnd.IntN(len(order))]
		time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond)
		if strike(e, victims[what]) > 0 {
			count[what]++
		}
		if strings.Contains(what, "gantryd") {
			e.Kill()
			if err := e.Run(); err != nil {
				t.Fatalf("kill %d (%s): the daemon does not come back: %v\n%s", k, what, err, e.LogTail(4000))
			}
		}
		if len(echo.err) > 0 {
			t.Logf("kill %d (%s) is the last before the connection broke", k, what)
			break
		}
	}
	t.Logf("kills by victim: %v", count)
	waitForKeeper(t, e)

	after := pids(t, e)
	for name, pid := range before {
		if after[name] != pid {
			t.Errorf("%s was PID %d and is %d now", name, pid, after[name])
		}
	}
	if n, err := echo.stop(); err != nil {
		t.Errorf("the connection to the published port broke after %d echoes: %v", n, err)
	} else if n == 0 {
		t.Error("the connection to the published port carried nothing")
	}
	for i := range writers {
		name := fmt.Sprintf("writer%d", i)
		e.Must(t, "stop", "-t", "10", name)
		if code := e.Must(t, "inspect", "-f", "{{.State.ExitCode}}", name); code != "23" {
			t.Errorf("%s: exit code %s, want 23", name, code)
		}
		checkLines(t, name, e.Must(t, "logs", name))
	}
}

func pids(t *testing.T, e *testkit.Engine) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, name := range strings.Fields(e.Must(t, "ps", "--format", "{{.Names}}")) {
		n, err := strconv.Atoi(e.Must(t, "inspect", "-f", "{{.State.Pid}}", name))
		if err != nil {
			t.Fatal(err)
		}
		if n <= 0 || syscall.Kill(n, 0) != nil {
			t.Errorf("%s is said to run as %d, which is no process", name, n)
		}
		out[name] = n
	}
	return out
}

// checkLines wants "line 1" … "line n" with no number missing or twice.
func checkLines(t *testing.T, name, log string) {
	t.Helper()
	want := 1
	sc := bufio.NewScanner(strings.NewReader(log))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if got := sc.Text(); got != fmt.Sprintf("line %d", want) {
			t.Errorf("%s: %q stands where line %d is due", name, got, want)
			return
		}
		want++
	}
	if want < 100 {
		t.Errorf("%s printed only %d lines", name, want-1)
	}
}

// waitForKeeper waits until the engine can run something again after the last kill.
func waitForKeeper(t *testing.T, e *testkit.Engine) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		out, errs, code := e.Docker("run", "--rm", "bb", "echo", "again")
		if code == 0 && out == "again\n" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing runs any more: exit %d, %s\n%s", code, errs, e.LogTail(4000))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// echoing counts over one connection that must never break.
type echoing struct {
	conn net.Conn
	n    atomic.Int64
	err  chan error
	end  atomic.Bool
}

func startEcho(t *testing.T) *echoing {
	t.Helper()
	var conn net.Conn
	var err error
	for range 100 {
		var d net.Dialer
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err = d.DialContext(ctx, "tcp", "127.0.0.1:18999")
		cancel()
		if err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Fatalf("the published port does not answer: %v", err)
	}
	e := &echoing{conn: conn, err: make(chan error, 1)}
	go func() {
		r := bufio.NewReader(conn)
		for !e.end.Load() {
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			want := fmt.Sprintf("%d\n", e.n.Load())
			if _, err := conn.Write([]byte(want)); err != nil {
				e.err <- err
				return
			}
			got, err := r.ReadString('\n')
			if err == nil && got != want {
				err = fmt.Errorf("%q came back for %q", got, want)
			}
			if err != nil {
				e.err <- err
				return
			}
			e.n.Add(1)
			time.Sleep(time.Millisecond)
		}
		e.err <- nil
	}()
	return e
}

func (e *echoing) stop() (int64, error) {
	e.end.Store(true)
	err := <-e.err
	_ = e.conn.Close()
	return e.n.Load(), err
}

// TestExitsWhileDown: what ended while the daemon was dead has its own exit code afterwards,
// restart policies and auto-remove are honoured.
func TestExitsWhileDown(t *testing.T) {
	for _, what := range []string{"gantryd", "keeper", "anchor"} {
		t.Run(what, func(t *testing.T) {
			e := engine(t)
			e.Must(t, "run", "-d", "--name", "seven", "bb", "sh", "-c", "sleep 1; exit 7")
			e.Must(t, "run", "-d", "--name", "signalled", "bb", "sh", "-c", "sleep 1; kill -9 $$")
			e.Must(t, "run", "-d", "--rm", "--name", "removed", "bb", "sleep", "1")
			e.Must(t, "run", "-d", "--name", "again", "--restart", "on-failure:2", "bb", "sh", "-c", "sleep 1; exit 5")
			if strike(e, victims[what]) == 0 {
				t.Fatalf("no %s to kill", what)
			}
			if what == "gantryd" {
				e.Kill()
				time.Sleep(1500 * time.Millisecond)
				if err := e.Run(); err != nil {
					t.Fatal(err)
				}
			}
			if code := e.Must(t, "wait", "seven"); code != "7" {
				t.Errorf("exit code %s, want 7", code)
			}
			deadline := time.Now().Add(15 * time.Second)
			for {
				state := e.Must(t, "inspect", "-f", "{{.RestartCount}} {{.State.ExitCode}} {{.State.Status}}", "again")
				if state == "2 5 exited" {
					break
				}
				if time.Now().After(deadline) {
					t.Errorf("on-failure:2 ended as %q, want \"2 5 exited\"", state)
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			if names := e.Must(t, "ps", "-a", "--format", "{{.Names}}"); strings.Contains(names, "removed") {
				t.Errorf("an auto-remove container is still there: %s", names)
			}
		})
	}
}

// TestBothDead: an exit that nobody could see is unknown (255 with an explanation), never invented;
// a container that lives on is adopted, and its writer did not die of SIGPIPE.
func TestBothDead(t *testing.T) {
	e := engine(t)
	e.Must(t, "run", "-d", "--name", "lives", "bb", "sh", "-c", `i=0; while :; do i=$((i+1)); echo "line $i"; usleep 2000; done`)
	pid := e.Must(t, "inspect", "-f", "{{.State.Pid}}", "lives")
	strike(e, []string{"gantryd", "gantry-keeper", "gantry-anchor"})
	e.Kill()
	time.Sleep(300 * time.Millisecond)
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	waitForKeeper(t, e)
	if now := e.Must(t, "inspect", "-f", "{{.State.Pid}} {{.State.Status}}", "lives"); now != pid+" running" {
		t.Errorf("it was PID %s, now %s", pid, now)
	}
	if out, errs, code := e.Docker("exec", "lives", "echo", "hi"); code != 0 || out != "hi\n" {
		t.Errorf("exec: exit %d %q %q", code, out, errs)
	}
}

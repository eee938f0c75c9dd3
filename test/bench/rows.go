package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

// row is one thing that is measured.
type row struct {
	name, what, bar string
	run             func(*bench) ([]result, error)
}

var all = []row{
	{"cycle", "create+start+wait+delete, default network", "≤ 2× floor", cycle},
	{"steps", "the cycle's four calls, each", "reported", steps},
	{"paced", "the same, one every 20 ms", "≤ 10 ms", paced},
	{"burst", "burst of 500, pools cold", "≤ 4× floor", burst},
	{"counts", "program starts / syncs of one run --rm", "2 / 0", counts},
	{"run", "run --rm busybox true, whole command", "≤ 15 ms / ≤ 35 ms", runCommand},
	{"version", "--version", "< 0.5 × docker", versionCommand},
	{"exec", "exec true, whole command", "≤ 12 ms", execCommand},
	{"starts", "100 containers, 8 at a time", "≥ 80 a second", starts},
	{"ps", "ps of 100 containers", "≤ 10 ms", ps},
	{"boot", "daemon start to _ping, 1,000 stopped containers", "≤ 100 ms", boot},
	{"memory", "engine memory, idle", "≤ 40 MB", memory},
	{"many", "1,000 running containers", "≤ 0.1 MB each, < 10 % CPU", many},
	{"logs", "short lines through json-file / logs read back", "≥ 20 / ≥ 200 MB/s", logs},
}

func writeImage(path string) error { return imagemaker.WriteBusybox(path, "bb:latest") }

func preparePodman(image string) (bool, error) {
	out, err := exec.Command("podman", "load", "-q", "-i", image).CombinedOutput()
	if err != nil {
		return false, fmt.Errorf("podman load: %w\n%s", err, out)
	}
	return true, nil
}

// api posts to an engine over one kept-alive connection.
type api struct{ c *http.Client }

func (a api) call(method, path string, body any, into any) error {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "http://d/v1.41"+path, r)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := a.c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, res.Status, b)
	}
	if into != nil {
		return json.Unmarshal(b, into)
	}
	return nil
}

type created struct {
	ID string `json:"Id"`
}

func (a api) cycle() error {
	var c created
	if err := a.call("POST", "/containers/create", map[string]any{"Image": "bb", "Cmd": []string{"true"}}, &c); err != nil {
		return err
	}
	if err := a.call("POST", "/containers/"+c.ID+"/start", nil, nil); err != nil {
		return err
	}
	var w struct{ StatusCode int }
	if err := a.call("POST", "/containers/"+c.ID+"/wait", nil, &w); err != nil {
		return err
	}
	if w.StatusCode != 0 {
		return fmt.Errorf("true ended with %d", w.StatusCode)
	}
	return a.call("DELETE", "/containers/"+c.ID, nil, nil)
}

// cycles measures n life cycles, every apart (0 is back to back), and the CPU time of one.
func cycles(e *testkit.Engine, n int, every time.Duration) (sample, time.Duration, error) {
	a := api{e.HTTP()}
	for range 5 {
		if err := a.cycle(); err != nil {
			return nil, 0, err
		}
	}
	before := cpuTime(e)
	var s sample
	next := time.Now()
	for range n {
		if every > 0 {
			time.Sleep(time.Until(next))
			next = next.Add(every)
		}
		t := time.Now()
		if err := a.cycle(); err != nil {
			return nil, 0, err
		}
		s = append(s, time.Since(t))
	}
	time.Sleep(200 * time.Millisecond) // the pools' refill belongs to the bill
	return s, (cpuTime(e) - before) / time.Duration(n), nil
}

// floorTime runs the floor program: median and CPU time per container.
func (b *bench) floorTime(args ...string) (time.Duration, time.Duration, error) {
	out, err := exec.Command("unshare", append([]string{"-m", "-n", b.floor}, args...)...).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("floor: %w", err)
	}
	f := strings.Fields(string(out))
	if len(f) != 4 {
		return 0, 0, fmt.Errorf("floor printed %q", out)
	}
	m, err := strconv.ParseFloat(f[0], 64)
	if err != nil {
		return 0, 0, err
	}
	c, err := strconv.ParseFloat(f[3], 64)
	return time.Duration(m * 1e6), time.Duration(c * 1e6), err
}

func cycle(b *bench) ([]result, error) {
	return b.cycleRow("create+start+wait+delete, default network", 0)
}
func paced(b *bench) ([]result, error) {
	return b.cycleRow("the same, one every 20 ms", 20*time.Millisecond)
}

func (b *bench) cycleRow(what string, every time.Duration) ([]result, error) {
	args := []string{"-n", strconv.Itoa(b.n)}
	if every > 0 {
		args = append(args, "-i", strconv.Itoa(int(every.Milliseconds())))
	}
	floor, floorCPU, err := b.floorTime(args...)
	if err != nil {
		return nil, err
	}
	s, cpu, err := cycles(b.ours, b.n, every)
	if err != nil {
		return nil, err
	}
	r := result{what: what, ours: ms(s.median()), floor: ms(floor), ratio: ratio(s.median(), floor) + "× floor"}
	c := result{what: "– CPU time of one, all processes", ours: ms(cpu), floor: ms(floorCPU), bar: "reported"}
	if b.docker != nil {
		d, dcpu, err := cycles(b.docker, min(b.n, 20), every)
		if err != nil {
			return nil, err
		}
		r.docker, c.docker = ms(d.median()), ms(dcpu)
	}
	return []result{r, c}, nil
}

func burst(b *bench) ([]result, error) {
	floor, _, err := b.floorTime("-n", strconv.Itoa(b.n))
	if err != nil {
		return nil, err
	}
	e, err := b.fresh()
	if err != nil {
		return nil, err
	}
	defer destroy(e)
	a := api{e.HTTP()}
	t := time.Now()
	for range 500 {
		if err := a.cycle(); err != nil {
			return nil, err
		}
	}
	one := time.Since(t) / 500
	return []result{{what: "burst of 500, pools cold, each", ours: ms(one), floor: ms(floor), ratio: ratio(one, floor) + "× floor"}}, nil
}

// counts follows every process of the engine with strace during one run --rm.
func counts(b *bench) ([]result, error) {
	gantry := filepath.Join(b.bin, "gantry")
	trace := filepath.Join(b.ours.Dir, "strace")
	args := []string{"-f", "-qq", "-e", "trace=execve,execveat,fsync,fdatasync,syncfs,sync", "-o", trace}
	for pid := range b.ours.Processes() {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	cmd := exec.Command("strace", args...)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	time.Sleep(time.Second)
	if _, msg, code := b.ours.Gantry("run", "--rm", "bb", "true"); code != 0 {
		return nil, fmt.Errorf("%s run: exit %d: %s", gantry, code, msg)
	}
	time.Sleep(500 * time.Millisecond)
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	out, err := os.ReadFile(trace)
	if err != nil {
		return nil, err
	}
	execs, syncs := 0, 0
	for line := range strings.Lines(string(out)) {
		switch {
		case strings.Contains(line, " = -1 ") || strings.Contains(line, "resumed"):
		case strings.Contains(line, "exec"):
			execs++
		case strings.Contains(line, "sync"):
			syncs++
		}
	}
	return []result{{what: "program starts / syncs of one run --rm", ours: fmt.Sprintf("%d / %d", execs, syncs), docker: "10 / 50 (29: 13 / 80)"}}, nil
}

// times measures a whole command n times.
func times(n int, env []string, name string, args ...string) (sample, error) {
	var s sample
	for i := range n + 2 {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), env...)
		t := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
		}
		if i >= 2 {
			s = append(s, time.Since(t))
		}
	}
	return s, nil
}

func host(e *testkit.Engine) []string { return []string{"DOCKER_HOST=unix://" + e.Socket} }

// command measures one command line on both engines and podman.
func (b *bench) command(what string, n int, args ...string) ([]result, error) {
	own, err := times(n, host(b.ours), filepath.Join(b.bin, "gantry"), args...)
	if err != nil {
		return nil, err
	}
	official, err := times(n, host(b.ours), "docker", args...)
	if err != nil {
		return nil, err
	}
	r := result{what: what + " (own client / official)", ours: ms(own.median()) + " / " + ms(official.median())}
	if b.docker != nil {
		d, err := times(max(3, n/5), host(b.docker), "docker", args...)
		if err != nil {
			return nil, err
		}
		r.docker, r.ratio = ms(d.median()), ratio(own.median(), d.median())+"× docker"
	}
	if b.podman {
		p, err := times(max(3, n/5), nil, "podman", args...)
		if err != nil {
			r.podman = "failed"
		} else {
			r.podman = ms(p.median())
		}
	}
	return []result{r}, nil
}

func runCommand(b *bench) ([]result, error) {
	return b.command("run --rm bb true", b.n/2, "run", "--rm", "bb", "true")
}

func versionCommand(b *bench) ([]result, error) {
	own, err := times(b.n, nil, filepath.Join(b.bin, "gantry"), "--version")
	if err != nil {
		return nil, err
	}
	theirs, err := times(b.n, nil, "docker", "--version")
	if err != nil {
		return nil, err
	}
	return []result{{what: "--version", ours: ms(own.median()), docker: ms(theirs.median()), ratio: ratio(own.median(), theirs.median()) + "× docker"}}, nil
}

func execCommand(b *bench) ([]result, error) {
	for _, e := range []*testkit.Engine{b.ours, b.docker} {
		if e == nil {
			continue
		}
		if _, msg, code := e.Docker("run", "-d", "--name", "bench-exec", "bb", "sleep", "600"); code != 0 {
			return nil, fmt.Errorf("run: %s", msg)
		}
		defer e.Docker("rm", "-f", "bench-exec")
	}
	podman := b.podman
	b.podman = false // its containers would need a name of their own
	defer func() { b.podman = podman }()
	return b.command("exec true", b.n/2, "exec", "bench-exec", "true")
}

// parallel calls f n times, eight at a time.
func parallel(n int, f func(i int) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, n)
	slots := make(chan struct{}, 8)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := f(i); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

func startHundred(e *testkit.Engine) (perSecond float64, remove time.Duration, err error) {
	a := api{e.HTTP()}
	t := time.Now()
	err = parallel(100, func(i int) error {
		var c created
		name := fmt.Sprintf("/containers/create?name=bench-%d", i)
		if err := a.call("POST", name, map[string]any{"Image": "bb", "Cmd": []string{"sleep", "600"}}, &c); err != nil {
			return err
		}
		return a.call("POST", "/containers/"+c.ID+"/start", nil, nil)
	})
	if err != nil {
		return 0, 0, err
	}
	perSecond = 100 / time.Since(t).Seconds()
	args := []string{"rm", "-f"}
	for i := range 100 {
		args = append(args, fmt.Sprintf("bench-%d", i))
	}
	t = time.Now()
	if _, msg, code := e.Docker(args...); code != 0 {
		return 0, 0, fmt.Errorf("rm -f: %s", msg)
	}
	return perSecond, time.Since(t), nil
}

func starts(b *bench) ([]result, error) {
	rate, rm, err := startHundred(b.ours)
	if err != nil {
		return nil, err
	}
	r := result{what: "100 containers, 8 at a time", ours: fmt.Sprintf("%.0f/s", rate)}
	d := result{what: "rm -f of the 100, one command", ours: ms(rm), bar: "≤ 1 s"}
	if b.docker != nil {
		rate, rm, err := startHundred(b.docker)
		if err != nil {
			return nil, err
		}
		r.docker, d.docker = fmt.Sprintf("%.1f/s", rate), ms(rm)
	}
	return []result{r, d}, nil
}

func ps(b *bench) ([]result, error) {
	for _, e := range []*testkit.Engine{b.ours, b.docker} {
		if e == nil {
			continue
		}
		a := api{e.HTTP()}
		if err := parallel(100, func(i int) error {
			return a.call("POST", fmt.Sprintf("/containers/create?name=bench-%d", i), map[string]any{"Image": "bb", "Cmd": []string{"true"}}, nil)
		}); err != nil {
			return nil, err
		}
		defer func() {
			_ = parallel(100, func(i int) error { return a.call("DELETE", fmt.Sprintf("/containers/bench-%d", i), nil, nil) })
		}()
	}
	podman := b.podman
	b.podman = false
	defer func() { b.podman = podman }()
	return b.command("ps -a of 100 containers", b.n/2, "ps", "-a")
}

func boot(b *bench) ([]result, error) {
	e, err := b.fresh()
	if err != nil {
		return nil, err
	}
	defer destroy(e)
	a := api{e.HTTP()}
	if err := parallel(1000, func(int) error {
		return a.call("POST", "/containers/create", map[string]any{"Image": "bb", "Cmd": []string{"true"}}, nil)
	}); err != nil {
		return nil, err
	}
	var s sample
	for range 7 {
		if err := e.Stop(); err != nil {
			return nil, err
		}
		t := time.Now()
		if err := e.Run(); err != nil {
			return nil, err
		}
		s = append(s, time.Since(t))
	}
	return []result{{what: "daemon start to _ping, 1,000 stopped containers", ours: ms(s.median()), docker: "(29, 100 stopped: 1185 ms)"}}, nil
}

func memory(b *bench) ([]result, error) {
	e, err := b.fresh()
	if err != nil {
		return nil, err
	}
	defer destroy(e)
	time.Sleep(2 * time.Second)
	r := result{what: "engine memory, idle (PSS of all processes)", ours: fmt.Sprintf("%.1f MB", pss(e))}
	if b.docker != nil {
		r.docker = fmt.Sprintf("%.1f MB", pss(b.docker))
	}
	return []result{r}, nil
}

func many(b *bench) ([]result, error) {
	e, err := b.fresh()
	if err != nil {
		return nil, err
	}
	defer destroy(e)
	a := api{e.HTTP()}
	idle := pss(e)
	var s sample
	for i := range 1000 {
		t := time.Now()
		var c created
		if err := a.call("POST", "/containers/create", map[string]any{
			"Image": "bb", "Cmd": []string{"sh", "-c", "while :; do echo line; sleep 1; done"},
			"ExposedPorts": map[string]any{"80/tcp": map[string]any{}},
			"HostConfig":   map[string]any{"PortBindings": map[string]any{"80/tcp": []map[string]string{{"HostIp": "127.0.0.1"}}}},
		}, &c); err != nil {
			return nil, fmt.Errorf("container %d: %w", i, err)
		}
		if err := a.call("POST", "/containers/"+c.ID+"/start", nil, nil); err != nil {
			return nil, fmt.Errorf("container %d: %w", i, err)
		}
		s = append(s, time.Since(t))
	}
	time.Sleep(5 * time.Second)
	before, t := cpuTime(e), time.Now()
	time.Sleep(10 * time.Second)
	load := float64(cpuTime(e)-before) / float64(time.Since(t)) * 100
	each := (pss(e) - idle) / 1000
	return []result{
		{what: "1,000 running with a port and a line a second: first ten / last ten", ours: ms(s[:10].median()) + " / " + ms(s[990:].median()), bar: "alike"},
		{what: "– engine CPU", ours: fmt.Sprintf("%.1f %% of a core", load), bar: "< 10 %"},
		{what: "– engine memory per container", ours: fmt.Sprintf("%.3f MB", each), docker: "3.4 MB (29: 5.1)", podman: "0.35 MB", bar: "≤ 0.1 MB"},
	}, nil
}

func logs(b *bench) ([]result, error) {
	const lines = 2_000_000
	write := func(e *testkit.Engine, n int) (float64, error) {
		t := time.Now()
		_, msg, code := e.Docker("run", "-d", "--name", "bench-logs", "--log-opt", "max-size=1g", "bb", "sh", "-c", fmt.Sprintf("yes 123456789 | head -n %d", n))
		if code != 0 {
			return 0, fmt.Errorf("run: %s", msg)
		}
		if _, msg, code := e.Docker("wait", "bench-logs"); code != 0 {
			return 0, fmt.Errorf("wait: %s", msg)
		}
		return float64(n) * 10 / 1e6 / time.Since(t).Seconds(), nil
	}
	read := func(e *testkit.Engine, n int) (float64, error) {
		ctx, cancel := context.WithTimeout(b.ctx, 5*time.Minute)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", "http://d/v1.41/containers/bench-logs/logs?stdout=1&stderr=1", nil)
		if err != nil {
			return 0, err
		}
		t := time.Now()
		res, err := e.HTTP().Do(req)
		if err != nil {
			return 0, err
		}
		defer res.Body.Close()
		got, err := io.Copy(io.Discard, res.Body)
		if err != nil {
			return 0, err
		}
		if want := int64(n) * 18; got != want { // 8 bytes of frame and 10 of line
			return 0, fmt.Errorf("%d bytes of log read back, want %d", got, want)
		}
		return float64(n) * 10 / 1e6 / time.Since(t).Seconds(), nil
	}
	w, err := write(b.ours, lines)
	if err != nil {
		return nil, err
	}
	defer b.ours.Docker("rm", "-f", "bench-logs")
	rd, err := read(b.ours, lines)
	if err != nil {
		return nil, err
	}
	r := result{what: "short lines into json-file / read back by logs", ours: fmt.Sprintf("%.0f / %.0f MB/s", w, rd)}
	if b.docker != nil {
		const fewer = lines / 10
		w, err := write(b.docker, fewer)
		if err != nil {
			return nil, err
		}
		defer b.docker.Docker("rm", "-f", "bench-logs")
		rd, err := read(b.docker, fewer)
		if err != nil {
			return nil, err
		}
		r.docker = fmt.Sprintf("%.1f / %.0f MB/s", w, rd)
	}
	return []result{r}, nil
}

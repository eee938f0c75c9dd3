package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// trafficTime is how long each measurement of traffic lasts, trafficRounds how many of each there are in turn.
const (
	trafficTime   = 2
	trafficRounds = 3
)

// traffic measures how fast packets come to a container: from another one and from the host, beside a bare veth pair on a bridge;
// and to a published port, from the host and from another host, beside the container's own address.
func traffic(b *bench) (_ []result, err error) {
	rows := []result{
		{what: "container to container, iperf3", bar: "≥ 0.95× a bare veth pair", cells: map[string]string{}},
		{what: "host to container, iperf3", bar: "≥ 0.95× a bare veth pair", cells: map[string]string{}},
		{what: "published port from 127.0.0.1, throughput: of that to the container's address", bar: "≥ 0.9×", cells: map[string]string{}},
		{what: "– requests a second at 32 connections", bar: "≥ 0.9×", cells: map[string]string{}},
		{what: "– new connections a second", bar: "≥ 0.9×", cells: map[string]string{}},
		{what: "published port from another host, throughput", bar: "≥ 0.9×", cells: map[string]string{}},
		{what: "– requests a second at 32 connections", bar: "≥ 0.9×", cells: map[string]string{}},
		{what: "– new connections a second", bar: "≥ 0.9×", cells: map[string]string{}},
	}
	for _, e := range b.engines {
		if e.daemon == nil {
			continue
		}
		t, err := newStreet(e)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		pairs, err := t.measure()
		if err := errors.Join(err, t.close()); err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		for i, p := range pairs {
			rows[i].cells[e.name] = fmt.Sprintf("%s (%.2f)", p.text, p.ratio())
			if e == b.ours() {
				rows[i].ratio = fmt.Sprintf("%.2f", p.ratio())
			}
		}
	}
	return rows, nil
}

// street is an engine with two containers, a bare pair of namespaces on a bridge beside it, and another host.
type street struct {
	e        *engine
	dir      string
	one, two string // PIDs of containers
	addr     string // of two
	daemon   string // PID
	done     []func() error
}

// pair is a measurement and what it is compared with, in turn.
type pair struct {
	text      string
	got, bare []float64
}

func middle(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }

func (p pair) ratio() float64 { return middle(p.got) / middle(p.bare) }

func newStreet(e *engine) (_ *street, err error) {
	t := &street{e: e, daemon: strconv.Itoa(e.daemon())}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	if t.dir, err = os.MkdirTemp("/var/tmp", "gantry-bench-"); err != nil {
		return nil, err
	}
	t.done = append(t.done, func() error { return os.RemoveAll(t.dir) })
	args := []string{"network", "create", "--subnet", "10.84.0.0/24"}
	if e.name != "docker" { // the old engine lets everybody in who has a route
		args = append(args, "-o", "com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected")
	}
	if _, err := e.must(append(args, "street")...); err != nil {
		return nil, err
	}
	t.done = append(t.done, func() error { _, err := e.must("network", "rm", "street"); return err })
	for i, name := range []string{"street-one", "street-two"} {
		run := []string{"run", "-d", "--name", name, "--network", "street"}
		if i == 1 {
			run = append(run, "--ip", "10.84.0.22", "-p", "8184:80", "-p", "5201:5201")
		}
		if _, err := e.must(append(run, "bb", "sleep", "3600")...); err != nil {
			return nil, err
		}
		t.done = append(t.done, func() error { _, err := e.must("rm", "-f", name); return err })
	}
	t.addr = "10.84.0.22"
	if t.one, err = e.must("inspect", "-f", "{{.State.Pid}}", "street-one"); err != nil {
		return nil, err
	}
	if t.two, err = e.must("inspect", "-f", "{{.State.Pid}}", "street-two"); err != nil {
		return nil, err
	}
	return t, t.build()
}

// build makes the bare pair, the other host and the servers.
func (t *street) build() error {
	for _, ns := range []string{"bare1", "bare2", "other"} {
		p := exec.Command("unshare", "-n", "sleep", "3600")
		if err := p.Start(); err != nil {
			return err
		}
		t.done = append(t.done, func() error { _ = p.Process.Kill(); _ = p.Wait(); return nil })
		pid := strconv.Itoa(p.Process.Pid)
		if err := os.WriteFile(filepath.Join(t.dir, ns), []byte(pid), 0o644); err != nil {
			return err
		}
		if err := hasLeft(pid); err != nil {
			return err
		}
	}
	script := fmt.Sprintf(`set -e
b1=$(cat bare1); b2=$(cat bare2); o=$(cat other)
at() { ns=$1; shift; nsenter -t $ns -n "$@"; }
at %[1]s ip link add bare0 type bridge; at %[1]s ip addr add 10.85.0.1/24 dev bare0; at %[1]s ip link set bare0 up
n=1; for p in $b1 $b2; do n=$((n+1))
  at %[1]s ip link add bv$n type veth peer name eth0 netns $p; at %[1]s ip link set bv$n master bare0 up
  at $p ip link set lo up; at $p ip addr add 10.85.0.$n/24 dev eth0; at $p ip link set eth0 up
done
at %[1]s ip link add lan0 type veth peer name eth0 netns $o; at %[1]s ip addr add 10.86.0.1/24 dev lan0; at %[1]s ip link set lan0 up
at $o ip link set lo up; at $o ip addr add 10.86.0.2/24 dev eth0; at $o ip link set eth0 up; at $o ip route add default via 10.86.0.1
cat >nginx.conf <<X
worker_processes 1; pid $PWD/nginx.pid; error_log /dev/null; daemon off; user root;
events { worker_connections 4096; }
http { access_log off; client_body_temp_path $PWD/b; proxy_temp_path $PWD/p; fastcgi_temp_path $PWD/f; uwsgi_temp_path $PWD/u; scgi_temp_path $PWD/s; keepalive_requests 100000000;
  server { listen 80 reuseport backlog=4096; location / { return 200 ok; } } }
X
`, t.daemon)
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = t.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the street: %w\n%s", err, out)
	}
	t.done = append(t.done, func() error {
		return exec.Command("nsenter", "-t", t.daemon, "-n", "sh", "-c", "ip link del bare0; ip link del lan0").Run()
	})
	bare, err := os.ReadFile(filepath.Join(t.dir, "bare2"))
	if err != nil {
		return err
	}
	for _, server := range [][]string{
		{"-t", t.two, "-n", "iperf3", "-s"}, {"-t", string(bare), "-n", "iperf3", "-s"}, {"-t", t.two, "-n", "nginx", "-c", filepath.Join(t.dir, "nginx.conf"), "-p", t.dir},
	} {
		p := exec.Command("nsenter", server...)
		if err := p.Start(); err != nil {
			return err
		}
		t.done = append(t.done, func() error { _ = p.Process.Kill(); _ = p.Wait(); return nil })
	}
	time.Sleep(300 * time.Millisecond)
	return nil
}

// hasLeft waits until a process is in a network namespace of its own.
func hasLeft(pid string) error {
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	for range 500 {
		if ns, err := os.Readlink("/proc/" + pid + "/ns/net"); err != nil || ns != home {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("process %s has no network namespace of its own", pid)
}

func (t *street) close() error {
	var errs []error
	for _, f := range slices.Backward(t.done) {
		errs = append(errs, f())
	}
	t.done = nil
	return errors.Join(errs...)
}

func (t *street) measure() ([]pair, error) {
	pid := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(t.dir, name))
		return string(b)
	}
	bare, other := pid("bare1"), pid("other")
	rate := func(from, to string) func() (float64, error) {
		return func() (float64, error) { return iperf(from, to) }
	}
	load := func(from, to string, anew bool) func() (float64, error) {
		return func() (float64, error) { return wrk(from, to, anew) }
	}
	var out []pair
	for _, m := range []struct {
		unit      string
		got, bare func() (float64, error)
	}{
		{"Gbit/s", rate(t.one, t.addr), rate(bare, "10.85.0.3")},
		{"Gbit/s", rate(t.daemon, t.addr), rate(t.daemon, "10.85.0.3")},
		{"Gbit/s", rate(t.daemon, "127.0.0.1"), rate(t.daemon, t.addr)},
		{"/s", load(t.daemon, "127.0.0.1:8184", false), load(t.daemon, t.addr+":80", false)},
		{"/s", load(t.daemon, "127.0.0.1:8184", true), load(t.daemon, t.addr+":80", true)},
		{"Gbit/s", rate(other, "10.86.0.1"), rate(other, t.addr)},
		{"/s", load(other, "10.86.0.1:8184", false), load(other, t.addr+":80", false)},
		{"/s", load(other, "10.86.0.1:8184", true), load(other, t.addr+":80", true)},
	} {
		var p pair
		for range trafficRounds {
			for _, side := range []struct {
				f  func() (float64, error)
				to *[]float64
			}{{m.bare, &p.bare}, {m.got, &p.got}} {
				v, err := side.f()
				if err != nil {
					return nil, err
				}
				*side.to = append(*side.to, v)
			}
		}
		p.text = fmt.Sprintf("%.0f %s", middle(p.got), m.unit)
		if m.unit != "/s" {
			p.text = fmt.Sprintf("%.1f %s", middle(p.got), m.unit)
		}
		out = append(out, p)
	}
	return out, nil
}

// iperf gives what goes from a namespace to a server, in Gbit a second.
func iperf(pid, to string) (float64, error) {
	out, err := exec.Command("nsenter", "-t", pid, "-n", "iperf3", "-J", "-t", strconv.Itoa(trafficTime), "-O", "1", "-c", to).Output()
	var r struct {
		Error string
		End   struct {
			Received struct {
				Bits float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if jerr := json.Unmarshal(out, &r); jerr != nil || r.Error != "" {
		return 0, fmt.Errorf("iperf3 to %s: %w %s", to, errors.Join(err, jerr), r.Error)
	}
	return r.End.Received.Bits / 1e9, nil
}

var requests = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)

// wrk gives the requests a second of 32 connections, or of connections that are made anew for each.
func wrk(pid, to string, anew bool) (float64, error) {
	args := []string{"-t", pid, "-n", "wrk", "-t", "1", "-c", "32", "-d", strconv.Itoa(trafficTime) + "s"}
	if anew {
		args = append(args, "-H", "Connection: close")
	}
	out, err := exec.Command("nsenter", append(args, "http://"+to+"/")...).CombinedOutput()
	m := requests.FindStringSubmatch(string(out))
	if err != nil || m == nil {
		return 0, fmt.Errorf("wrk to %s: %w\n%s", to, err, strings.TrimSpace(string(out)))
	}
	return strconv.ParseFloat(m[1], 64)
}

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// Both engines in one network namespace: each serves its own, Docker's rules stay as they are,
// and ours work although Docker drops what it does not know in FORWARD.
func TestBesideDocker(t *testing.T) {
	docker := testkit.Start(t, testkit.Options{Docker: true})
	load(t, docker)
	docker.Must(t, "run", "-d", "--name", "web", "-p", "18601:80", "bb", "sh", "-c", "mkdir /w; echo dockers page > /w/index.html; httpd -f -h /w")
	before := rules(t)

	ours := engine(t)
	ours.Must(t, "run", "-d", "--name", "web", "-p", "18602:80", "bb", "sh", "-c", "mkdir /w; echo our page > /w/index.html; httpd -f -h /w")
	if now := rules(t); now != before {
		t.Errorf("Docker's rules changed:\n%s", difference(before, now))
	}
	for port, want := range map[string]string{"18601": "dockers page", "18602": "our page"} {
		if got := fetch(t, "http://127.0.0.1:"+port+"/"); got != want {
			t.Errorf("port %s answers %q, want %q", port, got, want)
		}
	}
	// Container to container of the same engine, and from an outer namespace through both.
	ip := ours.Must(t, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "web")
	if got := ours.Must(t, "run", "--rm", "bb", "wget", "-qO-", "http://"+ip+"/"); got != "our page" {
		t.Errorf("container to container: %q", got)
	}
	outside(t)
	for port, want := range map[string]string{"18601": "dockers page", "18602": "our page"} {
		out, err := exec.Command("ip", "netns", "exec", "gt-outside", "curl", "-s", "--max-time", "3", "http://10.98.0.1:"+port+"/").CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("from outside, port %s: %q %v, want %q", port, out, err, want)
		}
	}
	out, errs, code := ours.Docker("run", "--rm", "bb", "ping", "-c", "1", "-W", "2", "10.98.0.2")
	if code != 0 {
		t.Errorf("from our container to the outside: %s%s", out, errs)
	}
	ours.Must(t, "rm", "-f", "web")
	if err := ours.Stop(); err != nil {
		t.Error(err)
	}
	if now := rules(t); now != before {
		t.Errorf("after we stopped, Docker's rules are not what they were:\n%s", difference(before, now))
	}
	if got := fetch(t, "http://127.0.0.1:18601/"); got != "dockers page" {
		t.Errorf("Docker's page after we stopped: %q", got)
	}
}

// outside makes a namespace that is another host to the engines: 10.98.0.2, they are 10.98.0.1.
func outside(t *testing.T) {
	t.Helper()
	for _, c := range []string{
		"ip netns add gt-outside",
		"ip link add gt-in type veth peer name gt-out netns gt-outside",
		"ip addr add 10.98.0.1/24 dev gt-in", "ip link set gt-in up",
		"ip -n gt-outside addr add 10.98.0.2/24 dev gt-out", "ip -n gt-outside link set gt-out up", "ip -n gt-outside link set lo up",
	} {
		if out, err := exec.Command("sh", "-c", c).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", c, err, out)
		}
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", "gt-outside").Run() })
}

var counters = regexp.MustCompile(`(counter )?packets \d+ bytes \d+|\[\d+:\d+\]`)

// rules are all tables but ours, without counters and without the one accept of ours in foreign chains.
func rules(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("nft", "list", "ruleset").Output()
	if err != nil {
		t.Fatal(err)
	}
	var keep []string
	ours := false
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "table ") {
			ours = strings.Contains(line, " gt")
		}
		if ours || strings.Contains(line, `comment "gt`) || strings.Contains(line, "mark") {
			continue
		}
		keep = append(keep, counters.ReplaceAllString(line, ""))
	}
	return strings.Join(keep, "")
}

func difference(a, b string) string {
	var d []string
	for line := range strings.Lines(b) {
		if !strings.Contains(a, line) {
			d = append(d, "+ "+line)
		}
	}
	for line := range strings.Lines(a) {
		if !strings.Contains(b, line) {
			d = append(d, "- "+line)
		}
	}
	return strings.Join(d, "")
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	c := http.Client{Timeout: 3 * time.Second}
	var last error
	for range 60 {
		res, err := c.Get(url)
		if err == nil {
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err == nil {
				return strings.TrimSpace(string(b))
			}
		}
		last = err
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Sprint(last)
}

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

// call asks the daemon and wants a status; body is a reader or what is made JSON.
func (p *process) call(t *testing.T, method, path string, body any, want int) []byte {
	t.Helper()
	var r io.Reader
	kind := "application/json"
	switch b := body.(type) {
	case nil:
	case io.Reader:
		r, kind = b, "application/x-tar"
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(raw)
	}
	q, err := http.NewRequest(method, "http://d"+path, r)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", kind)
	res, err := p.client().Do(q)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != want {
		t.Fatalf("%s %s: %d, want %d: %s, %v", method, path, res.StatusCode, want, b, err)
	}
	return b
}

type object = map[string]any

// image loads busybox as "bb".
func (p *process) image(t *testing.T) *process {
	t.Helper()
	file := p.dir + "/bb.tar"
	if err := imagemaker.WriteBusybox(file, "bb:latest"); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p.call(t, "POST", "/images/load?quiet=1", io.Reader(f), 200)
	return p
}

// create makes a container from busybox and gives its ID.
func (p *process) create(t *testing.T, o object) string {
	t.Helper()
	o["Image"] = "bb"
	var out struct{ ID string }
	if err := json.Unmarshal(p.call(t, "POST", "/containers/create", o, 201), &out); err != nil {
		t.Fatal(err)
	}
	return out.ID
}

// run makes and starts a container, and waits for it to say "ready".
func (p *process) run(t *testing.T, script string, o object) string {
	t.Helper()
	o["Cmd"] = []string{"sh", "-c", script}
	id := p.create(t, o)
	p.call(t, "POST", "/containers/"+id+"/start", nil, 204)
	if strings.Contains(script, "echo ready") {
		p.eventually(t, "the container is ready", func() bool { return strings.Contains(p.logs(t, id), "ready") })
	}
	return id
}

func (p *process) logs(t *testing.T, id string) string {
	t.Helper()
	return string(p.call(t, "GET", "/containers/"+id+"/logs?stdout=1&stderr=1", nil, 200))
}

type inspected struct {
	State struct {
		Running       bool
		Pid, ExitCode int
	}
	HostConfig struct {
		ShmSize                        int64
		Runtime, CgroupnsMode, IpcMode string
	}
	Driver string
}

func (p *process) inspect(t *testing.T, id string) (i inspected) {
	t.Helper()
	if err := json.Unmarshal(p.call(t, "GET", "/containers/"+id+"/json", nil, 200), &i); err != nil {
		t.Fatal(err)
	}
	return i
}

// remove ends all containers, so that the daemon can end without leaving anything.
func (p *process) remove(t *testing.T) {
	t.Helper()
	var list []struct{ ID string }
	if err := json.Unmarshal(p.call(t, "GET", "/containers/json?all=1", nil, 200), &list); err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		p.call(t, "DELETE", "/containers/"+c.ID+"?force=1&v=1", nil, 204)
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func waitGone(t *testing.T, pid int) {
	t.Helper()
	for range 500 {
		if !alive(pid) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d still runs", pid)
}

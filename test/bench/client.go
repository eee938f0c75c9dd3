package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"sync"
	"time"
)

func unixClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 64,
	}}
}

// api speaks to an engine over kept-alive connections. When ctx ends, every call fails, and with it the row.
type api struct {
	c   *http.Client
	ctx context.Context
}

func (a api) call(method, path string, body any, into any) error {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(a.ctx, method, "http://d/v1.41"+path, r)
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

// create makes a container that runs words; more are further members of the request.
func (a api) create(query string, more map[string]any, words ...string) (id string, err error) {
	body := map[string]any{"Image": "bb", "Cmd": words}
	for k, v := range more {
		body[k] = v
	}
	var c struct {
		ID string `json:"Id"`
	}
	err = a.call("POST", "/containers/create"+query, body, &c)
	return c.ID, err
}

func (a api) start(id string) error { return a.call("POST", "/containers/"+id+"/start", nil, nil) }

func (a api) wait(id string) error {
	var w struct{ StatusCode int }
	if err := a.call("POST", "/containers/"+id+"/wait", nil, &w); err != nil {
		return err
	}
	if w.StatusCode != 0 {
		return fmt.Errorf("the container ended with %d", w.StatusCode)
	}
	return nil
}

func (a api) remove(id string) error {
	return a.call("DELETE", "/containers/"+id+"?force=1", nil, nil)
}

// cycle is one life; took gets the time of each of its calls.
func (a api) cycle(took func(call int, d time.Duration)) error {
	t := time.Now()
	step := func(call int) {
		if took != nil {
			took(call, time.Since(t))
			t = time.Now()
		}
	}
	id, err := a.create("", nil, "true")
	if err != nil {
		return err
	}
	step(0)
	if err := a.start(id); err != nil {
		return err
	}
	step(1)
	if err := a.wait(id); err != nil {
		return err
	}
	step(2)
	if err := a.call("DELETE", "/containers/"+id, nil, nil); err != nil {
		return err
	}
	step(3)
	return nil
}

// timeCommand measures a whole command once.
func timeCommand(cmd *exec.Cmd) (time.Duration, error) {
	t := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return time.Since(t), nil
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

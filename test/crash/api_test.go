package crash

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// patience bounds how long the engine may take to come to what was asked for, kills included.
const patience = 30 * time.Second

var errDown = errors.New("the daemon died meanwhile")

// do is one request. A daemon that is dead, or dies meanwhile, is started again; then the error
// wraps errDown, and what became of the request is not known. A body is sent as JSON, bytes as they are.
func (l *lab) do(method, path string, body any) (int, []byte, error) {
	if err := l.revive(); err != nil {
		return 0, nil, err
	}
	var in io.Reader
	if raw, ok := body.([]byte); ok {
		in = bytes.NewReader(raw)
	} else if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		in = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://d"+path, in)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Registry-Auth", "e30=") // nobody: a push wants it said
	res, err := l.http.Do(req)
	if err == nil {
		var b []byte
		b, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err == nil {
			return res.StatusCode, b, nil
		}
	}
	if ctx.Err() != nil {
		return 0, nil, fmt.Errorf("%s %s: no answer within %v", method, path, patience)
	}
	for range 200 { // a killed daemon is gone before its end is known
		if l.e.Ended() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return 0, nil, fmt.Errorf("%w: %w", errDown, err)
}

// insist calls f until it is done or gives an error. What it says of a try that was in vain is told when
// patience has run out.
func insist(what string, f func() (done bool, vain string, err error)) error {
	deadline := time.Now().Add(patience)
	for {
		done, vain, err := f()
		if done || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v: %s", what, patience, vain)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// details is what is looked at in a container.
type details struct {
	ID           string
	RestartCount int
	State        struct {
		Status, Error, StartedAt string
		Pid, ExitCode            int
		OOMKilled                bool
	}
}

func (d *details) ran() bool {
	return d.State.StartedAt != "" && !strings.HasPrefix(d.State.StartedAt, "0001")
}

// inspect gives nil for a container that is not there.
func (l *lab) inspect(ref string) (d *details, err error) {
	err = insist("inspecting "+ref, func() (bool, string, error) {
		st, b, err := l.do("GET", "/containers/"+ref+"/json", nil)
		switch {
		case errors.Is(err, errDown):
			return false, err.Error(), nil
		case err != nil:
			return false, "", err
		case st == http.StatusNotFound:
			return true, "", nil
		case st == http.StatusOK:
			d = &details{}
			return true, "", json.Unmarshal(b, d)
		}
		return false, fmt.Sprintf("%d %s", st, b), nil
	})
	return d, err
}

func (l *lab) create(name string, body map[string]any) (id string, err error) {
	err = insist("creating "+name, func() (bool, string, error) {
		st, b, err := l.do("POST", "/containers/create?name="+name, body)
		switch {
		case errors.Is(err, errDown):
			return false, err.Error(), nil
		case err != nil:
			return false, "", err
		case st == http.StatusCreated:
			var r struct{ ID string }
			err := json.Unmarshal(b, &r)
			id = r.ID
			return true, "", err
		case st == http.StatusConflict: // committed, but the answer was lost
			d, err := l.inspect(name)
			if d != nil {
				id = d.ID
			}
			return d != nil, string(b), err
		case st >= 500:
			return false, string(b), nil
		}
		return false, "", fmt.Errorf("creating %s: %d %s", name, st, b)
	})
	return id, err
}

// start gives gone when the container has run, or failed to, and was removed by itself.
func (l *lab) start(id string) (gone bool, err error) {
	err = insist("starting "+id[:12], func() (bool, string, error) {
		st, b, err := l.do("POST", "/containers/"+id+"/start", nil)
		if err != nil && !errors.Is(err, errDown) {
			return false, "", err
		}
		if err == nil && (st == http.StatusNoContent || st == http.StatusNotModified) {
			return true, "", nil
		}
		// Refused or unknown: the container's state tells whether to try again.
		d, ierr := l.inspect(id)
		if ierr != nil {
			return false, "", ierr
		}
		gone = d == nil
		return gone || d.ran(), fmt.Sprintf("%d %s %v", st, b, err), nil
	})
	return gone, err
}

// post is a request whose effect is asked for until cond sees it.
func (l *lab) post(path string, cond func() (bool, string, error)) error {
	return insist(path, func() (bool, string, error) {
		st, b, err := l.do("POST", path, nil)
		if err != nil && !errors.Is(err, errDown) {
			return false, "", err
		}
		said := fmt.Sprintf("%d %s %v", st, bytes.TrimSpace(b), err)
		done, vain, err := cond()
		return done, said + "; " + vain, err
	})
}

// becomes waits until a container's details are as wanted; they are nil once it is gone.
func (l *lab) becomes(ref, what string, want func(*details) bool) (d *details, err error) {
	err = insist("waiting for "+ref+" "+what, func() (bool, string, error) {
		var err error
		if d, err = l.inspect(ref); err != nil {
			return false, "", err
		}
		return want(d), fmt.Sprintf("it is %+v", d), nil
	})
	if err != nil && !errors.Is(err, errDown) {
		err = fmt.Errorf("%w%s", err, l.evidence(d))
	}
	return d, err
}

func (l *lab) ended(ref string) (*details, error) {
	return l.becomes(ref, "to end", func(d *details) bool { return d == nil || d.State.Status == "exited" })
}

func (l *lab) remove(ref string) error {
	return insist("removing "+ref, func() (bool, string, error) {
		st, b, err := l.do("DELETE", "/containers/"+ref+"?v=1&force=1", nil)
		if errors.Is(err, errDown) {
			return false, err.Error(), nil
		}
		return st == http.StatusNoContent || st == http.StatusNotFound, string(b), err
	})
}

// logs reads a container's output back, both streams in one.
func (l *lab) logs(ref string, tty bool) (out string, err error) {
	err = insist("the logs of "+ref, func() (bool, string, error) {
		st, b, err := l.do("GET", "/containers/"+ref+"/logs?stdout=1&stderr=1", nil)
		if errors.Is(err, errDown) {
			return false, err.Error(), nil
		}
		if err != nil || st != http.StatusOK {
			return false, string(b), err
		}
		if tty {
			out = string(b)
			return true, "", nil
		}
		var s strings.Builder
		for len(b) >= 8 {
			n := int(binary.BigEndian.Uint32(b[4:]))
			if len(b) < 8+n {
				return false, "", fmt.Errorf("the logs of %s end within a frame", ref)
			}
			s.Write(b[8 : 8+n])
			b = b[8+n:]
		}
		out = s.String()
		return true, "", nil
	})
	return out, err
}

// docker runs the official client with text as its input.
func (l *lab) docker(input string, args ...string) (stdout, stderr string, code int) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+l.e.Socket)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		code = exit.ExitCode()
	default:
		code = -1
	}
	return out.String(), errs.String(), code
}

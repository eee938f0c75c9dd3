package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// The administrator's door is a socket in the data folder: whoever may open it may do everything with the folder anyway.
const adminSocket = "admin.sock"

// socketPath is a path by which the socket can be reached that is never too long for one.
func socketPath(dir string) (path string, done func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), adminSocket), func() { _ = d.Close() }, nil
}

// listenAdmin opens the socket. The caller holds the folder's lock, so that one that is there is a dead process's.
func listenAdmin(dir string) (net.Listener, error) {
	if err := os.Remove(filepath.Join(dir, adminSocket)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	path, done, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("the socket of the data folder: %w", err)
	}
	l.SetUnlinkOnClose(false) // by a path that is no more
	return l, os.Chmod(filepath.Join(dir, adminSocket), 0o600)
}

// admin answers at the socket.
func (s *Server) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /collect", func(w http.ResponseWriter, r *http.Request) {
		p, err := policyOf(r.URL.Query(), s.policy())
		if err == nil {
			var c storage.Collected
			if c, err = s.collect(r.Context(), p); err == nil {
				_ = json.NewEncoder(w).Encode(c)
				return
			}
		}
		http.Error(w, err.Error(), http.StatusInternalServerError)
	})
	return mux
}

func policyOf(q url.Values, p storage.Policy) (storage.Policy, error) {
	var err error
	if v := q.Get("grace"); v != "" {
		if p.Grace, err = time.ParseDuration(v); err != nil {
			return p, err
		}
	}
	if v := q.Get("untagged"); v != "" {
		if p.Untagged, err = strconv.ParseBool(v); err != nil {
			return p, err
		}
	}
	p.DryRun = q.Get("dry-run") == "1"
	return p, nil
}

// CollectRunning asks the registry that serves a folder to collect garbage. A nil untagged or grace means the registry's own.
func CollectRunning(ctx context.Context, dir string, dryRun bool, untagged *bool, grace *time.Duration) (c storage.Collected, err error) {
	path, done, err := socketPath(dir)
	if err != nil {
		return c, err
	}
	defer done()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	q := url.Values{}
	if dryRun {
		q.Set("dry-run", "1")
	}
	if untagged != nil {
		q.Set("untagged", strconv.FormatBool(*untagged))
	}
	if grace != nil {
		q.Set("grace", grace.String())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://registry/collect?"+q.Encode(), nil)
	if err != nil {
		return c, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return c, fmt.Errorf("asking the registry that serves %s: %w", dir, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c, fmt.Errorf("the registry that serves %s answered %s", dir, resp.Status)
	}
	return c, json.NewDecoder(resp.Body).Decode(&c)
}

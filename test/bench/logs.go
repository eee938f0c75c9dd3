package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Each line has ten bytes: nine digits and its end.
const (
	logLine  = "123456789"
	lineSize = len(logLine) + 1
)

// logs lets a container print short lines as fast as it can (until its end, with all of
// them in the log), and reads them back through the API and through the command line.
func logs(b *bench) ([]result, error) {
	w := result{what: "short lines printed into the log (100 MB; peers 2 MB), payload", bar: "≥ 20 MB/s", cells: map[string]string{}}
	a := result{what: "– read back through the API", bar: "≥ 200 MB/s", cells: map[string]string{}}
	c := result{what: "– read back by the logs command into a pipe", bar: "≥ 200 MB/s", cells: map[string]string{}}
	for _, e := range b.engines {
		written, read, shown, err := b.logsOf(e)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		w.cells[e.name], a.cells[e.name], c.cells[e.name] = rate(written), rate(read), rate(shown)
	}
	return []result{w, a, c}, nil
}

func rate(mb float64) string { return fmt.Sprintf("%.1f MB/s", mb) }

func (b *bench) logsOf(e *engine) (written, read, shown float64, err error) {
	lines := b.size(e, 10_000_000, 200_000)
	args := []string{"run", "-d", "--name", "bench-logs"}
	if e.name != "podman" {
		args = append(args, "--log-driver", "json-file", "--log-opt", "max-size=4g")
	}
	t := time.Now()
	if _, err := e.must(append(args, "bb", "sh", "-c", fmt.Sprintf("yes %s | head -n %d", logLine, lines))...); err != nil {
		return 0, 0, 0, err
	}
	defer func() { err = errors.Join(err, e.api.remove("bench-logs")) }()
	if err := e.api.wait("bench-logs"); err != nil {
		return 0, 0, 0, err
	}
	size := float64(lines*lineSize) / 1e6
	written = size / time.Since(t).Seconds()
	var viaAPI, viaCommand sample
	for range 3 {
		d, err := b.readLog(e, int64(lines))
		if err != nil {
			return 0, 0, 0, err
		}
		viaAPI = append(viaAPI, d)
		if d, err = showLog(e, int64(lines)); err != nil {
			return 0, 0, 0, err
		}
		viaCommand = append(viaCommand, d)
	}
	return written, size / viaAPI.median().Seconds(), size / viaCommand.median().Seconds(), nil
}

// readLog reads the whole log through the API: a frame of 8 bytes in front of each line.
func (b *bench) readLog(e *engine, lines int64) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://d/v1.41/containers/bench-logs/logs?stdout=1&stderr=1", nil)
	if err != nil {
		return 0, err
	}
	t := time.Now()
	res, err := e.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	got, err := count(res.Body)
	want := lines * int64(lineSize+8)
	if e.name == "podman" { // it cuts lines where its reads ended, into a frame each
		got = min(got, want)
	}
	if err == nil && got != want {
		err = fmt.Errorf("%d bytes of log were read back, not %d", got, want)
	}
	return time.Since(t), err
}

// showLog reads the whole log through a pipe from the engine's own command.
func showLog(e *engine, lines int64) (time.Duration, error) {
	cmd := e.command("logs", "bench-logs")
	t := time.Now()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	got, err := count(out)
	err = errors.Join(err, cmd.Wait())
	if want := lines * int64(lineSize); err == nil && got != want {
		err = fmt.Errorf("the logs command showed %d bytes, not %d", got, want)
	}
	return time.Since(t), err
}

func count(r io.Reader) (n int64, err error) {
	buf := make([]byte, 128<<10)
	for {
		k, err := r.Read(buf)
		n += int64(k)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

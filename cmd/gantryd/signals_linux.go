package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/gantry-engine/gantry/internal/config"
)

// watchSignals takes over all signals that mean something to the daemon. A
// client that hangs up must not end it, so SIGPIPE is ignored.
func watchSignals() <-chan os.Signal {
	c := make(chan os.Signal, 8)
	signal.Ignore(syscall.SIGPIPE)
	signal.Notify(c, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGQUIT)
	return c
}

// reload rereads daemon.json. A broken file changes nothing.
func (d *daemon) reload() {
	_, _ = sd.SdNotify(false, sd.SdNotifyReloading)
	defer func() { _, _ = sd.SdNotify(false, sd.SdNotifyReady) }()
	fresh, changed, pending, err := config.Reload(d.args[0], d.args[1:], d.cfg, os.Getenv)
	if err != nil {
		d.log.Error("the configuration was not reloaded", "error", message(err))
		return
	}
	d.cfg = fresh
	d.level.Set(logLevel(fresh.LogLevel))
	d.log.Info("reloaded the configuration", "changed", changed)
	if len(pending) > 0 {
		d.log.Warn("some changes take effect at the next start only", "options", pending)
	}
	if e := d.engine.Load(); e != nil { // last: it is what others hear of
		if err := e.reload(fresh); err != nil {
			d.log.Error("some options were not changed", "error", message(err))
		}
	}
}

// dump writes the stacks of all goroutines to a file below the exec root.
func (d *daemon) dump() {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	path := filepath.Join(d.cfg.ExecRoot, fmt.Sprintf("goroutine-stacks-%s.log", time.Now().UTC().Format("2006-01-02T150405.000Z")))
	if err := os.WriteFile(path, buf, 0o600); err != nil {
		d.log.Error("the goroutine stacks cannot be written", "error", err)
		return
	}
	d.log.Info("goroutine stacks written", "path", path)
}

// states counts containers for /metrics.
func (d *daemon) states() map[string]int {
	if e := d.engine.Load(); e != nil {
		return e.states()
	}
	return nil
}

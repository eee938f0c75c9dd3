package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/gantry-engine/gantry/internal/config"
	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
	"github.com/gantry-engine/gantry/internal/server"
	"github.com/gantry-engine/gantry/internal/store"
	"github.com/gantry-engine/gantry/internal/version"
)

// daemon is the process: its configuration, its server, its engine.
//
// Start: proxy variables → store (locks the data root) → pidfile → listeners,
// /_ping answers → engine (services over drivers) → routes, READY=1.
// Stop: STOPPING=1 → server ends streams, finishes short requests → engine stops
// or leaves containers → store commits → pidfile goes.
type daemon struct {
	cfg   *config.Config
	args  []string
	log   *slog.Logger
	level *slog.LevelVar

	id     string // of the engine
	store  *store.Store
	server *server.Server
	engine atomic.Pointer[engine]
	once   sync.Once // of stopping
}

var errForced = errors.New("the daemon was forced to stop")

func (d *daemon) run() (err error) {
	signals := watchSignals()
	d.environment()
	for _, n := range d.cfg.Notes {
		d.log.Warn(n)
	}
	if d.store, err = store.Open(store.Options{DataRoot: d.cfg.DataRoot, ExecRoot: d.cfg.ExecRoot, Log: d.log}); err != nil {
		return err
	}
	defer func() {
		if cerr := d.store.Close(); cerr != nil {
			err = errors.Join(err, cerr)
		}
	}()
	if d.id, err = engineID(d.cfg.DataRoot); err != nil {
		return err
	}
	unpid, err := pidfile(d.cfg.Pidfile)
	if err != nil {
		return err
	}
	defer unpid()

	var metrics *server.Metrics
	options := server.Options{Product: "Gantry/" + version.Version, Experimental: d.cfg.Experimental, Log: d.log}
	if d.cfg.MetricsAddr != "" {
		metrics = server.NewMetrics(version.Version, version.Commit, d.states)
		options.Observer = metrics
	}
	d.server = server.New(options)
	listeners, err := d.listen()
	if err != nil {
		return err
	}
	failed := make(chan error, len(listeners)+2)
	for _, l := range listeners {
		go func() { failed <- d.server.Serve(l) }()
	}
	if metrics != nil {
		l, err := net.Listen("tcp", d.cfg.MetricsAddr)
		if err != nil {
			return errors.Join(fmt.Errorf("serving metrics (--metrics-addr): %w", err), d.closeServer())
		}
		defer l.Close()
		go func() { _ = metrics.Serve(l) }()
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	started := make(chan error, 1)
	go func() { started <- d.start(ctx) }()
	return d.loop(signals, started, failed, cancel)
}

// environment makes the proxies of flags and file those of the process, as
// every HTTP client in it reads them; private CAs are the system's pool.
func (d *daemon) environment() {
	for name, v := range map[string]string{"HTTP_PROXY": d.cfg.HTTPProxy, "HTTPS_PROXY": d.cfg.HTTPSProxy, "NO_PROXY": d.cfg.NoProxy} {
		if v != "" {
			_ = os.Setenv(name, v)
			_ = os.Setenv(strings.ToLower(name), v)
		}
	}
	syscall.Umask(0o022)
}

// start builds the engine behind the open listeners and lets requests through.
func (d *daemon) start(ctx context.Context) error {
	begun := time.Now()
	e, routers, err := wire(ctx, d)
	if err != nil {
		return err
	}
	d.engine.Store(e)
	if err := d.server.Ready(routers...); err != nil {
		return err
	}
	_, _ = sd.SdNotify(false, sd.SdNotifyReady)
	d.log.Info("the engine is ready", "version", version.Version, "hosts", d.cfg.Hosts, "data-root", d.cfg.DataRoot, "took", time.Since(begun))
	return nil
}

// loop waits for signals and failures until the daemon has stopped.
func (d *daemon) loop(signals <-chan os.Signal, started, failed <-chan error, cancel context.CancelCauseFunc) error {
	stops := 0
	stopped := make(chan error, 1)
	ready, stopping := false, false
	reload := false // asked for while the engine was being built
	end := func() {
		cfg := d.cfg
		go func() { stopped <- d.stop(cfg) }()
	}
	stop := func(reason error) {
		d.once.Do(func() {
			d.log.Info("stopping", "reason", reason)
			_, _ = sd.SdNotify(false, sd.SdNotifyStopping)
			stopping = true
			if ready {
				end()
				return
			}
			cancel(reason) // the engine is half built: let it end first
		})
	}
	for {
		select {
		case err := <-started:
			started = nil
			switch {
			case stopping: // a start that was called off has not failed
				end()
			case err != nil:
				return errors.Join(err, d.closeServer())
			default:
				if ready = true; reload {
					d.reload()
				}
			}
		case err := <-failed:
			if err != nil {
				d.log.Error("a listener failed", "error", err)
				stop(err)
			}
		case err := <-stopped:
			return err
		case s := <-signals:
			switch s {
			case syscall.SIGHUP:
				if reload = !ready; ready && !stopping {
					d.reload()
				}
			case syscall.SIGUSR1, syscall.SIGQUIT:
				d.dump()
			default:
				if stops++; stops >= 3 {
					d.log.Error("stopping at once after the third signal")
					return errForced
				}
				stop(fmt.Errorf("signal %s", s))
			}
		}
	}
}

func (d *daemon) stop(cfg *config.Config) error {
	timeout := time.Duration(cfg.ShutdownTimeout) * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), timeout+15*time.Second)
	defer cancel()
	short, cancelShort := context.WithTimeout(ctx, 2*time.Second)
	defer cancelShort()
	err := d.server.Shutdown(short)
	if e := d.engine.Load(); e != nil {
		err = errors.Join(err, e.stop(ctx, cfg))
	}
	return err
}

func (d *daemon) closeServer() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return d.server.Shutdown(ctx)
}

// listen opens every --host; one that fails closes the others.
func (d *daemon) listen() (all []net.Listener, err error) {
	o := server.ListenOptions{Group: d.cfg.Group, GroupOptional: d.cfg.DockerName && d.cfg.Group == "docker", PlainTCP: d.cfg.TLSGiven && !d.cfg.TLS, Log: d.log}
	tcp := slices.ContainsFunc(d.cfg.Hosts, func(h string) bool { return !strings.HasPrefix(h, "unix://") })
	if d.cfg.TLS && tcp {
		if o.TLS, err = server.TLSConfig(d.cfg.TLSCert, d.cfg.TLSKey, d.cfg.TLSCACert, d.cfg.TLSVerify); err != nil {
			return nil, err
		}
	}
	for _, h := range d.cfg.Hosts {
		ls, err := server.Listen(h, o)
		if err != nil {
			for _, l := range all {
				_ = l.Close()
			}
			return nil, err
		}
		all = append(all, ls...)
	}
	return all, nil
}

// engineID is the engine's identity: made once, kept in the data root.
func engineID(dataRoot string) (string, error) {
	path := filepath.Join(dataRoot, "engine-id")
	b, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(b))) > 0 {
		return strings.TrimSpace(string(b)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	h := hex.EncodeToString(raw)
	id := strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
	return id, atomicfile.Write(path, []byte(id+"\n"), 0o600)
}

// pidfile writes our PID, unless the file names a daemon that lives. The
// returned function removes the file.
func pidfile(path string) (func(), error) {
	if path == "" {
		return func() {}, nil
	}
	if b, err := os.ReadFile(path); err == nil {
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err == nil && pid != os.Getpid() && isDaemon(pid) {
			return nil, fmt.Errorf("process with PID %d is still running (%s): stop it, or give another --pidfile", pid, path)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := atomicfile.WriteVolatile(path, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return nil, fmt.Errorf("writing the PID file: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil
}

// isDaemon tells a living daemon from a process that got its number later, and from
// a killed one whose parent has not taken note yet.
func isDaemon(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	stat := string(b) // "pid (name) state …"
	name, rest, _ := strings.Cut(stat[strings.IndexByte(stat, '(')+1:], ") ")
	return (name == "gantryd" || name == "dockerd") && !strings.HasPrefix(rest, "Z")
}

// message is an error for people: without the names of error classes at its end.
func message(err error) string { return server.Message(err) }

// born is when the engine got its identity.
func (d *daemon) born() time.Time {
	st, err := os.Stat(filepath.Join(d.cfg.DataRoot, "engine-id"))
	if err != nil {
		return time.Time{}
	}
	return st.ModTime().UTC()
}

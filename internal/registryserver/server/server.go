// Package server puts the registry together and runs it: listeners, certificates, the access log, garbage collection at its
// times, start, reload and end.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/gantry-engine/gantry/internal/registryserver/access"
	"github.com/gantry-engine/gantry/internal/registryserver/cache"
	"github.com/gantry-engine/gantry/internal/registryserver/fromengine"
	"github.com/gantry-engine/gantry/internal/registryserver/hooks"
	"github.com/gantry-engine/gantry/internal/registryserver/metrics"
	"github.com/gantry-engine/gantry/internal/registryserver/protocol"
	"github.com/gantry-engine/gantry/internal/registryserver/settings"
	"github.com/gantry-engine/gantry/internal/registryserver/storage"
	"github.com/gantry-engine/gantry/internal/registryserver/web"
)

// Server is a registry that runs.
type Server struct {
	cfg     *settings.Config
	log     *slog.Logger
	store   *storage.Store
	guard   *access.Guard
	cert    *certificate
	metrics *metrics.Metrics
	cache   *cache.Cache       // nil: no other registry is served
	engine  *fromengine.Source // nil: no engine's images are served
	hooks   *hooks.Sender      // nil: nobody is told

	listeners []listener
	stop      context.CancelFunc // of what goes on in the background
	behind    sync.WaitGroup
	collects  sync.Mutex // one collection at a time
}

type listener struct {
	net.Listener
	srv  *http.Server
	what string
}

// Ways lead to those whose images are served.
type Ways struct {
	// Registry makes the way to another registry.
	Registry func(u settings.Upstream) (cache.Upstream, error)
	// Engine makes the way to an engine, by its address.
	Engine func(address string) (fromengine.Engine, error)
}

// Open puts a registry together, and opens its folder and its listeners.
func Open(cfg *settings.Config, ways Ways, log *slog.Logger) (_ *Server, err error) {
	s := &Server{cfg: cfg, log: log, cert: &certificate{files: cfg.TLS}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.guard, err = s.openGuard(); err != nil {
		return nil, err
	}
	if s.store, err = storage.Open(storage.Options{Dir: cfg.Data, Limits: cfg.Limits(), Spare: cfg.Cached, Log: log}); err != nil {
		return nil, err
	}
	if err := s.openIssuer(); err != nil {
		return nil, err
	}
	if s.guard.Passwords != nil && cfg.TLS.Cert == "" && !loopback(cfg.Listen) {
		log.Warn("passwords go over the network in the clear: give the registry a certificate (tls-cert, tls-key), or a proxy with TLS in front", "listen", cfg.Listen)
	}
	s.metrics = metrics.New(s.store.Totals)
	if s.cache, err = s.openCache(ways); err != nil {
		return nil, err
	}
	if cfg.FromEngine != "" {
		e, err := ways.Engine(cfg.FromEngine)
		if err != nil {
			return nil, err
		}
		s.engine = fromengine.New(e, s.store, protocol.Local{Store: s.store}, s.store, log)
	}
	if s.hooks, err = hooks.New(cfg.Targets(), s.metrics, log); err != nil {
		return nil, err
	}
	return s, s.listen()
}

// openCache makes the ways to other registries; nil if there are none.
func (s *Server) openCache(ways Ways) (*cache.Cache, error) {
	if len(s.cfg.Cache.Upstreams) == 0 {
		return nil, nil
	}
	o := cache.Options{
		Default: s.cfg.Cache.Default, Fresh: s.cfg.Cache.Fresh, Size: int64(s.cfg.Cache.Size), Content: s.store, Records: s.store, Space: s.store.Collector(),
		Counter: s.metrics, Local: protocol.Local{Store: s.store}, Log: s.log,
	}
	for _, u := range s.cfg.Cache.Upstreams {
		up, err := ways.Registry(u)
		if err != nil {
			return nil, fmt.Errorf("the cached registry %s: %w", u.Registry, err)
		}
		o.Registries = append(o.Registries, cache.Registry{Prefix: u.Prefix, Host: u.Registry, Upstream: up})
	}
	return cache.New(o), nil
}

// loopback tells whether an address is this machine's own.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// openGuard reads users and foreign keys. The registry's own tokens come later, when its folder is there.
func (s *Server) openGuard() (*access.Guard, error) {
	g := &access.Guard{Realm: s.cfg.Auth.Realm}
	var err error
	if g.Rights, err = s.cfg.AccessRights(); err != nil {
		return nil, err
	}
	if s.cfg.Auth.Htpasswd != "" {
		if g.Passwords, err = access.OpenPasswords(s.cfg.Auth.Htpasswd); err != nil {
			return nil, err
		}
	}
	if t := s.cfg.Auth.Token; t != nil && t.Issuer != "" {
		g.Tokens = &access.Verifier{Issuer: t.Issuer, Service: t.Service, Realm: t.Realm}
		if err := g.Tokens.LoadKeys(t.JWKS, t.Certs); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (s *Server) openIssuer() (err error) {
	t := s.cfg.Auth.Token
	if t == nil || t.Issuer != "" {
		return nil
	}
	service := t.Service
	if service == "" {
		service = "gantry-registry"
	}
	s.guard.Issuer, s.guard.Tokens, err = access.NewIssuer(filepath.Join(s.cfg.Data, "token.key"), service, t.Realm, s.guard.Passwords, &s.guard.Rights)
	return err
}

// listen opens the listeners.
func (s *Server) listen() error {
	tlsConfig, err := s.cert.configuration()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	public, err := s.public()
	if err != nil {
		return err
	}
	s.add(l, public, tlsConfig, "registry")
	if s.cfg.Debug != "" {
		if l, err = net.Listen("tcp", s.cfg.Debug); err != nil {
			return fmt.Errorf("listening for metrics: %w", err)
		}
		s.add(l, s.debug(), nil, "metrics")
	}
	if l, err = listenAdmin(s.cfg.Data); err != nil {
		return err
	}
	s.add(l, s.admin(), nil, "admin")
	return nil
}

func (s *Server) add(l net.Listener, h http.Handler, t *tls.Config, what string) {
	srv := &http.Server{
		Handler: h, TLSConfig: t, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.listeners = append(s.listeners, listener{l, srv, what})
}

// public is what clients see.
func (s *Server) public() (http.Handler, error) {
	mux := http.NewServeMux()
	registry := &protocol.Handler{
		Source: protocol.Local{Store: s.store}, Uploads: s.store, Changes: s.store, Lists: s.store, Guard: s.guard, Idle: s.cfg.Idle, Log: s.log,
	}
	if s.cache != nil {
		registry.Source, registry.ReadOnly, registry.Rename = s.cache, s.cache.ReadOnly, s.cache.Rename
	}
	if s.engine != nil {
		registry.Source, registry.Lists, registry.ReadOnly, registry.Rename = s.engine, s.engine, s.engine.ReadOnly, s.engine.Rename
	}
	if s.hooks != nil {
		registry.Observer = s.hooks
	}
	if s.guard.Issuer != nil {
		mux.Handle("/token", s.guard.Issuer)
	}
	if s.cfg.Page {
		page := web.Pages{Store: s.store, Finder: s.store, Guard: s.guard, Note: registry.ReadOnly, Log: s.log}
		pages, err := web.New(page)
		if err != nil {
			return nil, err
		}
		mux.Handle("/", pages)
	}
	var accessLog *slog.Logger
	if s.cfg.Log.Access == nil || *s.cfg.Log.Access {
		accessLog = s.log
	}
	// The mux would redirect paths with // or .. in them; to the protocol they are just wrong.
	return observed(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if route, _ := protocol.RouteOf(r.URL.Path); route != protocol.None || len(r.URL.Path) > 3 && r.URL.Path[:4] == "/v2/" {
			registry.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}), s.metrics, accessLog), nil
}

// debug is what the operator's monitoring sees.
func (s *Server) debug() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	return mux
}

// Addr is where clients are listened to.
func (s *Server) Addr() net.Addr { return s.listeners[0].Addr() }

// Run serves until ctx ends; then requests that are under way have the shutdown timeout to end.
func (s *Server) Run(ctx context.Context) error {
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.behind.Go(func() { s.collectAtTimes(background) })
	failed := make(chan error, len(s.listeners))
	for _, l := range s.listeners {
		go func() {
			var err error
			if l.srv.TLSConfig != nil {
				err = l.srv.ServeTLS(l, "", "")
			} else {
				err = l.srv.Serve(l)
			}
			if !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serving %s: %w", l.what, err)
			}
		}()
	}
	s.log.Info("the registry is ready", "address", s.Addr().String(), "data", s.cfg.Data, "tls", s.cfg.TLS.Cert != "")
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.log.Info("the registry ends")
	end, cancel := context.WithTimeout(context.Background(), s.cfg.Shutdown)
	defer cancel()
	for _, l := range s.listeners {
		if serr := l.srv.Shutdown(end); serr != nil {
			s.log.Warn("requests were cut off", "listener", l.what, "error", serr)
			_ = l.srv.Close()
		}
	}
	s.close()
	return err
}

func (s *Server) close() {
	if s.stop != nil {
		s.stop()
	}
	s.behind.Wait()
	for _, l := range s.listeners {
		_ = l.Close()
	}
	if s.cache != nil {
		s.cache.Close()
	}
	if s.hooks != nil {
		s.hooks.Close()
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.log.Error("closing the store", "error", err)
		}
	}
}

// Reload reads the certificate and the users again.
func (s *Server) Reload() {
	err := s.cert.reload()
	if s.guard.Passwords != nil {
		err = errors.Join(err, s.guard.Passwords.Reload())
	}
	if err != nil {
		s.log.Error("reading the configuration again; what cannot be read stays as it was", "error", err)
		return
	}
	s.log.Info("certificate and users were read again")
}

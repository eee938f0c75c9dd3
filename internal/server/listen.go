package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/coreos/go-systemd/v22/activation"
)

// ListenOptions say who may connect.
type ListenOptions struct {
	// Group may use UNIX sockets. Empty means the first of "gantry" and "docker"
	// that exists. With GroupOptional a missing group is a warning.
	Group         string
	GroupOptional bool
	// TLS is used on TCP; nil means plain TCP, which needs PlainTCP.
	TLS      *tls.Config
	PlainTCP bool
	Log      *slog.Logger
}

// Listen opens one --host: "unix:///path", "tcp://host:port", "fd://" or "fd://3".
func Listen(host string, o ListenOptions) ([]net.Listener, error) {
	proto, addr, _ := strings.Cut(host, "://")
	switch proto {
	case "unix":
		l, err := listenUnix(addr, o)
		return []net.Listener{l}, err
	case "tcp":
		if o.TLS == nil && !o.PlainTCP {
			return nil, fmt.Errorf("refusing to listen on %s without TLS: whoever reaches the port would be root on this machine; "+
				"give --tlsverify with certificates, or --tls=false to accept plain TCP all the same: %w", host, errdefs.ErrInvalidArgument)
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("listening on %s: %w", host, err)
		}
		if o.TLS != nil {
			l = tls.NewListener(l, o.TLS)
		} else if o.Log != nil {
			o.Log.Warn("the API is served without TLS: whoever reaches this port is root on this machine", "host", host)
		}
		return []net.Listener{l}, nil
	case "fd":
		return activated(addr, o)
	}
	return nil, fmt.Errorf("cannot listen on %q: unix://, tcp:// or fd:// is needed: %w", host, errdefs.ErrInvalidArgument)
}

// activated gives the sockets that systemd opened for us.
func activated(which string, o ListenOptions) ([]net.Listener, error) {
	ls, err := activation.Listeners()
	if err != nil {
		return nil, err
	}
	var all []net.Listener
	for i, l := range ls {
		if l == nil || which != "" && which != "*" && which != strconv.Itoa(3+i) {
			continue
		}
		if l.Addr().Network() == "tcp" {
			if o.TLS == nil && !o.PlainTCP {
				return nil, fmt.Errorf("the activated socket %s is plain TCP: give --tlsverify with certificates, or --tls=false: %w", l.Addr(), errdefs.ErrInvalidArgument)
			}
			if o.TLS != nil {
				l = tls.NewListener(l, o.TLS)
			}
		}
		all = append(all, l)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no sockets found for fd://%s: the daemon was not started by systemd socket activation (LISTEN_FDS): %w", which, errdefs.ErrFailedPrecondition)
	}
	return all, nil
}

// listenUnix binds beside the path and renames into place, so that the socket
// is never there with other permissions than its own, and a stale one is replaced.
func listenUnix(path string, o ListenOptions) (net.Listener, error) {
	gid, err := groupID(o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of the socket: %w", err)
	}
	if err := vacant(path); err != nil {
		return nil, err
	}
	tmp := path + "~"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listening on unix://%s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chown(tmp, 0, gid); err == nil || os.Geteuid() != 0 {
		err = os.Chmod(tmp, 0o660)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(tmp)
		return nil, fmt.Errorf("listening on unix://%s: %w", path, err)
	}
	st, err := os.Stat(path)
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return &unixListener{UnixListener: l, path: path, made: st}, nil
}

// vacant makes sure that no daemon listens at path and nothing else is there.
func vacant(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("cannot listen on unix://%s: the path exists and is no socket: remove it or choose another: %w", path, errdefs.ErrFailedPrecondition)
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return fmt.Errorf("cannot listen on unix://%s: another daemon answers there: stop it, or choose another -H: %w", path, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// unixListener removes its socket when it closes, unless another took its place.
type unixListener struct {
	*net.UnixListener
	path string
	made fs.FileInfo
	once sync.Once
}

func (l *unixListener) Close() error {
	l.once.Do(func() {
		if now, err := os.Stat(l.path); err == nil && os.SameFile(now, l.made) {
			_ = os.Remove(l.path)
		}
	})
	return l.UnixListener.Close()
}

func groupID(o ListenOptions) (int, error) {
	if o.Group == "" {
		for _, name := range []string{"gantry", "docker"} {
			if g, err := user.LookupGroup(name); err == nil {
				return strconv.Atoi(g.Gid)
			}
		}
		return os.Getegid(), nil
	}
	if g, err := user.LookupGroup(o.Group); err == nil {
		return strconv.Atoi(g.Gid)
	}
	if n, err := strconv.ParseUint(o.Group, 10, 31); err == nil {
		return int(n), nil
	}
	if o.GroupOptional {
		if o.Log != nil {
			o.Log.Warn("the group of the API socket does not exist: only root can use it", "group", o.Group)
		}
		return os.Getegid(), nil
	}
	return 0, fmt.Errorf("group %s not found: make it (groupadd --system %s) or give another --group: %w", o.Group, o.Group, errdefs.ErrInvalidArgument)
}

// TLSConfig reads certificate and key; with verify clients must show a
// certificate signed by ca.
func TLSConfig(cert, key, ca string, verify bool) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("reading the TLS certificate %s and key %s (--tlscert, --tlskey): %w: %w", cert, key, err, errdefs.ErrInvalidArgument)
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if !verify {
		return c, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("reading the CA of client certificates (--tlscacert): %w: %w", err, errdefs.ErrInvalidArgument)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form (--tlscacert): %w", ca, errdefs.ErrInvalidArgument)
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	return c, nil
}

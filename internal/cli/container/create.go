package container

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/image"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

func buildCreate(a *app.App, f *pflag.FlagSet) app.RunFunc {
	c := &createFlags{}
	c.register(f)
	return func(ctx context.Context, args []string) error {
		s := session{a}
		if err := c.checkPull(); err != nil {
			return &app.Exit{Code: 125, Err: a.WithHelp(err, "create")}
		}
		req, err := s.request(ctx, c, args)
		if err != nil {
			return &app.Exit{Code: 125, Err: a.WithHelp(err, "create")}
		}
		id, err := s.create(ctx, c, req)
		if err != nil {
			return err
		}
		fmt.Fprintln(a.Out, id)
		return nil
	}
}

func (c *createFlags) checkPull() error {
	switch c.pull {
	case "always", "missing", "never":
		return nil
	}
	return fmt.Errorf(`invalid pull option: '%s': must be one of "always", "missing" or "never"`, c.pull)
}

// request makes the create request, with the proxy variables of the configuration.
func (a session) request(ctx context.Context, c *createFlags, args []string) (*container.CreateRequest, error) {
	serverOS := "linux"
	if len(c.devices.Values) > 0 {
		cl, err := a.Client()
		if err != nil {
			return nil, err
		}
		if p, err := cl.Ping(ctx); err == nil && p.OSType != "" {
			serverOS = p.OSType
		}
	}
	req, err := c.parse(args, serverOS)
	if err != nil {
		return nil, err
	}
	if len(a.Config().Proxies) > 0 {
		a.addProxies(req.Config)
	}
	for _, dns := range c.dns.Values {
		if ip, err := netip.ParseAddr(dns); err == nil && ip.IsLoopback() {
			fmt.Fprintf(a.Err, "WARNING: Localhost DNS setting (--dns=%s) may fail in containers.\n", dns)
			break
		}
	}
	return req, nil
}

func (a session) addProxies(cfg *container.Config) {
	t, err := a.Target()
	if err != nil {
		return
	}
	set := map[string]*string{}
	for _, e := range cfg.Env {
		k, v, ok := strings.Cut(e, "=")
		set[k] = nil
		if ok {
			set[k] = &v
		}
	}
	var add []string
	for k, v := range a.Config().ProxyEnv(t.Host, set) {
		if _, have := set[k]; !have && v != nil {
			add = append(add, k+"="+*v)
		}
	}
	slices.Sort(add)
	cfg.Env = append(cfg.Env, add...)
}

// cidFile is the file of --cidfile, taken before and filled after the container exists.
type cidFile struct {
	path string
	f    *os.File
}

func openCIDFile(path string) (*cidFile, error) {
	if path == "" {
		return &cidFile{}, nil
	}
	if _, err := os.Stat(path); err == nil {
		return nil, fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", path)
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("failed to create the container ID file: %w", err)
	}
	return &cidFile{path: path, f: f}, nil
}

func (c *cidFile) write(id string) error {
	if c.f == nil {
		return nil
	}
	if _, err := c.f.WriteString(id); err != nil {
		return fmt.Errorf("failed to write the container ID (%s) to file: %w", id, err)
	}
	err := c.f.Close()
	c.f = nil
	return err
}

// abandon removes a file that was never filled.
func (c *cidFile) abandon() {
	if c.f != nil {
		c.f.Close()
		os.Remove(c.path)
	}
}

// create asks for the container, pulling its image first where that is wanted.
func (a session) create(ctx context.Context, c *createFlags, req *container.CreateRequest) (string, error) {
	name, err := ref.Parse(req.Image)
	isID := err != nil && len(req.Image) == 64
	if err != nil && !isID {
		return "", err
	}
	platform, err := normalizePlatform(c.platform)
	if err != nil {
		return "", err
	}
	cid, err := openCIDFile(c.cidfile)
	if err != nil {
		return "", err
	}
	defer cid.abandon()
	cl, err := a.Client()
	if err != nil {
		return "", err
	}
	var creds []byte
	if c.apiSocket {
		if creds, err = a.shareSocket(req); err != nil {
			return "", err
		}
	}
	q := url.Values{}
	if c.name != "" {
		q.Set("name", c.name)
	}
	if platform != "" {
		q.Set("platform", platform)
	}
	pull := func() error {
		return image.Pull(ctx, a.App, image.PullRequest{Ref: name.WithTag(), Platform: platform, Quiet: c.quiet, Out: a.Err, IsTTY: false})
	}
	if c.pull == "always" && !isID {
		if err := pull(); err != nil {
			return "", err
		}
	}
	var out container.CreateResponse
	err = cl.Post(ctx, "/containers/create", q, req, &out)
	if missingImage(err) && c.pull == "missing" && !isID {
		if !c.quiet {
			fmt.Fprintf(a.Err, "Unable to find image '%s' locally\n", name.WithTag().Familiar())
		}
		if err := pull(); err != nil {
			return "", err
		}
		err = cl.Post(ctx, "/containers/create", q, req, &out)
	}
	if err != nil {
		return "", err
	}
	for _, w := range out.Warnings {
		fmt.Fprintf(a.Err, "WARNING: %s\n", w)
	}
	if creds != nil {
		if err := a.putCredentials(ctx, cl, out.ID, creds); err != nil {
			return "", err
		}
	}
	return out.ID, cid.write(out.ID)
}

// missingImage tells a missing image from another missing thing: the engine answers 404 for both.
func missingImage(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Status == 404 && !strings.HasPrefix(strings.ToLower(e.Message), "no such container")
}

func normalizePlatform(p string) (string, error) {
	if p == "" {
		return "", nil
	}
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("error parsing specified platform: %q: %s: invalid argument", p, why)
	}
	parts := strings.Split(strings.ToLower(p), "/")
	if len(parts) > 3 || slices.Contains(parts, "") {
		return bad("cannot parse platform specifier")
	}
	arch := map[string]string{"x86_64": "amd64", "x86-64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armhf": "arm/v7", "armel": "arm/v6",
		"i386": "386", "386": "386", "arm": "arm/v7", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64", "mips64le": "mips64le", "loong64": "loong64"}
	if len(parts) == 1 {
		switch {
		case parts[0] == "linux" || parts[0] == "windows" || parts[0] == "darwin" || parts[0] == "freebsd":
			return parts[0], nil
		case arch[parts[0]] != "":
			return "linux/" + arch[parts[0]], nil
		}
		return bad("unknown operating system or architecture")
	}
	if n, ok := arch[parts[1]]; ok && len(parts) == 2 {
		parts[1] = n
	} else if ok {
		parts[1], _, _ = strings.Cut(n, "/")
	}
	if parts[1] == "arm64" && len(parts) == 3 && parts[2] == "v8" {
		parts = parts[:2]
	}
	return strings.Join(parts, "/"), nil
}

// socketInside is where a container expects the engine's socket.
const socketInside = "/var/run/docker.sock"

// shareSocket gives the container the engine's socket, and returns the credentials it shall find beside it.
func (a session) shareSocket(req *container.CreateRequest) ([]byte, error) {
	source := socketInside
	if t, err := a.Target(); err == nil {
		if p, ok := strings.CutPrefix(t.Host, "unix://"); ok {
			source = p
		}
	}
	req.HostConfig.Binds = append(req.HostConfig.Binds, source+":"+socketInside)
	b, err := os.ReadFile(filepath.Join(a.Globals.ConfigDir, "config.json"))
	if err != nil {
		return nil, nil
	}
	req.Env = append(req.Env, "DOCKER_CONFIG=/run/secrets/docker")
	return onlyAuths(b)
}

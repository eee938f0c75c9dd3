package create

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/image"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

// BuildCreate is create.
func BuildCreate(a *app.App, f *pflag.FlagSet) app.RunFunc {
	c := &Flags{}
	c.Register(f)
	return func(ctx context.Context, args []string) error {
		if err := c.CheckPull(); err != nil {
			return &app.Exit{Code: 125, Err: a.WithHelp(err, "create")}
		}
		req, err := Request(ctx, a, c, args)
		if err != nil {
			return &app.Exit{Code: 125, Err: a.WithHelp(err, "create")}
		}
		id, err := Create(ctx, a, c, req)
		if err != nil {
			return err
		}
		fmt.Fprintln(a.Out, id)
		return nil
	}
}

// CheckPull refuses a --pull that says nothing.
func (c *Flags) CheckPull() error {
	switch c.pull {
	case "always", "missing", "never":
		return nil
	}
	return fmt.Errorf(`invalid pull option: '%s': must be one of "always", "missing" or "never"`, c.pull)
}

// Request makes the create request, with the proxy variables of the configuration.
func Request(ctx context.Context, a *app.App, c *Flags, args []string) (*container.CreateRequest, error) {
	serverOS := "linux"
	if len(c.devices.Values) > 0 {
		cl, err := a.Engine.Client()
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
	if len(a.Home.Config().Proxies) > 0 {
		addProxies(a, req.Config)
	}
	for _, dns := range c.dns.Values {
		if ip, err := netip.ParseAddr(dns); err == nil && ip.IsLoopback() {
			fmt.Fprintf(a.Err, "WARNING: Localhost DNS setting (--dns=%s) may fail in containers.\n", dns)
			break
		}
	}
	return req, nil
}

func addProxies(a *app.App, cfg *container.Config) {
	t, err := a.Engine.Target()
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
	for k, v := range a.Home.Config().ProxyEnv(t.Host, set) {
		if _, have := set[k]; !have && v != nil {
			add = append(add, k+"="+*v)
		}
	}
	slices.Sort(add)
	cfg.Env = append(cfg.Env, add...)
}

// Create asks for the container, pulling its image first where that is wanted.
func Create(ctx context.Context, a *app.App, c *Flags, req *container.CreateRequest) (string, error) {
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
	cl, err := a.Engine.Client()
	if err != nil {
		return "", err
	}
	var creds []byte
	if c.apiSocket {
		if creds, err = shareSocket(a, req); err != nil {
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
		return image.Pull(ctx, a, image.PullRequest{Ref: name.WithTag(), Platform: platform, Quiet: c.quiet, Out: a.Err})
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
		if err := putCredentials(ctx, cl, out.ID, creds); err != nil {
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

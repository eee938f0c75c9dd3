// Package names has containers' questions about names answered: it makes a DNS server's sockets in their namespaces,
// hands them to gantry-net, and keeps it told of who is on which network. It implements networks.Names.
package names

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/driver/network/gantrynet"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/kit/trouble"
	"github.com/gantry-engine/gantry/internal/netproto"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
)

// retryEvery is how often is tried again what could not be made true.
const retryEvery = 5 * time.Second

// Namespaces finds a running container's network namespace, for when gantry-net was killed and its sockets are to be made
// anew. The caller closes it.
type Namespaces func(container string) (*os.File, error)

// Client is gantryd's side. It knows all that gantry-net should, and says it over every new connection before anything else.
type Client struct {
	namespaces Namespaces

	mu        sync.Mutex
	net       *gantrynet.Session
	sandboxes map[string]netproto.Sandbox
	endpoints map[string]netproto.Endpoint
	missing   map[string]error // containers that are not served
	trouble   trouble.Log

	stop  context.CancelFunc // ends watch; nil before Ready
	ended chan struct{}
}

// New makes a client of the engine's gantry-net.
func New(program *gantrynet.Program, namespaces Namespaces) *Client {
	return &Client{
		namespaces: namespaces, net: gantrynet.NewSession(program),
		sandboxes: map[string]netproto.Sandbox{}, endpoints: map[string]netproto.Endpoint{}, missing: map[string]error{},
	}
}

var _ networks.Names = (*Client)(nil)

// Prepare implements networks.Names.
func (c *Client) Prepare(ns *os.File) error { return Redirect(ns) }

// Serve implements networks.Names.
func (c *Client) Serve(ctx context.Context, want spec.NameSandbox, at networks.NamePlace, joins ...spec.NameEndpoint) error {
	sb := sandbox(want)
	req := netproto.Request{Op: netproto.OpServe, Sandbox: &sb}
	for _, ep := range joins {
		req.Joins = append(req.Joins, netproto.Endpoint(ep))
	}
	var files []*os.File
	if at.NetNS != nil {
		var err error
		if files, err = listen(at); err != nil && !errors.Is(err, unix.EADDRINUSE) {
			return fmt.Errorf("serving names to container %s: %w", sb.Container, err)
		} // what is in use may be gantry-net's already
		defer closeAll(files)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a, err := c.change(ctx, req, files...)
	switch {
	case err != nil:
		return err
	case a.Deaf && at.NetNS != nil:
		return fmt.Errorf("serving names to container %s: port %d of %s is not free in its namespace", sb.Container, netproto.ResolverPort, netproto.ResolverAddress)
	case a.Deaf: // its sockets could not be made anew when gantry-net was killed, or it had none
		if err := c.serveIn(ctx, req); err != nil {
			return fmt.Errorf("serving names to container %s: %w", sb.Container, err)
		}
	}
	c.sandboxes[sb.Container] = sb
	delete(c.missing, sb.Container)
	for _, ep := range req.Joins {
		c.endpoints[ep.ID] = ep
	}
	failpoint.Hit("gantryd.names-served")
	return nil
}

// listen makes the sockets where what is sent to port 53 goes: there itself if it cannot be led elsewhere, which leaves
// the container without that port.
func listen(at networks.NamePlace) ([]*os.File, error) {
	if !at.Prepared {
		if err := Redirect(at.NetNS); err != nil {
			slog.Warn("a container's programs cannot have port 53 of every address: its DNS server takes it", "error", err)
			return open(at.NetNS, domainPort)
		}
	}
	return open(at.NetNS, netproto.ResolverPort)
}

// Join implements networks.Names.
func (c *Client) Join(ctx context.Context, want spec.NameEndpoint) error {
	ep := netproto.Endpoint(want)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.change(ctx, netproto.Request{Op: netproto.OpJoin, Endpoint: &ep}); err != nil {
		return err
	}
	c.endpoints[ep.ID] = ep
	return nil
}

// Leave implements networks.Names.
func (c *Client) Leave(ctx context.Context, endpoint string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.endpoints[endpoint]; !ok {
		return nil
	}
	delete(c.endpoints, endpoint)
	return c.forget(ctx, netproto.Request{Op: netproto.OpLeave, Owner: endpoint})
}

// Gone implements networks.Names.
func (c *Client) Gone(ctx context.Context, container string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known := c.sandboxes[container]
	delete(c.sandboxes, container)
	delete(c.missing, container)
	for id, ep := range c.endpoints {
		if ep.Container == container {
			known = true
			delete(c.endpoints, id)
		}
	}
	if !known {
		return nil
	}
	return c.forget(ctx, netproto.Request{Op: netproto.OpGone, Owner: container})
}

// Restore implements networks.Names.
func (c *Client) Restore(sb spec.NameSandbox, eps []spec.NameEndpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sandboxes[sb.Container] = sandbox(sb)
	for _, ep := range eps {
		c.endpoints[ep.ID] = netproto.Endpoint(ep)
	}
	c.net.Doubt()
}

// Ready implements networks.Names.
func (c *Client) Ready(ctx context.Context) {
	c.sync(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop == nil {
		watching, stop := context.WithCancel(context.WithoutCancel(ctx))
		c.stop, c.ended = stop, make(chan struct{})
		go c.watch(watching, c.ended)
	}
}

// Close implements networks.Names. gantry-net goes on while it serves a container.
func (c *Client) Close() error {
	c.mu.Lock()
	stop, ended := c.stop, c.ended
	c.stop = nil
	c.mu.Unlock()
	if stop != nil {
		stop()
		<-ended
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.net.HangUp()
	return nil
}

// watch makes things true again when gantry-net was lost, and tries again while something is not. It does not wake up
// otherwise.
func (c *Client) watch(ctx context.Context, ended chan<- struct{}) {
	defer close(ended)
	retry := time.NewTimer(retryEvery)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.net.Lost():
		case <-retry.C:
		}
		if !c.sync(ctx) {
			retry.Reset(retryEvery)
		}
	}
}

// sync makes gantry-net know what is known here and nothing else, and serve everybody. It tells with false that something
// is left to be tried again.
func (c *Client) sync(ctx context.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.settle(ctx)
	if ctx.Err() == nil {
		c.trouble.Say("containers' names are not all served", err)
	}
	return err == nil
}

// settle is sync under the lock.
func (c *Client) settle(ctx context.Context) error {
	if len(c.sandboxes)+len(c.endpoints) == 0 {
		if c.net.Connect(ctx, false) != nil {
			return nil // none runs, none is needed
		}
	} else if err := c.net.Connect(ctx, true); err != nil {
		return err
	}
	if err := c.tell(ctx); err != nil {
		return err
	}
	for _, container := range slices.Sorted(maps.Keys(c.missing)) {
		if err := c.serveAgain(ctx, container); err != nil {
			return err
		}
	}
	if !c.net.Tidy {
		req := netproto.Request{Op: netproto.OpKeepNames, Owners: slices.Sorted(maps.Keys(c.sandboxes)), Endpoints: slices.Sorted(maps.Keys(c.endpoints))}
		if _, err := c.net.Ask(ctx, req); err != nil {
			return err
		}
		c.net.Tidy = true
	}
	if len(c.sandboxes)+len(c.endpoints) == 0 {
		c.net.HangUp()
	}
	var errs []error
	for _, container := range slices.Sorted(maps.Keys(c.missing)) {
		errs = append(errs, fmt.Errorf("container %s: %w", container, c.missing[container]))
	}
	return errors.Join(errs...)
}

// tell says everything that gantry-net may not know. The caller holds the lock and is connected.
func (c *Client) tell(ctx context.Context) error {
	if c.net.Told {
		return nil
	}
	for _, ep := range c.endpoints {
		if _, err := c.net.Ask(ctx, netproto.Request{Op: netproto.OpJoin, Endpoint: &ep}); err != nil {
			return err
		}
	}
	for container := range c.sandboxes {
		if err := c.serveAgain(ctx, container); err != nil {
			return err
		}
	}
	c.net.Told = true
	return nil
}

// serveAgain has a container served whose sockets gantry-net may have, or not. The error is one of the connection; the
// container's own trouble is noted.
func (c *Client) serveAgain(ctx context.Context, container string) error {
	sb := c.sandboxes[container]
	delete(c.missing, container)
	req := netproto.Request{Op: netproto.OpServe, Sandbox: &sb}
	a, err := c.net.Ask(ctx, req)
	if err != nil || !a.Deaf {
		return err
	}
	err = c.serveIn(ctx, req)
	if err != nil && c.net.Connected() {
		c.missing[container] = err
		return nil
	}
	return err
}

// serveIn makes the sockets of a running container in its namespace, and sends the request with them.
func (c *Client) serveIn(ctx context.Context, req netproto.Request) error {
	ns, err := c.namespaces(req.Sandbox.Container)
	if err != nil {
		return fmt.Errorf("finding its network namespace: %w", err)
	}
	defer ns.Close()
	files, err := listen(networks.NamePlace{NetNS: ns})
	if err != nil {
		return err
	}
	defer closeAll(files)
	_, err = c.net.Ask(ctx, req, files...)
	return err
}

// change says something new to gantry-net, which is started if need be.
func (c *Client) change(ctx context.Context, req netproto.Request, files ...*os.File) (netproto.Answer, error) {
	a, err := c.changeOnce(ctx, req, files...)
	if errors.Is(err, gantrynet.ErrGone) { // it ended, or was killed, just now
		a, err = c.changeOnce(ctx, req, files...)
	}
	return a, err
}

func (c *Client) changeOnce(ctx context.Context, req netproto.Request, files ...*os.File) (a netproto.Answer, err error) {
	if err := c.net.Connect(ctx, true); err != nil {
		return a, err
	}
	if err := c.tell(ctx); err != nil {
		return a, err
	}
	return c.net.Ask(ctx, req, files...)
}

// forget takes something back, if a gantry-net runs that may know it, and hangs up with the last thing.
func (c *Client) forget(ctx context.Context, req netproto.Request) error {
	var err error
	if c.net.Connect(ctx, false) == nil {
		if _, err = c.net.Ask(ctx, req); errors.Is(err, gantrynet.ErrGone) {
			err = nil
		}
	}
	if len(c.sandboxes)+len(c.endpoints) == 0 {
		c.net.HangUp()
	}
	return err
}

func sandbox(want spec.NameSandbox) netproto.Sandbox {
	sb := netproto.Sandbox{Container: want.Container, Networks: want.Networks, Forward: want.Forward}
	for _, l := range want.Links {
		sb.Links = append(sb.Links, netproto.Link(l))
	}
	for _, s := range want.Servers {
		sb.Servers = append(sb.Servers, netproto.Server(s))
	}
	return sb
}

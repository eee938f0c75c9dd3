// Package cni is the driver of networks that CNI plugins make: a list of plugins of /etc/cni/net.d, run for each container.
package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
)

// optList names the list of plugins.
const optList = "conflist"

// Kind makes networks of CNI plugins. It implements networks.Kind.
type Kind struct {
	Conf     string        // folder of lists; empty is /etc/cni/net.d
	Bin      []string      // folders of plugins; none are /opt/cni/bin and /usr/lib/cni
	State    string        // folder for what plugins were asked to make
	Patience time.Duration // for one run of a list; 0 is a minute
}

func (k Kind) usual() Kind {
	if k.Conf == "" {
		k.Conf = "/etc/cni/net.d"
	}
	if len(k.Bin) == 0 {
		k.Bin = []string{"/opt/cni/bin", "/usr/lib/cni"}
	}
	if k.Patience == 0 {
		k.Patience = time.Minute
	}
	return k
}

// Settle implements networks.Kind: the list is there, and so are its plugins. Addresses are theirs.
func (k Kind) Settle(n *spec.Network) error {
	k = k.usual()
	if n.Recorded {
		return nil // what is wrong now is said when it is used
	}
	if len(n.Pools) > 0 || n.IPAM.Driver != "default" && n.IPAM.Driver != "null" && n.IPAM.Driver != "" {
		return fmt.Errorf("the addresses of a CNI network are those of its list of plugins: subnets and address drivers cannot be chosen: %w", errdefs.ErrInvalidArgument)
	}
	if n.Internal {
		return fmt.Errorf("whether a CNI network leads out is its list's to say: it cannot be internal: %w", errdefs.ErrInvalidArgument)
	}
	name, err := k.name(n.Options[optList])
	if err != nil {
		return err
	}
	list, err := k.load(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.Patience)
	defer cancel()
	if _, err := k.libcni().ValidateNetworkList(ctx, list); err != nil {
		return fmt.Errorf("CNI network %s (plugins are looked for in %s): %w: %w", name, strings.Join(k.Bin, ", "), err, errdefs.ErrInvalidArgument)
	}
	n.IPAM.Driver = "null"
	n.Options = maps.Clone(n.Options)
	if n.Options == nil {
		n.Options = map[string]string{}
	}
	n.Options[optList] = name
	return nil
}

// name is the list asked for, or the only one there is.
func (k Kind) name(asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	files, err := libcni.ConfFiles(k.Conf, []string{".conflist", ".conf", ".json"})
	if err != nil {
		return "", fmt.Errorf("looking for CNI networks in %s: %w", k.Conf, err)
	}
	var names []string
	for _, f := range files {
		var conf struct{ Name string }
		if text, err := os.ReadFile(f); err == nil && json.Unmarshal(text, &conf) == nil && conf.Name != "" {
			names = append(names, conf.Name)
		}
	}
	if len(names) != 1 {
		slices.Sort(names)
		return "", fmt.Errorf("which CNI network? Name one with -o %s=<name>; %s has %d: %s: %w", optList, k.Conf, len(names), strings.Join(names, ", "), errdefs.ErrInvalidArgument)
	}
	return names[0], nil
}

func (k Kind) load(name string) (*libcni.NetworkConfigList, error) {
	list, err := libcni.LoadConfList(k.Conf, name)
	var none libcni.NoConfigsFoundError
	var notThis libcni.NotFoundError
	if errors.As(err, &none) || errors.As(err, &notThis) {
		return nil, fmt.Errorf("there is no CNI network %s in %s: %w", name, k.Conf, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("reading CNI networks of %s: %w: %w", k.Conf, err, errdefs.ErrInvalidArgument)
	}
	return list, nil
}

func (k Kind) libcni() *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(k.Bin, filepath.Join(k.State, "cache"), nil)
}

// New implements networks.Kind.
func (k Kind) New(n spec.Network, _ networks.Space) (networks.Driver, error) {
	k = k.usual()
	return &driver{kind: k, net: n, cni: k.libcni(), lives: map[string]bool{}}, nil
}

// note is an attachment that plugins were asked for, written before they are. With it they can be asked to end it, whatever
// has become of their list.
type note struct {
	Network, Container, Interface string
	List                          json.RawMessage
	Args                          [][2]string
	Capabilities                  map[string]any
}

func (k Kind) notes() ([]note, error) {
	files, err := filepath.Glob(filepath.Join(k.State, "*.json"))
	if err != nil {
		return nil, err
	}
	var out []note
	var errs []error
	for _, f := range files {
		var n note
		text, err := os.ReadFile(f)
		if err == nil {
			err = json.Unmarshal(text, &n)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f, err))
			continue
		}
		out = append(out, n)
	}
	return out, errors.Join(errs...)
}

func (k Kind) path(container string) string { return filepath.Join(k.State, container+".json") }

func (k Kind) save(n note) error {
	text, err := json.Marshal(n)
	if err == nil {
		err = os.MkdirAll(k.State, 0o700)
	}
	if err == nil {
		err = atomicfile.Write(k.path(n.Container), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("noting what CNI plugins make: %w", err)
	}
	return nil
}

// end has plugins end an attachment, and forgets it. netns may be empty, when the container is gone.
func (k Kind) end(ctx context.Context, n note, netns string) error {
	list, err := libcni.NetworkConfFromBytes(n.List)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, k.Patience)
	defer cancel()
	rt := &libcni.RuntimeConf{ContainerID: n.Container, NetNS: netns, IfName: n.Interface, Args: n.Args, CapabilityArgs: n.Capabilities}
	if err := k.libcni().DelNetworkList(ctx, list, rt); err != nil {
		return fmt.Errorf("CNI network %s: DEL: %w: %w", list.Name, err, errdefs.ErrInternal)
	}
	if err := os.Remove(k.path(n.Container)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Sweep implements networks.Kind: ends what containers of networks had that were never recorded, behind the daemon's start.
func (k Kind) Sweep(_ context.Context, known func(id string) bool) error {
	k = k.usual()
	all, err := k.notes()
	for _, n := range all {
		if known(n.Network) {
			continue
		}
		go func() {
			if err := k.end(context.Background(), n, ""); err != nil {
				slog.Warn("what CNI plugins made for a network that was never recorded stays; it is tried again at the next start", "network", n.Network, "error", err)
			}
		}()
	}
	return err
}

// driver is one network of CNI plugins. It implements networks.Driver.
type driver struct {
	kind Kind
	net  spec.Network
	cni  *libcni.CNIConfig

	mu    sync.Mutex
	lives map[string]bool // attachments of containers that lived on, by endpoint
	work  sync.WaitGroup
}

// Open implements networks.Driver: plugins make what they need with the first container.
func (d *driver) Open(context.Context) error { return nil }

// Ready implements networks.Driver: what containers had that are gone is ended, behind the daemon's start.
func (d *driver) Ready(context.Context) error {
	all, err := d.kind.notes()
	for _, n := range all {
		d.mu.Lock()
		lives := d.lives[n.Container]
		d.mu.Unlock()
		if n.Network != d.net.ID || lives {
			continue
		}
		d.work.Go(func() {
			if err := d.kind.end(context.Background(), n, ""); err != nil {
				slog.Warn("what CNI plugins made for a container that is gone stays; it is tried again at the next start", "network", d.net.Name, "error", err)
			}
		})
	}
	return err
}

// Close implements networks.Driver. What plugins share between containers (a bridge) is theirs, and stays: the protocol has no
// end of a network.
func (d *driver) Close(context.Context, bool) error {
	d.work.Wait()
	return nil
}

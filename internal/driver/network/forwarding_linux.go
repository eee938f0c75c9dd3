package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// forwarding lets the host pass packets between interfaces, and knows whether this engine is the one who switched it on,
// now or before a restart: a file in the exec root remembers it until the next boot, as long as the setting itself lasts.
type forwarding struct {
	execRoot  string
	off       bool // --ip-forward=false
	switched4 bool
}

// enableForwarding switches IPv4's forwarding on. IPv6's is switched on with the first network that has it.
func enableForwarding(cfg Config) (*forwarding, error) {
	f := &forwarding{execRoot: cfg.ExecRoot, off: cfg.NoIPForward}
	if f.off {
		return f, nil
	}
	var err error
	f.switched4, err = f.on("net.ipv4.ip_forward", "ip-forward-switched-on", nil)
	if err != nil {
		return f, errors.Join(errors.New("containers would not reach other hosts, start with --ip-forward=false to accept that"), err)
	}
	return f, nil
}

const forward6, marker6 = "net.ipv6.conf.all.forwarding", "ip6-forward-switched-on"

// switches6 tells whether it is, or would be, this engine that makes the host forward IPv6.
func (f *forwarding) switches6() bool {
	now, err := netlink.ReadSysctl(forward6)
	return !f.off && err == nil && (now == "0" || f.marked(marker6))
}

// ipv6 switches IPv6's forwarding on. A host that forwards no longer listens to routers by itself: those interfaces that do
// now are told to go on, or the host would lose its own way out.
func (f *forwarding) ipv6() error {
	if f.off {
		return nil
	}
	_, err := f.on(forward6, marker6, goOnListening)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("this kernel has no IPv6: %w", err)
	}
	return err
}

// goOnListening makes interfaces that accept routers' announcements do so also on a host that forwards.
func goOnListening() error {
	dirs, err := filepath.Glob("/proc/sys/net/ipv6/conf/*")
	if err != nil {
		return err
	}
	for _, d := range dirs {
		name := "net/ipv6/conf/" + filepath.Base(d) + "/accept_ra"
		if b, err := os.ReadFile("/proc/sys/" + name); err != nil || len(b) == 0 || b[0] != '1' || filepath.Base(d) == "all" {
			continue
		}
		if err := netlink.WriteSysctl(name, "2"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (f *forwarding) on(name, marker string, before func() error) (switched bool, err error) {
	now, err := netlink.ReadSysctl(name)
	if err != nil {
		return false, err
	}
	if now != "0" {
		return f.marked(marker), nil
	}
	if before != nil {
		if err := before(); err != nil {
			return false, err
		}
	}
	if err := netlink.WriteSysctl(name, "1"); err != nil {
		return false, err
	}
	return true, os.WriteFile(filepath.Join(f.execRoot, marker), nil, 0o600)
}

func (f *forwarding) marked(marker string) bool {
	_, err := os.Stat(filepath.Join(f.execRoot, marker))
	return err == nil
}

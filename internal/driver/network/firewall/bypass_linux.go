package firewall

import (
	"fmt"
	"strings"

	"github.com/google/nftables"
)

// Without RespectHost published ports never meet the host's input chains. Where these
// would let nobody in by themselves, the user should know.

// Bypassed names a firewall of the host that drops or rejects what it does not allow,
// and that outsiders' packets to published ports do not meet. ok is false where there
// is none, where it is respected, and where no port is open to outsiders.
func (f *Firewall) Bypassed() (who string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hostFirewall, f.bypassed() != nil
}

// bypassed is that as a trouble to be logged. The caller holds the lock.
func (f *Firewall) bypassed() error {
	if f.cfg.RespectHost || f.hostFirewall == "" {
		return nil
	}
	for m := range f.wanted.ports {
		if m.Port != 0 && !m.Host.IsLoopback() {
			return fmt.Errorf("%s does not judge them; --respect-host-firewall makes it do so, and -p 127.0.0.1:…: keeps a port to this host", f.hostFirewall)
		}
	}
	return nil
}

// findHostFirewall looks for input chains that close, and names the first one's owner; empty if there is none.
func (k *kernel) findHostFirewall() (who string, err error) {
	chains, err := k.foreign(nftables.ChainHookInput)
	for _, c := range chains {
		if _, ok := c.closes(); ok {
			return c.owner(), nil
		}
	}
	return "", err
}

// owner names the program that keeps a chain, if it is a known one.
func (c foreignChain) owner() string {
	if c.Table.Name == "firewalld" {
		return "firewalld"
	}
	for _, r := range c.rules {
		for _, s := range r.steps {
			if strings.HasPrefix(s.chain, "ufw-") || strings.HasPrefix(s.chain, "ufw6-") {
				return "ufw"
			}
		}
	}
	return fmt.Sprintf("chain %s of nftables table %s %s", c.Name, familyName(c.Table.Family), c.Table.Name)
}

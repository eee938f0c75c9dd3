package netlink

import (
	"fmt"

	nl "github.com/vishvananda/netlink"
)

// Groups tells each interface's device group by name. The kernel's default is 0.
func (c *Conn) Groups() (map[string]uint32, error) {
	all, err := c.h.LinkList()
	if err != nil {
		return nil, fmt.Errorf("listing network interfaces: %w", err)
	}
	out := make(map[string]uint32, len(all))
	for _, l := range all {
		out[l.Attrs().Name] = l.Attrs().Group
	}
	return out, nil
}

// Group is one interface's device group; os.ErrNotExist if there is no such interface.
func (c *Conn) Group(name string) (uint32, error) {
	l, err := c.h.LinkByName(name)
	if err != nil {
		return 0, missing(name, err)
	}
	return l.Attrs().Group, nil
}

// SetGroup puts an interface into a device group, by which packet rules can tell it.
func (c *Conn) SetGroup(name string, group uint32) error {
	l, err := c.h.LinkByName(name)
	if err != nil {
		return missing(name, err)
	}
	if err := c.h.LinkSetGroup(&nl.GenericLink{LinkAttrs: *l.Attrs()}, int(group)); err != nil {
		return fmt.Errorf("putting network interface %s into group %d: %w", name, group, err)
	}
	return nil
}

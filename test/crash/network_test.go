package crash

import (
	"errors"
	"fmt"
	"net/http"
)

// networks makes two networks, runs a container on one that comes to the other and leaves it, and takes all away. The
// container sees its interfaces come and go, whatever is killed meanwhile, and finds itself by its name.
func (c *trial) networks() error { return c.onNetworks("bridge", "bridge") }

// below does the same with a network of interfaces below one of the host's.
func (c *trial) below() error { return c.onNetworks("bridge", "macvlan") }

func (c *trial) onNetworks(first, second string) error {
	for n, driver := range []string{first, second} {
		if err := c.network(n, driver); err != nil {
			return err
		}
	}
	script := `until nslookup ` + c.name + ` 127.0.0.11 >/dev/null 2>&1; do sleep 0.02; done
while [ ! -e /sys/class/net/eth1 ]; do sleep 0.02; done; echo came
while [ -e /sys/class/net/eth1 ]; do sleep 0.02; done; echo went; exit 5`
	body := c.shell(script, map[string]any{"NetworkMode": c.named(0), "PortBindings": ephemeral})
	id, _, err := c.up(body)
	if err != nil {
		return err
	}
	if err := c.member("connect", id, http.StatusForbidden); err != nil {
		return err
	}
	if err := insist("the interface to come", func() (bool, string, error) {
		out, err := c.logs(id, false)
		return out != "", "it has not come", err
	}); err != nil {
		return err
	}
	if err := c.member("disconnect", id, http.StatusForbidden); err != nil {
		return err
	}
	if err := c.finish(id, 5, "came\nwent\n"); err != nil {
		return err
	}
	for n := range 2 {
		if err := c.done("DELETE", "/networks/"+c.named(n), http.StatusNoContent, http.StatusNotFound); err != nil {
			return err
		}
	}
	return nil
}

func (c *trial) named(n int) string { return fmt.Sprintf("%s-%d", c.name, n) }

// network makes one of the trial's networks.
func (c *trial) network(n int, driver string) error {
	return insist("making "+c.named(n), func() (bool, string, error) {
		st, b, err := c.do("POST", "/networks/create", map[string]any{"Name": c.named(n), "Driver": driver})
		if errors.Is(err, errDown) {
			return false, err.Error(), nil
		}
		return st == http.StatusCreated || st == http.StatusConflict, fmt.Sprintf("%d %s", st, b), err
	})
}

// member connects the container to the second network or disconnects it. done is the answer when it is so already.
func (c *trial) member(verb, id string, done int) error {
	return insist(verb, func() (bool, string, error) {
		st, b, err := c.do("POST", "/networks/"+c.named(1)+"/"+verb, map[string]any{"Container": id})
		if errors.Is(err, errDown) {
			return false, err.Error(), nil
		}
		return st == http.StatusOK || st == done, fmt.Sprintf("%d %s", st, b), err
	})
}

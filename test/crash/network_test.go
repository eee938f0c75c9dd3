package crash

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"sync"
)

// networks makes two networks, runs a container on one that comes to the other and leaves it, and takes all away. The
// container sees its interfaces come and go, whatever is killed meanwhile, and finds itself by its name.
func (c *trial) networks() error { return c.onNetworks(map[string]any{"Driver": "bridge"}) }

// below does the same with a network of interfaces below one of the host's.
func (c *trial) below() error {
	if dummies() { // the network makes its own
		return c.onNetworks(map[string]any{"Driver": "macvlan"})
	}
	parent := "p-" + c.name
	if out, err := exec.Command("ip", "link", "add", parent, "type", "veth", "peer", "name", "q-"+c.name).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	err := c.onNetworks(map[string]any{"Driver": "macvlan", "Options": map[string]any{"parent": parent}})
	out, derr := exec.Command("ip", "link", "del", parent).CombinedOutput()
	if derr != nil {
		derr = fmt.Errorf("%w: %s", derr, out)
	}
	return errors.Join(err, derr)
}

func (c *trial) onNetworks(second map[string]any) error {
	for n, body := range []map[string]any{{"Driver": "bridge"}, second} {
		if err := c.network(n, body); err != nil {
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
func (c *trial) network(n int, body map[string]any) error {
	body["Name"] = c.named(n)
	return insist("making "+c.named(n), func() (bool, string, error) {
		st, b, err := c.do("POST", "/networks/create", body)
		if errors.Is(err, errDown) {
			return false, err.Error(), nil
		}
		there := st == http.StatusConflict && bytes.Contains(b, []byte("already exists"))
		return st == http.StatusCreated || there, fmt.Sprintf("%d %s", st, b), err
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

// dummies tells whether the kernel has interfaces that lead nowhere, of which networks without a parent are made.
var dummies = sync.OnceValue(func() bool {
	if exec.Command("ip", "link", "add", "gtry0", "type", "dummy").Run() != nil {
		return false
	}
	_ = exec.Command("ip", "link", "del", "gtry0").Run()
	return true
})

// beyond tells of failpoints that this kernel cannot come to.
func beyond(point string) bool {
	return !dummies() && (point == "gantryd.lower-unnamed" || point == "gantryd.lower-retired")
}

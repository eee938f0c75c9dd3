package crash

import (
	"errors"
	"fmt"
	"net/http"
)

// named lets a container find itself by its name on a network of its own.
func (c *trial) named() error {
	network := c.name + "-net"
	if err := c.request("POST", "/networks/create", map[string]any{"Name": network}, http.StatusCreated, http.StatusConflict); err != nil {
		return err
	}
	script := fmt.Sprintf("until ping -c1 -W1 %s.%s >/dev/null 2>&1; do usleep 50000; done; echo ran >> /out/ran; exit 7", c.name, network)
	id, _, err := c.up(c.shell(script, map[string]any{"NetworkMode": network}))
	if err != nil {
		return err
	}
	if err := c.finish(id, 7, ""); err != nil {
		return err
	}
	if err := c.once(); err != nil {
		return err
	}
	return c.request("DELETE", "/networks/"+network, nil, http.StatusNoContent, http.StatusNotFound)
}

// request is made until the daemon lives to answer it; what an earlier one has done already is fine, too.
func (c *trial) request(method, path string, body any, done, already int) error {
	return insist(method+" "+path, func() (bool, string, error) {
		st, b, err := c.do(method, path, body)
		if errors.Is(err, errDown) {
			return false, err.Error(), nil
		}
		return st == done || st == already, fmt.Sprintf("%d %s", st, b), err
	})
}

// connected connects a running container with another network, and disconnects it.
func (c *trial) connected() error {
	network := c.name + "-net"
	if err := c.request("POST", "/networks/create", map[string]any{"Name": network}, http.StatusCreated, http.StatusConflict); err != nil {
		return err
	}
	id, err := c.running(nil)
	if err != nil {
		return err
	}
	for _, verb := range []string{"connect", "disconnect"} { // what an earlier daemon has done is refused: forbidden
		if err := c.request("POST", "/networks/"+network+"/"+verb, map[string]any{"Container": id}, http.StatusOK, http.StatusForbidden); err != nil {
			return err
		}
	}
	if err := c.remove(id); err != nil {
		return err
	}
	return c.request("DELETE", "/networks/"+network, nil, http.StatusNoContent, http.StatusNotFound)
}

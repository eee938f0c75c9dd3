package dockerroot

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
)

// Network is a network that a user made.
type Network struct {
	Name, ID, Driver, Scope          string
	EnableIPv6, Internal, Attachable bool
	ConfigOnly                       bool
	ConfigFrom                       string
	Labels, Options                  map[string]string
	IPAM                             string // driver
	Pools                            []Pool // as the user chose them; none where Docker chose
}

// Pool is a range of addresses.
type Pool struct {
	Subnet  string `json:"PreferredPool"`
	Range   string `json:"SubPool"`
	Gateway string
	Aux     map[string]string `json:"AuxAddresses"`
}

// networkRecord is a network as the database has it.
type networkRecord struct {
	Name         string                     `json:"name"`
	ID           string                     `json:"id"`
	Type         string                     `json:"networkType"`
	Scope        string                     `json:"scope"`
	EnableIPv6   bool                       `json:"enableIPv6"`
	Internal     bool                       `json:"internal"`
	Attachable   bool                       `json:"attachable"`
	Ingress      bool                       `json:"ingress"`
	InDelete     bool                       `json:"inDelete"`
	ConfigOnly   bool                       `json:"configOnly"`
	ConfigFrom   string                     `json:"configFrom"`
	Labels       map[string]string          `json:"labels"`
	Generic      map[string]json.RawMessage `json:"generic"`
	IPAM         string                     `json:"ipamType"`
	IPAMv4Config string                     `json:"ipamV4Config"`
	IPAMv6Config string                     `json:"ipamV6Config"`
}

const (
	networkKeys    = "docker/network/v1.0/network/"
	genericOptions = "com.docker.network.generic"
)

// predefined are the networks that every engine has.
var predefined = []string{"bridge", "host", "none", "ingress", "docker_gwbridge"}

// Networks lists the networks that users made.
func (r *Root) Networks() (list []Network, problems []Problem) {
	err := each(filepath.Join(r.Path, "network", "files", "local-kv.db"), "libnetwork", func(k, v []byte) {
		if !strings.HasPrefix(string(k), networkKeys) {
			return
		}
		// A record begins with the number of its last change.
		if at := strings.IndexByte(string(v), '{'); at > 0 {
			v = v[at:]
		}
		n, err := network(v)
		if err != nil {
			problems = append(problems, Problem{"network", strings.Trim(strings.TrimPrefix(string(k), networkKeys), "/"), err})
		} else if n != nil {
			list = append(list, *n)
		}
	})
	if err != nil {
		problems = append(problems, Problem{"network", "(all)", err})
	}
	slices.SortFunc(list, func(a, b Network) int { return strings.Compare(a.Name, b.Name) })
	return list, problems
}

// network decodes a record; nothing for one that every engine has, or that is being deleted.
func network(b []byte) (*Network, error) {
	var w networkRecord
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, errors.New("its record is not the JSON it should be")
	}
	if w.InDelete || w.Ingress || slices.Contains(predefined, w.Name) {
		return nil, nil
	}
	n := &Network{Name: w.Name, ID: w.ID, Driver: w.Type, Scope: w.Scope, EnableIPv6: w.EnableIPv6, Internal: w.Internal, Attachable: w.Attachable, ConfigOnly: w.ConfigOnly,
		ConfigFrom: w.ConfigFrom, Labels: w.Labels, IPAM: w.IPAM}
	if raw := w.Generic[genericOptions]; raw != nil {
		if err := json.Unmarshal(raw, &n.Options); err != nil {
			return nil, errors.New("its options are not what they should be")
		}
	}
	for _, text := range []string{w.IPAMv4Config, w.IPAMv6Config} {
		var pools []Pool
		if text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(text), &pools); err != nil {
			return nil, errors.New("its addresses are not what they should be")
		}
		for _, p := range pools {
			if p.Subnet != "" {
				n.Pools = append(n.Pools, p)
			}
		}
	}
	return n, nil
}

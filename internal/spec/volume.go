package spec

import "time"

// Volume is a named directory that outlives containers.
type Volume struct {
	Name       string
	Driver     string
	Mountpoint string // absolute directory on the host, ready to be bind-mounted
	Labels     map[string]string
	Options    map[string]string
	Created    time.Time
	Anonymous  bool
}

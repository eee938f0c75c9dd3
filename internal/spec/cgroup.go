package spec

// Cgroup is where a container's processes are accounted and limited.
type Cgroup struct {
	// Path is the cgroup's path below each hierarchy's root, e.g. "/gantry/<id>".
	Path string
	// Dirs are absolute directories by controller on v1 ("memory" → …), or the
	// single key "" on v2. A hybrid host counts as v1: its v2 hierarchy has no controllers and is left alone.
	Dirs map[string]string
	// Systemd is set where a systemd scope owns the cgroup.
	Systemd bool
	// Hold, unless nil, ends the placeholder that keeps a new, empty scope there. It is called once, when the
	// container's process is inside or its start has failed.
	Hold func() `json:"-"`
}

package cgroup

import (
	"errors"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/spec"
	sys "github.com/gantry-engine/gantry/internal/sys/cgroup"
)

// createScope has systemd make gantry-<container>.scope in the slice parent, held until the launch is over.
func (d *Driver) createScope(container, parent string, r *specs.LinuxResources) (cg spec.Cgroup, err error) {
	res, err := sys.Resources(r)
	if err != nil {
		return cg, err
	}
	scope := sys.Scope{Slice: parent, Prefix: "gantry", Name: container}
	cg = spec.Cgroup{Systemd: true}
	if cg.Path, err = scope.Path(); err != nil {
		return spec.Cgroup{}, err
	}
	if cg.Dirs, cg.Hold, err = scope.Make(d.holder); err != nil {
		return spec.Cgroup{}, err
	}
	if err := set(cg, res); err != nil {
		cg.Hold()
		return spec.Cgroup{}, errors.Join(err, destroy(cg))
	}
	return cg, nil
}

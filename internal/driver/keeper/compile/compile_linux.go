// Package compile turns a launch into a program for gantry-init with the runtime library. It is what the
// keeper's driver is given as its Compiler: that driver knows the wire, the runtime knows the kernel, and
// neither knows the other.
package compile

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/service/containers/ocispec"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/runtime"
)

const cgroupRoot = "/sys/fs/cgroup"

var cloneFlags = map[specs.LinuxNamespaceType]uint64{
	specs.MountNamespace: unix.CLONE_NEWNS, specs.NetworkNamespace: unix.CLONE_NEWNET, specs.PIDNamespace: unix.CLONE_NEWPID,
	specs.IPCNamespace: unix.CLONE_NEWIPC, specs.UTSNamespace: unix.CLONE_NEWUTS, specs.UserNamespace: unix.CLONE_NEWUSER,
	specs.CgroupNamespace: unix.CLONE_NEWCGROUP, specs.TimeNamespace: unix.CLONE_NEWTIME,
}

// Launch gives the program and the clone-time facts of a launch.
func Launch(l spec.Launch) (program, facts []byte, err error) {
	p, err := runtime.Compile(l.OCI, options(l))
	if err != nil {
		return nil, nil, fmt.Errorf("preparing %s: %w", l.Key, err)
	}
	return p.Init, p.Facts.Encode(), nil
}

func options(l spec.Launch) runtime.Options {
	o := runtime.Options{
		Rootfs:  runtime.Rootfs{Lower: l.Rootfs.Lower, Upper: l.Rootfs.Upper, Work: l.Rootfs.Work, Path: l.Rootfs.Path, Options: l.Rootfs.Options},
		SetHome: true, UseInit: l.UseInit, NetNS: l.NetNS != nil,
	}
	if l.OCI.Process != nil {
		o.UserString = cmp.Or(l.OCI.Process.User.Username, "0") // root's groups are looked up too
	}
	if g := l.OCI.Annotations[ocispec.AnnotationGroups]; g != "" {
		o.Groups = strings.Split(g, ",")
	}
	for _, j := range l.Join {
		o.Joined |= cloneFlags[j.Kind]
	}
	if l.Key.Exec != "" {
		o.Exec = true
		// setns(2) into one's own user namespace fails, and a time namespace costs a copy of the address
		// space: they are joined only where the container has its own.
		o.TargetNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
		if l.OCI.Linux != nil {
			for _, n := range l.OCI.Linux.Namespaces {
				o.TargetNamespaces |= cloneFlags[n.Type] & (unix.CLONE_NEWUSER | unix.CLONE_NEWTIME)
			}
		}
	} else {
		o.CreateCwd = true
	}
	if l.Key.Container != "" {
		o.Keyring = "_ses." + l.Key.Container // not the engine's
	}
	cgroups(&o, l.Cgroup)
	return o
}

// cgroups says where the process is born, and what a mount of type cgroup shows.
func cgroups(o *runtime.Options, cg spec.Cgroup) {
	seen := map[string]bool{}
	for _, controller := range slices.Sorted(maps.Keys(cg.Dirs)) {
		dir := cg.Dirs[controller]
		if dir == "" || seen[dir] {
			continue
		}
		seen[dir] = true
		if controller == "" || controller == "unified" {
			o.CgroupV2 = dir
		} else {
			o.Tasks = append(o.Tasks, filepath.Join(dir, "tasks"))
		}
		if controller == "" {
			o.CgroupDirs = append(o.CgroupDirs, runtime.CgroupDir{Dir: dir})
			continue
		}
		// A hierarchy of several controllers is a folder named after all, with a link per controller.
		name, _, _ := strings.Cut(strings.TrimPrefix(dir, cgroupRoot+"/"), "/")
		d := runtime.CgroupDir{Name: name, Dir: dir}
		if list := strings.Split(name, ","); len(list) > 1 {
			d.Link = list
		}
		o.CgroupDirs = append(o.CgroupDirs, d)
	}
}

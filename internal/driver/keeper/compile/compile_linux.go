// Package compile turns a launch into a program for gantry-init with the runtime
// library. It is what the keeper's driver is given as its Compiler.
package compile

import (
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/runtime"
)

// GroupsAnnotation carries --group-add, names that init looks up, separated by commas.
const GroupsAnnotation = "io.gantry.groups"

// execNamespaces are what a further process joins of the container's init.
const execNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWCGROUP

// Launch gives the program and the clone-time facts of a launch.
func Launch(l spec.Launch) (program, facts []byte, err error) {
	p, err := runtime.Compile(l.OCI, options(l))
	if err != nil {
		return nil, nil, err
	}
	return p.Init, p.Facts.Encode(), nil
}

func options(l spec.Launch) runtime.Options {
	o := runtime.Options{
		Rootfs: runtime.Rootfs{
			Lower: l.Rootfs.Lower, Upper: l.Rootfs.Upper, Work: l.Rootfs.Work, Path: l.Rootfs.Path, Options: l.Rootfs.Options,
		},
		SetHome: true, CreateCwd: l.Key.Exec == "", UseInit: l.UseInit, NetNS: l.NetNS != nil, Exec: l.Key.Exec != "",
	}
	if l.OCI != nil && l.OCI.Process != nil {
		o.UserString = l.OCI.Process.User.Username
	}
	if l.OCI != nil {
		if groups := l.OCI.Annotations[GroupsAnnotation]; groups != "" {
			o.Groups = strings.Split(groups, ",")
		}
	}
	if o.Exec {
		o.TargetNamespaces = execNamespaces
		if l.OCI != nil && l.OCI.Linux != nil {
			for _, ns := range l.OCI.Linux.Namespaces {
				if ns.Type == specs.UserNamespace || ns.Type == specs.TimeNamespace {
					o.TargetNamespaces |= runtime.NamespaceFlag(ns.Type)
				}
			}
		}
	}
	for _, j := range l.Join {
		o.Joined |= runtime.NamespaceFlag(j.Kind)
	}
	cgroups(l.Cgroup, &o)
	return o
}

// cgroups says where the process is born, and what it is shown of it.
func cgroups(cg spec.Cgroup, o *runtime.Options) {
	if dir := cg.Dirs[""]; dir != "" {
		o.CgroupV2 = dir
		o.CgroupDirs = []runtime.CgroupDir{{Dir: dir}}
		return
	}
	byDir := map[string]*runtime.CgroupDir{}
	var order []string
	for _, controller := range sortedKeys(cg.Dirs) {
		dir := cg.Dirs[controller]
		if controller == "unified" {
			o.CgroupV2 = dir
			continue
		}
		d := byDir[dir]
		if d == nil {
			// The hierarchy's folder may carry several controllers' names, "cpu,cpuacct".
			d = &runtime.CgroupDir{Dir: dir, Name: filepath.Base(strings.TrimSuffix(dir, cg.Path))}
			byDir[dir] = d
			order = append(order, dir)
			o.Tasks = append(o.Tasks, filepath.Join(dir, "tasks"))
		}
		if name := strings.TrimPrefix(controller, "name="); name != d.Name {
			d.Link = append(d.Link, name)
		}
	}
	for _, dir := range order {
		o.CgroupDirs = append(o.CgroupDirs, *byDir[dir])
	}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

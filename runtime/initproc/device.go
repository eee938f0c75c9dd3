//go:build linux

package initproc

import (
	"syscall"

	"github.com/gantry-engine/gantry/runtime/program"
)

// split cuts a path into its folder and its last component.
func split(path string) (dir, name string) {
	end := len(path)
	for end > 1 && path[end-1] == '/' {
		end--
	}
	i := end
	for i > 0 && path[i-1] != '/' {
		i--
	}
	dir, name = path[:i], path[i:end]
	if dir == "" {
		dir = "/"
	}
	return dir, name
}

// device is a node, or a pipe, to be made.
type device struct {
	path                          []byte
	mode, number, uid, gid, flags uint64
}

func makeDevice(root *rootfs, o *program.Reader) *failure {
	d := device{o.Str(), o.Num(), o.Num(), o.Num(), o.Num(), o.Num()}
	if o.Bad {
		return nil
	}
	return d.make(root)
}

func (d *device) make(root *rootfs) *failure {
	if d.flags&program.MknodBind != 0 {
		return d.bind(root)
	}
	dir, name := split(string(d.path))
	parent, e := root.folder(dir)
	if e != 0 {
		return fail("device", string(d.path), e)
	}
	if inside, _ := onProc(parent); inside {
		return failText("device", string(d.path), syscall.EPERM, cat("device ", string(d.path), ": its folder is in /proc"))
	}
	node := cstr(name)
	old, _ := call(syscall.SYS_UMASK, 0, 0, 0) // the mode is meant as it is given
	_, e = call6(syscall.SYS_MKNODAT, parent, ptr(node), uintptr(d.mode), uintptr(d.number), 0, 0)
	call(syscall.SYS_UMASK, old, 0, 0)
	if e == syscall.EPERM {
		return d.bind(root)
	}
	if e == syscall.EEXIST {
		return d.same(parent, node)
	}
	if e != 0 {
		return fail("device", string(d.path), e)
	}
	if d.uid|d.gid != 0 {
		if _, e := call6(syscall.SYS_FCHOWNAT, parent, ptr(node), uintptr(d.uid), uintptr(d.gid), atNoFollow, 0); e != 0 {
			return fail("device owner", string(d.path), e)
		}
	}
	return nil
}

// same accepts a node that is there already if it is the very device.
func (d *device) same(parent uintptr, node []byte) *failure {
	fd, e := openat2(parent, node, oPath|uint64(oNoFollow), 0, resolveBelow)
	if e != 0 {
		return fail("device", string(d.path), e)
	}
	defer closeFD(fd)
	var st syscall.Stat_t
	if e := fstat(fd, &st); e != 0 {
		return fail("device", string(d.path), e)
	}
	if uint64(st.Mode&syscall.S_IFMT) != d.mode&syscall.S_IFMT || uint64(st.Rdev) != d.number && d.mode&syscall.S_IFMT != syscall.S_IFIFO {
		return failText("device", string(d.path), syscall.EEXIST, cat("device ", string(d.path), ": something else is there already"))
	}
	return nil
}

// bind binds the host's node, for user namespaces, which cannot make nodes.
func (d *device) bind(root *rootfs) *failure {
	tree, e := openTree(atFDCWD, d.path, treeClone)
	if e != 0 {
		return fail("device", string(d.path), e)
	}
	defer closeFD(tree)
	target, f := root.mountPoint(d.path, "", true, false, none)
	if f != nil {
		return f
	}
	defer closeFD(target)
	if e := moveMount(tree, target); e != 0 {
		return fail("device", string(d.path), e)
	}
	return nil
}

func symlink(root *rootfs, to, path []byte) *failure {
	dir, name := split(string(path))
	parent, e := root.folder(dir)
	if e != 0 {
		return fail("link", string(path), e)
	}
	_, e = call(syscall.SYS_SYMLINKAT, ptr(to), parent, ptr(cstr(name)))
	if ignoreExist(e) != 0 {
		return fail("link", string(path), e)
	}
	return nil
}

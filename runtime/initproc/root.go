//go:build linux

package initproc

import (
	"syscall"

	"github.com/gantry-engine/gantry/runtime/program"
)

// rootfs is the container's root file system. Until pivot only its descriptor reaches it; its paths
// are resolved inside it.
type rootfs struct {
	fd      uintptr // a detached or attached mount, or none for "/"
	pivoted bool    // it is this process's own root
	dir     uintptr // the folder that the last paths were in, see target; or none
	dirPath string
}

// propagation changes "/" of the new mount namespace, so that nothing leaks to the host.
func propagation(all, top uintptr) *failure {
	for _, flags := range [2]uintptr{all, top} {
		if flags == 0 {
			continue
		}
		if f := propagate("mount propagation", flags); f != nil {
			return f
		}
	}
	return nil
}

func propagate(stage string, flags uintptr) *failure {
	if _, e := call6(syscall.SYS_MOUNT, ptr(nil), ptr([]byte("/\x00")), 0, flags, 0, 0); e != 0 {
		return fail(stage, "/", e)
	}
	return nil
}

// handle gives the descriptor that paths are resolved from.
func (r *rootfs) handle() uintptr {
	if r.fd == none {
		fd, e := open("/", oPath|oDirectory)
		if e == 0 {
			r.fd = fd
		}
	}
	return r.fd
}

// bind takes a folder of the host as the root.
func (r *rootfs) bind(path []byte, readonly, plain bool) *failure {
	if plain { // the mount namespace is somebody else's
		root, e := open(string(path), oPath|oDirectory)
		if e != 0 {
			return fail("root file system", string(path), e)
		}
		r.fd = root
		return nil
	}
	tree, e := openTree(atFDCWD, path, treeClone|atRecursive)
	if e != 0 {
		return fail("root file system", string(path), e)
	}
	if readonly {
		a := mountAttr{set: attrRdonly}
		if e := setattr(tree, nil, atEmptyPath, &a); e != 0 {
			return fail("root file system", string(path), e)
		}
	}
	return r.attach(tree)
}

// attach puts the new root over "/", where only its descriptor reaches it:
// absolute paths still lead to the host's files until pivot.
func (r *rootfs) attach(root uintptr) *failure {
	a := mountAttr{propagation: syscall.MS_PRIVATE}
	if e := setattr(root, nil, atEmptyPath|atRecursive, &a); e != 0 {
		return fail("root file system", "/", e)
	}
	slash, e := open("/", oPath|oDirectory)
	if e != 0 {
		return fail("root file system", "/", e)
	}
	e = moveMount(root, slash)
	closeFD(slash)
	if e != 0 {
		return fail("root file system", "attaching", e)
	}
	r.fd = root
	return nil
}

// pivot makes the new root the root and lets go of the host's tree.
func (r *rootfs) pivot(flags uint64) *failure {
	r.leaveDir()
	if flags&program.PivotNone != 0 {
		r.pivoted = true
		return nil
	}
	if _, e := call(syscall.SYS_FCHDIR, r.fd, 0, 0); e != 0 {
		return fail("pivot_root", "/", e)
	}
	dot := []byte(".\x00")
	if flags&(program.PivotChroot|program.PivotMove) != 0 {
		// Without pivot_root the new root stays where it was attached, on top of the old one: ".." leads from it to itself.
		if _, e := call(syscall.SYS_CHROOT, ptr(dot), 0, 0); e != 0 {
			return fail("chroot", "/", e)
		}
	} else {
		if _, e := call(syscall.SYS_PIVOT_ROOT, ptr(dot), ptr(dot), 0); e != 0 {
			return fail("pivot_root", "/", e)
		}
		if _, e := call(syscall.SYS_UMOUNT2, ptr(dot), syscall.MNT_DETACH, 0); e != 0 {
			return fail("letting go of the old root", "/", e)
		}
	}
	if _, e := call(syscall.SYS_CHDIR, ptr([]byte("/\x00")), 0, 0); e != 0 {
		return fail("pivot_root", "/", e)
	}
	r.pivoted = true
	return nil
}

// readonly makes the root's own mount read-only.
func (r *rootfs) readonly() *failure {
	a := mountAttr{set: attrRdonly}
	if e := setattr(r.fd, nil, atEmptyPath, &a); e != 0 {
		return fail("read-only root", "/", e)
	}
	return nil
}

//go:build linux

package initproc

import (
	"syscall"

	"github.com/gantry-engine/gantry/runtime/program"
)

// propagation changes "/" of the new mount namespace, so that nothing leaks to the host.
func propagation(all, top uintptr) *failure {
	slash := []byte("/\x00")
	for _, flags := range [2]uintptr{all, top} {
		if flags == 0 {
			continue
		}
		if _, e := call6(syscall.SYS_MOUNT, ptr(nil), ptr(slash), 0, flags, 0, 0); e != 0 {
			return fail("mount propagation", "/", e)
		}
	}
	return nil
}

func (m *machine) rootBind(path []byte, readonly, plain bool) *failure {
	if plain { // the mount namespace is somebody else's
		root, e := open(string(path), oPath|oDirectory)
		if e != 0 {
			return fail("root file system", string(path), e)
		}
		m.root = root
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
	return m.attachRoot(tree)
}

// attachRoot puts the new root over "/", where only its descriptor reaches it:
// absolute paths still lead to the host's files until pivot.
func (m *machine) attachRoot(root uintptr) *failure {
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
	m.root = root
	return nil
}

// pivot makes the new root the root and lets go of the host's tree.
func (m *machine) pivot(flags uint64) *failure {
	m.leaveDir()
	if flags&program.PivotNone != 0 {
		m.pivoted = true
		return nil
	}
	if _, e := call(syscall.SYS_FCHDIR, m.root, 0, 0); e != 0 {
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
	m.pivoted = true
	return nil
}

//go:build linux

package initproc

import (
	"syscall"

	"github.com/gantry-engine/gantry/runtime/program"
)

// bind attaches a file or folder of the host (or of the container) somewhere else.
func (m *machine) bind(o *program.Reader) *failure {
	source, dest, flags := o.Str(), o.Str(), o.Num()
	set, clr, recSet, recClr, prop := o.Num(), o.Num(), o.Num(), o.Num(), o.Num()
	if o.Bad {
		return nil
	}
	tree, f := m.bindTree(source, flags)
	if f != nil || tree == none {
		return f
	}
	defer closeFD(tree)
	var st syscall.Stat_t
	if e := fstat(tree, &st); e != 0 {
		return fail("mount", string(source), e)
	}
	target, f := m.mountPoint(dest, "", st.Mode&syscall.S_IFMT != syscall.S_IFDIR, flags&program.BindProcFile != 0, tree)
	if f != nil {
		return f
	}
	defer closeFD(target)
	if f := m.attributes(tree, string(dest), set, clr, recSet, recClr); f != nil {
		return f
	}
	if e := moveMount(tree, target); e != 0 {
		return failText("mount", string(dest), e, cat("mount ", string(source), " on ", string(dest), ": ", e.Error()))
	}
	return setPropagation(tree, prop, string(dest))
}

func (m *machine) bindTree(source []byte, flags uint64) (uintptr, *failure) {
	var how uintptr = treeClone
	if flags&program.BindRecursive != 0 {
		how |= atRecursive
	}
	if flags&program.BindTree != 0 {
		if fd, ok := atoi(string(source)); ok {
			return uintptr(fd), nil
		}
		return none, failText("mount", string(source), syscall.EBADF, "the tree to be attached has no descriptor")
	}
	var tree uintptr
	var e errno
	if flags&program.BindOwnRoot != 0 {
		var fd uintptr
		if fd, e = openat2(m.rootFD(), source, oPath, 0, resolveRoot); e == 0 {
			tree, e = openTree(fd, nil, how|atEmptyPath)
			closeFD(fd)
		}
	} else {
		tree, e = openTree(atFDCWD, source, how)
	}
	if e == syscall.ENOENT && flags&program.BindOptional != 0 {
		return none, nil
	}
	if e != 0 {
		return none, failText("mount", string(source), e, cat("bind source path ", string(source), ": ", e.Error()))
	}
	return tree, nil
}

func (m *machine) attributes(tree uintptr, dest string, set, clr, recSet, recClr uint64) *failure {
	if set|clr != 0 {
		a := mountAttr{set: set, clr: clr}
		if e := setattr(tree, nil, atEmptyPath, &a); e != 0 {
			return fail("mount attributes", dest, e)
		}
	}
	if recSet|recClr != 0 {
		a := mountAttr{set: recSet, clr: recClr}
		if e := setattr(tree, nil, atEmptyPath|atRecursive, &a); e != 0 {
			return fail("mount attributes", dest, e)
		}
	}
	return nil
}

//go:build linux

package initproc

import (
	"syscall"

	"github.com/gantry-engine/gantry/runtime/program"
)

// bindMount attaches a file or folder of the host (or of the container) somewhere else.
type bindMount struct {
	source, dest   []byte
	flags          uint64 // program.Bind…
	set, clr       uint64 // attributes of the mount itself
	recSet, recClr uint64 // and of all that is mounted below
	prop           uint64
}

func mountBind(root *rootfs, o *program.Reader) *failure {
	b := bindMount{o.Str(), o.Str(), o.Num(), o.Num(), o.Num(), o.Num(), o.Num(), o.Num()}
	if o.Bad {
		return nil
	}
	return b.attach(root)
}

func (b *bindMount) attach(root *rootfs) *failure {
	tree, f := b.tree(root)
	if f != nil || tree == none {
		return f
	}
	defer closeFD(tree)
	var st syscall.Stat_t
	if e := fstat(tree, &st); e != 0 {
		return fail("mount", string(b.source), e)
	}
	target, f := root.mountPoint(b.dest, "", st.Mode&syscall.S_IFMT != syscall.S_IFDIR, b.flags&program.BindProcFile != 0, tree)
	if f != nil {
		return f
	}
	defer closeFD(target)
	if f := b.attributes(tree); f != nil {
		return f
	}
	if e := moveMount(tree, target); e != 0 {
		return failText("mount", string(b.dest), e, cat("mount ", string(b.source), " on ", string(b.dest), ": ", e.Error()))
	}
	return setPropagation(tree, b.prop, string(b.dest))
}

// tree gives what is to be attached, or none where it may be missing.
func (b *bindMount) tree(root *rootfs) (uintptr, *failure) {
	var how uintptr = treeClone
	if b.flags&program.BindRecursive != 0 {
		how |= atRecursive
	}
	if b.flags&program.BindTree != 0 {
		if fd, ok := atoi(string(b.source)); ok {
			return uintptr(fd), nil
		}
		return none, failText("mount", string(b.source), syscall.EBADF, "the tree to be attached has no descriptor")
	}
	var tree uintptr
	var e errno
	if b.flags&program.BindOwnRoot != 0 {
		var fd uintptr
		if fd, e = openat2(root.handle(), b.source, oPath, 0, resolveRoot); e == 0 {
			tree, e = openTree(fd, nil, how|atEmptyPath)
			closeFD(fd)
		}
	} else {
		tree, e = openTree(atFDCWD, b.source, how)
	}
	if e == syscall.ENOENT && b.flags&program.BindOptional != 0 {
		return none, nil
	}
	if e != 0 {
		return none, failText("mount", string(b.source), e, cat("bind source path ", string(b.source), ": ", e.Error()))
	}
	return tree, nil
}

func (b *bindMount) attributes(tree uintptr) *failure {
	if b.set|b.clr != 0 {
		a := mountAttr{set: b.set, clr: b.clr}
		if e := setattr(tree, nil, atEmptyPath, &a); e != 0 {
			return fail("mount attributes", string(b.dest), e)
		}
	}
	if b.recSet|b.recClr != 0 {
		a := mountAttr{set: b.recSet, clr: b.recClr}
		if e := setattr(tree, nil, atEmptyPath|atRecursive, &a); e != 0 {
			return fail("mount attributes", string(b.dest), e)
		}
	}
	return nil
}

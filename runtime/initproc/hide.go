//go:build linux

package initproc

import "syscall"

// masks are what hides paths.
type masks struct {
	null  uintptr // the host's /dev/null, verified; none until it is needed
	blank uintptr // an empty read-only tmpfs for folders, or none
}

// hide covers a path: a file behind /dev/null, a folder behind an empty tmpfs.
// Absent paths stay absent. What is bound is verified to be the host's null device,
// opened before the container had a say (CVE-2025-31133).
func (m *masks) hide(root *rootfs, path []byte) *failure {
	root.leaveDir()
	target, e := openat2(root.handle(), path, oPath, 0, resolveRoot)
	if e == syscall.ENOENT || e == syscall.ENOTDIR {
		return nil
	}
	if e != 0 {
		return fail("masked path", string(path), e)
	}
	defer closeFD(target)
	var st syscall.Stat_t
	if e := fstat(target, &st); e != 0 {
		return fail("masked path", string(path), e)
	}
	var tree uintptr
	if st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		if m.blank == none {
			empty := newMount{fstype: "tmpfs", dest: path}
			t, f := empty.tree(attrRdonly | attrNosuid | attrNodev | attrNoexec)
			if f != nil {
				return f
			}
			m.blank = t
			if e := moveMount(t, target); e != 0 {
				return fail("masked path", string(path), e)
			}
			return nil
		}
		tree, e = openTree(m.blank, nil, treeClone|atEmptyPath)
	} else {
		null, f := m.hostNull()
		if f != nil {
			return f
		}
		tree, e = openTree(null, nil, treeClone|atEmptyPath)
		if e == 0 { // it is the host's own: a container must not change its mode or owner
			a := mountAttr{set: attrRdonly | attrNosuid | attrNoexec}
			if e = setattr(tree, nil, atEmptyPath, &a); e != 0 {
				closeFD(tree)
			}
		}
	}
	if e != 0 {
		return fail("masked path", string(path), e)
	}
	defer closeFD(tree)
	if e := moveMount(tree, target); e != 0 {
		return fail("masked path", string(path), e)
	}
	return nil
}

func (m *masks) hostNull() (uintptr, *failure) {
	if m.null != none {
		return m.null, nil
	}
	fd, e := open("/dev/null", oPath|oNoFollow)
	if e != 0 {
		return none, fail("masked path", "/dev/null", e)
	}
	var st syscall.Stat_t
	if e := fstat(fd, &st); e != 0 || st.Mode&syscall.S_IFMT != syscall.S_IFCHR || st.Rdev != 1<<8|3 {
		return none, failText("masked path", "/dev/null", e, "/dev/null is not the null device: refusing to mask paths with it")
	}
	m.null = fd
	return fd, nil
}

// readonlyPath binds a path over itself, read-only with all that is mounted below.
func readonlyPath(root *rootfs, path []byte) *failure {
	root.leaveDir()
	target, e := openat2(root.handle(), path, oPath, 0, resolveRoot)
	if e == syscall.ENOENT || e == syscall.ENOTDIR {
		return nil
	}
	if e != 0 {
		return fail("read-only path", string(path), e)
	}
	defer closeFD(target)
	a := mountAttr{set: attrRdonly}
	if e := setattr(target, nil, atEmptyPath|atRecursive, &a); e == 0 {
		return nil // a mount of the container's own needs no second one on top
	}
	tree, e := openTree(target, nil, treeClone|atRecursive|atEmptyPath)
	if e != 0 {
		return fail("read-only path", string(path), e)
	}
	defer closeFD(tree)
	if e := setattr(tree, nil, atEmptyPath|atRecursive, &a); e != 0 {
		return fail("read-only path", string(path), e)
	}
	if e := moveMount(tree, target); e != 0 {
		return fail("read-only path", string(path), e)
	}
	return nil
}

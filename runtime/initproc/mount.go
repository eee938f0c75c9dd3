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

func fsopen(fstype string) (uintptr, errno) {
	return call(sysFsopen, ptr(cstr(fstype)), 1, 0)
}

func fsString(fs uintptr, key string, value []byte) errno {
	_, e := call6(sysFsconfig, fs, fsSetString, ptr(cstr(key)), ptr(value), 0, 0)
	return e
}

func fsFlag(fs uintptr, key []byte) errno {
	_, e := call6(sysFsconfig, fs, fsSetFlag, ptr(key), 0, 0, 0)
	return e
}

func fsOption(fs uintptr, opt []byte) errno {
	for i, c := range opt {
		if c == '=' {
			return fsString(fs, string(opt[:i]), opt[i+1:cap0(opt)])
		}
	}
	return fsFlag(fs, opt[:cap0(opt)])
}

// cap0 is the length of a program's string with its zero.
func cap0(b []byte) int { return len(b) + 1 }

// fsMount creates the superblock and gives it as a detached mount.
func fsMount(fs uintptr, attrs uint64) (uintptr, errno) {
	if _, e := call6(sysFsconfig, fs, fsCreate, 0, 0, 0, 0); e != 0 {
		return none, e
	}
	return call(sysFsmount, fs, 1, uintptr(attrs))
}

// rootOverlay stacks the layers: one fsconfig per layer where the kernel knows
// "lowerdir+" (6.5), else one string of descriptors' short names.
func (m *machine) rootOverlay(lower [][]byte, upper, work []byte, opts [][]byte, readonly bool) *failure {
	fs, e := fsopen("overlay")
	if e != 0 {
		return fail("root file system", "overlay", e)
	}
	defer closeFD(fs)
	if e := overlayLower(fs, lower); e != 0 {
		return fsFailed("root file system", "overlay lower layers", fs, e)
	}
	if len(upper) > 0 {
		if e := fsString(fs, "upperdir", upper); e != 0 {
			return fsFailed("root file system", string(upper), fs, e)
		}
		if e := fsString(fs, "workdir", work); e != 0 {
			return fsFailed("root file system", string(work), fs, e)
		}
	}
	for _, o := range opts {
		if e := fsOption(fs, o); e != 0 {
			return fsFailed("root file system", string(o), fs, e)
		}
	}
	var attrs uint64
	if readonly {
		attrs = attrRdonly
	}
	root, e := fsMount(fs, attrs)
	if e != 0 {
		return fsFailed("root file system", "overlay", fs, e)
	}
	return m.attachRoot(root)
}

func overlayLower(fs uintptr, lower [][]byte) errno {
	for i, dir := range lower {
		e := fsString(fs, "lowerdir+", dir)
		if e != 0 && i == 0 {
			return overlayLowerOld(fs, lower)
		}
		if e != 0 {
			return e
		}
	}
	return 0
}

// overlayLowerOld is for kernels before 6.5: one option string of at most 256 bytes
// for fsconfig, so that the layers are named by descriptor below the current folder.
func overlayLowerOld(fs uintptr, lower [][]byte) errno {
	var all []byte
	for _, dir := range lower {
		fd, e := openBytes(dir, oPath|oDirectory)
		if e != 0 {
			return e
		}
		if len(all) > 0 {
			all = append(all, ':')
		}
		all = append(all, itoa(int(fd))...)
	}
	if _, e := call(syscall.SYS_CHDIR, ptr(cstr("/proc/self/fd")), 0, 0); e != 0 {
		return e
	}
	return fsString(fs, "lowerdir", append(all, 0))
}

// fsFailed adds the kernel's own words, read from the context.
func fsFailed(stage, path string, fs uintptr, e errno) *failure {
	buf := make([]byte, 512)
	n, re := call(syscall.SYS_READ, fs, ptr(buf), uintptr(len(buf)))
	if re != 0 || n < 3 {
		return fail(stage, path, e)
	}
	text := buf[2:n]
	for len(text) > 0 && text[len(text)-1] == '\n' {
		text = text[:len(text)-1]
	}
	return failText(stage, path, e, cat(stage, " ", path, ": ", e.Error(), " (", string(text), ")"))
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

// target opens a mount point inside the root, making it (a folder or a file) where it is missing.
func (m *machine) target(path []byte, create, file bool) (uintptr, errno) {
	fd, e := openat2(m.rootFD(), path, oPath, 0, resolveRoot)
	if e != syscall.ENOENT || !create {
		return fd, e
	}
	return m.makeAll(string(path), file)
}

func (m *machine) rootFD() uintptr {
	if m.root == none {
		fd, e := open("/", oPath|oDirectory)
		if e == 0 {
			m.root = fd
		}
	}
	return m.root
}

// makeAll makes folders along path, each below the descriptor of the one before,
// and the last component as a file if asked to.
func (m *machine) makeAll(path string, file bool) (uintptr, errno) {
	done := 0
	for done < len(path) {
		end := done
		for end < len(path) && path[end] == '/' {
			end++
		}
		start := end
		for end < len(path) && path[end] != '/' {
			end++
		}
		if start == end {
			break
		}
		last := true
		for i := end; i < len(path); i++ {
			last = last && path[i] == '/'
		}
		fd, e := openat2(m.rootFD(), cstr(path[:end]), oPath, 0, resolveRoot)
		if e == syscall.ENOENT {
			if e = m.makeOne(path[:start], path[start:end], last && file); e != 0 {
				return none, e
			}
			fd, e = openat2(m.rootFD(), cstr(path[:end]), oPath, 0, resolveRoot)
		}
		if e != 0 {
			return none, e
		}
		if last {
			return fd, 0
		}
		closeFD(fd)
		done = end
	}
	return openat2(m.rootFD(), []byte("/\x00"), oPath, 0, resolveRoot)
}

func (m *machine) makeOne(parent, name string, file bool) errno {
	if name == ".." || name == "." {
		return syscall.EINVAL
	}
	if parent == "" {
		parent = "/"
	}
	dir, e := openat2(m.rootFD(), cstr(parent), oPath|uint64(oDirectory), 0, resolveRoot)
	if e != 0 {
		return e
	}
	defer closeFD(dir)
	if file {
		fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, dir, ptr(cstr(name)), syscall.O_CREAT|syscall.O_EXCL|syscall.O_WRONLY|oNoFollow|oCloexec, 0o644, 0, 0)
		if e == 0 {
			closeFD(fd)
		}
		return ignoreExist(e)
	}
	_, e = call(syscall.SYS_MKDIRAT, dir, ptr(cstr(name)), 0o755)
	return ignoreExist(e)
}

func ignoreExist(e errno) errno {
	if e == syscall.EEXIST {
		return 0
	}
	return e
}

// mount makes a new file system and attaches it.
func (m *machine) mount(o *program.Reader) *failure {
	fstype, source, dest := string(o.Str()), o.Str(), o.Str()
	attrs, prop, opts, flags := o.Num(), o.Num(), o.List(), o.Num()
	if o.Bad {
		return nil
	}
	target, e := m.target(dest, true, false)
	if e != 0 {
		return fail("mount", string(dest), e)
	}
	defer closeFD(target)
	first := attrs
	if flags&program.MountCopyUp != 0 {
		first &^= attrRdonly
	}
	tree, f := m.newTree(fstype, source, string(dest), first, opts)
	if f != nil {
		if f.errno == syscall.ENODEV && flags&program.MountOptional != 0 {
			return nil
		}
		if flags&program.MountBindHost != 0 && (f.errno == syscall.EPERM || f.errno == syscall.EBUSY) {
			return m.bindHost(dest, target, attrs)
		}
		return f
	}
	defer closeFD(tree)
	if flags&program.MountCopyUp != 0 {
		if e := copyTree(target, tree); e != 0 {
			return fail("tmpfs copy-up", string(dest), e)
		}
		if attrs&attrRdonly != 0 {
			a := mountAttr{set: attrRdonly}
			setattr(tree, nil, atEmptyPath, &a)
		}
	}
	if e := moveMount(tree, target); e != 0 {
		return fail("mount", string(dest), e)
	}
	return setPropagation(tree, prop, string(dest))
}

func setPropagation(tree uintptr, prop uint64, dest string) *failure {
	if prop == 0 {
		return nil
	}
	var flags uintptr = atEmptyPath
	if prop&syscall.MS_REC != 0 {
		flags |= atRecursive
	}
	a := mountAttr{propagation: prop &^ syscall.MS_REC}
	if e := setattr(tree, nil, flags, &a); e != 0 {
		return fail("mount propagation", dest, e)
	}
	return nil
}

func (m *machine) newTree(fstype string, source []byte, dest string, attrs uint64, opts [][]byte) (uintptr, *failure) {
	fs, e := fsopen(fstype)
	if e != 0 {
		return none, failText("mount", dest, e, cat("mount ", dest, ": file system type ", fstype, ": ", e.Error()))
	}
	defer closeFD(fs)
	if len(source) > 0 {
		if e := fsString(fs, "source", source[:cap0(source)]); e != 0 {
			return none, fsFailed("mount", dest, fs, e)
		}
	}
	for _, opt := range opts {
		if e := fsOption(fs, opt); e != 0 {
			return none, fsFailed("mount", cat(dest, " option ", string(opt)), fs, e)
		}
	}
	tree, e := fsMount(fs, attrs)
	if e != 0 {
		return none, fsFailed("mount", cat(dest, " (", fstype, ")"), fs, e)
	}
	return tree, nil
}

// bindHost is for sysfs in a user namespace that does not own its network namespace.
func (m *machine) bindHost(dest []byte, target uintptr, attrs uint64) *failure {
	tree, e := openTree(atFDCWD, dest, treeClone|atRecursive)
	if e != 0 {
		return fail("mount", string(dest), e)
	}
	defer closeFD(tree)
	a := mountAttr{set: attrs}
	if e := setattr(tree, nil, atEmptyPath|atRecursive, &a); e != 0 {
		return fail("mount", string(dest), e)
	}
	if e := moveMount(tree, target); e != 0 {
		return fail("mount", string(dest), e)
	}
	return nil
}

// bind attaches a file or folder of the host (or of the container) somewhere else.
func (m *machine) bind(o *program.Reader) *failure {
	source, dest, flags := o.Str(), o.Str(), o.Num()
	set, clr, recSet, recClr, prop := o.Num(), o.Num(), o.Num(), o.Num(), o.Num()
	uidMap, gidMap, idmapRec := o.List(), o.List(), o.Num() != 0
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
	target, e := m.target(dest, true, st.Mode&syscall.S_IFMT != syscall.S_IFDIR)
	if e != 0 {
		return fail("mount", string(dest), e)
	}
	defer closeFD(target)
	if f := m.attributes(tree, string(dest), set, clr, recSet, recClr); f != nil {
		return f
	}
	if len(uidMap) > 0 {
		if f := idmap(tree, uidMap, gidMap, idmapRec, string(dest)); f != nil {
			return f
		}
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

// mask hides a path: a file behind /dev/null, a folder behind an empty tmpfs.
// Absent paths stay absent. What is bound is verified to be the host's null device,
// opened before the container had a say (CVE-2025-31133).
func (m *machine) mask(path []byte) *failure {
	target, e := openat2(m.rootFD(), path, oPath, 0, resolveRoot)
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
			t, f := m.newTree("tmpfs", nil, string(path), attrRdonly, nil)
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

func (m *machine) hostNull() (uintptr, *failure) {
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

// readonly binds a path over itself, read-only with all that is mounted below.
func (m *machine) readonly(path []byte) *failure {
	target, e := openat2(m.rootFD(), path, oPath, 0, resolveRoot)
	if e == syscall.ENOENT || e == syscall.ENOTDIR {
		return nil
	}
	if e != 0 {
		return fail("read-only path", string(path), e)
	}
	defer closeFD(target)
	tree, e := openTree(target, nil, treeClone|atRecursive|atEmptyPath)
	if e != 0 {
		return fail("read-only path", string(path), e)
	}
	defer closeFD(tree)
	a := mountAttr{set: attrRdonly}
	if e := setattr(tree, nil, atEmptyPath|atRecursive, &a); e != 0 {
		return fail("read-only path", string(path), e)
	}
	if e := moveMount(tree, target); e != 0 {
		return fail("read-only path", string(path), e)
	}
	return nil
}

// pivot makes the new root the root and lets go of the host's tree.
func (m *machine) pivot(flags uint64) *failure {
	if flags&program.PivotNone != 0 {
		m.pivoted = true
		return nil
	}
	if _, e := call(syscall.SYS_FCHDIR, m.root, 0, 0); e != 0 {
		return fail("pivot_root", "/", e)
	}
	dot := []byte(".\x00")
	if flags&program.PivotChroot != 0 {
		if _, e := call(syscall.SYS_CHROOT, ptr(dot), 0, 0); e != 0 {
			return fail("chroot", "/", e)
		}
	} else if flags&program.PivotMove != 0 {
		if _, e := call6(syscall.SYS_MOUNT, ptr(dot), ptr([]byte("/\x00")), 0, syscall.MS_MOVE, 0, 0); e != 0 {
			return fail("moving the root", "/", e)
		}
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

//go:build linux

package initproc

import "syscall"

// layerKey adds one layer (Linux 6.8). Tests of the ways for older kernels build with another word.
var layerKey = "lowerdir+"

const (
	maxFSString  = 255  // longest value that fsconfig takes
	maxMountData = 4095 // longest options that mount takes
)

// overlay is a stack of layers that becomes the root.
type overlay struct {
	lower       [][]byte // uppermost first
	upper, work []byte   // empty for a read-only stack
	opts        [][]byte
	readonly    bool
}

// attach stacks the layers: one fsconfig per layer where the kernel knows how, else one string of
// descriptors' short names for fsconfig or, when that is too long, for mount(2). Kernels before 6.8 are
// told by their number: those before 6.5 believe any option, and refuse the mount at the end.
func (o *overlay) attach(root *rootfs) *failure {
	if kernelBefore(6, 8) {
		names, dir, e := shortNames(o.lower)
		if e != 0 {
			return fail("root file system", cat("overlay layer ", string(dir)), e)
		}
		return o.byMount(root, names)
	}
	fs, e := fsopen("overlay")
	if e != 0 {
		return fail("root file system", "overlay", e)
	}
	defer closeFD(fs)
	for i, dir := range o.lower {
		e := fsString(fs, layerKey, dir)
		if e == 0 {
			continue
		}
		if i > 0 {
			return fsFailed("root file system", cat("overlay layer ", string(dir)), fs, e)
		}
		names, dir, e := shortNames(o.lower)
		if e != 0 {
			return fail("root file system", cat("overlay layer ", string(dir)), e)
		}
		if len(names) > maxFSString {
			return o.byMount(root, names)
		}
		if e := fsString(fs, "lowerdir", append(names, 0)); e != 0 {
			return fsFailed("root file system", "overlay lower layers", fs, e)
		}
		break
	}
	return o.byContext(root, fs)
}

// byContext makes the stack once its layers are named.
func (o *overlay) byContext(root *rootfs, fs uintptr) *failure {
	if len(o.upper) > 0 {
		if e := fsString(fs, "upperdir", o.upper); e != 0 {
			return fsFailed("root file system", string(o.upper), fs, e)
		}
		if e := fsString(fs, "workdir", o.work); e != 0 {
			return fsFailed("root file system", string(o.work), fs, e)
		}
	}
	for _, opt := range o.opts {
		if e := fsOption(fs, opt); e != 0 {
			return fsFailed("root file system", string(opt), fs, e)
		}
	}
	var attrs uint64
	if o.readonly {
		attrs = attrRdonly
	}
	tree, e := fsMount(fs, attrs)
	if e != 0 {
		return fsFailed("root file system", "overlay", fs, e)
	}
	return root.attach(tree)
}

// shortNames opens folders and goes to where their descriptors' numbers are names: "5:6:7". After a
// failure dir is what could not be opened. The descriptors end with init.
func shortNames(dirs [][]byte) (names, dir []byte, e errno) {
	for _, dir := range dirs {
		fd, e := openBytes(dir, oPath|oDirectory)
		if e != 0 {
			return nil, dir, e
		}
		if len(names) > 0 {
			names = append(names, ':')
		}
		names = append(names, itoa(int(fd))...)
	}
	dir = []byte("/proc/self/fd\x00")
	_, e = call(syscall.SYS_CHDIR, ptr(dir), 0, 0)
	return names, dir[:len(dir)-1], e
}

// byMount makes the stack with mount(2), which takes a page of options, over the container's own
// work folder, or the uppermost layer's: for a moment only, in case a propagation makes others see it.
func (o *overlay) byMount(root *rootfs, names []byte) *failure {
	data := append([]byte("lowerdir="), names...)
	if len(o.upper) > 0 {
		short, dir, e := shortNames([][]byte{o.upper})
		if e != 0 {
			return fail("root file system", string(dir), e)
		}
		data = append(append(data, ",upperdir="...), short...)
		if short, dir, e = shortNames([][]byte{o.work}); e != 0 {
			return fail("root file system", string(dir), e)
		}
		data = append(append(data, ",workdir="...), short...)
	}
	for _, opt := range o.opts {
		data = append(append(data, ','), opt...)
	}
	if len(data) > maxMountData {
		return failText("root file system", "overlay", syscall.E2BIG, cat("root file system: ", itoa(len(o.lower)), " layers are more than this kernel takes"))
	}
	at, fstype := o.lower[0], cstr("overlay")
	if len(o.work) > 0 {
		at = o.work
	}
	if _, e := call6(syscall.SYS_MOUNT, ptr(fstype), ptr(at), ptr(fstype), 0, ptr(append(data, 0)), 0); e != 0 {
		return fail("root file system", "overlay", e)
	}
	tree, e := openTree(atFDCWD, at, treeClone)
	call(syscall.SYS_UMOUNT2, ptr(at), syscall.MNT_DETACH, 0)
	if e != 0 {
		return fail("root file system", "overlay", e)
	}
	if o.readonly {
		a := mountAttr{set: attrRdonly}
		if e := setattr(tree, nil, atEmptyPath, &a); e != 0 {
			return fail("root file system", "overlay", e)
		}
	}
	return root.attach(tree)
}

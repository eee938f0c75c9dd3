//go:build linux

package initproc

import (
	"syscall"
	"unsafe"
)

const procMagic = 0x9fa0

// mountPoint opens what a mount of type fstype goes over ("" for a bind). Where that lies on procfs it is
// looked at rather than believed by its name, because a link of the image or a volume that somebody
// swaps may lead there: what stands in for a file of /proc can answer or swallow what the
// engine itself reads and writes there (CVE-2025-52881).
func (r *rootfs) mountPoint(dest []byte, fstype string, file, procFile bool, tree uintptr) (uintptr, *failure) {
	if procFile {
		fd, f := r.procFile(dest)
		if fd != none || f != nil {
			return fd, f
		}
	}
	fd, e := r.target(dest, true, file)
	if e == 0 && (fstype == "proc" || fstype == "sysfs") {
		closeFD(fd)
		fd, e = openat2(r.handle(), dest, oPath, 0, resolveRoot|resolveNoLinks)
		if e == syscall.ELOOP {
			return none, failText("mount", string(dest), e, cat("mount ", string(dest), ": there is a link in the path: ", fstype, " is mounted on an ordinary folder only"))
		}
	}
	if e != 0 {
		return none, fail("mount", string(dest), e)
	}
	inside, root := onProc(fd)
	own, _ := onProc(tree)
	if string(dest) == "/proc" && fstype != "proc" && !own { // a made-up one lies to whoever asks it about processes (CVE-2019-16884)
		closeFD(fd)
		return none, failText("mount", "/proc", syscall.EPERM, "mount /proc: what is to be bound there is not a procfs")
	}
	if inside && !(root && (fstype == "proc" || own)) {
		closeFD(fd)
		return none, failText("mount", string(dest), syscall.EPERM, cat("mount ", string(dest), ": it leads into /proc, where only informative files can be replaced"))
	}
	return fd, nil
}

// procFile opens one of the informative files of the container's /proc, by no link but procfs' own
// and through no other mount. It gives none where /proc is not a procfs.
func (r *rootfs) procFile(dest []byte) (uintptr, *failure) {
	proc, e := openat2(r.handle(), []byte("/proc\x00"), oPath, 0, resolveRoot|resolveNoLinks)
	if e != 0 {
		return none, nil
	}
	defer closeFD(proc)
	if inside, root := onProc(proc); !inside || !root {
		return none, nil
	}
	fd, e := openat2(proc, cstr(string(dest[len("/proc/"):])), oPath, 0, resolveOneMount)
	if e != 0 {
		return none, fail("mount", string(dest), e)
	}
	return fd, nil
}

// onProc tells whether a descriptor lies on a procfs, and whether it is the top of one.
func onProc(fd uintptr) (inside, root bool) {
	var fs syscall.Statfs_t
	if _, e := call(syscall.SYS_FSTATFS, fd, uintptr(unsafe.Pointer(&fs)), 0); e != 0 || fs.Type != procMagic {
		return false, false
	}
	var st syscall.Stat_t
	return true, fstat(fd, &st) == 0 && st.Ino == 1
}

// maxLinks is the kernel's own bound of links on the way to a file.
const maxLinks = 40

// target opens a mount point inside the root, making it (a folder or a file) where it is missing.
// Several in a row are mostly in one folder, so that folder stays open: children
// of it are found without links, and nothing but them gets mounted over meanwhile.
func (r *rootfs) target(path []byte, create, file bool) (uintptr, errno) {
	parent, name := split(string(path))
	if r.dir != none && r.dirPath == parent && name != ".." && name != "." && name != "" {
		if create {
			if e := makeChild(r.dir, name, file); e != 0 && e != syscall.EROFS {
				return none, e
			}
		}
		fd, e := openat2(r.dir, cstr(name), oPath, 0, resolveBelow&^resolveSameFS)
		if e != syscall.ELOOP {
			return fd, e
		}
	}
	r.leaveDir()
	fd, e := openat2(r.handle(), path, oPath, 0, resolveRoot)
	if e != syscall.ENOENT || !create {
		return fd, e
	}
	if r.enterDir(parent) && name != ".." && name != "." {
		if e := makeChild(r.dir, name, file); e != 0 {
			return none, e
		}
		fd, e := openat2(r.dir, cstr(name), oPath, 0, resolveBelow&^resolveSameFS)
		if e != syscall.ELOOP {
			return fd, e
		}
	}
	return r.makeAll(string(path), file, maxLinks)
}

// folder gives the folder at path, which stays the root's, making it where it is missing.
func (r *rootfs) folder(path string) (uintptr, errno) {
	if r.dir != none && r.dirPath == path {
		return r.dir, 0
	}
	fd, e := r.target(cstr(path)[:len(path)], true, false)
	if e != 0 {
		return none, e
	}
	r.leaveDir()
	r.dir, r.dirPath = fd, path
	return fd, 0
}

func (r *rootfs) enterDir(path string) bool {
	fd, e := openat2(r.handle(), cstr(path), oPath|uint64(oDirectory), 0, resolveRoot)
	if e != 0 {
		return false
	}
	r.leaveDir()
	r.dir, r.dirPath = fd, path
	return true
}

// leaveDir forgets the folder: something may be mounted over it, or on the way to it.
func (r *rootfs) leaveDir() {
	if r.dir != none {
		closeFD(r.dir)
	}
	r.dir, r.dirPath = none, ""
}

// makeAll makes folders along path, each below the descriptor of the one before,
// and the last component as a file if asked to. What a link leads to is made where the
// link says, inside the root (an image's /etc/resolv.conf that points to /run); links bounds how many.
func (r *rootfs) makeAll(path string, file bool, links int) (uintptr, errno) {
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
		fd, e := openat2(r.handle(), cstr(path[:end]), oPath, 0, resolveRoot)
		if e == syscall.ENOENT {
			if to := r.dangling(path[:end]); to != "" {
				if links == 0 {
					return none, syscall.ELOOP
				}
				if to[0] != '/' {
					to = cat(path[:start], to)
				}
				return r.makeAll(cat(to, path[end:]), file, links-1)
			}
			if e = r.makeOne(path[:start], path[start:end], last && file); e != 0 {
				return none, e
			}
			fd, e = openat2(r.handle(), cstr(path[:end]), oPath, 0, resolveRoot)
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
	return openat2(r.handle(), []byte("/\x00"), oPath, 0, resolveRoot)
}

// makeDirAfter makes a folder when the root is the root already.
func (r *rootfs) makeDirAfter(path string) (uintptr, errno) {
	old := r.fd
	if r.pivoted {
		fd, e := open("/", oPath|oDirectory)
		if e != 0 {
			return none, e
		}
		r.fd = fd
		defer func() { closeFD(fd); r.fd = old }()
	}
	return r.makeAll(path, false, maxLinks)
}

// dangling gives what the link at path says, or nothing where there is no link.
func (r *rootfs) dangling(path string) string {
	fd, e := openat2(r.handle(), cstr(path), oPath|uint64(oNoFollow), 0, resolveRoot)
	if e != 0 {
		return ""
	}
	defer closeFD(fd)
	var buf [4096]byte
	n, e := call6(readlinkatNumber, fd, ptr(nil), ptr(buf[:]), uintptr(len(buf)), 0, 0)
	if e != 0 {
		return ""
	}
	return string(buf[:n])
}

func (r *rootfs) makeOne(parent, name string, file bool) errno {
	if name == ".." || name == "." {
		return syscall.EINVAL
	}
	if parent == "" {
		parent = "/"
	}
	dir, e := openat2(r.handle(), cstr(parent), oPath|uint64(oDirectory), 0, resolveRoot)
	if e != 0 {
		return e
	}
	defer closeFD(dir)
	return makeChild(dir, name, file)
}

// makeChild makes a folder or an empty file in dir; one that is there already is fine.
func makeChild(dir uintptr, name string, file bool) errno {
	if !file {
		_, e := call(syscall.SYS_MKDIRAT, dir, ptr(cstr(name)), 0o755)
		return ignoreExist(e)
	}
	fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, dir, ptr(cstr(name)), syscall.O_CREAT|syscall.O_EXCL|syscall.O_WRONLY|oNoFollow|oCloexec, 0o644, 0, 0)
	if e == 0 {
		closeFD(fd)
	}
	return ignoreExist(e)
}

func ignoreExist(e errno) errno {
	if e == syscall.EEXIST {
		return 0
	}
	return e
}

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
func (m *machine) mountPoint(dest []byte, fstype string, file, procFile bool, tree uintptr) (uintptr, *failure) {
	if procFile {
		fd, f := m.procFile(dest)
		if fd != none || f != nil {
			return fd, f
		}
	}
	fd, e := m.target(dest, true, file)
	if e == 0 && (fstype == "proc" || fstype == "sysfs") {
		closeFD(fd)
		fd, e = openat2(m.rootFD(), dest, oPath, 0, resolveRoot|resolveNoLinks)
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
func (m *machine) procFile(dest []byte) (uintptr, *failure) {
	proc, e := openat2(m.rootFD(), []byte("/proc\x00"), oPath, 0, resolveRoot|resolveNoLinks)
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
func (m *machine) target(path []byte, create, file bool) (uintptr, errno) {
	parent, name := split(string(path))
	if m.dir != none && m.dirPath == parent && name != ".." && name != "." && name != "" {
		if create {
			if e := makeChild(m.dir, name, file); e != 0 && e != syscall.EROFS {
				return none, e
			}
		}
		fd, e := openat2(m.dir, cstr(name), oPath, 0, resolveBelow&^resolveSameFS)
		if e != syscall.ELOOP {
			return fd, e
		}
	}
	m.leaveDir()
	fd, e := openat2(m.rootFD(), path, oPath, 0, resolveRoot)
	if e != syscall.ENOENT || !create {
		return fd, e
	}
	if m.enterDir(parent) && name != ".." && name != "." {
		if e := makeChild(m.dir, name, file); e != 0 {
			return none, e
		}
		fd, e := openat2(m.dir, cstr(name), oPath, 0, resolveBelow&^resolveSameFS)
		if e != syscall.ELOOP {
			return fd, e
		}
	}
	return m.makeAll(string(path), file, maxLinks)
}

// folder gives the folder at path, which stays the machine's, making it where it is missing.
func (m *machine) folder(path string) (uintptr, errno) {
	if m.dir != none && m.dirPath == path {
		return m.dir, 0
	}
	fd, e := m.target(cstr(path)[:len(path)], true, false)
	if e != 0 {
		return none, e
	}
	m.leaveDir()
	m.dir, m.dirPath = fd, path
	return fd, 0
}

func (m *machine) enterDir(path string) bool {
	fd, e := openat2(m.rootFD(), cstr(path), oPath|uint64(oDirectory), 0, resolveRoot)
	if e != 0 {
		return false
	}
	m.leaveDir()
	m.dir, m.dirPath = fd, path
	return true
}

// leaveDir forgets the folder: something may be mounted over it, or on the way to it.
func (m *machine) leaveDir() {
	if m.dir != none {
		closeFD(m.dir)
	}
	m.dir, m.dirPath = none, ""
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
// and the last component as a file if asked to. What a link leads to is made where the
// link says, inside the root (an image's /etc/resolv.conf that points to /run); links bounds how many.
func (m *machine) makeAll(path string, file bool, links int) (uintptr, errno) {
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
			if to := m.dangling(path[:end]); to != "" {
				if links == 0 {
					return none, syscall.ELOOP
				}
				if to[0] != '/' {
					to = cat(path[:start], to)
				}
				return m.makeAll(cat(to, path[end:]), file, links-1)
			}
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

// dangling gives what the link at path says, or nothing where there is no link.
func (m *machine) dangling(path string) string {
	fd, e := openat2(m.rootFD(), cstr(path), oPath|uint64(oNoFollow), 0, resolveRoot)
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

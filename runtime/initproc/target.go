//go:build linux

package initproc

import "syscall"

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

//go:build linux

package initproc

import "syscall"

// workdir is the program's working directory.
type workdir struct {
	late []byte // path of one that perhaps only the user may enter
}

// enter goes to the working directory and makes sure that it is inside the
// root: a leaked descriptor of the host must not become the way out (CVE-2024-21626).
func (w *workdir) enter(root *rootfs, path []byte, create bool) *failure {
	_, e := call(syscall.SYS_CHDIR, ptr(path), 0, 0)
	if e == syscall.ENOENT && create {
		fd, e2 := root.makeDirAfter(string(path))
		if e2 != 0 {
			return fail("cwd", string(path), e2)
		}
		closeFD(fd)
		_, e = call(syscall.SYS_CHDIR, ptr(path), 0, 0)
	}
	if e == syscall.EACCES {
		w.late = path
		return nil
	}
	if e != 0 {
		return notEntered(path, e)
	}
	return insideRoot(string(path))
}

// enterLate tries again, as the user.
func (w *workdir) enterLate() *failure {
	if w.late == nil {
		return nil
	}
	if _, e := call(syscall.SYS_CHDIR, ptr(w.late), 0, 0); e != 0 {
		return notEntered(w.late, e)
	}
	return insideRoot(string(w.late))
}

func notEntered(path []byte, e errno) *failure {
	return failText("cwd", string(path), e, cat("chdir to cwd (\"", string(path), "\") set in config.json failed: ", e.Error()))
}

func insideRoot(path string) *failure {
	var buf [4096]byte
	n, e := call(syscall.SYS_GETCWD, ptr(buf[:]), uintptr(len(buf)), 0)
	if e != 0 || n == 0 || buf[0] != '/' {
		return failText("cwd", path, e, cat("the working directory ", path, " is outside the container's root: refusing to start"))
	}
	return nil
}

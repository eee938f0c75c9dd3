//go:build linux

package initproc

import "syscall"

// procfs is one of init's own, which nobody else can mount over.
type procfs struct {
	fd   uintptr // none until it is needed
	root *rootfs // once it is pivoted, /proc is the container's and not believed
}

// open makes it, unless it is there.
func (p *procfs) open() *failure {
	if p.fd != none {
		return nil
	}
	fs, e := fsopen("proc")
	if e == 0 {
		p.fd, e = fsMount(fs, attrNosuid|attrNodev|attrNoexec)
		closeFD(fs)
	}
	if e != 0 && !p.root.pivoted {
		// A user namespace that sees no complete procfs cannot make one. Before pivot /proc is the host's; in
		// a process that joined a container it is the container's, and believed only as far as it proves itself.
		if p.fd, e = openTree(atFDCWD, []byte("/proc\x00"), treeClone); e == 0 && !ownProc(p.fd) {
			closeFD(p.fd)
			p.fd = none
			return failText("procfs", "/proc", syscall.EPERM, "/proc is not a procfs of this process: refusing to write settings there")
		}
	}
	if e != 0 {
		p.fd = none
		return fail("procfs", "/proc", e)
	}
	return nil
}

// ownProc tells whether a descriptor is the top of a procfs in which this process has the number that it thinks it has.
func ownProc(fd uintptr) bool {
	if inside, root := onProc(fd); !inside || !root {
		return false
	}
	var link [16]byte
	n, e := call6(syscall.SYS_READLINKAT, fd, ptr(cstr("self")), ptr(link[:]), uintptr(len(link)), 0, 0)
	return e == 0 && string(link[:n]) == itoa(syscall.Getpid())
}

// write writes a setting; no link and no mount is followed.
func (p *procfs) write(stage, path string, value []byte) *failure {
	if f := p.open(); f != nil {
		return f
	}
	fd, e := openat2(p.fd, cstr(path), syscall.O_WRONLY, 0, resolveBelow)
	if e != 0 {
		return failText(stage, path, e, cat(stage, ": open /proc/", path, ": ", e.Error()))
	}
	defer closeFD(fd)
	if e := writeAll(fd, value); e != 0 {
		return failText(stage, path, e, cat(stage, ": write /proc/", path, " ", string(value), ": ", e.Error()))
	}
	return nil
}

// oomScore sets the process's own score.
func (p *procfs) oomScore(value []byte) *failure {
	f := p.write("oom_score_adj", cat(itoa(syscall.Getpid()), "/oom_score_adj"), value)
	if f != nil && f.stage == "oom_score_adj" && (f.errno == syscall.EACCES || f.errno == syscall.EPERM) {
		f.text = cat("oom score ", string(value), ": the host withholds CAP_SYS_RESOURCE, so the score cannot be lowered: ", f.errno.Error())
	}
	return f
}

// label writes a security label for the coming exec or for new keys.
func (p *procfs) label(attr string, value []byte, fallback string) *failure {
	self := cat(itoa(syscall.Getpid()), "/attr/")
	f := p.write("security label", cat(self, attr), value)
	if f != nil && fallback != "" && f.errno == syscall.ENOENT {
		f = p.write("security label", cat(self, fallback), value)
	}
	if f != nil && (f.errno == syscall.EINVAL || f.errno == syscall.ENOENT) {
		what := "SELinux label"
		if fallback != "" {
			what = "AppArmor profile"
		}
		f.text = cat(what, " \"", string(value), "\": the kernel does not take it: either it knows no such one, or that security module is not enabled (", f.errno.Error(), ")")
	}
	return f
}

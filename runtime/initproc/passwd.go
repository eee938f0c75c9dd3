//go:build linux

package initproc

import "syscall"

const maxPasswd = 16 << 20

// accounts are the users and groups that the container's own files know.
type accounts struct {
	passwd []byte
	read   bool
}

// containerFile reads a file of the container, confined to its root.
func containerFile(path string) []byte {
	dir, e := open("/", oPath|oDirectory)
	if e != 0 {
		return nil
	}
	defer closeFD(dir)
	fd, e := openat2(dir, cstr(path), syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0, resolveRoot)
	if e != 0 {
		return nil
	}
	defer closeFD(fd)
	var st syscall.Stat_t
	if fstat(fd, &st) != 0 || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil
	}
	b, _ := readAll(fd, maxPasswd)
	return b
}

// lines calls f with the fields of each line until it returns false.
func lines(b []byte, f func(fields []string) bool) {
	for len(b) > 0 {
		end := 0
		for end < len(b) && b[end] != '\n' {
			end++
		}
		line := string(b[:end])
		if end < len(b) {
			end++
		}
		b = b[end:]
		if line == "" || line[0] == '#' {
			continue
		}
		if !f(fields(line, ':')) {
			return
		}
	}
}

func fields(s string, sep byte) []string {
	out := make([]string, 0, 7)
	start := 0
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == sep {
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return out
}

func (a *accounts) passwdFile() []byte {
	if !a.read {
		a.passwd, a.read = containerFile("/etc/passwd"), true
	}
	return a.passwd
}

// user resolves "user[:group]", either by name or by number, as Docker's clients expect it.
func (a *accounts) user(spec string, extra [][]byte) (user, *failure) {
	parts := fields(spec, ':')
	name, group := parts[0], ""
	if len(parts) > 1 {
		group = parts[1]
	}
	var u user
	known := ""
	if name == "" {
		name = "0"
	}
	number, isNumber := atoi(name)
	found := false
	lines(a.passwdFile(), func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		uid, ok := atoi(f[2])
		if f[0] == name || ok && isNumber && uid == number {
			u.uid, found, known = uid, true, f[0]
			u.gid, _ = atoi(f[3])
			if len(f) > 5 {
				u.home = f[5]
			}
			return false
		}
		return true
	})
	if !found {
		if !isNumber {
			return u, failText("user", name, syscall.ENOENT, cat("unable to find user ", name, ": no matching entries in passwd file"))
		}
		u.uid = number
	}
	groupFile := containerFile("/etc/group")
	var groups []uint32
	if group != "" {
		g, ok := groupID(groupFile, group)
		if !ok {
			return u, failText("user", group, syscall.ENOENT, cat("unable to find group ", group, ": no matching entries in group file"))
		}
		u.gid = g
	} else if known != "" {
		groups = memberOf(groupFile, known)
	}
	for _, x := range extra {
		g, ok := groupID(groupFile, string(x))
		if !ok {
			return u, failText("user", string(x), syscall.ENOENT, cat("Unable to find group ", string(x), ": no matching entries in group file"))
		}
		groups = append(groups, uint32(g))
	}
	// The primary group is among the further ones, as login programs do it: else a process could
	// shed it, and with it what "deny this group" means (CVE-2022-36109).
	u.groups = []uint32{uint32(u.gid)}
	for _, g := range groups {
		if int(g) != u.gid {
			u.groups = append(u.groups, g)
		}
	}
	return u, nil
}

// home gives the folder of a user, or nothing.
func (a *accounts) home(uid int) (home string) {
	lines(a.passwdFile(), func(f []string) bool {
		if len(f) > 5 {
			if u, ok := atoi(f[2]); ok && u == uid {
				home = f[5]
				return false
			}
		}
		return true
	})
	return home
}

func groupID(file []byte, name string) (gid int, ok bool) {
	number, isNumber := atoi(name)
	lines(file, func(f []string) bool {
		if len(f) < 3 || f[0] != name {
			return true
		}
		gid, ok = atoi(f[2])
		return !ok
	})
	if !ok && isNumber {
		return number, true
	}
	return gid, ok
}

func memberOf(file []byte, name string) (groups []uint32) {
	lines(file, func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		for _, u := range fields(f[3], ',') {
			if g, ok := atoi(f[2]); ok && u == name {
				groups = append(groups, uint32(g))
				break
			}
		}
		return true
	})
	return groups
}

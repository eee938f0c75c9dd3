//go:build linux

package initproc

import "syscall"

const maxPasswd = 16 << 20

// file reads a file of the container, confined to its root.
func (m *machine) file(path string) []byte {
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

func (m *machine) passwdFile() []byte {
	if !m.readPw {
		m.passwd, m.readPw = m.file("/etc/passwd"), true
	}
	return m.passwd
}

// userName resolves "user[:group]", either by name or by number, as Docker's clients
// expect it, with the container's own files, and takes on what comes out.
func (m *machine) userName(spec string, extra [][]byte) *failure {
	parts := fields(spec, ':')
	name, group := parts[0], ""
	if len(parts) > 1 {
		group = parts[1]
	}
	uid, gid, known := 0, 0, ""
	if name == "" {
		name = "0"
	}
	number, isNumber := atoi(name)
	found := false
	lines(m.passwdFile(), func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		u, ok := atoi(f[2])
		if f[0] == name || ok && isNumber && u == number {
			uid, found, known = u, true, f[0]
			gid, _ = atoi(f[3])
			if len(f) > 5 {
				m.home = f[5]
			}
			return false
		}
		return true
	})
	if !found {
		if !isNumber {
			return failText("user", name, syscall.ENOENT, cat("unable to find user ", name, ": no matching entries in passwd file"))
		}
		uid = number
	}
	groupFile := m.file("/etc/group")
	var groups []uint32
	if group != "" {
		g, ok := groupID(groupFile, group)
		if !ok {
			return failText("user", group, syscall.ENOENT, cat("unable to find group ", group, ": no matching entries in group file"))
		}
		gid = g
	} else if known != "" {
		groups = memberOf(groupFile, known)
	}
	for _, x := range extra {
		g, ok := groupID(groupFile, string(x))
		if !ok {
			return failText("user", string(x), syscall.ENOENT, cat("Unable to find group ", string(x), ": no matching entries in group file"))
		}
		groups = append(groups, uint32(g))
	}
	m.uid = uid
	m.setHome()
	// The primary group is among the further ones, as login programs do it: else a process could
	// shed it, and with it what "deny this group" means (CVE-2022-36109).
	all := []uint32{uint32(gid)}
	for _, g := range groups {
		if int(g) != gid {
			all = append(all, g)
		}
	}
	return m.become(uid, gid, all)
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

func memberOf(file []byte, user string) (groups []uint32) {
	lines(file, func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		for _, u := range fields(f[3], ',') {
			if g, ok := atoi(f[2]); ok && u == user {
				groups = append(groups, uint32(g))
				break
			}
		}
		return true
	})
	return groups
}

// setHome adds HOME to the environment where it is missing or empty.
func (m *machine) setHome() {
	for i, e := range m.envText {
		if len(e) >= 5 && string(e[:5]) == "HOME=" {
			if len(e) > 5 {
				return
			}
			m.envText = append(m.envText[:i:i], m.envText[i+1:]...)
			break
		}
	}
	home := m.home
	if home == "" {
		lines(m.passwdFile(), func(f []string) bool {
			if len(f) > 5 {
				if u, ok := atoi(f[2]); ok && u == m.uid {
					home = f[5]
					return false
				}
			}
			return true
		})
	}
	if home == "" {
		home = "/"
	}
	b := cstr(cat("HOME=", home))
	m.envText = append(m.envText, b[:len(b)-1])
}

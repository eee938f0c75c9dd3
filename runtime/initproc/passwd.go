//go:build linux

package initproc

import "syscall"

const maxPasswd = 16 << 20

// accounts are the users and groups that the container's own files know.
type accounts struct {
	passwd, group         []byte
	readPasswd, readGroup bool
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
	if !a.readPasswd {
		a.passwd, a.readPasswd = containerFile("/etc/passwd"), true
	}
	return a.passwd
}

func (a *accounts) groupFile() []byte {
	if !a.readGroup {
		a.group, a.readGroup = containerFile("/etc/group"), true
	}
	return a.group
}

// maxID is the largest number of a user or group that is taken from text, as Docker has it. The kernel takes
// the lowest 32 bits of what it is given: 4294967296 would be root, and 4294967295 "stay as you are".
const maxID = 1<<31 - 1

// idNumber reads the number of a user or group: is it one at all, and is it in range?
func idNumber(s string) (n int, is, fits bool) {
	digits := s
	if s != "" && s[0] == '-' {
		digits = s[1:]
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return 0, false, false
		}
	}
	if digits == "" {
		return 0, false, false
	}
	n, ok := atoi(s)
	if fits = ok && n <= maxID; !fits {
		n = 0
	}
	return n, true, fits
}

func outOfRange(who string) *failure {
	return failText("user", who, syscall.ERANGE, "uids and gids must be in range 0-2147483647")
}

// user resolves "user[:group]", either by name or by number, as Docker's clients expect it.
// A number is never a name. A line whose numbers are none makes nobody root: it is an error for who
// is named there.
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
	number, isNumber, fits := idNumber(name)
	found, broken := false, false
	lines(a.passwdFile(), func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		uid, _, ok := idNumber(f[2])
		if !isNumber && f[0] == name || fits && ok && uid == number {
			gid, _, okGroup := idNumber(f[3])
			u.uid, u.gid, found, broken, known = uid, gid, true, !ok || !okGroup, f[0]
			if len(f) > 5 {
				u.home = f[5]
			}
			return false
		}
		return true
	})
	switch {
	case found && broken:
		return user{}, outOfRange(name)
	case found:
	case !isNumber:
		return u, failText("user", name, syscall.ENOENT, cat("unable to find user ", name, ": no matching entries in passwd file"))
	case !fits:
		return u, outOfRange(name)
	default:
		u.uid = number
	}
	var groups []uint32
	if group != "" {
		g, f := a.groupID(group, "unable to find group ")
		if f != nil {
			return u, f
		}
		u.gid = g
	} else if known != "" {
		groups = memberOf(a.groupFile(), known)
	}
	for _, x := range extra {
		g, f := a.groupID(string(x), "Unable to find group ")
		if f != nil {
			return u, f
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
			if u, _, ok := idNumber(f[2]); ok && u == uid {
				home = f[5]
				return false
			}
		}
		return true
	})
	return home
}

// groupID finds a group by name, or takes its number. missing begins the text where it is not there.
func (a *accounts) groupID(name, missing string) (int, *failure) {
	number, found, fits := idNumber(name)
	if !found {
		lines(a.groupFile(), func(f []string) bool {
			if len(f) < 3 || f[0] != name {
				return true
			}
			number, _, fits = idNumber(f[2])
			found = true
			return false
		})
	}
	switch {
	case !found:
		return 0, failText("user", name, syscall.ENOENT, cat(missing, name, ": no matching entries in group file"))
	case !fits:
		return 0, outOfRange(name)
	}
	return number, nil
}

func memberOf(file []byte, name string) (groups []uint32) {
	lines(file, func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		for _, u := range fields(f[3], ',') {
			if g, _, ok := idNumber(f[2]); ok && u == name {
				groups = append(groups, uint32(g))
				break
			}
		}
		return true
	})
	return groups
}

//go:build linux

package initproc

import (
	"syscall"
	"unsafe"
)

const prSetKeepCaps = 8

// user is whom the program runs as.
type user struct {
	uid, gid int
	groups   []uint32
	home     string // where the container's passwd file was looked at
}

func userByNumber(uid, gid int, groups [][]byte) (user, *failure) {
	u := user{uid: uid, gid: gid, groups: make([]uint32, 0, len(groups)+1)}
	for _, g := range groups {
		n, ok := atoi(string(g))
		if !ok {
			return u, failText("user", string(g), 0, cat("group ", string(g), " is not a number"))
		}
		u.groups = append(u.groups, uint32(n))
	}
	return u, nil
}

// takeIDs gives this thread the user's groups and numbers.
func (u *user) takeIDs() *failure {
	// The kernel takes 32 bits, and the last number for "stay as you are", which is root.
	const stay = 1<<32 - 1
	if u.uid < 0 || u.uid >= stay || u.gid < 0 || u.gid >= stay {
		return failText("user", cat(itoa(u.uid), ":", itoa(u.gid)), syscall.EINVAL, "uids and gids must be below 4294967295")
	}
	var list uintptr
	if len(u.groups) > 0 {
		list = uintptr(unsafe.Pointer(&u.groups[0]))
	}
	if _, e := call(syscall.SYS_SETGROUPS, uintptr(len(u.groups)), list, 0); e != 0 && !(e == syscall.EPERM && (len(u.groups) == 0 || len(u.groups) == 1 && int(u.groups[0]) == u.gid)) {
		return fail("user", "setting groups", e)
	}
	if _, e := call(syscall.SYS_SETRESGID, uintptr(u.gid), uintptr(u.gid), uintptr(u.gid)); e != 0 {
		return fail("user", cat("gid ", itoa(u.gid)), e)
	}
	if _, e := call(syscall.SYS_SETRESUID, uintptr(u.uid), uintptr(u.uid), uintptr(u.uid)); e != 0 {
		return fail("user", cat("uid ", itoa(u.uid)), e)
	}
	return nil
}

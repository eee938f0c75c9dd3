//go:build linux

package initproc

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	moby "github.com/moby/sys/user"
)

func known(passwd, group string) *accounts {
	return &accounts{passwd: []byte(passwd), readPasswd: true, group: []byte(group), readGroup: true}
}

const (
	somePasswd = "# nobody:x:1:1\nroot:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/srv:\nbig:x:4294967296:4294967296::/:\nminus:x:-1:0\nmuch:x:99999999999:0\ntext:x:root:0::/:\nempty:x:::::\ngid:x:5:4294967296\n7:x:8:9\nshort:x:1\n"
	someGroup  = "root:x:0:\nweb:x:34:www\nlog:x:40:root,www\nbig:x:4294967296:www\nlast:x:4294967295:\ntext:x:zero:www\n"
)

// A number that the kernel would cut down to root's, or that is none, makes nobody root (CVE-2024-40635).
func TestUsersOutOfRange(t *testing.T) {
	const rangeText, noUser, noGroup = "uids and gids must be in range 0-2147483647", "no matching entries in passwd file", "no matching entries in group file"
	for _, c := range []struct {
		spec  string
		extra []string
		want  string // "uid gid groups home", or a part of the error's text
	}{
		{"", nil, "0 0 [0 40] /root"},
		{"root", nil, "0 0 [0 40] /root"},
		{"www", nil, "33 34 [34 40] /srv"},
		{"33", nil, "33 34 [34 40] /srv"},
		{"www:root", nil, "33 0 [0] /srv"},
		{"www:log", []string{"web", "77"}, "33 40 [40 34 77] /srv"},
		{"1234", nil, "1234 0 [0] "},
		{"1234:5678", nil, "1234 5678 [5678] "},
		{"7", nil, "7 0 [0] "}, // a number is never a name
		{"2147483647:2147483647", nil, "2147483647 2147483647 [2147483647] "},
		{"2147483648", nil, rangeText},
		{"4294967295", nil, rangeText},
		{"4294967296", nil, rangeText},
		{"99999999999999999999999", nil, rangeText},
		{"-1", nil, rangeText},
		{"-", nil, noUser},
		{"1x", nil, noUser},
		{"short", nil, noUser},
		{"0:2147483648", nil, rangeText},
		{"0:4294967296", nil, rangeText},
		{"0:-1", nil, rangeText},
		{"0:nosuch", nil, noGroup},
		{"0:last", nil, rangeText},
		{"0:text", nil, rangeText},
		{"0", []string{"4294967296"}, rangeText},
		{"0", []string{"big"}, rangeText},
		{"0", []string{"nosuch"}, noGroup},
		{"big", nil, rangeText},
		{"minus", nil, rangeText},
		{"much", nil, rangeText},
		{"text", nil, rangeText},
		{"empty", nil, rangeText},
		{"gid", nil, rangeText},
		{"5", nil, rangeText},
	} {
		var extra [][]byte
		for _, g := range c.extra {
			extra = append(extra, []byte(g))
		}
		u, f := known(somePasswd, someGroup).user(c.spec, extra)
		got := fmt.Sprint(u.uid, u.gid, u.groups, " ", u.home)
		if f != nil {
			got = f.text
		}
		if f == nil && got != c.want || f != nil && !strings.Contains(got, c.want) {
			t.Errorf("%q and %q: %q, want %q", c.spec, c.extra, got, c.want)
		}
	}
	for _, u := range []user{{uid: 1<<32 - 1}, {uid: 1 << 32}, {uid: -1}, {gid: 1<<32 - 1}, {gid: 1 << 32}, {gid: -1}} {
		if f := u.takeIDs(); f == nil {
			t.Errorf("%d:%d was taken", u.uid, u.gid)
		}
	}
}

// plain tells whether the library reads a file as we do: it trims spaces, and takes what is no number for root's.
func plain(file string, least int, numbers ...int) bool {
	for line := range strings.SplitSeq(file, "\n") {
		f := strings.Split(line, ":")
		if strings.ContainsFunc(line, unicode.IsSpace) || !utf8.ValidString(line) {
			return false
		}
		if line == "" || line[0] == '#' {
			continue
		}
		if len(f) < least {
			return false
		}
		for _, n := range numbers {
			if _, _, ok := idNumber(f[n]); !ok {
				return false
			}
		}
	}
	return true
}

// FuzzUser compares the lookup with the library that Docker uses, where both take what they are given.
func FuzzUser(f *testing.F) {
	for _, spec := range []string{"", "www", "33:web", "7", "0:4294967296", "-0", "+1", "www:log:x"} {
		f.Add(somePasswd, someGroup, spec)
	}
	f.Add("a:b:1:2\r\nroot:x:00:0", "g:x:3:a,,b, c\n\n:::", "a")
	f.Fuzz(func(t *testing.T, passwd, group, spec string) {
		u, fail := known(passwd, group).user(spec, nil)
		if fail != nil {
			return
		}
		for _, n := range append([]uint32{uint32(u.uid), uint32(u.gid)}, u.groups...) {
			if n > maxID {
				t.Fatalf("%q: %+v is out of range", spec, u)
			}
		}
		if len(u.groups) == 0 || u.groups[0] != uint32(u.gid) {
			t.Fatalf("%q: %+v does not begin with the group", spec, u)
		}
		if len(strings.Split(spec, ":")) > 2 || !plain(passwd, 4, 2, 3) || !plain(group, 4, 2) {
			return
		}
		want, err := moby.GetExecUser(spec, nil, bytes.NewReader([]byte(passwd)), bytes.NewReader([]byte(group)))
		if err != nil { // it is stricter in places: an unreadable line ends everything
			return
		}
		if u.uid != want.Uid || u.gid != want.Gid {
			t.Errorf("%q: %d:%d, the library says %d:%d", spec, u.uid, u.gid, want.Uid, want.Gid)
		}
		for _, g := range u.groups[1:] {
			if !slices.Contains(want.Sgids, int(g)) {
				t.Errorf("%q: group %d, the library says %v", spec, g, want.Sgids)
			}
		}
	})
}

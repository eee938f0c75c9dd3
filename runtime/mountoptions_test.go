package runtime_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime"
)

// tree mounts a tmpfs with another one below it, "sub", and options as given on both.
func tree(t *testing.T, flags uintptr) string {
	t.Helper()
	dir := t.TempDir()
	mount := func(at string) {
		if err := unix.Mount("tmpfs", at, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	}
	mount(dir)
	mount(mkdir(t, filepath.Join(dir, "sub")))
	for _, at := range []string{dir, filepath.Join(dir, "sub")} {
		if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// mountinfo runs a container with mounts and gives the options, and the propagation, of each mount point in it.
func mountinfo(t *testing.T, init *os.File, s *specs.Spec) (options, propagation map[string]string) {
	t.Helper()
	res := run(t, init, s, runtime.Options{})
	if res.err != nil {
		t.Fatal(res.err)
	}
	options, propagation = map[string]string{}, map[string]string{}
	for line := range strings.Lines(res.out) {
		f := strings.Fields(line)
		options[f[4]] = f[5]
		propagation[f[4]] = strings.Join(f[6:slices.Index(f, "-")], " ")
	}
	return options, propagation
}

// Every option of a mount shows up in the container's table, on the mount itself and, where it begins
// with "r", on what is mounted below; options that take a flag away do.
func TestMountOptions(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	restricted := tree(t, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME|unix.MS_NODIRATIME|unix.MS_NOSYMFOLLOW)
	free := tree(t, 0)
	for _, tt := range []struct{ source, option, has, hasNot string }{
		{free, "ro", "ro", ""}, {free, "nosuid", "nosuid", ""}, {free, "nodev", "nodev", ""}, {free, "noexec", "noexec", ""},
		{free, "nodiratime", "nodiratime", ""}, {free, "noatime", "noatime", "relatime"}, {free, "relatime", "relatime", "noatime"},
		{free, "strictatime", "", "relatime"}, {free, "norelatime", "", "relatime"}, {free, "nosymfollow", "nosymfollow", ""},
		{restricted, "rw", "rw", ""}, {restricted, "suid", "ro", "nosuid"}, {restricted, "dev", "ro", "nodev"}, {restricted, "exec", "ro", "noexec"},
		{restricted, "diratime", "ro", "nodiratime"}, {restricted, "atime", "relatime", "noatime"}, {restricted, "relatime", "relatime", "noatime"},
		{restricted, "symfollow", "ro", "nosymfollow"}, {restricted, "nostrictatime", "relatime", "noatime"},
	} {
		for _, prefix := range []string{"", "r"} {
			s := configuration(t, root, "cat", "/proc/self/mountinfo")
			mountAt(s, "/v", "bind", tt.source, "rbind", prefix+tt.option)
			options, _ := mountinfo(t, init, s)
			check := func(at string, wanted bool) {
				have := strings.Split(options[at], ",")
				ok := (tt.has == "" || slices.Contains(have, tt.has)) && !slices.Contains(have, tt.hasNot)
				if wanted != ok {
					t.Errorf("%s%s: %s has %q (applied: %v, want %v)", prefix, tt.option, at, options[at], ok, wanted)
				}
			}
			check("/v", true)
			if tt.option != "relatime" || tt.source != free { // it is the default there
				check("/v/sub", prefix == "r")
			}
		}
	}
	for option, has := range map[string]string{"ro": "ro", "nosuid": "nosuid", "nodev": "nodev", "noexec": "noexec", "noatime": "noatime", "nosymfollow": "nosymfollow"} {
		s := configuration(t, root, "cat", "/proc/self/mountinfo")
		mountAt(s, "/v", "tmpfs", "tmpfs", option, "size=64k")
		if options, _ := mountinfo(t, init, s); !slices.Contains(strings.Split(options["/v"], ","), has) {
			t.Errorf("tmpfs %s: %q", option, options["/v"])
		}
	}
}

// Each propagation is what the container's table says, for the mount and, with "r", for those below.
func TestPropagation(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	source := tree(t, 0)
	for _, at := range []string{source, filepath.Join(source, "sub")} {
		if err := unix.Mount("", at, "", unix.MS_SHARED, ""); err != nil {
			t.Fatal(err)
		}
	}
	kind := func(p string) string {
		switch {
		case strings.Contains(p, "unbindable"):
			return "unbindable"
		case strings.Contains(p, "shared:"):
			return "shared"
		case strings.Contains(p, "master:"):
			return "slave"
		}
		return "private"
	}
	for option, want := range map[string][2]string{
		"private": {"private", "slave"}, "rprivate": {"private", "private"},
		"slave": {"slave", "slave"}, "rslave": {"slave", "slave"},
		"shared": {"shared", "slave"}, "rshared": {"shared", "shared"},
		"unbindable": {"unbindable", "slave"}, "runbindable": {"unbindable", "unbindable"},
	} {
		s := configuration(t, root, "cat", "/proc/self/mountinfo")
		mountAt(s, "/v", "bind", source, "rbind", option)
		_, propagation := mountinfo(t, init, s)
		if got := [2]string{kind(propagation["/v"]), kind(propagation["/v/sub"])}; got != want {
			t.Errorf("%s: %q, want %q", option, got, want)
		}
	}
	for option, want := range map[string]string{"": "private", "private": "private", "rprivate": "private", "slave": "private", "rslave": "private", "shared": "shared", "rshared": "shared", "unbindable": "unbindable"} {
		s := configuration(t, root, "cat", "/proc/self/mountinfo")
		s.Linux.RootfsPropagation = option
		if _, propagation := mountinfo(t, init, s); kind(propagation["/"]) != want {
			t.Errorf("root %q: %q, want %q", option, propagation["/"], want)
		}
	}
}

// What is mounted later passes between host and container as its propagation says.
func TestLaterMounts(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	for option, want := range map[string]struct{ in, out bool }{"rprivate": {}, "rslave": {in: true}, "rshared": {in: true, out: true}} {
		source := t.TempDir()
		if err := unix.Mount("tmpfs", source, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(source, unix.MNT_DETACH) })
		if err := unix.Mount("", source, "", unix.MS_SHARED, ""); err != nil {
			t.Fatal(err)
		}
		in, out := mkdir(t, filepath.Join(source, "in")), mkdir(t, filepath.Join(source, "out"))
		s := configuration(t, root, "sleep", "1000")
		mountAt(s, "/v", "bind", source, "rbind", option)
		if option == "rshared" {
			s.Linux.RootfsPropagation = "rshared"
		}
		target := background(t, init, s)
		if err := unix.Mount("tmpfs", in, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(in, "mark"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		e := configuration(t, root, "sh", "-c", "mount -t tmpfs inside /v/out && touch /v/out/mark && test -e /v/in/mark")
		caps := append([]string{"CAP_SYS_ADMIN"}, dockerCaps...)
		e.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
		e.Linux.Seccomp = nil
		text, code, err := execIn(t, init, target.PIDFD, unix.CLONE_NEWNS|unix.CLONE_NEWPID, e)
		if err != nil || code > 1 || text != "" {
			t.Fatalf("%s: error %v, code %d, %s", option, err, code, text)
		}
		_, err = os.Stat(filepath.Join(out, "mark"))
		if (code == 0) != want.in || (err == nil) != want.out {
			t.Errorf("%s: host's mount seen inside: %v, container's outside: %v; want %+v", option, code == 0, err == nil, want)
		}
		_ = unix.Unmount(in, unix.MNT_DETACH)
		_ = unix.Unmount(out, unix.MNT_DETACH)
	}
}

// An id-mapped mount shows the owners that the mapping says; "ridmap" also below.
func TestIDMappedMount(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	// On the disk's file system: tmpfs can be mapped since Linux 6.3 only.
	source, below := t.TempDir(), t.TempDir()
	sub := filepath.Join(source, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(below, sub, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(sub, unix.MNT_DETACH) })
	for _, name := range []string{"f", "sub/f"} {
		path := filepath.Join(source, name)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, 5, 7); err != nil {
			t.Fatal(err)
		}
	}
	for option, want := range map[string]string{"idmap": "1005:2007 5:7", "ridmap": "1005:2007 1005:2007"} {
		s := configuration(t, root, "sh", "-c", "echo $(stat -c %u:%g /v/f /v/sub/f)")
		mountAt(s, "/v", "bind", source, "rbind", option)
		m := &s.Mounts[len(s.Mounts)-1]
		m.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 100}}
		m.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 2000, Size: 100}}
		if res := run(t, init, s, runtime.Options{}); res.err != nil || res.out != want+"\n" {
			t.Errorf("%s: error %v, owners %q, want %q", option, res.err, res.out, want)
		}
	}
	s := configuration(t, root, "true")
	mountAt(s, "/v", "bind", source, "bind", "idmap")
	if _, err := runtime.Compile(s, runtime.Options{}); err == nil || !strings.Contains(err.Error(), "uidMappings") {
		t.Errorf("without mappings: %v", err)
	}
	s = configuration(t, root, "true")
	mountAt(s, "/v", "bind", "/proc", "bind", "idmap")
	s.Mounts[len(s.Mounts)-1].UIDMappings = []specs.LinuxIDMapping{{HostID: 1000, Size: 1}}
	s.Mounts[len(s.Mounts)-1].GIDMappings = []specs.LinuxIDMapping{{HostID: 1000, Size: 1}}
	if res := run(t, init, s, runtime.Options{}); res.err == nil || !strings.Contains(res.err.Error(), "id-mapped mount /proc: the file system there does not allow it") {
		t.Errorf("procfs, which cannot be mapped: %v", res.err)
	}
}

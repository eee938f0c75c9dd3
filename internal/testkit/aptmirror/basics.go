package aptmirror

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// applets are busybox's commands that dpkg, apt and their scripts call.
var applets = strings.Fields("sh rm cat ls echo mktemp sed grep cut sort diff start-stop-daemon true false test mkdir chmod chown cp mv date head tail find id wc tr touch readlink ln sleep basename dirname cmp [ expr od")

// messy is what installations leave behind: files that differ from run to run.
const messy = `mkdir -p /var/log /var/lib/systemd /var/lib/dbus /var/tmp /tmp
chmod 1777 /tmp /var/tmp
date > /var/log/install.log
head -c 16 /dev/urandom | od > /etc/machine-id
head -c 16 /dev/urandom > /var/lib/systemd/random-seed
head -c 16 /dev/urandom > /var/lib/dbus/machine-id
date > /tmp/left
echo "root:*:$(expr $(date +%s) / 86400):0:99999:7:::" > /etc/shadow
chmod 640 /etc/shadow
cp /etc/shadow /etc/shadow-`

// basics adds the packages of a tree in which dpkg and apt run.
func (m *Mirror) basics(t testing.TB) {
	t.Helper()
	const essential = "Essential: yes\nPriority: required\nSection: test\n"
	m.Add(t, Package{Name: "base-files", Version: "1", Fields: essential, PostInst: messy, Files: map[string]string{
		"/usr/lib/os-release": "ID=trial\nPRETTY_NAME=\"Trial 1\"\nVERSION_ID=\"1\"\n", "/etc/os-release": "-> ../usr/lib/os-release",
		"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n_apt:x:100:65534::/nonexistent:/bin/false\n", "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
		"/proc/": "", "/sys/": "", "/dev/": "", "/run/": "", "/root/": "", "/tmp/": "", "/var/log/": "",
	}})
	links := map[string]string{}
	for _, a := range applets {
		links["/bin/"+a] = "-> busybox"
	}
	m.Add(t, Package{Name: "busybox", Version: "1", Fields: essential, Files: links, Copies: map[string]string{"/bin/busybox": tool(t, "busybox")}})
	installer := withLibraries(t, "dpkg", "dpkg-deb", "dpkg-query", "dpkg-split", "dpkg-trigger", "tar", "env")
	for _, table := range []string{"cputable", "ostable", "tupletable"} {
		installer["/usr/share/dpkg/"+table] = "/usr/share/dpkg/" + table
	}
	m.Add(t, Package{Name: "dpkg", Version: "1", Fields: essential, Files: map[string]string{"/var/lib/dpkg/info/": "", "/etc/dpkg/dpkg.cfg.d/": ""},
		Copies: installer})
	m.Add(t, Package{Name: "ldconfig", Version: "1", Fields: essential, Files: map[string]string{"/sbin/ldconfig": "#!/bin/sh\n"}})
	apt := withLibraries(t, "apt-get", "apt-config", "gpgv")
	for _, method := range []string{"http", "gpgv", "store", "file", "copy"} {
		for path, file := range libraries(t, "/usr/lib/apt/methods/"+method) {
			apt[path] = file
		}
		apt["/usr/lib/apt/methods/"+method] = "/usr/lib/apt/methods/" + method
	}
	if script, err := os.Stat("/usr/bin/apt-key"); err == nil && script.Mode().IsRegular() {
		apt["/usr/bin/apt-key"] = "/usr/bin/apt-key"
	}
	for path := range installer {
		delete(apt, path)
	}
	m.Add(t, Package{Name: "apt", Version: "1", Fields: "Priority: important\nSection: test\n", Copies: apt, Files: map[string]string{"/etc/apt/apt.conf.d/": "",
		"/etc/apt/preferences.d/": "", "/etc/apt/sources.list.d/": "", "/etc/apt/trusted.gpg.d/": "", "/var/cache/apt/archives/partial/": "", "/var/lib/apt/lists/partial/": ""}})
	m.Add(t, Package{Name: "extra", Version: "1", Fields: "Priority: optional\nSection: test\n", Files: map[string]string{"/usr/share/extra": "extra\n"}})
}

// tool is where a program of this machine is.
func tool(t testing.TB, name string) string {
	t.Helper()
	path := strings.TrimSpace(run(t, "sh", "-c", "command -v "+name))
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// withLibraries lists programs, in /usr/bin, and all that they load.
func withLibraries(t testing.TB, names ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, n := range names {
		file := tool(t, n)
		all["/usr/bin/"+n] = file
		for path, lib := range libraries(t, file) {
			all[path] = lib
		}
	}
	return all
}

// libraries lists what a program loads: where it looks for it, and the file.
func libraries(t testing.TB, file string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for line := range strings.Lines(run(t, "ldd", file)) {
		for _, w := range strings.Fields(line) {
			if strings.HasPrefix(w, "/") {
				all[w] = w
			}
		}
	}
	return all
}

package firewall

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// ownCopy puts a copy of a folder in its place, in this test's mount namespace only.
func ownCopy(t *testing.T, dir string) {
	t.Helper()
	tmp := t.TempDir()
	if out, err := exec.Command("cp", "-a", dir+"/.", tmp).CombinedOutput(); err != nil {
		t.Fatalf("copying %s: %v\n%s", dir, err, out)
	}
	must(t, unix.Mount(tmp, dir, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// startUFW switches ufw on in this test's namespaces, with these rules.
func startUFW(t *testing.T, rules ...string) {
	t.Helper()
	for _, dir := range []string{"/etc/ufw", "/etc/default", "/lib/ufw"} {
		ownCopy(t, dir)
	}
	must(t, unix.Mount("none", "/run", "tmpfs", 0, "")) // its lock
	t.Cleanup(func() { _ = unix.Unmount("/run", unix.MNT_DETACH) })
	for _, r := range rules {
		command(t, "ufw", strings.Fields(r)...)
	}
	command(t, "ufw", "--force", "enable")
	t.Cleanup(func() {
		command(t, "ufw", "disable")
		for _, table := range []string{"ip", "ip6"} {
			nft(t, "delete", "table", table, "filter")
		}
	})
}

// TestRespectUFW: a published port is as open as ufw says that port is.
func TestRespectUFW(t *testing.T) {
	w, web, _ := newJudged(t)
	startUFW(t, "default deny incoming", "default deny outgoing", "allow in on eth0 to any port 8080", "reject from 192.168.50.2 to any port 8081 proto tcp", "deny from 10.80.0.2")
	waitFor(t, "our accepts", func() bool {
		return strings.Count(nft(t, "list", "ruleset"), testTable+" handed over") == 2 && strings.Count(nft(t, "list", "ruleset"), testTable+" from containers") == 2
	})
	questions := []question{
		{"ufw allows", w.lan, "192.168.50.1:8080", "192.168.50.2"},
		{"ufw allows", w.lan, "[fd50::1]:8080", "fd50::2"},
		{"ufw has no rule", w.lan, "192.168.50.1:8082", silence},
		{"ufw has no rule", w.lan, "[fd50::1]:8081", silence},
		{"ufw denies the source", w.far, "10.80.0.1:8080", silence},
		{"ufw allows on another interface", w.far, "[fd80::1]:8080", silence},
		{"the host itself", nil, "127.0.0.1:8082", refused},
		{"the host itself", nil, "127.0.0.1:8083", "172.30.0.1"},
	}
	check(t, questions)
	if got := ask(w.lan, "tcp", "192.168.50.1:8081", patience); got != refused {
		t.Errorf("ufw rejects: %s", got)
	}
	w.serve(w.far, 7000)
	check(t, []question{{"containers reach others", web, "10.80.0.2:7000", "10.80.0.1"}})
	command(t, "ufw", "reload")
	waitFor(t, "our accepts after a reload", func() bool {
		return strings.Count(nft(t, "list", "ruleset"), testTable+" handed over") == 2 && strings.Count(nft(t, "list", "ruleset"), testTable+" from containers") == 2
	})
	check(t, questions)
	check(t, []question{{"containers reach others after a reload", web, "10.80.0.2:7000", "10.80.0.1"}})
}

// startFirewalld runs firewalld with a bus of its own.
func startFirewalld(t *testing.T) (cmd func(args ...string) string) {
	t.Helper()
	ownCopy(t, "/etc/firewalld")
	dir := testkit.ShortTempDir(t)
	bus := filepath.Join(dir, "bus")
	must(t, os.WriteFile(filepath.Join(dir, "bus.conf"), []byte(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=`+bus+`</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>`), 0o600))
	env := append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+bus)
	for _, args := range [][]string{
		{"dbus-daemon", "--config-file=" + filepath.Join(dir, "bus.conf"), "--nofork", "--nopidfile"},
		{"firewalld", "--nofork", "--nopid"},
	} {
		c := exec.Command(args[0], args[1:]...)
		c.Env = env
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var said bytes.Buffer
		c.Stdout, c.Stderr = &said, &said
		must(t, c.Start())
		t.Cleanup(func() {
			_ = c.Process.Signal(syscall.SIGTERM)
			_ = c.Wait()
			if t.Failed() {
				t.Logf("%v said: %s", args, said.String())
			}
		})
		if args[0] == "dbus-daemon" {
			waitFor(t, "the bus", func() bool { _, err := os.Stat(bus); return err == nil })
		}
	}
	run := func(args ...string) (string, error) {
		c := exec.Command("firewall-cmd", args...)
		c.Env = env
		out, err := c.CombinedOutput()
		return string(out), err
	}
	waitFor(t, "firewalld", func() bool { _, err := run("--state"); return err == nil })
	return func(args ...string) string {
		t.Helper()
		out, err := run(args...)
		if err != nil {
			t.Fatalf("firewall-cmd %v: %v\n%s", args, err, out)
		}
		return out
	}
}

// TestRespectFirewalld: a published port is as open as the zones say that port is.
func TestRespectFirewalld(t *testing.T) {
	w, web, _ := newJudged(t)
	fw := startFirewalld(t)
	settled := func() bool {
		all := nft(t, "list", "table", "inet", "firewalld")
		return strings.Contains(all, testTable+" from containers") && strings.Contains(all, testTable+" to containers")
	}
	waitFor(t, "our accepts", settled)
	for _, args := range []string{
		"--permanent --zone=public --add-port=8080/tcp", "--permanent --zone=public --add-port=8080/udp",
		"--permanent --zone=internal --add-port=8081/tcp", "--permanent --zone=internal --add-port=8081/udp",
		"--permanent --zone=public --add-interface=eth0", "--permanent --zone=internal --add-interface=eth1", "--reload",
	} {
		fw(strings.Fields(args)...)
	}
	waitFor(t, "our accepts after a reload", settled)
	w.serve(w.far, 7000)
	check(t, []question{
		{"open in the zone", w.lan, "192.168.50.1:8080", "192.168.50.2"},
		{"open in the zone", w.lan, "[fd50::1]:8080", "fd50::2"},
		{"not open there", w.lan, "192.168.50.1:8081", prohibited},
		{"not open there", w.lan, "[fd50::1]:8081", prohibited},
		{"open in the other zone", w.far, "10.80.0.1:8081", "10.80.0.2"},
		{"open in the other zone", w.far, "[fd80::1]:8081", "fd80::2"},
		{"not open there", w.far, "10.80.0.1:8080", prohibited},
		{"the host itself", nil, "127.0.0.1:8081", "172.30.0.1"},
		{"containers reach others", web, "10.80.0.2:7000", "10.80.0.1"},
		{"direct", w.lan, "172.30.0.2:80", silence},
	})
}

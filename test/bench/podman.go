package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// podmanConf keeps Podman to what works everywhere the bench does: runc, because crun refuses
// the hybrid cgroup mount, and a log that its API can read.
const podmanConf = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`

// podman starts Podman's API service with roots and namespaces of its own; its
// command line is measured as everybody uses it, without the service.
func (b *bench) podman() (*engine, error) {
	dir, err := os.MkdirTemp("/var/tmp", "bench-podman-")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(podmanConf), 0o600); err != nil {
		return nil, err
	}
	e := &engine{name: "podman", dir: dir, socket: filepath.Join(dir, "s")}
	e.http = unixClient(e.socket)
	e.api = api{e.http, b.ctx}
	env := append(os.Environ(), "CONTAINERS_CONF="+filepath.Join(dir, "conf"))
	base := []string{"podman", "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--tmpdir", filepath.Join(dir, "tmp")}
	had := podmanCgroups()
	service := exec.Command("unshare", append([]string{"-m", "-n", "--propagation", "private", "sh", "-c", `ip link set lo up; exec "$@"`, "sh"},
		append(base, "system", "service", "--time", "0", "unix://"+e.socket)...)...)
	service.Env = env
	service.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := service.Start(); err != nil {
		return nil, err
	}
	pid := service.Process.Pid
	e.command = func(args ...string) *exec.Cmd {
		words := append([]string{"-t", strconv.Itoa(pid), "-m", "-n"}, base...)
		cmd := exec.Command("nsenter", append(words, args...)...)
		cmd.Env = env
		return cmd
	}
	e.pids = func() []int { return mentioning(dir) }
	e.daemon = func() int { return pid }
	e.destroy = func() error {
		var errs []error
		if out, err := e.command("rm", "-fa", "-t", "0").CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("removing the containers: %w\n%s", err, out))
		}
		e.http.CloseIdleConnections()
		_ = service.Process.Kill()
		_ = service.Wait()
		for _, p := range mentioning(dir) {
			_ = syscall.Kill(p, syscall.SIGKILL)
		}
		for _, c := range podmanCgroups() {
			if !slices.Contains(had, c) {
				removeCgroups(c)
			}
		}
		return errors.Join(append(errs, os.RemoveAll(dir))...)
	}
	var v struct{ Version string }
	deadline := time.Now().Add(20 * time.Second)
	for err = errors.New(""); err != nil; time.Sleep(20 * time.Millisecond) {
		if err = e.api.call("GET", "/version", nil, &v); err != nil && (time.Now().After(deadline) || b.ctx.Err() != nil) {
			return nil, errors.Join(fmt.Errorf("podman's service does not answer: %w", err), e.destroy())
		}
	}
	e.version = v.Version
	return e, nil
}

func podmanCgroups() []string {
	a, _ := filepath.Glob("/sys/fs/cgroup/libpod_parent")
	b, _ := filepath.Glob("/sys/fs/cgroup/*/libpod_parent")
	return append(a, b...)
}

// removeCgroups removes an empty tree of cgroups, from its leaves.
func removeCgroups(dir string) {
	below, _ := filepath.Glob(filepath.Join(dir, "*", "cgroup.procs"))
	for _, c := range below {
		removeCgroups(filepath.Dir(c))
	}
	_ = os.Remove(dir)
}

// mentioning lists the processes whose command line has s in it.
func mentioning(s string) (ids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, d := range entries {
		pid, err := strconv.Atoi(d.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", d.Name(), "cmdline"))
		if err == nil && strings.Contains(string(b), s) {
			ids = append(ids, pid)
		}
	}
	return ids
}

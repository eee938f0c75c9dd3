package containers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// dropShared unmounts the shared memory of a container that has ended; containers
// that joined it keep what they have.
func (c *core) dropShared(rec *Container) error {
	if !rec.HostConfig.IpcMode.IsShareable() {
		return nil
	}
	return c.HostMounts.Unmount(filepath.Join(c.Config.filesDir(rec.ID), "shm"))
}

func (a *attempt) filesDir() string { return a.Config.filesDir(a.rec.ID) }

// files writes hostname, hosts and resolv.conf, and makes the folders for the log
// and for shared memory.
func (a *attempt) files(ctx context.Context) error {
	rec, dir := a.rec, a.filesDir()
	made := !exists(dir)
	if err := os.MkdirAll(dir, 0o710); err != nil {
		return err
	}
	if made && !rec.Volatile {
		a.undo.Push("files", func(context.Context) error { return os.RemoveAll(dir) })
	}
	if rec.Log.Path != "" {
		if err := os.MkdirAll(filepath.Dir(rec.Log.Path), 0o710); err != nil {
			return fmt.Errorf("making the folder for the log: %w", err)
		}
	}
	if err := a.sharedMemory(dir); err != nil {
		return err
	}
	now := *rec
	now.Sandbox = a.sandbox
	resolver, err := a.resolvConf(ctx, &now)
	if err != nil {
		return err
	}
	if rec.HostConfig.NetworkMode.IsContainer() {
		return a.borrowFiles(dir)
	}
	for name, text := range map[string]string{
		"hostname": rec.Config.Hostname + "\n", "hosts": a.hosts(&now), "resolv.conf": resolver,
	} {
		if err := writeInPlace(filepath.Join(dir, name), text); err != nil {
			return err
		}
	}
	return nil
}

// sharedMemory decides what is /dev/shm: the host's, another container's, one
// that others may join (a tmpfs mounted below the exec root), or a tmpfs of its own.
func (a *attempt) sharedMemory(dir string) error {
	m := a.rec.HostConfig.IpcMode
	switch {
	case m.IsHost():
		a.shm = "/dev/shm"
	case m.IsContainer():
		other, err := a.reg.get(m.Container())
		if err != nil {
			return err
		}
		a.shm = filepath.Join(a.Config.filesDir(other.id), "shm")
		if other.snapshot().HostConfig.IpcMode.IsHost() {
			a.shm = "/dev/shm"
		}
	case m.IsShareable():
		a.shm = filepath.Join(dir, "shm")
		if err := os.Mkdir(a.shm, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := a.HostMounts.SharedMemory(a.shm, a.rec.HostConfig.ShmSize, a.rec.MountLabel); err != nil {
			return err
		}
		a.undo.Push("shared memory", func(context.Context) error { return a.HostMounts.Unmount(a.shm) })
	}
	return nil
}

// borrowFiles takes over the files of the container whose network is shared.
func (a *attempt) borrowFiles(dir string) error {
	other := a.Config.filesDir(a.rec.HostConfig.NetworkMode.ConnectedContainer())
	for _, f := range []string{"hostname", "hosts", "resolv.conf"} {
		data, err := os.ReadFile(filepath.Join(other, f))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := writeInPlace(filepath.Join(dir, f), string(data)); err != nil {
			return err
		}
	}
	return nil
}

// hosts is the hosts file of a container that is about to run.
func (a *attempt) hosts(rec *Container) string {
	if rec.HostConfig.NetworkMode.IsHost() {
		if data, err := os.ReadFile("/etc/hosts"); err == nil {
			return string(data) + joinLines(hostsLines(rec.HostConfig.ExtraHosts, a.Config.HostGatewayIPs))
		}
	}
	lines := []string{"127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", "fe00::\tip6-localnet", "ff00::\tip6-mcastprefix", "ff02::1\tip6-allnodes", "ff02::2\tip6-allrouters"}
	lines = append(lines, hostsLines(rec.HostConfig.ExtraHosts, a.Config.HostGatewayIPs)...)
	for _, t := range a.linked {
		lines = append(lines, t.Hosts())
	}
	return joinLines(append(lines, ownHosts(rec)...))
}

// hostsLines are the extra lines of a hosts file from --add-host.
func hostsLines(extra []string, gateways []netip.Addr) []string {
	var out []string
	for _, h := range extra {
		name, addr, ok := strings.Cut(h, ":")
		if !ok {
			name, addr, _ = strings.Cut(h, "=")
		}
		if addr == "host-gateway" {
			for _, g := range gateways {
				out = append(out, g.String()+"\t"+name)
			}
			continue
		}
		out = append(out, strings.Trim(addr, "[]")+"\t"+name)
	}
	return out
}

func (c *core) resolvConf(ctx context.Context, rec *Container) (string, error) {
	hc := rec.HostConfig
	if hc.NetworkMode.IsContainer() {
		return "", nil
	}
	servers, search, options, err := c.Networks.Resolver(ctx, rec.Sandbox.Endpoints)
	if err != nil {
		return "", err
	}
	dns, opts, dom := hc.DNS, hc.DNSOptions, hc.DNSSearch
	if len(dns) == 0 {
		dns = c.Config.DNS
	}
	if len(opts) == 0 {
		opts = c.Config.DNSOptions
	}
	if len(dom) == 0 {
		dom = c.Config.DNSSearch
	}
	if len(dns) > 0 && !(len(servers) == 1 && servers[0] == "127.0.0.11") { // the name service asks them
		servers = nil
		for _, d := range dns {
			servers = append(servers, d.String())
		}
	}
	if len(opts) > 0 {
		options = opts
	}
	if len(dom) > 0 {
		search = dom
	}
	var lines []string
	for _, s := range servers {
		lines = append(lines, "nameserver "+s)
	}
	if len(search) > 0 && (len(search) != 1 || search[0] != ".") {
		lines = append(lines, "search "+strings.Join(search, " "))
	}
	if len(options) > 0 {
		lines = append(lines, "options "+strings.Join(options, " "))
	}
	return joinLines(lines), nil
}

func joinLines(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// writeInPlace keeps the file's inode: it may be mounted in a container that shares it.
func writeInPlace(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

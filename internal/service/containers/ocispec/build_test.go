package ocispec

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/service/containers/ocispec/facts"
)

var update = flag.Bool("update", false, "write the golden files")

func input() Input {
	return Input{ID: "0123", Path: "/bin/app", Args: []string{"-v"}, Hostname: "box", CgroupPath: "/gantry/0123", Host: facts.Full(), NetStart: true,
		Config: &container.Config{Env: []string{"A=b", "PATH=/bin"}, User: "app:staff"},
		HostConfig: &container.HostConfig{ShmSize: 64 << 20, IpcMode: "private", CgroupnsMode: "private",
			MaskedPaths: DefaultMaskedPaths, ReadonlyPaths: DefaultReadonlyPaths},
		Devices: func(path string) ([]specs.LinuxDevice, error) {
			return []specs.LinuxDevice{{Path: path, Type: "c", Major: 10, Minor: 229}}, nil
		}}
}

func TestGolden(t *testing.T) {
	swappiness, pids, yes := int64(10), int64(50), true
	for name, edit := range map[string]func(*Input){
		"plain":      func(*Input) {},
		"privileged": func(in *Input) { in.HostConfig.Privileged = true },
		"limits": func(in *Input) {
			in.HostConfig.Resources = container.Resources{Memory: 64 << 20, MemorySwap: -1, MemorySwappiness: &swappiness, NanoCPUs: 1.5e9, CpusetCpus: "0-1",
				PidsLimit: &pids, OomKillDisable: &yes, BlkioWeight: 100, Devices: []container.DeviceMapping{{PathOnHost: "/dev/fuse", PathInContainer: "/dev/f", CgroupPermissions: "rw"}},
				DeviceCgroupRules: []string{"c 42:* rwm"}, Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 10, Hard: 20}}}
		},
		"host": func(in *Input) {
			hc := in.HostConfig
			hc.NetworkMode, hc.PidMode, hc.UTSMode, hc.IpcMode, hc.CgroupnsMode = "host", "host", "host", "host", "host"
			in.NoNetNS, in.NetStart, in.ShmPath = true, false, "/dev/shm"
		},
		"terminal": func(in *Input) {
			in.Config.Tty = true
			in.HostConfig.ConsoleSize = [2]uint{24, 80}
			in.HostConfig.GroupAdd = []string{"audio", "42"}
			in.HostConfig.SecurityOpt = []string{"no-new-privileges", "seccomp=unconfined"}
			in.Mounts = []specs.Mount{{Destination: "/dev/shm", Type: "tmpfs"}, {Destination: "/x", Type: "bind", Source: "/y", Options: []string{"rbind", "rslave"}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			edit(&in)
			s, err := Build(in)
			if err != nil {
				t.Fatal(err)
			}
			if s.Linux.Seccomp != nil { // moby's profile has tests of its own
				s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: s.Linux.Seccomp.DefaultAction}
			}
			got, err := json.MarshalIndent(s, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(got)+"\n"); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestCapabilities(t *testing.T) {
	for _, c := range []struct {
		add, drop []string
		has, not  string
		n         int
	}{
		{nil, nil, "CAP_CHOWN", "CAP_SYS_ADMIN", 14},
		{[]string{"sys_admin"}, nil, "CAP_SYS_ADMIN", "CAP_BPF", 15},
		{nil, []string{"ALL"}, "", "CAP_CHOWN", 0},
		{[]string{"CAP_KILL"}, []string{"all"}, "CAP_KILL", "CAP_CHOWN", 1},
		{[]string{"ALL"}, []string{"mknod"}, "CAP_BPF", "CAP_MKNOD", 40},
	} {
		got, err := Capabilities(&container.HostConfig{CapAdd: c.add, CapDrop: c.drop}, 0)
		if err != nil || len(got) != c.n || c.has != "" && !slices.Contains(got, c.has) || slices.Contains(got, c.not) {
			t.Errorf("+%v -%v: %v, %v", c.add, c.drop, got, err)
		}
	}
	withheld := ^uint64(0) &^ (1 << 24) // CAP_SYS_RESOURCE
	if _, err := Capabilities(&container.HostConfig{CapAdd: []string{"SYS_RESOURCE"}}, withheld); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a capability that the host withholds: %v", err)
	}
	got, err := Capabilities(&container.HostConfig{Privileged: true}, withheld)
	if err != nil || len(got) != 40 || slices.Contains(got, "CAP_SYS_RESOURCE") {
		t.Errorf("privileged: %v, %v", got, err)
	}
}

func TestSeccompIsCompiledOnce(t *testing.T) {
	a, err := Build(input())
	if err != nil {
		t.Fatal(err)
	}
	b, err := Build(input())
	if err != nil {
		t.Fatal(err)
	}
	if a.Linux.Seccomp == nil || a.Linux.Seccomp != b.Linux.Seccomp {
		t.Error("the default profile was expanded again")
	}
}

func TestSecurityOptForms(t *testing.T) {
	for opt, ok := range map[string]bool{
		"no-new-privileges": true, "no-new-privileges=false": true, "no-new-privileges:true": true, "no-new-privileges=maybe": false,
		"label=disable": true, "label:type:x": true, "apparmor=unconfined": true, "seccomp=unconfined": true, "seccomp:{}": true, "wrong=x": false, "wrong": false,
	} {
		if _, err := ParseSecurity([]string{opt}); (err == nil) != ok {
			t.Errorf("%s: %v", opt, err)
		}
	}
}

func TestWithheld(t *testing.T) {
	all := uint64(1)<<len(allCaps) - 1
	lacking := all &^ (1 << 24) // CAP_SYS_RESOURCE
	for _, c := range []struct {
		hc       container.HostConfig
		bounding uint64
		want     string
	}{
		{container.HostConfig{Privileged: true}, lacking, "CAP_SYS_RESOURCE"},
		{container.HostConfig{CapAdd: []string{"all"}}, lacking, "CAP_SYS_RESOURCE"},
		{container.HostConfig{CapAdd: []string{"NET_ADMIN"}}, lacking, ""},
		{container.HostConfig{Privileged: true}, all, ""},
		{container.HostConfig{Privileged: true}, 0, ""},
		{container.HostConfig{Privileged: true}, all >> 3, ""}, // a kernel that does not know the last three
	} {
		if got := strings.Join(Withheld(&c.hc, c.bounding), " "); got != c.want {
			t.Errorf("%+v of %x: %q, want %q", c.hc, c.bounding, got, c.want)
		}
	}
}

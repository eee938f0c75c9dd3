package containers

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

func TestCreateRefuses(t *testing.T) {
	bad, not := errdefs.IsInvalidArgument, errdefs.IsNotImplemented
	for _, c := range []struct {
		name  string
		edit  func(*CreateRequest)
		class func(error) bool
		text  string
	}{
		{"name", func(r *CreateRequest) { r.Name = "a b" }, bad, "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"},
		{"image", func(r *CreateRequest) { r.Config.Image = "nope" }, errdefs.IsNotFound, "No such image: nope"},
		{"command", func(r *CreateRequest) { r.Config.Cmd = nil }, bad, "no command specified"},
		{"memory", func(r *CreateRequest) { r.HostConfig.Memory = 1 << 20 }, bad, "Minimum memory limit allowed is 6MB"},
		{"swap", func(r *CreateRequest) { r.HostConfig.MemorySwap = -2 }, bad, "invalid memory and swap limit (-2)"},
		{"zero byte in the command", func(r *CreateRequest) { r.Config.Cmd = []string{"echo", "a\x00b"} }, bad, `invalid command: "a\x00b" has a zero byte`},
		{"zero byte in the environment", func(r *CreateRequest) { r.Config.Env = []string{"A=\x00"} }, bad, `invalid environment variable: a NUL byte in "A=\x00"`},
		{"zero byte in the working directory", func(r *CreateRequest) { r.Config.WorkingDir = "/\x00" }, bad, "has a zero byte"},
		{"zero byte in the user", func(r *CreateRequest) { r.Config.User = "a\x00" }, bad, "has a zero byte"},
		{"zero byte in a group", func(r *CreateRequest) { r.HostConfig.GroupAdd = []string{"a\x00"} }, bad, "has a zero byte"},
		{"zero byte in a masked path", func(r *CreateRequest) { r.HostConfig.MaskedPaths = []string{"/\x00"} }, bad, "has a zero byte"},
		{"zero byte in a read-only path", func(r *CreateRequest) { r.HostConfig.ReadonlyPaths = []string{"/\x00"} }, bad, "has a zero byte"},
		{"zero byte in a sysctl", func(r *CreateRequest) { r.HostConfig.Sysctls = map[string]string{"net.core.somaxconn": "1\x00"} }, bad, "has a zero byte"},
		{"zero byte in a tmpfs", func(r *CreateRequest) { r.HostConfig.Tmpfs = map[string]string{"/x\x00": ""} }, bad, "has a zero byte"},
		{"zero byte in a bind", func(r *CreateRequest) { r.HostConfig.Binds = []string{"/tmp:/x\x00"} }, bad, "has a zero byte"},
		{"zero byte in a device", func(r *CreateRequest) {
			r.HostConfig.Devices = []container.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "/dev/x\x00", CgroupPermissions: "rwm"}}
		}, bad, "has a zero byte"},
		{"zero byte in the domain name", func(r *CreateRequest) { r.Config.Domainname = "a\x00" }, bad, ""},
		{"bind source", func(r *CreateRequest) {
			r.HostConfig.Mounts = []mount.Mount{{Type: mount.TypeBind, Source: "/does/not/exist", Target: "/x"}}
		}, bad, `invalid mount config for type "bind": bind source path does not exist: /does/not/exist`},
		{"bind root", func(r *CreateRequest) { r.HostConfig.Binds = []string{"/tmp:/"} }, bad, "destination can't be '/'"},
		{"two mounts in one place", func(r *CreateRequest) { r.HostConfig.Binds = []string{"/tmp:/x", "/var:/x"} }, bad, "Duplicate mount point: /x"},
		{"bind mode", func(r *CreateRequest) { r.HostConfig.Binds = []string{"/tmp:/x:wrong"} }, bad, "invalid mode: wrong"},
		{"tmpfs option", func(r *CreateRequest) { r.HostConfig.Tmpfs = map[string]string{"/x": "wrong"} }, bad, "invalid tmpfs option"},
		{"hostname", func(r *CreateRequest) { r.Config.Hostname = "a_b!" }, bad, "invalid hostname format: a_b!"},
		{"working directory", func(r *CreateRequest) { r.Config.WorkingDir = "x" }, bad, "the working directory 'x' is invalid, it needs to be an absolute path"},
		{"restart policy", func(r *CreateRequest) { r.HostConfig.RestartPolicy.Name = "sometimes" }, bad, "unknown policy 'sometimes'"},
		{"restart and remove", func(r *CreateRequest) {
			r.HostConfig.AutoRemove = true
			r.HostConfig.RestartPolicy.Name = "always"
		}, bad, "can't create 'AutoRemove' container with restart policy"},
		{"security", func(r *CreateRequest) { r.HostConfig.SecurityOpt = []string{"wrong"} }, bad, `invalid --security-opt 1: "wrong"`},
		{"seccomp", func(r *CreateRequest) { r.HostConfig.SecurityOpt = []string{"seccomp={"} }, bad, "Decoding seccomp profile failed"},
		{"capability", func(r *CreateRequest) { r.HostConfig.CapAdd = []string{"FLY"} }, bad, `invalid CapAdd: unknown capability: "FLY"`},
		{"runtime", func(r *CreateRequest) { r.HostConfig.Runtime = "x" }, bad, "unknown or invalid runtime name: x"},
		{"log driver", func(r *CreateRequest) { r.HostConfig.LogConfig.Type = "x" }, bad, "no log driver named 'x'"},
		{"sysctl", func(r *CreateRequest) { r.HostConfig.Sysctls = map[string]string{"vm.swappiness": "1"} }, bad, "sysctl 'vm.swappiness' is not whitelisted"},
		{"sysctl, host network", func(r *CreateRequest) {
			r.HostConfig.NetworkMode = "host"
			r.HostConfig.Sysctls = map[string]string{"net.core.somaxconn": "1"}
		}, bad, "not allowed in host network namespace"},
		{"cpus", func(r *CreateRequest) { r.HostConfig.NanoCPUs = 64e9 }, bad, "as there are only 2 CPUs available"},
		{"cpuset", func(r *CreateRequest) { r.HostConfig.CpusetCpus = "0-7" }, bad, "Requested CPUs are not available"},
		{"extra host", func(r *CreateRequest) { r.HostConfig.ExtraHosts = []string{"x:nonsense"} }, bad, `invalid IP address in add-host: "nonsense"`},
		{"stop signal", func(r *CreateRequest) { r.Config.StopSignal = "SIGNOPE" }, bad, "invalid signal: SIGNOPE"},
		{"other's network", func(r *CreateRequest) { r.HostConfig.NetworkMode = "container:nope" }, bad, "No such container: nope"},
		{"links", func(r *CreateRequest) { r.HostConfig.Links = []string{"a:b"} }, bad, "could not get container for a"},
		{"gpus", func(r *CreateRequest) { r.HostConfig.DeviceRequests = []container.DeviceRequest{{Count: 1}} }, not, "--gpus"},
		{"image mount", func(r *CreateRequest) {
			r.HostConfig.Mounts = []mount.Mount{{Type: mount.TypeImage, Source: "busybox", Target: "/x"}}
		}, not, "type=image"},
		{"storage option", func(r *CreateRequest) { r.HostConfig.StorageOpt = map[string]string{"x": "y"} }, not, "--storage-opt x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			s := w.service()
			req := CreateRequest{Config: &container.Config{Image: "busybox", Cmd: []string{"true"}}, HostConfig: &container.HostConfig{}}
			c.edit(&req)
			_, err := s.Create(ctx, req)
			if err == nil || !c.class(err) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("got  %v\nwant %s", err, c.text)
			}
			if len(w.layers)+len(w.records)+len(w.volumes) != 0 {
				t.Error("something is left behind")
			}
		})
	}
}

func TestNameConflict(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s, func(r *CreateRequest) { r.Name = "web" })
	_, err := s.Create(ctx, CreateRequest{Name: "/web", Config: &container.Config{Image: "busybox", Cmd: []string{"true"}}})
	want := `Conflict. The container name "/web" is already in use by container "` + id + `". You have to remove (or rename) that container to be able to reuse that name.`
	if !errdefs.IsConflict(err) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestResolution(t *testing.T) {
	r := newRegistry()
	for id, name := range map[string]string{"abc1": "one", "abc2": "two", "def0": "abc1x", "f00": "def"} {
		r.add(newEntry(&Container{ID: id, Name: name}))
	}
	for ref, want := range map[string]string{"abc1": "abc1", "one": "abc1", "/two": "abc2", "abc1x": "def0", "de": "def0", "def": "f00", "f": "f00"} {
		if e, err := r.get(ref); err != nil || e.id != want {
			t.Errorf("%s: %v, %v; want %s", ref, e, err, want)
		}
	}
	if _, err := r.get("abc"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("ambiguous prefix: %v", err)
	}
	if _, err := r.get("zzz"); !errdefs.IsNotFound(err) || err.Error() != "No such container: zzz" {
		t.Errorf("unknown: %v", err)
	}
}

func TestWarnings(t *testing.T) {
	w := newWorld(t)
	s := w.service(func(c *Config) { c.Host.SwapLimit = false })
	resp, err := s.Create(ctx, CreateRequest{Config: &container.Config{Image: "busybox", Cmd: []string{"true"}},
		HostConfig: &container.HostConfig{Resources: container.Resources{Memory: 64 << 20}}})
	if err != nil || len(resp.Warnings) != 1 || !strings.Contains(resp.Warnings[0], "Memory limited without swap") {
		t.Errorf("%v, %v", resp, err)
	}
}

package containers

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/service/containers/mounts"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/testkit/apicheck"
)

// edit changes a container's record behind the service's back.
func edit(t *testing.T, s *Service, id string, f func(*Container)) {
	t.Helper()
	e, unlock, err := s.core.open(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := s.core.change(ctx, e, inMemory, f); err != nil {
		t.Fatal(err)
	}
}

// fleet makes containers one, two and three: created, running with ports, and exited with code 3.
func fleet(t *testing.T, s *Service) (one, two, three string) {
	t.Helper()
	start := time.Now().Add(-time.Hour)
	for i, p := range []*string{&one, &two, &three} {
		name := []string{"one", "two", "three"}[i]
		*p = create(t, s, func(r *CreateRequest) {
			r.Name = name
			r.Config.Labels = map[string]string{"n": name, "all": ""}
		})
		edit(t, s, *p, func(c *Container) { c.Created = start.Add(time.Duration(i) * time.Minute) })
	}
	edit(t, s, one, func(c *Container) {
		c.Mounts = []mounts.Point{{MountPoint: container.MountPoint{Type: mount.TypeVolume, Name: "vol", Source: "/v/vol/_data", Destination: "/data"}},
			{MountPoint: container.MountPoint{Type: mount.TypeTmpfs, Destination: "/t"}}}
		c.Networks = map[string]*network.EndpointSettings{"none": {}}
	})
	edit(t, s, two, func(c *Container) {
		c.State.Status, c.State.Started, c.State.Pid = Running, start, 42
		c.Config.ExposedPorts = network.PortSet{network.MustParsePort("90/tcp"): {}}
		c.Sandbox = spec.Sandbox{
			ID:        "sb",
			Endpoints: []spec.Endpoint{{NetworkID: "net12345", NetworkName: "web", HostInterface: "br0", Driver: "bridge", IPv4: netip.MustParsePrefix("172.30.0.2/16"), MAC: "02:42:ac:1e:00:02"}},
			Ports:     []spec.Port{{Proto: "tcp", ContainerPort: 80, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8080}},
		}
	})
	edit(t, s, three, func(c *Container) {
		c.State.Status, c.State.Started, c.State.Finished, c.State.ExitCode = Exited, start, start, 3
	})
	return one, two, three
}

func TestListFilters(t *testing.T) {
	s := newWorld(t).service()
	one, two, _ := fleet(t, s)
	for _, c := range []struct {
		o    ListOptions
		want string
	}{
		{ListOptions{}, "two"},
		{ListOptions{All: true}, "three two one"},
		{ListOptions{Limit: 2}, "three two"},
		{ListOptions{Limit: 1, Filters: filters.Args{"name": {"o"}}}, "two"},
		{ListOptions{All: true, Filters: filters.Args{"name": {"^/t"}}}, "three two"},
		{ListOptions{All: true, Filters: filters.Args{"name": {"one", "two"}}}, "two one"},
		{ListOptions{All: true, Filters: filters.Args{"id": {one[:20]}}}, "one"},
		{ListOptions{All: true, Filters: filters.Args{"label": {"all"}}}, "three two one"},
		{ListOptions{All: true, Filters: filters.Args{"label": {"all", "n=two"}}}, "two"},
		{ListOptions{All: true, Filters: filters.Args{"label": {"n=x"}}}, ""},
		{ListOptions{Filters: filters.Args{"status": {"created"}}}, "one"},
		{ListOptions{Filters: filters.Args{"status": {"exited", "running"}}}, "three two"},
		{ListOptions{Filters: filters.Args{"exited": {"3"}}}, "three"},
		{ListOptions{Filters: filters.Args{"exited": {"0"}}}, ""},
		{ListOptions{Filters: filters.Args{"before": {"two"}}}, "one"},
		{ListOptions{Filters: filters.Args{"since": {"two"}}}, "three"},
		{ListOptions{Filters: filters.Args{"since": {two[:12]}}}, "three"},
		{ListOptions{All: true, Filters: filters.Args{"ancestor": {"busybox"}}}, "three two one"},
		{ListOptions{All: true, Filters: filters.Args{"ancestor": {"nosuch"}}}, ""},
		{ListOptions{All: true, Filters: filters.Args{"volume": {"vol"}}}, "one"},
		{ListOptions{All: true, Filters: filters.Args{"volume": {"/data/"}}}, "one"},
		{ListOptions{All: true, Filters: filters.Args{"volume": {"other"}}}, ""},
		{ListOptions{All: true, Filters: filters.Args{"network": {"none"}}}, "one"},
		{ListOptions{All: true, Filters: filters.Args{"network": {"web"}}}, "two"},
		{ListOptions{All: true, Filters: filters.Args{"network": {"net123"}}}, "two"},
		{ListOptions{All: true, Filters: filters.Args{"publish": {"8000-8100/tcp"}}}, "two"},
		{ListOptions{All: true, Filters: filters.Args{"publish": {"80"}}}, ""},
		{ListOptions{All: true, Filters: filters.Args{"publish": {"8080/udp"}}}, ""},
		{ListOptions{All: true, Filters: filters.Args{"expose": {"80"}}}, "two"},
		{ListOptions{All: true, Filters: filters.Args{"expose": {"90"}, "publish": {"8080"}}}, "two"},
		{ListOptions{All: true, Filters: filters.Args{"expose": {"91"}, "publish": {"8080"}}}, ""},
		{ListOptions{All: true, Filters: filters.Args{"health": {"none"}}}, "three two one"},
		{ListOptions{All: true, Filters: filters.Args{"health": {"healthy"}}}, ""},
		{ListOptions{All: true, Filters: filters.Args{"is-task": {"true"}}}, ""},
		{ListOptions{All: true, Filters: filters.Args{"is-task": {"false"}}}, "three two one"},
	} {
		list, err := s.List(ctx, c.o)
		if err != nil {
			t.Errorf("%+v: %v", c.o, err)
		}
		var names []string
		for _, l := range list {
			names = append(names, l.Names[0][1:])
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.o, got, c.want)
		}
	}
	for key, bad := range map[string]string{"nosuch": "1", "status": "x", "health": "x", "exited": "x", "publish": "x", "expose": "9-8", "is-task": "x"} {
		if _, err := s.List(ctx, ListOptions{Filters: filters.Args{key: {bad}}}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s=%s: %v", key, bad, err)
		}
	}
	if _, err := s.List(ctx, ListOptions{Filters: filters.Args{"before": {"nosuch"}}}); !errdefs.IsNotFound(err) {
		t.Errorf("before a missing one: %v", err)
	}
}

func TestShapes(t *testing.T) {
	s := newWorld(t).service()
	one, two, _ := fleet(t, s)
	for _, id := range []string{one, two} {
		for _, size := range []bool{false, true} {
			got, err := s.Inspect(ctx, id[:12], size)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := json.Marshal(got)
			// Both are null where nothing was asked for, as they have always been.
			apicheck.Response(t, "GET", "/containers/{id}/json", 200, b, "$.HostConfig.MemorySwappiness", "$.HostConfig.OomKillDisable")
		}
	}
	list, err := s.List(ctx, ListOptions{All: true, Size: true})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(list)
	apicheck.Response(t, "GET", "/containers/json", 200, b)

	got, _ := s.Inspect(ctx, two, true)
	if *got.SizeRw != 1 || *got.SizeRootFs != 3 {
		t.Errorf("sizes %d %d", *got.SizeRw, *got.SizeRootFs)
	}
	if p := got.NetworkSettings.Ports; len(p) != 2 || p[network.MustParsePort("80/tcp")][0].HostPort != "8080" || p[network.MustParsePort("90/tcp")] != nil {
		t.Errorf("ports %v", p)
	}
	if n := got.NetworkSettings.Networks["web"]; n == nil || n.IPAddress.String() != "172.30.0.2" || n.IPPrefixLen != 16 || got.NetworkSettings.SandboxKey != "/proc/42/ns/net" {
		t.Errorf("network %+v", n)
	}
	got, _ = s.Inspect(ctx, one, false)
	if len(got.Mounts) != 1 || got.Mounts[0].Name != "vol" {
		t.Errorf("what --tmpfs made is no mount of inspect: %+v", got.Mounts)
	}
	if _, err := s.Inspect(ctx, "nosuch", false); !errdefs.IsNotFound(err) || err.Error() != "No such container: nosuch" {
		t.Error(err)
	}
	if u := s.VolumeUsers("vol"); !slices.Equal(u, []string{one}) {
		t.Errorf("users %v", u)
	}
	edit(t, s, one, func(c *Container) { c.State.Status = Removing })
	if u := s.VolumeUsers("vol"); len(u) > 0 {
		t.Errorf("a container in removal keeps its volume: %v", u)
	}
}

func TestRenameIsUndone(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	one, _, _ := fleet(t, s)
	w.fail["save durable"] = errors.New("disk full")
	if err := s.Rename(ctx, one, "uno"); err == nil {
		t.Fatal("no error")
	}
	delete(w.fail, "save durable")
	if _, err := s.Snapshot(ctx, "uno"); !errdefs.IsNotFound(err) {
		t.Errorf("the new name is taken: %v", err)
	}
	if rec, err := s.Snapshot(ctx, "one"); err != nil || rec.Name != "one" {
		t.Errorf("the old name is lost: %v", err)
	}
	for to, is := range map[string]func(error) bool{"two": errdefs.IsConflict, "one": errdefs.IsInvalidArgument, "/": errdefs.IsInvalidArgument, "a b": errdefs.IsInvalidArgument} {
		if err := s.Rename(ctx, one, to); !is(err) {
			t.Errorf("to %q: %v", to, err)
		}
	}
	if err := s.Rename(ctx, one, "/uno"); err != nil {
		t.Fatal(err)
	}
	if rec, err := s.Snapshot(ctx, "uno"); err != nil || rec.ID != one {
		t.Error(err)
	}
	if _, err := s.Snapshot(ctx, "one"); !errdefs.IsNotFound(err) {
		t.Errorf("the old name stays: %v", err)
	}
	w.volumes["vol"] = map[string]bool{}
	again := w.service() // what is on disk
	if rec, err := again.Snapshot(ctx, "uno"); err != nil || rec.ID != one {
		t.Errorf("after a restart: %v", err)
	}
}

func TestUpdateIsUndone(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	_, two, _ := fleet(t, s)
	memory := func() int64 {
		rec, err := s.Snapshot(ctx, two)
		if err != nil {
			t.Fatal(err)
		}
		return rec.HostConfig.Memory
	}
	up := func(m int64) error {
		_, err := s.Update(ctx, two, container.UpdateConfig{Resources: container.Resources{Memory: m, MemorySwap: -1}})
		return err
	}
	if err := up(64 << 20); err != nil || memory() != 64<<20 {
		t.Fatal(err, memory())
	}
	w.taken()
	w.fail["update"] = errors.New("device busy")
	if err := up(128 << 20); err == nil || !strings.Contains(err.Error(), "Cannot update container "+two) || !strings.Contains(err.Error(), "device busy") {
		t.Errorf("the kernel's refusal: %v", err)
	}
	if memory() != 64<<20 {
		t.Errorf("the record keeps what the kernel refused: %d", memory())
	}
	if got := strings.Join(w.taken(), ","); got != "save durable,save durable" {
		t.Errorf("steps %s", got)
	}
	delete(w.fail, "update")
	w.fail["save durable"] = errors.New("disk full")
	if err := up(128 << 20); err == nil || memory() != 64<<20 || len(w.taken()) > 0 {
		t.Errorf("a full disk: %v, memory %d", err, memory())
	}
	delete(w.fail, "save durable")
	for _, bad := range []container.UpdateConfig{
		{Resources: container.Resources{Memory: 1 << 20}},
		{Resources: container.Resources{CPUPeriod: 1}},
		{RestartPolicy: container.RestartPolicy{Name: "nonsense"}},
		{RestartPolicy: container.RestartPolicy{Name: "always", MaximumRetryCount: 3}},
	} {
		if _, err := s.Update(ctx, two, bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := s.Update(ctx, two, container.UpdateConfig{Resources: container.Resources{CgroupParent: "/x", NanoCPUs: 1}}); !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "CgroupParent") {
		t.Errorf("what cannot be updated: %v", err)
	}
}

func TestPrune(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	one, _, three := fleet(t, s)
	for _, a := range []filters.Args{{"label": {"n=two"}}, {"label!": {"all"}}, {"until": {"2h"}}} { // running; all have it; younger
		if rep, err := s.Prune(ctx, a); err != nil || len(rep.ContainersDeleted) > 0 {
			t.Errorf("%v: %v %v", a, rep, err)
		}
	}
	rep, err := s.Prune(ctx, filters.Args{"until": {"59m30s"}})
	if err != nil || !slices.Equal(rep.ContainersDeleted, []string{one}) || rep.SpaceReclaimed != 1 {
		t.Errorf("until: %v %v", rep, err)
	}
	rep, err = s.Prune(ctx, nil)
	if err != nil || !slices.Equal(rep.ContainersDeleted, []string{three}) {
		t.Errorf("all: %v %v", rep, err)
	}
	b, _ := json.Marshal(rep)
	apicheck.Response(t, "POST", "/containers/prune", 200, b)
	if status(s, "two") != Running || len(w.layers) != 1 {
		t.Errorf("left: %v %v", status(s, "two"), w.layers)
	}
	for _, a := range []filters.Args{{"nosuch": {"1"}}, {"until": {"x"}}, {"until": {"1h", "2h"}}} {
		if _, err := s.Prune(ctx, a); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v", a, err)
		}
	}
}

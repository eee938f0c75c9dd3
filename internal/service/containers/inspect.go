package containers

import (
	"context"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"
)

// Inspect shows everything about a container, in the newest API's shape; size adds what its layers take.
func (c *querier) Inspect(ctx context.Context, ref string, size bool) (container.InspectResponse, error) {
	e, err := c.reg.get(ref)
	if err != nil {
		return container.InspectResponse{}, err
	}
	rec := e.snapshot()
	out := container.InspectResponse{
		ID: rec.ID, Created: stamp(rec.Created), Path: rec.Path, Args: rec.Args,
		State: stateOf(rec, e.health.Load()), Image: rec.Image.ID, Name: "/" + rec.Name,
		ResolvConfPath: c.Config.dir(rec) + "/resolv.conf", HostnamePath: c.Config.dir(rec) + "/hostname", HostsPath: c.Config.dir(rec) + "/hosts",
		RestartCount: rec.RestartCount, Driver: c.Config.StorageDriver, Platform: "linux",
		MountLabel: rec.MountLabel, ProcessLabel: rec.ProcessLabel, AppArmorProfile: rec.AppArmor,
		ExecIDs: e.execIDs(), HostConfig: rec.HostConfig, Config: rec.Config, Mounts: mountPoints(rec),
		NetworkSettings: networkSettings(rec), ImageManifestDescriptor: rec.Image.descriptor(),
		Storage: &storage.Storage{RootFS: &storage.RootFSStorage{Snapshot: &storage.RootFSStorageSnapshot{Name: c.Config.StorageDriver}}},
	}
	if len(rec.HostConfig.Links) > 0 {
		hc := *rec.HostConfig
		hc.Links = c.shownLinks(rec)
		out.HostConfig = &hc
	}
	if out.Args == nil {
		out.Args = []string{}
	}
	if rec.Log.Driver == "json-file" {
		out.LogPath = rec.Log.Path
	}
	if rec.State.Status == Created {
		out.ResolvConfPath, out.HostnamePath, out.HostsPath = "", "", ""
	}
	if size {
		rw, root, err := c.sizes(ctx, rec)
		if err != nil {
			return out, err
		}
		out.SizeRw, out.SizeRootFs = &rw, &root
	}
	return out, nil
}

// stamp writes a time as inspect does; no time is year 1.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func stateOf(rec *Container, health *container.Health) *container.State {
	st := rec.State
	return &container.State{
		Status: container.ContainerState(st.Status), Running: st.Status.Running(), Paused: st.Status == Paused,
		Restarting: st.Status == Restarting, Dead: st.Status == Dead, OOMKilled: st.OOMKilled, Pid: st.Pid,
		ExitCode: st.ExitCode, Error: st.Error, StartedAt: stamp(st.Started), FinishedAt: stamp(st.Finished), Health: health,
	}
}

func networkSettings(rec *Container) *container.NetworkSettings {
	out := &container.NetworkSettings{Ports: network.PortMap{}, Networks: endpointSettings(rec)}
	if !rec.State.Status.Alive() {
		return out
	}
	out.SandboxID = rec.Sandbox.ID
	if rec.State.Pid > 0 {
		out.SandboxKey = "/proc/" + strconv.Itoa(rec.State.Pid) + "/ns/net"
	}
	if !publishes(rec) {
		return out
	}
	for p := range rec.Config.ExposedPorts {
		out.Ports[p] = nil
	}
	for _, p := range rec.Sandbox.Ports {
		if k, ok := network.PortFrom(p.ContainerPort, network.IPProtocol(p.Proto)); ok {
			out.Ports[k] = append(out.Ports[k], network.PortBinding{HostIP: p.HostIP, HostPort: strconv.Itoa(int(p.HostPort))})
		}
	}
	return out
}

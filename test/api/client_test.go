package api

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/registry"
)

// official is the field's own Go client, speaking 1.56 to an engine.
func official(t *testing.T, e *testkit.Engine) *client.Client {
	t.Helper()
	c, err := client.New(client.WithHost("unix://"+e.Socket), client.WithAPIVersion("1.56"), client.WithResponseHook(func(r *http.Response) {
		if p := r.Request.URL.Path; p != "/_ping" && !strings.HasPrefix(p, "/v1.56/") {
			t.Errorf("the client asked for %s", p)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// must gives what a call returned, or ends the test.
func must[R any](t *testing.T) func(R, error) R {
	return func(r R, err error) R {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func ok(t *testing.T, _ any, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOfficialClient(t *testing.T) {
	e := engine(t)
	c := official(t, e)
	t.Run("system", func(t *testing.T) { clientSystem(t, c) })
	t.Run("images", func(t *testing.T) { clientImages(t, e, c) })
	t.Run("volumes and networks", func(t *testing.T) { clientVolumes(t, c) })
	t.Run("containers", func(t *testing.T) { clientContainers(t, c) })
	t.Run("files", func(t *testing.T) { clientFiles(t, c) })
	t.Run("execs", func(t *testing.T) { clientExecs(t, c) })
	t.Run("streams", func(t *testing.T) { clientStreams(t, c) })
	t.Run("registries", func(t *testing.T) { clientRegistries(t, c) })
	t.Run("what is not there", func(t *testing.T) { clientAbsent(t, c) })
}

// The client's own negotiation ends at the newest version that both speak.
func TestOfficialClientNegotiates(t *testing.T) {
	e := engine(t)
	c, err := client.New(client.WithHost("unix://" + e.Socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	p := must[client.PingResult](t)(c.Ping(t.Context(), client.PingOptions{NegotiateAPIVersion: true}))
	if p.APIVersion != "1.56" || p.OSType != "linux" || p.Experimental || c.ClientVersion() != client.MaxAPIVersion {
		t.Errorf("ping %+v, version %s", p, c.ClientVersion())
	}
	ok(t, nil, func() error { _, err := c.Info(t.Context(), client.InfoOptions{}); return err }())
}

func clientSystem(t *testing.T, c *client.Client) {
	ctx := t.Context()
	p := must[client.PingResult](t)(c.Ping(ctx, client.PingOptions{}))
	if p.SwarmStatus == nil || p.SwarmStatus.NodeState != "inactive" {
		t.Errorf("ping's swarm is %+v", p.SwarmStatus)
	}
	info := must[client.SystemInfoResult](t)(c.Info(ctx, client.InfoOptions{})).Info
	if info.Driver == "" || info.ServerVersion == "" || info.NCPU == 0 || info.MemTotal == 0 || info.OSType != "linux" || info.Runtimes["gantry"].Path == "" || info.ID == "" {
		t.Errorf("info %+v", info)
	}
	v := must[client.ServerVersionResult](t)(c.ServerVersion(ctx, client.ServerVersionOptions{}))
	if v.APIVersion != "1.56" || v.MinAPIVersion != "1.24" || len(v.Components) < 1 || v.Components[0].Name != "Engine" {
		t.Errorf("version %+v", v)
	}
	df := must[client.DiskUsageResult](t)(c.DiskUsage(ctx, client.DiskUsageOptions{Containers: true, Images: true, Volumes: true, BuildCache: true, Verbose: true}))
	if df.Images.TotalCount != 1 || len(df.Images.Items) != 1 || df.Images.TotalSize == 0 || df.Containers.TotalCount != 0 {
		t.Errorf("df %+v", df)
	}
}

func clientRegistries(t *testing.T, c *client.Client) {
	ctx := t.Context()
	r := registry.New(t)
	made := r.AddImage("app", "1", registry.Image{Layers: [][]byte{smallTar(t)}})
	login := must[client.RegistryLoginResult](t)(c.RegistryLogin(ctx, client.RegistryLoginOptions{Username: "u", Password: "p", ServerAddress: r.Host}))
	if login.Auth.Status != "Login Succeeded" {
		t.Errorf("login %+v", login)
	}
	there := must[client.DistributionInspectResult](t)(c.DistributionInspect(ctx, r.Host+"/app:1", client.DistributionInspectOptions{}))
	if there.Descriptor.Digest != made.Digest || len(there.Platforms) != 1 || there.Platforms[0].Architecture != "amd64" {
		t.Errorf("distribution %+v", there)
	}
	if err := must[client.ImagePullResponse](t)(c.ImagePull(ctx, r.Host+"/app:1", client.ImagePullOptions{})).Wait(ctx); err != nil {
		t.Errorf("pull: %v", err)
	}
	i := must[client.ImageInspectResult](t)(c.ImageInspect(ctx, r.Host+"/app:1"))
	if i.ID != made.Digest.String() || len(i.RepoDigests) != 1 || i.RepoDigests[0] != r.Host+"/app@"+i.ID {
		t.Errorf("pulled %s %v, want %s", i.ID, i.RepoDigests, made.Digest)
	}
	if err := must[client.ImagePushResponse](t)(c.ImagePush(ctx, r.Host+"/app:1", client.ImagePushOptions{})).Wait(ctx); err != nil {
		t.Errorf("push: %v", err)
	}
	must[client.ImageRemoveResult](t)(c.ImageRemove(ctx, r.Host+"/app:1", client.ImageRemoveOptions{}))
	if _, err := c.ImagePull(ctx, r.Host+"/app:none", client.ImagePullOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("pull of nothing: %v", err)
	}
}

func clientImages(t *testing.T, e *testkit.Engine, c *client.Client) {
	ctx := t.Context()
	raw, err := os.ReadFile(archive(t, e, "bb:latest"))
	if err != nil {
		t.Fatal(err)
	}
	load := must[client.ImageLoadResult](t)(c.ImageLoad(ctx, bytes.NewReader(raw), client.ImageLoadWithQuiet(true)))
	text, _ := io.ReadAll(load)
	_ = load.Close()
	if !bytes.Contains(text, []byte("Loaded image: bb:latest")) {
		t.Errorf("load said %s", text)
	}
	ok(t, nil, func() error {
		_, err := c.ImageTag(ctx, client.ImageTagOptions{Source: "bb", Target: "other:v1"})
		return err
	}())
	list := must[client.ImageListResult](t)(c.ImageList(ctx, client.ImageListOptions{SharedSize: true, Manifests: true, Filters: client.Filters{}.Add("reference", "other")}))
	if len(list.Items) != 1 || !slices.Equal(list.Items[0].RepoTags, []string{"other:v1"}) || len(list.Items[0].Manifests) == 0 {
		t.Errorf("list %+v", list.Items)
	}
	img := must[client.ImageInspectResult](t)(c.ImageInspect(ctx, "bb", client.ImageInspectWithManifests(true)))
	if img.Descriptor == nil || img.Descriptor.Digest.String() != img.ID || len(img.Manifests) == 0 || img.Architecture == "" {
		t.Errorf("inspect %+v", img)
	}
	if h := must[client.ImageHistoryResult](t)(c.ImageHistory(ctx, "bb")); len(h.Items) == 0 {
		t.Error("no history")
	}
	saved := must[client.ImageSaveResult](t)(c.ImageSave(ctx, []string{"bb", "other:v1"}))
	names := tarNames(t, saved)
	_ = saved.Close()
	for _, want := range []string{"manifest.json", "index.json", "oci-layout"} {
		if !slices.Contains(names, want) {
			t.Errorf("the saved archive has %v, no %s", names, want)
		}
	}
	gone := must[client.ImageRemoveResult](t)(c.ImageRemove(ctx, "other:v1", client.ImageRemoveOptions{}))
	if len(gone.Items) != 1 || gone.Items[0].Untagged != "other:v1" {
		t.Errorf("remove said %+v", gone.Items)
	}
	imp := must[client.ImageImportResult](t)(c.ImageImport(ctx, client.ImageImportSource{Source: bytes.NewReader(smallTar(t)), SourceName: "-"}, "imported:v1", client.ImageImportOptions{Changes: []string{"CMD true"}, Message: "m"}))
	_, _ = io.Copy(io.Discard, imp)
	_ = imp.Close()
	ok(t, nil, func() error {
		_, err := c.ImageRemove(ctx, "imported:v1", client.ImageRemoveOptions{Force: true})
		return err
	}())
	ok(t, nil, func() error { _, err := c.ImagePrune(ctx, client.ImagePruneOptions{}); return err }())
	ok(t, nil, func() error { _, err := c.BuildCachePrune(ctx, client.BuildCachePruneOptions{}); return err }())
}

func tarNames(t *testing.T, r io.Reader) (names []string) {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func clientVolumes(t *testing.T, c *client.Client) {
	ctx := t.Context()
	v := must[client.VolumeCreateResult](t)(c.VolumeCreate(ctx, client.VolumeCreateOptions{Name: "cv", Labels: map[string]string{"a": "b"}}))
	if v.Volume.Driver != "local" || v.Volume.Mountpoint == "" || v.Volume.CreatedAt == "" {
		t.Errorf("volume %+v", v.Volume)
	}
	l := must[client.VolumeListResult](t)(c.VolumeList(ctx, client.VolumeListOptions{Filters: client.Filters{}.Add("label", "a=b")}))
	if len(l.Items) != 1 || l.Items[0].Name != "cv" {
		t.Errorf("volumes %+v", l.Items)
	}
	ok(t, nil, func() error { _, err := c.VolumeInspect(ctx, "cv", client.VolumeInspectOptions{}); return err }())
	ok(t, nil, func() error { _, err := c.VolumeRemove(ctx, "cv", client.VolumeRemoveOptions{}); return err }())
	if _, err := c.VolumeInspect(ctx, "cv", client.VolumeInspectOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("a removed volume: %v", err)
	}
	ok(t, nil, func() error { _, err := c.VolumePrune(ctx, client.VolumePruneOptions{All: true}); return err }())
	n := must[client.NetworkListResult](t)(c.NetworkList(ctx, client.NetworkListOptions{}))
	if len(n.Items) != 3 {
		t.Errorf("networks %+v", n.Items)
	}
	b := must[client.NetworkInspectResult](t)(c.NetworkInspect(ctx, "bridge", client.NetworkInspectOptions{Verbose: true}))
	if b.Network.Driver != "bridge" || !b.Network.EnableIPv4 {
		t.Errorf("bridge %+v", b.Network)
	}
	ok(t, nil, func() error { _, err := c.NetworkPrune(ctx, client.NetworkPruneOptions{}); return err }())
}

// run creates and starts a container.
func run(t *testing.T, c *client.Client, o client.ContainerCreateOptions) string {
	t.Helper()
	if o.Config.Image == "" {
		o.Config.Image = "bb"
	}
	id := must[client.ContainerCreateResult](t)(c.ContainerCreate(t.Context(), o)).ID
	t.Cleanup(func() {
		_, _ = c.ContainerRemove(context.WithoutCancel(t.Context()), id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	})
	ok(t, nil, func() error {
		_, err := c.ContainerStart(t.Context(), id, client.ContainerStartOptions{})
		return err
	}())
	return id
}

func clientContainers(t *testing.T, c *client.Client) {
	ctx := t.Context()
	umask := uint32(0o77)
	id := run(t, c, client.ContainerCreateOptions{Name: "cc", Config: &container.Config{Cmd: []string{"sh", "-c", "umask >/out; exec sleep 1000"}, Labels: map[string]string{"x": "y"}},
		HostConfig: &container.HostConfig{Umask: &umask, Annotations: map[string]string{"a.b": "c"}, Mounts: []mount.Mount{{Type: mount.TypeTmpfs, Target: "/t"}}}})
	list := must[client.ContainerListResult](t)(c.ContainerList(ctx, client.ContainerListOptions{Size: true, Filters: client.Filters{}.Add("annotation", "a.b=c")}))
	if len(list.Items) != 1 || list.Items[0].ID != id || list.Items[0].HostConfig.Annotations["a.b"] != "c" || list.Items[0].Health == nil || list.Items[0].ImageManifestDescriptor == nil {
		t.Errorf("list by annotation %+v", list.Items)
	}
	in := must[client.ContainerInspectResult](t)(c.ContainerInspect(ctx, "cc", client.ContainerInspectOptions{Size: true}))
	if in.Container.ID != id || in.Container.HostConfig.Umask == nil || in.Container.SizeRw == nil || in.Container.State.Pid == 0 {
		t.Errorf("inspect %s", in.Raw)
	}
	top := must[client.ContainerTopResult](t)(c.ContainerTop(ctx, id, client.ContainerTopOptions{Arguments: []string{"-o", "pid,args"}}))
	if len(top.Processes) != 1 || !slices.Equal(top.Titles, []string{"PID", "COMMAND"}) {
		t.Errorf("top %+v", top)
	}
	st := must[client.ContainerStatsResult](t)(c.ContainerStats(ctx, id, client.ContainerStatsOptions{}))
	var s container.StatsResponse
	ok(t, nil, json.NewDecoder(st.Body).Decode(&s))
	_ = st.Body.Close()
	if s.OSType != "linux" || s.PidsStats.Current == 0 {
		t.Errorf("stats %+v", s)
	}
	up := must[client.ContainerUpdateResult](t)(c.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{Resources: &container.Resources{CPUShares: 300}, RestartPolicy: &container.RestartPolicy{Name: "no"}}))
	if len(up.Warnings) != 0 {
		t.Errorf("update warns %v", up.Warnings)
	}
	ok(t, nil, func() error { _, err := c.ContainerPause(ctx, id, client.ContainerPauseOptions{}); return err }())
	ok(t, nil, func() error { _, err := c.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{}); return err }())
	ok(t, nil, func() error {
		_, err := c.ContainerRename(ctx, id, client.ContainerRenameOptions{NewName: "cc2"})
		return err
	}())
	zero := 0
	ok(t, nil, func() error {
		_, err := c.ContainerRestart(ctx, id, client.ContainerRestartOptions{Timeout: &zero})
		return err
	}())
	commit := must[client.ContainerCommitResult](t)(c.ContainerCommit(ctx, id, client.ContainerCommitOptions{Reference: "kept:v1", Changes: []string{"LABEL z=1"}, Comment: "c"}))
	if !strings.HasPrefix(commit.ID, "sha256:") {
		t.Errorf("commit %+v", commit)
	}
	ok(t, nil, func() error {
		_, err := c.ImageRemove(ctx, "kept:v1", client.ImageRemoveOptions{Force: true})
		return err
	}())
	w := c.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	ok(t, nil, func() error {
		_, err := c.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "KILL"})
		return err
	}())
	select {
	case r := <-w.Result:
		if r.StatusCode != 137 {
			t.Errorf("wait %+v", r)
		}
	case err := <-w.Error:
		t.Error(err)
	}
	ok(t, nil, func() error { _, err := c.ContainerStop(ctx, id, client.ContainerStopOptions{}); return err }()) // 304 is no error
	ok(t, nil, func() error { _, err := c.ContainerRemove(ctx, id, client.ContainerRemoveOptions{}); return err }())
	if _, err := c.ContainerInspect(ctx, id, client.ContainerInspectOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("a removed container: %v", err)
	}
	ok(t, nil, func() error { _, err := c.ContainerPrune(ctx, client.ContainerPruneOptions{}); return err }())
}

func clientFiles(t *testing.T, c *client.Client) {
	ctx := t.Context()
	id := run(t, c, client.ContainerCreateOptions{Config: &container.Config{Cmd: []string{"sleep", "1000"}}})
	ok(t, nil, func() error {
		_, err := c.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: "/tmp", Content: bytes.NewReader(smallTar(t)), CopyUIDGID: true})
		return err
	}())
	st := must[client.ContainerStatPathResult](t)(c.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{Path: "/tmp/hello"}))
	if st.Stat.Name != "hello" || st.Stat.Size != 3 || st.Stat.Mode.Perm() != 0o644 {
		t.Errorf("stat %+v", st.Stat)
	}
	from := must[client.CopyFromContainerResult](t)(c.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: "/tmp/hello"}))
	names := tarNames(t, from.Content)
	_ = from.Content.Close()
	if !slices.Equal(names, []string{"hello"}) {
		t.Errorf("copied %v", names)
	}
	diff := must[client.ContainerDiffResult](t)(c.ContainerDiff(ctx, id, client.ContainerDiffOptions{}))
	if !slices.ContainsFunc(diff.Changes, func(f container.FilesystemChange) bool {
		return f.Path == "/tmp/hello" && f.Kind == container.ChangeAdd
	}) {
		t.Errorf("diff %+v", diff.Changes)
	}
	exp := must[client.ContainerExportResult](t)(c.ContainerExport(ctx, id, client.ContainerExportOptions{}))
	names = tarNames(t, exp)
	_ = exp.Close()
	if !slices.Contains(names, "tmp/hello") {
		t.Errorf("the export has %d files, not tmp/hello", len(names))
	}
}

func clientExecs(t *testing.T, c *client.Client) {
	ctx := t.Context()
	id := run(t, c, client.ContainerCreateOptions{Config: &container.Config{Cmd: []string{"sleep", "1000"}}})
	for range 20 { // the exit code is there as soon as the stream has ended
		x := must[client.ExecCreateResult](t)(c.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: []string{"sh", "-c", "cat; exit 7"}, AttachStdin: true, AttachStdout: true, AttachStderr: true}))
		h := must[client.ExecAttachResult](t)(c.ExecAttach(ctx, x.ID, client.ExecAttachOptions{}))
		_, _ = h.Conn.Write([]byte("echoed"))
		ok(t, nil, h.CloseWrite())
		out := demux(t, h.Reader)
		h.Close()
		if out.stdout != "echoed" {
			t.Errorf("exec wrote %+v", out)
		}
		in := must[client.ExecInspectResult](t)(c.ExecInspect(ctx, x.ID, client.ExecInspectOptions{}))
		if in.Running || in.ExitCode != 7 || in.ContainerID != id {
			t.Fatalf("exec %+v", in)
		}
	}
	x := must[client.ExecCreateResult](t)(c.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: []string{"sleep", "1000"}, TTY: true}))
	ok(t, nil, func() error {
		_, err := c.ExecStart(ctx, x.ID, client.ExecStartOptions{Detach: true, TTY: true})
		return err
	}())
	ok(t, nil, func() error {
		_, err := c.ExecResize(ctx, x.ID, client.ExecResizeOptions{Height: 10, Width: 20})
		return err
	}())
	in := must[client.ExecInspectResult](t)(c.ExecInspect(ctx, x.ID, client.ExecInspectOptions{}))
	if !in.Running || in.PID == 0 {
		t.Errorf("exec %+v", in)
	}
}

func clientStreams(t *testing.T, c *client.Client) {
	ctx := t.Context()
	created := must[client.ContainerCreateResult](t)(c.ContainerCreate(ctx, client.ContainerCreateOptions{Config: &container.Config{
		Image: "bb", Cmd: []string{"sh", "-c", "echo to-out; echo to-err >&2; cat; exit 3"}, OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	}, HostConfig: &container.HostConfig{AutoRemove: true}}))
	id := created.ID
	events := c.Events(ctx, client.EventsListOptions{Filters: client.Filters{}.Add("container", id)})
	h := must[client.ContainerAttachResult](t)(c.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true}))
	w := c.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	ok(t, nil, func() error { _, err := c.ContainerStart(ctx, id, client.ContainerStartOptions{}); return err }())
	logs := must[client.ContainerLogsResult](t)(c.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: true}))
	_, _ = h.Conn.Write([]byte("from the client\n"))
	ok(t, nil, h.CloseWrite())
	for what, r := range map[string]io.Reader{"attach": h.Reader, "logs": logs} {
		if out := demux(t, r); out.stdout != "to-out\nfrom the client\n" || out.stderr != "to-err\n" {
			t.Errorf("%s: %+v", what, out)
		}
	}
	h.Close()
	_ = logs.Close()
	select {
	case r := <-w.Result:
		if r.StatusCode != 3 || r.Error != nil {
			t.Errorf("wait %+v", r)
		}
	case err := <-w.Error:
		t.Error(err)
	}
	var actions []string
	timeout := time.After(20 * time.Second)
	for len(actions) == 0 || actions[len(actions)-1] != "destroy" {
		select {
		case m := <-events.Messages:
			actions = append(actions, string(m.Action))
		case err := <-events.Err:
			t.Fatal(err)
		case <-timeout:
			t.Fatalf("events %v", actions)
		}
	}
	if got := strings.Join(actions, " "); got != "attach start die destroy" {
		t.Errorf("events %s", got)
	}
}

func clientAbsent(t *testing.T, c *client.Client) {
	ctx := t.Context()
	for what, err := range map[string]error{
		"swarm init": second(c.SwarmInit(ctx, client.SwarmInitOptions{})),
		"build":      second(c.ImageBuild(ctx, bytes.NewReader(smallTar(t)), client.ImageBuildOptions{})),
	} {
		if !errdefs.IsNotImplemented(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"nodes": second(c.NodeList(ctx, client.NodeListOptions{})), "services": second(c.ServiceList(ctx, client.ServiceListOptions{})), "secrets": second(c.SecretList(ctx, client.SecretListOptions{})),
	} {
		if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "not a swarm manager") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if l := must[client.PluginListResult](t)(c.PluginList(ctx, client.PluginListOptions{})); len(l.Items) != 0 {
		t.Errorf("plugins %+v", l)
	}
}

func second[R any](_ R, err error) error { return err }
